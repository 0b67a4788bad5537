package ansible_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/check"

	"proxmox-realm/internal/ansible"
	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/lab/issuer"
	"proxmox-realm/internal/lab/pve"
)

// answer is what the module gets back.
type answer struct {
	Protocol int      `json:"protocol"`
	Changed  bool     `json:"changed"`
	Failed   bool     `json:"failed"`
	Msg      string   `json:"msg"`
	Code     string   `json:"code"`
	Hint     string   `json:"hint"`
	Realm    string   `json:"realm"`
	Endpoint string   `json:"endpoint"`
	Action   string   `json:"action"`
	Outcome  string   `json:"outcome"`
	Warnings []string `json:"warnings"`
	Saved    string   `json:"saved"`
	Changes  []struct {
		Property string  `json:"property"`
		Before   *string `json:"before"`
		After    *string `json:"after"`
	} `json:"changes"`
	Checks []struct {
		ID, Status, Hint string
	} `json:"checks"`
	Diff struct {
		Before, After map[string]string
	} `json:"diff"`
}

// run hands a request over and returns the answer, which came in one write.
func run(tb testing.TB, env []string, request string) answer {
	tb.Helper()
	var out writes
	err := ansible.Run(tb.Context(), strings.NewReader(request), &out, ansible.Program{Env: env, UserAgent: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil || len(out) != 1 {
		tb.Fatalf("%d writes, %v", len(out), err)
	}
	var raw map[string]json.RawMessage
	var a answer
	if err := json.Unmarshal(out[0], &raw); err != nil {
		tb.Fatalf("%v: %s", err, out[0])
	}
	if err := json.Unmarshal(out[0], &a); err != nil {
		tb.Fatalf("%v: %s", err, out[0])
	}
	for _, key := range []string{"protocol", "changed", "failed", "msg", "realm", "action", "outcome", "changes", "checks", "diff", "warnings"} {
		if raw[key] == nil || string(raw[key]) == "null" {
			tb.Errorf("the answer has no %s: %s", key, out[0])
		}
	}
	if a.Failed != (a.Code != "") || a.Protocol != ansible.Protocol || a.Msg == "" || strings.Contains(a.Msg, "\n") {
		tb.Errorf("%s", out[0])
	}
	return a
}

type writes [][]byte

func (w *writes) Write(p []byte) (int, error) {
	*w = append(*w, bytes.Clone(p))
	return len(p), nil
}

const complete = `"api_host":"pve.example.com","api_token_id":"u@pve!tk","api_token_secret":"topsecretvalue","realm":"authelia","openid_issuer_url":"https://auth.example.com","openid_client_id":"proxmox"`

// What is wrong with a request is said with the module's names, and without any value.
func TestWrongRequests(t *testing.T) {
	args := func(more string) string {
		return `{"protocol":1,"check_mode":true,"arguments":{` + complete + more + `}}`
	}
	only := func(all string) string { return `{"protocol":1,"arguments":{` + all + `}}` }
	for name, tt := range map[string]struct {
		request string
		code    check.Code
		says    string
	}{
		"nothing":               {``, check.Usage, "not a JSON object"},
		"no object":             {`[1]`, check.Usage, "not a JSON object"},
		"cut short":             {`{"protocol":1,"arguments":{`, check.Usage, "not a JSON object"},
		"trailing":              {`{"protocol":1,"arguments":{}} {}`, check.Usage, "something follows"},
		"doubled":               {`{"protocol":1,"protocol":1,"arguments":{}}`, check.Usage, "protocol comes twice"},
		"doubled, escaped":      {`{"protocol":1,"arguments":{"realm":"a1","re\u0061lm":"b1"}}`, check.Usage, "realm comes twice"},
		"unknown key":           {`{"protocol":1,"arguments":{},"more":1}`, check.Usage, "unknown key, more"},
		"other case":            {`{"protocol":1,"Arguments":{}}`, check.Usage, "unknown key, Arguments"},
		"other protocol":        {`{"protocol":2,"arguments":{}}`, check.Usage, "version 2 of the protocol, and this proxmox-realm version 1"},
		"no protocol":           {`{"arguments":{}}`, check.Usage, "protocol is not a number"},
		"no UTF-8":              {"{\"protocol\":1,\"arguments\":{\"realm\":\"\xff\"}}", check.Usage, "not UTF-8"},
		"too large":             {args(`,"comment":"` + strings.Repeat("x", 1<<20) + `"`), check.Usage, "larger than 1024 KiB"},
		"unknown argument":      {args(`,"issuer_url":"topsecretvalue"`), check.Config, "issuer_url: is no argument"},
		"secret as a name":      {args(`,"top secret value":1`), check.Config, "a name: is no argument"},
		"another type":          {args(`,"openid_autocreate":"topsecretvalue"`), check.Config, "openid_autocreate: must be true or false"},
		"a list for a text":     {args(`,"comment":["topsecretvalue"]`), check.Config, "comment: must be a text"},
		"a text for a list":     {args(`,"unset":"prompt"`), check.Config, "unset: must be a list"},
		"null in a list":        {args(`,"unset":[null]`), check.Config, "unset: must be a list"},
		"a fraction":            {args(`,"api_port":1.5`), check.Config, "api_port: must be a whole number"},
		"nothing given":         {only(``), check.Config, "api_host: is required; api_token_id and api_token_secret are required, or else api_user and api_password; openid_client_id: is required; openid_issuer_url: is required; realm: is required"},
		"host with port":        {strings.Replace(args(``), "pve.example.com", "pve.example.com:8006", 1), check.Config, "api_host: must be a host name or an address alone"},
		"host with scheme":      {strings.Replace(args(``), "pve.example.com", "https://pve.example.com", 1), check.Config, "api_host: must be a host name or an address alone"},
		"host with user":        {strings.Replace(args(``), "pve.example.com", "a@pve.example.com", 1), check.Config, "api_host: must not hold user information"},
		"port":                  {args(`,"api_port":0`), check.Config, "api_port: must be a port"},
		"timeout":               {args(`,"api_timeout":0`), check.Config, "api_timeout: must be a duration"},
		"whole token":           {strings.Replace(args(``), `"topsecretvalue"`, `"u@pve!tk=topsecretvalue"`, 1), check.Config, "api_token_secret: must be the secret alone"},
		"short id, no user":     {strings.Replace(args(``), `u@pve!tk`, `t2`, 1), check.Config, "api_user: is required, unless"},
		"another user":          {args(`,"api_user":"v@pve"`), check.Config, "api_token_id: belongs to another user"},
		"two credentials":       {args(`,"api_user":"u@pve","api_password":"topsecretvalue"`), check.Config, "api_password: is of no use beside api_token_secret"},
		"code beside a token":   {args(`,"api_otp":"123456"`), check.Config, "api_otp: needs api_password"},
		"user without a realm":  {only(`"api_host":"a","api_user":"root","api_password":"topsecretvalue","realm":"authelia","state":"absent"`), check.Config, "api_user: must be a user with its realm"},
		"fingerprint":           {args(`,"fingerprints":["AB"]`), check.Config, "fingerprints: must be a SHA-256 fingerprint"},
		"two kinds of trust":    {args(`,"fingerprints":["` + strings.Repeat("AB:", 31) + `AB"],"ca_path":"/x"`), check.Config, "fingerprints"},
		"CA that is not there":  {args(`,"ca_path":"/nowhere/ca.pem"`), check.Config, "ca_path: no such file"},
		"state":                 {args(`,"state":"topsecretvalue"`), check.Config, "state: must be present or absent"},
		"verify":                {args(`,"verify":"True"`), check.Config, "verify: must be true, warn or false"},
		"realm name":            {strings.Replace(args(``), `"authelia"`, `"1"`, 1), check.Config, "realm: must be 2 to 32 characters"},
		"empty":                 {args(`,"openid_prompt":""`), check.Config, "openid_prompt: must not be empty: to remove the property, name it in unset"},
		"empty list":            {args(`,"openid_scopes":[]`), check.Config, "openid_scopes: must not be empty: to remove the property, name it in unset"},
		"a space in a word":     {args(`,"openid_prompt":"a b"`), check.Config, "openid_prompt: must not contain white space"},
		"a line feed":           {args(`,"comment":"a\nb"`), check.Config, "comment: must not contain control characters"},
		"set and unset":         {args(`,"comment":"x","unset":["comment"]`), check.Config, "unset: names comment, which comment sets"},
		"unset what is needed":  {args(`,"unset":["openid_issuer_url"]`), check.Config, "unset: must not name issuer-url"},
		"unset what is none":    {args(`,"unset":["promt"]`), check.Config, "the nearest is prompt"},
		"redirect with a slash": {args(`,"redirect_urls":["https://pve.example.com/"]`), check.Config, "redirect_urls: must not end with a slash"},
	} {
		t.Run(name, func(t *testing.T) {
			a := run(t, nil, tt.request)
			if !a.Failed || a.Changed || a.Code != string(tt.code) || !strings.Contains(a.Msg, tt.says) || a.Hint == "" {
				t.Errorf("%+v", a)
			}
			if strings.Contains(a.Msg+a.Hint+a.Realm, "topsecretvalue") {
				t.Errorf("a value is quoted: %s", a.Msg)
			}
			for _, foreign := range []string{"realm.", "proxmox.", "verify.", "--"} {
				if strings.Contains(a.Msg, foreign) {
					t.Errorf("the module has no %s: %s", foreign, a.Msg)
				}
			}
		})
	}
}

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

func (w world) task(check bool, more map[string]any) answer {
	w.tb.Helper()
	request, err := json.Marshal(map[string]any{"protocol": 1, "check_mode": check, "arguments": w.arguments(more)})
	if err != nil {
		w.tb.Fatal(err)
	}
	return run(w.tb, w.env, string(request))
}

// Check mode says of every case what the task then does, and changes nothing.
func TestCheckModePredicts(t *testing.T) {
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
		code    string // "": the task is fine
		action  string
		later   string // code of the task alone: what no look beforehand can tell
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
		"no gate, verified":            {"converged", with(wrongKey, "gate", false), true, "", "update", "unverified"},
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

// A client key that changes shows in the diff, and its value does not.
func TestDiff(t *testing.T) {
	w := newWorld(t)
	if err := w.Seed("drifted"); err != nil {
		t.Fatal(err)
	}
	a := w.task(true, nil)
	if a.Diff.Before["comment"] != "changed by hand" || a.Diff.After["comment"] != "Log in with Authelia" || a.Diff.After["autocreate"] != "1" {
		t.Errorf("%+v", a.Diff)
	}
	if before, after := a.Diff.Before["client-key"], a.Diff.After["client-key"]; before == after || !strings.Contains(before, "(sensitive)") || !strings.Contains(after, "(sensitive)") {
		t.Errorf("%q, %q", before, after)
	}
	if _, stored := a.Diff.Before["autocreate"]; stored {
		t.Error("an absent property has a value")
	}
}

// Check mode fails where the credentials may not write.
func TestCheckModeSeesPrivileges(t *testing.T) {
	w := newWorld(t)
	id, value, _ := strings.Cut(w.PVE.Token(pve.TokenSysAudit), "=")
	args := map[string]any{"api_token_id": id, "api_token_secret": value}
	for _, checking := range []bool{true, false} {
		if a := w.task(checking, args); a.Code != string(check.PermissionDenied) || a.Changed {
			t.Errorf("check %v: %+v", checking, a)
		}
	}
}

// What is not in the arguments does not count: neither files nor variables of other ways of running.
func TestTheArgumentsSayEverything(t *testing.T) {
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
	a := w.task(false, nil)
	r, _ := w.PVE.Realm(lab.RealmName)
	if a.Failed || !a.Changed || r.Properties["prompt"] != "" {
		t.Errorf("%+v: %v", a, r)
	}
}

func TestTrust(t *testing.T) {
	w := newWorld(t)
	without := w.arguments(nil)
	delete(without, "ca_path")
	for name, tt := range map[string]struct {
		args map[string]any
		fine bool
		warn string
	}{
		"CA":                    {map[string]any{"ca_path": w.CAFile}, true, ""},
		"system":                {nil, false, ""},
		"none":                  {map[string]any{"validate_certs": false}, true, "validate_certs: nothing checks Proxmox's certificate"},
		"CA without validation": {map[string]any{"validate_certs": false, "ca_path": "/nowhere"}, true, "validate_certs: nothing checks"},
		"wrong fingerprint":     {map[string]any{"fingerprints": []string{strings.Repeat("AB", 32)}, "validate_certs": false}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			args := maps.Clone(without)
			maps.Copy(args, tt.args)
			request, _ := json.Marshal(map[string]any{"protocol": 1, "check_mode": true, "arguments": args})
			a := run(t, w.env, string(request))
			if a.Failed == tt.fine || !tt.fine && a.Code != string(check.UnknownCertificate) {
				t.Errorf("%+v", a)
			}
			if warned := strings.Join(a.Warnings, "; "); (tt.warn == "") != (warned == "") || !strings.Contains(warned, tt.warn) {
				t.Errorf("warnings: %s", warned)
			}
		})
	}
}

// Who asks: a token in either form, or a password, with a one-time code where the user has a second factor.
// The lab gives that user no privilege.
func TestIdentify(t *testing.T) {
	w := newWorld(t)
	user, id, _ := strings.Cut(w.arguments(nil)["api_token_id"].(string), "!")
	admin, second := w.PVE.User(pve.UserAdmin), w.PVE.User(pve.UserTOTP)
	password := func(c pve.Credentials, otp any) map[string]any {
		return map[string]any{"api_token_id": nil, "api_token_secret": nil, "api_user": c.Username, "api_password": c.Password, "api_otp": otp}
	}
	for name, tt := range map[string]struct {
		more map[string]any
		code check.Code
	}{
		"token in full":           {nil, ""},
		"token in two parts":      {map[string]any{"api_user": user, "api_token_id": id}, ""},
		"token twice":             {map[string]any{"api_user": user}, ""},
		"token of another":        {map[string]any{"api_user": "root@pam"}, check.Config},
		"token without its user":  {map[string]any{"api_token_id": id}, check.Config},
		"password":                {password(admin, nil), ""},
		"wrong password":          {password(pve.Credentials{Username: admin.Username, Password: "of another"}, nil), "bad-credentials"},
		"one-time code":           {password(second, w.PVE.TOTP(pve.UserTOTP)), check.PermissionDenied},
		"wrong one-time code":     {password(second, "000000"), "bad-credentials"},
		"one-time code forgotten": {password(second, nil), "bad-credentials"},
	} {
		if a := w.task(true, tt.more); a.Code != string(tt.code) || a.Changed != (tt.code == "") {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// A warning of a check is one of the task, unless nobody wants to know.
func TestVerifyWarn(t *testing.T) {
	w := newWorld(t)
	w.Issuer.Inject("/jwks.json", issuer.Fault{Status: 500})
	for verify, want := range map[string]bool{"warn": true, "false": false} {
		a := w.task(true, map[string]any{"verify": verify})
		if warned := slices.ContainsFunc(a.Warnings, func(s string) bool { return strings.HasPrefix(s, "issuer.keys: ") }); warned != want || a.Failed {
			t.Errorf("verify %s: %+v", verify, a)
		}
	}
	if a := w.task(true, nil); !a.Failed || a.Code != "unverified" || !a.Changed || !strings.Contains(a.Msg, "issuer.keys: ") {
		t.Errorf("%+v", a)
	}
}

// An interruption ends a run that nobody has asked anything yet.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(check.Errorf(check.Interrupted, "interrupted by the test"))
	silent, end := io.Pipe()
	defer func() { _ = end.Close() }()
	var out bytes.Buffer
	if err := ansible.Run(ctx, silent, &out, ansible.Program{Log: slog.New(slog.DiscardHandler)}); err != nil || !strings.Contains(out.String(), `"code":"interrupted"`) {
		t.Errorf("%v: %s", err, out.String())
	}
	if err := ansible.Run(t.Context(), strings.NewReader("{}"), full{}, ansible.Program{Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, errFull) {
		t.Errorf("an answer that cannot be written: %v", err)
	}
}

var errFull = errors.New("no space left")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }
