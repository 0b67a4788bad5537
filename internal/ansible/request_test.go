package ansible

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// FuzzParse holds that no request is taken for another than the one that its JSON says, and that none ends the program.
func FuzzParse(f *testing.F) {
	f.Add(`{"protocol":1,"arguments":{"api_host":"[::1]","fingerprints":["AB"],"api_token_id":"u@pve!t","api_token_secret":"x"}}`)
	f.Add(`{"protocol":1,"check_mode":true,"arguments":{"realm":"a","realm":"b"}}`)
	f.Add(`{"protocol":1,"arguments":{"api_port":-1,"unset":["openid_","=",";"],"verify":"false","gate":false}} `)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parse([]byte(text))
		if err != nil {
			return
		}
		for name := range r.arguments {
			if _, known := table()[name]; !known {
				t.Errorf("%q was taken", name)
			}
		}
		settings, _ := r.arguments.settings()
		for _, s := range settings {
			if strings.HasSuffix(s.Key, "_command") || strings.HasPrefix(s.Key, "notify.") {
				t.Errorf("%s can be set", s.Key)
			}
		}
	})
}

// The module's own argument specification has the arguments that are taken here, of the same types; and what holds a
// secret is marked so.
func TestTheModuleHasTheseArguments(t *testing.T) {
	source, err := os.ReadFile("../../deploy/ansible/plugins/modules/proxmox_openid_realm.py")
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]kind{"str": text, "path": text, "bool": truth, "int": number, "list": list}
	found := map[string]kind{}
	for _, row := range regexp.MustCompile(`(?m)^        (\w+)=dict\(type='(\w+)'(.*)\),$`).FindAllStringSubmatch(string(source), -1) {
		name, kind, known := row[1], types[row[2]], types
		if _, ok := known[row[2]]; !ok {
			t.Errorf("%s: type %s", name, row[2])
		}
		found[name] = kind
		if secret := slices.Contains([]string{"api_password", "api_otp", "api_token_secret", "openid_client_key"}, name); secret != strings.Contains(row[3], "no_log=True") {
			t.Errorf("%s: no_log", name)
		}
	}
	delete(found, "binary_path") // the module's own
	want := map[string]kind{}
	for name, argument := range table() {
		want[name] = argument.kind
	}
	if !maps.Equal(found, want) {
		t.Errorf("the module has %v, taken are %v", found, want)
	}
	if !regexp.MustCompile(`(?m)^PROTOCOL = 1$`).Match(source) || Protocol != 1 {
		t.Error("the module speaks another version of the protocol")
	}
}

// What hints say of flags and keys, the module says of its arguments.
func TestWords(t *testing.T) {
	for from, want := range map[string]string{
		"set realm.issuer_url to https://a; --no-gate writes all the same":             "set openid_issuer_url to https://a; gate: false writes all the same",
		"choose another realm.name":                                                    "choose another realm",
		"remove realm.audiences from the configuration, or upgrade to Proxmox VE":      "remove openid_audiences from the task, or upgrade to Proxmox VE",
		"set up a second realm, or, where the rebinding is meant, run apply --replace": "set up a second realm, or, where the rebinding is meant, set replace: true",
		"run again later, or let --wait-lock 60s wait for it":                          "run again later",
		"--insecure: nothing checks":                                                   "validate_certs: nothing checks",
		"give --fingerprint or proxmox.ca_file":                                        "give fingerprints or ca_path",
	} {
		if got := inArguments(from); got != want {
			t.Errorf("%q, expected %q", got, want)
		}
	}
}
