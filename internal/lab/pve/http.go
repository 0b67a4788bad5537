package pve

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"compress/zlib"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"proxmox-realm/internal/lab/standin"
)

// The limits of PVE::APIServer::AnyEvent.
const (
	idleTimeout     = 5 * time.Second
	handshakeLimit  = 30 * time.Second
	drainLimit      = 2 * time.Second
	drainBytes      = 16 << 20
	maxBody         = 512 << 10
	compressionFrom = 1024 // bytes
	jsonType        = "application/json;charset=UTF-8"
)

// request is one request as it came.
type request struct {
	*http.Request
	path      string // without escapes and query
	query     string
	body      []byte
	client    string
	keepAlive bool
	creds     credentials
	user      string // who sent it, where that was checked
	node      *node  // that was asked
	conn      net.Conn
}

// response is an answer, before the headers that every answer has.
type response struct {
	status      int
	reason      string
	header      http.Header
	contentType string
	body        []byte
	proxied     bool
	delayed     bool          // a 401: Proxmox delays its answer
	wait        time.Duration // before it is sent
	gzip        bool          // compressed in any case
}

// serve handles one connection until it ends. net/http cannot do it: the message of an error is in the reason phrase.
func (s *Server) serve(n *node, conn net.Conn) {
	raw := conn
	defer func() {
		_ = conn.Close() // says goodbye where it is TLS
		s.conns.forget(raw)
	}()
	in := bufio.NewReaderSize(conn, 4096)
	_ = conn.SetReadDeadline(time.Now().Add(handshakeLimit))
	first, err := in.Peek(1)
	if err != nil || !s.travel(2) {
		return
	}
	plain := first[0] != 0x16
	if !plain && s.rules.RefusesHandshake(n.listen) {
		_, _ = conn.Write([]byte("\x15\x03\x01\x00\x02\x02\x28")) // alert: handshake_failure
		return
	}
	if !plain {
		t := tls.Server(&peeked{Conn: conn, in: in}, n.tls)
		if err := t.HandshakeContext(s.ctx); err != nil {
			return
		}
		s.seen.Handshake(t.ConnectionState().DidResume)
		conn = t
		in = bufio.NewReaderSize(conn, 8192)
	}
	for {
		_ = conn.SetReadDeadline(time.Now().Add(idleTimeout))
		parsed, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		r := &request{Request: parsed, node: n, conn: raw, keepAlive: !parsed.Close}
		path, query, _ := strings.Cut(parsed.RequestURI, "?")
		r.path, r.query = unescape(path), query
		r.client, _, _ = net.SplitHostPort(conn.RemoteAddr().String())
		if plain {
			_ = s.write(conn, r, redirectToTLS(r), nil)
			return
		}
		if !s.exchange(conn, r) {
			s.drain(conn, in, r)
			return
		}
	}
}

// drain reads what a client still sends of a refused body, so that closing the
// connection does not take the answer away from it.
func (s *Server) drain(conn net.Conn, in *bufio.Reader, r *request) {
	if int64(len(r.body)) == r.ContentLength {
		return
	}
	if w, ok := conn.(interface{ CloseWrite() error }); ok && w.CloseWrite() != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(drainLimit))
	_, _ = io.CopyN(io.Discard, in, drainBytes)
}

// travel waits for so many round trips, and says whether the server still runs.
func (s *Server) travel(trips int) bool { return s.pause(time.Duration(trips) * s.opts.RoundTrip) }

// pause waits, and says whether the server still runs.
func (s *Server) pause(d time.Duration) bool {
	if d == 0 {
		return true
	}
	select {
	case <-time.After(d):
		return true
	case <-s.ctx.Done():
		return false
	}
}

// peeked is a connection whose first bytes were read already.
type peeked struct {
	net.Conn
	in *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.in.Read(b) }

// redirectToTLS answers plain HTTP.
func redirectToTLS(r *request) *response {
	r.keepAlive = false
	return &response{status: 301, header: http.Header{"Location": {"https://" + r.Host + r.RequestURI}}}
}

// plainError is an error of the server itself: no JSON.
func plainError(status int, text string) *response {
	return &response{status: status, reason: text, body: []byte(text)}
}

// exchange answers one request and says whether the connection goes on.
func (s *Server) exchange(conn net.Conn, r *request) bool {
	active := s.rules.Match(r.Method, r.node.listen, strings.TrimPrefix(r.path, "/api2/json"))
	entry := s.seen.Begin(r.Method, r.node.listen, r.RequestURI, active != nil)
	refused := s.readBody(r)
	_ = conn.SetReadDeadline(time.Time{})
	process := func() *response {
		if refused != nil {
			return refused
		}
		return s.handle(r)
	}
	var res *response
	var rule *Rule
	if active == nil {
		res = process()
	} else if res, rule = s.disturb(active, r, process), &active.Rule; res == nil {
		return false
	}
	if res.delayed {
		res.wait = s.opts.Delay401
	}
	if !s.pause(res.wait) || !s.travel(1) {
		return false
	}
	s.seen.End(entry, res.status, r.user)
	s.log.Info("request", "method", r.Method, "path", r.path, "status", res.status, "user", r.user)
	return s.write(conn, r, res, rule)
}

