// Package pbs is a stand-in for the access API of Proxmox Backup Server and Proxmox Datacenter Manager, as far as OpenID
// Connect realms need it. Both products share their Rust code; a [Product] says what differs. Recordings of the real Backup
// Server are in ../testdata.
//
// It serves tests and experiments. It listens on loopback and keeps its state in memory or in one file. A test can hold the
// lock of the realms, change the state, stop the privileged daemon, and break answers. For a login it asks a real issuer.
package pbs

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"proxmox-realm/internal/lab/authority"
	"proxmox-realm/internal/lab/openid"
	"proxmox-realm/internal/lab/standin"
)

// The delays of a real server. See [Options].
const (
	RealDelay401    = 3 * time.Second
	RealDelay403    = 500 * time.Millisecond
	RealACLCache    = 5 * time.Second
	RealLockTimeout = 10 * time.Second

	handshakeLimit = 10 * time.Second
	closeLimit     = 2 * time.Second
)

// Options configure a server. The zero value is a Backup Server without delays on a free port of 127.0.0.1.
type Options struct {
	// Product is the product; nil means [BackupServer].
	Product *Product
	// Version is the version of the product, such as "4.1.0". It decides which properties a realm may have. Empty means the
	// version of the recordings.
	Version string
	// StateFile, if not empty, is read at the start, if it exists, and replaced after each change (mode 0600). Its state
	// takes precedence over Seed.
	StateFile string
	// Seed is the first state; nil means [DefaultState].
	Seed *State
	// Certificate is what the listener presents; without one, the server makes a self-signed certificate for loopback.
	Certificate tls.Certificate
	// Listen is the address to listen on, by default 127.0.0.1:0.
	Listen string
	// IssuerClient connects to issuers, with the server's authorities, DNS and proxy. Its redirect policy and timeout are
	// ignored. Nil means the system's.
	IssuerClient *http.Client
	// Cores is how many threads the privileged daemon has. Each one that waits for an issuer serves nobody else meanwhile.
	// Zero means the cores of this machine.
	Cores int
	// Delay401 and Delay403 delay refusals, see [RealDelay401] and [RealDelay403].
	Delay401, Delay403 time.Duration
	// ACLCache is how long a daemon does not see changes of ACLs, see [RealACLCache].
	ACLCache time.Duration
	// LockTimeout is how long a write waits for the lock of the realms. Zero means [RealLockTimeout].
	LockTimeout time.Duration
	// RoundTrip delays each request by that time, and each new connection by twice that.
	RoundTrip time.Duration
	// Zone is the time zone of the host, in which the journal is read; nil means UTC.
	Zone *time.Location
	// Now is the clock of the host; nil means the real one. Logins that have begun follow the real one.
	Now func() time.Time
	// Log gets requests and the causes that answers hide.
	Log *slog.Logger
}

type (
	// Rule is what tests inject.
	Rule = standin.Rule
	// Request is what tests see of a request.
	Request = standin.Request
	// Handshakes is what tests see of connections.
	Handshakes = standin.Handshakes
)

// Server is a running stand-in. Its methods may be called from any goroutine.
type Server struct {
	opts      Options
	product   *Product
	endpoints []endpoint
	log       *slog.Logger
	library   *openid.Library
	tls       *tls.Config
	listener  net.Listener
	accepted  chan net.Conn
	http      *http.Server
	ctx       context.Context
	cancel    context.CancelFunc
	running   sync.WaitGroup
	rules     standin.Rules
	seen      standin.Seen
	journal   journal
	daemon    daemon
	realmLock chan struct{}

	mu    sync.Mutex // for changes
	state atomic.Pointer[State]
	cache [2]cache // of the proxy and of the privileged daemon
}

// Start listens and serves until [Server.Close].
func Start(o Options) (*Server, error) {
	s := &Server{opts: o, product: o.Product, log: o.Log, realmLock: make(chan struct{}, 1), accepted: make(chan net.Conn)}
	s.setDefaults()
	s.endpoints = s.product.endpoints(s.opts.Version)
	s.library = openid.New(o.IssuerClient, s.log)
	if err := s.startState(); err != nil {
		return nil, err
	}
	if len(s.opts.Certificate.Certificate) == 0 {
		ca, err := authority.New()
		if err != nil {
			return nil, err
		}
		if s.opts.Certificate, err = ca.Issue(authority.SelfSigned, "127.0.0.1", "::1", "localhost"); err != nil {
			return nil, err
		}
	}
	s.tls = &tls.Config{Certificates: []tls.Certificate{s.opts.Certificate}, MinVersion: tls.VersionTLS12}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.daemon.start(s.ctx, s.opts.Cores)
	listener, err := new(net.ListenConfig).Listen(s.ctx, "tcp", s.opts.Listen)
	if err != nil {
		s.cancel()
		return nil, fmt.Errorf("listening: %w", err)
	}
	s.listener = listener
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	s.running.Go(s.accept)
	s.running.Go(func() { _ = s.http.Serve(handshaken{s}) }) // returns when the server closes
	return s, nil
}

