// Package pve is a stand-in for the access API of Proxmox VE, as far as OpenID
// Connect realms need it. It answers byte for byte like libpve-access-control
// behind pve-http-server: status, reason phrase, headers, body, and when the
// connection closes.
//
// It serves tests and experiments. It listens on loopback and keeps its state
// in memory or in one file. A test can hold the lock of the realm file, change
// the state, and break answers. For a login it asks a real issuer.
package pve

import (
	"cmp"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"proxmox-realm/internal/lab/authority"
	"proxmox-realm/internal/lab/openid"
	"proxmox-realm/internal/lab/standin"
)

// The delays and limits of a real node. See [Options].
const (
	// RealDelay401 is the delay of the answer to bad credentials.
	RealDelay401 = 3 * time.Second
	// RealLockTimeout is how long a write waits for the lock of the realm file.
	RealLockTimeout = 10 * time.Second
	// RealIssuerTimeout is how long the proxy waits for a worker that waits for an issuer.
	RealIssuerTimeout = 30 * time.Second
	// RealWorkers is how many workers a node's daemon has.
	RealWorkers = 3
)

// DefaultVersion is the version of a server whose options name none.
const DefaultVersion = "9.2.11"

// Options configure a server. The zero value is a node of [DefaultVersion] on a
// free port of 127.0.0.1. It has a certificate by a new authority, the seed of
// [DefaultState], and no state file.
type Options struct {
	// Version is the version of the node, such as "9.2.11", "8.4.1", "8.1.4"
	// or "7.4-3". It decides which properties a realm may have, the shape of
	// /version and whether error bodies repeat the message.
	Version string
	// StateFile, if not empty, is read at the start, if it exists. The server
	// replaces it (mode 0600) after each change. Its state takes precedence over Seed.
	StateFile string
	// Seed is the first state; nil means [DefaultState].
	Seed *State
	// Authority is the cluster's CA (pve-root-ca.pem), which signs the certificates of the nodes; nil means a new one.
	Authority *authority.CA
	// Certificate replaces the first node's certificate by Authority (pve-ssl.pem).
	Certificate tls.Certificate
	// Listen is the address that the first node listens on, by default 127.0.0.1:0.
	Listen string
	// Bind listens on an address; nil means of the real network.
	Bind func(address string) (net.Listener, error)
	// Nodes are the nodes of the cluster; none means one node, which belongs to no cluster.
	Nodes []Node
	// Cluster is the name of a cluster of several nodes, by default "lab".
	Cluster string
	// NodeTimeout is how long a node waits for another one that is off. A real node takes [RealIssuerTimeout].
	NodeTimeout time.Duration
	// IssuerClient connects to issuers, with the node's CA store, DNS and proxy.
	// Its redirect policy and timeout are ignored. Nil means the system's.
	IssuerClient *http.Client
	// IssuerTimeout is how long the node waits for an issuer before it answers
	// 596; the worker stays blocked until the issuer answers. Zero means [RealIssuerTimeout].
	IssuerTimeout time.Duration
	// Delay401 delays each 401 after refused credentials. A real node takes
	// [RealDelay401].
	Delay401 time.Duration
	// LockTimeout is how long a write waits for the lock of the realm or user
	// file. Zero means [RealLockTimeout].
	LockTimeout time.Duration
	// Now is the clock of the nodes' logs; nil means the system's.
	Now func() time.Time
	// RoundTrip is the round trip time of the network to the node: a new
	// connection costs it twice (TCP and TLS), each request once. Zero is none.
	RoundTrip time.Duration
	// Workers is how many requests the node's daemon handles at once: writes
	// and logins go through it. Zero means [RealWorkers].
	Workers int
	// Log receives one record for each request, without secrets, and the reason
	// of each refused login, like a node's syslog. Nil discards them.
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

type (
	// Rule is what tests inject.
	Rule = standin.Rule
	// Request is what tests see of a request.
	Request = standin.Request
	// Handshakes is what tests see of connections.
	Handshakes = standin.Handshakes
	// Line is one entry of a node's journal.
	Line = standin.Line
)

// Fail is the rule that answers every request of method below path with a status and a reason phrase.
func Fail(method, path string, status int, reason string) Rule {
	return Rule{Method: method, Path: path, Status: status, Reason: reason}
}

// Server is a running stand-in. Its methods may be called from any goroutine.
type Server struct {
	*standin.Server
	opts    Options
	nodes   []*node
	library *openid.Library
	store   *standin.Store[State]

	version   version
	schema    *realmSchema
	roles     map[string]map[string]bool // built-in
	privs     map[string]bool
	endpoints []*endpoint

	// The two locks of the cluster file system: whoever receives the value holds the lock.
	realmLock, userLock chan struct{}

	mu     sync.Mutex
	quorum chan struct{} // closed while there is quorum
	// noQuorum is what SetQuorum said.
	noQuorum     bool
	clusterLog   []clusterLine
	clusterLines int // that were logged
}

// Start listens and serves until [Server.Close].
func Start(o Options) (*Server, error) {
	o.Version, o.Cluster = cmp.Or(o.Version, DefaultVersion), cmp.Or(o.Cluster, "lab")
	o.IssuerTimeout, o.LockTimeout = cmp.Or(o.IssuerTimeout, RealIssuerTimeout), cmp.Or(o.LockTimeout, RealLockTimeout)
	o.Workers = cmp.Or(o.Workers, RealWorkers)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Seed == nil {
		o.Seed = DefaultState()
	}
	var err error
	if o.Authority == nil {
		if o.Authority, err = authority.New(); err != nil {
			return nil, fmt.Errorf("make an authority: %w", err)
		}
	}
	s := &Server{
		Server: standin.NewServer(o.RoundTrip, o.Log), opts: o, quorum: make(chan struct{}),
		realmLock: make(chan struct{}, 1), userLock: make(chan struct{}, 1),
	}
	if o.Bind != nil {
		s.Bind = o.Bind
	}
	s.realmLock <- struct{}{}
	s.userLock <- struct{}{}
	close(s.quorum)
	s.library = openid.New(o.IssuerClient, s.Logger())
	s.addEndpoints()
	if s.store, err = standin.OpenStore(o.StateFile, (*State).clone, o.Seed); err != nil {
		return nil, err
	}
	if err := s.Update(func(*State) {}); err != nil {
		return nil, fmt.Errorf("realms: %w", err)
	}
	if err := s.startNodes(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// URL is the origin of the first node, such as https://127.0.0.1:41235, without a slash at its end.
func (s *Server) URL() string { return s.URLs()[0] }

// URLs are the origins of all nodes, also of those that are off.
func (s *Server) URLs() (list []string) {
	for _, n := range s.nodes {
		list = append(list, "https://"+n.listen)
	}
	return list
}

// CertificatePEM is a CA file for clients: the cluster's CA, and the first node's certificate.
func (s *Server) CertificatePEM() []byte {
	own := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.nodes[0].pair.Certificate[0]})
	return append(s.opts.Authority.PEM(), own...)
}

// Token returns the API token of that name as user@realm!id=secret, or "" if
// there is none. Names are the constants TokenRoot and so on, or user@realm!id.
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

// User returns the credentials of a user: UserAdmin and so on, or user@realm.
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

// TOTP returns the user's current one-time password.
func (s *Server) TOTP(name string) string { return standin.TOTP(s.User(name).TOTPSecret, time.Now()) }

// HoldLock holds the lock of the realm file until release is called. Writes to
// realms wait for it, at most for Options.LockTimeout. release may be called more than once.
func (s *Server) HoldLock() (release func()) {
	<-s.realmLock
	return sync.OnceFunc(func() { s.realmLock <- struct{}{} })
}

// Log adds lines to the journal of a node, in any order. It returns an error if there is no such node.
func (s *Server) Log(node string, lines ...Line) error {
	n := s.node(node, nil)
	if n == nil {
		return fmt.Errorf("there is no node %s", node)
	}
	n.log.Add(lines...)
	return nil
}
