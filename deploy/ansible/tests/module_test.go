//go:build ansible

package tests

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/config"
)

const (
	module  = "../plugins/modules/proxmox_openid_realm.py"
	wording = "../plugins/module_utils/wording.py"
)

// result is what the module returns.
type result struct {
	Changed  bool     `json:"changed"`
	Failed   bool     `json:"failed"`
	Msg      string   `json:"msg"`
	Code     string   `json:"code"`
	Hint     string   `json:"hint"`
	Realm    string   `json:"realm"`
	Action   string   `json:"action"`
	Outcome  string   `json:"outcome"`
	Warnings []string `json:"warnings"`
	Saved    string   `json:"saved"`
	Changes  []struct {
		Kind     string  `json:"kind"`
		Property string  `json:"property"`
		Before   *string `json:"before"`
		After    *string `json:"after"`
	} `json:"changes"`
	Checks []finding `json:"checks"`
	Diff   struct {
		Before map[string]string `json:"before"`
		After  map[string]string `json:"after"`
	} `json:"diff"`
}

type finding struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Hint   string `json:"hint"`
}

// run starts the module as Ansible does, with its arguments on the standard input.
func run(tb testing.TB, env []string, checking bool, args map[string]any) result {
	tb.Helper()
	given := maps.Clone(args)
	maps.DeleteFunc(given, func(_ string, value any) bool { return value == nil })
	given["_ansible_check_mode"], given["_ansible_diff"] = checking, true
	stdin, err := json.Marshal(map[string]any{"ANSIBLE_MODULE_ARGS": given})
	if err != nil {
		tb.Fatal(err)
	}
	command := exec.CommandContext(tb.Context(), "/usr/bin/python3", module)
	command.Stdin = bytes.NewReader(stdin)
	command.Env = append([]string{"PATH=" + filepath.Dir(installed.binary) + string(os.PathListSeparator) + os.Getenv("PATH"), "LANG=C.UTF-8", "PYTHONPATH=" + installed.collections, "PYTHONDONTWRITEBYTECODE=1"}, env...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	_ = command.Run() // the result says whether it failed
	var r result
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		tb.Fatalf("%v: %s%s", err, stdout.Bytes(), stderr.Bytes())
	}
	for _, key := range []string{"msg", "realm", "action", "outcome", "changes", "checks", "diff", "changed"} {
		if !bytes.Contains(stdout.Bytes(), []byte(`"`+key+`": `)) {
			tb.Errorf("the result lacks %s: %s", key, stdout.Bytes())
		}
	}
	if strings.Contains(r.Msg, "\n") || r.Msg == "" {
		tb.Errorf("the message has several lines, or none: %q", r.Msg)
	}
	for _, c := range r.Checks {
		if r.Failed && c.Status != "fail" {
			tb.Errorf("a failed task shows the check %s, which is %s", c.ID, c.Status)
		}
	}
	foreign := foreignNames.FindString(r.Msg + r.Hint + strings.Join(r.Warnings, ""))
	for _, c := range r.Checks {
		foreign += foreignNames.FindString(c.Hint)
	}
	if foreign != "" {
		tb.Errorf("the module has no %s: %+v", foreign, r)
	}
	return r
}

// foreignNames finds keys and flags of the command line in what the module says.
var foreignNames = func() *regexp.Regexp {
	names := []string{`--(?:replace|no-gate|wait)\b`}
	for _, k := range config.Keys() {
		if strings.Contains(k.Path, ".") {
			names = append(names, `\b`+regexp.QuoteMeta(k.Path)+`\b`)
		}
	}
	return regexp.MustCompile(strings.Join(names, "|"))
}()

// minimal holds the arguments that every task needs. Proxmox is never asked.
func minimal(more map[string]any) map[string]any {
	args := map[string]any{
		"api_host": "pve.example.com", "api_token_id": "u@pve!tk", "api_token_secret": "topsecretvalue",
		"realm": "authelia", "openid_issuer_url": "https://auth.example.com", "openid_client_id": "proxmox",
	}
	maps.Copy(args, more)
	return args
}

