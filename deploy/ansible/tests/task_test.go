//go:build ansible

package tests

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/lab/issuer"
	"proxmox-realm/internal/lab/pbs"
	"proxmox-realm/internal/lab/pve"
)

// world is a lab and the arguments that fit it.
type world struct {
	*lab.Lab
	tb  testing.TB
	env []string
}

func newWorld(tb testing.TB) world {
	tb.Helper()
	dir := tb.TempDir()
	l, err := lab.Start(lab.Options{Dir: filepath.Join(dir, "lab")})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	return world{l, tb, []string{"HOME=" + dir, "STATE_DIRECTORY=" + filepath.Join(dir, "state"), "RUNTIME_DIRECTORY=" + dir}}
}

func (w world) arguments(more map[string]any) map[string]any {
	u, err := url.Parse(w.PVE.URL())
	if err != nil {
		w.tb.Fatal(err)
	}
	id, value, _ := strings.Cut(w.PVE.Token(pve.TokenRealmAllocate), "=")
	args := map[string]any{
		"api_host": u.Hostname(), "api_port": json.Number(u.Port()), "api_token_id": id, "api_token_secret": value, "ca_path": w.CAFile,
		"realm": lab.RealmName, "comment": "Log in with Authelia", "openid_issuer_url": w.IssuerURL, "openid_client_id": w.ClientID,
		"openid_client_key": w.ClientKey, "openid_username_claim": "preferred_username", "openid_scopes": []string{"openid profile", "email"},
		"openid_autocreate": true, "redirect_urls": []string{w.RedirectURL}, "issuer_ca_path": w.IssuerCAFile,
	}
	maps.Copy(args, more)
	return args
}

func (w world) task(checking bool, more map[string]any) result {
	w.tb.Helper()
	return run(w.tb, w.env, checking, w.arguments(more))
}

