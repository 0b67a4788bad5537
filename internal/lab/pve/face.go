package pve

import "errors"

// Server is a running stand-in. Its methods may be called from any goroutine.
type Server struct{}

// Start listens and serves until [Server.Close].
func Start(o Options) (*Server, error) { return nil, errors.New("not yet") }

// URL is the origin of the server, such as https://127.0.0.1:41235, without a slash at its end.
func (s *Server) URL() string { return "" }

// CertificatePEM is the server's certificate chain in PEM: a CA file for clients where the server made its own.
func (s *Server) CertificatePEM() []byte { return nil }

// Close stops listening, cuts every connection and waits for what is under way.
func (s *Server) Close() error { return nil }

// Token is the API token of that name, complete: user@realm!id=secret. It is
// empty where there is none. Names are the constants TokenRoot and so on, or user@realm!id.
func (s *Server) Token(name string) string { return "" }

// User is what the user of that name logs in with: UserAdmin and so on, or user@realm.
func (s *Server) User(name string) Credentials { return Credentials{} }

// TOTP is the one-time password of a user's second factor at this moment.
func (s *Server) TOTP(name string) string { return "" }

// HoldLock holds the lock of the realm file until release is called, which may happen
// more than once. Writes to realms wait for it as long as Options.LockTimeout.
func (s *Server) HoldLock() (release func()) { return func() {} }

// SetQuorum says whether the cluster has quorum; without it every write fails.
func (s *Server) SetQuorum(ok bool) {}

// Requests are the requests seen since the start or the last Reset, in order.
func (s *Server) Requests() []Request { return nil }

// Reset forgets the requests and handshakes seen so far.
func (s *Server) Reset() {}

// Handshakes are the TLS handshakes completed since the start or the last Reset.
func (s *Server) Handshakes() Handshakes { return Handshakes{} }

// Digest is the digest of the realm file as it is now.
func (s *Server) Digest() string { return "" }

// Realm is a copy of the realm of that name.
func (s *Server) Realm(name string) (r Realm, ok bool) { return Realm{}, false }

// Realms are copies of all realms, in the order of the file.
func (s *Server) Realms() []Realm { return nil }

// SetRealm stores a realm as somebody else would: without lock or checks. The digest changes.
func (s *Server) SetRealm(r Realm) {}

// SetProperty sets one property of a realm as somebody else would; an empty value removes it.
func (s *Server) SetProperty(realm, property, value string) {}

// RemoveRealm removes a realm as somebody else would.
func (s *Server) RemoveRealm(name string) {}

// State is a copy of the whole state.
func (s *Server) State() *State { return nil }

// Update changes the state as somebody else would, and saves it.
func (s *Server) Update(change func(*State)) {}

// Pending is how many logins of a realm the node waits for.
func (s *Server) Pending(realm string) int { return 0 }

// Inject adds a fault. Of several rules that match a request the one added last
// decides. Removing a rule lets go of the requests that hang by it.
func (s *Server) Inject(r Rule) (remove func()) { return func() {} }

// DefaultState is the state that a server begins with: the realms pam and pve,
// and the users, roles, tokens and ACLs behind the names of [Server.Token] and
// [Server.User]. Its secrets are random.
func DefaultState() *State { return &State{} }
