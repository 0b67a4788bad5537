package pbs

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/lab/standin"
)

// The limits and content types of proxmox-rest-server.
const (
	maxTarget = 3072      // bytes of path and query
	maxBody   = 512 << 10 // bytes
	jsonType  = "application/json;charset=UTF-8"
	plainJSON = "application/json" // of tickets
)

// apiError is an error with a status. Every other error of a handler is a 400.
type apiError struct {
	status int
	text   string
}

func (e *apiError) Error() string { return e.text }

// refuse returns a 400 with a text of Proxmox.
func refuse(format string, args ...any) error {
	return &apiError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

var errForbidden = &apiError{http.StatusForbidden, "permission check failed"}

// response is an answer before it is sent. It has no content type if that is empty.
type response struct {
	status      int
	contentType string
	body        []byte
	header      http.Header
	closes      bool
}

// ServeHTTP answers one request, with the faults that tests injected.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.running.Add(1)
	defer s.running.Done()
	active := s.rules.Match(r.Method, r.Host, strings.TrimPrefix(r.URL.Path, "/api2/json"))
	entry := s.seen.Begin(r.Method, r.Host, r.RequestURI, active != nil)
	var res *response
	var user string
	rule := &Rule{}
	if active == nil {
		res, user = s.handle(r)
	} else {
		rule = &active.Rule
		res, user = s.disturb(active, r)
	}
	if res == nil || !s.travel(1) {
		hangUp(w, rule.Reset)
		return
	}
	s.seen.End(entry, res.status, user)
	s.log.Info("request", "method", r.Method, "path", r.URL.Path, "status", res.status, "user", user)
	s.write(w, r, res, rule)
}

// disturb processes a request as a rule wants it. It returns nil if the connection is to be closed without an answer.
func (s *Server) disturb(active *standin.Active, r *http.Request) (res *response, user string) {
	rule := &active.Rule
	body, _ := io.ReadAll(io.LimitReader(r.Body, maxBody+1)) // whoever sent it may be gone when it is processed
	process := func() (*response, string) {
		again := r.Clone(s.ctx)
		again.Body = io.NopCloser(bytes.NewReader(body))
		return s.handle(again)
	}
	if rule.Drop && rule.Delay > 0 {
		s.running.Go(func() {
			if s.sleep(rule.Delay) {
				process()
			}
		})
		return nil, ""
	}
	if rule.Hang && rule.Process {
		process()
	}
	if !active.Wait(s.ctx) {
		return nil, ""
	}
	if rule.Status == 0 || rule.Process {
		res, user = process()
	}
	if rule.Twice {
		res, user = process()
	}
	if rule.Status != 0 {
		res = &response{status: rule.Status, body: []byte(rule.Body)}
		if rule.Body != "" {
			res.contentType = jsonType
		}
	}
	if rule.After != nil {
		rule.After()
	}
	if rule.DropAnswer {
		return nil, user
	}
	if rule.ContentType != "" {
		res.contentType = strings.TrimPrefix(rule.ContentType, "-")
	}
	res.header = merge(rule.Header, res.header)
	return res, user
}

// hangUp closes a connection without an answer, by a TCP reset if that is wanted.
func hangUp(w http.ResponseWriter, reset bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // closes it too
	}
	defer func() { _ = conn.Close() }()
	raw := conn
	if secure, ok := conn.(*tls.Conn); ok {
		raw = secure.NetConn()
	}
	if peeked, ok := raw.(*peekedConn); ok {
		raw = peeked.Conn
	}
	if tcp, ok := raw.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
		_ = tcp.Close()
	}
}

func merge(a, b http.Header) http.Header {
	all := http.Header{}
	maps.Copy(all, a)
	maps.Copy(all, b)
	return all
}

