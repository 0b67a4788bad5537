package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// Origin is where an endpoint listens or what a browser opens: scheme, host and port, without a slash. The host is in
// lower case; an IPv6 address stands in square brackets.
type Origin string

// Host returns host:port, or the host alone if the origin has its scheme's default port.
func (o Origin) Host() string {
	_, host, _ := strings.Cut(string(o), "://")
	return host
}

// port returns the port of an endpoint, which always names it.
func (o Origin) port() string { return string(o)[strings.LastIndexByte(string(o), ':')+1:] }

// ParseEndpoint reads the address of a node and returns it as https://host:port. A bare host or address gets https and the
// port of the product. Its error completes "must …".
func ParseEndpoint(p realm.Product, text string) (Origin, error) {
	port := "443"
	switch scheme, _, found := strings.Cut(text, "://"); {
	case !found:
		port = p.Port()
		if address, err := netip.ParseAddr(text); err == nil && address.Is6() {
			text = urlHost(address)
		}
		text = "https://" + text
	case !strings.EqualFold(scheme, "https"):
		return "", errors.New("must begin with https://: this program connects to Proxmox only over TLS")
	}
	_, host, given, err := splitURL(strings.TrimSuffix(text, "/"))
	if err != nil {
		return "", err
	}
	return Origin("https://" + host + ":" + cmp.Or(given, port)), nil
}

// parseOrigin reads an origin as browsers write it (RFC 6454 section 6.2), without the scheme's default port. Proxmox's web
// interface sends it as the redirect URL. Its error completes "must …".
func parseOrigin(text string) (Origin, error) {
	scheme, host, port, err := splitURL(text)
	switch {
	case err != nil:
		return "", err
	case scheme != "https" && scheme != "http":
		return "", errors.New("must begin with https://, as in https://pve1.example.com:8006")
	case scheme == "https" && port == "443" || scheme == "http" && port == "80":
		return "", fmt.Errorf("must not name port %s: browsers leave it out", port)
	case port != "":
		port = ":" + port
	}
	return Origin(scheme + "://" + host + port), nil
}

// Browser returns the origin as browsers write it: without the port of https.
func (o Origin) Browser() Origin { return Origin(strings.TrimSuffix(string(o), ":443")) }

// name matches DNS names (RFC 1123 section 2.1), with the underscores that some networks have.
var name = check.Pattern(`^([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.?$`)

// splitURL splits a URL of scheme, host and port alone. The port is "" if none is given.
func splitURL(text string) (scheme, host, port string, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return "", "", "", errors.New("must be https://host:port, with an IPv6 address in square brackets")
	}
	host, port = strings.ToLower(u.Hostname()), u.Port()
	address, notIP := netip.ParseAddr(u.Hostname())
	n, badPort := strconv.ParseUint(port, 10, 16)
	switch {
	case u.User != nil || u.Path != "" || strings.ContainsAny(text, "?#"):
		err = errors.New("must be only scheme, host and port, without user, slash, path, query or fragment")
	case strings.HasSuffix(u.Host, ":") || port != "" && (badPort != nil || n == 0):
		err = errors.New("must have a port from 1 to 65535")
	case notIP == nil && address.Zone() == "":
		host = urlHost(address)
	case strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII }):
		err = errors.New("must name a host in ASCII: write an international name in its xn-- form")
	case !name().MatchString(host):
		err = errors.New("must name a host, such as pve1.example.com or [2001:db8::1]")
	}
	if port != "" {
		port = strconv.FormatUint(n, 10)
	}
	return u.Scheme, host, port, err
}

func urlHost(address netip.Addr) string {
	if address.Is4() {
		return address.String()
	}
	return "[" + address.String() + "]"
}

func parseListen(text string) (string, error) {
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", errors.New("must be host:port, such as 127.0.0.1:9746")
	}
	return text, nil
}
