package issuer

import (
	"cmp"
	"crypto/x509"
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
	case i.distrust != nil || a.stage >= check.AtTrust:
		return pass("this machine reaches the issuer at %s", cmp.Or(a.remote, "its address")).Took(a.took)
	case a.err == nil || a.connection.Cause == check.Canceled:
		return skip("interrupted before the issuer was reached")
	}
	c := i.unreached().Took(a.took)
	if v.proves(check.ProxmoxDiscovery, check.Pass) {
		c.Status = check.Warn // Proxmox reaches the issuer
	}
	return c
}

// unreached is the finding if there is no connection.
func (i *Inspection) unreached() check.Check {
	a := i.discovery
	u, _ := url.Parse(i.issuer) // requestable
	port := map[string]string{"https": "443", "http": "80"}[u.Scheme]
	host, address := i.clean(u.Hostname()), i.clean(net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port)))
	what, hint := "cannot connect to "+address, check.Hint("start the issuer, or open the firewall in front of it")
	switch c := a.connection; {
	case c.Cause == check.ProxyFailed:
		what, hint = "cannot use the proxy in HTTPS_PROXY", "name the issuer's host in NO_PROXY, or unset HTTPS_PROXY"
	case c.Stage == check.AtName:
		what, hint = "cannot resolve the name "+host, "correct the DNS of this machine; to see what it answers:\n    getent hosts "+check.Hint(host)
	case c.Stage == check.AtTLS && c.Cause == check.TimedOut:
		what = "reaches " + address + ", but gets no answer"
		hint = "look whether the issuer hangs or is paused: its port takes connections, and nothing answers"
	case c.Cause == check.NotTLS:
		what, hint = "reaches "+address+", but no TLS", "let the proxy or the issuer serve https on that port, or correct the port"
	case c.Stage == check.AtTLS && c.Cause == check.ClosedEarly:
		what = "reaches " + address + ", but the connection is closed before TLS begins"
		hint = "read the log of the issuer, and of a proxy or firewall in front of it"
	case c.Stage == check.AtTLS:
		what = "reaches " + address + ", but TLS fails"
		hint = "let the issuer speak TLS 1.2 or 1.3; to see what it speaks:\n    openssl s_client -connect " + check.Hint(address)
	}
	hint = check.Hints(hint, "set {realm.issuer_url} to another address, if its host or port is wrong",
		"set {verify.issuer} to false, if only the Proxmox nodes reach the issuer")
	return fail(hint, "this machine %s", what).Because("%s", i.clean(reason(a.err)))
}

// warnBefore is the longest time before its end that a certificate causes a warning.
const warnBefore = 14 * 24 * time.Hour

// checkCertificate is issuer.certificate.
func checkCertificate(i *Inspection, _ View) check.Check {
	a := i.discovery
	if i.overHTTP() {
		return skip("the issuer is used over http, without a certificate")
	}
	if len(a.certificates) == 0 {
		return skip("the issuer sent no certificate")
	}
	leaf := a.certificates[0]
	c := pass("the issuer's certificate is valid until %s", day(leaf.NotAfter))
	switch {
	case i.distrust != nil:
		c = i.distrusted(leaf)
	case time.Until(leaf.NotAfter) < min(leaf.NotAfter.Sub(leaf.NotBefore)/3, warnBefore):
		c = warn("renew the issuer's certificate, and find out why it was not renewed automatically",
			"the issuer's certificate expires on %s", day(leaf.NotAfter))
	}
	return c.Because("%s, issued by %s, valid from %s to %s",
		i.clean(namesOf(leaf)), i.clean(authorityOf(leaf)), day(leaf.NotBefore), day(leaf.NotAfter))
}

// distrusted is the finding for a certificate that this machine does not accept. Proxmox rejects it as well, unless it knows
// an authority that this machine does not know.
func (i *Inspection) distrusted(leaf *x509.Certificate) check.Check {
	u, _ := url.Parse(i.issuer) // requestable
	const renew = check.Hint("renew the issuer's certificate")
	switch c := i.distrust; c.Cause {
	case check.NoAuthority:
		hint := check.Hints(
			"set {verify.issuer_ca_file} to a file with the authority's certificate",
			"let the issuer send its intermediate certificate too, if it sends only its own",
			"let the nodes trust the authority too: put its certificate into /usr/local/share/ca-certificates of each node, and run there:\n"+
				check.Command+"update-ca-certificates")
		return warn(hint, "this machine does not know the authority of the issuer's certificate: %s", i.clean(authorityOf(leaf)))
	case check.NotYetValid:
		return fail("correct the clock of the issuer or of this machine", "the issuer's certificate is not valid before %s", day(c.Until))
	case check.ExpiredCert:
		return fail(renew, "the issuer's certificate expired on %s", day(c.Until))
	case check.OtherName:
		hint := check.Hints(check.Hintf("get a certificate for %s", i.clean(u.Hostname())), "set {realm.issuer_url} to another address, if its host is wrong")
		return fail(hint, "the issuer's certificate is for another name: %s", i.clean(namesOf(leaf)))
	default:
		return fail(renew, "the issuer's certificate is not accepted: %s", i.clean(c.Err.Error()))
	}
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
