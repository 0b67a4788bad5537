package fault

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Options configure a proxy.
type Options struct {
	// Upstream is the origin of the Proxmox API, such as https://127.0.0.1:8006.
	Upstream string
	// TLS configures connections to the upstream, for example the authorities that the proxy trusts.
	TLS *tls.Config
	// Certificate is the certificate that the proxy presents to clients.
	Certificate tls.Certificate
}

// Request describes a request that a client sent.
type Request struct {
	Method string
	Path   string // without /api2/json and query
	Hit    bool   // the fault was injected
}

// Rule chooses the requests that a fault hits: by default the first one.
type Rule struct {
	Fault Fault
	// Method and the prefix Path, if set, select requests. The rule ignores all others.
	Method, Path string
	// At is the number of the request to hit, from 1, among the selected ones. 0 means 1.
	At int
	// Lasting hits the later requests, too.
	Lasting bool
}

// Proxy listens on loopback until Close. Its methods may be called from any goroutine.
type Proxy struct {
	options   Options
	tls       *tls.Config
	listener  net.Listener
	transport *http.Transport
	ctx       context.Context
	cancel    context.CancelFunc
	running   sync.WaitGroup

	mu       sync.Mutex
	rule     *Rule
	counted  int // requests that count for the rule
	refusing bool
	seen     []Request
	open     map[net.Conn]bool
}

// Start listens on a free port of 127.0.0.1.
func Start(o Options) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		options:   o,
		tls:       &tls.Config{Certificates: []tls.Certificate{o.Certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}},
		listener:  listener,
		transport: &http.Transport{TLSClientConfig: o.TLS, DisableCompression: true, IdleConnTimeout: 4 * time.Second},
		open:      map[net.Conn]bool{},
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.running.Go(p.accept)
	return p, nil
}

// URL is the origin at which the proxy answers.
func (p *Proxy) URL() string { return "https://" + p.listener.Addr().String() }

// Close stops listening, cuts all connections and waits for what is under way.
func (p *Proxy) Close() error {
	p.cancel()
	err := p.listener.Close()
	p.mu.Lock()
	for conn := range p.open {
		_ = conn.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
	p.transport.CloseIdleConnections()
	return err
}

// Begin replaces the rule, and forgets the requests so far.
func (p *Proxy) Begin(rule Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if rule.At == 0 {
		rule.At = 1
	}
	p.rule, p.counted, p.seen = &rule, 0, nil
	// The handshake precedes the first request, so it has to fail before that is seen.
	p.refusing = rule.Fault.broken == handshake && rule.At == 1 && rule.Method == "" && rule.Path == ""
}

// Calm removes the rule, and forgets the requests so far.
func (p *Proxy) Calm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule, p.counted, p.refusing, p.seen = nil, 0, false, nil
}

// Requests returns the requests since Begin or Calm, in order. A failed handshake is not a request.
func (p *Proxy) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Request(nil), p.seen...)
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.open[conn] = true
		p.mu.Unlock()
		p.running.Go(func() {
			p.serve(conn)
			_ = conn.Close()
			p.mu.Lock()
			delete(p.open, conn)
			p.mu.Unlock()
		})
	}
}

// refused says whether the handshake of a new connection fails.
func (p *Proxy) refused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	refused := p.refusing
	if refused && !p.rule.Lasting {
		p.refusing, p.rule = false, nil
	}
	return refused
}

// serve answers the requests of one connection.
func (p *Proxy) serve(raw net.Conn) {
	if p.refused() {
		_, _ = io.ReadFull(raw, make([]byte, 5))                 // the head of the client's first record
		_, _ = raw.Write([]byte("\x15\x03\x01\x00\x02\x02\x28")) // alert: handshake_failure
		return
	}
	conn := tls.Server(raw, p.tls)
	if err := conn.HandshakeContext(p.ctx); err != nil {
		return
	}
	in := bufio.NewReader(conn)
	for {
		request, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(request.Body)
		if err != nil || !p.exchange(conn, request, body) {
			_ = conn.Close()
			return
		}
	}
}

// hit counts a request, and returns the fault that it meets.
func (p *Proxy) hit(method, path string) *Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, Request{Method: method, Path: path})
	r := p.rule
	if r == nil || r.Method != "" && r.Method != method || !strings.HasPrefix(path, r.Path) {
		return nil
	}
	p.counted++
	if p.counted < r.At || p.counted > r.At && !r.Lasting {
		return nil
	}
	p.seen[len(p.seen)-1].Hit = true
	p.refusing = r.Fault.broken == handshake
	return &r.Fault
}

