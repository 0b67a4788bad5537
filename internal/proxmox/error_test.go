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

// text is what a product says in an answer outside 2xx.
type text struct {
	status       int
	method, path string
	said         string
	kind         proxmox.Kind
}

// texts are messages from the products' sources that no transcript holds. Those of Backup Server are Datacenter Manager's too.
var texts = map[realm.Product][]text{
	realm.VE: {
		{500, "PUT", "/access/domains/authelia", "update auth server failed: cfs-lock 'file-domains_cfg' error: got lock request timeout", proxmox.LockTimeout},
		{500, "PUT", "/access/domains/authelia", "update auth server failed: error with cfs lock 'file-domains_cfg': got lock request timeout", proxmox.LockTimeout},
		{500, "DELETE", "/access/domains/authelia", "delete auth server failed: can't lock file '/var/lock/pve-domains.lck' - got timeout", proxmox.LockTimeout},
		{500, "POST", "/access/domains", "add auth server failed: cfs-lock 'file-domains_cfg' error: got lock timeout - aborting command", proxmox.LockTimeout},
		{500, "POST", "/access/domains", "cluster not ready - no quorum?", proxmox.NoQuorum},
		{500, "POST", "/access/domains", "add auth server failed: unable to open file '/etc/pve/domains.cfg.tmp.123' - Permission denied", proxmox.NoQuorum},
		{500, "POST", "/access/openid/auth-url", "Validation error: unexpected issuer URI `https://auth.example.com` (expected `https://auth.example.com/`)", proxmox.IssuerMismatch},
		{500, "POST", "/access/openid/auth-url", "Failed to parse server response", proxmox.IssuerDocument},
		{500, "POST", "/access/openid/auth-url", "Server returned invalid response: no", proxmox.IssuerDocument},
		{500, "POST", "/access/openid/auth-url", "Validation error: unsupported", proxmox.IssuerDocument},
		{500, "POST", "/access/openid/auth-url", "relative URL without a base", proxmox.IssuerURL},
		{500, "POST", "/access/openid/auth-url", "Failed to parse URL", proxmox.IssuerURL},
		{500, "POST", "/access/openid/auth-url", "Request failed", proxmox.IssuerUnreachable},
		{500, "POST", "/access/openid/auth-url", "too many pending openid auth request", proxmox.TooManyPending},
		{596, "POST", "/access/openid/auth-url", "Connection timed out", proxmox.IssuerHung},
		{595, "POST", "/access/openid/auth-url", "Connection refused", proxmox.Unavailable},
		{500, "GET", "/access/domains/authelia", "Request failed", proxmox.Failed},
		{595, "GET", "/access/domains/authelia", "Connection refused", proxmox.Unavailable},
		{596, "GET", "/access/domains/authelia", "Connection timed out", proxmox.Unavailable},
		{599, "PUT", "/access/domains/authelia", "Too many redirections", proxmox.Unavailable},
		{408, "PUT", "/access/domains/authelia", "Request Timeout", proxmox.Failed},
		{500, "PUT", "/access/domains/authelia", "update auth server failed: type check ('boolean') failed - got 'x'", proxmox.Invalid},
		{401, "GET", "/version", "permission denied - invalid PVE ticket", proxmox.BadCredentials},
		{401, "PUT", "/access/domains/authelia", "Permission denied - invalid csrf token", proxmox.BadCredentials},
		{403, "PUT", "/access/domains/authelia", "Permission check failed (user != root@pam)", proxmox.PermissionDenied},
		{404, "GET", "/version", "Not Found", proxmox.NotProxmox},
		{429, "GET", "/version", "Too Many Requests", proxmox.Failed},
		{503, "GET", "/version", "Service Unavailable", proxmox.Failed},
		{500, "GET", "/access/domains/authelia", "got no worker upid - start worker failed", proxmox.Failed},
		{500, "PUT", "/access/domains/authelia", "update auth server failed: unable to parse: the comment says domain 'x", proxmox.Failed},
	},
	realm.BackupServer: {
		{400, "PUT", "/config/access/openid/authelia", `Unable to acquire lock "/etc/proxmox-backup/.domains.lck" - Interrupted system call (os error 4)`, proxmox.LockTimeout},
		{400, "PUT", "/config/access/openid/authelia", "client error (Connect)", proxmox.Unavailable},
		{400, "GET", "/access/users", "client error (Connect)", proxmox.Unavailable},
		{400, "PUT", "/config/access/openid/authelia", "client error (SendRequest)", proxmox.NoAnswer},
		{400, "POST", "/access/openid/login", "client error (SendRequest)", proxmox.LoginRefused},
		{401, "POST", "/access/openid/login", "Failed to contact token endpoint: Request failed", proxmox.LoginRefused},
		{400, "POST", "/access/openid/auth-url", "got unexpected type 'pam' for openid 'pam'", proxmox.WrongType},
		{400, "POST", "/access/openid/auth-url", "Validation error: unexpected issuer URI `https://auth.example.com` (expected `https://auth.example.com/`)", proxmox.IssuerMismatch},
		{400, "POST", "/access/openid/auth-url", `Server returned invalid response: Unexpected response Content-Type: "text/html", should be application/json`, proxmox.IssuerDocument},
		{400, "POST", "/access/openid/auth-url", "Failed to parse server response", proxmox.IssuerDocument},
		{400, "POST", "/access/openid/auth-url", "Validation error: unsupported", proxmox.IssuerDocument},
		{400, "POST", "/access/openid/auth-url", "relative URL without a base", proxmox.IssuerURL},
		{400, "POST", "/access/openid/auth-url", "Failed to parse URL", proxmox.IssuerURL},
		{400, "POST", "/access/openid/auth-url", "too many pending openid auth request for realm authelia", proxmox.TooManyPending},
		{400, "POST", "/access/users/rec-realm@pbs/token/tool", "token 'tool' for user 'rec-realm@pbs' already exists.", proxmox.Exists},
		{400, "POST", "/config/access/openid", "Request body too large", proxmox.Failed},
		{414, "GET", "/config/access/openid/authelia", "", proxmox.Failed},
		{501, "PUT", "/access/users/jane@sso", "not implemented", proxmox.Failed},
		{502, "GET", "/version", "Bad Gateway", proxmox.Failed},
	},
}

// Each text has the right kind and code. The messages have one style: hints begin in lower case and have no full stop, and only
// refused parameters may have none.
func TestTexts(t *testing.T) {
	for _, p := range realm.Products() {
		for _, tt := range texts[min(p, realm.BackupServer)] {
			e := isKind(t, p.String()+" "+tt.said, proxmox.Classify(p, tt.status, tt.method, tt.path, tt.said, nil, nil), tt.kind)
			hint := hintOf(e)
			first, _ := utf8.DecodeRuneInString(hint)
			if hint == "" && tt.kind != proxmox.Invalid || strings.HasSuffix(hint, ".") || unicode.IsUpper(first) {
				t.Errorf("%v: %s: hint %q", p, tt.said, hint)
			}
			if tt.kind == proxmox.IssuerMismatch && (e.Found != "https://auth.example.com" || hint != "set realm.issuer_url to https://auth.example.com (if its document is there)") {
				t.Errorf("%v: %q, %q", p, e.Found, hint)
			}
		}
	}
}

// For each row of the tables, some recorded or listed text matches this row first.
func TestEveryPhraseIsUsed(t *testing.T) {
	for _, p := range realm.Products() {
		recordings := min(p, realm.BackupServer)
		met := slices.Clone(texts[recordings])
		for _, r := range exchanges(t, transcripts[recordings]...) {
			path, _, _ := strings.Cut(r.Path, "?")
			met = append(met, text{path: path, said: r.Response.Reason}, text{path: path, said: string(r.Response.Body)})
		}
		phrases := proxmox.Phrases(p)
		used := map[int]bool{}
		for _, m := range met {
			used[slices.IndexFunc(phrases, func(f proxmox.Phrase) bool { return strings.HasPrefix(m.path, f.Path) && contains(m.said, f.Text) })] = true
		}
		for i, f := range phrases {
			if !used[i] {
				t.Errorf("%v: no text reaches the phrase %q on %q", p, f.Text, f.Path)
			}
		}
	}
}

// contains tells whether a text holds the parts of a phrase, which % separates.
func contains(said, phrase string) bool {
	before, after, _ := strings.Cut(phrase, "%")
	_, rest, ok := strings.Cut(said, before)
	return ok && strings.Contains(rest, after)
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
	for _, tt := range texts[realm.VE] {
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