// disturb processes a request as a rule wants it. It returns nil if the connection is to be closed without an answer.
func (s *Server) disturb(active *standin.Active, r *request, process func() *response) *response {
	rule := &active.Rule
	lost := func() *response {
		if tcp, ok := r.conn.(*net.TCPConn); ok && rule.Reset {
			_ = tcp.SetLinger(0)
			_ = tcp.Close()
		}
		return nil
	}
	if rule.Drop && rule.Delay > 0 {
		s.background(func() {
			if s.pause(rule.Delay) {
				process()
			}
		})
		return lost()
	}
	if rule.Hang && rule.Process {
		process()
	}
	if !active.Wait(s.ctx) {
		return lost()
	}
	var res *response
	if rule.Status == 0 || rule.Process {
		res = process()
	}
	if rule.Twice {
		res = process()
	}
	res = answerOf(rule, res)
	if rule.After != nil {
		rule.After()
	}
	if rule.DropAnswer {
		return lost()
	}
	return res
}

// answerOf is what a rule makes of an answer.
func answerOf(rule *Rule, res *response) *response {
	if rule.Status != 0 {
		res = &response{status: rule.Status, reason: rule.Reason, body: []byte(rule.Body)}
		if rule.Body != "" {
			res.contentType = jsonType
		}
	}
	changed := *res
	changed.header = http.Header{}
	maps.Copy(changed.header, rule.Header)
	maps.Copy(changed.header, res.header)
	if rule.ContentType != "" {
		changed.contentType = strings.TrimPrefix(rule.ContentType, "-")
	}
	return &changed
}

// readBody reads the body and checks what is checked before a request is
// looked at: the method, the length, the credentials and the content type.
func (s *Server) readBody(r *request) *response {
	if !slices.Contains([]string{"GET", "POST", "PUT", "DELETE"}, r.Method) {
		return &response{status: 501, reason: "method '" + r.Method + "' not available"}
	}
	if len(r.TransferEncoding) > 0 {
		return plainError(501, "chunked transfer encoding not supported")
	}
	if path, ok := strings.CutPrefix(r.path, "/api2/json"); ok {
		r.creds = r.credentials()
		user, err := s.authenticate(r.node, r.Method, path, r.creds)
		if err != nil {
			return &response{status: 401, reason: err.Error(), delayed: true}
		}
		r.user = user
	}
	if r.ContentLength <= 0 {
		return nil
	}
	if r.Method != http.MethodPut && r.Method != http.MethodPost {
		return plainError(501, "Unexpected content for method '"+r.Method+"'")
	}
	if r.ContentLength > maxBody {
		return plainError(501, "for data too large")
	}
	switch contentType := r.Header.Get("Content-Type"); mediaType(contentType) {
	case "", "application/x-www-form-urlencoded", "application/json":
	default:
		// So answers the real proxy, as recorded (create-text-plain).
		return plainError(506, "upload 'Content-Type '"+contentType+"' not implemented")
	}
	r.body = make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, r.body); err != nil {
		return plainError(400, "bad request") // nobody is there to read it
	}
	return nil
}

func mediaType(s string) string {
	s, _, _ = strings.Cut(s, ";")
	return strings.TrimSpace(s)
}

// handle answers a request whose credentials are fine.
func (s *Server) handle(r *request) *response {
	path, ok := strings.CutPrefix(r.path, "/api2/json")
	if !ok && r.path == "/" {
		return &response{
			status: 200, contentType: "text/html; charset=utf-8",
			body: []byte("<!DOCTYPE html><title>Proxmox VE stand-in</title><p>A stand-in for the access API of Proxmox VE.</p>\n"),
		}
	}
	if !ok {
		return plainError(500, "no such file '"+r.path+"'\n")
	}
	params, err := s.parameters(r)
	if err != nil {
		return plainError(500, err.Error()+"\n")
	}
	c := &call{user: r.user, client: r.client, asked: r.node, node: r.node}
	e, uri := s.api.find(r.Method, path)
	if e == nil { // so answers the real proxy, as recorded (unknown-path)
		return s.answer(nil, &apiError{status: 501, msg: "Method '" + r.Method + " " + path + "' not implemented"})
	}
	if err := s.api.prepare(e, uri, params, c, r.creds.token != ""); err != nil {
		return s.answer(nil, err)
	}
	if name, ok := c.params["node"]; ok && strings.Contains(e.path, "{node}") {
		if c.node = s.node(text(name), r.node); c.node == nil {
			return s.answer(nil, dief("hostname lookup '%s' failed - failed to get address info for: %[1]s: Name or service not known", text(name)))
		}
		if !c.node.on() {
			return c.node.unreachable()
		}
	}
	if !e.proxied {
		return s.answer(s.api.run(e, c))
	}
	res := s.proxy(c.node, func(worker int) *response {
		c.worker = worker
		return s.answer(s.api.run(e, c))
	})
	res.proxied = true
	res.delayed = res.status == 401
	return res
}