func (s *Server) setDefaults() {
	if s.product == nil {
		s.product = BackupServer
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	o := &s.opts
	if o.Version == "" {
		o.Version = s.product.version
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Cores == 0 {
		o.Cores = runtime.NumCPU()
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = RealLockTimeout
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

func (s *Server) startState() error {
	st := s.opts.Seed
	if st == nil {
		st = DefaultState(s.product)
	}
	st, err := st.clone()
	if err != nil {
		return err
	}
	if s.opts.StateFile != "" {
		stored := &State{}
		found, err := standin.Load(s.opts.StateFile, stored)
		if err != nil {
			return err
		}
		if found {
			st = stored
		}
	}
	s.state.Store(st)
	return nil
}

// accept takes connections and shakes hands. Plain HTTP is served too: it is redirected.
func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.running.Go(func() {
			stop := context.AfterFunc(s.ctx, func() { _ = conn.Close() })
			defer stop()
			if conn := s.handshake(conn); conn != nil {
				select {
				case s.accepted <- conn:
				case <-s.ctx.Done():
				}
			}
		})
	}
}

func (s *Server) handshake(conn net.Conn) net.Conn {
	in := bufio.NewReader(conn)
	_ = conn.SetDeadline(time.Now().Add(handshakeLimit))
	first, err := in.Peek(1)
	if err != nil || !s.travel(2) {
		_ = conn.Close()
		return nil
	}
	peeked := &peekedConn{conn, in}
	if first[0] != 0x16 {
		_ = conn.SetDeadline(time.Time{})
		return peeked
	}
	if s.rules.RefusesHandshake(s.listener.Addr().String()) {
		_, _ = conn.Write([]byte("\x15\x03\x01\x00\x02\x02\x28")) // alert: handshake_failure
		_ = conn.Close()
		return nil
	}
	secure := tls.Server(peeked, s.tls)
	if secure.HandshakeContext(s.ctx) != nil {
		_ = conn.Close()
		return nil
	}
	s.seen.Handshake(secure.ConnectionState().DidResume)
	_ = conn.SetDeadline(time.Time{})
	return secure
}

// peekedConn is a connection whose first bytes were read already.
type peekedConn struct {
	net.Conn
	in *bufio.Reader
}

func (p *peekedConn) Read(b []byte) (int, error) { return p.in.Read(b) }

// handshaken hands the connections that accept has prepared to net/http.
type handshaken struct{ s *Server }

func (h handshaken) Accept() (net.Conn, error) {
	select {
	case conn := <-h.s.accepted:
		return conn, nil
	case <-h.s.ctx.Done():
		return nil, net.ErrClosed
	}
}

func (h handshaken) Close() error   { return nil }
func (h handshaken) Addr() net.Addr { return h.s.listener.Addr() }

// travel waits for so many round trips, and says whether the server still runs.
func (s *Server) travel(trips int) bool { return s.sleep(time.Duration(trips) * s.opts.RoundTrip) }

func (s *Server) sleep(d time.Duration) bool {
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

// URL returns the origin of the server, such as https://127.0.0.1:41235, without a slash at its end.
func (s *Server) URL() string { return "https://" + s.listener.Addr().String() }

// CertificatePEM returns the server's certificate in PEM: a CA file for clients where the server made its own.
func (s *Server) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.opts.Certificate.Certificate[0]})
}

// Close stops listening, ends every request and waits for what is under way.
func (s *Server) Close() error {
	s.cancel()
	err := s.listener.Close()
	limit, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	if s.http.Shutdown(limit) != nil {
		err = errors.Join(err, s.http.Close())
	}
	s.running.Wait()
	return err
}

// Product returns what the server is.
func (s *Server) Product() *Product { return s.product }

// Token returns the API token of that name as user@realm!id:secret, or "" if there is none. Names are the constants
// TokenRoot and so on, or user@realm!id.
func (s *Server) Token(name string) string {
	st := s.state.Load()
	if full, ok := st.TokenNames[name]; ok {
		name = full
	}
	token := st.Tokens[name]
	if token == nil {
		return ""
	}
	return name + ":" + token.Secret
}

// State returns a copy of the current state.
func (s *Server) State() *State {
	st, err := s.state.Load().clone()
	if err != nil {
		s.log.Error("copying the state", "msg", err.Error())
	}
	return st
}

// Update edits the state as an administrator on the host would. All of it is seen at once.
func (s *Server) Update(f func(*State)) error {
	return s.change(func(st *State) error {
		f(st)
		st.Generation++
		return nil
	})
}

// change edits a copy of the state, and makes it current and saves it if f returns no error.
func (s *Server) change(f func(*State) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.state.Load().clone()
	if err != nil {
		return err
	}
	if err := f(st); err != nil {
		return err
	}
	s.state.Store(st)
	if s.opts.StateFile == "" {
		return nil
	}
	return standin.Save(s.opts.StateFile, st)
}

// Inject is [standin.Rules.Inject].
func (s *Server) Inject(r Rule) (remove func()) { return s.rules.Inject(r) }

// Requests returns the requests seen since the start or the last Reset, in order.
func (s *Server) Requests() []Request { return s.seen.Requests() }

// Handshakes returns the TLS handshakes completed since the start or the last Reset.
func (s *Server) Handshakes() Handshakes { return s.seen.Handshakes() }

// Reset forgets the requests and handshakes seen so far.
func (s *Server) Reset() { s.seen.Reset() }

// HoldLock holds the lock of the realms until release is called. Writes to realms wait for it, at most for
// Options.LockTimeout. release may be called more than once.
func (s *Server) HoldLock() (release func()) {
	s.realmLock <- struct{}{}
	return sync.OnceFunc(func() { <-s.realmLock })
}

// SetDaemon stops the privileged daemon, or starts it again. Without it reads work; writes, tickets, logins and the list of
// users do not. Stopping it ends what waits for an issuer.
func (s *Server) SetDaemon(up bool) {
	s.daemon.stop()
	if up {
		s.daemon.start(s.ctx, s.opts.Cores)
	}
}
