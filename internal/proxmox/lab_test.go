package proxmox_test

import (
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	lab "proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

func startLab(t *testing.T, o lab.Options) *lab.Server {
	t.Helper()
	s, err := lab.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func toLab(t *testing.T, s *lab.Server, token string, change func(*setup)) *proxmox.Client {
	t.Helper()
	return connect(t, func(o *setup) {
		o.CA = x509.NewCertPool()
		o.CA.AppendCertsFromPEM(s.CertificatePEM())
		o.Endpoints, o.Token = []config.Origin{config.Origin(s.URL())}, tokenOf(t, s.Token(token))
		if change != nil {
			change(o)
		}
	})
}

// asUserOf makes a client log in as a user of the lab.
func asUserOf(user lab.Credentials) func(*setup) {
	return func(o *setup) {
		name, of, _ := strings.Cut(user.Username, "@")
		o.Token, o.Username, o.Password = config.Token{}, config.UserID{Name: name, Realm: of}, check.NewSecret(user.Password)
	}
}

// Creates, updates and deletes a realm, each twice.
func TestLifeOfARealm(t *testing.T) {
	s := startLab(t, lab.Options{})
	c := toLab(t, s, lab.TokenRealmAllocate, nil)
	read := func() realm.Current {
		t.Helper()
		got, err := c.Realm(t.Context(), "authelia")
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if read().Exists {
		t.Fatal("there already")
	}
	create := plan(t, realm.Current{}, realm.Values{realm.ClientKey: realm.Key(check.NewSecret("key-number-one"))})
	if err := c.Create(t.Context(), create); err != nil {
		t.Fatal(err)
	}
	if err := c.Create(t.Context(), create); !errors.Is(err, realm.ErrConflict) || check.CodeOf(err) != check.Conflict {
		t.Errorf("created twice: %v", err)
	}
	first := read()
	update := plan(t, first, realm.Values{realm.Scopes: realm.Text("openid email")})
	if err := c.Update(t.Context(), "authelia", update); err != nil {
		t.Fatal(err)
	}
	if err := c.Update(t.Context(), "authelia", update); !errors.Is(err, realm.ErrConflict) {
		t.Errorf("a stale digest: %v", err)
	}
	if got := read(); got.Values[realm.Scopes].String() != "openid email" || got.Digest == first.Digest {
		t.Errorf("%+v", got)
	}
	if err := c.Delete(t.Context(), "authelia", "d1"); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), "authelia", "d1"); !errors.Is(err, realm.ErrConflict) {
		t.Errorf("deleted twice: %v", err)
	}
	if err := c.Update(t.Context(), "authelia", update); !errors.Is(err, realm.ErrConflict) {
		t.Errorf("updated what is gone: %v", err)
	}
	if read().Exists {
		t.Error("still there")
	}
}

func TestBudget(t *testing.T) {
	s := startLab(t, lab.Options{})
	if err := toLab(t, s, lab.TokenRoot, nil).Create(t.Context(), plan(t, realm.Current{}, nil)); err != nil {
		t.Fatal(err)
	}
	s.Reset()
	if _, err := toLab(t, s, lab.TokenRealmAllocate, nil).Realm(t.Context(), "authelia"); err != nil {
		t.Fatal(err)
	}
	if h := s.Handshakes(); h.Full != 1 || h.Resumed != 0 || len(s.Requests()) != 1 {
		t.Errorf("%+v, %d requests", h, len(s.Requests()))
	}
}

// Checks which token may read realms, write them and see users.
func TestPrivileges(t *testing.T) {
	s := startLab(t, lab.Options{})
	create := plan(t, realm.Current{}, nil)
	if err := toLab(t, s, lab.TokenRoot, nil).Create(t.Context(), create); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		token     string
		reads     check.Code
		writes    check.Code
		seesUsers bool
	}{
		{lab.TokenRoot, "", "", true},
		{lab.TokenRealmAllocate, "", "", false},
		{lab.TokenSysAudit, "", check.PermissionDenied, false},
		{lab.TokenNoPrivilege, check.PermissionDenied, check.PermissionDenied, false},
		{lab.TokenPrivsepWithoutACL, check.PermissionDenied, check.PermissionDenied, false},
	} {
		c := toLab(t, s, tt.token, nil)
		current, err := c.Realm(t.Context(), "authelia")
		if err != nil && check.CodeOf(err) != tt.reads || err == nil && tt.reads != "" {
			t.Errorf("%s reads: %v", tt.token, err)
		}
		if err != nil {
			current = stored(t, storedRealm)
		}
		err = c.Update(t.Context(), "authelia", plan(t, current, realm.Values{realm.Comment: realm.Text("by " + tt.token)}))
		if err != nil && check.CodeOf(err) != tt.writes || err == nil && tt.writes != "" {
			t.Errorf("%s writes: %v", tt.token, err)
		}
		users, err := c.CountUsers(t.Context(), "pve")
		if err != nil || users.Visible != tt.seesUsers {
			t.Errorf("%s sees users: %+v, %v", tt.token, users, err)
		}
		if held, err := c.Permissions(t.Context(), "/access/realm"); err != nil || held["Realm.Allocate"] != (tt.writes == "") {
			t.Errorf("%s: %v, %v", tt.token, held, err)
		}
	}
	wrong := toLab(t, s, lab.TokenRoot, func(o *setup) { o.Token = tokenOf(t, s.Token(lab.TokenRoot)+"x") })
	s.Reset()
	if _, err := wrong.Realm(t.Context(), "authelia"); check.CodeOf(err) != check.BadCredentials || len(s.Requests()) != 1 {
		t.Errorf("%v, %d requests", err, len(s.Requests()))
	}
}

