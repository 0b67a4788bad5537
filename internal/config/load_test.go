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
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, EnvPrefix) {
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
	if len(c.Targets) != 1 || target.Name != "default" || target.Realm.Name != "authelia" || !target.Gate {
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

// Every property of the table reaches the Spec, by file and by variable.
func TestEveryPropertyCanBeSet(t *testing.T) {
	for _, d := range realm.Definitions() {
		file, variable, want := "a-value", "a-value", "a-value"
		switch d.Kind {
		case realm.KindBool:
			file, variable, want = "true", "true", "1"
		case realm.KindSet, realm.KindList:
			file, variable = "[one, two]", "one, two"
			want = realm.Words(d.Property, "one", "two").String()
		case realm.KindKey:
			want = "(sensitive)"
		case realm.KindText:
		}
		text := "realm:\n  " + d.Key + ": " + file + "\n"
		setenv(t)
		if got := mustLoad(t, text, Options{Partial: true}).Targets[0].Realm.Set[d.Property].String(); got != want {
			t.Errorf("%s in a file gives %q, want %q", d.Key, got, want)
		}
		setenv(t, "PROXMOX_REALM_REALM_"+strings.ToUpper(d.Key)+"="+variable)
		if got := mustLoad(t, "", Options{Partial: true}).Targets[0].Realm.Set[d.Property].String(); got != want {
			t.Errorf("%s in the environment gives %q, want %q", d.Key, got, want)
		}
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

func TestFalseInsecureReplacesNothing(t *testing.T) {
	c := mustLoad(t, "proxmox: {endpoints: [pve1], token: realm@pve!agent=x, ca_file: /etc/ca.pem, insecure: false}\n"+issuer, Options{})
	if p := c.Targets[0].Proxmox; p.Insecure || p.CAFile != "/etc/ca.pem" {
		t.Errorf("%+v", p)
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

// All mistakes are said at once, and where to read more.
func TestAllMistakesAtOnce(t *testing.T) {
	setenv(t, "PROXMOX_REALM_TOKEN=realm@pve!agent=x")
	_, err := load(t, "proxmox: {endpoints: [pve1]}\nrealm: {isuer_url: https://auth.example.com, client_id: proxmox}\n", Options{})
	want := "config.yaml:2: realm.isuer_url: is not a key; did you mean realm.issuer_url?\n" +
		"config.yaml: proxmox.token_file: is required (or proxmox.token, proxmox.token_command, or proxmox.username)\n" +
		"config.yaml: realm.issuer_url: is required\n" +
		"PROXMOX_REALM_TOKEN: is not a variable of this program; did you mean PROXMOX_REALM_PROXMOX_TOKEN?"
	if got := problemsOf(t, err); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if !strings.HasPrefix(check.MessageOf(err), "4 mistakes in the configuration\n") || check.HintOf(err) != "it prints the lines that make a token:\n    {bootstrap}\n"+
		"set {realm.issuer_url} to the issuer's own name, such as https://auth.example.com\nit lists the variables:\n    {help environment}" {
		t.Errorf("%+v", err)
	}
}

// Each mistake is a line of the message. Each hint is said once.
func TestMistakesAndHints(t *testing.T) {
	setenv(t, "PROXMOX_REALM_X=1")
	_, err := load(t, cluster+issuer[:len(issuer)-2]+", comment: '', prompt: '', groups_claim: ''}\naccess: {admins: [{path: /, role: ''}]}\nunknown: 1\nnothing: 2\n", Options{}, "realm.name=1")
	want := `config.yaml:2: realm.comment: must not be empty
config.yaml:2: realm.groups_claim: must not be empty
config.yaml:2: realm.prompt: must not be empty
config.yaml:3: access.admins[0]: must name a role, such as PVEAuditor
config.yaml:4: unknown: is not a key
config.yaml:5: nothing: is not a key
PROXMOX_REALM_X: is not a variable of this program
--realm: must be 2 to 32 characters, a letter first, then letters, digits, '.', '_' or '-'`
	if got := problemsOf(t, err); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	hint := `add comment to realm.unset (it removes the property)
add groups_claim to realm.unset (it removes the property)
add prompt to realm.unset (it removes the property)
it lists the keys:
    proxmox-realm help config
it lists the variables:
    proxmox-realm help environment`
	if got := check.HintOf(err).For(check.Names{}); got != hint {
		t.Errorf("%s\nwant %s", got, hint)
	}
	var e *check.Error
	if !errors.As(err, &e) || e.Key != "realm.comment" {
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

func TestStandardInput(t *testing.T) {
	t.Chdir(t.TempDir())
	setenv(t)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load(context.Background(), Options{File: "-", Stdin: strings.NewReader(cluster + issuer + "state_dir: state\n")})
	if err != nil || c.File != "" || c.StateDir != filepath.Join(here, "state") {
		t.Errorf("%+v, %v", c, err)
	}
	_, err = Load(context.Background(), Options{File: "-", Stdin: strings.NewReader(cluster + "relam: {}\n" + issuer)})
	if got := problemsOf(t, err); got != "standard input:2: relam: is not a key; did you mean realm?" {
		t.Errorf("%q", got)
	}
	if _, err = Load(context.Background(), Options{File: "-", Stdin: strings.NewReader("# " + strings.Repeat("x", maxFile))}); err == nil {
		t.Error("endless input")
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
		"notify: {command: [mail, -s, two words]}\n", Options{Show: true})
	got := map[string]string{}
	for _, s := range c.Settings {
		got[s.Key] = s.Value
	}
	for key, want := range map[string]string{
		"proxmox.endpoint": "https://pve1.example.com:8006", "proxmox.password": "(sensitive)", "proxmox.username": "root@pam",
		"realm.client_id": `"1"`, "realm.client_key_file": "/etc/key", "realm.autocreate": "false", "realm.comment": "'a: b'",
		"notify.command": "[mail, -s, two words]", "realm.name": "authelia", "concurrency": "32", "verify.redirect_urls": "['https://pve1.example.com:8006']",
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

// Where a target is of another product than the file above it, it inherits what its product has.
func TestATargetOfAnotherProduct(t *testing.T) {
	const text = `
proxmox: {endpoints: [pve1], token: realm@pve!agent=of-the-cluster, ca_file: /etc/ca.pem}
realm: {issuer_url: https://auth.example.com, client_id: proxmox, client_key: the-shared-client-key, comment: Sign in,
  groups_claim: groups, groups_overwrite: true, query_userinfo: false, unset: [groups_autocreate, prompt]}
access: {admins: [{path: /, role: PVEAdmin}]}
targets:
  - {name: main}
  - {name: second, realm: {name: second}}
  - {name: backup, proxmox: {product: pbs, endpoints: [backup], token: "realm@pbs!agent:of-the-backup"}}
  - {name: manager, proxmox: {product: pdm, endpoints: ["https://pdm.example.com:8443"], token: realm@pdm!agent=of-the-manager}}
  - {name: berlin, proxmox: {endpoints: [berlin], token: realm@pve!agent=of-berlin}}
`
	c := mustLoad(t, text, Options{Strict: true})
	main, second, backup, manager, berlin := c.Targets[0], c.Targets[1], c.Targets[2], c.Targets[3], c.Targets[4]
	for _, target := range []Target{main, second, berlin} {
		if target.Realm.Product != realm.VE || target.Access == nil || len(target.Realm.Set) != 7 || len(target.Realm.Unset) != 2 {
			t.Errorf("%+v", target)
		}
	}
	for _, target := range []Target{backup, manager} {
		spec := target.Realm
		want := []realm.Property{realm.ClientID, realm.ClientKey, realm.Comment, realm.IssuerURL}
		if !slices.Equal(spec.Set.Properties(), want) || !slices.Equal(spec.Unset, []realm.Property{realm.Prompt}) || target.Access != nil {
			t.Errorf("%s inherits %v, unsets %v, access %v", target.Name, spec.Set.Properties(), spec.Unset, target.Access)
		}
	}
	if p := backup.Proxmox; p.Product != realm.BackupServer || backup.Realm.Product != realm.BackupServer || p.Endpoints[0] != "https://backup:8007" || p.Token.Secret.Reveal() != "of-the-backup" || p.CAFile != "" {
		t.Errorf("backup: %+v", p)
	}
	if p := manager.Proxmox; p.Product != realm.DatacenterManager || p.Endpoints[0] != "https://pdm.example.com:8443" || p.Token.Secret.Reveal() != "of-the-manager" {
		t.Errorf("manager: %+v", p)
	}

	// The product belongs to the endpoints: others do not inherit it.
	c = mustLoad(t, "proxmox: {product: pbs, endpoints: [backup], token: realm@pbs!agent=x}\n"+issuer+
		"targets: [{name: main}, {name: second, realm: {name: second}}, {name: a, proxmox: {endpoints: [pve1], token: realm@pve!agent=x}}]\n", Options{})
	for i, want := range []realm.Product{realm.BackupServer, realm.BackupServer, realm.VE} {
		if got := c.Targets[i].Proxmox.Product; got != want {
			t.Errorf("%s is %s, want %s", c.Targets[i].Name, got, want)
		}
	}
}

// What a plan would refuse is refused by config check as well, as far as the configuration tells. A run asks Proxmox.
func TestWhatIsOnlyRightTogether(t *testing.T) {
	pbs := "proxmox: {product: pbs, endpoints: [backup], token: realm@pbs!agent=x}\n"
	with := func(more string) string { return issuer[:len(issuer)-2] + ", " + more + "}\n" }
	for _, tt := range []struct{ text, want string }{
		{cluster + issuer + "access: {admins: []}\n", "config.yaml:3: access: needs realm.groups_claim, or no login joins a group"},
		{cluster + with("groups_claim: groups") + "access: {admins: []}\n", ""},
		{cluster + issuer + "access: {}\n", ""},
		{cluster + with("unset: [groups_claim]") + "access: {admins: []}\n", "config.yaml:3: access: needs realm.groups_claim, or no login joins a group"},
		{pbs + with("groups_claim: groups") + "access: {admins: []}\n", "config.yaml:2: realm.groups_claim: Proxmox Backup Server does not have it\n" +
			"config.yaml:3: access: Proxmox Backup Server has no groups"},
		{pbs + with("comment: "+strings.Repeat("x", 129)), "config.yaml:2: realm.comment: must be at most 128 characters long"},
	} {
		_, err := load(t, tt.text, Options{Strict: true})
		if got := problemsOf(t, err); got != tt.want {
			t.Errorf("%s%s\nwant %s", tt.text, got, tt.want)
		}
		if _, err := load(t, tt.text, Options{}); err != nil && !strings.Contains(tt.want, "must be") {
			t.Errorf("a run refuses %s: %v", tt.text, err)
		}
	}
}

// What stands above targets and is used by none of them is not dropped without a word.
func TestWhatNoTargetUses(t *testing.T) {
	own := "targets: [{name: a, proxmox: {endpoints: [a], token: realm@pve!agent=x}}]\n"
	_, err := load(t, cluster+issuer+own, Options{})
	if got, want := problemsOf(t, err), "config.yaml:1: proxmox.endpoints: is used by no target, since each of them sets its own"; got != want {
		t.Errorf("%s", got)
	}
	if hint := check.HintOf(err).For(check.Names{}); !strings.Contains(hint, "    targets:\n      - name: main") {
		t.Errorf("hint %s", hint)
	}
	c := mustLoad(t, "proxmox: {ca_file: /etc/ca.pem, timeout: 20s}\n"+issuer+own, Options{})
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "config.yaml:1: proxmox.ca_file: is used by no target") {
		t.Errorf("%q", c.Warnings)
	}
	c = mustLoad(t, cluster+issuer+strings.Replace(own, "[{", "[{name: main}, {", 1), Options{Targets: []string{"a"}})
	if len(c.Warnings) > 0 || len(c.Targets) != 1 {
		t.Errorf("a target that this run does not take uses them: %q", c.Warnings)
	}
}

// A secret is hidden wherever it turns up, also where no target uses it.
func TestSecretsOfEveryLayerAreKnown(t *testing.T) {
	setenv(t, "PROXMOX_REALM_REALM_CLIENT_KEY=key-of-the-environment")
	c := mustLoad(t, "proxmox: {token: realm@pve!agent=of-nobody}\nrealm: {issuer_url: https://auth.example.com, client_id: proxmox, client_key: key-of-the-file}\n"+
		"targets:\n  - {name: a, proxmox: {endpoints: [a], token: realm@pve!agent=of-target-a}, realm: {comment: key-of-the-file}}\n"+
		"  - {name: b, proxmox: {endpoints: [b], username: root@pam, password: password-of-b}}\n", Options{Show: true, Targets: []string{"a"}})
	cleaner := check.NewCleaner(c.Secrets...)
	for _, secret := range []string{"of-nobody", "key-of-the-file", "of-target-a", "password-of-b", "key-of-the-environment", "realm@pve!agent=of-nobody"} {
		if text := cleaner.Hide("x " + secret + " y"); text != "x "+check.Mask+" y" {
			t.Errorf("%s", text)
		}
	}
}

// A secret that stands where its file belongs is in nothing that is shown.
func TestASecretInPlaceOfItsFile(t *testing.T) {
	for _, secret := range []string{"hunter2", "realm@pve!agent=hunter2", "/hunter2Hunter2hunter2hunter", "hunter2/hunter2+hunter2="} {
		for _, key := range []string{"realm.client_key_file", "proxmox.token_file", "proxmox.password_file"} {
			section, name, _ := strings.Cut(key, ".")
			text := section + ": {" + name + ": '" + secret + "'}\n"
			if name == "password_file" {
				text = "proxmox: {username: root@pam, password_file: '" + secret + "'}\n"
			}
			c := mustLoad(t, text, Options{Partial: true, Show: true})
			for _, s := range c.Settings {
				if strings.Contains(s.Value, "hunter2") {
					t.Errorf("%s shows %s", s.Key, s.Value)
				}
			}
			_, err := load(t, text, Options{Partial: true, Secrets: true})
			if got := problemsOf(t, err) + check.HintOf(err).For(check.Names{}); !strings.Contains(got, key) || strings.Contains(got, "hunter2") {
				t.Errorf("%s: %s", key, got)
			}
		}
	}
}
