//go:build ansible

package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// python calls a function of the wording with a text, and returns what it returns.
func python(t *testing.T, function, text string) string {
	t.Helper()
	script := "import sys; from ansible_collections.proxmox_realm.sso.plugins.module_utils import wording; " +
		"sys.stdout.write(wording." + function + "(sys.stdin.read()))"
	command := exec.CommandContext(t.Context(), "/usr/bin/python3", "-B", "-c", script)
	command.Stdin = strings.NewReader(text)
	command.Env = []string{"PYTHONPATH=" + installed.collections, "LANG=C.UTF-8"}
	var stderr strings.Builder
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	return string(out)
}

// Hints name the module's arguments. What a user of the module cannot do is left out.
func TestHintsNameArguments(t *testing.T) {
	t.Parallel()
	for report, want := range map[string]string{
		"":                                       "",
		"set {realm.scopes} to [openid, groups]": "set openid_scopes to [openid, groups]",
		"set {realm.client_key_file}\nset {verify.issuer_ca_file} (the authority)": "set openid_client_key\nset issuer_ca_path (the authority)",
		"add prompt to {realm.unset} (it removes it)":                              "add openid_prompt to unset (it removes it)",
		"add acr-values to {realm.unset}":                                          "add openid_acr_values to unset",
		"remove {access} from the configuration (to manage the realm)":             "leave out access (to manage the realm)",
		"set {proxmox.insecure} to false":                                          "set validate_certs to true",
		"run:\n    {apply --no-gate}":                                              "set gate to false",
		"to write it anyway:\n    {apply --no-gate}":                               "to write it anyway: set gate to false",
		"restart the issuer, then run {apply --wait 10m}":                          "restart the issuer, then set wait to 10m",
		"run:\n    {apply}\nrun:\n    {apply -t main}":                             "run the task",
		"it restores the realm:\n    {restore authelia}":                           "it restores the realm: set recover to true",

		"run:\n    {plan}":              "run the task in check mode",
		"run:\n    {config show}\nwait": "wait",

		"set {verify.client} to true\nset {targets}\nset {concurrency}":        "",
		"run:\n    {authelia --check FILE}":                                    "",
		"see what the checks mean:\n    {help checks}":                         "see what the checks mean:\n    proxmox-realm help checks",
		"run:\n    {probe https://auth.example.com}":                           "run:\n    proxmox-realm probe https://auth.example.com",
		"run:\n    {help config}":                                              "read ansible-doc proxmox_realm.sso.proxmox_openid_realm",
		"run on a node:\n    pveum a \\{b\\}\n    pveum c":                     "run on a node:\n    pveum a {b}\n    pveum c",
		"the group \\{realm.scopes\\} is none":                                 "the group {realm.scopes} is none",
		"set {realm.name} (a second realm)\nset {realm.username_claim} to sub": "set realm (a second realm)\nset openid_username_claim to sub",
		"set {state_dir} to a folder that only this user can write":            "set the environment variable STATE_DIRECTORY to a folder that only this user can write",
		"set {proxmox.token_file}\nset {proxmox.token_file}":                   "set api_token_id and api_token_secret",
		"set {proxmox.product} to pbs\nset {proxmox.endpoints}":                "set product to pbs\nset api_host",
	} {
		if got := python(t, "hint", report); got != want {
			t.Errorf("%q is worded %q, want %q", report, got, want)
		}
	}
}

// Messages name arguments too, but a host name that looks like a key stays as it is.
func TestMessagesNameArguments(t *testing.T) {
	t.Parallel()
	const report = "realm.client_id: required; issuer is https://realm.name.example.com and realm.issuer_url is https://x; proxmox.nothing"
	const want = "openid_client_id: required; issuer is https://realm.name.example.com and openid_issuer_url is https://x; proxmox.nothing"
	if got := python(t, "named", report); got != want {
		t.Errorf("%q", got)
	}
}

// fake is a program that prints a report. It keeps its arguments and its standard input beside itself.
func fake(t *testing.T, keys string) (path string, arguments, configuration func() string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "fake")
	report := `{"version": 1, "error": null, "targets": [{"name": "default", "endpoint": "https://pve.example.com:8006", "realm": "authelia", ` +
		`"action": "none", "outcome": "unchanged", "changes": [], "checks": [], "warnings": [], "error": null, "saved": null, "wrote": false}]` + keys + `}`
	script := fmt.Sprintf("#!/bin/sh\ncat >%[1]s.in\necho \"$*\" >%[1]s.args\ncat <<'END'\n%[2]s\nEND\n", path, report)
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	read := func(suffix string) func() string {
		return func() string {
			text, err := os.ReadFile(path + suffix)
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
	}
	return path, read(".args"), read(".in")
}