// Older nodes reject newer properties and use older forms of /version.
func TestGenerations(t *testing.T) {
	for version, unknown := range map[string][]realm.Property{
		"9.2.11": nil,
		"9.0.3":  {realm.Audiences},
		"8.1.4":  {realm.Audiences, realm.GroupsClaim},
		"7.4-3":  {realm.Audiences, realm.GroupsClaim},
	} {
		s := startLab(t, lab.Options{Version: version})
		c := toLab(t, s, lab.TokenRealmAllocate, nil)
		want, err := realm.ParseVersion(realm.VE, version)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Version(t.Context()); err != nil || got != want {
			t.Errorf("%s: %v, %v", version, got, err)
		}
		if got, err := c.Realm(t.Context(), "authelia"); err != nil || got.Exists {
			t.Errorf("%s: %+v, %v", version, got, err)
		}
		err = c.Create(t.Context(), plan(t, realm.Current{}, realm.Values{
			realm.Audiences: realm.Text("x"), realm.GroupsClaim: realm.Text("groups"),
		}))
		var e *realm.UnknownPropertyError
		errors.As(err, &e)
		if e == nil && unknown != nil || e != nil && !slices.Equal(e.Properties, unknown) || unknown == nil && err != nil {
			t.Errorf("%s: %v", version, err)
		}
	}
}

// A DELETE may take effect after its client timed out.
func TestLateDelete(t *testing.T) {
	s := startLab(t, lab.Options{})
	if err := toLab(t, s, lab.TokenRoot, nil).Create(t.Context(), plan(t, realm.Current{}, nil)); err != nil {
		t.Fatal(err)
	}
	let, gone := make(chan struct{}), make(chan struct{})
	s.Inject(lab.Rule{Method: http.MethodDelete, Until: let, Count: 1, After: func() { close(gone) }})
	s.Reset()
	c := toLab(t, s, lab.TokenRealmAllocate, func(o *setup) { o.Timeout = 200 * time.Millisecond })
	err := c.Delete(t.Context(), "authelia", "d1")
	if !errors.Is(err, realm.ErrLost) || check.CodeOf(err) != check.Unreachable {
		t.Fatalf("%v", err)
	}
	if _, there := s.Realm("authelia"); !there {
		t.Fatal("gone already")
	}
	close(let)
	<-gone
	if got, err := toLab(t, s, lab.TokenRealmAllocate, nil).Realm(t.Context(), "authelia"); err != nil || got.Exists {
		t.Errorf("%+v, %v", got, err)
	}
	deletes := 0
	for _, r := range s.Requests() {
		if r.Method == http.MethodDelete {
			deletes++
		}
	}
	if deletes != 1 {
		t.Errorf("%d DELETEs", deletes)
	}
}

