package proxmox

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
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
var errTimeout = errors.New("the request timed out")

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
	cleaner *check.Cleaner
	log     *slog.Logger

	onRequest func() (ended func()) // see [Options.OnRequest]

	requests atomic.Int64
	offset   atomic.Pointer[time.Duration]
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.onRequest != nil {
		defer t.onRequest()()
	}
	r, _ := req.Context().Value(requestKey{}).(request)
	begin := time.Now()
	var p progress
	ctx := httptrace.WithClientTrace(req.Context(), t.trace(&p))

	res, err := t.base.RoundTrip(req.WithContext(ctx))
	var body []byte
	var broken error
	if res != nil {
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
		Path: strings.TrimPrefix(req.URL.Path, base), sent: p.sent.Load(), who: r.as.name,
	}
	switch {
	case err != nil:
		t.disconnected(ctx, e, err, &p)
	case broken != nil && res.StatusCode >= 200 && res.StatusCode < 300:
		e.Status = res.StatusCode
		t.disconnected(ctx, e, broken, &p)
	default: // the status line of a refusal suffices, even if its body is cut off
		e.Status = res.StatusCode
		t.read(e, res, body)
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

// progress records how far a request came.
type progress struct{ handshaking, sent atomic.Bool }

func (t *transport) trace(p *progress) *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		TLSHandshakeStart: func() { p.handshaking.Store(true) },
		GotConn: func(httptrace.GotConnInfo) {
			t.requests.Add(1)
			p.sent.Store(true) // from here on the request may have been sent
		},
	}
}

// read classifies an answer. It leaves e.Kind empty for a usable success.
func (t *transport) read(e *Error, res *http.Response, body []byte) {
	media, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	_, reason, _ := strings.Cut(res.Status, " ")
	page := media == "text/html" || media == "application/xhtml+xml" || bytes.HasPrefix(bytes.TrimSpace(body), []byte("<"))
	var answer map[string]json.RawMessage
	success := res.StatusCode >= 200 && res.StatusCode <= 299
	switch {
	case res.StatusCode >= 300 && res.StatusCode <= 399:
		e.Kind, e.Reason = NotProxmox, "it redirects to "+t.cleaner.Clean(res.Header.Get("Location")+" with status "+res.Status)
	case page:
		e.Kind, e.Reason = NotProxmox, "it sent a web page with status "+t.cleaner.Clean(res.Status)
	case !success:
		t.refused(e, reason, body)
	case len(body) > maxAnswer:
		e.Kind, e.Reason, e.tooLarge = NotProxmox, "its answer is too large", true
	case media != "application/json":
		e.Kind, e.Reason = NotProxmox, "it did not send JSON"
	case json.Unmarshal(body, &answer) != nil:
		e.Kind, e.Reason = NotProxmox, "its answer is not one complete JSON object"
	case answer["data"] == nil:
		e.Kind, e.Reason = NotProxmox, "its JSON has no member data"
	}
}

// refused reads an answer outside 2xx. Proxmox puts the first line of its message into the reason phrase. Newer nodes
// repeat the whole message in the body, which survives reverse proxies that replace the reason phrase.
func (t *transport) refused(e *Error, reason string, body []byte) {
	var answer struct {
		Message string         `json:"message"`
		Errors  map[string]any `json:"errors"`
	}
	_ = json.Unmarshal(body, &answer) // older nodes send no message, and a 401 has no body
	said := answer.Message
	if strings.TrimSpace(said) == "" {
		said = reason
	}
	fields := map[string]string{}
	for name, value := range answer.Errors {
		if text, ok := value.(string); ok && len(fields) < 32 {
			fields[name] = text
		}
	}
	classify(e, said, fields, t.cleaner)
}

// disconnected classifies a connection that ended before its answer was complete.
func (t *transport) disconnected(ctx context.Context, e *Error, err error, p *progress) {
	switch {
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), errTimeout):
		e.interrupted(ctx)
		return
	case t.untrusted(e, err):
		return
	case !e.sent:
		e.Kind = Unreachable
	default:
		e.Kind = NoAnswer
	}
	e.Reason, e.remedy = t.describe(err, p, e)
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, errTimeout) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

func (t *transport) record(ctx context.Context, e *Error, took time.Duration) {
	if t.log != nil {
		t.log.LogAttrs(ctx, slog.LevelDebug, "proxmox", slog.String("endpoint", string(e.Endpoint)),
			slog.String("method", e.Method), slog.String("path", e.Path), slog.Int("status", e.Status),
			slog.String("kind", string(e.Kind)), slog.Duration("took", took))
	}
}
