// Package pbs is a stand-in for the access API of Proxmox Backup Server and Proxmox Datacenter Manager, as far as OpenID
// Connect realms need it. Both products share their Rust code; a [Product] says what differs. Recordings of the real Backup
// Server are in ../testdata.
//
// It serves tests and experiments. It listens on loopback and keeps its state in memory or in one file. A test can hold the
// lock of the realms, change the state, stop the privileged daemon, and break answers. For a login it asks a real issuer.
package pbs

import (
	"cmp"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
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
	*standin.Server
	opts      Options
	product   *Product
	endpoints []endpoint
	library   *openid.Library
	listener  *standin.Listener
	store     *standin.Store[State]
	journal   standin.Journal
	daemon    daemon
	realmLock chan struct{}

	mu    sync.Mutex
	cache [2]cache // of the proxy and of the privileged daemon
}

// Start listens and serves until [Server.Close].
func Start(o Options) (*Server, error) {
	if o.Product == nil {
		o.Product = BackupServer
	}
	o.Version, o.Listen = cmp.Or(o.Version, o.Product.version), cmp.Or(o.Listen, "127.0.0.1:0")
	o.Cores, o.LockTimeout, o.Zone = cmp.Or(o.Cores, runtime.NumCPU()), cmp.Or(o.LockTimeout, RealLockTimeout), cmp.Or(o.Zone, time.UTC)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Seed == nil {
		o.Seed = DefaultState(o.Product)
	}
	if len(o.Certificate.Certificate) == 0 {
		ca, err := authority.New()
		if err != nil {
			return nil, err
		}
		if o.Certificate, err = ca.Issue(authority.SelfSigned, "127.0.0.1", "::1", "localhost"); err != nil {
			return nil, err
		}
	}
	s := &Server{Server: standin.NewServer(o.RoundTrip, o.Log), opts: o, product: o.Product, realmLock: make(chan struct{}, 1)}
	s.journal.Host, s.journal.Zone = o.Product.Name, o.Zone
	s.endpoints = s.product.endpoints(o.Version)
	s.library = openid.New(o.IssuerClient, s.Logger())
	var err error
	if s.store, err = standin.OpenStore(o.StateFile, standin.Clone[State], o.Seed); err != nil {
		return nil, err
	}
	s.daemon.start(s.Context(), o.Cores)
	if s.listener, err = s.Listen(o.Listen, 0, func() *tls.Certificate { return &s.opts.Certificate }, s.serve); err != nil {
		return nil, errors.Join(fmt.Errorf("listening: %w", err), s.Close())
	}
	return s, nil
}

// URL returns the origin of the server, such as https://127.0.0.1:41235, without a slash at its end.
func (s *Server) URL() string { return "https://" + s.listener.Host }

// CertificatePEM returns the server's certificate in PEM: a CA file for clients where the server made its own.
func (s *Server) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.opts.Certificate.Certificate[0]})
}

// Product returns what the server is.
func (s *Server) Product() *Product { return s.product }

// Token returns the API token of that name as user@realm!id:secret, or "" if there is none. Names are the constants
// TokenRoot and so on, or user@realm!id.
func (s *Server) Token(name string) string {
	st := s.store.View()
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
func (s *Server) State() *State { return standin.Clone(s.store.View()) }

// Update edits the state as an administrator on the host would. All of it is seen at once.
func (s *Server) Update(f func(*State)) error {
	return s.store.Change(func(st *State) error {
		f(st)
		st.Generation++
		return nil
	})
}

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
		s.daemon.start(s.Context(), s.opts.Cores)
	}
}
