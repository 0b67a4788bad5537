package pve

import (
	"bytes"
	"compress/gzip"
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
	"strings"
	"sync/atomic"
	"time"

	"proxmox-realm/internal/check"
)

// errTimeout is the cause of a context that ended because a request took too long, to tell that from its caller's end.
var errTimeout = errors.New("the request timed out")

// transport lies between go-proxmox and the network. It gives back an answer that holds `{"data": …}`, complete and within
// the bound of its exchange, or an [Error]: never another status, never a body that is still to be read.
type transport struct {
	base    http.RoundTripper
	cleaner *check.Cleaner
	log     *slog.Logger

	requests, handshakes, resumed atomic.Int64
	date                          atomic.Pointer[clocks]
}

// clocks is one moment on both sides.
type clocks struct{ server, local time.Time }

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	x, _ := req.Context().Value(exchangeKey{}).(exchange)
	begin := time.Now()
	var p progress
	ctx := httptrace.WithClientTrace(req.Context(), t.trace(&p))

	res, err := t.base.RoundTrip(req.WithContext(ctx))
	var body []byte
	var cut error
	if res != nil {
		body, cut = io.ReadAll(io.LimitReader(res.Body, x.limit+1))
		_ = res.Body.Close()
		if cut == nil {
			body = unzipped(res, body, x.limit)
		}
	}

	e := &Error{
		Endpoint: req.URL.Scheme + "://" + req.URL.Host, Method: req.Method,
		Path: strings.TrimPrefix(req.URL.Path, base), sent: p.sent.Load(), who: x.who,
	}
	switch {
	case err != nil:
		t.disconnected(ctx, e, err, &p)
	case cut != nil && res.StatusCode >= 200 && res.StatusCode < 300:
		e.Status = res.StatusCode
		t.disconnected(ctx, e, cut, &p)
	default: // of a refusal, the status line is enough
		e.Status = res.StatusCode
		t.read(e, res, body, x)
	}
	t.record(ctx, e, time.Since(begin))
	if e.Kind != "" {
		e.Lost = x.mode == write && e.sent && e.undecided()
		return nil, explained(e)
	}
	t.clock(res, &p)
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

// unzipped undoes gzip, which some reverse proxies apply though nobody asked for it (RFC 9110 section 12.5.3 lets them), up to
// one byte past the limit. What is no gzip stays as it is, and keeps its Content-Encoding.
func unzipped(res *http.Response, body []byte, limit int64) []byte {
	if !strings.EqualFold(res.Header.Get("Content-Encoding"), "gzip") {
		return body
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return body
	}
	whole, err := io.ReadAll(io.LimitReader(z, limit+1))
	if err != nil {
		return body
	}
	res.Header.Del("Content-Encoding")
	return whole
}

// progress is how far a request came.
type progress struct {
	connected, shaking, sent atomic.Bool
	left, came               atomic.Int64 // Unix nanoseconds
}

func (t *transport) trace(p *progress) *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		ConnectDone: func(_, _ string, err error) {
			if err == nil {
				p.connected.Store(true)
			}
		},
		TLSHandshakeStart: func() { p.shaking.Store(true) },
		TLSHandshakeDone: func(s tls.ConnectionState, err error) {
			if err == nil {
				t.handshakes.Add(1)
				if s.DidResume {
					t.resumed.Add(1)
				}
			}
		},
		GotConn: func(httptrace.GotConnInfo) {
			t.requests.Add(1)
			p.sent.Store(true) // from here on it may have gone out
		},
		WroteRequest:         func(httptrace.WroteRequestInfo) { p.left.Store(time.Now().UnixNano()) },
		GotFirstResponseByte: func() { p.came.Store(time.Now().UnixNano()) },
	}
}

// read decides what an answer is. It leaves e.Kind empty where it is a success that can be used.
func (t *transport) read(e *Error, res *http.Response, body []byte, x exchange) {
	media, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	_, reason, _ := strings.Cut(res.Status, " ")
	switch {
	case res.StatusCode >= 300 && res.StatusCode < 400:
		e.Kind, e.Reason, e.Location = Redirected, t.cleaner.Clean(reason), t.cleaner.Clean(res.Header.Get("Location"))
		return
	case media == "text/html" || media == "application/xhtml+xml" || bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")):
		e.Kind, e.Reason = NotProxmox, "a web page"
		if res.StatusCode >= 300 {
			e.Reason = t.cleaner.Clean(res.Status) + ", " + e.Reason
		}
		return
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		t.refused(e, reason, body)
		return
	}
	switch {
	case int64(len(body)) > x.limit:
		e.Kind, e.Reason = BadAnswer, "larger than any right one"
	case res.Header.Get("Content-Encoding") != "":
		e.Kind, e.Reason = BadAnswer, "in an encoding that was not asked for"
	case media != "application/json":
		e.Kind, e.Reason = NotProxmox, "no JSON"
	default:
		var answer map[string]json.RawMessage
		if err := json.Unmarshal(body, &answer); err != nil {
			e.Kind, e.Reason = BadAnswer, "no JSON object, or not the whole of one"
		} else if _, ok := answer["data"]; !ok {
			e.Kind, e.Reason = NotProxmox, "JSON without data"
		}
	}
}

// refused reads an answer outside 2xx. Proxmox's message is in the reason phrase, its first line only; newer nodes repeat the
// whole of it in the body, where it survives reverse proxies that write reason phrases of their own.
func (t *transport) refused(e *Error, reason string, body []byte) {
	var answer struct {
		Message string         `json:"message"`
		Errors  map[string]any `json:"errors"`
	}
	_ = json.Unmarshal(body, &answer) // older nodes, and 401, have no body
	said := answer.Message
	if strings.TrimSpace(said) == "" {
		said = reason
	}
	fields := map[string]string{}
	for name, says := range answer.Errors {
		if s, ok := says.(string); ok && len(fields) < 32 {
			fields[name] = s
		}
	}
	classify(e, said, fields, t.cleaner)
}

// disconnected reads the end of a connection that came before that of an answer.
func (t *transport) disconnected(ctx context.Context, e *Error, err error, p *progress) {
	switch {
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), errTimeout):
		e.interrupted(ctx)
		return
	case t.untrusted(e, err):
		return
	case !e.sent:
		e.Kind = Unreachable
	case ctx.Err() != nil || isTimeout(err):
		e.Kind = TimedOut
	default:
		e.Kind = Broken
	}
	e.Reason, e.advice = t.describe(err, p, e)
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, errTimeout) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

func (t *transport) record(ctx context.Context, e *Error, took time.Duration) {
	if t.log == nil || !t.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attrs := []slog.Attr{
		slog.String("endpoint", e.Endpoint), slog.String("method", e.Method), slog.String("path", t.cleaner.Clean(e.Path)),
		slog.Int("status", e.Status), slog.Duration("took", took.Round(time.Microsecond)),
	}
	if e.Kind != "" {
		attrs = append(attrs, slog.String("kind", string(e.Kind)))
	}
	t.log.LogAttrs(ctx, slog.LevelDebug, "proxmox", attrs...)
}

func (t *transport) clock(res *http.Response, p *progress) {
	server, err := http.ParseTime(res.Header.Get("Date"))
	left, came := p.left.Load(), p.came.Load()
	if err != nil || left == 0 || came < left {
		return
	}
	t.date.Store(&clocks{server: server, local: time.Unix(0, left+(came-left)/2)})
}
