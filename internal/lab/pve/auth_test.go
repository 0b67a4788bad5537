package pve_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/lab/pve"
)

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func (n *node) logIn(user, password string, more ...string) answer {
	n.t.Helper()
	body := `{"username":` + quote(user) + `,"password":` + quote(password)
	for i := 0; i < len(more); i += 2 {
		body += "," + quote(more[i]) + ":" + quote(more[i+1])
	}
	return n.as("").send("POST", "/access/ticket", body+"}")
}

func TestTicket(t *testing.T) {
	n := newNode(t, pve.Options{})
	admin := n.User(pve.UserAdmin)
	a := n.logIn(admin.Username, admin.Password)
	d := a.data(t)
	if got := slices.Sorted(maps.Keys(d)); strings.Join(got, " ") != "CSRFPreventionToken cap ticket username" || !a.close {
		t.Error(got, a)
	}
	if d.object("cap").object("access")["User.Modify"] != 1.0 {
		t.Error(d["cap"])
	}
	ticket, csrf := d.text("ticket"), d.text("CSRFPreventionToken")
	in := n.ticket(ticket, csrf)
	in.must("GET", "/access/domains/pam", "")
	in.must("POST", "/access/domains", minimal)
	if a := n.ticket(ticket, "").send("DELETE", "/access/domains/authelia", ""); a.status != "401 Permission denied - invalid csrf token" || a.body != "" {
		t.Error(a)
	}
	if a := n.ticket(ticket, csrf[:9]+string(csrf[9]^1)+csrf[10:]).send("DELETE", "/access/domains/authelia", ""); a.status != "401 Permission denied - invalid csrf token" {
		t.Error(a)
	}
	if a := n.ticket(ticket[:len(ticket)-6]+"AAAAA=", csrf).send("GET", "/version", ""); a.status != "401 Authentication failed!" {
		t.Error(a)
	}
	if r := n.logIn("admin", ticket, "realm", "pve"); r.data(t)["username"] != "admin@pve" {
		t.Error("a ticket does not renew itself", r)
	}
	if r := n.logIn("nobody@pve", ticket); r.status != "401 authentication failure" {
		t.Error("a ticket is good for somebody else", r)
	}
	if a := n.as(pve.TokenRoot).send("POST", "/access/ticket", `{"username":"a","password":"b"}`); !strings.HasPrefix(a.status, "403 Permission check failed (URI '/access/ticket' not available with API token, need proper ticket.") {
		t.Error(a)
	}
	if err := n.Update(func(st *pve.State) { st.Users["admin@pve"].Enable = false }); err != nil {
		t.Fatal(err)
	}
	if a := in.send("GET", "/version", ""); a.status != "401 Authentication failed!" {
		t.Error(a)
	}
}

func TestTicketExpires(t *testing.T) {
	n := newNode(t, pve.Options{})
	admin := n.User(pve.UserAdmin)
	ticket := n.logIn(admin.Username, admin.Password).data(t).text("ticket")
	// The time is in the ticket and signed: an older one cannot be made from it.
	old := fmt.Sprintf("%08X", time.Now().Add(-3*time.Hour).Unix())
	head, sig, _ := strings.Cut(ticket, "::")
	forged := head[:len(head)-8] + old + "::" + sig
	if a := n.ticket(forged, "").send("GET", "/version", ""); a.status != "401 Authentication failed!" {
		t.Error(a)
	}
}

func TestRefusedLogins(t *testing.T) {
	n := newNode(t, pve.Options{})
	n.must("POST", "/access/domains", minimal)
	n.must("POST", "/access/users", "userid=john@authelia")
	n.must("POST", "/access/users", "userid=old@pve&password=secret123&expire=1")
	admin, disabled := n.User(pve.UserAdmin), n.User("disabled@pve")
	for _, x := range [][]string{
		{admin.Username, "wrong"},
		{admin.Username, ""},
		{"nothere@pve", "x"},
		{"noreal", "x"},
		{disabled.Username, disabled.Password},
		{"old@pve", "secret123"},
		{"john@authelia", "x"},
		{"x@gone", "x"},
		{admin.Username, admin.Password, "otp", "totp:123456"},
		{admin.Username, "totp:123456", "tfa-challenge", "PVE:x:00000000::AAAA"},
		{admin.Username, admin.Password, "path", "/access/realm", "privs", "Realm.Allocate", "realm", "gone"},
	} {
		a := n.logIn(x[0], x[1], x[2:]...)
		if a.status != "401 authentication failure" || a.body != `{"data":null,"message":"authentication failure\n"}` || !a.close {
			t.Errorf("%q: %v", x, a)
		}
	}
	if a := n.as("").send("POST", "/access/ticket", `{"password":"x","path":"/"}`); a.errors()["username"] != "property is missing and it is not optional" ||
		a.errors()["privs"] != "missing property required by 'path'" {
		t.Error(a)
	}
	if a := n.logIn(admin.Username, admin.Password, "path", "/access/realm", "privs", "Realm.Allocate"); a.status != "200 OK" || a.data(t)["ticket"] != nil {
		t.Error(a)
	}
}

