package proxmox_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

// texts are messages of Proxmox from its sources, which no transcript holds.
var texts = []struct {
	status       int
	method, path string
	said         string
	kind         proxmox.Kind
	code         check.Code
}{
	{500, "PUT", "/access/domains/authelia", "update auth server failed: cfs-lock 'file-domains_cfg' error: got lock request timeout", proxmox.LockTimeout, check.LockTimeout},
	{500, "PUT", "/access/domains/authelia", "update auth server failed: error with cfs lock 'file-domains_cfg': got lock request timeout", proxmox.LockTimeout, check.LockTimeout},
	{500, "DELETE", "/access/domains/authelia", "delete auth server failed: can't lock file '/var/lock/pve-domains.lck' - got timeout", proxmox.LockTimeout, check.LockTimeout},
	{500, "POST", "/access/domains", "add auth server failed: cfs-lock 'file-domains_cfg' error: got lock timeout - aborting command", proxmox.LockTimeout, check.LockTimeout},
	{500, "POST", "/access/domains", "add auth server failed: cfs-lock 'file-domains_cfg' error: no quorum!", proxmox.NoQuorum, check.NoQuorum},
	{500, "POST", "/access/domains", "cluster not ready - no quorum?", proxmox.NoQuorum, check.NoQuorum},
	{500, "POST", "/access/domains", "add auth server failed: unable to open file '/etc/pve/domains.cfg.tmp.123' - Permission denied", proxmox.NoQuorum, check.NoQuorum},
	{500, "POST", "/access/openid/auth-url", "Validation error: unexpected issuer URI `https://auth.example.com` (expected `https://auth.example.com/`)", proxmox.IssuerMismatch, check.ProxmoxFailed},
	{500, "POST", "/access/openid/auth-url", "Failed to parse server response", proxmox.IssuerDocument, check.ProxmoxFailed},
	{500, "POST", "/access/openid/auth-url", "Server returned invalid response: no", proxmox.IssuerDocument, check.ProxmoxFailed},
	{500, "POST", "/access/openid/auth-url", "Validation error: unsupported", proxmox.IssuerDocument, check.ProxmoxFailed},
	{500, "POST", "/access/openid/auth-url", "relative URL without a base", proxmox.IssuerURL, check.ProxmoxFailed},
	{500, "POST", "/access/openid/auth-url", "Failed to parse URL", proxmox.IssuerURL, check.ProxmoxFailed},
	{500, "POST", "/access/openid/auth-url", "Request failed", proxmox.IssuerUnreachable, check.ProxmoxFailed},
	{500, "POST", "/access/openid/auth-url", "too many pending openid auth request", proxmox.TooManyPending, check.ProxmoxFailed},
	{596, "POST", "/access/openid/auth-url", "Connection timed out", proxmox.IssuerHung, check.ProxmoxFailed},
	{595, "POST", "/access/openid/auth-url", "Connection refused", proxmox.Unavailable, check.ProxmoxFailed},
	{500, "POST", "/access/openid/login", "authentication failure", proxmox.LoginRefused, check.Internal},
	{500, "POST", "/access/openid/auth-url", "wrong realm type (ldap != openid)", proxmox.WrongType, check.WrongType},
	{500, "GET", "/access/domains/authelia", "Request failed", proxmox.Failed, check.ProxmoxFailed},
	{595, "GET", "/access/domains/authelia", "Connection refused", proxmox.Unavailable, check.ProxmoxFailed},
	{596, "GET", "/access/domains/authelia", "Connection timed out", proxmox.Unavailable, check.ProxmoxFailed},
	{599, "PUT", "/access/domains/authelia", "Too many redirections", proxmox.Unavailable, check.ProxmoxFailed},
	{408, "PUT", "/access/domains/authelia", "Request Timeout", proxmox.Failed, check.ProxmoxFailed},
	{500, "PUT", "/access/domains/authelia", "update auth server failed: type check ('boolean') failed - got 'x'", proxmox.Invalid, check.Config},
	{401, "GET", "/version", "permission denied - invalid PVE ticket", proxmox.BadCredentials, check.BadCredentials},
	{401, "PUT", "/access/domains/authelia", "Permission denied - invalid csrf token", proxmox.BadCredentials, check.BadCredentials},
	{403, "PUT", "/access/domains/authelia", "Permission check failed (user != root@pam)", proxmox.PermissionDenied, check.PermissionDenied},
	{404, "GET", "/version", "Not Found", proxmox.NotProxmox, check.ProxmoxFailed},
	{429, "GET", "/version", "Too Many Requests", proxmox.Failed, check.ProxmoxFailed},
	{503, "GET", "/version", "Service Unavailable", proxmox.Failed, check.ProxmoxFailed},
	{500, "GET", "/access/domains/authelia", "got no worker upid - start worker failed", proxmox.Failed, check.ProxmoxFailed},
	{500, "PUT", "/access/domains/authelia", "update auth server failed: unable to parse: the comment says domain 'x", proxmox.Failed, check.ProxmoxFailed},
}

