package issuer_test

import (
	"regexp"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/issuer"
	lab "proxmox-realm/internal/lab/issuer"
	"proxmox-realm/internal/realm"
)

var (
	setLine   = regexp.MustCompile(`^set \{realm\.([a-z_]+)\} to (\S+?|\[.*?\])(?:,? \(?(?:and|with|before|if|a discovery|where) .*)?$`)
	unsetLine = regexp.MustCompile(`^add ([a-z_]+) to \{realm\.unset\}$`)
)

// obey does what a line of a hint says, as far as it is about the realm, and tells whether it did.
func obey(l realm.Login, line string) (realm.Login, bool) {
	if m := unsetLine.FindStringSubmatch(line); m != nil {
		switch m[1] {
		case "prompt":
			l.Prompt = ""
		case "client_key":
			l.ClientKey = check.Secret{}
		case "acr_values":
			l.ACRValues = nil
		default:
			return l, false
		}
		return l, true
	}
	m := setLine.FindStringSubmatch(line)
	if m == nil {
		return l, false
	}
	list := strings.FieldsFunc(strings.Trim(m[2], "[]"), func(r rune) bool { return r == ',' || r == ' ' })
	switch m[1] {
	case "issuer_url":
		l.IssuerURL = m[2]
	case "scopes":
		l.Scopes = list
	case "username_claim":
		l.UsernameClaim = m[2]
	case "prompt":
		l.Prompt = m[2]
	case "query_userinfo":
		l.QueryUserinfo = m[2] == "true"
	default:
		return l, false
	}
	return l, true
}

// TestHintsLeadSomewhere is a law over findings: each line that is about the realm changes it. Then the finding is gone, or it
// is another one. A hint never proposes what is so already.
func TestHintsLeadSomewhere(t *testing.T) {
	ask := func(do func(*realm.Login)) func(*lab.Server, *realm.Login) {
		return func(_ *lab.Server, l *realm.Login) { do(l) }
	}
	set := func(member string, value any, more ...func(*realm.Login)) func(*lab.Server, *realm.Login) {
		return func(s *lab.Server, l *realm.Login) {
			s.SetMetadata(member, value)
			for _, do := range more {
				do(l)
			}
		}
	}
	heeded := 0
	for name, with := range map[string]func(*lab.Server, *realm.Login){
		"a slash":                func(s *lab.Server, _ *realm.Login) { s.SetIssuer(s.URL() + "/") },
		"the well-known path":    ask(func(l *realm.Login) { l.IssuerURL += "/.well-known/openid-configuration" }),
		"no scheme":              ask(func(l *realm.Login) { l.IssuerURL = strings.TrimPrefix(l.IssuerURL, "https://") }),
		"a path too much":        ask(func(l *realm.Login) { l.IssuerURL += "/auth" }),
		"an endpoint":            ask(func(l *realm.Login) { l.IssuerURL += "/api/oidc/authorization" }),
		"another host":           func(s *lab.Server, _ *realm.Login) { s.SetIssuer("https://auth.example.test") },
		"another path":           func(s *lab.Server, _ *realm.Login) { s.SetIssuer(s.URL() + "/global") },
		"switched off":           func(s *lab.Server, _ *realm.Login) { s.SetHabits(lab.Habits{Off: true}) },
		"no userinfo":            set("userinfo_endpoint", nil),
		"http endpoints":         set("token_endpoint", "http://auth.example.test/token"),
		"no Basic":               set("token_endpoint_auth_methods_supported", []string{"private_key_jwt"}),
		"an unknown scope":       ask(func(l *realm.Login) { l.Scopes = append(l.Scopes, "roles") }),
		"a scope too few":        ask(func(l *realm.Login) { l.Scopes = []string{"openid", "email"} }),
		"groups without a scope": ask(func(l *realm.Login) { l.GroupsClaim = "groups" }),
		"sub":                    ask(func(l *realm.Login) { l.UsernameClaim = "sub" }),
		"names with blanks":      ask(func(l *realm.Login) { l.UsernameClaim = "name" }),
		"an unknown claim":       ask(func(l *realm.Login) { l.UsernameClaim = "uid" }),
		"the advertised claim":   set("claims_supported", []string{"sub", "email"}),
		"email, not advertised":  set("claims_supported", []string{"sub", "name"}, func(l *realm.Login) { l.UsernameClaim = "email" }),
		"no claims of users":     set("claims_supported", []string{"sub", "iss"}),
		"a path":                 ask(func(l *realm.Login) { l.GroupsClaim = "realm_access.roles" }),
		"the ID token alone":     ask(func(l *realm.Login) { l.QueryUserinfo = false }),
		"the prompt none":        ask(func(l *realm.Login) { l.Prompt = "none" }),
		"an unknown prompt":      set("prompt_values_supported", []string{"login", "consent"}, func(l *realm.Login) { l.Prompt = "create" }),
		"an empty key set":       func(s *lab.Server, _ *realm.Login) { s.SetKeys() },
		"a wrong key":            ask(func(l *realm.Login) { l.ClientKey = check.NewSecret("a-wrong-key-0123") }),
		"a public client": func(s *lab.Server, _ *realm.Login) {
			s.SetClient(lab.Client{ID: "proxmox", AuthMethod: "none", RedirectURIs: []string{redirectURL}})
		},
		"a scope that is forbidden": ask(func(l *realm.Login) { l.Scopes = append(l.Scopes, "offline_access") }),
		"no client":                 func(s *lab.Server, _ *realm.Login) { s.RemoveClient("proxmox") },
		"no redirect URL": func(s *lab.Server, _ *realm.Login) {
			s.SetClient(lab.Client{ID: "proxmox", Secret: clientKey, RedirectURIs: []string{"https://x"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, lab.Options{})
			l := login(s.URL())
			with(s, &l)
			find := func(l realm.Login) []check.Check {
				i := client(t, s, issuer.Options{}).Inspect(t.Context(), l.IssuerURL)
				a := i.Client(t.Context(), issuer.Question{Login: l, RedirectURLs: []string{redirectURL}, RedirectsDeclared: true, Depth: issuer.Person})
				v := view(l)
				v.Found = a.Checks
				return append(i.Checks(v), a.Checks...)
			}
			for _, before := range find(l) {
				if before.Status != check.Fail && before.Status != check.Warn {
					continue
				}
				if before.Hint == "" {
					t.Errorf("%s: no hint", before.ID)
				}
				for line := range strings.SplitSeq(string(before.Hint), "\n") {
					changed, ok := obey(l, line)
					if !ok {
						continue
					}
					heeded++
					after, _ := check.Find(find(changed), before.ID)
					if after.Status == before.Status && after.Summary == before.Summary {
						t.Errorf("%s: %s: %q changes nothing", before.ID, before.Summary, line)
					}
				}
			}
		})
	}
	if heeded < 15 {
		t.Errorf("only %d lines could be obeyed", heeded)
	}
}
