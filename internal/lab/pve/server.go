// Package pve is a stand-in for the access API of Proxmox VE: the part of it
// that OpenID Connect realms need, answering byte for byte as the handlers of
// libpve-access-control behind pve-http-server do: status, reason phrase,
// headers, body, and the moment at which the connection closes.
//
// It is made for tests and for trying things out. It listens on loopback,
// keeps its state in memory or in one file, lets a test hold the lock of the
// realm file, change the state behind a client's back and break answers in
// many ways, and it really talks to an issuer when a login is asked for.
package pve

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The delays of a real node, for those who want them. See [Options].
const (
	// RealDelay401 is how long a node holds back the answer to bad credentials.
	RealDelay401 = 3 * time.Second
	// RealLockTimeout is how long a write waits for the lock of the realm file.
	RealLockTimeout = 10 * time.Second
	// RealIssuerTimeout is how long the proxy waits for a worker that waits for an issuer.
	RealIssuerTimeout = 30 * time.Second
	// RealWorkers is how many workers a node's daemon has.
	RealWorkers = 3
)

// DefaultVersion is the version that a server reports and behaves like unless told otherwise.
const DefaultVersion = "9.2.11"

// Options says what kind of node to stand in for. The zero value is a node of
// [DefaultVersion] on a free port of 127.0.0.1, with a certificate of its own,
// the seed of [DefaultState], and no state file.
type Options struct {
	// Version is the version of the node, such as "9.2.11", "8.4.1", "8.1.4"
	// or "7.4-3". It decides which properties a realm may have, the shape of
	// /version and whether error bodies repeat the message.
	Version string
	// StateFile, if not empty, is a file that is read at the start, where it
	// exists, and replaced (mode 0600) after every change. The state in it wins over Seed.
	StateFile string
	// Seed is the state to begin with; nil means [DefaultState].
	Seed *State
	// Certificate is what the listener presents; without one, the server makes
	// a self-signed certificate for 127.0.0.1, ::1 and localhost.
	Certificate tls.Certificate
	// Listen is the address to listen on, by default 127.0.0.1:0.
	Listen string
	// IssuerClient is how the node reaches issuers: its CA store, its DNS, its
	// proxy. Its own redirect policy and timeout are not used. Nil means the system's.
	IssuerClient *http.Client
	// IssuerTimeout is how long the node waits for an issuer before it answers
	// 596; the worker stays blocked until the issuer answers. Zero means [RealIssuerTimeout].
	IssuerTimeout time.Duration
	// Delay401 holds back every 401 that follows refused credentials. Zero
	// means at once; a real node takes [RealDelay401].
	Delay401 time.Duration
	// LockTimeout is how long a write waits for the lock of the realm or user
	// file. Zero means [RealLockTimeout].
	LockTimeout time.Duration
	// Workers is how many requests the node's daemon handles at once: writes
	// and logins go through it. Zero means [RealWorkers].
	Workers int
	// Log receives one record for each request, never a secret, and the true
	// reason of each refused login, as a node's syslog does. Nil discards.
	Log *slog.Logger
}

// Names of the API tokens of [DefaultState], for [Server.Token].
const (
	TokenRoot              = "root"                // root@pam, without privilege separation
	TokenRealmAllocate     = "realm-allocate"      // Realm.Allocate on /access/realm
	TokenSysAudit          = "sys-audit"           // Sys.Audit on /access/realm
	TokenNoPrivilege       = "no-privilege"        // valid, and may do nothing
	TokenPrivsepWithoutACL = "privsep-without-acl" // separated, without ACL; its owner has Realm.Allocate
)

// Names of the users of [DefaultState] that can log in with a password, for [Server.User].
const (
	UserAdmin = "admin" // admin@pve, Administrator on /
	UserTOTP  = "totp"  // admin2@pve, with a one-time password as second factor
	UserRoot  = "root"  // root@pam
)

// Credentials are what a user logs in with.
type Credentials struct {
	Username   string // user@realm
	Password   string
	TOTPSecret string // Base32 without padding; empty where the user has no second factor
}

