package issuer

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	"proxmox-realm/internal/check"
)

// checkReach is issuer.reach.
func checkReach(i *Inspection, v View) check.Check {
	a := i.discovery
	switch {
	case !requestable(i.issuer):
		return skip("needs %s", check.IssuerURL)
	case i.distrust != nil || a.stage >= stageSent:
		return pass("this machine reaches the issuer at %s", cmp.Or(a.remote, "its address")).Took(a.took)
	case a.err == nil || errors.Is(a.err, context.Canceled):
		return skip("interrupted before the issuer was reached")
	}
	c := unreached(i.issuer, a).Took(a.took)
	if v.Discovered {
		c.Status = check.Warn // Proxmox reaches the issuer
	}
	return c
}

// unreached is the finding if there is no connection.
func unreached(issuerURL string, a answer) check.Check {
	u, _ := url.Parse(issuerURL) // requestable
	address := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "443"))
	cause := a.clean.Clean(reason(a.err))
	if errors.Is(a.err, context.DeadlineExceeded) {
		cause = fmt.Sprintf("no answer within %s", a.took.Round(100*time.Millisecond))
	}
	var unresolved *net.DNSError
	what, step := "cannot connect to "+address, check.Hint("start the issuer, or open the firewall in front of it")
	switch {
	case errors.As(a.err, &unresolved) || a.stage == stageDNS:
		what = "cannot resolve the name " + u.Hostname()
		step = check.Hintf("correct the DNS of this machine: getent hosts %s", u.Hostname())
	case a.stage == stageTLS:
		step = check.Hintf("let the issuer speak TLS 1.2 or 1.3: openssl s_client -connect %s", address)
		return fail(check.Hints(step), "the TLS handshake with %s fails", address).Because("%s", cause)
	}
	return fail(check.Hints(
		step,
		check.Set("realm.issuer_url", "").With("if its host or port is wrong"),
		check.Set("verify.issuer", "false").With("if only the Proxmox nodes reach the issuer")), "this machine %s", what).Because("%s", cause)
}

// warnBefore is the longest time before its end that a certificate causes a warning.
const warnBefore = 14 * 24 * time.Hour

// checkCertificate is issuer.certificate.
func checkCertificate(i *Inspection, _ View) check.Check {
	a := i.discovery
	if len(a.certificates) == 0 {
		return skip("the issuer sent no certificate")
	}
	leaf := a.certificates[0]
	seen := a.clean.Clean(fmt.Sprintf("%s, issued by %s, valid from %s to %s",
		namesOf(leaf), authorityOf(leaf), day(leaf.NotBefore), day(leaf.NotAfter)))
	switch {
	case i.distrust != nil:
		return i.distrusted(leaf).Because("%s", seen)
	case time.Until(leaf.NotAfter) < min(leaf.NotAfter.Sub(leaf.NotBefore)/3, warnBefore):
		renew := check.Hint("renew the issuer's certificate, and find out why it was not renewed automatically")
		return warn(check.Hints(renew), "the issuer's certificate expires on %s", day(leaf.NotAfter)).Because("%s", seen)
	}
	return pass("the issuer's certificate is valid until %s", day(leaf.NotAfter)).Because("%s", seen)
}

// unknownAuthority tells whether only the authority of a certificate is unknown to this machine.
func unknownAuthority(err error) bool {
	unknown := x509.UnknownAuthorityError{}
	return errors.As(err, &unknown)
}

// distrusted is the finding for a certificate that this machine does not accept. Proxmox rejects it as well, unless it knows
// an authority that this machine does not know.
func (i *Inspection) distrusted(leaf *x509.Certificate) check.Check {
	u, _ := url.Parse(i.issuer) // requestable
	err, clean := i.distrust.Err, i.client.cleaner
	remedy := check.Hint("renew the issuer's certificate")
	var (
		invalid x509.CertificateInvalidError
		other   x509.HostnameError
	)
	switch {
	case unknownAuthority(err):
		remedy = check.Hints(
			check.Set("verify.issuer_ca_file", "").With("a file with the authority's certificate"),
			check.Hint("let the issuer send its intermediate certificate too").With("if it sends only its own"),
			check.OnNode("update-ca-certificates").
				With("if the nodes do not know the authority: first put its certificate into /usr/local/share/ca-certificates"))
		return warn(remedy, "this machine does not know the authority of the issuer's certificate: %s",
			clean.Clean(authorityOf(leaf)))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && time.Now().Before(invalid.Cert.NotBefore):
		remedy = "correct the clock of the issuer or of this machine"
		return fail(remedy, "the issuer's certificate is not valid before %s", day(invalid.Cert.NotBefore))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fail(remedy, "the issuer's certificate expired on %s", day(invalid.Cert.NotAfter))
	case errors.As(err, &other):
		remedy = check.Hints(
			check.Hintf("get a certificate for %s", u.Hostname()),
			check.Set("realm.issuer_url", "").With("if its host is wrong"))
		return fail(remedy, "the issuer's certificate is for another name: %s", clean.Clean(namesOf(leaf)))
	}
	return fail(remedy, "the issuer's certificate is not accepted: %s", clean.Clean(err.Error()))
}

func authorityOf(c *x509.Certificate) string { return cmp.Or(c.Issuer.CommonName, c.Issuer.String()) }

// namesOf lists the names that a certificate is for.
func namesOf(c *x509.Certificate) string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return listed(names)
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