// Mistakes are told with the module's names and without any value.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args map[string]any
		says string
	}{
		"host with port":        {map[string]any{"api_host": "pve.example.com:8006"}, "api_host: must be a host name or an address alone"},
		"host with scheme":      {map[string]any{"api_host": "https://pve.example.com"}, "api_host: must be a host name or an address alone"},
		"host with user":        {map[string]any{"api_host": "a@pve.example.com"}, "api_host: "},
		"port":                  {map[string]any{"api_port": 0}, "api_host: "},
		"timeout":               {map[string]any{"api_timeout": 0}, "api_timeout: must be a duration"},
		"whole token":           {map[string]any{"api_token_secret": "u@pve!tk=topsecretvalue"}, "api_token_secret: must be the secret alone"},
		"short id, no user":     {map[string]any{"api_token_id": "t2"}, "api_user: is required, unless"},
		"another user":          {map[string]any{"api_user": "v@pve"}, "api_token_id: belongs to another user"},
		"user without a realm":  {map[string]any{"api_token_id": nil, "api_token_secret": nil, "api_user": "root", "api_password": "topsecretvalue"}, "api_user: must be"},
		"fingerprint":           {map[string]any{"fingerprints": []string{"AB"}}, "fingerprints: must be a SHA-256 fingerprint"},
		"CA that is not there":  {map[string]any{"ca_path": "/nowhere/ca.pem"}, "ca_path: "},
		"realm name":            {map[string]any{"realm": "1"}, "realm: must be 2 to 32 characters"},
		"realm name, absent":    {map[string]any{"realm": "-1", "state": "absent"}, "realm: must be 2 to 32 characters"},
		"empty realm":           {map[string]any{"realm": ""}, "realm: must not be empty"},
		"empty":                 {map[string]any{"openid_prompt": ""}, "openid_prompt: must not be empty"},
		"empty list":            {map[string]any{"openid_scopes": []string{}}, "openid_scopes: must not be empty"},
		"empty issuer":          {map[string]any{"openid_issuer_url": ""}, "openid_issuer_url: must not be empty"},
		"a space in a word":     {map[string]any{"openid_prompt": "a b"}, "openid_prompt: must not contain white space"},
		"a line feed":           {map[string]any{"comment": "a\nb"}, "comment: must not contain control characters"},
		"a control character":   {map[string]any{"comment": "a\u0085\u2028\x7fb"}, "comment: must not contain"},
		"set and unset":         {map[string]any{"comment": "x", "unset": []string{"comment"}}, "unset: "},
		"unset what is needed":  {map[string]any{"unset": []string{"openid_issuer_url"}}, "unset: must not name issuer-url"},
		"unset what is none":    {map[string]any{"unset": []string{"promt"}}, "unset: "},
		"access, a key":         {map[string]any{"access": map[string]any{"admins": []any{map[string]any{"path": "/", "rol": "PVEAdmin"}}}}, "rol is not a key"},
		"access, a path":        {map[string]any{"access": map[string]any{"admins": []any{map[string]any{"path": "/nonsense", "role": "PVEAdmin"}}}}, "access.admins[0]: must be a path"},
		"access, a group":       {map[string]any{"access": map[string]any{"bad name": []any{}}}, `access."bad name": must consist of letters`},
		"access, no list":       {map[string]any{"access": map[string]any{"admins": "PVEAdmin"}}, "access.admins: must be a list of grants"},
		"redirect with a slash": {map[string]any{"redirect_urls": []string{"https://pve.example.com/"}}, "redirect_urls: must be only scheme, host and port"},
		"unknown check":         {map[string]any{"verify_ignore": []string{"issuer.nothing"}}, "verify_ignore: "},
		"wait":                  {map[string]any{"wait": "soon"}, "wait: must be a duration"},
		"two mistakes":          {map[string]any{"comment": " x", "openid_prompt": " y"}, "openid_prompt: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(t, nil, true, minimal(tt.args))
			if !r.Failed || r.Changed || r.Code != "config" || !strings.Contains(r.Msg, tt.says) || r.Hint == "" {
				t.Errorf("%+v", r)
			}
			if strings.Contains(r.Msg+r.Hint+r.Realm, "topsecretvalue") {
				t.Errorf("a value is quoted: %s", r.Msg)
			}
		})
	}
}

// What removes a property is said where an empty value was given.
func TestEmptyValueHint(t *testing.T) {
	if r := run(t, nil, true, minimal(map[string]any{"openid_prompt": ""})); !strings.Contains(r.Hint, "add openid_prompt to unset") {
		t.Errorf("%+v", r)
	}
}

// The documentation names every argument, and what holds a secret is marked so.
func TestArguments(t *testing.T) {
	source, err := os.ReadFile(module)
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{"api_password", "api_otp", "api_token_secret", "openid_client_key"}
	rows := regexp.MustCompile(`(?m)^        (\w+)=dict\(type='(\w+)'(.*)\),$`).FindAllStringSubmatch(string(source), -1)
	if len(rows) < 30 {
		t.Fatalf("%d arguments", len(rows))
	}
	for _, row := range rows {
		if secret := slices.Contains(secrets, row[1]); secret != strings.Contains(row[3], "no_log=True") {
			t.Errorf("%s: no_log", row[1])
		}
		if documented := regexp.MustCompile(`(?m)^  ` + row[1] + `:\n    description:`); !documented.Match(source) {
			t.Errorf("%s is not documented", row[1])
		}
	}
}

// Every property of a realm has an argument, and each key that the module sets is one of the configuration.
func TestKeys(t *testing.T) {
	source, err := os.ReadFile(wording)
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^    '?[\w.]+'?[=:] ?'?(?:'?)((?:proxmox|realm|verify|policy)\.\w+)',$`).FindAllStringSubmatch(string(source), -1) {
		set[row[1]] = true
	}
	known := map[string]bool{}
	for _, k := range config.Keys() {
		known[k.Path] = true
		if strings.HasPrefix(k.Path, "realm.") && !strings.HasSuffix(k.Path, "_file") && !strings.HasSuffix(k.Path, "_command") && !set[k.Path] {
			t.Errorf("no argument sets %s", k.Path)
		}
	}
	for key := range set {
		if !known[key] {
			t.Errorf("the configuration has no key %s", key)
		}
	}
}
