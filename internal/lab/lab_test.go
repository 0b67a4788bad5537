package lab_test

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/lab/issuer"
	"proxmox-realm/internal/lab/pve"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func start(t *testing.T, options lab.Options) *lab.Lab {
	t.Helper()
	l, err := lab.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// client trusts the lab.
func client(t *testing.T, l *lab.Lab) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: l.Authority.Pool()}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func send(t *testing.T, client *http.Client, request *http.Request) (*http.Response, string) {
	t.Helper()
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func TestLoginThroughProxmox(t *testing.T) {
	l := start(t, lab.Options{Seed: "converged"})
	for _, redirectURL := range []string{"", "http://127.0.0.1:49152/callback"} {
		if user, err := l.LogIn(t.Context(), l.Username, l.Password, redirectURL); err != nil || user != "john@authelia" {
			t.Errorf("%s: %s, %v", redirectURL, user, err)
		}
	}
	if user := l.PVE.State().Users["john@authelia"]; user == nil || !user.Enable {
		t.Error("john was not created")
	}
}

// TestClusters: further stand-ins know the same people, and keep realms of their own.
func TestClusters(t *testing.T) {
	l := start(t, lab.Options{Seed: "converged", Clusters: 3})
	text, err := os.ReadFile(l.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	registered, _ := l.Issuer.Client(l.ClientID)
	for i, cluster := range l.Clusters {
		if cluster.Token(pve.TokenRealmAllocate) != l.PVE.Token(pve.TokenRealmAllocate) {
			t.Errorf("cluster %d has another token", i)
		}
		if _, exists := cluster.Realm(lab.RealmName); exists != (i == 0) {
			t.Errorf("cluster %d has the realm: %v", i, exists)
		}
		if !strings.Contains(string(text), cluster.URL()) || !slices.Contains(registered.RedirectURIs, cluster.URL()) {
			t.Errorf("cluster %d is not in the configuration, or not a redirect URL of the client", i)
		}
	}
	if len(l.Clusters) != 3 {
		t.Errorf("%d clusters", len(l.Clusters))
	}
}

// TestRoundTrip: a connection costs two round trips, and each request one, at Proxmox and at the issuer.
func TestRoundTrip(t *testing.T) {
	const trip = 30 * time.Millisecond
	l := start(t, lab.Options{PVE: pve.Options{RoundTrip: trip}, Issuer: issuer.Options{RoundTrip: trip}})
	for _, address := range []string{l.PVE.URL() + "/api2/json/access/domains", l.IssuerURL + "/jwks.json"} {
		client := client(t, l)
		for i, least := range []time.Duration{3 * trip, trip} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			send(t, client, request)
			if took := time.Since(began); took < least {
				t.Errorf("%s: request %d took %v, want %v or more", address, i+1, took, least)
			}
		}
	}
}

func TestSeeds(t *testing.T) {
	l := start(t, lab.Options{})
	if _, ok := l.PVE.Realm(lab.RealmName); ok {
		t.Error("a new lab has the realm")
	}
	seen := map[string]string{}
	names, about := lab.Seeds()
	for _, name := range names {
		if err := l.Seed(name); err != nil {
			t.Fatal(err)
		}
		realms, err := json.Marshal(l.PVE.Realms())
		if err != nil {
			t.Fatal(err)
		}
		if twin, taken := seen[string(realms)]; taken && name != "empty" {
			t.Errorf("%s and %s are the same", name, twin)
		}
		seen[string(realms)] = name
		realm, has := l.PVE.Realm(lab.RealmName)
		if has == (name == "empty" || name == "bare") {
			t.Errorf("%s: realm there: %v", name, has)
		}
		if foreign := realm.Type == "ldap"; foreign != (name == "foreign") {
			t.Errorf("%s: type %s", name, realm.Type)
		}
		if about[name] == "" {
			t.Errorf("%s: nothing said about it", name)
		}
	}
	if err := l.Seed("nonsense"); err == nil || !strings.Contains(err.Error(), "converged") {
		t.Errorf("error %v", err)
	}
	if _, err := lab.Start(lab.Options{Seed: "nonsense"}); err == nil {
		t.Error("a lab with an unknown seed")
	}
}

func TestStateSurvives(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kept")
	first, err := lab.Start(lab.Options{Dir: dir, Seed: "converged"})
	if err != nil {
		t.Fatal(err)
	}
	environ, keys := first.Environ(), jwks(t, first)
	first.PVE.SetProperty(lab.RealmName, "comment", "mine")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	second := start(t, lab.Options{Dir: dir})
	if !slices.Equal(environ, second.Environ()) {
		t.Errorf("environment %q, then %q", environ, second.Environ())
	}
	if jwks(t, second) != keys {
		t.Error("other keys")
	}
	if realm, _ := second.PVE.Realm(lab.RealmName); realm.Properties["comment"] != "mine" {
		t.Errorf("realm %v", realm)
	}

	t.Run("taken ports", func(t *testing.T) {
		third := start(t, lab.Options{Dir: dir})
		if third.PVE.URL() == second.PVE.URL() || third.IssuerURL == second.IssuerURL {
			t.Error("two labs at one address")
		}
		if second.Moved || !third.Moved {
			t.Errorf("moved: %v, %v", second.Moved, third.Moved)
		}
	})
}

func jwks(t *testing.T, l *lab.Lab) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, l.IssuerURL+"/jwks.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, body := send(t, client(t, l), request)
	return body
}