// exchange forwards and answers one request, with the fault that hits it. It returns whether the connection stays open.
func (p *Proxy) exchange(conn *tls.Conn, request *http.Request, body []byte) bool {
	fault := p.hit(request.Method, strings.TrimPrefix(request.URL.Path, "/api2/json"))
	if fault == nil {
		res, err := p.forward(request, body)
		return err == nil && res.write(conn) == nil && !res.close && !request.Close
	}
	if fault.Late() {
		p.running.Go(func() { p.later(fault, request, body) })
		return false
	}
	var res *response
	if fault.Reaches {
		var err error
		if res, err = p.repeat(fault, request, body); err != nil {
			return false
		}
	}
	if fault.reply != nil {
		res = fault.reply(res)
	}
	return res.writeBroken(conn, fault.broken) && !request.Close
}

// later forwards a request after a delay. Its client has left.
func (p *Proxy) later(fault *Fault, request *http.Request, body []byte) {
	select {
	case <-time.After(fault.wait):
		_, _ = p.forward(request, body)
	case <-p.ctx.Done():
	}
}

// repeat forwards a request once, or as often as the fault requires. It returns the last answer.
func (p *Proxy) repeat(fault *Fault, request *http.Request, body []byte) (res *response, err error) {
	if fault.wait > 0 {
		select {
		case <-time.After(fault.wait):
		case <-p.ctx.Done():
			return nil, p.ctx.Err()
		}
	}
	for range max(fault.times, 1) {
		if res, err = p.forward(request, body); err != nil {
			return nil, err
		}
	}
	return res, nil
}

// forward sends a request to the upstream. Like Proxmox's own proxy, it continues if the client leaves.
func (p *Proxy) forward(request *http.Request, body []byte) (*response, error) {
	target := p.options.Upstream + request.URL.RequestURI()
	onward, err := http.NewRequestWithContext(p.ctx, request.Method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	onward.Header = request.Header.Clone()
	onward.Header.Del("Connection")
	if len(body) == 0 {
		onward.Body = nil
		onward.ContentLength = 0
	}
	answer, err := p.transport.RoundTrip(onward)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	header := answer.Header.Clone()
	header.Del("Content-Length")
	header.Del("Connection")
	return &response{status: answer.Status, header: header, body: content, close: answer.Close}, nil
}

// response is an answer to the client. status includes the reason phrase, which holds Proxmox's messages.
type response struct {
	status string
	header http.Header
	body   []byte
	close  bool   // closes the connection
	raw    string // replaces all other fields
}

func (r *response) bytes() (head, body []byte) {
	if r.raw != "" {
		return nil, []byte(r.raw)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %s\r\n", r.status)
	_ = r.header.Write(&b) // to memory
	if r.close {
		b.WriteString("Connection: close\r\n")
	}
	if !strings.HasPrefix(r.status, "204 ") {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(r.body))
	}
	b.WriteString("\r\n")
	return b.Bytes(), r.body
}

func (r *response) write(conn *tls.Conn) error {
	head, body := r.bytes()
	_, err := conn.Write(append(head, body...))
	return err
}

// writeBroken writes an answer, or a part of it, and breaks the connection. r may be nil if nothing is written.
func (r *response) writeBroken(conn *tls.Conn, how breaking) (goesOn bool) {
	switch how {
	case unbroken:
		return r.write(conn) == nil && !r.close && r.raw == ""
	case reset:
		if tcp, ok := conn.NetConn().(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
			_ = tcp.Close()
		}
	case hanging:
		_, _ = io.Copy(io.Discard, conn) // until the client leaves
	case inHead:
		head, _ := r.bytes()
		_, _ = conn.Write(head[:len(head)/2])
	case inBody:
		head, body := r.bytes()
		_, _ = conn.Write(append(head, body[:len(body)/2]...))
	case endless:
		r.writeEndless(conn)
	case closed, handshake:
	}
	return false
}

func (r *response) writeEndless(conn *tls.Conn) {
	_, err := fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Type: %s\r\nConnection: close\r\n\r\n%s", r.status, r.header.Get("Content-Type"), r.body)
	blank := bytes.Repeat([]byte{' '}, 16<<10)
	for err == nil {
		_, err = conn.Write(blank)
	}
}