// Request is what the server remembers of one request. It holds no body and no secret.
type Request struct {
	Method string
	Path   string // as sent, without query
	Query  string // as sent
	Token  string // user@realm!id of an API token, user@realm of a ticket; empty if anonymous or refused
	Status int    // 0 while it is under way, or where the connection was dropped instead of an answer
	Begin  time.Time
}

// Handshakes counts TLS handshakes that a server completed.
type Handshakes struct {
	Full    int
	Resumed int
}

// Rule is a fault to inject into requests that match it. Exactly the faults
// that are set happen, in the order of the fields; a rule without a fault only counts.
type Rule struct {
	// Method to match; empty matches all.
	Method string
	// Path is a prefix of the path without /api2/json, such as "/access/domains/"; empty matches all.
	Path string
	// From is the number of the first matching request that is hit, counted
	// from 1; zero means the first.
	From int
	// Count is how many matching requests are hit; zero means all from then on.
	Count int

	// Drop closes the connection before anything is processed.
	Drop bool
	// Hang never answers nor processes: the connection stays open until the
	// client leaves, the rule is removed or the server closes.
	Hang bool
	// Delay processes the request only after that time, whether or not the client
	// is still there: a late DELETE.
	Delay time.Duration
	// Until, if not nil, processes the request only once it is closed, whether
	// or not the client is still there. It is the clockless form of Delay.
	Until <-chan struct{}
	// Before, if not nil, runs just before the request is processed, such as for a
	// change by somebody else that comes between a read and a write.
	Before func()
	// After, if not nil, runs after the request was processed and before it is answered.
	After func()
	// DropAnswer processes the request, then closes the connection instead of answering.
	DropAnswer bool
	// Status, if not zero, is answered instead of processing the request; Process processes it nevertheless.
	Status  int
	Process bool
	// Reason is the reason phrase that goes with Status.
	Reason string
	// Header is added to the answer, such as Location for a redirect.
	Header http.Header
	// Body is the answer's body that goes with Status.
	Body string
	// ContentType replaces the answer's content type; with "-" it has none.
	ContentType string
	// Garbage is written instead of an HTTP answer, then the connection is closed.
	Garbage string
	// Pad adds that many bytes of white space to the body.
	Pad int64
	// Endless goes on with white space after the body for as long as the client reads.
	Endless bool
	// Slow pauses that long after each byte of the body.
	Slow time.Duration
	// Truncate announces the whole body and closes the connection halfway.
	Truncate bool
}

// Fail is the rule that answers every request of method below path with a status and a reason phrase.
func Fail(method, path string, status int, reason string) Rule {
	return Rule{Method: method, Path: path, Status: status, Reason: reason}
}

// Server is a running stand-in. Its methods may be called from any goroutine.
type Server struct {
	opts     Options
	log      *slog.Logger
	api      *api
	tls      *tls.Config
	listener net.Listener
	issuers  *http.Client
	workers  chan struct{}
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
	conns    conns
	rules    rules

	// The two locks of the cluster file system, held while a slot is taken.
	realmLock, userLock chan struct{}

	mu     sync.Mutex // for changes of what follows
	state  atomic.Pointer[State]
	file   atomic.Pointer[realmFile]
	quorum chan struct{} // closed while there is quorum

	seen       sync.Mutex
	requests   []*Request
	handshakes Handshakes
}