func TestSecondFactor(t *testing.T) {
	n := newNode(t, pve.Options{})
	u := n.User(pve.UserTOTP)
	a := n.logIn(u.Username, u.Password)
	d := a.data(t)
	if d["NeedTFA"] != 1.0 || d["cap"] != nil || !strings.HasPrefix(d.text("ticket"), "PVE:!tfa!") {
		t.Fatal(a)
	}
	half := d.text("ticket")
	if a := n.ticket(half, "").send("GET", "/version", ""); a.status != "401 Authentication failed!" {
		t.Error("half a login is one", a)
	}
	if a := n.logIn(u.Username, "totp:000000", "tfa-challenge", half); a.status != "401 authentication failure" {
		t.Error(a)
	}
	if a := n.logIn(n.User(pve.UserAdmin).Username, "totp:"+n.TOTP(pve.UserTOTP), "tfa-challenge", half); a.status != "401 authentication failure" {
		t.Error("somebody else's challenge", a)
	}
	whole := n.logIn(u.Username, "totp:"+n.TOTP(pve.UserTOTP), "tfa-challenge", half).data(t)
	if whole["NeedTFA"] != nil || whole["cap"] == nil {
		t.Error(whole)
	}
	n.ticket(whole.text("ticket"), "").must("GET", "/version", "")
	if d := n.logIn(u.Username, u.Password, "otp", "totp:"+n.TOTP(pve.UserTOTP)).data(t); d["NeedTFA"] != 1.0 {
		t.Error("password and code at once", d)
	}
	if a := n.logIn(u.Username, u.Password, "otp", "123456"); a.status != "401 authentication failure" {
		t.Error("a code without its kind", a)
	}
}

func TestTokens(t *testing.T) {
	n := newNode(t, pve.Options{})
	full := n.Token(pve.TokenSysAudit)
	for _, x := range []struct{ header, want string }{
		{"PVEAPIToken=" + full, "200 OK"},
		{"PVEAPIToken " + full, "200 OK"},
		{"PVEAPIToken=" + strings.ReplaceAll(full, "!", "%21"), "200 OK"},
		{"Bearer " + full, "401 No ticket"},
		{"PVEAPIToken=", "401 No ticket"},
		{"PVEAPIToken=" + full + "x", "401 Authentication failed!"},
		{"PVEAPIToken=disabled@pve!x=y", "401 Authentication failed!"},
		{"PVEAPIToken=auditor@pve=y", "401 Authentication failed!"},
	} {
		n.header.Set("Authorization", x.header)
		if a := n.send("GET", "/version", ""); a.status != x.want {
			t.Errorf("%s: %s", x.header, a.status)
		}
	}
	root := n.as(pve.TokenRoot)
	a := root.must("POST", "/access/users/nobody@pve/token/new", "privsep=0&comment=c").data(t)
	if a["full-tokenid"] != "nobody@pve!new" || len(a.text("value")) != 36 || n.Token("nobody@pve!new") != "nobody@pve!new="+a.text("value") {
		t.Error(a)
	}
	root.must("PUT", "/access/users/nobody@pve/token/new", "expire=1")
	n.header.Set("Authorization", "PVEAPIToken="+n.Token("nobody@pve!new"))
	if a := n.send("GET", "/version", ""); a.status != "401 Authentication failed!" {
		t.Error("an expired token", a)
	}
	root.must("DELETE", "/access/users/nobody@pve/token/new", "")
	if a := root.send("DELETE", "/access/users/nobody@pve/token/new", ""); a.status != "500 no such token 'new' for user 'nobody@pve'" {
		t.Error(a)
	}
	if a := root.send("POST", "/access/users/nobody@pve/token/none", ""); a.errors()["tokenid"] != "Token already exists." {
		t.Error(a)
	}
}

