package issuer

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
)

// checkReach is issuer.reach.
func checkReach(i *Inspection, v View) check.Check {
	if !requestable(i.issuer) {
		return skip("needs %s", check.IssuerURL)
	}
	a := i.discovery
	if untrusted := (*tls.CertificateVerificationError)(nil); a.stage >= stageSent || errors.As(a.err, &untrusted) {
		c := pass("reached")
		if a.remote != "" {
			c = pass("reached at %s", a.remote)
		}
		if a.tlsVersion != 0 {
			c = c.Because("%s", tls.VersionName(a.tlsVersion))
		}
		return c.Took(a.took)
	}
	c := unreached(i.issuer, a, i.client.cleaner).Took(a.took)
	if c.Status == check.Fail && v.Discovered {
		c.Status = check.Warn
	}
	return c
}

// unreached words what kept a connection from being made.
func unreached(issuerURL string, a answer, clean *check.Cleaner) check.Check {
	u, _ := url.Parse(issuerURL) // requestable
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = "443"
	}
	const elsewhere = "; where only the Proxmox nodes reach the issuer, set verify.issuer to false"
	cause := "interrupted"
	if a.err != nil {
		cause = clean.Clean(reason(a.err))
	}
	if errors.Is(a.err, context.DeadlineExceeded) {
		cause = fmt.Sprintf("no answer within %s", a.took.Round(100*time.Millisecond))
	}
	var unresolved *net.DNSError
	switch {
	case a.err == nil || errors.Is(a.err, context.Canceled):
		return skip("interrupted before the issuer was reached")
	case a.proxy && a.stage <= stageTCP:
		return fail("check HTTPS_PROXY and NO_PROXY of this machine"+elsewhere, "the proxy on the way to the issuer cannot be used").Because("%s", cause)
	case errors.As(a.err, &unresolved) || a.stage == stageDNS:
		return fail("check the host in realm.issuer_url and the DNS of this machine: getent hosts "+host+elsewhere, "the name %s does not resolve", host).Because("%s", cause)
	case a.stage == stageTLS:
		hint := "let port " + port + " of the issuer speak TLS 1.2 or 1.3: openssl s_client -connect " + net.JoinHostPort(host, port)
		return fail(hint, "TLS with %s fails", net.JoinHostPort(host, port)).Because("%s", cause)
	case a.stage == stageTCP:
		return fail("check host and port in realm.issuer_url, the issuer and the firewall between"+elsewhere, "no connection to %s", net.JoinHostPort(host, port)).Because("%s", cause)
	}
	return fail("check host and port in realm.issuer_url"+elsewhere, "the issuer cannot be asked").Because("%s", cause)
}

// checkCertificate is issuer.certificate.
func checkCertificate(i *Inspection, _ View) check.Check {
	a, clean, now := i.discovery, i.client.cleaner, time.Now()
	if len(a.certificates) == 0 {
		return skip("no certificate was seen")
	}
	leaf := a.certificates[0]
	seen := clean.Clean(fmt.Sprintf("%s, issued by %s, valid from %s to %s", named(leaf), authorityName(leaf), day(leaf.NotBefore), day(leaf.NotAfter)))
	if untrusted := (*tls.CertificateVerificationError)(nil); errors.As(a.err, &untrusted) {
		return distrusted(i.issuer, a.certificates, untrusted.Err, now, clean).Because("%s", seen)
	}
	if weak := weakness(a.certificates, a.chains); weak != "" {
		return fail("renew it with an RSA key of at least 2048 bits or an ECDSA key", "Proxmox (OpenSSL of Debian, security level 2) refuses the certificate: %s", clean.Clean(weak)).
			Because("%s", seen)
	}
	left, lifetime := leaf.NotAfter.Sub(now), leaf.NotAfter.Sub(leaf.NotBefore)
	if left < min(lifetime/3, warnBefore) {
		return warn("renew the issuer's certificate, and see why it was not renewed by itself", "the issuer's certificate expires in %s", span(left)).Because("%s", seen)
	}
	return pass("the certificate is valid for another %s", span(left)).Because("%s", seen)
}

// warnBefore is how long before its end, at most, a certificate is worth a warning.
const warnBefore = 14 * 24 * time.Hour

