package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/cli"
	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/lab/fault"
	"proxmox-realm/internal/lab/issuer"
	"proxmox-realm/internal/lab/pbs"
	"proxmox-realm/internal/lab/pve"
)

// bench is a lab with a cluster of two nodes, or with the host of another product, for one attempt at a time.
type bench struct {
	*lab.Lab
	proxy *fault.Node
	other *fault.Node // a second node, without faults; nil if there is none
	state string
	// recovery is a saved realm for the seed "claim". It has placeholders for the values that differ between labs.
	recovery string
}

// newBench starts a lab with a product, which is Proxmox VE if it is nil.
func newBench(t *testing.T, keys []issuer.Key, product *pbs.Product) *bench {
	t.Helper()
	o := lab.Options{Issuer: issuer.Options{Keys: keys}, PVE: pve.Options{LockTimeout: 50 * time.Millisecond, Nodes: make([]pve.Node, 2)}}
	if product != nil {
		o.PBS = &pbs.Options{Product: product, LockTimeout: 50 * time.Millisecond}
	}
	l, err := lab.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	b := &bench{Lab: l, state: filepath.Join(l.Dir, "agent")}
	if product == nil {
		urls := l.PVE.URLs()
		b.proxy, b.other = fault.At(l.PVE, urls[0]), fault.At(l.PVE, urls[1])
	} else {
		b.proxy = fault.At(l.PBS, l.PBS.URL())
	}
	t.Cleanup(b.proxy.Calm)
	return b
}

// placeholders lists the values that differ between labs, each with the placeholder that replaces it in a saved realm.
func (b *bench) placeholders() []string {
	return []string{b.proxy.URL(), "{{endpoint}}", b.IssuerURL, "{{issuer}}", b.ClientKey, "{{key}}"}
}

// cutShort returns the recovery file of a replace whose Proxmox fails after the DELETE.
func (b *bench) cutShort(t *testing.T) string {
	t.Helper()
	if err := b.prepare(operation{seed: "claim"}); err != nil {
		t.Fatal(err)
	}
	faults := fault.Faults()
	gone := faults[slices.IndexFunc(faults, func(f fault.Fault) bool { return f.Answers == http.StatusServiceUnavailable })]
	b.proxy.Begin(fault.Rule{Fault: gone, Method: http.MethodPost, Path: b.collection(), Lasting: true})
	code, output := b.run([]string{"apply", "--replace"})
	files := b.saved()
	if len(files) != 1 {
		t.Fatalf("exit code %d, and saved realms %v:\n%s", code, files, output)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(b.placeholders()...).Replace(aged(string(text)))
}

var savedAt = regexp.MustCompile(`"saved_at": "[^"]+"`)

// aged makes a saved realm an hour old. restore then does not wait for a late DELETE.
func aged(file string) string {
	return savedAt.ReplaceAllString(file, `"saved_at": "`+time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)+`"`)
}

// recoveryName is the name of a saved realm of a replace. Any name that begins with saved- will do.
const recoveryName = "saved-" + lab.RealmName + "@0-replace.json"

// prepare sets up the situation of an operation.
func (b *bench) prepare(o operation) error {
	if err := errors.Join(b.Seed(o.seed), b.configure(o, patient)); err != nil {
		return err
	}
	if err := errors.Join(b.prepareVE(), b.prepareKeys(o)); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(b.state), os.Mkdir(b.state, 0o700)); err != nil || !o.saved {
		return err
	}
	values := b.placeholders()
	slices.Reverse(values)
	content := strings.NewReplacer(values...).Replace(b.recovery)
	return os.WriteFile(filepath.Join(b.state, recoveryName), []byte(content), 0o600)
}

// newKeyFile is the file of the new key in a lab's folder.
const newKeyFile = "key-of-the-issuer"

// prepareKeys gives the client its key, and removes what a rotation left.
func (b *bench) prepareKeys(o operation) error {
	client, _ := b.Issuer.Client(b.ClientID)
	if client.Secret = b.ClientKey; o.rotates {
		client.Secret = newKey
	}
	b.Issuer.SetClient(client)
	for _, suffix := range []string{".new", ".former"} {
		_ = os.Remove(filepath.Join(b.Dir, "client-key"+suffix))
	}
	return errors.Join(
		os.WriteFile(filepath.Join(b.Dir, "client-key"), []byte(b.ClientKey), 0o600),
		os.WriteFile(filepath.Join(b.Dir, newKeyFile), []byte(newKey), 0o600))
}

// keys returns the keys in the key file and beside it.
func (b *bench) keys() (all []string) {
	for _, suffix := range []string{"", ".new", ".former"} {
		if key, err := os.ReadFile(filepath.Join(b.Dir, "client-key"+suffix)); err == nil {
			all = append(all, string(key))
		}
	}
	return all
}

// prepareVE sets up what the other products lack.
func (b *bench) prepareVE() error {
	if b.PVE == nil {
		return nil
	}
	b.other.Calm()
	// Each authorization URL leaves a pending login, and Proxmox refuses new ones above a hundred.
	return b.PVE.Update(func(state *pve.State) {
		state.Pending, state.Groups = nil, map[string]pve.Group{"others-authelia": {}, "dev-authelia": {}}
		state.ACL = slices.DeleteFunc(slices.Clone(state.ACL), func(e pve.ACL) bool { return e.Type == "group" })
		for _, group := range []string{"others-authelia", "dev-authelia"} {
			state.ACL = append(state.ACL, pve.ACL{Path: "/vms", Type: "group", ID: group, Role: "PVEAuditor", Propagate: true})
		}
	})
}