// rustTexts are messages of Backup Server and Datacenter Manager that no transcript holds.
var rustTexts = []struct {
	status       int
	method, path string
	said         string
	kind         proxmox.Kind
	code         check.Code
}{
	{400, "PUT", "/config/access/openid/authelia", `Unable to acquire lock "/etc/proxmox-backup/.domains.lck" - Interrupted system call (os error 4)`, proxmox.LockTimeout, check.LockTimeout},
	{400, "PUT", "/config/access/openid/authelia", "client error (Connect)", proxmox.Unavailable, check.ProxmoxFailed},
	{400, "GET", "/access/users", "client error (Connect)", proxmox.Unavailable, check.ProxmoxFailed},
	{400, "PUT", "/config/access/openid/authelia", "client error (SendRequest)", proxmox.NoAnswer, check.Unreachable},
	{400, "POST", "/access/openid/login", "client error (SendRequest)", proxmox.LoginRefused, check.Internal},
	{401, "POST", "/access/openid/login", "Failed to contact token endpoint: Request failed", proxmox.LoginRefused, check.Internal},
	{400, "POST", "/access/openid/auth-url", "got unexpected type 'pam' for openid 'pam'", proxmox.WrongType, check.WrongType},
	{400, "POST", "/access/openid/auth-url", "Validation error: unexpected issuer URI `https://auth.example.com` (expected `https://auth.example.com/`)", proxmox.IssuerMismatch, check.ProxmoxFailed},
	{400, "POST", "/access/openid/auth-url", `Server returned invalid response: Unexpected response Content-Type: "text/html", should be application/json`, proxmox.IssuerDocument, check.ProxmoxFailed},
	{400, "POST", "/access/openid/auth-url", "Failed to parse server response", proxmox.IssuerDocument, check.ProxmoxFailed},
	{400, "POST", "/access/openid/auth-url", "Validation error: unsupported", proxmox.IssuerDocument, check.ProxmoxFailed},
	{400, "POST", "/access/openid/auth-url", "relative URL without a base", proxmox.IssuerURL, check.ProxmoxFailed},
	{400, "POST", "/access/openid/auth-url", "Failed to parse URL", proxmox.IssuerURL, check.ProxmoxFailed},
	{400, "POST", "/access/openid/auth-url", "too many pending openid auth request for realm authelia", proxmox.TooManyPending, check.ProxmoxFailed},
	{400, "POST", "/access/users/rec-realm@pbs/token/tool", "token 'tool' for user 'rec-realm@pbs' already exists.", proxmox.Exists, check.Conflict},
	{400, "POST", "/config/access/openid", "Request body too large", proxmox.Failed, check.ProxmoxFailed},
	{414, "GET", "/config/access/openid/authelia", "", proxmox.Failed, check.ProxmoxFailed},
	{501, "PUT", "/access/users/jane@sso", "not implemented", proxmox.Failed, check.ProxmoxFailed},
	{502, "GET", "/version", "Bad Gateway", proxmox.Failed, check.ProxmoxFailed},
}

