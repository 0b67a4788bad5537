// Package issuer inspects an OpenID Connect issuer without a user. It finds out whether this machine reaches and trusts
// the issuer, and what the discovery document and the keys say (OpenID Connect Discovery 1.0). It also asks whether the
// issuer accepts a client's id, key and redirect URLs (RFC 6749).
//
// A check fails only on proof that a login through Proxmox breaks. A capability that an issuer does not advertise may
// still exist, and an answer that this package does not know proves nothing.
package issuer

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// Options configure a [Inspector]. The zero value is usable.
type Options struct {
	Roots     *x509.CertPool // the authorities to trust; nil: the system's
	Timeout   time.Duration  // of each request, its body included; 0: 10 s
	UserAgent string         // an administrator finds our requests by it in the issuer's log
	Cleaner   *check.Cleaner // cleans what the issuer says
	Log       *slog.Logger   // nil: silent
	// Dial makes connections; nil: those of TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

const (
	defaultTimeout    = 10 * time.Second
	inspectionTimeout = 15 * time.Second // of discovery and keys together
	quickTime         = 5 * time.Second  // of both, if Proxmox is to be asked too
	defaultMaxSkew    = 5 * time.Minute
)

// Inspector inspects issuers. It is safe for concurrent use.
type Inspector struct {
	verified   *http.Transport
	unverified *http.Transport // checks no certificate: for public documents only
	timeout    time.Duration
	userAgent  string
	cleaner    *check.Cleaner
	log        *slog.Logger
	slots      slots
}

// New returns an Inspector.
func New(o Options) *Inspector {
	c := &Inspector{
		timeout: cmp.Or(o.Timeout, defaultTimeout), userAgent: cmp.Or(o.UserAgent, "proxmox-realm"),
		cleaner: cmp.Or(o.Cleaner, check.NewCleaner()), log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
	}
	c.verified = newTransport(&tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12})
	c.unverified = newTransport(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // see above
	c.verified.DialContext, c.unverified.DialContext = o.Dial, o.Dial
	return c
}

// Close closes idle connections. A running inspection ends with its own context.
func (c *Inspector) Close() {
	c.verified.CloseIdleConnections()
	c.unverified.CloseIdleConnections()
}

// Inspection is one look at one issuer. All targets that use the issuer share its two requests and its questions about
// clients. It is safe for concurrent use. All methods but Wait wait until the inspection has ended.
type Inspection struct {
	inspector *Inspector
	issuer    string
	done      chan struct{} // closed once the inspection has ended; the fields up to questions do not change afterwards

	discovery   answer
	metadata    metadata
	metadataErr check.Check // issuer.discovery, if the document is not usable; else zero
	keysAnswer  answer
	keys        []key
	keysErr     check.Check       // issuer.keys, if the key set is not usable; else zero
	distrust    *check.Connection // why this machine does not trust the certificate; nil: it does
	took        time.Duration     // discovery and keys
	around      surroundings      // if the issuer URL serves no document, or one of another name

	questions questions
}

// Inspect starts the requests for discovery document and keys in the background and returns at once. They end with
// ctx, and after 15 s in all.
func (c *Inspector) Inspect(ctx context.Context, issuerURL string) *Inspection {
	i := &Inspection{inspector: c, issuer: issuerURL, done: make(chan struct{})}
	go func() {
		defer close(i.done)
		if requestable(issuerURL) {
			i.run(ctx)
		}
	}()
	return i
}

func (i *Inspection) run(ctx context.Context) {
	free, err := i.inspector.slots.take(ctx, i.issuer) // before the time limit begins
	if err != nil {
		i.discovery = (&recorder{inspector: i.inspector}).result(err)
		i.metadata, i.metadataErr = parseDiscovery(i.issuer, i.discovery)
		return
	}
	defer free()
	ctx, cancel := context.WithTimeout(ctx, inspectionTimeout)
	defer cancel()
	begin := time.Now()
	transport := i.inspector.verified
	i.discover(ctx, transport)
	if c := i.discovery.connection; i.discovery.err != nil && c.Stage == check.AtTrust {
		i.distrust = &c
	}
	if i.distrust != nil && i.distrust.Cause == check.NoAuthority {
		// The node may know the authority. The documents are public, so they are read without verification.
		transport = i.inspector.unverified
		i.discover(ctx, transport)
	}
	i.questions.note(i.discovery)
	if i.metadataErr.Status == "" && i.metadata.JWKSURI.usable() {
		i.keysAnswer = i.inspector.get(ctx, transport, string(i.metadata.JWKSURI), "application/json")
		i.questions.note(i.keysAnswer)
		i.keys, i.keysErr = parseKeys(i.keysAnswer)
	}
	i.took = time.Since(begin)
	i.around = i.lookAround(ctx, transport)
	i.inspector.log.Debug("issuer inspected", "issuer", i.issuer, "keys", len(i.keys), "took", i.took)
}

// discover lets go-oidc request the discovery document.
func (i *Inspection) discover(ctx context.Context, transport *http.Transport) {
	ctx, cancel := context.WithTimeout(ctx, i.inspector.timeout)
	defer cancel()
	seen := &recorder{inspector: i.inspector, transport: transport, follow: sameHost}
	ctx = oidc.ClientContext(ctx, seen.httpClient())
	ctx = oidc.InsecureIssuerURLContext(ctx, i.issuer) // issuer.identity compares the issuer
	_, err := oidc.NewProvider(ctx, i.issuer)
	i.discovery = seen.result(err)
	i.metadata, i.metadataErr = parseDiscovery(i.issuer, i.discovery)
}

// requestable tells whether the issuer URL can be requested at all: http or https, with a host, without credentials.
func requestable(issuerURL string) bool {
	u, err := url.Parse(issuerURL)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" && u.User == nil
}

// overHTTP tells whether the issuer is used without TLS, and so without a certificate.
func (i *Inspection) overHTTP() bool { return strings.HasPrefix(strings.ToLower(i.issuer), "http:") }

// Wait returns nil once the inspection has ended, whatever it found, and ctx's error if that comes first.
func (i *Inspection) Wait(ctx context.Context) error {
	select {
	case <-i.done:
	case <-ctx.Done():
		select {
		case <-i.done: // both have ended
		default:
			return ctx.Err()
		}
	}
	return nil
}

// Answered reports whether the issuer answered the request for its discovery document.
func (i *Inspection) Answered() bool {
	<-i.done
	return i.discovery.arrived()
}

// Quick reports whether Proxmox may be asked to discover the issuer. It may if discovery and keys took at most 5 s, or
// if connecting failed within that time. An issuer that stays silent blocks a worker of the node for good.
func (i *Inspection) Quick() bool { return i.WhyNotQuick() == "" }

// WhyNotQuick returns why Proxmox may not be asked to discover the issuer, such as "the issuer took 7s to answer", or "".
func (i *Inspection) WhyNotQuick() string {
	<-i.done
	connected := i.discovery.err == nil || i.discovery.stage >= check.AtTLS
	switch {
	case i.took > quickTime:
		return fmt.Sprintf("the issuer took %s to answer, and a silent one blocks the node", i.took.Round(100*time.Millisecond))
	case connected && !i.discovery.arrived():
		return "the issuer did not send its discovery document"
	case connected && i.discovery.status != http.StatusOK:
		return fmt.Sprintf("the issuer answers %d to the request for its discovery document", i.discovery.status)
	case connected && i.metadataErr.Status != "":
		return "the issuer did not send a usable discovery document"
	case connected && !i.keysAnswer.arrived():
		return "the issuer did not send its keys"
	}
	return ""
}

// Trusted tells whether this machine reaches the issuer and trusts its certificate, if it has one. An issuer that is not
// trusted is asked no client questions.
func (i *Inspection) Trusted() bool {
	<-i.done
	return i.distrust == nil && i.discovery.stage >= check.AtAnswer
}

// LacksClaim tells whether the issuer advertises its claims, and not this one. That is no proof: an issuer may map
// claims that it does not advertise.
func (i *Inspection) LacksClaim(claim string) bool {
	<-i.done
	return i.metadata.lacksClaim(claim)
}

// Serves returns the name of an issuer that serves its own document at or near the issuer URL; "" if none was found. Proxmox needs
// this exact name.
func (i *Inspection) Serves() string {
	<-i.done
	if i.metadataErr.Status == "" && string(i.metadata.Issuer) == i.issuer {
		return i.issuer
	}
	return i.around.serves
}

// OffersScope tells whether the issuer advertises a scope. It may have others as well.
func (i *Inspection) OffersScope(scope string) bool {
	<-i.done
	return i.metadataErr.Status == "" && slices.Contains(i.metadata.Scopes, scope)
}

// SwitchedOff tells whether Authelia answers, and its OpenID Connect part is off.
func (i *Inspection) SwitchedOff() bool {
	<-i.done
	return i.around.portal
}

// NeedsVersion tells whether the verdict on the keys depends on the Proxmox version.
func (i *Inspection) NeedsVersion() bool {
	<-i.done
	libraries := realm.Version{}.OpenIDLibraries()
	older, newer := i.verifiable(libraries[0]), i.verifiable(libraries[len(libraries)-1])
	return (len(older) == 0) != (len(newer) == 0)
}

// Certificate returns when the issuer's certificate expires, even if it is not trusted; false if there was none.
func (i *Inspection) Certificate() (notAfter time.Time, ok bool) {
	<-i.done
	if len(i.discovery.certificates) == 0 {
		return time.Time{}, false
	}
	return i.discovery.certificates[0].NotAfter, true
}

// AuthorizationEndpoint returns the https URL to which Proxmox sends browsers; false if the issuer names none.
func (i *Inspection) AuthorizationEndpoint() (endpoint string, ok bool) {
	<-i.done
	if i.metadataErr.Status != "" || !i.metadata.AuthorizationEndpoint.secure() {
		return "", false
	}
	return string(i.metadata.AuthorizationEndpoint), true
}

// IsAuthorizationEndpoint tells whether a URL is the issuer's authorization endpoint. Scheme, host and port are the same, and the
// path is too, unless this provider gives each caller another path. Queries do not count.
func (i *Inspection) IsAuthorizationEndpoint(location string) bool {
	<-i.done
	named := string(i.metadata.AuthorizationEndpoint)
	if varies := i.provider().varies; varies != nil && varies().MatchString(location) && varies().MatchString(named) {
		return originOf(location) == originOf(named)
	}
	return normal(location) == normal(named)
}

// RateLimited tells whether the issuer answered 429 to any request, and when it may be asked again (0: it did not
// say).
func (i *Inspection) RateLimited() (retryAfter time.Duration, limited bool) {
	<-i.done
	return i.questions.limited()
}

// View is the login and the Proxmox for which an issuer is judged.
type View struct {
	Login       realm.Login
	Version     realm.Version // of Proxmox; only its Product: unknown; see [Inspection.NeedsVersion]
	ClockOffset time.Duration // Proxmox's clock minus the local one
	ClockKnown  bool          // ClockOffset was measured
	MaxSkew     time.Duration // allowed between issuer and Proxmox; 0: 5 minutes
	// Found are other findings about this login, now or as remembered: proxmox.discovery, and those of [Inspection.Client]. What
	// they prove is not judged by what this machine reaches, or by what the issuer advertises.
	Found []check.Check
}

// proves tells whether a finding of another check has one of these statuses.
func (v View) proves(id check.ID, statuses ...check.Status) bool {
	c, _ := check.Find(v.Found, id)
	return slices.Contains(statuses, c.Status)
}

// keyProven tells whether the issuer accepts the client with its key by client_secret_basic.
func (v View) keyProven() bool { return v.proves(check.ClientCredentials, check.Pass, check.Warn) }

// requestProven tells whether the issuer accepts the login request with each redirect URL: code flow, scopes, S256 and prompt.
func (v View) requestProven() bool { return v.proves(check.ClientRedirect, check.Pass) }

// checker makes one check of an issuer. If a check that it needs failed or was skipped, it is skipped.
type checker struct {
	id    check.ID
	needs []check.ID
	check func(*Inspection, View) check.Check
}

// checkers are in the order of the catalog.
var checkers = []checker{
	{check.IssuerURL, nil, func(i *Inspection, _ View) check.Check { return checkURL(i.issuer, i.inspector.cleaner) }},
	{check.IssuerReach, nil, checkReach},
	{check.IssuerCertificate, []check.ID{check.IssuerReach}, checkCertificate},
	{check.IssuerDiscovery, []check.ID{check.IssuerReach, check.IssuerCertificate}, checkDiscovery},
	{check.IssuerIdentity, []check.ID{check.IssuerDiscovery}, checkIdentity},
	{check.IssuerEndpoints, []check.ID{check.IssuerDiscovery}, checkEndpoints},
	{check.IssuerKeys, []check.ID{check.IssuerDiscovery}, checkKeys},
	{check.IssuerCapabilities, []check.ID{check.IssuerDiscovery}, checkCapabilities},
	{check.IssuerScopes, []check.ID{check.IssuerDiscovery}, checkScopes},
	{check.IssuerClaims, []check.ID{check.IssuerDiscovery}, checkClaims},
	{check.IssuerAudience, []check.ID{check.IssuerDiscovery}, checkAudience},
	{check.IssuerClock, []check.ID{check.IssuerReach, check.IssuerCertificate}, checkClock},
}

// Checks returns every issuer.* check, in the order of the catalog.
func (i *Inspection) Checks(v View) []check.Check {
	<-i.done
	out := make([]check.Check, 0, len(checkers))
	for _, r := range checkers {
		out = append(out, i.apply(r, v, out))
	}
	return out
}

func (i *Inspection) apply(r checker, v View, before []check.Check) check.Check {
	for _, need := range r.needs {
		c, _ := check.Find(before, need)
		skipped := c.Status == check.Skip && (need != check.IssuerCertificate || !i.overHTTP())
		if c.Status == check.Fail || skipped {
			return check.Skipped(r.id, "needs %s", need)
		}
	}
	c := r.check(i, v)
	c.ID = r.id
	return c
}

// clean returns a value of the issuer or of the configuration as it may be shown. People paste secrets into both.
func (i *Inspection) clean(value string) string { return i.inspector.cleaner.Clean(value) }

// pass, warn, fail and skip make findings of a checker: [Inspection.apply] adds the id.
func pass(format string, args ...any) check.Check { return check.Passed("", format, args...) }

func warn(remedy check.Hint, format string, args ...any) check.Check {
	return check.Warned("", remedy, format, args...)
}

func fail(remedy check.Hint, format string, args ...any) check.Check {
	return check.Failed("", remedy, format, args...)
}

func skip(format string, args ...any) check.Check { return check.Skipped("", format, args...) }
