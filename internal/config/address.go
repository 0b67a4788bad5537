package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// Origin is where an endpoint listens or what a browser opens: scheme, host and port, without a slash. The host is in
// lower case; an IPv6 address stands in square brackets.
type Origin string

// Host returns host:port, or the host alone if the origin has its scheme's default port.
func (o Origin) Host() string {
	_, host, _ := strings.Cut(string(o), "://")
	return host
}

// ParseEndpoint reads the address of a Proxmox node and returns it as https://host:port. A bare host or address gets https
// and port 8006. Its error completes "must …".
func ParseEndpoint(text string) (Origin, error) {
	rest, port := text, "8006"
	if scheme, after, found := strings.Cut(text, "://"); found {
		if !strings.EqualFold(scheme, "https") {
			return "", errors.New("must begin with https://: Proxmox is never asked without TLS")
		}
		rest, port = after, "443"
	}
	host, given, err := hostPort(strings.TrimSuffix(rest, "/"))
	if err != nil {
		return "", err
	}
	if given != "" {
		port = given
	}
	return Origin("https://" + host + ":" + port), nil
}

// ParseOrigin reads an origin as browsers write it (RFC 6454 section 6.2), without the scheme's default port. Proxmox's web
// interface sends it as the redirect URL. Its error completes "must …".
func ParseOrigin(text string) (Origin, error) {
	scheme, rest, found := strings.Cut(text, "://")
	scheme = strings.ToLower(scheme)
	if !found || scheme != "https" && scheme != "http" {
		return "", errors.New("must begin with https://, as in https://pve1.example.com:8006")
	}
	if strings.HasSuffix(rest, "/") && !strings.Contains(strings.TrimSuffix(rest, "/"), "/") {
		return "", errors.New("must not end with a slash: Proxmox sends scheme, host and port alone")
	}
	host, port, err := hostPort(rest)
	if err != nil {
		return "", err
	}
	if defaults := map[string]string{"https": "443", "http": "80"}; port == defaults[scheme] {
		return "", fmt.Errorf("must not name port %s: browsers leave it out", port)
	}
	if port != "" {
		port = ":" + port
	}
	return Origin(scheme + "://" + host + port), nil
}

// Browser returns the origin as browsers write it: without the port of https.
func (o Origin) Browser() Origin { return Origin(strings.TrimSuffix(string(o), ":443")) }

var (
	zone     = regexp.MustCompile(`^[A-Za-z0-9._-]*$`)
	hostName = regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?$`)
	number   = regexp.MustCompile(`(^|\.)[0-9]+\.?$`)
)

// hostPort splits the authority of a URL. The host is in the form that URLs have; the port is "" if none is given.
func hostPort(text string) (host, port string, err error) {
	switch {
	case strings.Contains(text, "@"):
		return "", "", errors.New("must not hold user information: credentials have keys of their own")
	case strings.ContainsAny(text, "/?#"):
		return "", "", errors.New("must be scheme, host and port alone, without path, query or fragment")
	}
	host = text
	if address, err := netip.ParseAddr(text); err == nil && zone.MatchString(address.Zone()) {
		return urlHost(address), "", nil // an IPv6 address without brackets is clear if no port follows
	}
	if name, given, err := net.SplitHostPort(text); err == nil {
		n, err := strconv.ParseUint(given, 10, 16)
		if err != nil || n == 0 {
			return "", "", errors.New("must have a port from 1 to 65535")
		}
		host, port = name, strconv.FormatUint(n, 10)
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	address, err := netip.ParseAddr(strings.Replace(host, "%25", "%", 1))
	bracketed := strings.HasPrefix(text, "[")
	switch {
	case bracketed && (err != nil || !address.Is6() || !zone.MatchString(address.Zone())):
		return "", "", errors.New("must hold an IPv6 address between square brackets, and nothing but a port after them")
	case err == nil && (bracketed || address.Is4()):
		return urlHost(address), port, nil
	case strings.Contains(host, ":"):
		return "", "", errors.New("must put an IPv6 address between square brackets, as in [2001:db8::1]:8006")
	case strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII }):
		return "", "", errors.New("must name a host in ASCII: write an international name in its xn-- form")
	case !hostName.MatchString(host) || len(host) > 254: // RFC 1123 section 2.1, with the underscores that some networks have
		return "", "", errors.New("must name a host, such as pve1.example.com")
	case number.MatchString(host):
		return "", "", errors.New("must name a host: this is neither a name nor a valid IP address")
	}
	return strings.ToLower(host), port, nil
}

func urlHost(address netip.Addr) string {
	if address.Is4() {
		return address.String()
	}
	return "[" + strings.Replace(address.String(), "%", "%25", 1) + "]"
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