// proxy hands work to one of the daemon's workers. It does not wait for it
// longer than the proxy does; the work goes on nevertheless.
func (s *Server) proxy(n *node, work func(worker int) *response) *response {
	limit := time.NewTimer(s.opts.IssuerTimeout)
	defer limit.Stop()
	done := make(chan *response, 1)
	s.background(func() {
		select {
		case worker := <-n.workers:
			defer func() { n.workers <- worker }()
			done <- work(worker)
		case <-s.ctx.Done():
		}
	})
	select {
	case res := <-done:
		return res
	case <-limit.C: // the request stays in the daemon's queue
	case <-s.ctx.Done():
	}
	return &response{status: 596, reason: "Connection timed out"}
}

// parameters are those of body and query; the query's win.
func (s *Server) parameters(r *request) (map[string]any, error) {
	params := map[string]any{}
	if mediaType(r.Header.Get("Content-Type")) != "application/json" {
		params = decodeForm(string(r.body))
	} else if len(r.body) > 0 {
		v, err := decodeJSON(r.body)
		if err != nil {
			return nil, died(err.Error() + " at PVE/APIServer/AnyEvent.pm line N.")
		}
		object, ok := v.(map[string]any)
		if !ok && v != nil {
			return nil, died("Not a HASH reference at PVE/APIServer/AnyEvent.pm line N.")
		}
		params = object
	}
	if params == nil {
		params = map[string]any{}
	}
	maps.Copy(params, decodeForm(r.query))
	return params, nil
}

// answer formats what a handler returned (PVE::APIServer::Formatter::Standard).
func (s *Server) answer(data any, err error) *response {
	body := map[string]any{"data": data}
	res := &response{status: 200, contentType: jsonType}
	switch d := data.(type) {
	case raw:
		return &response{status: 200, contentType: "application/json", body: []byte(d), gzip: true}
	case total:
		body["data"], body["total"] = d.data, d.total
	}
	if err != nil {
		e, ok := errors.AsType[*apiError](err)
		if !ok {
			e = &apiError{status: 500, msg: err.Error() + "\n"}
		}
		res.status, res.reason = e.status, e.msg
		body["data"] = nil
		if e.errs != nil {
			body["errors"] = e.errs
		}
		if s.api.version.has(sinceMessageInBody) {
			body["message"] = e.msg
		}
	}
	res.body = marshal(body)
	return res
}

// marshal encodes what handlers answer with: maps, lists, texts and numbers.
func marshal(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// write sends an answer in one piece, as far as no rule is in the way, and says
// whether the connection goes on.
func (s *Server) write(conn net.Conn, r *request, res *response, rule *Rule) bool {
	if rule != nil && rule.Garbage != "" {
		_, _ = io.WriteString(conn, rule.Garbage)
		return false
	}
	keep := r.keepAlive && res.status < 400 && !res.gzip
	body, encoding := compress(r, res, rule)
	announced := int64(len(body))
	if rule != nil {
		announced += rule.Pad
	}
	reason, _, _ := strings.Cut(res.reason, "\n")
	now := time.Now().UTC().Format(http.TimeFormat)
	var b bytes.Buffer
	line := func(k, v string) { b.WriteString(k + ": " + v + "\r\n") }
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", res.status, cmp.Or(reason, http.StatusText(res.status)))
	line("Cache-Control", "max-age=0")
	if !keep || res.proxied {
		line("Connection", "close")
	}
	if keep {
		line("Connection", "Keep-Alive")
	}
	line("Date", now)
	line("Pragma", "no-cache")
	for k, vs := range res.header {
		for _, v := range vs {
			line(k, v)
		}
	}
	line("Server", "pve-api-daemon/3.0")
	if encoding != "" {
		line("Content-Encoding", encoding)
	}
	if announced > 0 && (rule == nil || !rule.Endless) {
		line("Content-Length", strconv.FormatInt(announced, 10))
	} else {
		keep = false // without a length, the end of the connection is the end of the answer
	}
	if res.contentType != "" {
		line("Content-Type", res.contentType)
	}
	line("Expires", now+"\r\n")
	if rule != nil {
		return rule.Write(s.ctx, conn, b.Bytes(), body) && keep
	}
	b.Write(body)
	_, err := conn.Write(b.Bytes())
	return err == nil && keep
}

// compress does as a client allows it to.
func compress(r *request, res *response, rule *Rule) (body []byte, encoding string) {
	accept := r.Header.Get("Accept-Encoding")
	var b bytes.Buffer
	var w io.WriteCloser
	switch {
	case res.gzip:
		w, encoding = gzip.NewWriter(&b), "gzip"
	case len(res.body) <= compressionFrom || rule != nil:
		return res.body, ""
	case strings.Contains(accept, "gzip"):
		w, encoding = gzip.NewWriter(&b), "gzip"
	case strings.Contains(accept, "deflate"):
		w, encoding = zlib.NewWriter(&b), "deflate"
	default:
		return res.body, ""
	}
	_, _ = w.Write(res.body)
	_ = w.Close()
	return b.Bytes(), encoding
}
