package standin

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"
)

const (
	handshakeLimit = 30 * time.Second
	drainLimit     = 2 * time.Second
	drainBytes     = 16 << 20
	// bodyLimit is how much of a body handlers see: one byte more than any product accepts.
	bodyLimit = 512<<10 + 1
)

// JSON is the content type of the answers of all products.
const JSON = "application/json;charset=UTF-8"

// Marshal encodes what handlers answer with: maps, lists, texts and numbers.
func Marshal(v any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Server is what the API of a stand-in stands on: it accepts connections, injects faults and records requests.
// net/http cannot do it, because Proxmox VE puts the message of an error into the reason phrase.
type Server struct {
	Rules
	Seen
	// Bind listens on an address; at first, of the real network.
	Bind func(address string) (net.Listener, error)

	log       *slog.Logger
	roundTrip time.Duration
	ctx       context.Context
	cancel    context.CancelFunc
	running   sync.WaitGroup
}

// NewServer returns a server without listeners. A new connection costs two round trips (TCP and TLS), each request one.
// log gets a record of each request; nil discards them.
func NewServer(roundTrip time.Duration, log *slog.Logger) *Server {
	s := &Server{log: log, roundTrip: roundTrip}
	if log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.Bind = func(address string) (net.Listener, error) { return new(net.ListenConfig).Listen(s.ctx, "tcp", address) }
	return s
}

// Logger is where the server and its product log.
func (s *Server) Logger() *slog.Logger { return s.log }

// Context ends when the server closes.
func (s *Server) Context() context.Context { return s.ctx }

// Go runs f, and lets Close wait for it.
func (s *Server) Go(f func()) { s.running.Go(f) }

// Close closes all listeners and connections, and waits for what is under way.
func (s *Server) Close() error {
	s.cancel()
	s.running.Wait()
	return nil
}

// Pause waits, and says whether the server still runs.
func (s *Server) Pause(d time.Duration) bool {
	if d == 0 {
		return s.ctx.Err() == nil
	}
	select {
	case <-time.After(d):
		return true
	case <-s.ctx.Done():
		return false
	}
}

func (s *Server) travel(trips int) bool { return s.Pause(time.Duration(trips) * s.roundTrip) }

// Answer is an answer before it is sent.
type Answer struct {
	Status int
	Reason string // empty means the usual one
	Header http.Header
	Body   []byte
	// Chunked sends the body without its length.
	Chunked bool
	// Close ends the connection. An empty body then has no length.
	Close bool
	// Wait is how long the server waits before it answers.
	Wait time.Duration
	// User is who sent the request, for its record.
	User string
}

// Listener is one address at which a server answers.
type Listener struct {
	Host string // as in URLs

	server   *Server
	idle     time.Duration // how long a connection stays open without a request; zero means as long as the client likes
	listener net.Listener
	tls      *tls.Config
	handle   func(*http.Request) *Answer
	ctx      context.Context
	cancel   context.CancelFunc
}

// Listen answers requests at an address until the listener or the server closes. certificate returns what the next
// connection sees.
func (s *Server) Listen(address string, idle time.Duration, certificate func() *tls.Certificate, handle func(*http.Request) *Answer) (*Listener, error) {
	listener, err := s.Bind(address)
	if err != nil {
		return nil, err
	}
	l := &Listener{Host: listener.Addr().String(), idle: idle, server: s, listener: listener, handle: handle, tls: &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate(), nil },
	}}
	l.ctx, l.cancel = context.WithCancel(s.ctx)
	context.AfterFunc(l.ctx, func() { _ = listener.Close() })
	s.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.Go(func() { l.serve(conn) })
		}
	})
	return l, nil
}

// Close stops listening and closes the connections.
func (l *Listener) Close() {
	_ = l.listener.Close()
	l.cancel()
}

// serve handles one connection until it ends.
func (l *Listener) serve(conn net.Conn) {
	raw := conn
	defer func() { _ = conn.Close() }() // says goodbye where it is TLS
	defer context.AfterFunc(l.ctx, func() { _ = raw.Close() })()
	in := bufio.NewReader(conn)
	_ = conn.SetReadDeadline(time.Now().Add(handshakeLimit))
	if _, err := in.Peek(1); err != nil || !l.server.travel(2) {
		return
	}
	if l.server.refusesHandshake(l.Host) {
		_, _ = conn.Write([]byte("\x15\x03\x01\x00\x02\x02\x28")) // alert: handshake_failure
		return
	}
	secure := tls.Server(&peeked{conn, in}, l.tls)
	if secure.HandshakeContext(l.ctx) != nil {
		return
	}
	l.server.handshake(secure.ConnectionState().DidResume)
	conn, in = secure, bufio.NewReader(secure)
	for {
		_ = conn.SetReadDeadline(deadline(l.idle))
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		_ = conn.SetReadDeadline(time.Time{})
		r.RemoteAddr = raw.RemoteAddr().String()
		rest := r.Body
		body, _ := io.ReadAll(io.LimitReader(rest, bodyLimit))
		if !l.exchange(conn, raw, r.WithContext(l.server.ctx), body) {
			drain(conn, rest)
			return
		}
		_, _ = io.Copy(io.Discard, rest)
	}
}

