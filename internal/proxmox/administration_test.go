package proxmox_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/lab/pbs"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

// An administrator makes a role, a user and a token; with the grant, the token may keep realms.
func TestAdministration(t *testing.T) {
	s := startVE(t, pve.Options{})
	c := connect(t, s, pve.TokenRoot, as(s, pve.UserRoot))
	ctx := t.Context()
	const role, user, token = "RealmTool", "keeper@pve", "keeper@pve!tool"
	there := func(want bool) {
		t.Helper()
		privileges, hasRole, err := c.Role(ctx, role)
		hasUser, err2 := c.UserExists(ctx, user)
		comment, hasToken, err3 := c.TokenComment(ctx, user, "tool")
		if err := errors.Join(err, err2, err3); err != nil || hasRole != want || hasUser != want || hasToken != want ||
			want && (comment != "made by a test" || !slices.Equal(privileges, []string{"Realm.Allocate", "Sys.Audit"})) {
			t.Errorf("%v: role %t %v, user %t, token %t %q", err, hasRole, privileges, hasUser, hasToken, comment)
		}
	}
	there(false)
	if held, err := c.PrivilegesOf(ctx, token); len(held) != 0 || err != nil {
		t.Errorf("privileges of nobody: %v, %v", held, err)
	}
	var made config.Token
	makeToken := func() error {
		got, err := c.MakeToken(ctx, user, "tool", "made by a test")
		if err == nil {
			made = got
		}
		return err
	}
	if err := makeToken(); !errors.Is(err, realm.ErrConflict) {
		t.Errorf("a token of nobody: %v", err)
	}
	if _, err := c.MakeToken(ctx, "nobody", "tool", ""); check.CodeOf(err) != check.Usage {
		t.Errorf("a token of a user without realm: %v", err)
	}
	for _, do := range []func() error{
		func() error { return c.MakeRole(ctx, role, "Realm.Allocate", "Sys.Audit") },
		func() error { return c.MakeUser(ctx, user, "made by a test") },
		makeToken,
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if err := do(); !errors.Is(err, realm.ErrConflict) {
			t.Errorf("made twice: %v", err)
		}
	}
	there(true)
	for range 2 { // twice is as once
		if err := c.Grant(ctx, "/access/realm", role, user, token); err != nil {
			t.Fatal(err)
		}
	}
	if held, err := c.PrivilegesOf(ctx, token); err != nil || !held.At("/access/realm")["Realm.Allocate"] {
		t.Errorf("%v, %v", held, err)
	}
	tool := connect(t, s, pve.TokenRoot, func(o *setup) { o.Token = made })
	if made.String() != token || read(t, tool).Exists {
		t.Errorf("the token is of no use: %v", made)
	}
	isKind(t, "a role that does not exist", c.Grant(ctx, "/access/realm", "Nonsense", token), proxmox.UnknownRole)
	if err := tool.MakeRole(ctx, "Other", "Sys.Audit"); check.CodeOf(err) != check.PermissionDenied || !strings.Contains(err.Error(), "Sys.Modify on /access") {
		t.Errorf("without the privilege: %v", err)
	}
	if err := c.RemoveToken(ctx, user, "tool"); err != nil {
		t.Error(err)
	}
	if _, exists, err := c.TokenComment(ctx, user, "tool"); exists || err != nil {
		t.Errorf("a removed token: %t, %v", exists, err)
	}
	_, hollow := failing(t, realm.VE, ok(`{"value":""}`))
	_, err := hollow.MakeToken(ctx, user, "tool", "")
	isKind(t, "no secret", err, proxmox.NotProxmox)
}

// The recorded answers about a cluster of three nodes: the state, one node off, no quorum, and the certificates.
func TestRecordedCluster(t *testing.T) {
	node := func(id string) *proxmox.Client {
		_, c := failing(t, realm.VE, exchangeOf(t, realm.VE, id).rule())
		return c
	}
	for id, quorate := range map[string]bool{"cluster-status": true, "cluster-status-offline": true, "cluster-status-no-quorum": false} {
		cluster, err := node(id).Cluster(t.Context())
		if err != nil || cluster.Name != "rec" || cluster.Quorate != quorate || len(cluster.Members) != 3 || cluster.Members[0] != (proxmox.Member{Name: "pve", Address: "10.77.0.11"}) {
			t.Errorf("%s: %+v, %v", id, cluster, err)
		}
	}
	nodes, err := node("nodes-offline").Nodes(t.Context())
	if err != nil || len(nodes) != 3 || !nodes[0].Online || nodes[2].Online || !strings.HasPrefix(nodes[0].Fingerprint, "E7:A4:C8") {
		t.Errorf("%+v, %v", nodes, err)
	}
	certificates, err := node("certificates").Certificates(t.Context(), "pve")
	if err != nil || len(certificates) < 2 || certificates[0].File != proxmox.AuthorityFile {
		t.Fatalf("%+v, %v", certificates, err)
	}
	block, _ := pem.Decode([]byte(certificates[0].PEM))
	if _, err := x509.ParseCertificate(block.Bytes); err != nil || len(certificates[1].Names) == 0 {
		t.Errorf("%v, %+v", err, certificates[1].Names)
	}
	alone := connect(t, start(t, realm.VE), pve.TokenRoot)
	if cluster, err := alone.Cluster(t.Context()); err != nil || cluster.Name != "" || !cluster.Quorate || len(cluster.Members) != 1 {
		t.Errorf("a node in no cluster: %+v, %v", cluster, err)
	}
}