// TestDelay: refused credentials are not answered at once.
func TestDelay(t *testing.T) {
	s, err := pve.Start(pve.Options{Delay401: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	n := (&node{Server: s, t: t, client: clientOf(t, s)}).as(pve.TokenRoot)
	n.must("GET", "/version", "")
	n.Reset()
	done := make(chan error, 1)
	go func() {
		_, err := n.as("").try("GET", "/version", "")
		done <- err
	}()
	for len(n.Requests()) == 0 {
		runtime.Gosched()
	}
	n.must("GET", "/version", "") // others do not wait
	select {
	case err := <-done:
		t.Error("it was answered", err)
	default:
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("it was answered when the server closed")
	}
}

func TestPermissions(t *testing.T) {
	n := newNode(t, pve.Options{})
	for _, x := range []struct{ token, query, want string }{
		{pve.TokenRealmAllocate, "?path=/access/realm/authelia", `{"/access/realm/authelia":{"Realm.Allocate":1}}`},
		{pve.TokenRealmAllocate, "?path=/access", `{"/access":{}}`},
		{pve.TokenPrivsepWithoutACL, "?path=/access/realm", `{"/access/realm":{}}`},
		{pve.TokenPrivsepWithoutACL, "", `{}`},
		{pve.TokenRoot, "?userid=realmadm@pve", `{"/access/realm":{"Realm.Allocate":1}}`},
		{pve.TokenRoot, "?userid=gone@pve", `{}`},
	} {
		if a := n.as(x.token).must("GET", "/access/permissions"+x.query, ""); a.body != `{"data":`+x.want+`}` {
			t.Errorf("%s %s: %s", x.token, x.query, a.body)
		}
	}
	if a := n.as(pve.TokenSysAudit).send("GET", "/access/permissions?userid=root@pam", ""); a.status != "403 Permission check failed (/access, Sys.Audit)" {
		t.Error(a)
	}
	if a := n.send("GET", "/access/permissions?userid=root", ""); a.errors()["userid"] != "value does not match the regex pattern" {
		t.Error(a)
	}
	if a := n.must("GET", "/access/permissions?path=/", "").data(t).object("/"); len(a) != 47 {
		t.Errorf("%d privileges", len(a))
	}
	// A role on a path hides those from further up.
	n.must("PUT", "/access/acl", "path=/access/realm&users=admin@pve&roles=NoAccess")
	if a := n.must("GET", "/access/permissions?userid=admin@pve&path=/access/realm", ""); a.body != `{"data":{"/access/realm":{}}}` {
		t.Error(a.body)
	}
	n.must("PUT", "/access/acl", "path=/access/realm&users=admin@pve&roles=NoAccess&delete=1")
	n.must("PUT", "/access/acl", "path=/access&users=nobody@pve&roles=RigAudit&propagate=0")
	if a := n.must("GET", "/access/permissions?userid=nobody@pve", ""); a.body != `{"data":{"/access":{"Sys.Audit":0}}}` {
		t.Error(a.body)
	}
}

func TestACL(t *testing.T) {
	n := newNode(t, pve.Options{})
	for _, x := range []struct{ body, want string }{
		{"path=/&roles=RigAudit", "400 Parameter verification failed."},
		{"path=/nowhere&roles=RigAudit&users=nobody@pve", "400 Parameter verification failed."},
		{"path=/&roles=Gone&users=nobody@pve", "500 ACL update failed: role 'Gone' does not exist"},
		{"path=/&roles=RigAudit&users=gone@pve", "500 ACL update failed: user 'gone@pve' does not exist"},
		{"path=/&roles=RigAudit&groups=gone", "500 ACL update failed: group 'gone' does not exist"},
		{"path=/&roles=RigAudit&tokens=nobody@pve!gone", "500 ACL update failed: no such token 'gone' for user 'nobody@pve'"},
	} {
		if a := n.send("PUT", "/access/acl", x.body); a.status != x.want {
			t.Errorf("%s: %v", x.body, a)
		}
	}
	if a := n.as(pve.TokenRealmAllocate).send("PUT", "/access/acl", "path=/access/realm&roles=RigAudit&users=nobody@pve"); a.status != "403 Permission check failed (/access/realm, Permissions.Modify)" {
		t.Error(a)
	}
}

// TestHandingOut holds who may grant what below /vms, /storage and /pool: whoever may allocate there, of the privileges
// that they have themselves. PVE::API2::ACL, update_acl.
func TestHandingOut(t *testing.T) {
	n := newNode(t, pve.Options{})
	n.must("POST", "/access/roles", "roleid=Keeper&privs=VM.Allocate,VM.Audit")
	n.must("POST", "/access/roles", "roleid=Looker&privs=VM.Audit")
	n.must("PUT", "/access/acl", "path=/vms/100&users=nobody@pve&roles=Keeper")
	n.must("PUT", "/access/acl", "path=/vms/100&tokens=nobody@pve!none&roles=Keeper")
	n.must("PUT", "/access/acl", "path=/vms/200&users=nobody@pve&roles=Looker")
	n.must("PUT", "/access/acl", "path=/vms/200&tokens=nobody@pve!none&roles=Looker")
	n.must("POST", "/access/groups", "groupid=dev")
	nobody := n.as(pve.TokenNoPrivilege)
	nobody.must("PUT", "/access/acl", "path=/vms/100&groups=dev&roles=Looker")
	const superset = "Cannot add role 'PVEVMAdmin' - requires 'Permissions.Modify' or superset of privileges."
	if a := nobody.send("PUT", "/access/acl", "path=/vms/100&groups=dev&roles=PVEVMAdmin"); !strings.Contains(a.body, superset) {
		t.Error(a)
	}
	const noAccess = "Cannot add role 'NoAccess' - requires 'Permissions.Modify'"
	if a := nobody.send("PUT", "/access/acl", "path=/vms/100&groups=dev&roles=NoAccess"); !strings.Contains(a.body, noAccess) {
		t.Error(a)
	}
	const refused = "403 Permission check failed (/vms/200, Permissions.Modify|VM.Allocate)"
	if a := nobody.send("PUT", "/access/acl", "path=/vms/200&groups=dev&roles=Looker"); a.status != refused {
		t.Errorf("%s, want %s", a.status, refused)
	}
	// They see the entries of the paths that they may change, and no others.
	var seen struct{ Data []struct{ Path, UGID string } }
	if err := json.Unmarshal([]byte(nobody.must("GET", "/access/acl", "").body), &seen); err != nil || len(seen.Data) != 3 {
		t.Errorf("%+v, %v", seen.Data, err)
	}
	for _, entry := range seen.Data {
		if entry.Path != "/vms/100" {
			t.Errorf("an entry of %s is shown", entry.Path)
		}
	}
}

func TestUsersAndGroups(t *testing.T) {
	n := newNode(t, pve.Options{})
	n.must("POST", "/access/groups", "groupid=ops&comment=100%25")
	n.must("POST", "/access/users", `{"userid":"jo@pve","comment":"x:y","groups":"ops","firstname":"Jö","password":"secret123"}`)
	a := n.must("GET", "/access/users/jo@pve", "")
	if a.body != `{"data":{"comment":"x:y","email":"","enable":1,"expire":0,"firstname":"Jö","groups":["ops"],"tokens":null}}` {
		t.Error(a.body)
	}
	if a := n.logIn("jo@pve", "secret123"); a.status != "200 OK" {
		t.Error(a)
	}
	n.must("PUT", "/access/acl", "path=/access/groups/ops&users=jo@pve&roles=RigAudit")
	ticket := n.logIn("jo@pve", "secret123").data(t).text("ticket")
	jo := n.ticket(ticket, "")
	if a := jo.must("GET", "/access/users?full=1", ""); !strings.Contains(a.body, `"groups":"ops"`) || strings.Contains(a.body, "root@pam") {
		t.Error(a.body)
	}
	if a := jo.must("GET", "/access/groups", ""); a.body != `{"data":[{"comment":"100%","groupid":"ops","users":"jo@pve"}]}` {
		t.Error(a.body)
	}
	for _, x := range []struct{ method, path, body, want string }{
		{"POST", "/access/users", "userid=jo@pve", "500 create user failed: user 'jo@pve' already exists"},
		{"POST", "/access/users", "userid=x@gone&password=12345678", "500 create user failed: auth domain 'gone' does not exist"},
		{"POST", "/access/users", "userid=x@pve&groups=gone", "500 create user failed: no such group 'gone'"},
		{"GET", "/access/users/gone@pve", "", "500 no such user ('gone@pve')"},
		{"DELETE", "/access/users/gone@pve", "", "500 no such user ('gone@pve')"},
		{"POST", "/access/groups", "groupid=ops", "500 create group failed: group 'ops' already exists"},
		{"DELETE", "/access/groups/gone", "", "500 delete group failed: group 'gone' does not exist"},
		{"POST", "/access/roles", "roleid=PVEx", "400 Parameter verification failed."},
		{"DELETE", "/access/roles/PVEAdmin", "", "500 auto-generated role 'PVEAdmin' cannot be deleted"},
	} {
		if a := n.send(x.method, x.path, x.body); a.status != x.want {
			t.Errorf("%s %s %s: %v", x.method, x.path, x.body, a)
		}
	}
	if a := n.send("POST", "/access/users", "userid=ab"); a.status != "500 user name 'ab' is too short" {
		t.Error("the check of privileges comes first", a)
	}
	r := n.User(pve.UserRoot)
	d := n.logIn(r.Username, r.Password).data(t)
	root := n.ticket(d.text("ticket"), d.text("CSRFPreventionToken"))
	if a := root.send("POST", "/access/users", "userid=ab&email=x"); a.errors()["userid"] != "invalid format - user name 'ab' is too short\n" ||
		a.errors()["email"] != "invalid format - value does not look like a valid email address\n" {
		t.Error(a)
	}
	if a := n.send("PUT", "/access/users/jo@pve", "append=1"); a.errors()["groups"] != "missing property required by 'append'" {
		t.Error(a)
	}
	n.must("PUT", "/access/users/jo@pve", `{"enable":false,"groups":[]}`)
	if u := n.State().Users["jo@pve"]; u.Enable || n.State().Groups["ops"].Users["jo@pve"] {
		t.Error(u)
	}
}