// collection is the path of the realms.
func (b *bench) collection() string {
	if b.PVE == nil {
		return "/config/access/openid"
	}
	return "/access/domains"
}

// realm returns the properties of the realm as Proxmox VE would hold them; nil if there is none.
func (b *bench) realm() map[string]string {
	if b.PVE != nil {
		if r, exists := b.PVE.Realm(lab.RealmName); exists {
			return r.Properties
		}
		return nil
	}
	for _, r := range b.PBS.State().Realms {
		if r.Name != lab.RealmName {
			continue
		}
		if r.Properties["autocreate"] == "true" {
			r.Properties["autocreate"] = "1"
		}
		return r.Properties
	}
	return nil
}

// The values of proxmox.timeout. A busy machine must not reach the patient one. Requests that hang get the impatient one.
const (
	patient   = "30s"
	impatient = "1s"
)

// configure writes the lab's configuration with the proxy as the endpoint.
func (b *bench) configure(o operation, timeout string) error {
	text, err := os.ReadFile(b.ConfigFile)
	if err != nil {
		return err
	}
	endpoints := b.proxy.URL()
	if o.nodes == 2 {
		endpoints += ", " + b.other.URL()
	}
	_, rest, found := strings.Cut(string(text), "\nrealm:\n")
	if !found {
		return fmt.Errorf("no realm in %s", b.ConfigFile)
	}
	credentials := "token_file: " + filepath.Join(b.Dir, "token")
	if o.ticket {
		admin := b.PVE.User(pve.UserAdmin)
		credentials = "username: " + admin.Username + "\n  password: " + admin.Password
	}
	if o.access {
		credentials = "token: " + b.PVE.Token(pve.TokenRoot)
		rest += "access:\n  admins: [{path: /, role: PVEAdmin}]\n  dev: [{path: /vms, role: PVEVMUser, propagate: false}]\n"
	}
	product := "pve"
	if b.PVE == nil {
		product = b.PBS.Product().Name
	}
	config := "proxmox:\n  product: " + product + "\n  endpoints: [" + endpoints + "]\n  timeout: " + timeout + "\n  ca_file: " + b.CAFile + "\n  " + credentials + "\nrealm:\n" + rest
	return os.WriteFile(b.config(), []byte(config), 0o600)
}

func (b *bench) config() string { return filepath.Join(b.Dir, "faulty.yaml") }

// run runs the program in this process.
func (b *bench) run(args []string) (code int, output string) {
	var out bytes.Buffer
	args = append(slices.Clone(args), "-c", b.config())
	for i, arg := range args {
		if arg == newKeyFile {
			args[i] = filepath.Join(b.Dir, newKeyFile)
		}
	}
	code = cli.Main(args, strings.NewReader(""), &out, &out)
	return code, out.String()
}

// saved returns the files that hold a copy of a realm.
func (b *bench) saved() []string {
	files, _ := filepath.Glob(filepath.Join(b.state, "saved-*"))
	return files
}

// What groups hold after an operation that changes access.
const (
	neighbourGrant = "/vms others-authelia PVEAuditor true"
	declaredGrants = "/ admins-authelia PVEAdmin true; /vms dev-authelia PVEVMUser false; " + neighbourGrant
)

// grants returns what groups hold, sorted.
func (b *bench) grants() string {
	if b.PVE == nil {
		return neighbourGrant // there are no groups
	}
	var held []string
	for _, e := range b.PVE.State().ACL {
		if e.Type == "group" {
			held = append(held, fmt.Sprintf("%s %s %s %v", e.Path, e.ID, e.Role, e.Propagate))
		}
	}
	slices.Sort(held)
	return strings.Join(held, "; ")
}

// differs describes how the realm differs from the declared one. It returns "" if it does not.
func (b *bench) differs(declared map[string]string) string {
	held := b.realm()
	if b.PVE == nil {
		declared = maps.Clone(declared)
		for _, lacking := range []string{"groups-claim", "groups-autocreate", "query-userinfo"} {
			delete(declared, lacking)
		}
	}
	switch {
	case (held == nil) != (declared == nil):
		return fmt.Sprintf("realm %s exists: %v", lab.RealmName, held != nil)
	case !maps.Equal(held, declared):
		return "the realm is not as declared"
	}
	return ""
}

// secrets lists the values that must not be printed.
func (b *bench) secrets() []string {
	list := []string{b.ClientKey, newKey, b.Password, "the-key-before-the-last-rotation"}
	if b.PVE == nil {
		for _, token := range b.PBS.State().Tokens {
			list = append(list, token.Secret)
		}
		return list
	}
	list = append(list, b.PVE.User(pve.UserAdmin).Password)
	for _, name := range []string{pve.TokenRoot, pve.TokenRealmAllocate} {
		_, secret, _ := strings.Cut(b.PVE.Token(name), "=")
		list = append(list, secret)
	}
	return list
}