// write sends an answer through net/http, or byte by byte where a rule wants what net/http refuses to send.
func (s *Server) write(w http.ResponseWriter, r *http.Request, res *response, rule *Rule) {
	if rule.Reason != "" || rule.Garbage != "" || rule.Pad > 0 || rule.Endless || rule.Slow > 0 || rule.Truncate || rule.TruncateHead {
		s.writeFaulty(w, res, rule)
		return
	}
	maps.Copy(w.Header(), res.header)
	w.Header()["Content-Type"] = nil // net/http would guess one
	if res.contentType != "" {
		w.Header().Set("Content-Type", res.contentType)
	}
	if res.closes {
		w.Header().Set("Connection", "close")
	}
	if res.contentType != "" && strings.Contains(r.Header.Get("Accept-Encoding"), "deflate") {
		w.Header().Set("Content-Encoding", "deflate")
		w.WriteHeader(res.status)
		_ = http.NewResponseController(w).Flush() // without a length
		compressed := zlib.NewWriter(w)
		_, _ = compressed.Write(res.body)
		_ = compressed.Close()
		return
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(res.body)))
	w.WriteHeader(res.status)
	_, _ = w.Write(res.body) // net/http keeps the body of a HEAD to itself
}

func (s *Server) writeFaulty(w http.ResponseWriter, res *response, rule *Rule) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(s.ctx, func() { _ = conn.Close() })()
	if rule.Garbage != "" {
		_, _ = io.WriteString(conn, rule.Garbage)
		return
	}
	reason := rule.Reason
	if reason == "" {
		reason = http.StatusText(res.status)
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 %d %s\r\nDate: %s\r\nConnection: close\r\n", res.status, reason, time.Now().UTC().Format(http.TimeFormat))
	if res.contentType != "" {
		fmt.Fprintf(&head, "Content-Type: %s\r\n", res.contentType)
	}
	if !rule.Endless {
		fmt.Fprintf(&head, "Content-Length: %d\r\n", int64(len(res.body))+rule.Pad)
	}
	_ = res.header.Write(&head) // to memory
	head.WriteString("\r\n")
	rule.Write(s.ctx, conn, head.Bytes(), res.body)
}

// handle answers a request, and says who sent it.
func (s *Server) handle(r *http.Request) (*response, string) {
	if r.TLS == nil {
		status := http.StatusPermanentRedirect
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			status = http.StatusMovedPermanently
		}
		return &response{status: status, header: http.Header{"Location": {"https://" + r.Host}}}, ""
	}
	components := strings.FieldsFunc(r.URL.Path, func(c rune) bool { return c == '/' })
	path := "/" + strings.Join(components, "/")
	switch {
	case slices.ContainsFunc(components, func(c string) bool { return strings.HasPrefix(c, ".") }):
		return s.plain(http.StatusBadRequest, "Path contains illegal components."), ""
	case len(path)+len(r.URL.RawQuery) > maxTarget:
		return s.plain(http.StatusRequestURITooLong, ""), ""
	case len(components) == 0 && r.Method == http.MethodGet:
		return &response{status: http.StatusOK, contentType: "text/html", body: []byte("<!DOCTYPE html><title>" + s.product.Name + " stand-in</title>\n")}, ""
	case len(components) == 0 || components[0] != "api2":
		return s.plain(http.StatusNotFound, "no such file: '"+strings.Join(components, "/")+"'"), ""
	case len(components) == 1:
		return s.plain(http.StatusNotFound, "invalid api path '/api2'"), ""
	case components[1] != "json":
		return s.plain(http.StatusBadRequest, "Unsupported output format '"+components[1]+"'."), ""
	}
	c := &call{s: s, request: r, peer: peerOf(r.RemoteAddr), extra: map[string]any{}}
	return s.serve(c, path, components[2:])
}

func (s *Server) plain(status int, text string) *response {
	return &response{status: status, body: []byte(text)}
}

// peerOf writes an address as a server that listens on [::] sees it.
func peerOf(address string) string {
	a, err := netip.ParseAddrPort(address)
	if err != nil || !a.Addr().Is4() {
		return address
	}
	return net.JoinHostPort("::ffff:"+a.Addr().String(), fmt.Sprint(a.Port()))
}