// An answer that shows another product says which one it is, and costs one request more.
func TestAnotherProduct(t *testing.T) {
	for _, there := range realm.Products() {
		s := start(t, there)
		for _, declared := range realm.Products() {
			s.Reset()
			_, err := connect(t, s, pve.TokenRoot, withToken(t, declared), func(o *setup) { o.Product = declared }).Realm(t.Context(), "authelia")
			requests := len(s.Requests())
			if declared == there {
				if isKind(t, "a wrong secret", err, proxmox.BadCredentials); requests != 1 {
					t.Errorf("%v: %s", declared, asked(s))
				}
				continue
			}
			var e *check.Error
			if !errors.As(err, &e) || e.Code != check.Config || e.Key != "proxmox.product" || requests != 2 ||
				!strings.Contains(e.Message, " is "+there.Name()+", not "+declared.Name()) ||
				!strings.Contains(string(e.Hint), "set {proxmox.product} to "+there.String()) {
				t.Errorf("%v at %v: %v, %d requests", declared, there, err, requests)
			}
		}
	}
}

// What stands before Proxmox is named, with the way past it.
func TestFrontsAreNamed(t *testing.T) {
	for _, tt := range []struct {
		front      pve.Rule
		says, hint string
	}{
		{redirect(302, "https://login.example.com/?rd=x"), "it redirects to https://login.example.com/?rd=x with status 302 Found, as a sign-in proxy does", "address of the node itself"},
		{redirect(301, "/"), "it redirects to / with status 301 Moved Permanently", "address of the node itself"},
		{page(200, "<!doctype html>Sign in"), "it sent a web page with status 200 OK, as a sign-in proxy", "sign-in page"},
		{page(401, "<html>"), "it sent a web page with status 401", "sign-in page"},
		{page(503, "<html>No server is available"), "a load balancer or reverse proxy sent its error page with status 503", "the node behind it"},
	} {
		for _, p := range realm.Products() {
			s, c := failing(t, p, tt.front)
			_, err := c.Realm(t.Context(), "authelia")
			isKind(t, tt.says, err, proxmox.NotProxmox)
			if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(hintOf(err), tt.hint) || len(s.Requests()) != 1 {
				t.Errorf("%v: %v; %s", p, err, hintOf(err))
			}
		}
	}
}

// An address is reached without credentials. What is there instead of the product is named.
func TestReach(t *testing.T) {
	reach := func(s server) ([]proxmox.NamedRealm, error) {
		o := config.Proxmox{Endpoints: []config.Origin{config.Origin(s.URL())}, CA: x509.NewCertPool()}
		o.CA.AppendCertsFromPEM(s.CertificatePEM())
		return proxmox.Reach(t.Context(), o, proxmox.Options{})
	}
	s := start(t, realm.VE)
	created(t, connect(t, s, pve.TokenRoot), nil)
	s.Reset()
	realms, err := reach(s)
	if err != nil || len(realms) != 3 || !slices.Contains(realms, proxmox.NamedRealm{Name: "authelia", Type: "openid"}) || s.Requests()[0].Token != "" {
		t.Errorf("%v, %v", realms, err)
	}
	if _, err := reach(startPBS(t, realm.BackupServer)); check.CodeOf(err) != check.Config || !strings.Contains(err.Error(), "is Proxmox Backup Server, not Proxmox VE") || !strings.Contains(hintOf(err), "bootstrap --product pbs") {
		t.Errorf("another product: %v", err)
	}
	other, _ := failing(t, realm.VE, ok(`{"version":1}`))
	if _, err := reach(other); err == nil || !strings.Contains(err.Error(), "does not answer GET /access/domains like Proxmox VE") {
		t.Errorf("another service: %v", err)
	}
	_, err = proxmox.Reach(t.Context(), config.Proxmox{Endpoints: []config.Origin{config.Origin(s.URL())}}, proxmox.Options{})
	if e := isKind(t, "an unknown certificate", err, proxmox.Certificate); len(e.Fingerprint) != 95 {
		t.Errorf("%v", err)
	}
}

// A product without groups is asked for none.
func TestNoGroups(t *testing.T) {
	s := startPBS(t, realm.BackupServer)
	c := connect(t, s, pbs.TokenRoot)
	current, err := c.Access(t.Context())
	if err != nil || len(current.Groups) > 0 || current.Product != realm.BackupServer || len(current.Entries) == 0 || strings.Contains(asked(s), http.MethodGet+" /access/groups") {
		t.Errorf("%+v, %v, %s", current, err, asked(s))
	}
}