// Check mode says of every case what the task then does, and changes nothing.
func TestCheckModePredicts(t *testing.T) {
	t.Parallel()
	wrongKey := map[string]any{"openid_client_key": "not-the-key-of-the-client"}
	with := func(m map[string]any, more ...any) map[string]any {
		m = maps.Clone(m)
		for i := 0; i < len(more); i += 2 {
			m[more[i].(string)] = more[i+1]
		}
		return m
	}
	for name, tt := range map[string]struct {
		seed    string
		args    map[string]any
		changed bool
		code    string // "": the task succeeds
		action  string
		later   string // the code of the task alone, where check mode cannot know it
	}{
		"create":                       {"empty", nil, true, "", "create", ""},
		"converged":                    {"converged", nil, false, "", "none", ""},
		"drifted":                      {"drifted", nil, true, "", "update", ""},
		"unset":                        {"unmanaged", map[string]any{"unset": []string{"openid_prompt", "acr-values"}}, true, "", "update", ""},
		"unset what is absent":         {"converged", map[string]any{"unset": []string{"prompt"}}, false, "", "none", ""},
		"unmanaged stays":              {"unmanaged", nil, false, "", "none", ""},
		"claim":                        {"claim", nil, false, "username-claim", "refuse", ""},
		"claim, agreed":                {"claim", map[string]any{"replace": true}, true, "", "replace", ""},
		"foreign":                      {"foreign", nil, false, "wrong-type", "refuse", ""},
		"builtin":                      {"empty", map[string]any{"realm": "pam"}, false, "builtin-realm", "refuse", ""},
		"held":                         {"converged", wrongKey, false, "held", "update", ""},
		"no gate":                      {"converged", with(wrongKey, "gate", false, "verify", "warn"), true, "", "update", ""},
		"no gate, verified":            {"converged", with(wrongKey, "gate", false), true, "unverified", "update", ""},
		"nobody asks":                  {"converged", with(wrongKey, "gate", false, "verify", "false"), true, "", "update", ""},
		"wrong issuer":                 {"empty", map[string]any{"openid_issuer_url": "https://127.0.0.1:1"}, true, "unverified", "create", ""},
		"wrong issuer, warned":         {"empty", map[string]any{"openid_issuer_url": "https://127.0.0.1:1", "verify": "warn"}, true, "", "create", ""},
		"wrong issuer, not verified":   {"empty", map[string]any{"openid_issuer_url": "https://127.0.0.1:1", "verify": "false"}, true, "", "create", ""},
		"delete":                       {"converged", map[string]any{"state": "absent"}, true, "", "delete", ""},
		"delete what is absent":        {"empty", map[string]any{"state": "absent"}, false, "", "none", ""},
		"delete a foreign one":         {"foreign", map[string]any{"state": "absent"}, false, "wrong-type", "refuse", ""},
		"delete a built-in one":        {"empty", map[string]any{"state": "absent", "realm": "pve"}, false, "builtin-realm", "refuse", ""},
		"delete with the wrong issuer": {"converged", map[string]any{"state": "absent", "openid_issuer_url": "https://127.0.0.1:1"}, true, "", "delete", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if err := w.Seed(tt.seed); err != nil {
				t.Fatal(err)
			}
			before, _ := json.Marshal(w.PVE.Realms())
			foreseen := w.task(true, tt.args)
			if after, _ := json.Marshal(w.PVE.Realms()); !bytes.Equal(before, after) {
				t.Errorf("check mode wrote: %s, before %s", after, before)
			}
			if foreseen.Changed != tt.changed || foreseen.Code != tt.code || foreseen.Action != tt.action {
				t.Errorf("foreseen: changed %v, code %q, action %q: %s", foreseen.Changed, foreseen.Code, foreseen.Action, foreseen.Msg)
			}
			done := w.task(false, tt.args)
			if done.Changed != tt.changed || done.Code != tt.code+tt.later || done.Action != tt.action {
				t.Errorf("done: changed %v, code %q, action %q: %s", done.Changed, done.Code, done.Action, done.Msg)
			}
			if after, _ := json.Marshal(w.PVE.Realms()); bytes.Equal(before, after) == done.Changed {
				t.Errorf("said changed %v: %s, before %s", done.Changed, after, before)
			}
			if len(foreseen.Changes) != len(done.Changes) || !maps.Equal(foreseen.Diff.Before, done.Diff.Before) || !maps.Equal(foreseen.Diff.After, done.Diff.After) {
				t.Errorf("foreseen %+v, done %+v", foreseen.Diff, done.Diff)
			}
			if done.Failed {
				return
			}
			again := w.task(false, tt.args)
			if again.Changed || again.Action != "none" {
				t.Errorf("again: %+v", again)
			}
		})
	}
}