func TestTexts(t *testing.T) {
	for _, tt := range texts {
		e := proxmox.Classify(realm.VE, tt.status, tt.method, tt.path, tt.said, nil, check.NewCleaner())
		if e.Kind != tt.kind || check.CodeOf(e) != tt.code {
			t.Errorf("%d %s: kind %s, code %s; want %s, %s", tt.status, tt.said, e.Kind, check.CodeOf(e), tt.kind, tt.code)
		}
	}
	for _, tt := range rustTexts {
		for _, p := range []realm.Product{realm.BackupServer, realm.DatacenterManager} {
			e := proxmox.Classify(p, tt.status, tt.method, tt.path, tt.said, nil, check.NewCleaner())
			if e.Kind != tt.kind || check.CodeOf(e) != tt.code {
				t.Errorf("%v: %d %s: kind %s, code %s; want %s, %s", p, tt.status, tt.said, e.Kind, check.CodeOf(e), tt.kind, tt.code)
			}
		}
	}
	for _, p := range realm.Products() {
		e := proxmox.Classify(p, 500-100*min(int(p), 1), "POST", "/access/openid/auth-url", "Validation error: unexpected issuer URI `https://a.example` (expected `https://a.example/`)", nil, nil)
		var f *check.Error
		if e.Found != "https://a.example" || !errors.As(e, &f) || f.Hint != "set {realm.issuer_url} to https://a.example (if its document is there)" {
			t.Errorf("%v: mismatch: %q, %q", p, e.Found, f.Hint)
		}
	}
}

// For each row of the tables, some recorded or listed text matches this row first.
func TestEveryRuleIsUsed(t *testing.T) {
	type text struct{ path, said string }
	met := map[realm.Product][]text{}
	for _, tt := range texts {
		met[realm.VE] = append(met[realm.VE], text{tt.path, tt.said})
	}
	for _, tt := range rustTexts {
		met[realm.BackupServer] = append(met[realm.BackupServer], text{tt.path, tt.said})
	}
	for p, all := range map[realm.Product][]recorded{realm.VE: transcripts(t), realm.BackupServer: backup(t)} {
		for _, r := range all {
			path, _, _ := strings.Cut(r.Path, "?")
			met[p] = append(met[p], text{path, r.Response.Reason}, text{path, string(r.Response.Body)})
		}
	}
	met[realm.DatacenterManager] = met[realm.BackupServer]
	for _, p := range realm.Products() {
		for i, r := range proxmox.Phrases(p) {
			first := slices.ContainsFunc(met[p], func(m text) bool {
				return matches(r, m.path, m.said) && !slices.ContainsFunc(proxmox.Phrases(p)[:i], func(before proxmox.Phrase) bool { return matches(before, m.path, m.said) })
			})
			if !first {
				t.Errorf("%v: no text reaches the rule %q on %q", p, r.Text, r.Path)
			}
		}
	}
}

func matches(r proxmox.Phrase, path, said string) bool {
	before, after, _ := strings.Cut(r.Text, "%")
	_, rest, ok := strings.Cut(said, before)
	return ok && strings.HasPrefix(path, r.Path) && strings.Contains(rest, after)
}

// Messages and remedies are in lower case without a full stop. Every kind but Invalid has a remedy.
func TestMessagesHaveOneStyle(t *testing.T) {
	for _, tt := range append(slices.Clone(texts), rustTexts...) {
		product := realm.VE
		if slices.Contains(rustTexts, tt) {
			product = realm.BackupServer
		}
		e := proxmox.Classify(product, tt.status, tt.method, tt.path, tt.said, nil, nil)
		var f *check.Error
		if !errors.As(e, &f) {
			t.Fatal("no fault")
		}
		if f.Hint.For(check.Names{}) == "" && tt.kind != proxmox.Invalid {
			t.Errorf("%s: no hint", tt.said)
		}
		if strings.HasSuffix(f.Hint.For(check.Names{}), ".") {
			t.Errorf("hint %q", f.Hint.For(check.Names{}))
		}
		if first, _ := utf8.DecodeRuneInString(f.Hint.For(check.Names{})); unicode.IsUpper(first) && !strings.HasPrefix(f.Hint.For(check.Names{}), "Proxmox") {
			t.Errorf("hint %q", f.Hint.For(check.Names{}))
		}
	}
}

