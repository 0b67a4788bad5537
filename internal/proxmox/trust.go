package proxmox

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
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
			if !slices.Contains(p.Fingerprints, fingerprint(s.PeerCertificates[0])) { // a server always sends one
				return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: errPin}
			}
			return nil
		}
	}
	return c
}

func fingerprint(leaf *x509.Certificate) config.Fingerprint { return sha256.Sum256(leaf.Raw) }

// errPin is why a certificate that matches no configured fingerprint is not trusted.
var errPin = errors.New("it matches no configured fingerprint")

// untrusted classifies a connection that ended because of the certificate.
func (t *transport) untrusted(e *Error, c check.Connection) {
	e.Kind = Certificate
	if e.Reason, e.remedy = t.whyUntrusted(e.dialect.product.Host(), c); c.Certificate != nil {
		e.Fingerprint = fingerprint(c.Certificate).String()
		e.Reason += "; its SHA-256 fingerprint is " + e.Fingerprint + ": compare with `" + e.dialect.product.Host().Certificate + "`"
		e.remedy = check.Hints(e.remedy, t.pin(e, c))
	}
}

// pin advises to trust a certificate by its fingerprint, which holds beside the fingerprints of other nodes.
func (t *transport) pin(e *Error, c check.Connection) check.Hint {
	k, distrusted := e.dialect.product.Host(), t.trust.CA != nil && !errors.Is(c.Err, errPin)
	switch {
	case distrusted && slices.Contains(t.trust.Fingerprints, fingerprint(c.Certificate)):
		return "remove {proxmox.ca_file}: the fingerprint suffices"
	case distrusted:
		return check.Hintf("set {proxmox.fingerprints} to %s, if %s prints the same, and remove {proxmox.ca_file}", e.Fingerprint, k.Place)
	case len(t.trust.Fingerprints) > 0:
		return check.Hintf("add %s to {proxmox.fingerprints}, if %s prints the same", e.Fingerprint, k.Place)
	}
	return check.Hintf("set {proxmox.fingerprints} to %s, if %s prints the same", e.Fingerprint, k.Place)
}

func (t *transport) whyUntrusted(k realm.Host, c check.Connection) (reason string, remedy check.Hint) {
	authority := check.Hintf("set {proxmox.ca_file} to a copy of %s from %s", k.Authority, k.Place)
	until := c.Until.UTC().Format(time.RFC3339)
	switch c.Cause {
	case check.OtherName:
		names := slices.Clone(c.Certificate.DNSNames)
		for _, ip := range c.Certificate.IPAddresses {
			names = append(names, ip.String())
		}
		if len(names) == 0 {
			return "it has no name", ""
		}
		return "it is for other names: " + t.cleaner.Clean(strings.Join(names, ", ")),
			check.Hint("set {proxmox.endpoints} to one of these names")
	case check.ExpiredCert:
		return "it was valid until " + until, check.Hints(
			k.Run("renews Proxmox's own certificate", k.Renew), "renew the certificate, or correct the clock of this machine")
	case check.NotYetValid:
		return "it is valid only from " + until, check.Hint("correct the clock of this machine")
	case check.NoAuthority:
		return "it was issued by an unknown authority", authority
	}
	if errors.Is(c.Err, errPin) {
		return errPin.Error(), ""
	}
	return t.cleaner.Clean(c.Err.Error()), authority
}

// describe says what happened to a connection, and what to look at.
func (t *transport) describe(c check.Connection, e *Error) (reason string, remedy check.Hint) {
	k := e.dialect.product.Host()
	daemons, port := k.Run("", k.Status), checkPort(e, e.dialect.product.Host())
	firewall := check.Hint("check the address, and firewalls between this machine and the node")
	answering := c.Stage == check.AtAnswer
	switch {
	case c.Cause == check.ProxyFailed:
		return "the proxy in HTTPS_PROXY cannot be used: " + t.cleaner.Clean(errors.Unwrap(c.Err).Error()),
			"list the nodes in NO_PROXY, or unset HTTPS_PROXY"
	case c.Cause == check.NoSuchName:
		return "the name cannot be resolved",
			check.Hints("correct the name in {proxmox.endpoints}", "check this machine's DNS")
	case c.Cause == check.NotTLS:
		return "the port does not speak TLS", port
	case c.Cause == check.TLSRefused:
		return "the two sides have no TLS version or cipher in common: " + t.cleaner.Clean(c.Err.Error()), port
	case c.Cause == check.TimedOut && answering:
		return "no answer in time", check.Hints("set {proxmox.timeout} to a longer time", daemons)
	case answering && (e.Status != 0 || c.Cause == check.ClosedEarly):
		return "the connection was closed before the answer was complete", daemons
	case c.Cause == check.NotHTTP:
		return "the server did not answer with valid HTTP", port
	case c.Cause == check.TimedOut:
		return "no connection in time", check.Hints(firewall, daemons)
	case c.Cause == check.RefusedTCP:
		return "connection refused", check.Hints(port, daemons)
	case c.Cause == check.NoRoute:
		return "no route to the host", firewall
	case c.Cause == check.ClosedEarly:
		return "the connection was closed before TLS began", check.Hints(k.Allow, firewall)
	}
	return t.cleaner.Clean(c.Err.Error()), port
}