// Another release of the program is a warning. A report of another version is refused: TestRefusals.
func TestOtherRelease(t *testing.T) {
	t.Parallel()
	for program, warns := range map[string]bool{
		"": false, "1.0.0": false, "1.0.0-rc1": false, "unreleased": false, "v0.0.0-20261201050000-0123456789ab": false, "0.0.1~1796122131": false,
		"1.0.1": true, "2.0.0": true, "v1.1.0": true,
	} {
		path, _, _ := fake(t, `, "program": "`+program+`", "host": "admin1", "time": "2026-12-01T05:00:00Z", "later": {}`)
		r := run(t, nil, false, minimal(map[string]any{"binary_path": path}))
		if warned := strings.Contains(strings.Join(r.Warnings, ""), "same release"); r.Failed || warned != warns {
			t.Errorf("%s: %+v", program, r)
		}
	}
	path, _, _ := fake(t, "")
	if r := run(t, nil, false, minimal(map[string]any{"binary_path": path})); r.Failed || len(r.Warnings) > 0 {
		t.Errorf("a report without the program's release: %+v", r)
	}
}

// The collection and the module say the same release.
func TestReleaseOfTheCollection(t *testing.T) {
	t.Parallel()
	find := func(path, pattern string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(pattern).FindSubmatch(text)
		if found == nil {
			t.Fatalf("%s has no release", path)
		}
		return string(found[1])
	}
	if galaxy, own := find("../galaxy.yml", `(?m)^version: (\S+)$`), find(module, `(?m)^RELEASE = '(.*)'$`); galaxy != own {
		t.Errorf("the collection is %s, the module says %s", galaxy, own)
	}
}

// What a task asks for reaches the program as flags and configuration.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		checking bool
		more     map[string]any
		args     string
		endpoint string
		product  any
	}{
		"plain":         {false, nil, "apply --wait-lock 1m", "https://pve.example.com:8006", nil},
		"check mode":    {true, map[string]any{"wait": "10m"}, "plan", "https://pve.example.com:8006", nil},
		"wait":          {false, map[string]any{"wait": "1h30m", "replace": true}, "apply --wait-lock 1m --replace --wait 1h30m", "https://pve.example.com:8006", nil},
		"seconds":       {false, map[string]any{"wait": 600}, "apply --wait-lock 1m --wait 600s", "https://pve.example.com:8006", nil},
		"Backup Server": {false, map[string]any{"product": "pbs"}, "apply --wait-lock 1m", "https://pve.example.com:8007", "pbs"},
		"its manager":   {false, map[string]any{"product": "pdm", "state": "absent"}, "delete --yes --wait-lock 1m -- authelia", "https://pve.example.com:8443", "pdm"},
		"another port":  {false, map[string]any{"product": "pbs", "api_port": 443}, "apply --wait-lock 1m", "https://pve.example.com:443", "pbs"},
	} {
		path, arguments, configuration := fake(t, "")
		more := map[string]any{"binary_path": path}
		for key, value := range tt.more {
			more[key] = value
		}
		if r := run(t, nil, tt.checking, minimal(more)); r.Failed {
			t.Fatalf("%s: %+v", name, r)
		}
		var config struct{ Proxmox map[string]any }
		if err := json.Unmarshal([]byte(configuration()), &config); err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(arguments()); got != "--config - --output json "+tt.args {
			t.Errorf("%s: %s", name, got)
		}
		if got := fmt.Sprint(config.Proxmox["endpoints"]); got != "["+tt.endpoint+"]" || config.Proxmox["product"] != tt.product {
			t.Errorf("%s: %v", name, config.Proxmox)
		}
	}
}

// In check mode a task that waits does not fail where it would be held: it would wait until the issuer accepts the key.
func TestWaitInCheckMode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.Seed("converged"); err != nil {
		t.Fatal(err)
	}
	args := map[string]any{"openid_client_key": "not-yet-the-key-of-the-client"}
	if r := w.task(true, args); r.Code != "held" {
		t.Errorf("without wait: %+v", r)
	}
	args["wait"] = "10m"
	r := w.task(true, args)
	if r.Failed || !r.Changed || r.Outcome != "drift" || !strings.Contains(strings.Join(r.Warnings, ""), "client.credentials: ") {
		t.Errorf("with wait: %+v", r)
	}
}
