package check_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"proxmox-realm/internal/check"
)

func TestHintIsWordedForItsReader(t *testing.T) {
	hint := check.Hints(
		check.Hintf("set {realm.issuer_url} to %s", "https://auth.example.com"),
		"set {realm.name} (a second realm beside this one)",
		"add prompt to {realm.unset}",
		"remove {access} from the configuration",
		"run:\n    {apply --replace}",
		"it shows the difference:\n    {plan}", "run:\n    {--help}",
		"run on a node:\n    pveum realm list",
		"run on a node (it lists the roles):\n    pveum role list",
		check.Hintf("restart %s", "Authelia"),
	)
	own := `set realm.issuer_url to https://auth.example.com
set realm.name (a second realm beside this one)
add prompt to realm.unset
remove access from the configuration
run:
    proxmox-realm apply --replace
it shows the difference:
    proxmox-realm plan
run:
    proxmox-realm --help
run on a node:
    pveum realm list
run on a node (it lists the roles):
    pveum role list
restart Authelia`
	if got := hint.For(check.Names{}); got != own {
		t.Errorf("%s\nwant %s", got, own)
	}
	flags := check.Names{
		Key:     func(key string) string { return "--" + key },
		Command: func(line string) string { return "me " + line },
	}
	want := strings.NewReplacer("realm.", "--realm.", "access", "--access", "proxmox-realm ", "me ").Replace(own)
	if got := hint.For(flags); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := check.Hint("").For(flags); got != "" {
		t.Errorf("%q for nothing", got)
	}
}

// A reader sees text of others as it is: no name is recognised in it, and it makes no line of its own.
func TestHintTakesNoNamesFromOthers(t *testing.T) {
	names := check.Names{
		Key: func(key string) string {
			if key == "verify.issuer" {
				return ""
			}
			return "KEY"
		},
		Command: func(line string) string { return "<" + line + ">" },
	}
	for _, tt := range []struct {
		hint check.Hint
		want string
	}{
		{check.Hintf("set {realm.issuer_url} to %s", "https://login.example.com/{tenantid}/v2.0"), "set KEY to https://login.example.com/{tenantid}/v2.0"},
		{check.Hintf("choose %s", "{realm.name}"), "choose {realm.name}"},
		{check.Hintf("%v, {plan}", errors.New("no {plan}")), "no {plan}, <plan>"},
		{check.Hintf("run:\n    {apply -t %s}", "a{b}c"), "run:\n    <apply -t a{b}c>"},
		{check.Hintf("run on a node:\n    curl %s", "{delete}\n    rm -rf /"), "run on a node:\n    curl {delete}     rm -rf /"},
		{check.Hintf("look (%s)", "{plan}\n    x"), "look ({plan}     x)"},
		{check.Hintf("%s", check.Hint("set {realm.name}")), "set KEY"},
		{"wait\nset {verify.issuer} to false:\n    {plan}\nset {realm.name}", "wait\nset KEY"}, // a key that the reader does not have
	} {
		if got := tt.hint.For(names); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.hint, got, tt.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-z{}\\ .%]{0,20}`).Draw(t, "text")
		if got := check.Hintf("x %s", text).For(names); got != "x "+text {
			t.Fatalf("%q became %q", text, got)
		}
	})
}

func TestHintsAreSaidOnce(t *testing.T) {
	first, second := check.Hint("it shows the difference:\n    {plan}"), check.Hint("wait\nrestart it:\n    systemctl restart x")
	got := check.Hints(first, second, check.Hints(second, first), "", "restart it:\n    systemctl restart y")
	if want := first + "\n" + second + "\nrestart it:\n    systemctl restart y"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestHintOf(t *testing.T) {
	denied := check.Errorf(check.PermissionDenied, "the privilege is missing").Try("run pveum")
	unknown := check.Errorf(check.Config, "line 3: unknown key").Try("did you mean realm")
	for _, tt := range []struct {
		name          string
		err           error
		message, hint string
	}{
		{"an error", denied, "the privilege is missing", "run pveum"},
		{"with what was being done", fmt.Errorf("read realm: %w", denied), "read realm: the privilege is missing", "run pveum"},
		{"the cause's text is not shown", denied.Because(errors.New("details")), "the privilege is missing", "run pveum"},
		{"the cause's hint counts where there is no other", check.Errorf(check.Held, "held").Because(denied), "held", "run pveum"},
		{"the outermost hint wins", check.Errorf(check.Held, "held").Try("wait").Because(denied), "held", "wait"},
		{
			"joined", errors.Join(unknown, denied, unknown),
			"line 3: unknown key\nthe privilege is missing\nline 3: unknown key", "did you mean realm\nrun pveum",
		},
		{"two wrapped", fmt.Errorf("%w, then %w", unknown, denied), "line 3: unknown key, then the privilege is missing", "did you mean realm\nrun pveum"},
		{"another kind of error", errors.New("disk full"), "disk full", ""},
		{"what steers a terminal", errors.New("a\x1b[31m\tb\u202e\r\u009b\xff"), "a[31m b\uFFFD", ""},
		{"nil", nil, "", ""},
	} {
		if message, hint := check.MessageOf(tt.err), check.HintOf(tt.err); message != tt.message || string(hint) != tt.hint {
			t.Errorf("%s: %q %q, want %q %q", tt.name, message, hint, tt.message, tt.hint)
		}
	}
}
