package config

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Every file of testdata/mistakes holds one kind of mistake; the golden file beside it, the exact words.
func TestMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/mistakes/*.yaml")
	if err != nil || len(files) < 100 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		golden, err := filepath.Abs(strings.TrimSuffix(file, ".yaml") + ".golden")
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			folder := t.TempDir()
			t.Chdir(folder)
			write(t, "config.yaml", string(data))
			setenv(t)
			_, err := Load(context.Background(), Options{File: "config.yaml", Secrets: true})
			var problems Problems
			if check.CodeOf(err) != check.Config || !errors.As(err, &problems) {
				t.Fatalf("Load: %v, want problems", err)
			}
			got := problems.Error() + "\n"
			if hint := check.HintOf(err).For(check.Names{}); hint != "" {
				got += "hint: " + hint + "\n"
			}
			got = strings.ReplaceAll(got, folder, "FOLDER")
			if strings.Contains(got+err.Error(), "hunter") {
				t.Errorf("quotes a value: %s", got)
			}
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("says\n%swant\n%s", got, want)
			}
		})
	}
}

// write writes a file that only its owner can read and write.
func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// All mistakes are said at once, each as a line of the message. Each hint is said once.
func TestAllMistakesAtOnce(t *testing.T) {
	setenv(t, "PROXMOX_REALM_TOKEN=realm@pve!agent=x")
	_, err := load(t, "proxmox: {endpoints: [pve1]}\nrealm: {isuer_url: https://auth.example.com, client_id: proxmox, comment: '', prompt: ''}\n"+
		"access: {admins: [{path: /, role: ''}]}\nunknown: 1\nnothing: 2\n", Options{}, "realm.name=1")
	want := `config.yaml:2: realm.isuer_url: is not a key; did you mean realm.issuer_url?
config.yaml:2: realm.comment: must not be empty
config.yaml:2: realm.prompt: must not be empty
config.yaml:3: access.admins[0]: must name a role, such as PVEAuditor
config.yaml:4: unknown: is not a key
config.yaml:5: nothing: is not a key
config.yaml: proxmox.token_file: is required (or proxmox.token, proxmox.token_command, or proxmox.username)
config.yaml: realm.issuer_url: is required
PROXMOX_REALM_TOKEN: is not a variable of this program; did you mean PROXMOX_REALM_PROXMOX_TOKEN?
--realm: must be 2 to 32 characters, a letter first, then letters, digits, '.', '_' or '-'`
	if got := problemsOf(t, err); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if !strings.HasPrefix(check.MessageOf(err), "10 mistakes in the configuration\n") {
		t.Errorf("%+v", err)
	}
	hint := `add comment to realm.unset (it removes the property)
add prompt to realm.unset (it removes the property)
it lists the keys:
    proxmox-realm help config
print the lines that make a token:
    proxmox-realm bootstrap
set realm.issuer_url to the issuer's own name, such as https://auth.example.com
it lists the variables:
    proxmox-realm help environment`
	if got := check.HintOf(err).For(check.Names{}); got != hint {
		t.Errorf("%s\nwant %s", got, hint)
	}
	var e *check.Error
	if !errors.As(err, &e) || e.Key != "realm.isuer_url" {
		t.Errorf("%+v", e)
	}
}

// A client key that could turn up in any text by chance is not hidden there, so it is a risk.
func TestAShortClientKey(t *testing.T) {
	for key, warns := range map[string]bool{"admins": true, "fifteen-letters": true, "sixteen-letters-": false} {
		for _, text := range []string{"client_key: " + key, "client_key_file: " + write(t, filepath.Join(t.TempDir(), "key"), key), "client_key_command: [echo, " + key + "]"} {
			c := mustLoad(t, cluster+issuer[:len(issuer)-2]+", "+text+"}\n", Options{Secrets: true})
			name, _, _ := strings.Cut(text, ":")
			want := "realm." + name + ": is shorter than 16 characters: texts that contain it by chance cannot be told from the key"
			if (len(c.Warnings) > 0) != warns || warns && c.Warnings[0] != want {
				t.Errorf("%s: %q", text, c.Warnings)
			}
		}
	}
}

func TestEnvironmentAndFlagMistakes(t *testing.T) {
	for _, tt := range []struct{ env, flag, want string }{
		{"PROXMOX_REALM_REALM_ISUER_URL=hunter2", "", "PROXMOX_REALM_REALM_ISUER_URL: is not a variable of this program; did you mean PROXMOX_REALM_REALM_ISSUER_URL?"},
		{"PROXMOX_REALM_ISSUER_URL=hunter2", "", "PROXMOX_REALM_ISSUER_URL: is not a variable of this program; did you mean PROXMOX_REALM_REALM_ISSUER_URL?"},
		{"PROXMOX_REALM_TOKEN=hunter2", "", "PROXMOX_REALM_TOKEN: is not a variable of this program; did you mean PROXMOX_REALM_PROXMOX_TOKEN?"},
		{"PROXMOX_REALM_hunter2@pve!x=hunter2", "", "?: is not a variable of this program"},
		{"PROXMOX_REALM_PROXMOX_TOKEN_COMMAND=hunter2", "", "PROXMOX_REALM_PROXMOX_TOKEN_COMMAND: is not a variable of this program"},
		{"PROXMOX_REALM_REALM_AUTOCREATE=hunter2", "", "PROXMOX_REALM_REALM_AUTOCREATE: must be true or false"},
		{"PROXMOX_REALM_REALM_AUTOCREATE=", "", "PROXMOX_REALM_REALM_AUTOCREATE: must not be empty"},
		{"PROXMOX_REALM_CONCURRENCY=", "", "PROXMOX_REALM_CONCURRENCY: must not be empty: leave it out instead"},
		{"PROXMOX_REALM_CONCURRENCY=hunter2", "", "PROXMOX_REALM_CONCURRENCY: must be a whole number from 1 to 1000"},
		{"PROXMOX_REALM_REALM_SCOPES=openid,,hunter2", "", "PROXMOX_REALM_REALM_SCOPES: must not be empty"},
		{"PROXMOX_REALM_CONFIG=", "", "PROXMOX_REALM_CONFIG: must not be empty: unset it instead"},
		{"PROXMOX_REALM_BINARY=/usr/bin/proxmox-realm", "", ""},
		{"PROXMOX_TOKEN=hunter2", "", ""},
		{"PROXMOX_VE_API_TOKEN=hunter2", "", ""},
		{"", "proxmox.timeout=hunter2", "--proxmox.timeout: must be a duration with its unit, such as 45s or 1h30m"},
		{"", "realm.scopes=", "--scopes: must not be empty"},
		{"", "realm.name=", "--realm: must not be empty: leave it out instead"},
		{"", "proxmox.token_file=$UNSET_FOLDER/token", "--token-file: the variable $UNSET_FOLDER is not set"},
		{
			"", "proxmox.token_file=$CREDENTIALS_DIRECTORY/token",
			"--token-file: the variable $CREDENTIALS_DIRECTORY is not set: systemd sets it for services, elsewhere set it to the directory of these files",
		},
	} {
		var flags []string
		if tt.flag != "" {
			flags = []string{tt.flag}
		}
		setenv(t, tt.env)
		_, err := load(t, cluster+issuer, Options{}, flags...)
		if got := problemsOf(t, err); got != tt.want {
			t.Errorf("%s %s:\n%q, want\n%q", tt.env, tt.flag, got, tt.want)
		}
	}
}
