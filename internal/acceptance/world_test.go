//go:build acceptance

// Package acceptance holds the built program against a Proxmox API and an issuer: whichever LAB_* variables name. It
// looks from outside alone: commands and their exit codes, the JSON report, and the API itself.
//
// Each test has realms of its own, named acc-…, and removes them. The flag of the default realm is put back.
package acceptance

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// env returns a variable that the suite cannot do without.
func env(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: run `make acceptance`, or set the LAB_* variables of the API to test against", name)
	}
	return value
}

// object is a JSON object.
type object = map[string]any

// world is one test's view: a realm of its own, a folder, and the API to look at and meddle with.
type world struct {
	*testing.T
	realm string
	dir   string
}

func begin(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, realm: name(), dir: t.TempDir()}
	w.Cleanup(func() { w.forget(w.realm) })
	return w
}

// name is a fresh realm name.
func name() string {
	raw := make([]byte, 4)
	_, _ = rand.Read(raw) // never fails
	return "acc-" + hex.EncodeToString(raw)
}

// forget removes a realm, if it is there.
func (w *world) forget(realm string) {
	if _, exists := w.stored(realm); exists {
		w.must(w.api(http.MethodDelete, "/access/domains/"+realm, nil))
	}
}

// answer is what the API said.
type answer struct {
	status int
	reason string
	data   json.RawMessage
}

var client = func() func(t *testing.T) *http.Client {
	var made *http.Client
	return func(t *testing.T) *http.Client {
		if made != nil {
			return made
		}
		pool := x509.NewCertPool()
		pem, err := os.ReadFile(env(t, "LAB_CA_FILE"))
		if err != nil || !pool.AppendCertsFromPEM(pem) {
			t.Fatalf("LAB_CA_FILE: no certificate: %v", err)
		}
		made = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool}, IdleConnTimeout: 4 * time.Second, // Proxmox closes idle connections after 5
		}}
		return made
	}
}()

// api asks the API directly, as root: this is the rest of the world.
func (w *world) api(method, path string, params object) answer {
	w.Helper()
	var body io.Reader
	if params != nil {
		encoded, err := json.Marshal(params)
		if err != nil {
			w.Fatal(err)
		}
		body = bytes.NewReader(encoded)
	}
	request, err := http.NewRequest(method, env(w.T, "LAB_ENDPOINT")+"/api2/json"+path, body)
	if err != nil {
		w.Fatal(err)
	}
	request.Header.Set("Authorization", "PVEAPIToken="+env(w.T, "LAB_TOKEN_ROOT"))
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := client(w.T).Do(request)
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var decoded struct {
		Data    json.RawMessage
		Message string // what the reason phrase says, which a reverse proxy may have replaced
	}
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		w.Fatal(err)
	}
	if len(raw) > 0 {
		_ = json.Unmarshal(raw, &decoded) // some errors are plain text
	}
	return answer{response.StatusCode, strings.TrimSpace(response.Status + " " + decoded.Message), decoded.Data}
}

func (w *world) must(a answer) answer {
	w.Helper()
	if a.status != http.StatusOK {
		w.Fatalf("the API answers %s", a.reason)
	}
	return a
}

// stored reads a realm from the API.
func (w *world) stored(realm string) (object, bool) {
	w.Helper()
	a := w.api(http.MethodGet, "/access/domains/"+realm, nil)
	if a.status != http.StatusOK {
		if !strings.Contains(a.reason, "does not exist") {
			w.Fatalf("reading realm %s: %s", realm, a.reason)
		}
		return nil, false
	}
	var data object
	if err := json.Unmarshal(a.data, &data); err != nil {
		w.Fatal(err)
	}
	return data, true
}

// create makes a realm through the API, as somebody else would.
func (w *world) create(realm string, params object) {
	w.Helper()
	all := object{"realm": realm, "type": "openid", "issuer-url": env(w.T, "LAB_ISSUER"), "client-id": env(w.T, "LAB_CLIENT_ID")}
	maps.Copy(all, params)
	w.must(w.api(http.MethodPost, "/access/domains", all))
	w.Cleanup(func() { w.forget(realm) })
}

// change updates a realm through the API.
func (w *world) change(realm string, params object) {
	w.Helper()
	w.must(w.api(http.MethodPut, "/access/domains/"+realm, params))
}

// holds compares what is stored with what should be; nil means absent. Numbers and strings that Proxmox
// treats alike are alike.
func (w *world) holds(realm string, want object) {
	w.Helper()
	have, exists := w.stored(realm)
	if !exists {
		w.Fatalf("realm %s does not exist", realm)
	}
	for property, value := range want {
		got, present := have[property]
		switch {
		case value == nil && present:
			w.Errorf("%s is there, and should not be", property)
		case value != nil && !present:
			w.Errorf("%s is absent", property)
		case value != nil && fmt.Sprint(got) != fmt.Sprint(value):
			if property == "client-key" {
				w.Errorf("client-key is not the expected one")
				continue
			}
			w.Errorf("%s is %v, not %v", property, got, value)
		}
	}
}

// digest is that of the file of all realms.
func (w *world) digest(realm string) string {
	w.Helper()
	have, _ := w.stored(realm)
	digest, _ := have["digest"].(string)
	if digest == "" {
		w.Fatalf("realm %s has no digest", realm)
	}
	return digest
}

