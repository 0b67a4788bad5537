package authelia_test

import (
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/authelia"
	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
)

// cluster is a target whose realm has these values beside issuer and client.
func cluster(name string, set realm.Values, redirects ...config.Origin) config.Target {
	values := realm.Values{realm.IssuerURL: realm.Text("https://auth.example.com"), realm.ClientID: realm.Text("proxmox")}
	for p, v := range set {
		values[p] = v
	}
	return config.Target{
		Name: name, Realm: realm.Spec{Name: "authelia", Set: values},
		Verify: config.Verify{RedirectURLs: redirects, RedirectsDeclared: true},
	}
}

func TestTargetsShareAClient(t *testing.T) {
	berlin := cluster("berlin", nil, "https://berlin1:8006", "https://berlin2:8006")
	munich := cluster("munich", realm.Values{realm.Scopes: realm.Words(realm.Scopes, "openid", "groups")}, "https://munich:8006", "https://berlin2:8006")
	got, err := authelia.ClientOf([]config.Target{berlin, munich})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"https://berlin1:8006", "https://berlin2:8006", "https://munich:8006"}; !slices.Equal(got.RedirectURIs, want) {
		t.Errorf("redirect URIs %v", got.RedirectURIs)
	}
	if want := []string{"openid", "profile", "email", "groups"}; !slices.Equal(got.Login.Scopes, want) {
		t.Errorf("scopes %v", got.Login.Scopes)
	}
	if got.Assumed || got.Login.UsernameClaim != "preferred_username" || !got.Login.QueryUserinfo {
		t.Errorf("%+v", got)
	}
	munich.Verify.RedirectsDeclared = false
	if got, _ := authelia.ClientOf([]config.Target{berlin, munich}); !got.Assumed {
		t.Error("a redirect URI of munich is assumed")
	}
}

func TestTargetsThatShareNoClient(t *testing.T) {
	for _, tt := range []struct {
		name, differ string
		a, b         realm.Values
	}{
		{"issuer", "realm.issuer_url", nil, realm.Values{realm.IssuerURL: realm.Text("https://sso.example.com")}},
		{"client", "realm.client_id", nil, realm.Values{realm.ClientID: realm.Text("pve")}},
		{"key", "realm.client_key", realm.Values{realm.ClientKey: realm.Key(check.NewSecret("planted-a"))}, realm.Values{realm.ClientKey: realm.Key(check.NewSecret("planted-b"))}},
		{"claims in userinfo", "", nil, realm.Values{realm.UsernameClaim: realm.Text("email"), realm.GroupsClaim: realm.Text("groups")}},
		{"claims in the ID token of one", "", nil, realm.Values{realm.QueryUserinfo: realm.Bool(false)}},
		{"what no client has to know", "", nil, realm.Values{realm.Comment: realm.Text("another")}},
	} {
		_, err := authelia.ClientOf([]config.Target{cluster("berlin", tt.a), cluster("bonn", tt.b)})
		if tt.differ == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if check.CodeOf(err) != check.Usage || !strings.Contains(err.Error(), "targets berlin and bonn differ in "+tt.differ+",") || strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// The claims policy has the claims of each realm that reads the ID token alone.
func TestClaimsOfAllTargets(t *testing.T) {
	off := realm.Bool(false)
	got, err := authelia.ClientOf([]config.Target{
		cluster("berlin", nil),
		cluster("munich", realm.Values{realm.QueryUserinfo: off, realm.UsernameClaim: realm.Text("email")}),
		cluster("bonn", realm.Values{realm.QueryUserinfo: off, realm.UsernameClaim: realm.Text("sub"), realm.GroupsClaim: realm.Text("groups")}),
	})
	if err != nil || !slices.Equal(got.IDTokenClaims, []string{"email", "groups"}) {
		t.Errorf("%v, %v", got.IDTokenClaims, err)
	}
}

// Targets of the same client add what they need, others nothing.
func TestAddOtherTargets(t *testing.T) {
	got, err := authelia.ClientOf([]config.Target{cluster("berlin", nil, "https://berlin:8006")})
	if err != nil {
		t.Fatal(err)
	}
	got.Add([]config.Target{
		cluster("berlin", nil, "https://berlin:8006"),
		cluster("munich", realm.Values{realm.Scopes: realm.Words(realm.Scopes, "openid", "groups")}, "https://munich:8006"),
		cluster("another client", realm.Values{realm.ClientID: realm.Text("pve")}, "https://bonn:8006"),
		cluster("another issuer", realm.Values{realm.IssuerURL: realm.Text("https://sso.example.com")}, "https://cologne:8006"),
	})
	if want := []string{"https://berlin:8006", "https://munich:8006"}; !slices.Equal(got.RedirectURIs, want) {
		t.Errorf("redirect URIs %v", got.RedirectURIs)
	}
	if !slices.Contains(got.Login.Scopes, "groups") {
		t.Errorf("scopes %v", got.Login.Scopes)
	}
}