// distrusted words why a certificate was refused (crypto/x509).
func distrusted(issuerURL string, chain []*x509.Certificate, err error, now time.Time, clean *check.Cleaner) check.Check {
	u, _ := url.Parse(issuerURL)
	leaf := chain[0]
	var (
		invalid x509.CertificateInvalidError
		other   x509.HostnameError
		unknown x509.UnknownAuthorityError
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && now.Before(invalid.Cert.NotBefore):
		return fail("check the clocks of the issuer and of this machine, or wait", "the issuer's certificate is not valid yet: it begins on %s", day(invalid.Cert.NotBefore))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fail("renew the issuer's certificate", "the issuer's certificate expired on %s", day(invalid.Cert.NotAfter))
	case errors.As(err, &other):
		return fail("get a certificate for "+u.Hostname()+", or correct the host in realm.issuer_url",
			"the issuer's certificate is for another name: %s", clean.Clean(namesOf(leaf)))
	case errors.As(err, &unknown) && weakness(chain, nil) != "":
		return fail("renew it with an RSA key of at least 2048 bits or an ECDSA key, and SHA-256", "the issuer's certificate is weak: %s", weakness(chain, nil))
	case errors.As(err, &unknown) && len(chain) == 1 && !slices.Equal(leaf.RawIssuer, leaf.RawSubject) && len(leaf.IssuingCertificateURL) > 0:
		return fail("let the issuer send its intermediate certificate too (the full chain); with an authority of your own, name it in verify.issuer_ca_file, and on every node put it into /usr/local/share/ca-certificates and run update-ca-certificates",
			"the issuer's certificate is by an unknown authority, and no intermediate certificate comes with it")
	case errors.As(err, &unknown):
		return fail("name the authority's certificate in verify.issuer_ca_file; on every node, put it into /usr/local/share/ca-certificates and run update-ca-certificates",
			"the issuer's certificate is by an unknown authority: %s", clean.Clean(authorityName(leaf)))
	}
	return fail("renew the issuer's certificate", "the issuer's certificate is not accepted: %s", clean.Clean(err.Error()))
}

// weakness tells what Debian's OpenSSL refuses at its security level 2 (112 bits) though Go accepts it. With several
// chains, one that is good is enough.
func weakness(sent []*x509.Certificate, chains [][]*x509.Certificate) string {
	if len(chains) == 0 {
		chains = [][]*x509.Certificate{sent}
	}
	var weak string
	for _, chain := range chains {
		if weak = weakIn(chain); weak == "" {
			return ""
		}
	}
	return weak
}

func weakIn(chain []*x509.Certificate) string {
	for n, certificate := range chain {
		switch public := certificate.PublicKey.(type) {
		case *rsa.PublicKey:
			if bits := public.N.BitLen(); bits < 2048 {
				return fmt.Sprintf("%s has an RSA key of %d bits", named(certificate), bits)
			}
		case *ecdsa.PublicKey:
			if bits := public.Curve.Params().BitSize; bits < 224 {
				return fmt.Sprintf("%s has an ECDSA key of %d bits", named(certificate), bits)
			}
		}
		root := n > 0 && n == len(chain)-1 // its own signature proves nothing, so it may be of any kind
		switch certificate.SignatureAlgorithm {
		case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
			if !root {
				return fmt.Sprintf("%s is signed with %s", named(certificate), certificate.SignatureAlgorithm)
			}
		}
	}
	return ""
}

func named(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return c.Subject.CommonName
	}
	return namesOf(c)
}

func authorityName(c *x509.Certificate) string {
	if name := c.Issuer.CommonName; name != "" {
		return name
	}
	return c.Issuer.String()
}

const maxNames = 10

// namesOf lists the names that a certificate is for.
func namesOf(c *x509.Certificate) string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	switch {
	case len(names) == 0 && c.Subject.CommonName != "":
		return c.Subject.CommonName + " (common name alone, which browsers do not accept)"
	case len(names) == 0:
		return "none"
	case len(names) > maxNames:
		return strings.Join(names[:maxNames], ", ") + fmt.Sprintf(" and %d more", len(names)-maxNames)
	}
	return strings.Join(names, ", ")
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// span returns "61 days", "1 day 5 hours", "5 hours".
func span(d time.Duration) string {
	days, hours := int(d.Hours())/24, int(d.Hours())%24
	switch {
	case days >= 3:
		return fmt.Sprintf("%d days", days)
	case days > 0:
		return counted(days, "day") + " " + counted(hours, "hour")
	}
	return counted(hours, "hour")
}