// serve checks credentials, path and permission, in this order, and runs the handler in its daemon.
func (s *Server) serve(c *call, path string, components []string) (*response, string) {
	e := s.find(c, components)
	if e == nil || !e.access.world {
		auth, err := s.authenticate(c.request)
		if err != nil {
			s.logFailure(s.product.proxy, c, "", err)
			s.sleep(s.opts.Delay401)
			res := s.answer(c, s.product.proxy, &apiError{http.StatusUnauthorized, "authentication failed"}, nil)
			res.contentType = ""
			return res, ""
		}
		c.auth = auth
	}
	if e == nil {
		return s.answer(c, s.product.proxy, &apiError{http.StatusNotFound, fmt.Sprintf("Path '%s' not found.", path)}, nil), c.auth
	}
	if !c.may(e.access) {
		return s.forbid(c, s.product.proxy), c.auth
	}
	if !e.protected {
		c.ctx = s.ctx
		return s.run(c, e, s.product.proxy), c.auth
	}
	res, err := s.daemon.run(func(ctx context.Context) *response {
		c.ctx, c.privileged = ctx, true
		if !c.may(e.access) {
			return s.forbid(c, s.product.daemon)
		}
		return s.run(c, e, s.product.daemon)
	})
	if err != nil {
		return s.answer(c, s.product.proxy, err, nil), c.auth
	}
	if res.status == http.StatusUnauthorized {
		s.sleep(s.opts.Delay401)
	}
	return res, c.auth
}

func (s *Server) forbid(c *call, identifier string) *response {
	s.sleep(s.opts.Delay403)
	return s.answer(c, identifier, errForbidden, nil)
}

// run reads the parameters and calls the handler.
func (s *Server) run(c *call, e *endpoint, identifier string) *response {
	var data any
	err := c.read(e)
	if err == nil {
		data, err = e.run(c)
	}
	return s.answer(c, identifier, err, data)
}

// read reads the parameters of path, query and body.
func (c *call) read(e *endpoint) (err error) {
	contentType, asJSON := c.request.Header.Get("Content-Type"), false
	switch media, _, _ := strings.Cut(contentType, ";"); media {
	case "", "application/x-www-form-urlencoded":
	case "application/json":
		asJSON = true
	default:
		return fmt.Errorf("unsupported content type Ok(%q)", contentType)
	}
	body, err := io.ReadAll(io.LimitReader(c.request.Body, maxBody))
	switch {
	case err != nil:
		return refuse("Problems reading request body: %s", err)
	case len(body) >= maxBody:
		return errTooLarge
	case asJSON:
		c.params, err = parseJSON(e.schema, body, c.path)
		return err
	}
	query := slices.DeleteFunc(decodeForm(c.request.URL.RawQuery), func(pair [2]string) bool { return pair[0] == "_dc" })
	c.params, err = parseForm(e.schema, slices.Concat(decodeForm(string(body)), query, c.path))
	return err
}

var errTooLarge = &apiError{http.StatusBadRequest, "Request body too large"}

// answer formats what a handler returned. It logs errors as the daemon of that identifier does.
func (s *Server) answer(c *call, identifier string, err error, data any) *response {
	res := &response{status: http.StatusOK, contentType: jsonType, header: http.Header{}, closes: errors.Is(err, errTooLarge)}
	if err != nil {
		res.status, res.body = http.StatusBadRequest, []byte(err.Error())
		if e, ok := errors.AsType[*apiError](err); ok {
			res.status = e.status
		}
		if res.status == http.StatusUnauthorized && s.product.clearsCookie {
			res.header.Set("Set-Cookie", s.clearedCookie())
		}
		s.journal.add(s.opts.Now(), identifier, fmt.Sprintf("%s %s: %d %s: [client %s] %s",
			c.request.Method, c.request.RequestURI, res.status, http.StatusText(res.status), c.peer, err))
		return res
	}
	document := c.extra
	if c.contentType != "" {
		res.contentType = c.contentType
	}
	if c.cookie != "" {
		res.header.Set("Set-Cookie", c.cookie)
	}
	document["data"] = data
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(document); err != nil {
		return s.plain(http.StatusBadRequest, err.Error())
	}
	res.body = bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	return res
}
