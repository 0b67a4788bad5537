package proxmox

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
)

// maxAnswer bounds the size of an answer: it holds the users and grants of a large cluster.
const maxAnswer = 8 << 20

// errTimeout is the cause of a context that ended by the client's own timeout, not by its caller.
var errTimeout = fmt.Errorf("the request timed out: %w", context.DeadlineExceeded)

// newBase returns the transport that makes connections. It speaks HTTP/1.1, as Proxmox does.
func newBase(trust *tls.Config, timeout time.Duration) *http.Transport {
	connect := min(timeout, 10*time.Second) // the time until the next node is asked if this one is off
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: connect, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:        trust,
		TLSHandshakeTimeout:    connect,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        4 * time.Second, // PVE::APIServer::AnyEvent closes idle connections after 5
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	t.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, res *http.Response) error {
		if res.StatusCode != http.StatusOK {
			return &net.OpError{Op: "proxyconnect", Err: errors.New(res.Status)}
		}
		return nil
	}
	return t
}

// transport lies between go-proxmox and the network. It returns either a complete answer of the form `{"data": …}` within
// the size limit, or an [Error]. It follows no redirect.
type transport struct {
	base    http.RoundTripper
	dialect *dialect
	trust   config.Proxmox // how certificates are trusted
	cleaner *check.Cleaner
	log     *slog.Logger

	onRequest func() (ended func()) // see [Options.OnRequest]

	requests atomic.Int64
	offset   atomic.Pointer[time.Duration]
	served   atomic.Pointer[config.Fingerprint]
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.onRequest != nil {
		defer t.onRequest()()
	}
	r, _ := req.Context().Value(requestKey{}).(request)
	begin := time.Now()
	var p check.Progress
	ctx := httptrace.WithClientTrace(req.Context(), p.Trace())

	res, err := t.base.RoundTrip(req.WithContext(ctx))
	sent := p.Conn() != nil // the request may have been sent
	if sent {
		t.requests.Add(1)
	}
	var body []byte
	var broken error
	if res != nil {
		if res.TLS != nil && len(res.TLS.PeerCertificates) > 0 {
			served := fingerprint(res.TLS.PeerCertificates[0])
			t.served.Store(&served)
		}
		if server, err := http.ParseTime(res.Header.Get("Date")); err == nil {
			offset := time.Until(server)
			t.offset.Store(&offset)
		}
		body, broken = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1)) // bounded after decompression
		_ = res.Body.Close()
		body = wholeJournal(req.URL.Path, res.StatusCode, body)
	}

	e := &Error{
		Endpoint: config.Origin(req.URL.Scheme + "://" + req.URL.Host), Method: req.Method,
		Path: strings.TrimPrefix(req.URL.Path, base), sent: sent, who: r.as.name, dialect: t.dialect,
	}
	switch {
	case err != nil:
		t.disconnected(ctx, e, err, &p, r.limit)
	case broken != nil && res.StatusCode >= 200 && res.StatusCode < 300:
		e.Status = res.StatusCode
		t.disconnected(ctx, e, broken, &p, r.limit)
	default: // the status line of a refusal suffices, even if its body is cut off
		e.Status = res.StatusCode
		t.read(e, res, body, r.aside)
	}
	t.record(ctx, e, time.Since(begin))
	if e.Kind != "" {
		if e.Lost = r.write && e.sent && e.undecided(); e.Lost {
			e.causes = append(e.causes, realm.ErrLost)
		}
		return nil, explained(e)
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

// read classifies an answer. It leaves e.Kind empty for a usable success, of which it notes what stands beside the data.
func (t *transport) read(e *Error, res *http.Response, body []byte, aside *beside) {
	media, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	_, reason, _ := strings.Cut(res.Status, " ")
	var answer map[string]json.RawMessage
	foreign, hint := t.foreign(e, res, media, body)
	switch {
	case foreign != "":
		e.Kind, e.Reason, e.remedy = NotProxmox, foreign, hint
	case res.StatusCode < 200 || res.StatusCode > 299:
		said, fields := e.dialect.decode(reason, body)
		classify(e, said, fields, t.cleaner)
		e.foreign = e.Kind == BadCredentials && e.who != "" && e.dialect.foreignRefusal(res, body)
	case len(body) > maxAnswer:
		e.Kind, e.Reason, e.tooLarge = NotProxmox, "its answer is too large", true
	case media != "application/json":
		e.Kind, e.Reason = NotProxmox, "it did not send JSON"
	case json.Unmarshal(body, &answer) != nil:
		e.Kind, e.Reason = NotProxmox, "its answer is not one complete JSON object"
	case answer["data"] == nil:
		e.Kind, e.Reason = NotProxmox, "its JSON has no member data"
	case aside != nil:
		_ = json.Unmarshal(answer["digest"], &aside.digest) // only some products send one
		aside.cookies = res.Cookies()
	}
}

// foreign returns why an answer is not Proxmox's, and what to do about it: a redirect or a web page. It returns "" for others. A
// sign-in proxy answers instead of Proxmox in this way, and so does a load balancer whose node is down.
func (t *transport) foreign(e *Error, res *http.Response, media string, body []byte) (reason string, hint check.Hint) {
	const front = nodeItself + ": an API token does not pass a sign-in page"
	page := media == "text/html" || media == "application/xhtml+xml" || bytes.HasPrefix(bytes.TrimSpace(body), []byte("<"))
	status := t.cleaner.Clean(res.Status)
	switch {
	case res.StatusCode >= 300 && res.StatusCode <= 399:
		reason = "it redirects to " + t.cleaner.Clean(res.Header.Get("Location")) + " with status " + status
		if to, err := res.Location(); err == nil && to.Host != res.Request.URL.Host {
			return reason + ", as a sign-in proxy does", front
		}
		return reason, check.Hints(checkPort(e, e.dialect.product.Host()), front)
	case page && res.StatusCode >= 500:
		return "a load balancer or reverse proxy sent its error page with status " + status,
			check.Hints("check that the node behind it runs", nodeItself)
	case page:
		return "it sent a web page with status " + status + ", as a sign-in proxy or another service does", check.Hints(checkPort(e, e.dialect.product.Host()), front)
	}
	return "", ""
}

// beside is what an answer holds beside its data.
type beside struct {
	digest  string // of the file of realms, if it is not part of the realm
	cookies []*http.Cookie
}

// disconnected classifies a connection that ended before its answer was complete.
func (t *transport) disconnected(ctx context.Context, e *Error, err error, p *check.Progress, limit time.Duration) {
	c := p.Diagnose(err)
	switch {
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), errTimeout):
		e.interrupted(ctx)
		return
	case c.Stage == check.AtTrust:
		t.untrusted(e, c)
		return
	case !e.sent:
		e.Kind = Unreachable
	default:
		e.Kind = NoAnswer
	}
	e.Reason, e.remedy = t.describe(c, e)
	if e.timedOut = e.sent && c.Cause == check.TimedOut; e.timedOut && e.Path == authURLPath && limit >= hangs {
		e.Kind, e.remedy = IssuerHung, ""
	}
}

// hangs is the time after which an issuer that does not answer hangs. Proxmox VE gives up after it, the other products never.
const hangs = 30 * time.Second

func (t *transport) record(ctx context.Context, e *Error, took time.Duration) {
	if t.log != nil {
		t.log.LogAttrs(ctx, slog.LevelDebug, "proxmox", slog.String("endpoint", string(e.Endpoint)),
			slog.String("method", e.Method), slog.String("path", e.Path), slog.Int("status", e.Status),
			slog.String("kind", string(e.Kind)), slog.Duration("took", took))
	}
}
