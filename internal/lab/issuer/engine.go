package issuer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// How long what the issuer gives is good for, as Authelia's defaults are.
const (
	lifespanCode        = time.Minute
	lifespanAccessToken = time.Hour
	lifespanIDToken     = time.Hour
	lifespanPushed      = 5 * time.Minute
)

var errNotFound = errors.New("not found")

// startEngine sets up the provider library over the server's maps.
func (s *Server) startEngine() error {
	config := &op.Config{CodeMethodS256: true, AuthMethodPost: true}
	if _, err := rand.Read(config.CryptoKey[:]); err != nil {
		return err
	}
	provider, err := op.NewProvider(config, storage{s: s}, op.StaticIssuer(s.base))
	if err != nil {
		return fmt.Errorf("set up the provider: %w", err)
	}
	s.engine = op.NewLegacyServer(provider, *op.DefaultEndpoints)
	s.crypto = provider.Crypto()
	return nil
}

// subject is a user's sub: a UUID (RFC 9562, version 8) that is the same in every run.
func subject(name string) string {
	sum := sha256.Sum256([]byte("proxmox-realm lab user " + name))
	id := sum[:16]
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// flow is an authorization request, from the first redirect to the tokens: an op.AuthRequest, as far as the library asks.
type flow struct {
	op.AuthRequest
	id          string
	clientID    string
	redirectURI string
	state       string
	nonce       string
	scopes      []string
	challenge   *oidc.CodeChallenge
	issuer      string // the name under which it began
	root        string
	freshLogin  bool // prompt=login: an older session does not count
	begun       time.Time

	session session   // who consented
	granted time.Time // when; zero until then
}

// session is a user who is logged in with this browser.
type session struct {
	user  string
	since time.Time
}

// token is an access token.
type token struct {
	user     string
	clientID string
	scopes   []string
	expires  time.Time
}

func (f *flow) GetID() string                         { return f.id }
func (f *flow) GetACR() string                        { return "" }
func (f *flow) GetAMR() []string                      { return []string{"pwd", "kba"} }
func (f *flow) GetAudience() []string                 { return []string{f.clientID} }
func (f *flow) GetAuthTime() time.Time                { return f.session.since }
func (f *flow) GetClientID() string                   { return f.clientID }
func (f *flow) GetCodeChallenge() *oidc.CodeChallenge { return f.challenge }
func (f *flow) GetNonce() string                      { return f.nonce }
func (f *flow) GetRedirectURI() string                { return f.redirectURI }
func (f *flow) GetScopes() []string                   { return f.scopes }
func (f *flow) GetSubject() string                    { return subject(f.session.user) }

// registered is a client as the provider library sees it, as far as the library asks.
type registered struct {
	op.Client
	client Client
}

func (c registered) GetID() string                        { return c.client.ID }
func (c registered) AuthMethod() oidc.AuthMethod          { return oidc.AuthMethod(c.client.AuthMethod) }
func (c registered) AccessTokenType() op.AccessTokenType  { return op.AccessTokenTypeBearer }
func (c registered) IDTokenLifetime() time.Duration       { return lifespanIDToken }
func (c registered) ClockSkew() time.Duration             { return 0 }
func (c registered) IDTokenUserinfoClaimsAssertion() bool { return c.client.ClaimsInToken }

// RestrictAdditionalIdTokenScopes leaves sub and the protocol's claims alone
// in the ID token, as Authelia does since 4.39 where no claims policy says otherwise.
func (c registered) RestrictAdditionalIdTokenScopes() func([]string) []string { //nolint:revive // the library spells it so
	return func(scopes []string) []string {
		if c.client.ClaimsInToken {
			return scopes
		}
		return nil
	}
}

// storage gives the provider library the server's maps, as far as the library asks: for codes and userinfo.
type storage struct {
	op.Storage
	s *Server
}

func (st storage) AuthRequestByCode(_ context.Context, code string) (op.AuthRequest, error) {
	flow, ok := st.s.flowByCode(code)
	if !ok {
		return nil, errNotFound
	}
	return flow, nil
}

// flowByCode finds what a code was given for, while it is good.
func (s *Server) flowByCode(code string) (*flow, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	flow, ok := s.flows[s.codes[code]]
	if !ok || s.now().Sub(flow.granted) > lifespanCode {
		return nil, false
	}
	return flow, true
}

func (st storage) SaveAuthCode(_ context.Context, id, code string) error {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	st.s.codes[code] = id
	return nil
}

func (st storage) DeleteAuthRequest(_ context.Context, id string) error {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	delete(st.s.flows, id)
	return nil
}

func (st storage) CreateAccessToken(_ context.Context, request op.TokenRequest) (string, time.Time, error) {
	flow, ok := request.(*flow)
	if !ok {
		return "", time.Time{}, oidc.ErrInvalidGrant()
	}
	id, expires := identifier(), st.s.now().Add(lifespanAccessToken)
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	st.s.tokens[id] = token{user: flow.session.user, clientID: flow.clientID, scopes: flow.scopes, expires: expires}
	return id, expires, nil
}

func (st storage) SigningKey(context.Context) (op.SigningKey, error) {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	if len(st.s.keys) > 0 {
		return signingKey{st.s.keys[0]}, nil
	}
	return nil, oidc.ErrServerError().WithDescription("no key to sign with")
}

func (st storage) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}

// SetUserinfoFromRequest adds claims to the ID token of a client with a claims policy.
func (st storage) SetUserinfoFromRequest(_ context.Context, info *oidc.UserInfo, request op.IDTokenRequest, scopes []string) error {
	if flow, ok := request.(*flow); ok {
		st.s.fill(info, flow.session.user, scopes)
	}
	return nil
}

func (st storage) SetUserinfoFromToken(_ context.Context, info *oidc.UserInfo, id, _, _ string) error {
	st.s.mu.Lock()
	token, ok := st.s.tokens[id]
	st.s.mu.Unlock()
	if !ok || st.s.now().After(token.expires) {
		return errRequestUnauthorized
	}
	info.Subject = subject(token.user)
	st.s.fill(info, token.user, token.scopes)
	return nil
}

// fill sets the claims that scopes are worth (OpenID Connect Core 1.0, section 5.4; groups is Authelia's own).
func (s *Server) fill(info *oidc.UserInfo, name string, scopes []string) {
	s.mu.Lock()
	user := s.users[name]
	s.mu.Unlock()
	for _, scope := range scopes {
		switch scope {
		case oidc.ScopeProfile:
			info.PreferredUsername, info.Name = user.Name, user.Display
		case oidc.ScopeEmail:
			info.Email, info.EmailVerified = user.Email, true
		case "groups":
			info.AppendClaims("groups", user.Groups)
		}
	}
}
