package pve

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"proxmox-realm/internal/check"
)

// trust returns what makes a node's certificate believed.
func (o Options) trust() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(len(o.Endpoints) + 1)}
	if o.Insecure && (len(o.CA) > 0 || len(o.Fingerprints) > 0) {
		return nil, check.Errorf(check.Config, "proxmox.insecure trusts any certificate, so a CA or fingerprints beside it mean nothing").
			Try(check.Advise("remove proxmox.insecure"))
	}
	if len(o.CA) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(o.CA) {
			return nil, check.Errorf(check.Config, "the CA file holds no certificate in PEM").
				Try(check.Advise("copy /etc/pve/pve-root-ca.pem from a node, and name the copy in proxmox.ca_file"))
		}
	}
	pins, err := parsePins(o.Fingerprints)
	if err != nil {
		return nil, err
	}
	config.InsecureSkipVerify = o.Insecure || len(pins) > 0 && config.RootCAs == nil
	if len(pins) > 0 {
		// Not VerifyPeerCertificate, which resumed connections do not run.
		config.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errors.New("no certificate")
			}
			if leaf := s.PeerCertificates[0]; !slices.Contains(pins, sha256.Sum256(leaf.Raw)) {
				return &pinError{leaf: leaf}
			}
			return nil
		}
	}
	return config, nil
}

// pinError is a certificate that is none of the pinned ones.
type pinError struct{ leaf *x509.Certificate }

func (e *pinError) Error() string { return "the certificate is none of the pinned ones" }

func parsePins(fingerprints []string) ([][sha256.Size]byte, error) {
	var pins [][sha256.Size]byte
	for i, f := range fingerprints {
		digits := strings.ToLower(strings.TrimSpace(f))
		digits = strings.TrimPrefix(strings.TrimPrefix(digits, "sha256:"), "sha-256:")
		digits = strings.ReplaceAll(digits, ":", "")
		raw, err := hex.DecodeString(digits)
		if err != nil || len(raw) != sha256.Size {
			return nil, check.Errorf(check.Config, "fingerprint %d is not a SHA-256 fingerprint: 32 bytes in hexadecimal", i+1).
				Try(check.Advise("`pvenode cert info` prints it on the node"))
		}
		pins = append(pins, [sha256.Size]byte(raw))
	}
	return pins, nil
}

// fingerprint writes a certificate's digest as `pvenode cert info` prints it.
func fingerprint(leaf *x509.Certificate) string {
	sum := sha256.Sum256(leaf.Raw)
	return strings.ReplaceAll(strings.ToUpper(fmt.Sprintf("% x", sum[:])), " ", ":")
}

// untrusted tells whether the connection ended because of the certificate, and why.
func (t *transport) untrusted(e *Error, err error) bool {
	var pin *pinError
	var unverified *tls.CertificateVerificationError
	var leaf *x509.Certificate
	switch {
	case errors.As(err, &pin):
		leaf, e.Reason = pin.leaf, "it is none of the pinned ones"
		e.advice = "where the node's certificate was renewed, compare the fingerprint with `pvenode cert info` on the node itself, and put it into proxmox.fingerprints"
	case errors.As(err, &unverified):
		if len(unverified.UnverifiedCertificates) > 0 {
			leaf = unverified.UnverifiedCertificates[0]
		}
		e.Reason, e.advice = t.whyUntrusted(unverified.Err)
	default:
		return false
	}
	e.Kind = Certificate
	if leaf != nil {
		e.Fingerprint = fingerprint(leaf)
	}
	return true
}

func (t *transport) whyUntrusted(err error) (reason, advice string) {
	const pinOrCA = "compare the fingerprint with `pvenode cert info` on the node itself; then put it into proxmox.fingerprints, or set proxmox.ca_file to a copy of the node's /etc/pve/pve-root-ca.pem"
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var authority x509.UnknownAuthorityError
	switch {
	case errors.As(err, &name):
		return "it is for other names: " + t.cleaner.Clean(strings.Join(names(name.Certificate), ", ")),
			"use one of these names in proxmox.endpoints, or put the fingerprint into proxmox.fingerprints, after comparing it with `pvenode cert info` on the node itself"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("it is valid from %s to %s only", invalid.Cert.NotBefore.UTC().Format(time.DateTime), invalid.Cert.NotAfter.UTC().Format(time.DateTime)),
			"renew it on the node, as with `pvecm updatecerts --force` for Proxmox's own, or set the clock of this machine"
	case errors.As(err, &authority):
		return "its issuer is not known here", pinOrCA
	}
	return t.cleaner.Clean(err.Error()), pinOrCA
}

func names(cert *x509.Certificate) []string {
	if cert == nil {
		return []string{"none"}
	}
	out := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		out = append(out, ip.String())
	}
	if len(out) == 0 {
		return []string{"none"}
	}
	return out[:min(len(out), 10)]
}

func dialer(timeout time.Duration) func(context.Context, string, string) (net.Conn, error) {
	return (&net.Dialer{Timeout: timeout, KeepAlive: 15 * time.Second}).DialContext
}

// proxyError is the answer of a proxy that makes no connection.
type proxyError struct{ status string }

func (e *proxyError) Error() string { return "the proxy refuses to connect" }

// describe says in plain words what happened to a connection, and what to look at.
func (t *transport) describe(err error, p *progress, e *Error) (reason, advice string) {
	var dns *net.DNSError
	var op *net.OpError
	var record tls.RecordHeaderError
	var proxy *proxyError
	const noProxy = "set NO_PROXY for the nodes, or unset HTTPS_PROXY"
	const node = "`systemctl status pveproxy pvedaemon` on the node shows how it is"
	switch {
	case errors.As(err, &proxy):
		return "the proxy of HTTPS_PROXY refuses to connect: " + t.cleaner.Clean(proxy.status), noProxy
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return "the proxy of HTTPS_PROXY cannot be reached: " + t.cleaner.Clean(op.Err.Error()), noProxy
	}
	switch {
	case errors.As(err, &dns):
		if dns.IsNotFound {
			return "the name does not resolve", "check the name in proxmox.endpoints"
		}
		return "the name server does not answer", "check this machine's name servers"
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		return "no TLS is spoken on this port", "Proxmox VE listens on port 8006: check proxmox.endpoints"
	case e.sent && isTimeout(err):
		return "no answer in time", "proxmox.timeout sets how long to wait; `systemctl status pveproxy pvedaemon` shows how the node is"
	case e.sent && e.Status != 0:
		return "the connection broke in the middle of the answer", node
	case e.sent && closed(err):
		return "the connection was closed without an answer", node
	case e.sent && !errors.As(err, &op): // net/http has no error types for what it cannot read
		return "the answer is no HTTP that could be read", e.portHint()
	case isTimeout(err) && p.shaking.Load():
		return "the TLS handshake took too long", "`systemctl status pveproxy` on the node shows how it is"
	case isTimeout(err):
		return "no connection in time", "check the address, and firewalls between here and there"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused", "check host and port in proxmox.endpoints, and `systemctl status pveproxy` on the node"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to it", "check the address, and firewalls between here and there"
	case p.shaking.Load() && closed(err):
		return "the connection was closed before TLS began", "ALLOW_FROM and DENY_FROM in the node's /etc/default/pveproxy may keep this machine out"
	}
	return t.cleaner.Clean(err.Error()), ""
}

func closed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE)
}