func deadline(limit time.Duration) (t time.Time) {
	if limit > 0 {
		t = time.Now().Add(limit)
	}
	return t
}

// drain reads what a client still sends of a refused body, so that closing the connection does not take the answer away.
func drain(conn net.Conn, rest io.Reader) {
	_ = conn.SetReadDeadline(time.Now().Add(drainLimit))
	_, _ = io.CopyN(io.Discard, rest, drainBytes)
}

// peeked is a connection whose first bytes were read already.
type peeked struct {
	net.Conn
	in *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.in.Read(b) }

// exchange answers one request, and says whether the connection goes on.
func (l *Listener) exchange(conn, raw net.Conn, r *http.Request, body []byte) bool {
	s := l.server
	active := s.match(r.Method, l.Host, strings.TrimPrefix(r.URL.Path, "/api2/json"))
	entry := s.begin(r.Method, l.Host, r.RequestURI, active != nil)
	process := func() *Answer {
		r.Body = io.NopCloser(bytes.NewReader(body))
		return l.handle(r)
	}
	var rule Rule
	var a *Answer
	if active == nil {
		a = process()
	} else {
		rule = active.Rule
		r.Header.Del("Accept-Encoding") // so that rules can change what is sent
		a = s.disturb(active, process)
	}
	if a == nil || !s.Pause(a.Wait) || !s.travel(1) {
		if tcp, ok := raw.(*net.TCPConn); ok && rule.Reset {
			_ = tcp.SetLinger(0)
			_ = tcp.Close()
		}
		return false
	}
	s.end(entry, a.Status, a.User)
	s.log.Info("request", "method", r.Method, "path", r.URL.Path, "status", a.Status, "user", a.User)
	return s.write(conn, r, a, &rule)
}

// disturb processes a request as a rule wants it. It returns nil if the connection is to be closed without an answer.
func (s *Server) disturb(active *active, process func() *Answer) (a *Answer) {
	rule := &active.Rule
	if rule.Drop && rule.Delay > 0 {
		s.Go(func() {
			if s.Pause(rule.Delay) {
				process()
			}
		})
		return nil
	}
	if rule.Hang && rule.Process {
		process()
	}
	if !active.wait(s.ctx) {
		return nil
	}
	if rule.Status == 0 || rule.Process {
		a = process()
	}
	if rule.Twice {
		a = process()
	}
	if rule.Status != 0 {
		a = &Answer{Status: rule.Status, Reason: rule.Reason, Body: []byte(rule.Body), Header: http.Header{}, Close: rule.Status >= 400}
		if rule.Body != "" {
			a.Header.Set("Content-Type", JSON)
		}
	}
	if rule.After != nil {
		rule.After()
	}
	if rule.DropAnswer {
		return nil
	}
	if rule.ContentType == "-" {
		a.Header.Del("Content-Type")
	} else if rule.ContentType != "" {
		a.Header.Set("Content-Type", rule.ContentType)
	}
	maps.Copy(a.Header, rule.Header)
	return a
}

// write sends an answer with the faults of a rule, and says whether the connection goes on.
func (s *Server) write(conn net.Conn, r *http.Request, a *Answer, rule *Rule) bool {
	if rule.Garbage != "" {
		_, _ = io.WriteString(conn, rule.Garbage)
		return false
	}
	closing, body := a.Close || r.Close || rule.Endless, a.Body
	a.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	if closing && a.Header["Connection"] == nil {
		a.Header.Set("Connection", "close")
	}
	length := int64(len(body)) + rule.Pad
	switch {
	case a.Chunked:
		a.Header.Set("Transfer-Encoding", "chunked")
		var chunks bytes.Buffer
		w := httputil.NewChunkedWriter(&chunks)
		_, _ = w.Write(body)
		_ = w.Close()
		body = append(chunks.Bytes(), "\r\n"...)
	case !rule.Endless && (length > 0 || !closing):
		a.Header.Set("Content-Length", fmt.Sprint(length))
	}
	if r.Method == http.MethodHead {
		body = nil
	}
	reason, _, _ := strings.Cut(cmp.Or(a.Reason, http.StatusText(a.Status)), "\n")
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 %d %s\r\n", a.Status, reason)
	_ = a.Header.Write(&head) // to memory
	head.WriteString("\r\n")
	return rule.write(s.ctx, conn, head.Bytes(), body) && !closing
}
