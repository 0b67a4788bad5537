package issuer_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/issuer"
	lab "proxmox-realm/internal/lab/issuer"
)

// count returns how many requests went to token, introspection and authorization endpoint since the last call.
func count(s *lab.Server) [3]int {
	var n [3]int
	for _, r := range s.Requests() {
		if at := slices.Index([]string{"/api/oidc/token", "/api/oidc/introspection", "/api/oidc/authorization"}, r.Path); at >= 0 {
			n[at]++
		}
	}
	s.Reset()
	return n
}

// What made-up values got is remembered: a right client then costs one token request, one introspection and one login request.
func TestControlsAreRemembered(t *testing.T) {
	s := start(t, lab.Options{})
	ask := func(q issuer.Question) issuer.Answer {
		q.RedirectURLs, q.RedirectsDeclared = []string{redirectURL}, true
		if q.Login.IssuerURL == "" {
			q.Login = login(s.URL())
		}
		return client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).Client(t.Context(), q)
	}
	wants := func(what string, a issuer.Answer, decision issuer.Decision, requests [3]int) {
		t.Helper()
		if got := count(s); a.Credentials.Decision != decision || got != requests {
			t.Errorf("%s: %s after %v, want %s after %v", what, a.Credentials.Decision, got, decision, requests)
		}
	}
	first := ask(issuer.Question{Depth: issuer.Full})
	wants("first", first, issuer.Accepted, [3]int{2, 2, 1})
	stored, err := json.Marshal(first.Known)
	if err != nil || strings.Contains(string(stored), "invalid") || strings.Contains(string(stored), clientKey) {
		t.Errorf("%s, %v", stored, err)
	}
	var known issuer.Known
	if err := json.Unmarshal(stored, &known); err != nil || known != first.Known && !known.Asked.Equal(first.Known.Asked) {
		t.Errorf("%+v, %v", known, err)
	}
	wants("remembered", ask(issuer.Question{Depth: issuer.Full, Known: known}), issuer.Accepted, [3]int{1, 1, 1})
	wants("free", ask(issuer.Question{Depth: issuer.Free, Known: known}), issuer.Accepted, [3]int{0, 1, 1})
	wants("free, for another key", ask(issuer.Question{Depth: issuer.Free, Known: known.WithoutKey()}), issuer.Accepted, [3]int{0, 1, 1})
	wants("free, and nothing known", ask(issuer.Question{Depth: issuer.Free}), issuer.NoVerdict, [3]int{0, 1, 1})
	old := known
	old.Asked = time.Now().Add(-31 * 24 * time.Hour)
	wants("a month later", ask(issuer.Question{Depth: issuer.Full, Known: old}), issuer.Accepted, [3]int{2, 2, 1})

	wrong := login(s.URL())
	wrong.ClientKey = check.NewSecret("a-wrong-key-0123")
	wants("a wrong key", ask(issuer.Question{Depth: issuer.Full, Login: wrong, Known: known.WithoutKey()}), issuer.Rejected, [3]int{3, 1, 1})
	person := ask(issuer.Question{Depth: issuer.Person, Login: wrong})
	wants("a wrong key, for a person", person, issuer.Rejected, [3]int{5, 1, 1})
	wants("and again", ask(issuer.Question{Depth: issuer.Person, Login: wrong, Known: person.Known}), issuer.Rejected, [3]int{3, 1, 1})

	// A client without a key has the made-up client as its control.
	s.SetClient(lab.Client{ID: "proxmox", AuthMethod: "none", RedirectURIs: []string{redirectURL}})
	public := login(s.URL())
	public.ClientKey = check.Secret{}
	without := ask(issuer.Question{Depth: issuer.Full, Login: public})
	wants("no key", without, issuer.Accepted, [3]int{2, 0, 1})
	wants("no key, remembered", ask(issuer.Question{Depth: issuer.Full, Login: public, Known: without.Known}), issuer.Accepted, [3]int{1, 0, 1})
	s.SetClient(lab.Client{ID: "proxmox", Secret: clientKey, RedirectURIs: []string{redirectURL}})

	// A refused key is a control for another key of the same client, in the same inspection and later.
	i := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL())
	refused := i.Client(t.Context(), issuer.Question{Depth: issuer.Full, Login: wrong})
	if a := i.Client(t.Context(), issuer.Question{Depth: issuer.Free, Login: login(s.URL())}); a.Credentials.Decision != issuer.Accepted {
		t.Errorf("%+v", a)
	}
	count(s)
	wants("free, after another key was refused", ask(issuer.Question{Depth: issuer.Free, Known: refused.Known.WithoutKey()}), issuer.Accepted, [3]int{0, 1, 1})

	s.SetClient(lab.Client{ID: "proxmox", Secret: "rotated-at-the-issuer", RedirectURIs: []string{redirectURL}})
	stale := ask(issuer.Question{Depth: issuer.Free, Known: known})
	wants("a rotated key", stale, issuer.Rejected, [3]int{0, 1, 1})
	want(t, find(t, stale.Checks, check.ClientCredentials), check.Fail, "before, and no longer does")

	s.SetMetadata("x_new", 1)
	wants("another document", ask(issuer.Question{Depth: issuer.Free, Known: known}), issuer.NoVerdict, [3]int{0, 1, 1})
}

// R and C are asked once for all redirect URLs, and remembered where prompt=none does not go back.
func TestControlsOfTheLoginRequest(t *testing.T) {
	s := start(t, lab.Options{})
	s.SetHabits(lab.Habits{IgnoresNone: true})
	q := issuer.Question{Depth: issuer.Full, Login: login(s.URL()), KeyUnknown: true, RedirectURLs: []string{redirectURL, redirectURL + "/other"}}
	a := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).Client(t.Context(), q)
	if got := count(s); a.Redirect.Decision != issuer.Accepted || got[2] != 6 { // N and X for each, R and C once
		t.Errorf("%s after %v", a.Redirect.Decision, got)
	}
	for _, depth := range []issuer.Depth{issuer.Full, issuer.Free} {
		q.Known, q.Depth = a.Known, depth
		again := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).Client(t.Context(), q)
		if got := count(s); again.Redirect.Decision != issuer.Accepted || got[2] != 4 {
			t.Errorf("%s after %v", again.Redirect.Decision, got)
		}
	}
	q.Known, q.Depth = issuer.Known{}, issuer.Free
	free := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).Client(t.Context(), q)
	if got := count(s); free.Redirect.Decision != issuer.NoVerdict || got[2] != 2 {
		t.Errorf("%s after %v", free.Redirect.Decision, got)
	}

	// An issuer that sent the browser back before shows an error page now.
	s.SetHabits(lab.Habits{})
	q.Depth = issuer.Full
	a = client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).Client(t.Context(), q)
	s.SetHabits(lab.Habits{ErrorPages: 200})
	s.SetClient(lab.Client{ID: "proxmox", Secret: clientKey, RedirectURIs: []string{"https://elsewhere.example.test"}})
	q.Known = a.Known
	a = client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).Client(t.Context(), q)
	if a.Redirect.Decision != issuer.Rejected {
		t.Errorf("%+v", a.Redirect)
	}
	// What comes back for one redirect URL tells about the others, in the same run.
	q.Known, q.RedirectURLs = issuer.Known{}, []string{redirectURL, "https://elsewhere.example.test"}
	a = client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).Client(t.Context(), q)
	if a.Redirect.Decision != issuer.Rejected || !strings.Contains(find(t, a.Checks, check.ClientRedirect).Evidence, "elsewhere.example.test: accepted") {
		t.Errorf("%+v", a)
	}
}
