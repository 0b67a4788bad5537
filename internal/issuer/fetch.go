package issuer

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
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
	maxBody      = 1 << 20 // of a discovery document or key set
	maxHeader    = 64 << 10
	maxRedirects = 5
	maxRetry     = 24 * time.Hour // of a Retry-After that is believed
)

// newTransport returns the one way to an issuer. HTTP/1.1 as Proxmox speaks it; nothing is decompressed unseen.
func newTransport(roots *x509.CertPool) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{}).DialContext, // bounded by each request's context
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		Protocols:              protocols,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        30 * time.Second,
	}
}

// stage is how far a request came.
type stage int

const (
	stageStart stage = iota
	stageDNS
	stageTCP
	stageTLS
	stageSent // TLS stands, or an open connection was used again
	stageAnswered
)

// answer is what became of a request: as much as came, and what stopped the rest.
type answer struct {
	url      string // that was asked; after redirects, the last one
	status   int
	header   http.Header
	body     []byte
	location *url.URL // of a redirect that was not followed, absolute
	err      error

	stage        stage
	proxy        bool   // the connection went by way of a proxy
	remote       string // address and port
	tlsVersion   uint16
	certificates []*x509.Certificate
	chains       [][]*x509.Certificate
	sent, first  time.Time // request written, first byte of the answer
	took         time.Duration
	redirected   int
	clean        *check.Cleaner // for what is shown of it
}

var (
	errTooLarge     = fmt.Errorf("larger than %d KiB", maxBody>>10)
	errRedirects    = fmt.Errorf("more than %d redirects", maxRedirects)
	errRedirectAway = errors.New("redirects elsewhere")
)

// arrived tells whether a whole answer came.
func (a answer) arrived() bool { return a.status != 0 && a.err == nil }

// retryAfter returns the header of that name (RFC 9110 section 10.2.3); 0 where there is none.
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

// mediaType returns the content type without parameters, in lower case.
func (a answer) mediaType() string {
	kind, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

// get fetches a document of the issuer. It follows redirects as long as they stay on https and on the same host.
func (c *Client) get(ctx context.Context, address string) answer {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var a answer
	for hop := 0; ; hop++ {
		before := a
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return answer{url: address, err: err, clean: c.cleaner}
		}
		req.Header.Set("Accept", "application/json")
		a = c.once(req, maxBody)
		a.redirected = hop
		if a.certificates == nil { // an open connection was used again
			a.certificates, a.chains, a.tlsVersion = before.certificates, before.chains, before.tlsVersion
		}
		a.took = time.Since(begin)
		switch {
		case a.err != nil || a.location == nil:
			return a
		case a.location.Scheme != "https" || !strings.EqualFold(a.location.Host, req.URL.Host):
			a.err = errRedirectAway
			return a
		case hop == maxRedirects:
			a.err = errRedirects
			return a
		}
		address = a.location.String()
	}
}

// once sends one request and reads its answer, up to limit bytes of body. It follows nothing.
func (c *Client) once(req *http.Request, limit int) (a answer) {
	begin := time.Now()
	a.url, a.clean = req.URL.String(), c.cleaner
	req.Header.Set("User-Agent", c.userAgent)
	req.Header.Set("Accept-Encoding", "identity")

	// The hooks may run after RoundTrip returned, on connections that lost a race.
	var mu sync.Mutex
	var seen answer
	advance := func(to stage, more func()) {
		mu.Lock()
		defer mu.Unlock()
		seen.stage = max(seen.stage, to)
		if more != nil {
			more()
		}
	}
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		DNSStart:          func(httptrace.DNSStartInfo) { advance(stageDNS, nil) },
		ConnectStart:      func(_, _ string) { advance(stageTCP, nil) },
		TLSHandshakeStart: func() { advance(stageTLS, nil) },
		TLSHandshakeDone: func(s tls.ConnectionState, err error) {
			if err == nil {
				advance(stageSent, func() {
					seen.certificates, seen.chains, seen.tlsVersion = s.PeerCertificates, s.VerifiedChains, s.Version
				})
			}
		},
		GotConn: func(g httptrace.GotConnInfo) {
			advance(stageSent, func() { seen.remote = g.Conn.RemoteAddr().String() })
		},
		WroteRequest:         func(httptrace.WroteRequestInfo) { advance(stageSent, func() { seen.sent = time.Now() }) },
		GotFirstResponseByte: func() { advance(stageAnswered, func() { seen.first = time.Now() }) },
	}))
	if through, err := c.transport.Proxy(req); err == nil && through != nil {
		a.proxy = true
	}

	resp, err := c.transport.RoundTrip(req)
	mu.Lock()
	a.stage, a.remote, a.sent, a.first = seen.stage, seen.remote, seen.sent, seen.first
	a.certificates, a.chains, a.tlsVersion = seen.certificates, seen.chains, seen.tlsVersion
	mu.Unlock()
	defer func() { a.took = time.Since(begin) }()
	if err != nil {
		a.err = err
		if untrusted := (*tls.CertificateVerificationError)(nil); errors.As(err, &untrusted) {
			a.certificates = untrusted.UnverifiedCertificates
		}
		return a
	}
	defer func() { _ = resp.Body.Close() }()
	a.status, a.header = resp.StatusCode, resp.Header
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		a.location, _ = resp.Location() // absolute; nil where there is none
	}
	a.body, a.err = readBody(resp, limit)
	if a.err == nil {
		// Closing the connection at the deadline may make the server end a half body as if it were whole.
		a.err = req.Context().Err()
	}
	return a
}

// readBody reads a body and undoes gzip, which Proxmox's HTTP client undoes too; neither form may be larger than limit.
func readBody(resp *http.Response, limit int) ([]byte, error) {
	body, err := readAll(resp.Body, limit)
	if err != nil {
		return body, err
	}
	switch encoding := strings.ToLower(resp.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
		return body, nil
	case "gzip", "x-gzip":
		unzipped, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, fmt.Errorf("content encoding gzip: %w", err)
		}
		return readAll(unzipped, limit)
	default:
		return nil, fmt.Errorf("content encoding %q, which was not asked for", encoding)
	}
}

func readAll(r io.Reader, limit int) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if len(body) > limit {
		return body[:limit], errTooLarge
	}
	return body, err
}