// The configuration names files for its secrets.
func TestConfiguration(t *testing.T) {
	l := start(t, lab.Options{Dir: t.TempDir()})
	text, err := os.ReadFile(l.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{l.ClientKey, l.Password, l.PVE.Token(pve.TokenRealmAllocate)} {
		if strings.Contains(string(text), secret) {
			t.Error("a secret in the configuration itself")
		}
	}
}

// With the seed bare there is an administrator and nothing else, until another seed is named.
func TestBare(t *testing.T) {
	l := start(t, lab.Options{Seed: "bare", TOTP: true})
	state := l.PVE.State()
	if len(state.Users) != 1 || len(state.Roles)+len(state.ACL)+len(state.Users["root@pam"].Tokens) != 0 || len(state.Realms) != 2 {
		t.Errorf("%+v", state)
	}
	if _, known := l.Issuer.Client(l.ClientID); known || l.ConfigFile != "" {
		t.Error("the issuer knows Proxmox, or there is a configuration")
	}
	if _, known := l.Issuer.Client(lab.OtherClient); !known {
		t.Error("the issuer has no client")
	}
	environment := strings.Join(l.Environ(), "\n")
	admin := l.PVE.User(pve.UserRoot)
	for _, want := range []string{
		"LAB_ADMIN_USERNAME=root@pam\n", "LAB_ADMIN_PASSWORD=" + admin.Password, "LAB_ADMIN_TOTP_SECRET=" + admin.TOTPSecret, "LAB_CLIENT_KEY=\n", "LAB_TOKEN_ROOT=\n",
	} {
		if !strings.Contains(environment, want) {
			t.Errorf("%s is missing in\n%s", want, environment)
		}
	}
	if err := l.Seed("converged"); err != nil {
		t.Fatal(err)
	}
	if l.PVE.Token(pve.TokenRoot) == "" {
		t.Error("there are no tokens")
	}
	if _, err := l.LogIn(t.Context(), l.Username, l.Password, ""); err != nil {
		t.Error(err)
	}
}

// What a test changes in the accounts stays when root@pam logs in, which takes the accounts of another recording otherwise.
func TestAccountsOfTheRecordings(t *testing.T) {
	l := start(t, lab.Options{})
	logIn := func() {
		t.Helper()
		admin := l.PVE.User(pve.UserRoot)
		form := url.Values{"username": {admin.Username}, "password": {admin.Password}}
		response, err := client(t, l).PostForm(l.PVE.URL()+"/api2/json/access/ticket", form)
		if err != nil {
			t.Fatal(err)
		}
		if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusOK {
			t.Fatal(response.Status, err)
		}
	}
	if err := l.PVE.Update(func(state *pve.State) { state.Roles["Mine"] = []string{"Sys.Audit"} }); err != nil {
		t.Fatal(err)
	}
	logIn()
	if roles := l.PVE.State().Roles; len(roles) != 3 {
		t.Errorf("roles %v", roles)
	}
	if err := l.Seed("empty"); err != nil {
		t.Fatal(err)
	}
	logIn()
	if roles := l.PVE.State().Roles; roles["RealmAdmin"] == nil || roles["Mine"] != nil {
		t.Errorf("roles %v", roles)
	}
}

// The issuer takes its clients from the file, as Authelia does.
func TestRestartIssuer(t *testing.T) {
	l := start(t, lab.Options{Seed: "converged"})
	before, err := os.ReadFile(l.AutheliaConfig)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(l.AutheliaConfig, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	works := func() bool {
		_, err := l.LogIn(t.Context(), l.Username, l.Password, "")
		return err == nil
	}
	write(strings.ReplaceAll(string(before), "client_id: 'proxmox'", "client_id: 'other'"))
	if !works() {
		t.Error("the issuer reads the file without a restart")
	}
	if err := l.RestartIssuer(); err != nil {
		t.Fatal(err)
	}
	if works() {
		t.Error("the client is still known")
	}
	write(strings.ReplaceAll(string(before), "public: false", "publik: false"))
	if err := l.RestartIssuer(); err == nil || !strings.Contains(err.Error(), "line 69") || !strings.Contains(err.Error(), "configuration key not expected: identity_providers.oidc.clients[].publik") {
		t.Errorf("error %v", err)
	}
	write("log: {level: info}\n") // without OpenID Connect, Authelia's portal alone answers
	if err := l.RestartIssuer(); err != nil {
		t.Error(err)
	}
	if response, err := client(t, l).Get(l.IssuerURL + "/.well-known/openid-configuration"); err != nil || response.Body.Close() != nil || response.StatusCode != http.StatusNotFound {
		t.Error(response, err)
	}
	write(string(before))
	if err := l.RestartIssuer(); err != nil {
		t.Error(err)
	}
	if !works() {
		t.Error("the client is not known again")
	}
}
