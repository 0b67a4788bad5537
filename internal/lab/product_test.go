package lab_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/lab/pbs"
)

// eachProduct runs a test with a lab of Backup Server, and with one of Datacenter Manager.
func eachProduct(t *testing.T, seed string, test func(t *testing.T, l *lab.Lab)) {
	t.Helper()
	for name, product := range pbs.Products {
		t.Run(name, func(t *testing.T) { test(t, start(t, lab.Options{Seed: seed, PBS: &pbs.Options{Product: product}})) })
	}
}

// TestLoginThroughOtherProducts: a login makes a user without any right.
func TestLoginThroughOtherProducts(t *testing.T) {
	eachProduct(t, "converged", func(t *testing.T, l *lab.Lab) {
		if user, err := l.LogIn(t.Context(), l.Username, l.Password, ""); err != nil || user != "john@authelia" {
			t.Fatalf("%s, %v", user, err)
		}
		user := l.PBS.State().Users["john@authelia"]
		if user == nil || user.Email != "john.doe@example.test" || user.Enable != nil {
			t.Errorf("made %+v", user)
		}
	})
}

// TestFailedLoginsOfOtherProducts: the answer to the browser has the reason, and the journal has it with the address.
func TestFailedLoginsOfOtherProducts(t *testing.T) {
	realm := func(key, value string) func(*lab.Lab, *pbs.State) {
		return func(_ *lab.Lab, st *pbs.State) { st.Realms[2].Properties[key] = value }
	}
	no, past := false, int64(1)
	for name, x := range map[string]struct {
		change     func(*lab.Lab, *pbs.State)
		user       string
		want, name string // the reason, and the user in the journal
	}{
		"old key":       {change: realm("client-key", "old"), want: "Failed to contact token endpoint: Request failed"},
		"no claim":      {change: realm("username-claim", "department"), want: "missing claim 'department'"},
		"list as claim": {change: realm("username-claim", "groups"), want: "missing claim 'groups'"},
		"no autocreate": {change: realm("autocreate", "false"), want: "user account 'john@authelia' missing, disabled or expired.", name: "john"},
		"disabled": {change: func(_ *lab.Lab, st *pbs.State) {
			st.Users["john@authelia"] = &pbs.User{UserConfig: pbs.UserConfig{Enable: &no}}
		}, want: "user 'john@authelia' is disabled.", name: "john"},
		"expired": {change: func(_ *lab.Lab, st *pbs.State) {
			st.Users["john@authelia"] = &pbs.User{UserConfig: pbs.UserConfig{Expire: &past}}
		}, want: "autocreate user failed - 'john@authelia' already exists.", name: "john"},
		"odd name":       {user: "space man", want: "invalid user name in user id"},
		"slash":          {change: func(l *lab.Lab, st *pbs.State) { st.Realms[2].Properties["issuer-url"] += "/" }, want: "Validation error: unexpected issuer URI `URL` (expected `URL/`)"},
		"no such realm":  {change: func(_ *lab.Lab, st *pbs.State) { st.Realms = st.Realms[:2] }, want: "no such openid 'authelia'"},
		"of another typ": {change: func(_ *lab.Lab, st *pbs.State) { st.Realms[2].Type = "ldap" }, want: "got unexpected type 'ldap' for openid 'authelia'"},
	} {
		t.Run(name, func(t *testing.T) {
			eachProduct(t, "converged", func(t *testing.T, l *lab.Lab) {
				change := func() {
					if x.change == nil {
						return
					}
					if err := l.PBS.Update(func(st *pbs.State) { x.change(l, st) }); err != nil {
						t.Error(err)
					}
				}
				// The login has begun when the realm changes.
				defer l.PBS.Inject(pbs.Rule{Path: "/access/openid/login", Before: change})()
				user := x.user
				if user == "" {
					user = l.Username
				}
				_, err := l.LogIn(t.Context(), user, l.Password, "")
				want := strings.ReplaceAll(x.want, "URL", l.IssuerURL)
				if err == nil || !strings.HasSuffix(err.Error(), "401 Unauthorized "+want) {
					t.Errorf("%v, want %s", err, want)
				}
				logged := " msg=" + want
				if x.name != "" { // the issuer told it
					logged = " user=" + x.name + logged
				}
				if journal := syslog(t, l); !strings.Contains(journal, logged+"\n") {
					t.Errorf("the journal has no %q:\n%s", logged, journal)
				}
			})
		})
	}
}

// syslog returns the journal of the host, as the token for it reads it.
func syslog(t *testing.T, l *lab.Lab) string {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, l.PBS.URL()+"/api2/json/nodes/localhost/syslog", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", strings.ToUpper(l.PBS.Product().Name)+"APIToken="+l.PBS.Token(pbs.TokenLogReader))
	_, body := send(t, client(t, l), request)
	var answer struct{ Data []struct{ T string } }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err, body)
	}
	var text strings.Builder
	for _, line := range answer.Data {
		text.WriteString(line.T + "\n")
	}
	return text.String()
}

// TestSeedsOfOtherProducts: each seed is one of Proxmox VE, without what the product lacks.
func TestSeedsOfOtherProducts(t *testing.T) {
	eachProduct(t, "", func(t *testing.T, l *lab.Lab) {
		names, _ := lab.Seeds()
		for _, name := range append(names, "bare", "converged") {
			if err := l.Seed(name); err != nil {
				t.Fatal(name, err)
			}
			st, defaults := l.PBS.State(), 0
			for _, realm := range st.Realms {
				if realm.Properties["default"] == "true" {
					defaults++
				}
				if realm.Properties["groups-claim"] != "" || realm.Properties["query-userinfo"] != "" {
					t.Errorf("%s: %v", name, realm)
				}
			}
			if most := 1; defaults > most {
				t.Errorf("%s: %d default realms", name, defaults)
			}
			if bare := name == "bare"; bare != (len(st.Tokens) == 0) || bare != (len(st.ACL) == 0) || st.Users["root@pam"].Password == "" {
				t.Errorf("%s: %d tokens, %d ACLs", name, len(st.Tokens), len(st.ACL))
			}
		}
		if names := clientIDs(l); len(names) != 2 {
			t.Errorf("clients %v", names)
		}
	})
}

func clientIDs(l *lab.Lab) (ids []string) {
	for _, id := range []string{l.ClientID, lab.OtherClient} {
		if client, ok := l.Issuer.Client(id); ok && client.ID != "" {
			ids = append(ids, id)
		}
	}
	return ids
}
