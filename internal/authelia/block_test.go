package authelia_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"proxmox-realm/internal/authelia"
	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The pair of Authelia's own documents.
const (
	knownKey    = "insecure_secret"
	knownDigest = "$pbkdf2-sha512$310000$c8p78n7pUMln0jzvd4aK4Q$JNRBzwAo0ek5qKn50cFzzvE9RXV88h1wJn5KGiHrD0YKtZaR/nCb2CJPOsKaPK0hjf.9yHxzQGZziziccp6Yng"
)

// proxmox is the client of a realm as people set it up.
func proxmox() authelia.Client {
	return authelia.Client{
		Login: realm.Login{
			Realm: "authelia", IssuerURL: "https://auth.example.com", ClientID: "proxmox", ClientKey: check.NewSecret(knownKey),
			Scopes:        []string{"openid", "profile", "email", "groups"},
			UsernameClaim: "preferred_username", GroupsClaim: "groups", QueryUserinfo: true,
		},
		RedirectURIs: []string{"https://pve1.example.com:8006", "https://pve2.example.com:8006"},
	}
}

func TestBlock(t *testing.T) {
	for _, tt := range []struct {
		golden string
		change func(o *authelia.Options)
	}{
		{"newest", func(*authelia.Options) {}},
		{"whole", func(o *authelia.Options) { o.Whole, o.WithLogin = true, true }},
		{"claims", func(o *authelia.Options) { o.IDTokenClaims, o.Whole = []string{"preferred_username", "groups"}, true }},
		{"claims-item", func(o *authelia.Options) { o.IDTokenClaims = []string{"uid", "groups"} }},
	} {
		o := authelia.Options{Client: proxmox(), Digest: knownDigest}
		tt.change(&o)
		got, err := authelia.Block(o)
		if err != nil {
			t.Errorf("%s: %v", tt.golden, err)
			continue
		}
		file := filepath.Join("testdata", tt.golden+".yml")
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.golden, got, want)
		}
	}
}

func TestBlockRefusesWhatAutheliaWouldRefuse(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(o *authelia.Options)
		code   check.Code
	}{
		{"no digest", func(o *authelia.Options) { o.Digest = "" }, check.Config},
		{"no redirect URI", func(o *authelia.Options) { o.RedirectURIs = nil }, check.Config},
		{"no client id", func(o *authelia.Options) { o.Login.ClientID = "" }, check.Config},
		{"long client id", func(o *authelia.Options) { o.Login.ClientID = strings.Repeat("a", 101) }, check.Config},
		{"client id with a space", func(o *authelia.Options) { o.Login.ClientID = "my proxmox" }, check.Config},
	} {
		o := authelia.Options{Client: proxmox(), Digest: knownDigest}
		tt.change(&o)
		_, err := authelia.Block(o)
		var f *check.Error
		if !errors.As(err, &f) || f.Code != tt.code || f.Message == "" {
			t.Errorf("%s: %v (%s), want a fault of code %s", tt.name, err, check.CodeOf(err), tt.code)
		}
	}
}

// A block does not differ from itself, with any options. The same options give the same bytes.
func TestBlockDoesNotDifferFromItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := authelia.Options{Client: proxmox(), Digest: knownDigest, Whole: rapid.Bool().Draw(t, "whole")}
		o.Login.ClientKey = check.Secret{} // verifying takes time
		o.Login.ClientID = rapid.StringMatching(`[A-Za-z0-9._~-]{1,100}`).Draw(t, "id")
		o.RedirectURIs = rapid.SliceOfN(rapid.StringMatching(`https://[a-z0-9.-]{1,20}(:[1-9][0-9]{1,3})?`), 1, 4).Draw(t, "redirects")
		o.IDTokenClaims = rapid.SampledFrom([][]string{nil, {"groups"}, {"preferred_username", "groups"}}).Draw(t, "claims")
		o.WithLogin = rapid.Bool().Draw(t, "login")
		text, err := authelia.Block(o)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := authelia.Block(o); !bytes.Equal(text, again) {
			t.Fatal("the same options gave other bytes")
		}
		got, err := authelia.Compare(o, authelia.File{Name: "block.yml", Data: text})
		if err != nil || len(got.Differences) > 0 || len(got.Kept) > 0 {
			t.Fatalf("%v %+v\n%s", err, got, text)
		}
	})
}
