package pve

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"
)

// The limits of PVE::APIServer::AnyEvent.
const (
	maxHeaders      = 64
	maxHeaderBytes  = 8 << 10
	maxRequests     = 100 // on one connection
	idleTimeout     = 5 * time.Second
	handshakeLimit  = 30 * time.Second
	drainLimit      = 2 * time.Second
	drainBytes      = 16 << 20
	compressionFrom = 1024 // bytes
	jsonType        = "application/json;charset=UTF-8"
)

// request is one request as it came.
type request struct {
	method, target string
	path, query    string // path without escapes
	proto          string
	minor          int
	header         http.Header
	body           []byte
	client         string
	keepAlive      bool
	creds          credentials
	user           string // who sent it, where that was checked
	node           *node  // that was asked
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

// serve handles one connection until it ends.
func (s *Server) serve(n *node, conn net.Conn) {
	raw := conn
	defer func() {
		_ = conn.Close() // says goodbye where it is TLS
		s.conns.forget(raw)
	}()
	in := bufio.NewReaderSize(conn, 4096)
	_ = conn.SetReadDeadline(time.Now().Add(handshakeLimit))
	first, err := in.Peek(1)
	if err != nil {
		return
	}
	plain := first[0] != 0x16
	if !s.travel(2) {
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
	for left := maxRequests; left > 0; left-- {
		_ = conn.SetReadDeadline(time.Now().Add(idleTimeout))
		r, res := readRequest(in)
		if r == nil && res == nil {
			return
		}
		if r == nil {
			r = &request{proto: "HTTP/1.0"}
		}
		r.node = n
		r.client, _, _ = net.SplitHostPort(conn.RemoteAddr().String())
		r.keepAlive = r.keepAlive && left > 1
		if plain && res == nil {
			res = redirectToTLS(r)
		}
		if !s.exchange(conn, in, r, res) {
			s.drain(conn, in, r)
			return
		}
	}
}

// drain reads what a client still sends of a refused body, so that closing the
// connection does not take the answer away from it.
func (s *Server) drain(conn net.Conn, in *bufio.Reader, r *request) {
	length, _ := strconv.ParseInt(r.header.Get("Content-Length"), 10, 64)
	if int64(len(r.body)) == max(length, 0) && r.header.Get("Transfer-Encoding") == "" {
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

// redirectToTLS answers plain HTTP, as a node does since libpve-http-server 4.2.
func redirectToTLS(r *request) *response {
	r.keepAlive = false
	res := &response{status: 301, reason: "Moved Permanently", header: http.Header{}}
	res.header.Set("Location", "https://"+r.header.Get("Host")+r.target)
	return res
}

var known = map[string]bool{"GET": true, "POST": true, "PUT": true, "DELETE": true}

// readRequest reads the head of a request. Both results are nil where the
// connection is at its end.
func readRequest(in *bufio.Reader) (*request, *response) {
	line, err := readLine(in, maxHeaderBytes)
	for err == nil && line == "" {
		line, err = readLine(in, maxHeaderBytes)
	}
	if err != nil {
		return nil, nil
	}
	method, rest, ok1 := strings.Cut(line, " ")
	target, proto, ok2 := strings.Cut(rest, " ")
	var major, minor int
	if _, err := fmt.Sscanf(proto, "HTTP/%d.%d", &major, &minor); !ok1 || !ok2 || err != nil {
		return nil, plainError(400, "bad request")
	}
	r := &request{method: method, target: target, proto: proto, minor: minor, header: http.Header{}}
	if major != 1 {
		return r, plainError(506, fmt.Sprintf("http protocol version %d.%d not supported", major, minor))
	}
	raw, query, _ := strings.Cut(target, "?")
	raw, _, _ = strings.Cut(raw, "#")
	r.path, r.query = unescape(raw), query
	key, size := "", 0
	for n := 0; ; n++ {
		line, err := readLine(in, maxHeaderBytes)
		if err != nil {
			return nil, nil
		}
		if line == "" {
			break
		}
		if size += len(line); n >= maxHeaders-1 || size >= maxHeaderBytes {
			return nil, nil // a node logs it and lets the client wait
		}
		if k, v, ok := strings.Cut(line, ":"); ok && k != "" && !strings.ContainsAny(strings.TrimRight(k, " \t"), " \t") {
			key = textproto.CanonicalMIMEHeaderKey(strings.TrimRight(k, " \t"))
			r.header[key] = append(r.header[key], strings.TrimLeft(v, " \t"))
		} else if key != "" && (line[0] == ' ' || line[0] == '\t') {
			vs := r.header[key]
			vs[len(vs)-1] += " " + strings.TrimLeft(line, " \t")
		} else {
			return r, plainError(506, "unable to parse request header")
		}
	}
	r.keepAlive = r.minor >= 1
	if c := r.header.Get("Connection"); c != "" {
		r.keepAlive = !strings.Contains(strings.ToLower(c), "close")
	}
	return r, nil
}

var errLine = errors.New("line too long")

func readLine(in *bufio.Reader, limit int) (string, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			return strings.TrimSuffix(string(line[:len(line)-1]), "\r"), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return "", err
		}
		if len(line) > limit {
			return "", errLine
		}
	}
}

// plainError is an error of the server itself: no JSON.
func plainError(status int, text string) *response {
	return &response{status: status, reason: text, body: []byte(text)}
}

// exchange answers one request and says whether the connection goes on.
func (s *Server) exchange(conn net.Conn, in *bufio.Reader, r *request, res *response) bool {
	rule := s.rules.Match(r.method, strings.TrimPrefix(r.path, "/api2/json"))
	entry := s.seen.Begin(r.method, r.target)
	if res == nil {
		res = s.readBody(in, r)
	}
	_ = conn.SetReadDeadline(time.Time{})
	f := s.inject(rule)
	if f.drop {
		return false
	}
	if res == nil && f.answer == nil {
		res = s.handle(r)
	} else if res == nil && f.rule.Process {
		s.handle(r)
	}
	if f.answer != nil {
		res = f.answer
	}
	if f.rule != nil && f.rule.After != nil {
		f.rule.After()
	}
	if f.rule != nil && f.rule.DropAnswer {
		s.seen.End(entry, 0, r.user)
		return false
	}
	if res.delayed {
		res.wait = s.opts.Delay401
	}
	if !s.pause(res.wait) {
		return false
	}
	if !s.travel(1) {
		return false
	}
	s.seen.End(entry, res.status, r.user)
	s.log.Info("request", "method", r.method, "path", r.path, "status", res.status, "user", r.user)
	return s.write(conn, r, f.adjust(res), f.rule)
}

// readBody reads the body and checks what is checked before a request is
// looked at: the method, the length, the credentials and the content type.
func (s *Server) readBody(in *bufio.Reader, r *request) *response {
	modern := s.api.version.has(sinceMessageInBody)
	fail := func(status int, text string) *response {
		res := plainError(status, text)
		if !modern {
			res.body = nil
		}
		return res
	}
	if !known[r.method] {
		return &response{status: 501, reason: "method '" + r.method + "' not available"}
	}
	if te := r.header.Get("Transfer-Encoding"); strings.EqualFold(te, "chunked") {
		return fail(501, "chunked transfer encoding not supported")
	} else if te != "" {
		return fail(501, "Unknown transfer encoding '"+te+"'")
	}
	if strings.HasPrefix(r.path, "/api2") {
		format, path := splitFormat(r.path)
		if format == "" {
			return fail(501, "no such uri")
		}
		r.creds = r.credentials()
		user, err := s.authenticate(r.node, r.method, path, r.creds)
		if err != nil {
			return &response{status: 401, reason: err.Error(), delayed: true}
		}
		r.user = user
	}
	length, _ := strconv.ParseInt(r.header.Get("Content-Length"), 10, 64)
	if length <= 0 {
		return nil
	}
	if r.method != "PUT" && r.method != "POST" {
		return fail(501, "Unexpected content for method '"+r.method+"'")
	}
	limit := int64(64 << 10)
	if s.api.version.has(sinceBigBodies) {
		limit = 512 << 10
	}
	if length > limit {
		return fail(501, "for data too large")
	}
	contentType := r.header.Get("Content-Type")
	switch mediaType(contentType) {
	case "", "application/x-www-form-urlencoded", "application/json":
	default:
		// So answers the real proxy, as recorded (create-text-plain).
		return fail(506, "upload 'Content-Type '"+contentType+"' not implemented")
	}
	r.body = make([]byte, length)
	if _, err := io.ReadFull(in, r.body); err != nil {
		return &response{status: 400, reason: "bad request"} // nobody is there to read it
	}
	return nil
}

func mediaType(s string) string {
	if i := strings.IndexAny(s, ";,"); i >= 0 {
		s = s[:i]
	}
	return strings.TrimRight(s, " \t")
}

// splitFormat splits /api2/FORMAT/PATH.
func splitFormat(path string) (format, rest string) {
	p := strings.TrimLeft(strings.TrimPrefix(path, "/api2"), "/")
	if p == strings.TrimPrefix(path, "/api2") {
		return "", "" // no slash
	}
	format, rest, ok := strings.Cut(p, "/")
	for i, c := range format {
		if letter, digit := c >= 'a' && c <= 'z', c >= '0' && c <= '9'; !letter && (i == 0 || !digit) {
			return "", ""
		}
	}
	if len(format) < 2 {
		return "", ""
	}
	if rest = strings.TrimSuffix(rest, "\n"); strings.Contains(rest, "\n") {
		return "", ""
	}
	if !ok {
		return format, "/"
	}
	return format, "/" + rest
}

// handle answers a request whose credentials are fine.
func (s *Server) handle(r *request) *response {
	modern := s.api.version.has(sinceMessageInBody)
	fail := func(text string) *response {
		if !modern {
			return &response{status: 501, reason: text}
		}
		return plainError(500, text)
	}
	if !strings.HasPrefix(r.path, "/api2") {
		if r.method == "GET" && r.path == "/" {
			return &response{
				status: 200, reason: "OK", contentType: "text/html; charset=utf-8",
				body: []byte("<!DOCTYPE html><title>Proxmox VE stand-in</title><p>A stand-in for the access API of Proxmox VE.</p>\n"),
			}
		}
		return fail("no such file '" + r.path + "'\n")
	}
	format, path := splitFormat(r.path)
	if format != "json" && format != "extjs" {
		res := plainError(501, "no formatter for uri "+path+", "+format)
		if !modern {
			res.body = nil
		}
		return res
	}
	params, err := s.parameters(r)
	if err != nil {
		return fail(err.Error() + "\n")
	}
	c := &call{user: r.user, client: r.client, asked: r.node, node: r.node}
	e, uri := s.api.find(r.method, path)
	if e == nil { // so answers the real proxy, as recorded (unknown-path)
		return s.answer(format, nil, &apiError{status: 501, msg: "Method '" + r.method + " " + path + "' not implemented"})
	}
	if err := s.api.prepare(e, uri, params, c, r.creds.token != ""); err != nil {
		return s.answer(format, nil, err)
	}
	if name, ok := c.params["node"]; ok && strings.Contains(e.path, "{node}") {
		if c.node = s.node(text(name), r.node); c.node == nil {
			return s.answer(format, nil, dief("hostname lookup '%s' failed - failed to get address info for: %[1]s: Name or service not known", text(name)))
		}
		if !c.node.on() {
			return c.node.unreachable()
		}
	}
	if !e.proxied {
		data, err := s.api.run(e, c)
		return s.answer(format, data, err)
	}
	if mediaType(r.header.Get("Content-Type")) != "application/json" || !s.api.version.has(sinceJSONForwarding) {
		c.params = formParams(c.params)
	}
	res := s.proxy(c.node, func(worker int) *response {
		c.worker = worker
		data, err := s.api.run(e, c)
		return s.answer(format, data, err)
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
	gone := &response{status: 596, reason: "Connection timed out"}
	done := make(chan *response, 1)
	run := func(worker int) {
		defer func() { n.workers <- worker }()
		done <- work(worker)
	}
	select {
	case worker := <-n.workers:
		s.background(func() { run(worker) })
	case <-limit.C:
		// The request waits in the daemon's queue and is worked on later.
		s.background(func() {
			select {
			case worker := <-n.workers:
				run(worker)
			case <-s.ctx.Done():
			}
		})
		return gone
	case <-s.ctx.Done():
		return gone
	}
	select {
	case res := <-done:
		return res
	case <-limit.C:
		return gone
	case <-s.ctx.Done():
		return gone
	}
}

// formParams is what becomes of parameters that the proxy forwards to the daemon as a form.
func formParams(params map[string]any) map[string]any {
	form := map[string]any{}
	for k, v := range params {
		switch v := v.(type) {
		case nil:
			form[k] = nil
		case []any:
			if len(v) == 0 {
				continue // a form has no empty lists
			}
			var parts []string
			for _, e := range v {
				parts = append(parts, text(e))
			}
			form[k] = strings.Join(parts, "\x00")
		default:
			form[k] = text(v)
		}
	}
	return form
}

// parameters are those of body and query; the query's win.
func (s *Server) parameters(r *request) (map[string]any, error) {
	params := map[string]any{}
	if r.method == "PUT" || r.method == "POST" {
		if mediaType(r.header.Get("Content-Type")) == "application/json" {
			v, err := decodeJSON(string(r.body))
			if err != nil {
				return nil, died(err.Error() + " at PVE/APIServer/AnyEvent.pm line N.")
			}
			switch v := v.(type) {
			case map[string]any:
				params = v
			case nil:
			case []any, bool:
				return nil, died("Not a HASH reference at PVE/APIServer/AnyEvent.pm line N.")
			default:
				return nil, died(fmt.Sprintf("Can't use string (\"%.32s\") as a HASH ref while \"strict refs\" in use at PVE/APIServer/AnyEvent.pm line N.", v))
			}
		} else {
			params = decodeForm(string(r.body))
		}
	}
	if r.query != "" {
		for k, v := range decodeForm(r.query) {
			params[k] = v
		}
	}
	delete(params, "_dc")
	return params, nil
}

// answer formats what a handler returned (PVE::APIServer::Formatter::Standard).
func (s *Server) answer(format string, data any, err error) *response {
	body := map[string]any{"data": data}
	res := &response{status: 200, reason: "OK", contentType: jsonType}
	switch d := data.(type) {
	case raw:
		return &response{status: 200, reason: "OK", contentType: "application/json", body: []byte(d), gzip: true}
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
		if s.api.version.has(sinceMessageInBody) || format == "extjs" {
			body["message"] = e.msg
		}
	}
	if format == "extjs" {
		body["success"] = bit(err == nil)
		if err != nil {
			body["status"] = res.status
		}
		res.status, res.reason = 200, "OK"
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
	body := res.body
	var encoding string
	if res.gzip {
		body, encoding = compress(body, "gzip")
	} else if len(body) > compressionFrom && rule == nil {
		body, encoding = compress(body, r.header.Get("Accept-Encoding"))
	}
	announced := int64(len(body))
	if rule != nil {
		announced += rule.Pad
	}
	reason, _, _ := strings.Cut(res.reason, "\n")
	if reason == "" {
		reason = http.StatusText(res.status)
	}
	now := time.Now().UTC().Format(http.TimeFormat)
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %d %s\r\n", r.proto, res.status, reason)
	b.WriteString("Cache-Control: max-age=0\r\n")
	switch {
	case keep && res.proxied:
		b.WriteString("Connection: close\r\nConnection: Keep-Alive\r\n")
	case keep:
		b.WriteString("Connection: Keep-Alive\r\n")
	default:
		b.WriteString("Connection: close\r\n")
	}
	fmt.Fprintf(&b, "Date: %s\r\nPragma: no-cache\r\n", now)
	for k, vs := range res.header {
		for _, v := range vs {
			fmt.Fprintf(&b, "%s: %s\r\n", k, v)
		}
	}
	b.WriteString("Server: pve-api-daemon/3.0\r\n")
	if encoding != "" {
		fmt.Fprintf(&b, "Content-Encoding: %s\r\n", encoding)
	}
	if announced > 0 && (rule == nil || !rule.Endless) {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", announced)
	} else {
		keep = false // without a length, the end of the connection is the end of the answer
	}
	if res.contentType != "" {
		fmt.Fprintf(&b, "Content-Type: %s\r\n", res.contentType)
	}
	fmt.Fprintf(&b, "Expires: %s\r\n\r\n", now)
	if rule != nil {
		return rule.Write(s.ctx, conn, b.Bytes(), body) && keep
	}
	b.Write(body)
	_, err := conn.Write(b.Bytes())
	return err == nil && keep
}

// compress does as a client allows it to.
func compress(body []byte, accept string) ([]byte, string) {
	var b bytes.Buffer
	var w io.WriteCloser
	var encoding string
	switch {
	case strings.Contains(accept, "gzip"):
		w, encoding = gzip.NewWriter(&b), "gzip"
	case strings.Contains(accept, "deflate"):
		w, encoding = zlib.NewWriter(&b), "deflate"
	default:
		return body, ""
	}
	_, _ = w.Write(body)
	_ = w.Close()
	return b.Bytes(), encoding
}
