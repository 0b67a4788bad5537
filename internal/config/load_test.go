package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/check"

	"proxmox-realm/internal/realm"
)

const (
	issuer  = "realm: {issuer_url: https://auth.example.com, client_id: proxmox}\n"
	cluster = "proxmox: {endpoints: [https://pve1.example.com:8006], token: realm@pve!agent=of-the-file}\n"
)

// setenv makes the environment that of a test: it removes this program's variables and the home, and sets the given ones.
func setenv(t testing.TB, entries ...string) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, envPrefix) {
			_ = os.Unsetenv(name)
		}
	}
	for _, entry := range append([]string{"HOME=/nonexistent", "XDG_CONFIG_HOME="}, entries...) {
		if name, value, ok := strings.Cut(entry, "="); ok && name != "" {
			t.Setenv(name, value)
		}
	}
}

// load loads a file's text with flags, each "key=value".
func load(t *testing.T, text string, o Options, flags ...string) (*Config, error) {
	t.Helper()
	o.File = write(t, filepath.Join(t.TempDir(), "config.yaml"), text)
	for _, f := range flags {
		key, value, _ := strings.Cut(f, "=")
		o.Flags = append(o.Flags, FlagValue{key, value})
	}
	return Load(context.Background(), o)
}

func mustLoad(t *testing.T, text string, o Options, flags ...string) *Config {
	t.Helper()
	c, err := load(t, text, o, flags...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// problemsOf returns what Load complains about, one problem a line, without the file's folder.
func problemsOf(t *testing.T, err error) string {
	t.Helper()
	var problems Problems
	if err != nil && (check.CodeOf(err) != check.Config || !errors.As(err, &problems)) {
		t.Fatalf("not a configuration fault: %v", err)
	}
	var lines []string
	for _, p := range problems {
		if p.File != "" {
			p.File = filepath.Base(p.File)
		}
		lines = append(lines, p.Error())
	}
	return strings.Join(lines, "\n")
}

func TestDefaults(t *testing.T) {
	c := mustLoad(t, cluster+issuer, Options{})
	target := c.Targets[0]
	if len(c.Targets) != 1 || target.Name != "default" || target.Realm.Name != "authelia" || !target.Unnamed || !target.Gate {
		t.Errorf("target %+v", target)
	}
	if got, want := target.Realm.Set.Properties(), []realm.Property{realm.ClientID, realm.IssuerURL}; !slices.Equal(got, want) {
		t.Errorf("manages %v: what nobody wrote must stay unmanaged", got)
	}
	v := target.Verify
	if !slices.Equal(v.RedirectURLs, []Origin{"https://pve1.example.com:8006"}) || v.RedirectsDeclared || !v.Issuer || !v.Proxmox || !v.Client || v.MaxClockSkew.String() != "5m0s" {
		t.Errorf("verify %+v", v)
	}
	if target.Proxmox.Timeout.String() != "45s" || c.Concurrency != 32 || c.Agent.Interval.String() != "15m0s" || c.Agent.Jitter != 0.1 || c.Agent.Listen != "127.0.0.1:9746" {
		t.Errorf("run %+v", c)
	}
	if c.StateDir == "" || len(c.Warnings) > 0 {
		t.Errorf("state %q, warnings %q", c.StateDir, c.Warnings)
	}
}

func TestPrecedence(t *testing.T) {
	const targets = "targets:\n  - name: berlin\n    realm: {comment: of the target}\n"
	base := cluster + "realm: {issuer_url: https://auth.example.com, client_id: proxmox, comment: of the file}\n"
	env := []string{"PROXMOX_REALM_REALM_COMMENT=of the environment"}
	for _, tt := range []struct {
		name, text   string
		env, flags   []string
		want, whence string
	}{
		{"file", base, nil, nil, "of the file", "config.yaml:2"},
		{"target over file", base + targets, nil, nil, "of the target", "target berlin, config.yaml:5"},
		{"environment over target", base + targets, env, nil, "of the environment", "environment PROXMOX_REALM_REALM_COMMENT"},
		{"flag over environment", base + targets, env, []string{"realm.comment=of the flag"}, "of the flag", "flag --realm.comment"},
	} {
		setenv(t, tt.env...)
		c := mustLoad(t, tt.text, Options{Show: true}, tt.flags...)
		if got := c.Targets[0].Realm.Set[realm.Comment].String(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		for _, s := range c.Settings {
			if whence := strings.ReplaceAll(s.Source, filepath.Dir(c.File)+"/", ""); s.Key == "realm.comment" && (whence != tt.whence || s.Value != tt.want) {
				t.Errorf("%s: shown %q from %q, want from %q", tt.name, s.Value, whence, tt.whence)
			}
		}
	}
}

// A layer that names one key of a group replaces the others of the layers below.
func TestGroupsAreReplacedAsAWhole(t *testing.T) {
	const user = "proxmox: {endpoints: [pve1], username: root@pam, password: secret, otp: '123456', ca_file: /etc/ca.pem}\n"
	for _, tt := range []struct {
		name, text string
		env, flags []string
		want       func(Proxmox, realm.Values) bool
	}{
		{"token over user", user + issuer, []string{"PROXMOX_REALM_PROXMOX_TOKEN=realm@pve!agent=x"}, nil, func(p Proxmox, _ realm.Values) bool {
			return !p.Token.IsZero() && p.Username.IsZero() && !p.Password.IsSet() && !p.OTP.IsSet()
		}},
		{"user over token", cluster + issuer, nil, []string{"proxmox.username=root@pam"}, func(p Proxmox, _ realm.Values) bool {
			return p.Token.IsZero() && p.Username.String() == "root@pam" && !p.Password.IsSet()
		}},
		{"another user drops the password", user + issuer, nil, []string{"proxmox.username=admin@pve"}, func(p Proxmox, _ realm.Values) bool {
			return p.Username.String() == "admin@pve" && !p.Password.IsSet() && !p.OTP.IsSet()
		}},
		{"fingerprints over authorities", user + issuer, nil, []string{"proxmox.fingerprints=" + strings.Repeat("ab", 32)}, func(p Proxmox, _ realm.Values) bool {
			return p.CAFile == "" && len(p.Fingerprints) == 1 && p.Fingerprints[0].String() == "AB"+strings.Repeat(":AB", 31)
		}},
		{"insecure over authorities", user + issuer, nil, []string{"proxmox.insecure=true"}, func(p Proxmox, _ realm.Values) bool {
			return p.CAFile == "" && p.Insecure
		}},
		{"endpoint over endpoints", cluster + issuer, []string{"PROXMOX_REALM_PROXMOX_ENDPOINT=[2001:db8::1]"}, nil, func(p Proxmox, _ realm.Values) bool {
			return slices.Equal(p.Endpoints, []Origin{"https://[2001:db8::1]:8006"}) && !p.Token.IsZero()
		}},
		{"a false insecure over authorities", user + issuer, []string{"PROXMOX_REALM_PROXMOX_INSECURE=0"}, nil, func(p Proxmox, _ realm.Values) bool {
			return p.CAFile == "/etc/ca.pem" && !p.Insecure
		}},
		{"a false insecure beside authorities", strings.Replace(user, "ca_file", "insecure: false, ca_file", 1) + issuer, nil, nil, func(p Proxmox, _ realm.Values) bool {
			return p.CAFile == "/etc/ca.pem" && !p.Insecure
		}},
		{"insecure taken back", strings.Replace(user, "ca_file: /etc/ca.pem", "insecure: true", 1) + issuer, []string{"PROXMOX_REALM_PROXMOX_INSECURE=0"}, nil, func(p Proxmox, _ realm.Values) bool {
			return !p.Insecure
		}},
		{
			"client key over its file", cluster + "realm: {issuer_url: https://auth.example.com, client_id: proxmox, client_key_file: /nonexistent}\n",
			[]string{"PROXMOX_REALM_REALM_CLIENT_KEY=a-key"},
			nil, func(_ Proxmox, vs realm.Values) bool { return vs[realm.ClientKey].String() != "" },
		},
		{"a value over a removal", cluster + issuer[:len(issuer)-2] + ", unset: [comment, prompt]}\n", nil, []string{"realm.comment=x"}, func(_ Proxmox, vs realm.Values) bool {
			return vs[realm.Comment].String() == "x"
		}},
	} {
		setenv(t, tt.env...)
		c, err := load(t, tt.text, Options{Secrets: !strings.Contains(tt.text, "/etc/")}, tt.flags...)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := c.Targets[0]; !tt.want(got.Proxmox, got.Realm.Set) || slices.Contains(got.Realm.Unset, realm.Comment) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

func TestUnsetBetweenLayers(t *testing.T) {
	c := mustLoad(t, cluster+"realm: {issuer_url: https://auth.example.com, client_id: proxmox, comment: x, client_key: a-key, prompt: login}\n"+
		"targets: [{name: berlin, realm: {unset: [comment, client-key]}}]\n", Options{})
	spec := c.Targets[0].Realm
	if got, want := spec.Set.Properties(), []realm.Property{realm.ClientID, realm.IssuerURL, realm.Prompt}; !slices.Equal(got, want) {
		t.Errorf("sets %v, want %v", got, want)
	}
	if want := []realm.Property{realm.Comment, realm.ClientKey}; !slices.Equal(spec.Unset, want) {
		t.Errorf("unsets %v, want %v", spec.Unset, want)
	}
	if err := wrong(spec); err != nil {
		t.Error(err)
	}
}

func TestTargets(t *testing.T) {
	text := `
proxmox: {endpoints: [pve1], token: realm@pve!agent=of-the-file, ca_file: /etc/ca.pem, timeout: 20s}
verify: {redirect_urls: ["https://pve.example.com"]}
realm: {issuer_url: https://auth.example.com, client_id: proxmox}
targets:
  - name: berlin
    proxmox: {endpoints: [berlin], token: realm@pve!agent=of-berlin}
  - name: second-realm
    realm: {name: second}
`
	c := mustLoad(t, text, Options{})
	berlin, second := c.Targets[0], c.Targets[1]
	if p := berlin.Proxmox; p.Token.Full().Reveal() != "realm@pve!agent=of-berlin" || p.CAFile != "" || p.Timeout.String() != "20s" {
		t.Errorf("berlin inherits the timeout, and neither token nor trust: %+v", p)
	}
	if v := berlin.Verify; v.RedirectsDeclared || !slices.Equal(v.RedirectURLs, []Origin{"https://berlin:8006"}) {
		t.Errorf("berlin inherits no redirect URLs: %+v", v)
	}
	if p := second.Proxmox; p.Token.Full().Reveal() != "realm@pve!agent=of-the-file" || p.CAFile != "/etc/ca.pem" || !second.Verify.RedirectsDeclared || second.Realm.Name != "second" {
		t.Errorf("the second realm is of the same cluster: %+v", second)
	}

	one := mustLoad(t, text, Options{Targets: []string{"second-realm", "second-realm"}}, "proxmox.endpoints=other", "realm.name=third")
	if len(one.Targets) != 1 || one.Targets[0].Realm.Name != "third" || one.Targets[0].Proxmox.Endpoints[0] != "https://other:8006" {
		t.Errorf("flags with one -t: %+v", one.Targets)
	}
	if got := mustLoad(t, cluster+issuer, Options{Targets: []string{"default"}}); len(got.Targets) != 1 {
		t.Error("-t default names the only target")
	}

	for _, tt := range []struct {
		o     Options
		env   string
		flags []string
		want  string
	}{
		{Options{}, "", []string{"proxmox.endpoints=other"}, "--endpoint: must not be given for several targets: one cluster's address or credentials would reach the others"},
		{Options{Targets: []string{"berlin", "second-realm"}}, "", []string{"realm.name=other"}, "--realm: must not be given for several targets: one cluster's address or credentials would reach the others"},
		{Options{}, "PROXMOX_REALM_PROXMOX_TOKEN=realm@pve!agent=x", nil, "PROXMOX_REALM_PROXMOX_TOKEN: must not be given for several targets: one cluster's address or credentials would reach the others"},
		{Options{Targets: []string{"berlni"}}, "", nil, "-t berlni: is not a target of the configuration"},
		{Options{Targets: []string{""}}, "", nil, "-t: is not a target of the configuration"},
	} {
		setenv(t, tt.env)
		_, err := load(t, text, tt.o, tt.flags...)
		if got := problemsOf(t, err); got != tt.want {
			t.Errorf("%+v %v: %q, want %q", tt.o, tt.flags, got, tt.want)
		}
	}
	setenv(t)
	_, err := load(t, cluster+issuer, Options{Targets: []string{"berlin"}})
	if got, want := problemsOf(t, err), "-t berlin: is not a target of the configuration"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestFlagsAloneAreEnough(t *testing.T) {
	setenv(t)
	o := Options{Flags: []FlagValue{
		{"proxmox.endpoints", "pve1"},
		{"proxmox.endpoints", "pve2"},
		{"proxmox.username", "root@pam"},
		{"realm.issuer_url", "https://auth.example.com"},
		{"realm.client_id", "proxmox"},
		{"realm.scopes", "openid groups"},
		{"realm.autocreate", "true"},
	}}
	if _, err := os.Stat("/etc/proxmox-realm/config.yaml"); err == nil {
		o.File = "/dev/null" // a machine that has a configuration
	}
	c, err := Load(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	target := c.Targets[0]
	if !slices.Equal(target.Proxmox.Endpoints, []Origin{"https://pve1:8006", "https://pve2:8006"}) || target.Realm.Set[realm.Scopes].String() != "openid groups" {
		t.Errorf("%+v", target)
	}
	o.Flags = o.Flags[2:3]
	_, err = Load(context.Background(), o)
	if got := problemsOf(t, err); o.File == "" && !strings.Contains(got, "realm.issuer_url: is required: give --issuer-url, PROXMOX_REALM_REALM_ISSUER_URL or a configuration file") {
		t.Errorf("%s", got)
	}
	o.Flags = nil
	_, err = Load(context.Background(), o)
	if got := check.HintOf(err); o.File == "" && !strings.Contains(string(got), "make a configuration:\n    {init}") {
		t.Errorf("with nothing at all: %s", got)
	}
}

func TestFind(t *testing.T) {
	t.Chdir(t.TempDir())
	home, xdg := t.TempDir(), t.TempDir()
	for _, dir := range []string{filepath.Join(home, ".config", "proxmox-realm"), filepath.Join(xdg, "proxmox-realm")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, "config.yaml", "not read: the working folder does not count")
	inHome := write(t, filepath.Join(home, ".config", "proxmox-realm", "config.yaml"), issuer)
	inXDG := write(t, filepath.Join(xdg, "proxmox-realm", "config.yaml"), issuer)
	named := write(t, "named.yaml", issuer)
	for _, tt := range []struct {
		name, file string
		env        []string
		want       string
	}{
		{"home", "", []string{"HOME=" + home}, inHome},
		{"xdg over home", "", []string{"HOME=" + home, "XDG_CONFIG_HOME=" + xdg}, inXDG},
		{"a relative xdg counts as unset", "", []string{"HOME=" + home, "XDG_CONFIG_HOME=relative"}, inHome},
		{"variable over xdg", "", []string{"HOME=" + home, "XDG_CONFIG_HOME=" + xdg, "PROXMOX_REALM_CONFIG=" + named}, named},
		{"flag over variable", inHome, []string{"PROXMOX_REALM_CONFIG=" + named}, inHome},
	} {
		setenv(t, tt.env...)
		c, err := Load(context.Background(), Options{File: tt.file, Partial: true})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if want, _ := filepath.Abs(tt.want); c.File != want {
			t.Errorf("%s: %s, want %s", tt.name, c.File, want)
		}
	}
	setenv(t)
	_, err := Load(context.Background(), Options{File: "absent.yaml"})
	if got := problemsOf(t, err); got != "absent.yaml: no such file" {
		t.Errorf("an absent file that is named: %q", got)
	}
	setenv(t, "PROXMOX_REALM_CONFIG=absent.yaml")
	_, err = Load(context.Background(), Options{})
	if got := problemsOf(t, err); got != "PROXMOX_REALM_CONFIG: absent.yaml: no such file" {
		t.Errorf("an absent file that the environment names: %q", got)
	}
}

func TestTextForms(t *testing.T) {
	want := mustLoad(t, cluster+issuer, Options{}).Targets
	for name, text := range map[string]string{
		"byte order mark":  "\ufeff" + cluster + issuer,
		"carriage returns": strings.ReplaceAll(cluster+issuer, "\n", "\r\n"),
		"JSON":             `{"proxmox": {"endpoints": ["https://pve1.example.com:8006"], "token": "realm@pve!agent=of-the-file"}, "realm": {"issuer_url": "https://auth.example.com", "client_id": "proxmox"}}`,
		"an alias":         "proxmox: {endpoints: [&u https://pve1.example.com:8006], token: realm@pve!agent=of-the-file}\n" + "realm: {issuer_url: https://auth.example.com, client_id: proxmox}\nverify: {}\n",
		"document marks":   "---\n" + cluster + issuer + "...\n",
	} {
		if got := mustLoad(t, text, Options{}).Targets; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

func TestBounds(t *testing.T) {
	for name, text := range map[string]string{
		"large":         "# " + strings.Repeat("x", maxFile),
		"deep":          "realm: " + strings.Repeat("[", 20000),
		"aliases":       "realm: {comment: &a [x]}\ntargets: [" + strings.Repeat("*a, ", 20000) + "]",
		"laughs":        "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b]\nrealm: {scopes: *c}",
		"many mistakes": "targets:\n" + strings.Repeat("  - {}\n", 5000),
	} {
		_, err := load(t, text, Options{})
		var f *check.Error
		if !errors.As(err, &f) || f.Code != check.Config || len(err.Error()) > 10000 {
			t.Errorf("%s: %.200v", name, err)
		}
	}
}

func TestShownForm(t *testing.T) {
	c := mustLoad(t, "proxmox: {endpoint: PVE1.example.com, password: hunter2, username: root@pam}\n"+
		"realm: {issuer_url: https://auth.example.com, client_id: \"1\", client_key_file: /etc/key, autocreate: false, comment: \"a: b\"}\n"+
		"notify: {command: [mail, -s, two words, -s]}\n", Options{Show: true})
	got := map[string]string{}
	for _, s := range c.Settings {
		got[s.Key] = s.Value
	}
	for key, want := range map[string]string{
		"proxmox.endpoint": "https://pve1.example.com:8006", "proxmox.password": "(sensitive)", "proxmox.username": "root@pam",
		"realm.client_id": `"1"`, "realm.client_key_file": "/etc/key", "realm.autocreate": "false", "realm.comment": "'a: b'",
		"notify.command": "[mail, -s, two words, -s]", "realm.name": "authelia", "concurrency": "32", "verify.redirect_urls": "['https://pve1.example.com:8006']",
	} {
		if got[key] != want {
			t.Errorf("%s is shown as %s, want %s", key, got[key], want)
		}
	}
	if got["state_dir"] != c.StateDir {
		t.Errorf("state is shown as %s", got["state_dir"])
	}
	if _, shown := got["realm.scopes"]; shown {
		t.Error("what is not managed is not shown")
	}
	for _, s := range mustLoad(t, cluster+issuer, Options{Show: true}).Settings {
		if s.Key == "proxmox.token" && s.Value != check.Mask {
			t.Errorf("a token is shown as %s", s.Value)
		}
	}
}

// wrong returns what Proxmox would refuse of a realm that was loaded.
func wrong(spec realm.Spec) error {
	err := spec.Product.ValidateName(spec.Name)
	for property, value := range spec.Set {
		d, _ := property.Definition()
		err = errors.Join(err, spec.Product.Validate(d.Property, value))
	}
	for _, property := range spec.Unset {
		d, known := property.Definition()
		if _, set := spec.Set[property]; set || !known || d.Required || d.CreateOnly {
			err = errors.Join(err, fmt.Errorf("unset %s", property))
		}
	}
	return err
}

// A target's access replaces the one above it as a whole.
func TestAccessOfTargets(t *testing.T) {
	c := mustLoad(t, `
access: {admins: [{path: /, role: PVEAdmin}]}
targets:
  - name: a
  - {name: b, access: {dev: []}}
`, Options{Partial: true})
	for i, want := range []realm.Access{{"admins": {{Path: "/", Role: "PVEAdmin", Propagate: true}}}, {"dev": {}}} {
		if got := c.Targets[i].Access; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v", c.Targets[i].Name, got)
		}
	}
	if c := mustLoad(t, "realm: {name: a1}", Options{Partial: true}); c.Targets[0].Access != nil {
		t.Errorf("not declared, and yet %v", c.Targets[0].Access)
	}
}
