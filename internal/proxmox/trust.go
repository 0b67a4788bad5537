package proxmox

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
)

// trust returns how a node's certificate is verified. Fingerprints replace the system's authorities. With a CA file and
// fingerprints, both must hold.
func trust(p config.Proxmox) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(len(p.Endpoints) + 1),
		RootCAs:            p.CA,
		InsecureSkipVerify: p.Insecure || len(p.Fingerprints) > 0 && p.CA == nil, //nolint:gosec // the user asked for it, or pins decide
	}
	if len(p.Fingerprints) > 0 {
		// Not VerifyPeerCertificate, which resumed connections do not run.
		c.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errors.New("no certificate")
			}
			if leaf := s.PeerCertificates[0]; !slices.Contains(p.Fingerprints, fingerprint(leaf)) {
				return &pinError{leaf: leaf}
			}
			return nil
		}
	}
	return c
}

func fingerprint(leaf *x509.Certificate) config.Fingerprint { return sha256.Sum256(leaf.Raw) }

// pinError is a certificate that matches no configured fingerprint.
type pinError struct{ leaf *x509.Certificate }

func (e *pinError) Error() string { return "the certificate matches no configured fingerprint" }

// untrusted tells whether the connection ended because of the certificate. It fills e with the reason.
func (t *transport) untrusted(e *Error, err error) bool {
	var pin *pinError
	var unverified *tls.CertificateVerificationError
	var leaf *x509.Certificate
	switch {
	case errors.As(err, &pin):
		leaf, e.Reason = pin.leaf, "it matches no configured fingerprint"
	case errors.As(err, &unverified):
		if len(unverified.UnverifiedCertificates) > 0 {
			leaf = unverified.UnverifiedCertificates[0]
		}
		e.Reason, e.remedy = t.whyUntrusted(e.dialect.commands, unverified.Err)
	default:
		return false
	}
	e.Kind = Certificate
	if leaf != nil {
		e.Fingerprint = fingerprint(leaf).String()
		e.Reason += "; its SHA-256 fingerprint is " + e.Fingerprint + ": compare with `" + e.dialect.product.CertificateCommand() + "`"
		e.remedy = check.Hints(e.remedy, check.Hintf("set {proxmox.fingerprints} to %s, if %s prints the same", e.Fingerprint, e.dialect.commands.host))
	}
	return true
}

func (t *transport) whyUntrusted(k commands, err error) (reason string, remedy check.Hint) {
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var authority x509.UnknownAuthorityError
	switch {
	case errors.As(err, &name):
		names := slices.Clone(name.Certificate.DNSNames)
		for _, ip := range name.Certificate.IPAddresses {
			names = append(names, ip.String())
		}
		return "it is for other names: " + t.cleaner.Clean(strings.Join(names, ", ")),
			check.Hint("set {proxmox.endpoints} to one of these names")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		from, to := invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339)
		return "it is valid only from " + from + " to " + to, check.Hints(
			k.on("renews Proxmox's own certificate", k.renew), "correct the clock of this machine, or renew the certificate")
	}
	reason = t.cleaner.Clean(err.Error())
	if errors.As(err, &authority) {
		reason = "it was issued by an unknown authority"
	}
	return reason, check.Hintf("set {proxmox.ca_file} to a copy of %s from %s", k.authority, k.host)
}

// describe says what happened to a connection, and what to look at.
func (t *transport) describe(err error, p *progress, e *Error) (reason string, remedy check.Hint) {
	var dns *net.DNSError
	var op *net.OpError
	var record tls.RecordHeaderError
	k := e.dialect.commands
	daemons, port := k.on("", k.status), checkPort(e)
	firewall := check.Hint("check the address, and firewalls between this machine and the node")
	switch {
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return "the proxy in HTTPS_PROXY cannot be used: " + t.cleaner.Clean(op.Err.Error()),
			"list the nodes in NO_PROXY, or unset HTTPS_PROXY"
	case errors.As(err, &dns):
		return "the name cannot be resolved",
			check.Hints("correct the name in {proxmox.endpoints}", "check this machine's DNS")
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		return "the port does not speak TLS", port
	case e.sent && isTimeout(err):
		return "no answer in time", check.Hints("set {proxmox.timeout} to a longer time", daemons)
	case e.sent && (e.Status != 0 || closed(err)):
		return "the connection was closed before the answer was complete", check.Hints(daemons)
	case e.sent && !errors.As(err, &op): // net/http has no error types for answers that it cannot read
		return "the server did not answer with valid HTTP", port
	case isTimeout(err):
		return "no connection in time", check.Hints(firewall, daemons)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused", check.Hints(port, daemons)
	case p.handshaking.Load() && closed(err):
		return "the connection was closed before TLS began",
			check.Hints(check.Hint(k.allow), firewall)
	}
	return t.cleaner.Clean(err.Error()), port
}

func closed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE)
}
