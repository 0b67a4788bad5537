package config

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// A secret, wherever it stands and whatever else is wrong, is in nothing that is shown.
func TestNoSecretIsShown(t *testing.T) {
	test := t
	dir := t.TempDir()
	// In every text key, and as whatever else a hand may put it.
	var paths []string
	for _, k := range table() {
		if k.Kind != Bool && k.Kind != Command && k.Kind != Path {
			paths = append(paths, k.Path)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		hidden := "Q" + rapid.StringMatching(`[a-zA-Z0-9*&!@:#=%-]{7,30}`).Draw(t, "secret") + "Z9"
		config := map[string]map[string]any{
			"proxmox": {"endpoints": []string{"pve1"}, "token": "realm@pve!agent=" + hidden},
			"realm":   {"issuer_url": "https://auth.example.com", "client_id": "proxmox", "client_key": hidden},
		}
		wrong := rapid.SampledFrom(paths).Draw(t, "key")
		section, name, nested := strings.Cut(wrong, ".")
		shape := rapid.SampledFrom([]any{nil, hidden, "https://" + hidden, hidden + "\n" + hidden, []string{hidden, ""}, map[string]string{hidden: hidden}}).Draw(t, "shape")
		if shape != nil && nested && section == "proxmox" || shape != nil && section == "realm" {
			config[section][name] = shape
		}
		o := Options{Secrets: true, Show: true, Partial: rapid.Bool().Draw(t, "partial")}
		var env []string
		for _, v := range []string{"PROXMOX_REALM_PROXMOX_PASSWORD", "PROXMOX_REALM_PROXMOX_TOKEN", "PROXMOX_REALM_REALM_CLIENT_KEY", "PROXMOX_REALM_CONCURRENCY", "PROXMOX_REALM_PROXMOX_ENDPOINT"} {
			if rapid.IntRange(0, 4).Draw(t, v) == 0 {
				env = append(env, v+"="+hidden)
			}
		}
		if rapid.Bool().Draw(t, "flag") {
			o.Flags = append(o.Flags, FlagValue{wrong, hidden})
		}
		text, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		if rapid.IntRange(0, 4).Draw(t, "raw") == 0 { // as typed, without quotation marks
			text = fmt.Appendf(nil, "proxmox:\n  endpoints: [pve1]\n  token: %s\n  %s\nrealm: {client_key: %s}\n", hidden, hidden, hidden)
		}
		o.File = filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(o.File, text, 0o600); err != nil {
			t.Fatal(err)
		}
		setenv(test, env...)
		c, err := Load(context.Background(), o)
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		logger.Info("loaded", "config", c, "error", err)
		var problems Problems
		errors.As(err, &problems)
		shown := fmt.Sprintf("%+v %#v %+v %#v %v %s", c, c, err, problems, problems, log.String())
		if c != nil {
			for _, s := range c.Settings {
				if k := index().path[s.Key]; k.Secret || !strings.HasPrefix(s.Key, wrong) {
					shown += fmt.Sprintf("%+v\n", s)
				}
			}
			shown += strings.Join(c.Warnings, "\n")
			if slices.ContainsFunc(o.Flags, func(f FlagValue) bool { return !index().path[f.Key].Secret }) || !index().path[wrong].Secret && shape != nil {
				return // it stands under a key that is no secret and is a right value there
			}
		}
		if strings.Contains(shown, hidden) {
			t.Fatalf("shows %q: %s", hidden, shown)
		}
	})
}