// Groups and grants are created, repaired and reported. Check mode predicts them and changes nothing.
func TestAccess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, value, _ := strings.Cut(w.PVE.Token(pve.TokenRoot), "=")
	args := func(access any) map[string]any {
		return map[string]any{
			"api_token_id": id, "api_token_secret": value, "access": access,
			"openid_groups_claim": "groups", "openid_scopes": []string{"openid", "profile", "groups"},
		}
	}
	declared := map[string]any{
		"admins": []any{map[string]any{"path": "/", "role": "PVEAdmin"}},
		"dev":    []any{map[string]any{"path": "/pool/dev/", "role": "PVEVMUser", "propagate": "no"}},
	}
	if r := w.task(false, args(nil)); r.Failed || len(w.PVE.State().Groups) != 0 {
		t.Fatalf("%+v", r)
	}
	acl := w.PVE.State().ACL
	foreseen := w.task(true, args(declared))
	if len(w.PVE.State().Groups) != 0 {
		t.Error("check mode created a group")
	}
	done := w.task(false, args(declared))
	for _, r := range []result{foreseen, done} {
		if r.Failed || !r.Changed || r.Action != "update" || len(r.Changes) != 4 || r.Changes[0].Kind != "group" || r.Changes[3].Kind != "grant" ||
			!strings.HasSuffix(r.Msg, "group admins-authelia, group dev-authelia, grant admins-authelia: PVEAdmin on /, grant dev-authelia: PVEVMUser on /pool/dev") ||
			!strings.Contains(r.Msg, " realm authelia: add") ||
			!maps.Equal(r.Diff.After, map[string]string{
				"group admins-authelia": "exists", "grant admins-authelia: PVEAdmin on /": "also below",
				"group dev-authelia": "exists", "grant dev-authelia: PVEVMUser on /pool/dev": "not below",
			}) || len(r.Diff.Before) != 0 {
			t.Errorf("%+v", r)
		}
	}
	want := append(acl, pve.ACL{Path: "/", Type: "group", ID: "admins-authelia", Role: "PVEAdmin", Propagate: true},
		pve.ACL{Path: "/pool/dev", Type: "group", ID: "dev-authelia", Role: "PVEVMUser"})
	if got := w.PVE.State().ACL; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if r := w.task(false, args(declared)); r.Failed || r.Changed {
		t.Errorf("again: %+v", r)
	}
	// With another propagate, revoked, and with a token that may not.
	declared["admins"] = []any{map[string]any{"path": "/", "role": "PVEAdmin", "propagate": false}}
	const grant = "grant admins-authelia: PVEAdmin on /"
	if r := w.task(true, args(declared)); r.Msg != "would update realm authelia: change "+grant ||
		!maps.Equal(r.Diff.Before, map[string]string{grant: "also below"}) || !maps.Equal(r.Diff.After, map[string]string{grant: "not below"}) {
		t.Errorf("another propagate: %+v", r)
	}
	if r := w.task(true, map[string]any{"access": map[string]any{"admins": []any{}}, "openid_groups_claim": "groups", "openid_scopes": []string{"openid profile groups"}}); !r.Failed ||
		!strings.Contains(r.Msg, "may not change the declared groups and grants") || !strings.Contains(r.Hint, "\nleave out access") {
		t.Errorf("without the privilege: %+v", r)
	}
	if r := w.task(false, args(map[string]any{"admins": []any{}})); r.Failed || !r.Changed || r.Diff.Before[grant] != "also below" ||
		r.Msg != "updated realm authelia: revoked "+grant {
		t.Errorf("revoked: %+v", r)
	}
	if got := w.PVE.State().ACL; len(got) != len(want)-1 {
		t.Errorf("%v", got)
	}
	if r := w.task(false, args(map[string]any{"admins": []any{map[string]any{"path": "/", "role": "Nobody"}}})); r.Code != "unknown-role" {
		t.Errorf("%+v", r)
	}
}

// A client key that changes shows in the diff, and its value does not.
func TestDiff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.Seed("drifted"); err != nil {
		t.Fatal(err)
	}
	r := w.task(true, nil)
	if r.Diff.Before["comment"] != "changed by hand" || r.Diff.After["comment"] != "Log in with Authelia" || r.Diff.After["autocreate"] != "1" {
		t.Errorf("%+v", r.Diff)
	}
	if before, after := r.Diff.Before["client-key"], r.Diff.After["client-key"]; before == after || !strings.Contains(before, "(sensitive)") || !strings.Contains(after, "(sensitive)") {
		t.Errorf("%q, %q", before, after)
	}
	if _, stored := r.Diff.Before["autocreate"]; stored {
		t.Error("an absent property has a value")
	}
}

// Check mode fails if the credentials may not write.
func TestCheckModeSeesPrivileges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, value, _ := strings.Cut(w.PVE.Token(pve.TokenSysAudit), "=")
	for _, verify := range []string{"true", "false"} {
		for _, checking := range []bool{true, false} {
			r := w.task(checking, map[string]any{"api_token_id": id, "api_token_secret": value, "verify": verify})
			if r.Code != "permission-denied" || r.Changed || r.Hint == "" {
				t.Errorf("check mode %v: %+v", checking, r)
			}
		}
	}
}

// Neither files nor variables of the command line count: the arguments say everything.
func TestTheArgumentsSayEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "proxmox-realm")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte("realm: {prompt: login}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "XDG_CONFIG_HOME="+filepath.Dir(dir), "PROXMOX_REALM_CONFIG="+w.ConfigFile, "PROXMOX_REALM_REALM_PROMPT=login",
		"PROXMOX_REALM_NONSENSE=1", "PROXMOX_VE_INSECURE=true")
	comment := "Log in: \"Authelia\" # ☃ 😀 \\ $HOME"
	a := w.task(false, map[string]any{"comment": comment})
	r, _ := w.PVE.Realm(lab.RealmName)
	if a.Failed || !a.Changed || r.Properties["prompt"] != "" || r.Properties["comment"] != comment {
		t.Errorf("%+v: %v", a, r)
	}
}

