package proxmox_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	lab "proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

// administrator connects to the lab as a user who may set up.
func administrator(t *testing.T, s *lab.Server) *proxmox.Client {
	t.Helper()
	return toLab(t, s, lab.TokenRoot, asUserOf(s.User(lab.UserRoot)))
}

// An administrator makes a role, a user and a token; with the grant, the token may keep realms.
func TestAdministration(t *testing.T) {
	s := startLab(t, lab.Options{})
	c := administrator(t, s)
	const role, user, token = "RealmTool", "keeper@pve", "keeper@pve!tool"

	if _, exists, err := c.Role(t.Context(), role); exists || err != nil {
		t.Errorf("role: %t, %v", exists, err)
	}
	if exists, err := c.UserExists(t.Context(), user); exists || err != nil {
		t.Errorf("user: %t, %v", exists, err)
	}
	if _, exists, err := c.TokenComment(t.Context(), user, "tool"); exists || err != nil {
		t.Errorf("token: %t, %v", exists, err)
	}
	if held, err := c.PrivilegesOf(t.Context(), token); len(held) != 0 || err != nil {
		t.Errorf("privileges of nobody: %v, %v", held, err)
	}
	if _, err := c.MakeToken(t.Context(), user, "tool", "x"); !errors.Is(err, realm.ErrConflict) {
		t.Errorf("a token of nobody: %v", err)
	}
	makeRole := func() error { return c.MakeRole(t.Context(), role, "Realm.Allocate", "Sys.Audit") }
	makeUser := func() error { return c.MakeUser(t.Context(), user, "made by a test") }
	var made config.Token
	makeToken := func() (err error) {
		made, err = c.MakeToken(t.Context(), user, "tool", "made by a test")
		return err
	}
	for name, do := range map[string]func() error{"role": makeRole, "user": makeUser} {
		if err := do(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := do(); !errors.Is(err, realm.ErrConflict) {
			t.Errorf("%s made twice: %v", name, err)
		}
	}
	if err := makeToken(); err != nil || made.String() != token || made.Secret.Reveal() == "" {
		t.Fatalf("%v, %v", made, err)
	}
	kept := made
	if err := makeToken(); !errors.Is(err, realm.ErrConflict) {
		t.Errorf("a token made twice: %v", err)
	}
	if privileges, exists, err := c.Role(t.Context(), role); !exists || err != nil || !slices.Equal(privileges, []string{"Realm.Allocate", "Sys.Audit"}) {
		t.Errorf("role: %v, %t, %v", privileges, exists, err)
	}
	if exists, err := c.UserExists(t.Context(), user); !exists || err != nil {
		t.Errorf("user: %t, %v", exists, err)
	}
	if comment, exists, err := c.TokenComment(t.Context(), user, "tool"); comment != "made by a test" || !exists || err != nil {
		t.Errorf("token: %q, %t, %v", comment, exists, err)
	}
	for range 2 { // twice is as once
		if err := c.Grant(t.Context(), "/access/realm", role, user, token); err != nil {
			t.Fatal(err)
		}
	}
	held, err := c.PrivilegesOf(t.Context(), token)
	if err != nil || !held.At("/access/realm")["Realm.Allocate"] {
		t.Errorf("%v, %v", held, err)
	}
	tool := toLab(t, s, lab.TokenRoot, func(o *setup) { o.Token = kept })
	if _, err := tool.Realm(t.Context(), "authelia"); err != nil {
		t.Errorf("the token is of no use: %v", err)
	}
	if err := c.Grant(t.Context(), "/access/realm", "Nonsense", token); check.CodeOf(err) != check.Config {
		t.Errorf("a role that does not exist: %v", err)
	}
	if err := tool.MakeRole(t.Context(), "Other", "Sys.Audit"); check.CodeOf(err) != check.PermissionDenied || !strings.Contains(err.Error(), "Sys.Modify on /access") {
		t.Errorf("without the privilege: %v", err)
	}
	if err := c.RemoveToken(t.Context(), user, "tool"); err != nil {
		t.Error(err)
	}
	if _, exists, err := c.TokenComment(t.Context(), user, "tool"); exists || err != nil {
		t.Errorf("a removed token: %t, %v", exists, err)
	}
}

// The recorded answers about roles, users, tokens and privileges.
func TestRecordedAdministration(t *testing.T) {
	init := read(t, "proxmox-ve-9.2-init.json")
	ask := func(id string, of func(*proxmox.Client) error) error {
		t.Helper()
		r := init[slices.IndexFunc(init, func(r recorded) bool { return r.ID == id })]
		n := start(t, func(c *call) answer {
			if got := c.Method + " " + strings.TrimPrefix(c.URL.EscapedPath(), "/api2/json"); got != strings.Split(r.Method+" "+r.Path, "?")[0] {
				t.Errorf("%s: asked for %s", id, got)
			}
			return r.answer()
		})
		return of(connect(t, nil, n))
	}
	role := func(name string) func(*proxmox.Client) error {
		return func(c *proxmox.Client) error {
			privileges, exists, err := c.Role(t.Context(), name)
			if err == nil && exists != (len(privileges) > 0) {
				t.Errorf("%s: %v", name, privileges)
			}
			return err
		}
	}
	for id, of := range map[string]func(*proxmox.Client) error{
		"role-read": role("rec-RealmTool"), "role-read-missing": role("rec-Missing"),
		"role-create": func(c *proxmox.Client) error { return c.MakeRole(t.Context(), "rec-RealmTool") },
		"user-create": func(c *proxmox.Client) error { return c.MakeUser(t.Context(), "rec-realm@pve", "") },
		"user-read": func(c *proxmox.Client) error {
			exists, err := c.UserExists(t.Context(), "rec-realm@pve")
			if !exists {
				t.Error("the user is there")
			}
			return err
		},
		"user-read-missing": func(c *proxmox.Client) error {
			_, err := c.UserExists(t.Context(), "rec-missing@pve")
			return err
		},
		"token-read-missing": func(c *proxmox.Client) error {
			_, _, err := c.TokenComment(t.Context(), "rec-realm@pve", "tool")
			return err
		},
		"token-create": func(c *proxmox.Client) error {
			token, err := c.MakeToken(t.Context(), "rec-realm@pve", "tool", "made by init")
			if token.Secret.Reveal() != "<secret>" {
				t.Error("no secret")
			}
			return err
		},
		"acl-again": func(c *proxmox.Client) error {
			return c.Grant(t.Context(), "/access/realm", "rec-RealmTool", "rec-realm@pve", "rec-realm@pve!tool")
		},
		"token-permissions": func(c *proxmox.Client) error {
			held, err := c.PrivilegesOf(t.Context(), "rec-realm@pve!tool")
			if !held.At("/access/realm")["Realm.Allocate"] {
				t.Errorf("%v", held)
			}
			return err
		},
	} {
		if err := ask(id, of); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	for id, of := range map[string]func(*proxmox.Client) error{
		"token-create-again": func(c *proxmox.Client) error {
			_, err := c.MakeToken(t.Context(), "rec-realm@pve", "tool", "")
			return err
		},
		"role-create-again": func(c *proxmox.Client) error { return c.MakeRole(t.Context(), "rec-RealmTool") },
		"user-create-again": func(c *proxmox.Client) error { return c.MakeUser(t.Context(), "rec-realm@pve", "") },
	} {
		if err := ask(id, of); !errors.Is(err, realm.ErrConflict) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// The recorded answers about a cluster of three nodes: the state, one node off, no quorum, and the certificates.
func TestRecordedCluster(t *testing.T) {
	all := read(t, "proxmox-ve-9.2-syslog.json")
	node := func(id string) *proxmox.Client {
		r := all[slices.IndexFunc(all, func(r recorded) bool { return r.ID == id })]
		return connect(t, nil, start(t, func(*call) answer { return r.answer() }))
	}
	for id, want := range map[string]struct {
		quorate bool
		online  int
	}{"cluster-status": {true, 3}, "cluster-status-offline": {true, 2}, "cluster-status-no-quorum": {false, 1}} {
		cluster, err := node(id).Cluster(t.Context())
		online := 0
		for _, m := range cluster.Members {
			if m.Online {
				online++
			}
		}
		if err != nil || cluster.Name != "rec" || cluster.Quorate != want.quorate || len(cluster.Members) != 3 || online != want.online ||
			cluster.Members[0] != (proxmox.Member{Name: "pve", Address: "10.77.0.11", Online: true, Local: true}) {
			t.Errorf("%s: %+v, %v", id, cluster, err)
		}
	}
	if _, err := node("cluster-status-no-privilege").Cluster(t.Context()); check.CodeOf(err) != check.PermissionDenied {
		t.Errorf("%v", err)
	}
	nodes, err := node("nodes-offline").Nodes(t.Context())
	if err != nil || len(nodes) != 3 || nodes[2].Online || !strings.HasPrefix(nodes[0].Fingerprint, "E7:A4:C8") {
		t.Errorf("%+v, %v", nodes, err)
	}
	certificates, err := node("certificates").Certificates(t.Context(), "pve")
	if err != nil || len(certificates) < 2 || certificates[0].File != proxmox.AuthorityFile {
		t.Fatalf("%+v, %v", certificates, err)
	}
	block, _ := pem.Decode([]byte(certificates[0].PEM))
	if _, err := x509.ParseCertificate(block.Bytes); err != nil || certificates[0].NotAfter.Year() != 2036 || len(certificates[1].Names) == 0 {
		t.Errorf("%v, %+v", err, certificates[1].Names)
	}
	if _, err := node("certificates-offline").Certificates(t.Context(), "pve3"); check.CodeOf(err) != check.ProxmoxFailed {
		t.Errorf("a node that is off: %v", err)
	}
	alone := connect(t, nil, start(t, func(*call) answer {
		return ok(`[{"type":"node","name":"pve","nodeid":0,"ip":"10.0.0.1","online":1,"local":1}]`)
	}))
	if cluster, err := alone.Cluster(t.Context()); err != nil || cluster.Name != "" || !cluster.Quorate || len(cluster.Members) != 1 {
		t.Errorf("a node in no cluster: %+v, %v", cluster, err)
	}
}

// The password is sent once, the one-time code is asked for only when it is needed, and a user whom only a browser can log in is
// told so.
func TestSecondFactorIsAskedFor(t *testing.T) {
	s := startLab(t, lab.Options{})
	user := s.User(lab.UserTOTP)
	var told [][]string
	c := toLab(t, s, lab.TokenRoot, func(o *setup) {
		asUserOf(user)(o)
		o.SecondFactor = func(_ context.Context, factors []string) (check.Secret, error) {
			told = append(told, factors)
			return check.NewSecret(s.TOTP(lab.UserTOTP)), nil
		}
	})
	if _, err := c.Version(t.Context()); err != nil || len(told) != 1 || !slices.Contains(told[0], "totp") {
		t.Errorf("%v, told %v", err, told)
	}
	if logins(s) != 2 {
		t.Errorf("%s", asked(s))
	}
	for challenge, says := range map[string]string{
		`PVE:!tfa!{"webauthn"%3A{"x"%3A1}%2C"totp"%3Afalse%2C"recovery"%3A"unavailable"}:x`: "has a second factor that only a browser can give: webauthn",
		`PVE:!tfa!{"totp"%3Atrue}:x`: "no one-time code is given",
		`PVE:!tfa!nonsense:x`:        "no one-time code is given",
	} {
		half, _ := json.Marshal(challenge)
		body := `{"data":{"NeedTFA":1,"ticket":` + string(half) + `,"username":"admin@pve","CSRFPreventionToken":"x"}}`
		s := startLab(t, lab.Options{})
		s.Inject(lab.Rule{Path: "/access/ticket", Status: 200, Reason: "OK", Body: body, ContentType: "application/json"})
		_, err := toLab(t, s, lab.TokenRoot, asAdmin(s)).Version(t.Context())
		if check.CodeOf(err) != check.BadCredentials || !strings.Contains(err.Error(), says) || asked(s) != "POST /access/ticket" {
			t.Errorf("%s: %v, %s", challenge, err, asked(s))
		}
	}
	refusal := errors.New("the terminal is gone")
	_, err := toLab(t, s, lab.TokenRoot, func(o *setup) {
		asUserOf(user)(o)
		o.SecondFactor = func(context.Context, []string) (check.Secret, error) { return check.Secret{}, refusal }
	}).Version(t.Context())
	if !errors.Is(err, refusal) {
		t.Errorf("%v", err)
	}
}

// An address is reached without credentials. What is there instead of Proxmox VE is named.
func TestReach(t *testing.T) {
	for name, tt := range map[string]struct {
		says answer
		want string // of the error; "" for none
	}{
		"a node":            {ok(`[{"realm":"pam","type":"pam"},{"realm":"pve","type":"pve"},{"realm":"sso","type":"openid"}]`), ""},
		"another product":   {ok(`[{"realm":"pam","type":"pam"},{"realm":"pbs","type":"pbs"}]`), "is Proxmox Backup Server, not Proxmox VE"},
		"a sign-in proxy":   {answer{Status: 302, Reason: "Found", Header: "Location: https://auth.example.com/?rd=x\r\n"}, "redirects to https://auth.example.com"},
		"a page of another": {answer{Status: 200, Reason: "OK", Type: "text/html", Body: "<html>"}, "it sent a web page"},
		"another service":   {ok(`{"version":1}`), "does not answer GET /access/domains like Proxmox VE"},
	} {
		n := start(t, func(c *call) answer {
			if c.Header.Get("Authorization") != "" || c.Header.Get("Cookie") != "" {
				t.Errorf("%s: credentials were sent", name)
			}
			return tt.says
		})
		realms, err := proxmox.Reach(t.Context(), config.Proxmox{Endpoints: []config.Origin{n.URL}, CA: authorities()}, proxmox.Options{})
		switch {
		case tt.want == "" && (err != nil || len(realms) != 3 || realms[2] != proxmox.NamedRealm{Name: "sso", Type: "openid"}):
			t.Errorf("%s: %v, %v", name, realms, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v", name, err)
		}
	}
	n := start(t, func(*call) answer { return ok(`[]`) })
	_, err := proxmox.Reach(t.Context(), config.Proxmox{Endpoints: []config.Origin{n.URL}}, proxmox.Options{})
	var e *proxmox.Error
	if !errors.As(err, &e) || e.Kind != proxmox.Certificate || len(e.Fingerprint) != 95 {
		t.Errorf("an unknown certificate: %v", err)
	}
}
