// Package issuer is an OpenID provider on loopback that behaves like Authelia
// 4.39: paths, status codes, error codes, redirects and rate limits.
// github.com/zitadel/oidc implements OpenID Connect itself (tokens, codes,
// PKCE, userinfo); this package implements what clients see around it.
//
// Tests can change clients, keys, certificate, clock, metadata and faults while
// it runs. It records requests, without secrets.
package issuer

import (
	"cmp"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"

	"proxmox-realm/internal/lab/authority"
)

// Options configure an issuer. The zero value has no clients, two users (see
// DefaultUsers), a free port, and a certificate by a new authority.
type Options struct {
	Listen      string                                     // host:port; default 127.0.0.1:0
	Bind        func(address string) (net.Listener, error) // listens; default on the real network
	Path        string                                     // path of the issuer below the host, "/auth" say; default none
	Hosts       []string                                   // more accepted values of the Host header; others get 400
	Authority   *authority.CA                              // signs the certificate; default a new one
	Certificate *tls.Certificate                           // default: a valid one by Authority for loopback
	Clients     []Client
	Users       []User           // default DefaultUsers
	Keys        []Key            // published keys, of which the first signs; default an RS256 and an ES256 key
	Limits      []Limit          // rate limits of failures; default none, see AutheliaLimits
	Log         *slog.Logger     // gets a record of each request, without secrets; default none
	RoundTrip   time.Duration    // delays each request, and each new connection twice (TCP and TLS); default none
	Now         func() time.Time // the issuer's clock for limits, sessions and tokens; default time.Now
}

// Client is a registered client, with the names of Authelia's configuration.
type Client struct {
	ID            string
	Name          string
	Secret        string // the key, or a digest of it as in Authelia's configuration
	FormerSecret  string // is accepted too, as some providers do while a key changes; Authelia has none
	AuthMethod    string // token_endpoint_auth_method: client_secret_basic (default), client_secret_post, none
	RedirectURIs  []string
	Scopes        []string // default openid, profile, email, groups
	ResponseTypes []string // default code
	GrantTypes    []string // default authorization_code
	RequirePushed bool     // require_pushed_authorization_requests
	RequirePKCE   bool     // only a real login notices it, as with Authelia
	ClaimsInToken bool     // the ID token holds the claims of the scopes, as with a claims policy of Authelia
}

// User is somebody who can log in.
type User struct {
	Name     string // preferred_username
	Password string
	Display  string // name
	Email    string
	Groups   []string
}

// DefaultUsers returns john (groups admins and dev) and harry (groups dev), both with the
// password "password".
func DefaultUsers() []User {
	return []User{
		{Name: "john", Password: "password", Display: "John Doe", Email: "john.doe@example.test", Groups: []string{"admins", "dev"}},
		{Name: "harry", Password: "password", Display: "Harry Potter", Email: "harry.potter@example.test", Groups: []string{"dev"}},
	}
}

// Server is a running issuer. Its methods may be called while it serves.
type Server struct {
	base      string // https://host:port and the path
	path      string
	hosts     []string
	authority *authority.CA
	now       func() time.Time
	log       *slog.Logger
	http      *http.Server
	roundTrip time.Duration
	closing   chan struct{}
	stop      sync.Once
	serving   sync.WaitGroup
	engine    *op.LegacyServer
	crypto    op.Crypto
	routes    map[string]http.HandlerFunc

	handshakes atomic.Int64

	mu          sync.Mutex
	certificate *tls.Certificate
	issuer      string // override of the issuer's name
	metadata    map[string]any
	keys        []Key
	skew        time.Duration
	clients     map[string]Client
	users       map[string]User
	sessions    map[string]session
	flows       map[string]*flow    // authorization requests by id
	codes       map[string]string   // flow id by code, used ones too
	tokens      map[string]token    // access tokens by id
	faults      map[string][]*Fault // by path
	limits      limiter
	habits      Habits
	requests    []*Request
}

// Start starts an issuer. The caller closes it.
func Start(options Options) (*Server, error) {
	s, err := prepare(options)
	if err != nil {
		return nil, err
	}
	if options.Bind == nil {
		options.Bind = func(address string) (net.Listener, error) { return net.Listen("tcp", address) }
	}
	listener, err := options.Bind(cmp.Or(options.Listen, "127.0.0.1:0"))
	if err != nil {
		return nil, err
	}
	host := listener.Addr().String()
	s.base = "https://" + host + s.path
	s.hosts = append([]string{host}, options.Hosts...)
	if err := s.startEngine(); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	s.routes = s.table()
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // clients that refuse a certificate are the normal case here
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			s.travel(2)
			return nil, nil
		},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.certificate, nil
		},
		VerifyConnection: func(tls.ConnectionState) error {
			s.handshakes.Add(1)
			return nil
		},
	}
	s.serving.Go(func() {
		_ = s.http.Serve(tls.NewListener(listener, config)) // always ErrServerClosed
	})
	return s, nil
}