func TestTrust(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, tt := range map[string]struct {
		args map[string]any
		fine bool
		warn string
	}{
		"CA":                    {nil, true, ""},
		"system":                {map[string]any{"ca_path": nil}, false, ""},
		"none":                  {map[string]any{"ca_path": nil, "validate_certs": false}, true, "validate_certs is false"},
		"CA without validation": {map[string]any{"validate_certs": false, "ca_path": "/nowhere"}, true, "validate_certs is false"},
		"wrong fingerprint":     {map[string]any{"ca_path": nil, "fingerprints": []string{strings.Repeat("AB", 32)}, "validate_certs": false}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.task(true, tt.args)
			if r.Failed == tt.fine || !tt.fine && r.Code != "unknown-certificate" {
				t.Errorf("%+v", r)
			}
			if warned := strings.Join(r.Warnings, "; "); (tt.warn == "") != (warned == "") || !strings.Contains(warned, tt.warn) {
				t.Errorf("warnings: %s", warned)
			}
		})
	}
}

// A task identifies itself by a token in either form, or by a password and, for a second factor, a one-time code. The lab
// gives the user with the second factor no privilege.
func TestIdentify(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	user, id, _ := strings.Cut(w.arguments(nil)["api_token_id"].(string), "!")
	admin, second := w.PVE.User(pve.UserAdmin), w.PVE.User(pve.UserTOTP)
	password := func(c pve.Credentials, otp any) map[string]any {
		return map[string]any{"api_token_id": nil, "api_token_secret": nil, "api_user": c.Username, "api_password": c.Password, "api_otp": otp}
	}
	for name, tt := range map[string]struct {
		more map[string]any
		code string
	}{
		"token in full":           {nil, ""},
		"token in two parts":      {map[string]any{"api_user": user, "api_token_id": id}, ""},
		"token twice":             {map[string]any{"api_user": user}, ""},
		"token of another":        {map[string]any{"api_user": "root@pam"}, "config"},
		"token without its user":  {map[string]any{"api_token_id": id}, "config"},
		"password":                {password(admin, nil), ""},
		"wrong password":          {password(pve.Credentials{Username: admin.Username, Password: "of another"}, nil), "bad-credentials"},
		"one-time code":           {password(second, w.PVE.TOTP(pve.UserTOTP)), "permission-denied"},
		"wrong one-time code":     {password(second, "000000"), "bad-credentials"},
		"one-time code forgotten": {password(second, nil), "bad-credentials"},
	} {
		if r := w.task(true, tt.more); r.Code != tt.code || r.Changed != (tt.code == "") {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// A warning of a check is one of the task, unless verify is false.
func TestVerifyWarn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Issuer.Inject("/jwks.json", issuer.Fault{Status: 500})
	for verify, want := range map[string]bool{"warn": true, "false": false} {
		r := w.task(true, map[string]any{"verify": verify})
		if warned := slices.ContainsFunc(r.Warnings, func(s string) bool { return strings.HasPrefix(s, "issuer.keys: ") }); warned != want || r.Failed {
			t.Errorf("verify %s: %+v", verify, r)
		}
	}
	if r := w.task(true, map[string]any{"verify_ignore": []string{"issuer.keys"}}); r.Failed {
		t.Errorf("ignored: %+v", r)
	}
	if r := w.task(true, nil); !r.Failed || r.Code != "unverified" || !r.Changed || !strings.Contains(r.Msg, "issuer.keys: ") {
		t.Errorf("%+v", r)
	}
}

// With verify_issuer: false the issuer is left alone, and nothing is held.
func TestVerifyIssuer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.Seed("drifted"); err != nil {
		t.Fatal(err)
	}
	w.Issuer.Inject("/.well-known/openid-configuration", issuer.Fault{Status: 500})
	if r := w.task(false, nil); r.Code != "held" {
		t.Fatalf("%+v", r)
	}
	if r := w.task(false, map[string]any{"verify_issuer": false}); !r.Changed || r.Code == "held" || slices.ContainsFunc(r.Checks, func(c finding) bool {
		return strings.HasPrefix(c.ID, "issuer.") && c.Status == "fail"
	}) {
		t.Errorf("%+v", r)
	}
}

// A replace that was interrupted stops every task, with a hint of the module's own, until one with recover ends it.
func TestRecover(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.Seed("claim"); err != nil {
		t.Fatal(err)
	}
	mend := w.PVE.Inject(pve.Rule{Method: "POST", Path: "/access/domains", Status: 500, Reason: "add auth server failed", Body: `{"data":null}`})
	if r := w.task(false, map[string]any{"replace": true}); !r.Failed || !r.Changed || !strings.Contains(r.Hint, "set recover to true") {
		t.Fatalf("%+v", r)
	}
	mend()
	if r := w.task(false, map[string]any{"openid_username_claim": "sub"}); r.Code != "saved-realm" || !strings.Contains(r.Hint, "set recover to true") {
		t.Fatalf("%+v", r)
	}
	args := map[string]any{"openid_username_claim": "sub", "recover": true}
	foreseen := w.task(true, args)
	done := w.task(false, args)
	if foreseen.Failed || !foreseen.Changed || done.Failed || !done.Changed {
		t.Errorf("foreseen %+v\ndone %+v", foreseen, done)
	}
	if r, there := w.PVE.Realm(lab.RealmName); !there || r.Properties["username-claim"] != "" || r.Properties["comment"] != "Log in with Authelia" {
		t.Errorf("%v", r)
	}
	args["verify"] = "false" // checks warn of the claim sub
	if r := w.task(false, args); r.Failed || r.Changed || len(r.Warnings) > 0 {
		t.Errorf("again: %+v", r)
	}
}

// Backup Server and Datacenter Manager have the same task, and refuse what they lack.
func TestOtherProducts(t *testing.T) {
	t.Parallel()
	for name, product := range pbs.Products {
		l, err := lab.Start(lab.Options{PBS: &pbs.Options{Product: product}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		u, err := url.Parse(l.PBS.URL())
		if err != nil {
			t.Fatal(err)
		}
		id, value, _ := strings.Cut(l.PBS.Token(pbs.TokenRealmAllocate), ":")
		dir := t.TempDir()
		env := []string{"HOME=" + dir, "STATE_DIRECTORY=" + filepath.Join(dir, "state"), "RUNTIME_DIRECTORY=" + dir}
		args := map[string]any{
			"product": name, "api_host": u.Hostname(), "api_port": u.Port(), "api_token_id": id, "api_token_secret": value, "ca_path": l.CAFile,
			"realm": lab.RealmName, "openid_issuer_url": l.IssuerURL, "openid_client_id": l.ClientID, "openid_client_key": l.ClientKey,
			"openid_scopes": []string{"openid", "profile", "email"}, "openid_autocreate": true, "redirect_urls": []string{l.RedirectURL},
			"issuer_ca_path": l.IssuerCAFile,
		}
		for _, tt := range []struct {
			checking, changed bool
		}{{true, true}, {false, true}, {false, false}} {
			if r := run(t, env, tt.checking, args); r.Failed || r.Changed != tt.changed || strings.Contains(strings.Join(r.Warnings, ""), ":;") {
				t.Fatalf("%s: %+v: %+v", name, tt, r)
			}
		}
		args["openid_groups_claim"] = "groups"
		if r := run(t, env, true, args); !r.Failed || !strings.Contains(r.Hint, "leave out openid_groups_claim") {
			t.Errorf("%s: %+v", name, r)
		}
		args["product"], args["openid_groups_claim"] = "pve", nil
		if r := run(t, env, true, args); !r.Failed || !strings.Contains(r.Hint, "set product to "+name) {
			t.Errorf("%s taken for Proxmox VE: %+v", name, r)
		}
	}
}