// secretFile writes a secret where a configuration can name it.
func (w *world) secretFile(value string) string {
	w.Helper()
	file := filepath.Join(w.dir, name())
	if err := os.WriteFile(file, []byte(value+"\n"), 0o600); err != nil {
		w.Fatal(err)
	}
	return file
}

// setting is a configuration in the making.
type setting struct {
	token  string // the name of the LAB_TOKEN_… variable, or a token itself
	realm  object // keys below realm, over those that every test needs
	bare   bool   // nothing below realm but what is required
	verify object
	more   object
}

// config writes a configuration file. Unless a test says otherwise, no client is asked about: issuers count such questions.
func (w *world) config(s setting) string {
	w.Helper()
	token := s.token
	if token == "" {
		token = "LAB_TOKEN_REALM_ALLOCATE"
	}
	if strings.HasPrefix(token, "LAB_") {
		token = env(w.T, token)
	}
	realm := object{"name": w.realm, "issuer_url": env(w.T, "LAB_ISSUER"), "client_id": env(w.T, "LAB_CLIENT_ID")}
	if !s.bare {
		maps.Copy(realm, object{
			"client_key_file": w.secretFile(env(w.T, "LAB_CLIENT_KEY")), "username_claim": "preferred_username",
			"scopes": []string{"openid", "profile", "email"}, "autocreate": true,
		})
	}
	maps.Copy(realm, s.realm)
	verify := object{"client": false, "proxmox": false, "redirect_urls": []string{env(w.T, "LAB_REDIRECT_URL")}}
	if ca := os.Getenv("LAB_ISSUER_CA_FILE"); ca != "" {
		verify["issuer_ca_file"] = ca
	}
	maps.Copy(verify, s.verify)
	config := object{
		"proxmox": object{
			"endpoints": []string{env(w.T, "LAB_ENDPOINT")}, "token_file": w.secretFile(token), "ca_file": env(w.T, "LAB_CA_FILE"),
		},
		"realm": realm, "verify": verify, "state_dir": filepath.Join(w.dir, "state"),
	}
	maps.Copy(config, s.more)
	encoded, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		w.Fatal(err)
	}
	file := filepath.Join(w.dir, name()+".json")
	if err := os.WriteFile(file, encoded, 0o600); err != nil {
		w.Fatal(err)
	}
	return file
}

// outcome is what a command left.
type outcome struct {
	code           int
	stdout, stderr string
	report         report
}

// report is the JSON report, as scripts read it.
type report struct {
	Version int
	Command string
	Outcome string
	Error   *problem
	Targets []struct {
		Name, Endpoint, Realm, Outcome, Action string
		Changes                                []change
		Warnings                               []string
		Checks                                 []struct{ ID, Status, Summary, Evidence, Hint string }
		Error                                  *problem
	}
}

type problem struct{ Code, Message, Hint string }

type change struct {
	Kind, Property, Op string
	Group, Path, Role  string
	Before, After      *string
}

func (o outcome) changed() []string {
	var names []string
	for _, t := range o.report.Targets {
		for _, c := range t.Changes {
			names = append(names, c.Property)
		}
	}
	return names
}

// run runs the program with a configuration and JSON output, and expects the exit code.
func (w *world) run(code int, config string, args ...string) outcome {
	w.Helper()
	o := w.plainly(code, append([]string{"-c", config, "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(o.stdout), &o.report); err != nil {
		w.Fatalf("%v: the report is not one JSON object: %v\n%s", args, err, o.stdout)
	}
	return o
}

// plainly runs the program as it is called.
func (w *world) plainly(code int, args ...string) outcome {
	w.Helper()
	o := launch(w.T, args...)
	if o.code != code {
		w.Fatalf("proxmox-realm %s: exit code %d, expected %d\n%s%s", strings.Join(args, " "), o.code, code, o.stdout, o.stderr)
	}
	w.keepsSecrets(o)
	return o
}

func launch(t *testing.T, args ...string) outcome {
	t.Helper()
	cmd := exec.Command(program(t), args...)
	cmd.Env = append(os.Environ(), "PROXMOX_REALM_CONFIG=")
	for i, v := range cmd.Env {
		if strings.HasPrefix(v, "PROXMOX_") {
			cmd.Env[i] = "UNUSED=1"
		}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}

func program(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("proxmox-realm"); err == nil {
		return path
	}
	path, err := filepath.Abs("../../bin/proxmox-realm")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// keepsSecrets looks for every secret that a run may hold in what it printed. The user's password is none: nobody tells it
// to the program, and it may be a word that is printed for other reasons.
func (w *world) keepsSecrets(o outcome) {
	w.Helper()
	for _, v := range []string{"LAB_CLIENT_KEY", "LAB_TOKEN_ROOT", "LAB_TOKEN_REALM_ALLOCATE", "LAB_TOKEN_SYS_AUDIT", "LAB_TOKEN_NO_PRIVILEGE", "LAB_TOKEN_PRIVSEP_WITHOUT_ACL"} {
		value := os.Getenv(v)
		if _, after, ok := strings.Cut(value, "="); ok {
			value = after // of a token, the part that is secret
		}
		if value != "" && strings.Contains(o.stdout+o.stderr, value) {
			w.Errorf("what the program printed holds %s", v)
		}
	}
}