// A write takes effect although its answer is lost.
func TestLostAnswers(t *testing.T) {
	for name, rule := range map[string]lab.Rule{
		"dropped":   {Method: http.MethodPost, DropAnswer: true, Count: 1},
		"truncated": {Method: http.MethodPost, Truncate: true, Count: 1},
		"596":       {Method: http.MethodPost, Status: 596, Reason: "Connection timed out", Process: true, Count: 1},
	} {
		s := startLab(t, lab.Options{})
		s.Inject(rule)
		c := toLab(t, s, lab.TokenRealmAllocate, nil)
		err := c.Create(t.Context(), plan(t, realm.Current{}, nil))
		if !errors.Is(err, realm.ErrLost) || len(s.Requests()) != 1 {
			t.Errorf("%s: %v, %d requests", name, err, len(s.Requests()))
		}
		if got, err := c.Realm(t.Context(), "authelia"); err != nil || !got.Exists {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestLockAndQuorum(t *testing.T) {
	s := startLab(t, lab.Options{LockTimeout: time.Millisecond})
	c := toLab(t, s, lab.TokenRealmAllocate, nil)
	release := s.HoldLock()
	if err := c.Create(t.Context(), plan(t, realm.Current{}, nil)); check.CodeOf(err) != check.LockTimeout || errors.Is(err, realm.ErrLost) {
		t.Errorf("%v", err)
	}
	release()
	s.SetQuorum(false)
	if err := c.Create(t.Context(), plan(t, realm.Current{}, nil)); check.CodeOf(err) != check.NoQuorum {
		t.Errorf("%v", err)
	}
	s.SetQuorum(true)
	if err := c.Create(t.Context(), plan(t, realm.Current{}, nil)); err != nil {
		t.Error(err)
	}
}

func TestTicketsOfTheLab(t *testing.T) {
	s := startLab(t, lab.Options{})
	for _, name := range []string{lab.UserAdmin, lab.UserTOTP} {
		user := s.User(name)
		as := func(o *setup) {
			asUserOf(user)(o)
			if user.TOTPSecret != "" {
				o.OTP = check.NewSecret(s.TOTP(name))
			}
		}
		c := toLab(t, s, lab.TokenRoot, as)
		if _, err := c.Realm(t.Context(), "authelia"); err != nil && check.CodeOf(err) != check.PermissionDenied {
			t.Errorf("%s: %v", name, err)
		}
		if err := c.Create(t.Context(), plan(t, realm.Current{}, nil)); err != nil && check.CodeOf(err) != check.PermissionDenied && check.CodeOf(err) != check.Conflict {
			t.Errorf("%s writes: %v", name, err)
		}
		wrong := toLab(t, s, lab.TokenRoot, func(o *setup) { as(o); o.Password = check.NewSecret("wrong-password") })
		if _, err := wrong.Realm(t.Context(), "authelia"); check.CodeOf(err) != check.BadCredentials {
			t.Errorf("%s with a wrong password: %v", name, err)
		}
	}
	user := s.User(lab.UserTOTP)
	without := toLab(t, s, lab.TokenRoot, asUserOf(user))
	var f *check.Error
	if _, err := without.Realm(t.Context(), "authelia"); !errors.As(err, &f) || f.Code != check.BadCredentials || !strings.Contains(f.Hint.For(check.Names{}), "proxmox.otp") {
		t.Errorf("%v", err)
	}
}

// Limits on size and time end endless and slow answers.
func TestEndlessAndSlow(t *testing.T) {
	s := startLab(t, lab.Options{})
	s.Inject(lab.Rule{Path: "/access/domains/", Endless: true})
	var e *proxmox.Error
	if _, err := toLab(t, s, lab.TokenRoot, nil).Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := toLab(t, s, lab.TokenRoot, nil).Create(t.Context(), plan(t, realm.Current{}, nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := toLab(t, s, lab.TokenRoot, nil).Realm(t.Context(), "authelia"); !errors.As(err, &e) || e.Kind != proxmox.NotProxmox {
		t.Errorf("endless: %v", err)
	}
	s.Inject(lab.Rule{Path: "/access/domains/", Slow: 50 * time.Millisecond})
	slow := toLab(t, s, lab.TokenRoot, func(o *setup) { o.Timeout = 300 * time.Millisecond })
	if _, err := slow.Realm(t.Context(), "authelia"); !errors.As(err, &e) || e.Kind != proxmox.NoAnswer {
		t.Errorf("slow: %v", err)
	}
}
