package issuer

import (
	_ "embed"
	"encoding/json"
	"net/url"
	"strings"
	"sync"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

//go:embed providers.json
var providersJSON []byte

// known holds providers.json: the software behind issuers, and what it says. The first saying that fits counts.
var known = sync.OnceValue(func() (k struct {
	Providers []provider
	Sayings   []saying
},
) {
	if err := json.Unmarshal(providersJSON, &k); err != nil {
		panic("providers.json: " + err.Error())
	}
	return k
})

// provider is the software behind an issuer. Its properties only soften or word a verdict.
type provider struct {
	Name               string
	Authorization      string // how its authorization endpoint ends, the host before the path
	Keys               string // how its jwks_uri ends
	Subject            string // what sub holds; "": unknown
	BareToken          bool   `json:"bare_token"`            // its ID tokens hold no claim of the user but sub
	DefaultScopes      bool   `json:"default_scopes"`        // it gives claims whose scope is not requested
	BlindIntrospection bool   `json:"blind_introspection"`   // its introspection endpoint ignores the key
	ChecksRedirect     bool   `json:"token_checks_redirect"` // it answers a wrong redirect URL like a wrong key
	PagesWith200       bool   `json:"pages_with_200"`        // its error pages have the status 200
}

// provider recognises the software by its endpoints. It returns a provider called "the issuer" for all others.
func (i *Inspection) provider() provider {
	if u, err := url.Parse(string(i.document.AuthorizationEndpoint)); err == nil {
		for _, p := range known().Providers {
			if strings.HasSuffix(u.Host+u.Path, p.Authorization) && strings.HasSuffix(string(i.document.JWKSURI), p.Keys) {
				return p
			}
		}
	}
	return provider{Name: "the issuer"}
}

// saying is one thing that an issuer may say. Empty fields fit everything. A saying that neither accepts nor rejects
// proves nothing.
type saying struct {
	// At is where the issuer says it. token and introspection are OAuth errors of these endpoints. request is an OAuth
	// error for an authorization request, and page is an error page for one.
	At       string
	Provider string
	Code     string
	Text     string // that the description or the page contains, in any case
	Accepted bool
	Rejects  subject
}

// find returns the verdict of the first saying that fits. Its reason is the saying's text.
func find(at, provider, code, text string) Verdict {
	text = strings.ToLower(text)
	for _, s := range known().Sayings {
		if s.At != at || s.Provider != "" && s.Provider != provider || s.Code != "" && s.Code != code ||
			!strings.Contains(text, strings.ToLower(s.Text)) {
			continue
		}
		v := Verdict{about: s.Rejects, Reason: s.Text}
		switch {
		case s.Accepted:
			v.Decision = Accepted
		case s.Rejects != "":
			v.Decision = Rejected
		}
		return v
	}
	return Verdict{}
}

// subject is what the issuer rejects of a client.
type subject string

const (
	ofKey      subject = "key"
	ofKeyID    subject = "key id"
	ofOldKey   subject = "expired key"
	ofClient   subject = "id"
	ofMethod   subject = "authentication method"
	ofGrant    subject = "authorization code grant"
	ofRedirect subject = "redirect URL"
	ofScope    subject = "scopes"
	ofResponse subject = "response type code"
	ofPlain    subject = "login request that was not pushed"
)

// remedy says how to resolve a rejection.
func (s subject) remedy(l realm.Login) check.Hint {
	return check.Hints(map[subject][]check.Hint{
		ofKey: {
			check.Set("realm.client_key_file", "").With("the key that the issuer holds"),
			check.Hint("give the issuer the key, for client_secret_basic").
				With("Authelia: client_secret is the key's digest; restart Authelia after a change"),
		},
		ofKeyID:  {check.Set("realm.client_key_file", "").With("the value of the client secret, not its id")},
		ofOldKey: {check.Hint("make a new client secret in the issuer")},
		ofClient: {
			check.Set("realm.client_id", "").With("the issuer does not know %s", l.ClientID),
			check.Hint("register the client in the issuer"),
		},
		ofMethod: {check.Hint("let the client use client_secret_basic").
			With("Authelia: token_endpoint_auth_method: 'client_secret_basic'")},
		ofGrant: {check.Hint("allow the client the code flow").With("Authelia: grant_types; Keycloak: standard flow")},
		ofScope: {
			check.Hintf("allow the client the scopes %s", l.ScopeParameter()).With("Authelia: scopes"),
			check.Set("realm.scopes", "").With("without the rejected scope"),
		},
		ofResponse: {check.Hint("allow the client the response type code").With("Authelia: response_types")},
		ofPlain: {check.Hint("let the client send requests that are not pushed").
			With("Authelia: require_pushed_authorization_requests: false")},
	}[s]...)
}