// Start listens and serves until [Server.Close].
func Start(o Options) (*Server, error) {
	if o.Version == "" {
		o.Version = DefaultVersion
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.IssuerTimeout == 0 {
		o.IssuerTimeout = RealIssuerTimeout
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = RealLockTimeout
	}
	if o.Workers == 0 {
		o.Workers = RealWorkers
	}
	s := &Server{
		opts:      o,
		log:       o.Log,
		workers:   make(chan struct{}, o.Workers),
		realmLock: make(chan struct{}, 1),
		userLock:  make(chan struct{}, 1),
		quorum:    make(chan struct{}),
		conns:     conns{open: map[net.Conn]bool{}},
	}
	close(s.quorum)
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.issuers = issuerClient(o.IssuerClient)
	s.api = newAPI(s)
	if err := s.loadState(); err != nil {
		return nil, err
	}
	if len(o.Certificate.Certificate) == 0 {
		cert, err := selfSigned()
		if err != nil {
			return nil, err
		}
		s.opts.Certificate = cert
	}
	s.tls = &tls.Config{Certificates: []tls.Certificate{s.opts.Certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	ln, err := new(net.ListenConfig).Listen(s.ctx, "tcp", o.Listen)
	if err != nil {
		s.cancel()
		return nil, fmt.Errorf("listening: %w", err)
	}
	s.listener = ln
	s.background(func() { s.acceptAll(s.ctx) })
	return s, nil
}

// issuerClient is a client without a timeout and with the redirects of the library that a node uses.
func issuerClient(c *http.Client) *http.Client {
	var transport http.RoundTripper // nil is the system's trust and proxy
	if c != nil {
		transport = c.Transport
	}
	return &http.Client{
		Transport: transport,
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errors.New("too many redirects")
			}
			return nil
		},
	}
}

// selfSigned makes a certificate for loopback, valid for a year.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: "pve.lab"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(1, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// background runs f and lets Close wait for it.
func (s *Server) background(f func()) { s.running.Go(f) }

// URL is the origin of the server, such as https://127.0.0.1:41235, without a slash at its end.
func (s *Server) URL() string { return "https://" + s.listener.Addr().String() }

// CertificatePEM is the server's certificate chain in PEM: a CA file for clients where the server made its own.
func (s *Server) CertificatePEM() []byte {
	var out []byte
	for _, der := range s.opts.Certificate.Certificate {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}

// Close stops listening, cuts every connection and waits for what is under way.
func (s *Server) Close() error {
	s.cancel()
	err := s.listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	s.conns.mu.Lock()
	for c := range s.conns.open {
		_ = c.Close()
	}
	s.conns.mu.Unlock()
	s.running.Wait()
	return err
}

// Token is the API token of that name, complete: user@realm!id=secret. It is
// empty where there is none. Names are the constants TokenRoot and so on, or user@realm!id.
func (s *Server) Token(name string) string {
	st := s.view()
	if full, ok := st.TokenNames[name]; ok {
		name = full
	}
	user, id, ok := splitToken(name)
	if !ok || st.Users[user] == nil {
		return ""
	}
	t, ok := st.Users[user].Tokens[id]
	if !ok {
		return ""
	}
	return name + "=" + t.Secret
}

// User is what the user of that name logs in with: UserAdmin and so on, or user@realm.
func (s *Server) User(name string) Credentials {
	st := s.view()
	if full, ok := st.UserNames[name]; ok {
		name = full
	}
	u := st.Users[name]
	if u == nil {
		return Credentials{}
	}
	return Credentials{Username: name, Password: u.Password, TOTPSecret: u.TOTP}
}

// TOTP is the one-time password of a user's second factor at this moment.
func (s *Server) TOTP(name string) string { return totp(s.User(name).TOTPSecret, time.Now()) }

// HoldLock holds the lock of the realm file until release is called, which may happen
// more than once. Writes to realms wait for it as long as Options.LockTimeout.
func (s *Server) HoldLock() (release func()) {
	s.realmLock <- struct{}{}
	var once sync.Once
	return func() { once.Do(func() { <-s.realmLock }) }
}

// SetQuorum says whether the cluster has quorum. Without it every write fails,
// after it has waited for Options.LockTimeout.
func (s *Server) SetQuorum(ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.quorum:
		if !ok {
			s.quorum = make(chan struct{})
		}
	default:
		if ok {
			close(s.quorum)
		}
	}
}

// Requests are the requests seen since the start or the last Reset, in order.
func (s *Server) Requests() []Request {
	s.seen.Lock()
	defer s.seen.Unlock()
	list := make([]Request, len(s.requests))
	for i, r := range s.requests {
		list[i] = *r
	}
	return list
}

// Reset forgets the requests and handshakes seen so far.
func (s *Server) Reset() {
	s.seen.Lock()
	defer s.seen.Unlock()
	s.requests, s.handshakes = nil, Handshakes{}
}

// Handshakes are the TLS handshakes completed since the start or the last Reset.
func (s *Server) Handshakes() Handshakes {
	s.seen.Lock()
	defer s.seen.Unlock()
	return s.handshakes
}

func (s *Server) countHandshake(resumed bool) {
	s.seen.Lock()
	defer s.seen.Unlock()
	if resumed {
		s.handshakes.Resumed++
	} else {
		s.handshakes.Full++
	}
}

// begin remembers a request; end, which takes what begin returned, its outcome.
func (s *Server) begin(r *request) *Request {
	path, query, _ := strings.Cut(r.target, "?")
	entry := &Request{Method: r.method, Path: path, Query: query, Begin: time.Now()}
	s.seen.Lock()
	defer s.seen.Unlock()
	s.requests = append(s.requests, entry)
	return entry
}

func (s *Server) end(entry *Request, status int, user string) {
	s.seen.Lock()
	defer s.seen.Unlock()
	entry.Status, entry.Token = status, user
}

// view is the state as it is now. It must not be changed.
func (s *Server) view() *State { return s.state.Load() }

// realms is the realm file as it is now. It must not be changed.
func (s *Server) realms() *realmFile { return s.file.Load() }

func (s *Server) loadState() error {
	st := s.opts.Seed
	if s.opts.StateFile != "" {
		stored, err := loadState(s.opts.StateFile)
		if err != nil {
			return err
		}
		if stored != nil {
			st = stored
		}
	}
	if st == nil {
		st = DefaultState()
	}
	st = st.clone()
	if st.Domains == "" && len(st.Realms) > 0 {
		if err := s.writeRealms(st); err != nil {
			return err
		}
	}
	return s.replace(st)
}

// writeRealms makes the text of the realm file from the list of realms.
func (s *Server) writeRealms(st *State) error {
	raw, err := s.api.schema.render(fileOf(st.Realms))
	if err != nil {
		return fmt.Errorf("realms: %w", err)
	}
	st.Domains = latin1(raw)
	return nil
}

// replace makes a state the server's own and saves it.
func (s *Server) replace(st *State) error {
	if st.Users["root@pam"] == nil { // there is always a root
		st.Users["root@pam"] = &User{Enable: true}
	}
	if len(st.Key) == 0 {
		st.Key = make([]byte, 32)
		_, _ = rand.Read(st.Key) // never fails
	}
	f := s.api.schema.parse(fileBytes(st.Domains), s.api.version)
	st.Realms = f.list()
	s.state.Store(st)
	s.file.Store(f)
	if s.opts.StateFile == "" {
		return nil
	}
	return st.save(s.opts.StateFile)
}

// change changes the state as a handler does, without the locks of the cluster.
func (s *Server) change(f func(*State) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.view().clone()
	if err := f(st); err != nil {
		return err
	}
	return s.replace(st)
}

// locked runs f with one of the locks of the cluster, waiting for it as long as a node does.
func (s *Server) locked(lock chan struct{}, id string, f func() error) error {
	limit := time.NewTimer(s.opts.LockTimeout)
	defer limit.Stop()
	s.mu.Lock()
	quorum := s.quorum
	s.mu.Unlock()
	select {
	case <-quorum:
	case <-limit.C:
		return dief("cfs-lock '%s' error: no quorum!", id)
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	select {
	case lock <- struct{}{}:
	case <-limit.C:
		return dief("cfs-lock '%s' error: got lock request timeout", id)
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	defer func() { <-lock }()
	return f()
}

// withRealms changes the realm file under its lock. Errors get the prefix.
func (s *Server) withRealms(prefix string, change func(*realmFile) error) error {
	err := s.locked(s.realmLock, "file-domains_cfg", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		f := s.realms().clone()
		if err := change(f); err != nil {
			return err
		}
		raw, err := s.api.schema.render(f)
		if err != nil {
			return err
		}
		st := s.view().clone()
		st.Domains = latin1(raw)
		return s.replace(st)
	})
	if err != nil {
		return wrapped(prefix, err)
	}
	return nil
}

// withUsers changes the user file under its lock. Errors get the prefix, unless it is empty.
func (s *Server) withUsers(prefix string, change func(*State) error) error {
	err := s.locked(s.userLock, "file-user_cfg", func() error { return s.change(change) })
	if err != nil && prefix != "" {
		return wrapped(prefix, err)
	}
	return err
}

// Digest is the digest of the realm file as it is now.
func (s *Server) Digest() string { return s.realms().digest }

// Realm is a copy of the realm of that name.
func (s *Server) Realm(name string) (r Realm, ok bool) {
	for _, r := range s.Realms() {
		if r.Name == name {
			return r, true
		}
	}
	return Realm{}, false
}

// Realms are copies of all realms, in the order of the file.
func (s *Server) Realms() []Realm { return s.realms().list() }

// list are the realms of a file that can be read.
func (f *realmFile) list() []Realm {
	var list []Realm
	for _, name := range f.order {
		if sec := f.get(name); sec != nil {
			list = append(list, Realm{Name: name, Type: sec.kind, Properties: maps.Clone(sec.props)})
		}
	}
	return list
}

func fileOf(realms []Realm) *realmFile {
	f := &realmFile{sections: map[string]*section{}}
	for _, r := range realms {
		props := maps.Clone(r.Properties)
		if props == nil {
			props = map[string]string{}
		}
		f.put(r.Name, &section{kind: r.Type, props: props})
	}
	return f
}

// SetRealm stores a realm as somebody else would: without lock or checks. The
// digest changes. A realm that lacks what its type requires is an error.
func (s *Server) SetRealm(r Realm) error {
	return s.Update(func(st *State) {
		r.Properties = maps.Clone(r.Properties)
		if i := slices.IndexFunc(st.Realms, func(o Realm) bool { return o.Name == r.Name }); i >= 0 {
			st.Realms[i] = r
		} else {
			st.Realms = append(st.Realms, r)
		}
	})
}

// SetProperty sets one property of a realm as somebody else would; an empty value removes it.
func (s *Server) SetProperty(realm, property, value string) error {
	return s.Update(func(st *State) {
		for i := range st.Realms {
			if st.Realms[i].Name != realm {
				continue
			}
			if value == "" {
				delete(st.Realms[i].Properties, property)
			} else {
				st.Realms[i].Properties[property] = value
			}
		}
	})
}

// RemoveRealm removes a realm as somebody else would.
func (s *Server) RemoveRealm(name string) error {
	return s.Update(func(st *State) {
		st.Realms = slices.DeleteFunc(st.Realms, func(r Realm) bool { return r.Name == name })
	})
}

// State is a copy of the whole state.
func (s *Server) State() *State { return s.view().clone() }

// Update changes the state as somebody else would, and saves it. Changes of
// Realms count only where Domains stays as it was or is cleared. A state that
// cannot be stored is an error, and then nothing changes.
func (s *Server) Update(change func(*State)) error {
	return s.change(func(st *State) error {
		before := st.clone()
		change(st)
		sameRealms := slices.EqualFunc(before.Realms, st.Realms, func(a, b Realm) bool {
			return a.Name == b.Name && a.Type == b.Type && maps.Equal(a.Properties, b.Properties)
		})
		if cleared := st.Domains == "" && before.Domains != ""; cleared || !sameRealms && st.Domains == before.Domains {
			return s.writeRealms(st)
		}
		return nil
	})
}

// Pending is how many logins of a realm the node waits for.
func (s *Server) Pending(realm string) int {
	st := s.State()
	st.expire()
	return st.pending(realm)
}
