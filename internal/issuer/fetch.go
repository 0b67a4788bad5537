package issuer

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"proxmox-realm/internal/check"
)

const (
	maxBody      = 1 << 20
	maxHeader    = 64 << 10
	maxRedirects = 5
	maxRetry     = 24 * time.Hour // a longer Retry-After is cut to this
)

// newTransport returns a transport that speaks HTTP/1.1, as Proxmox does.
func newTransport(config *tls.Config) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        config,
		Protocols:              protocols,
		MaxResponseHeaderBytes: maxHeader,
		MaxConnsPerHost:        maxConnections,
		MaxIdleConnsPerHost:    maxConnections,
		MaxIdleConns:           maxIdle,
		IdleConnTimeout:        30 * time.Second,
	}
}

// maxIdle bounds the connections that are kept for further questions, for targets that each have an issuer of its own.
const maxIdle = 64

// maxConnections bounds the connections to one issuer: the targets of a fleet ask it in turn.
const maxConnections = 2

// slots let maxConnections askers at a time send requests to each host. An asker waits for its slot before the time limit of
// its requests begins; waiting for a connection of the transport would count.
type slots struct {
	mu    sync.Mutex
	hosts map[string]chan struct{}
}

// take waits for a slot of the address's host. It fails only if ctx ends before.
func (s *slots) take(ctx context.Context, address string) (free func(), err error) {
	host := ""
	if u, err := url.Parse(address); err == nil {
		host = u.Host
	}
	s.mu.Lock()
	if s.hosts == nil {
		s.hosts = map[string]chan struct{}{}
	}
	slot, ok := s.hosts[host]
	if !ok {
		slot = make(chan struct{}, maxConnections)
		s.hosts[host] = slot
	}
	s.mu.Unlock()
	select {
	case slot <- struct{}{}:
		return func() { <-slot }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// answer is the outcome of a request.
type answer struct {
	url      string // after redirects, the last one
	status   int
	header   http.Header
	body     []byte
	location *url.URL // of a redirect, absolute
	err      error

	stage        check.Stage
	connection   check.Connection // what went wrong, if err is set
	remote       string           // address and port
	certificates []*x509.Certificate
	received     time.Time // when the answer began
	took         time.Duration
	redirected   int
	clean        *check.Cleaner // for what is shown of the answer
}

var (
	errTooLarge     = fmt.Errorf("larger than %d KiB", maxBody>>10)
	errRedirects    = fmt.Errorf("more than %d redirects", maxRedirects)
	errRedirectAway = errors.New("redirects elsewhere")
)

// arrived tells whether a whole answer came.
func (a answer) arrived() bool { return a.status != 0 && a.err == nil }

// limited tells whether the issuer limits requests.
func (a answer) limited() bool { return a.err == nil && a.status == http.StatusTooManyRequests }

// troubled tells whether the answer says nothing about what was asked: none came, or the server or a proxy has trouble of
// its own.
func (a answer) troubled() bool {
	switch a.status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return a.err != nil
}

// endpoint returns the address that answered, without its query.
func (a answer) endpoint() string {
	bare, _, _ := strings.Cut(a.url, "?")
	return bare
}

// retryAfter returns the header of that name (RFC 9110 section 10.2.3); 0 if there is none.
func (a answer) retryAfter() time.Duration {
	text := a.header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetry)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(time.Until(at).Round(time.Second), 0), maxRetry)
	}
	return 0
}

// send sends a request and returns its answer, or that of the last redirect.
func (c *Inspector) send(ctx context.Context, r *recorder, method, address string, header http.Header, body string) answer {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err == nil {
		maps.Copy(req.Header, header)
		var resp *http.Response
		if resp, err = r.httpClient().Do(req); err == nil {
			_ = resp.Body.Close()
		}
	}
	return r.result(err)
}

// get requests a public document. It follows redirects on the same host.
func (c *Inspector) get(ctx context.Context, transport *http.Transport, address, accept string) answer {
	r := &recorder{inspector: c, transport: transport, follow: sameHost}
	return c.send(ctx, r, http.MethodGet, address, http.Header{"Accept": {accept}}, "")
}

