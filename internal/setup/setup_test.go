package setup_test

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/lab/authority"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/setup"
)

// cluster starts a stand-in that nobody has prepared.
func cluster(t *testing.T, o pve.Options) *pve.Server {
	t.Helper()
	ca, err := authority.New()
	if err != nil {
		t.Fatal(err)
	}
	o.Authority, o.Seed = ca, pve.BareState()
	s, err := pve.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// pinned reaches the first node by the fingerprint of the certificate that it serves.
func pinned(t *testing.T, s *pve.Server, address string) (config.Proxmox, *proxmox.Client) {
	t.Helper()
	root := s.User(pve.UserRoot)
	connection, err := tls.Dial("tcp", strings.TrimPrefix(address, "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	served := connection.ConnectionState().PeerCertificates[0].Raw
	if err := connection.Close(); err != nil {
		t.Fatal(err)
	}
	p := config.Proxmox{
		Endpoints: []config.Origin{config.Origin(address)}, Fingerprints: []config.Fingerprint{sha256.Sum256(served)},
		Username: config.UserID{Name: "root", Realm: "pam"}, Password: check.NewSecret(root.Password),
	}
	c, err := proxmox.New(p, proxmox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return p, c
}

// The cluster's authority replaces fingerprints only if it verifies the certificate of every endpoint.
func TestSurveyTrusts(t *testing.T) {
	other, err := authority.New()
	if err != nil {
		t.Fatal(err)
	}
	own, err := other.Issue(authority.Valid, "127.0.0.2", "pve2")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		second pve.Node
		pins   int
	}{
		"certificates of the cluster's authority":    {pve.Node{}, 0},
		"a node with a certificate of its own":       {pve.Node{Certificate: &own}, 2},
		"a node with its own, which is switched off": {pve.Node{Certificate: &own, Off: true}, 0},
	} {
		s := cluster(t, pve.Options{Nodes: []pve.Node{{}, tt.second, {}}})
		p, c := pinned(t, s, s.URL())
		found, err := setup.Survey(t.Context(), c, p, nil, proxmox.Options{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := []string{"https://127.0.0.1", "https://127.0.0.2", "https://127.0.0.3"}
		if tt.second.Off {
			want = slices.Delete(want, 1, 2)
		}
		var got []string
		for _, e := range found.Endpoints {
			got = append(got, string(e[:strings.LastIndexByte(string(e), ':')]))
		}
		if !slices.Equal(got, want) || found.Front != "" || len(found.Silent) != 3-len(want) {
			t.Errorf("%s: endpoints %v, silent %v, front %q", name, got, found.Silent, found.Front)
		}
		if pins := len(found.Fingerprints); (pins > 0) != (tt.pins > 0) || (found.Authority == nil) != (tt.pins > 0) {
			t.Errorf("%s: %d fingerprints, and an authority of %d bytes", name, pins, len(found.Authority))
		}
	}
}

// What ends TLS before the nodes is named, and the nodes behind it become the endpoints.
func TestSurveyNamesAFront(t *testing.T) {
	s := cluster(t, pve.Options{})
	node, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	other, err := authority.New()
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := other.Issue(authority.Valid, "127.0.0.9")
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(node)
	proxy.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	front := httptest.NewUnstartedServer(proxy)
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.9", node.Port()))
	if err != nil {
		t.Fatal(err)
	}
	if err := front.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	front.Listener, front.TLS = listener, &tls.Config{Certificates: []tls.Certificate{certificate}}
	front.StartTLS()
	defer front.Close()

	p, c := pinned(t, s, front.URL)
	found, err := setup.Survey(t.Context(), c, p, nil, proxmox.Options{})
	if err != nil || string(found.Front) != front.URL || len(found.Endpoints) != 1 || string(found.Endpoints[0]) != s.URL() || found.Authority == nil {
		t.Errorf("%+v, %v", found, err)
	}
}

// account is the token that a setup makes in a folder.
func account(dir string) setup.Account {
	return setup.Account{Bootstrap: proxmox.Bootstrap{}, Place: setup.Place(dir)}
}

// If the secret cannot be stored, no token is made.
func TestNoTokenWithoutAPlaceForItsSecret(t *testing.T) {
	s := cluster(t, pve.Options{})
	_, c := pinned(t, s, s.URL())
	a := account(filepath.Join(t.TempDir(), "absent"))
	steps, err := a.Missing(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	err = carryOut(t, a.Place, steps)
	if err == nil || !strings.Contains(err.Error(), "token proxmox-realm@pve!agent: ") || !strings.Contains(string(check.HintOf(err)), "that there is space left") {
		t.Errorf("%v; %s", err, check.HintOf(err))
	}
	if user := s.State().Users["proxmox-realm@pve"]; user == nil || len(user.Tokens) > 0 {
		t.Errorf("%+v", user)
	}
}

// carryOut makes steps whose undoing nobody needs.
func carryOut(t *testing.T, p setup.Place, steps []setup.Step) error {
	t.Helper()
	for i := range steps {
		steps[i].Undo = nil
	}
	return setup.Make(t.Context(), p, steps, func(setup.Step) {})
}

// A token whose answer was lost is made again; one that somebody else made in the meantime is not.
func TestLostAnswerOfAToken(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		s := cluster(t, pve.Options{})
		_, c := pinned(t, s, s.URL())
		a := account(t.TempDir())
		remove := s.Inject(pve.Rule{Method: "POST", Path: "/access/users/proxmox-realm@pve/token/", DropAnswer: true})
		steps, err := a.Missing(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if err := carryOut(t, a.Place, steps); !errors.Is(err, realm.ErrLost) {
			t.Fatalf("%v", err)
		}
		remove()
		if foreign {
			if err := s.Update(func(state *pve.State) {
				token := state.Users["proxmox-realm@pve"].Tokens["agent"]
				token.Comment = "by another administrator"
				state.Users["proxmox-realm@pve"].Tokens["agent"] = token
			}); err != nil {
				t.Fatal(err)
			}
		}
		lost := s.State().Users["proxmox-realm@pve"].Tokens["agent"].Secret
		steps, err = a.Missing(t.Context(), c)
		if foreign {
			if check.CodeOf(err) != check.TokenTaken {
				t.Errorf("a token of somebody else: %v", err)
			}
			continue
		}
		if err = errors.Join(err, carryOut(t, a.Place, steps)); err != nil {
			t.Fatal(err)
		}
		now := s.State().Users["proxmox-realm@pve"].Tokens["agent"].Secret
		if text, err := a.Place.Read(setup.TokenFile); err != nil || text != "proxmox-realm@pve!agent="+now || now == lost {
			t.Errorf("the token file holds another token, %v", err)
		}
	}
}

// A token that was stored and not named yet gets its name.
func TestATokenIsNamedLater(t *testing.T) {
	dir := t.TempDir()
	line := "proxmox-realm@pve!agent=11111111-2222-3333-4444-555555555555\n"
	if err := os.WriteFile(filepath.Join(dir, ".token.new"), []byte(line+strings.Repeat(" ", 400)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := setup.Place(dir).Check(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, setup.TokenFile)); err != nil || string(got) != line {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := setup.Place(dir).Check(); check.CodeOf(err) != check.Config {
		t.Errorf("a folder that everybody can write to: %v", err)
	}
}

// The last thing made is undone first, files last and together, and what goes with a user is left out.
func TestUndo(t *testing.T) {
	p := setup.Place(t.TempDir())
	for _, line := range []string{
		"rmdir " + string(p), "rm " + p.Path("config.yaml"), "pveum role delete RealmAdmin", "pveum user delete keeper@pve", "rm " + p.Path("token"),
		"pveum user token remove keeper@pve agent", "pveum acl delete /access/realm --roles RealmAdmin --users keeper@pve", "proxmox-realm delete authelia",
		"proxmox-realm delete authelia",
	} {
		if err := p.Note(line); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"proxmox-realm delete authelia", "pveum user delete keeper@pve", "pveum role delete RealmAdmin",
		"rm " + p.Path("token") + " " + p.Path("config.yaml") + " " + p.Path("undo"), "rmdir " + string(p),
	}
	if got := p.Undo(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestParseGrants(t *testing.T) {
	access, err := setup.ParseGrants([]string{"admins=/:PVEAdmin", "dev=//pool/dev/:PVEVMUser", "admins=/vms:PVEAuditor", "admins=/:PVEAdmin"})
	if want := "map[admins:[{/ PVEAdmin true} {/vms PVEAuditor true}] dev:[{/pool/dev PVEVMUser true}]]"; err != nil || fmt.Sprint(access) != want {
		t.Errorf("%v, %v", access, err)
	}
	for _, wrong := range []string{"", "admins", "admins=/", "=/:PVEAdmin", "admins=PVEAdmin", "a b=/:PVEAdmin", "admins=/nowhere:PVEAdmin", "admins=/:a role", "admins=vms:PVEAdmin"} {
		if _, err := setup.ParseGrants([]string{wrong}); err == nil || !strings.HasPrefix(err.Error(), "must ") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

// What is asked for again is no difference; what is asked for otherwise is one.
func TestDifferences(t *testing.T) {
	there := config.Target{Realm: realm.Spec{Name: "authelia"}}
	there.Proxmox.Endpoints = []config.Origin{"https://pve1:8006", "https://pve2:8006"}
	there.Realm.Set = realm.Values{
		realm.IssuerURL: realm.Text("https://auth.example.com"), realm.ClientID: realm.Text("proxmox"), realm.Scopes: realm.Words(realm.Scopes, "openid", "email"),
	}
	there.Verify.RedirectURLs, there.Verify.RedirectsDeclared = []config.Origin{"https://a", "https://b"}, true
	there.Access = realm.Access{"admins": {{Path: "/", Role: "PVEAdmin", Propagate: true}}}
	for want, change := range map[string]func(*config.Target){
		"": func(asked *config.Target) {
			asked.Proxmox.Endpoints = []config.Origin{"https://pve2:8006", "https://a:443"}
			asked.Realm.Set = realm.Values{realm.IssuerURL: realm.Text("https://auth.example.com/"), realm.Scopes: realm.Words(realm.Scopes, "email", "openid")}
			asked.Verify.RedirectURLs, asked.Verify.RedirectsDeclared = []config.Origin{"https://b", "https://a"}, true
			asked.Access = there.Access
		},
		"realm.client_id realm.issuer_url realm.username_claim": func(asked *config.Target) {
			asked.Realm.Set = realm.Values{
				realm.IssuerURL: realm.Text("https://sso.example.com"), realm.ClientID: realm.Text("other"), realm.UsernameClaim: realm.Text("email"),
			}
		},
		"realm.name proxmox.endpoints verify.redirect_urls access": func(asked *config.Target) {
			asked.Realm.Name, asked.Proxmox.Endpoints = "sso", []config.Origin{"https://pve3:8006"}
			asked.Verify.RedirectURLs, asked.Verify.RedirectsDeclared = []config.Origin{"https://a"}, true
			asked.Access = realm.Access{"admins": {{Path: "/", Role: "PVEAuditor", Propagate: true}}}
		},
	} {
		asked := config.Target{Realm: realm.Spec{Name: "authelia"}}
		change(&asked)
		if got := strings.Join(setup.Differences(there, asked), " "); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