// What one target says is in no other, and a target that is another cluster has no credentials but its own.
func TestNoLeakBetweenTargets(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "targets")
		base := map[string]any{"issuer_url": "https://auth.example.com", "client_id": "proxmox", "client_key": "key-of-all"}
		config := map[string]any{
			"realm":   base,
			"proxmox": map[string]any{"endpoints": []string{"all"}, "token": "realm@pve!agent=token-of-all", "ca_file": "/etc/all.pem"},
			"verify":  map[string]any{"redirect_urls": []string{"https://all"}},
		}
		var targets []map[string]any
		own := make([]map[string]bool, n)
		for i := range n {
			id := fmt.Sprintf("of-%d", i)
			own[i] = map[string]bool{}
			proxmox, r, verify := map[string]any{}, map[string]any{"name": "realm-" + id}, map[string]any{}
			for key, put := range map[string]func(){
				"endpoints": func() { proxmox["endpoints"] = []string{"pve-" + id}; proxmox["token"] = "realm@pve!agent=token-" + id },
				"ca":        func() { proxmox["ca_file"] = "/etc/" + id + ".pem" },
				"key":       func() { r["client_key"] = "key-" + id },
				"comment":   func() { r["comment"] = "comment-" + id },
				"scopes":    func() { r["scopes"] = []string{"scope-" + id} },
				"unset":     func() { r["unset"] = []string{"prompt"} },
				"redirect":  func() { verify["redirect_urls"] = []string{"https://redirect-" + id} },
			} {
				if own[i][key] = rapid.Bool().Draw(t, id+key); own[i][key] {
					put()
				}
			}
			targets = append(targets, map[string]any{"name": "target-" + id, "proxmox": proxmox, "realm": r, "verify": verify})
		}
		config["targets"] = append(targets, map[string]any{"name": "all", "realm": map[string]any{"name": "realm-all"}}) // uses what is above
		text, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "config.json")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(context.Background(), Options{File: path})
		if err != nil {
			t.Fatal(err)
		}
		for i, target := range c.Targets[:n] {
			id := fmt.Sprintf("of-%d", i)
			key := target.Realm.Set.Login("").ClientKey.Reveal()
			all := fmt.Sprintf("%+v %s %s", target, target.Proxmox.Token.Full().Reveal(), key)
			for j := range n {
				if other := fmt.Sprintf("of-%d", j); j != i && strings.Contains(all, other) {
					t.Fatalf("target %d has something of target %d: %s", i, j, all)
				}
			}
			has := map[string]bool{
				"endpoints": strings.Contains(string(target.Proxmox.Endpoints[0]), id), "ca": strings.Contains(target.Proxmox.CAFile, id),
				"key": strings.Contains(key, id), "comment": strings.Contains(target.Realm.Set[realm.Comment].String(), id),
				"scopes": strings.Contains(target.Realm.Set[realm.Scopes].String(), id), "unset": len(target.Realm.Unset) > 0,
				"redirect": target.Verify.RedirectsDeclared && strings.Contains(string(target.Verify.RedirectURLs[0]), id),
			}
			if !maps.Equal(has, own[i]) {
				t.Fatalf("target %d has %v, said %v", i, has, own[i])
			}
			if own[i]["endpoints"] && (strings.Contains(target.Proxmox.Token.Full().Reveal(), "of-all") || target.Proxmox.CAFile == "/etc/all.pem" || slices.Contains(target.Verify.RedirectURLs, "https://all")) {
				t.Fatalf("another cluster inherits credentials, trust or redirect URLs: %s", all)
			}
		}
	})
}

// Loading an exported configuration gives the realm that was exported.
func TestMarshalLoadsAgain(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte("a-key"), 0o600); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		spec := realm.Spec{Name: rapid.SampledFrom([]string{"authelia", "on", "no.1", "Yes-2"}).Draw(t, "name"), Set: realm.Values{}}
		for _, d := range realm.Definitions() {
			if !d.Required && !rapid.Bool().Draw(t, d.Key) {
				continue
			}
			var v realm.Value
			switch d.Form {
			case realm.FormBool:
				v = realm.Bool(rapid.Bool().Draw(t, "bool"))
			case realm.FormKey:
				v = realm.Key(check.NewSecret("a-key"))
			case realm.FormSet, realm.FormList:
				v = realm.Words(d.Property, rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z0-9:~-]{1,8}|null|true|1e3|\*x`), 1, 4, rapid.ID).Draw(t, "words")...)
			case realm.FormText:
				v = realm.Text(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"yes", "null", "1", "- a", "a: b", "# c", "'", `"`, "&a", "*b", "2020-01-01", "😀", "<<", "~"})).Draw(t, "text"))
			}
			if realm.VE.Validate(d.Property, v) == nil {
				spec.Set[d.Property] = v
			} else if d.Required {
				spec.Set[d.Property] = realm.Text("required")
			}
		}
		keyFile := ""
		if _, set := spec.Set[realm.ClientKey]; set {
			keyFile = key
		}
		target := defaults()
		target.Proxmox.Endpoints, target.Proxmox.CAFile = []Origin{"https://pve1:8006"}, "/etc/ca: #1.pem"
		target.Verify.RedirectURLs, target.Verify.RedirectsDeclared = []Origin{"https://pve1:8006"}, true
		target.Verify.IssuerCAFile, target.Realm, target.ClientKeyFile = "/etc/ca: #2.pem", spec, keyFile
		text := Marshal(target)
		if bytes.Contains(text, []byte("a-key")) {
			t.Fatalf("holds the key:\n%s", text)
		}
		path := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(context.Background(), Options{File: path, Partial: true})
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		got := c.Targets[0].Realm
		if keyFile != "" {
			delete(spec.Set, realm.ClientKey)
			if !bytes.Contains(text, []byte("client_key_file: "+key)) {
				t.Fatalf("names no key file:\n%s", text)
			}
		}
		if !reflect.DeepEqual(got, spec) {
			t.Fatalf("got %+v, want %+v\n%s", got, spec, text)
		}
	})
}