// prepare makes a server that does not listen yet.
func prepare(options Options) (*Server, error) {
	var err error
	ca := options.Authority
	if ca == nil {
		if ca, err = authority.New(); err != nil {
			return nil, fmt.Errorf("make an authority: %w", err)
		}
	}
	certificate := options.Certificate
	if certificate == nil {
		issued, err := ca.Issue(authority.Valid, "127.0.0.1", "::1", "localhost")
		if err != nil {
			return nil, fmt.Errorf("issue a certificate: %w", err)
		}
		certificate = &issued
	}
	keys := options.Keys
	if keys == nil {
		if keys, err = DefaultKeys(); err != nil {
			return nil, err
		}
	}
	s := &Server{
		path:        options.Path,
		authority:   ca,
		now:         options.Now,
		log:         options.Log,
		roundTrip:   options.RoundTrip,
		closing:     make(chan struct{}),
		certificate: certificate,
		metadata:    map[string]any{},
		keys:        keys,
		clients:     map[string]Client{},
		users:       map[string]User{},
		sessions:    map[string]session{},
		flows:       map[string]*flow{},
		codes:       map[string]string{},
		tokens:      map[string]token{},
		faults:      map[string][]*Fault{},
		limits:      limiter{limits: options.Limits},
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, client := range options.Clients {
		s.SetClient(client)
	}
	users := options.Users
	if users == nil {
		users = DefaultUsers()
	}
	for _, user := range users {
		s.SetUser(user)
	}
	return s, nil
}

// Close stops the server, ends hanging requests, and waits.
func (s *Server) Close() error {
	var err error
	s.stop.Do(func() {
		close(s.closing)
		err = s.http.Close()
		s.serving.Wait()
	})
	return err
}

// URL is the address of the issuer, without a trailing slash. It is also the
// issuer's name, unless SetIssuer changes that.
func (s *Server) URL() string { return s.base }

// Authority is the authority that signed the issuer's first certificate.
func (s *Server) Authority() *authority.CA { return s.authority }

// Client returns a registered client.
func (s *Server) Client(id string) (Client, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	client, ok := s.clients[id]
	return client, ok
}

// SetClient registers a client, or replaces the one with the same id.
func (s *Server) SetClient(client Client) {
	if client.AuthMethod == "" {
		client.AuthMethod = methodBasic
	}
	if client.Scopes == nil {
		client.Scopes = []string{"openid", "profile", "email", "groups"}
	}
	if client.ResponseTypes == nil {
		client.ResponseTypes = []string{"code"}
	}
	if client.GrantTypes == nil {
		client.GrantTypes = []string{"authorization_code"}
	}
	if client.Name == "" {
		client.Name = client.ID
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[client.ID] = client
}

// RemoveClient removes a client.
func (s *Server) RemoveClient(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, id)
}

// Restart replaces all clients, and forgets what Authelia forgets when it is started again: who is logged in, and the
// failures that it counted. Without clients the OpenID Connect provider is off.
func (s *Server) Restart(clients []Client) {
	s.mu.Lock()
	s.habits.Off = len(clients) == 0
	clear(s.clients)
	clear(s.sessions)
	s.limits = limiter{limits: s.limits.limits}
	s.mu.Unlock()
	for _, client := range clients {
		s.SetClient(client)
	}
}

// SetUser adds a user, or replaces the one with the same name.
func (s *Server) SetUser(user User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[user.Name] = user
}

// SetIssuer changes the issuer's name in the discovery document, ID tokens and
// redirects, for example to one with a trailing slash. The endpoints keep their
// addresses. An empty name restores the first one.
func (s *Server) SetIssuer(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.issuer = name
}

// SetMetadata overrides one member of the discovery document. nil removes it.
// A json.RawMessage is used as it is.
func (s *Server) SetMetadata(member string, value any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metadata[member] = value
}

// SetKeys replaces the published keys, of which the first signs ID tokens.
func (s *Server) SetKeys(keys ...Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = keys
}

// SetClockOffset shifts the Date header of every answer.
func (s *Server) SetClockOffset(offset time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew = offset
}

// SetCertificate presents another certificate to new connections.
func (s *Server) SetCertificate(certificate tls.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.certificate = &certificate
}

// SetLimits changes the rate limits, and forgets what was counted.
func (s *Server) SetLimits(limits ...Limit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits = limiter{limits: limits}
}

// Inject makes a path ("/jwks.json", say, or "" for all) misbehave, in front
// of what was injected there before. Clear takes everything back.
func (s *Server) Inject(path string, fault Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[path] = append([]*Fault{&fault}, s.faults[path]...)
}

// Clear takes back what was injected.
func (s *Server) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.faults)
}

// Requests returns what was asked, oldest first.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests := make([]Request, len(s.requests))
	for i, request := range s.requests {
		requests[i] = *request
	}
	return requests
}

// Handshakes counts the TLS handshakes in which the client got to see the certificate.
func (s *Server) Handshakes() int { return int(s.handshakes.Load()) }

// Reset forgets requests and handshakes, and nothing else.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
	s.handshakes.Store(0)
}

// travel waits for so many round trips, or until the server closes.
func (s *Server) travel(trips int) {
	if s.roundTrip == 0 {
		return
	}
	select {
	case <-time.After(time.Duration(trips) * s.roundTrip):
	case <-s.closing:
	}
}

// identifier returns 128 random bits or more, as text.
func identifier() string { return rand.Text() }
