package openid

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"slices"
	"time"
)

const (
	pendingLifetime = 10 * time.Minute
	maxPending      = 100 // of one realm; one more is accepted
)

// Login is a login that has begun: the state of one authorization URL.
type Login struct {
	CSRF     string `json:"csrf_token"`
	Nonce    string `json:"nonce"`
	Verifier string `json:"pkce_verifier"`
	Time     int64  `json:"ctime"` // Unix time
}

// Pending holds the logins that have begun, by realm, as the files proxmox-openid-auth-state-REALM do. A realm whose logins
// all ended has an empty list: its file is there. The zero value is ready for use.
type Pending map[string][]Login

// Of returns the logins of a realm that are not too old.
func (p Pending) Of(realm string) []Login {
	old := time.Now().Add(-pendingLifetime).Unix()
	return slices.DeleteFunc(slices.Clone(p[realm]), func(l Login) bool { return l.Time < old })
}

// Begin adds a login. It fails if a realm has too many.
func (p Pending) Begin(realm string) (Login, error) {
	list := p.Of(realm)
	if len(list) > maxPending {
		return Login{}, errorf("too many pending openid auth request for realm %s", realm)
	}
	login := Login{CSRF: randomText(16), Nonce: randomText(16), Verifier: randomText(32), Time: time.Now().Unix()}
	p[realm] = append(list, login)
	return login, nil
}

// publicState is the state parameter, which goes through the browser.
type publicState struct {
	CSRF  *string `json:"csrf_token"`
	Realm *string `json:"realm"`
}

// Take removes the login that a state parameter names, and returns it with its realm. folder is where the product keeps the
// files; an error names it.
func (p Pending) Take(folder, state string) (realm string, _ Login, err error) {
	var public publicState
	if err := json.Unmarshal([]byte(state), &public); err != nil {
		return "", Login{}, Error("expected value at line 1 column 1")
	}
	if public.CSRF == nil || public.Realm == nil {
		missing := "csrf_token"
		if public.CSRF != nil {
			missing = "realm"
		}
		return "", Login{}, errorf("missing field `%s` at line 1 column %d", missing, len(state))
	}
	realm = *public.Realm
	if _, began := p[realm]; !began {
		return "", Login{}, errorf(`unable to read json "%s/proxmox-openid-auth-state-%s" - No such file or directory (os error 2)`, folder, realm)
	}
	list := p.Of(realm)
	i := slices.IndexFunc(list, func(l Login) bool { return l.CSRF == *public.CSRF })
	if i < 0 {
		return "", Login{}, Error("no openid auth state found (possible timeout)")
	}
	login := list[i]
	p[realm] = slices.Delete(list, i, i+1)
	return realm, login, nil
}

func randomText(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}