// sameHost follows redirects on the same host only, and never from https to http.
func sameHost(req *http.Request, via []*http.Request) error {
	switch {
	case req.URL.Scheme != "https" && via[0].URL.Scheme == "https" || !strings.EqualFold(req.URL.Host, via[0].URL.Host):
		return errRedirectAway
	case len(via) > maxRedirects:
		return errRedirects
	}
	return nil
}

// redirects decides whether a redirect is followed.
type redirects func(req *http.Request, via []*http.Request) error

// noRedirect follows no redirect.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// withinIssuer follows redirects on the origin that was asked first, or from it to https on the same host, as a browser would.
// It stops at the redirect URL and at an address that tells of an error.
func withinIssuer(redirectURL string) redirects {
	return func(req *http.Request, via []*http.Request) error {
		first := via[0].URL
		upgraded := first.Scheme == "http" && req.URL.Scheme == "https" && strings.EqualFold(first.Hostname(), req.URL.Hostname())
		switch {
		case sameTarget(req.URL, redirectURL), faultInAddress(req.URL).code != "", origin(req.URL) != origin(first) && !upgraded:
			return http.ErrUseLastResponse
		case len(via) > maxRedirects:
			return errRedirects
		}
		return nil
	}
}

// recorder is a RoundTripper that keeps the last answer for the checks.
type recorder struct {
	inspector *Inspector
	transport *http.Transport
	follow    redirects
	cookies   http.CookieJar // nil: none are kept

	last     answer
	requests int
	took     time.Duration
}

func (r *recorder) httpClient() *http.Client {
	return &http.Client{Transport: r, CheckRedirect: r.follow, Jar: r.cookies}
}

// result returns the last answer. The error is that of the HTTP client, which knows why it did not follow a redirect.
func (r *recorder) result(err error) answer {
	a := r.last
	a.clean, a.took, a.redirected = r.inspector.cleaner, r.took, max(r.requests-1, 0)
	if errors.Is(err, errRedirectAway) || errors.Is(err, errRedirects) || r.requests == 0 {
		a.err, a.connection = err, new(check.Progress).Diagnose(err)
	}
	return a
}

// RoundTrip implements [http.RoundTripper].
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	begin, seen, a := time.Now(), &check.Progress{}, answer{url: req.URL.String()}
	req = req.Clone(httptrace.WithClientTrace(req.Context(), seen.Trace()))
	req.Header.Set("User-Agent", r.inspector.userAgent)
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "application/json")
	}
	resp, err := r.transport.RoundTrip(req)
	if untrusted := (*tls.CertificateVerificationError)(nil); errors.As(err, &untrusted) {
		a.certificates = untrusted.UnverifiedCertificates
	}
	if err == nil {
		a.status, a.header, a.received = resp.StatusCode, resp.Header, time.Now()
		if resp.StatusCode >= 300 && resp.StatusCode < 400 {
			a.location, _ = resp.Location()
		}
		a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody+1)) // bounded after decompression
		_ = resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(a.body))
	}
	switch {
	case err == nil && len(a.body) > maxBody:
		a.body, err = a.body[:maxBody], errTooLarge
	case err == nil: // a deadline during the body may look like its regular end
		err = req.Context().Err()
	}
	a.err = err
	a.describe(seen)
	r.last, r.requests, r.took = a, r.requests+1, r.took+time.Since(begin)
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// describe adds what was seen of the connection.
func (a *answer) describe(p *check.Progress) {
	if a.err != nil {
		a.connection = p.Diagnose(a.err)
		a.stage = a.connection.Stage
	}
	conn := p.Conn()
	if conn == nil {
		return
	}
	a.stage, a.remote = check.AtAnswer, conn.RemoteAddr().String()
	if secured, ok := conn.(*tls.Conn); ok {
		a.certificates = secured.ConnectionState().PeerCertificates
	}
}
