package pve_test

import (
	"encoding/json"
	"runtime"
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
	d := n.logIn(admin.Username, admin.Password).data(t)
	ticket, csrf := d.text("ticket"), d.text("CSRFPreventionToken")
	in := n.ticket(ticket, csrf)
	in.must("POST", "/access/domains", minimal)
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