// No rendering of an error shows a secret or a control character, or panics, whatever text the server sends.
func TestErrorsAreCleanWhateverIsSaid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		held := rapid.StringMatching(`[A-Za-z0-9]{16,40}`).Draw(t, "secret")
		c := check.NewCleaner(check.NewSecret(held))
		junk := rapid.SampledFrom([]string{
			"%s", "Permission check failed (/access/%s, %s|Sys.Audit)", "Validation error: unexpected issuer URI `%s` (expected `%s`)",
			"add auth server failed: unexpected property '%s'", "domain '%s' does not exist", "\x1b[31m%s\x00\xff", "got lock request timeout %s",
		}).Draw(t, "text")
		said := strings.ReplaceAll(junk, "%s", held) + rapid.String().Draw(t, "tail")
		status := rapid.SampledFrom([]int{400, 401, 403, 404, 418, 500, 501, 502, 506, 595, 596, 599}).Draw(t, "status")
		path := rapid.SampledFrom([]string{"/access/domains", "/access/domains/authelia", "/access/openid/auth-url", "/access/openid/login", "/version", "/access/users"}).Draw(t, "path")
		fields := map[string]string{"prompt": said, held: "property is not defined in schema " + held}
		if rapid.Bool().Draw(t, "plain") {
			fields = nil
		}
		err := fmt.Errorf("wrapped: %w", proxmox.Classify(realm.VE, status, "PUT", path, said, fields, c))

		var out strings.Builder
		var walk func(error)
		walk = func(err error) {
			fmt.Fprintf(&out, "%v %+v %q %s\n", err, err, err, err)
			switch x := err.(type) {
			case interface{ Unwrap() error }:
				if x.Unwrap() != nil {
					walk(x.Unwrap())
				}
			case interface{ Unwrap() []error }:
				for _, e := range x.Unwrap() {
					walk(e)
				}
			}
		}
		walk(err)
		var e *proxmox.Error
		if !errors.As(err, &e) {
			t.Fatal("no error of ours")
		}
		raw, _ := json.Marshal(e)
		out.Write(raw)
		var f *check.Error
		if !errors.As(err, &f) || f.Message == "" {
			t.Fatal("no fault")
		}
		out.WriteString(f.Message + f.Hint.For(check.Names{}))
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "err", err)
		if strings.Contains(out.String(), held) {
			t.Fatalf("shows the secret: %s", out.String())
		}
		for _, text := range []string{f.Message, f.Hint.For(check.Names{}), e.Reason} {
			if strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }) || !utf8.ValidString(text) {
				t.Fatalf("not printable: %q", text)
			}
		}
	})
}

func FuzzReason(f *testing.F) {
	for _, tt := range texts {
		f.Add(tt.status, tt.path, tt.said)
	}
	f.Add(403, "/access/domains", "Permission check failed (/access/realm, Realm.Allocate|Sys.Audit)")
	f.Add(500, "/access/domains", "unexpected property '")
	f.Fuzz(func(t *testing.T, status int, path, said string) {
		e := proxmox.Classify(realm.VE, status, "PUT", path, said, nil, nil)
		if e.Kind == "" || e.Error() == "" || !utf8.ValidString(e.Reason) || utf8.RuneCountInString(e.Reason) > check.MaxText {
			t.Fatalf("%+v", e)
		}
		if errors.Is(e, realm.ErrLost) {
			t.Fatal("an answer is not lost")
		}
	})
}
