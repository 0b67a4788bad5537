package pbs_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"proxmox-realm/internal/lab/pbs"
)

// withTicket is the same host, asked by a user that logged in.
func (h *host) withTicket(user, password string) *host {
	h.t.Helper()
	var answer struct {
		Data struct{ Ticket, CSRFPreventionToken string }
	}
	if err := json.Unmarshal([]byte(h.must("POST", "/access/ticket", "username="+url.QueryEscape(user)+"&password="+password)), &answer); err != nil {
		h.t.Fatal(err)
	}
	other := *h
	other.header = http.Header{"Cookie": {"PBSAuthCookie=" + url.QueryEscape(answer.Data.Ticket)}, "Csrfpreventiontoken": {answer.Data.CSRFPreventionToken}}
	return &other
}

// TestUserOfARealm: what a user of an OpenID realm leaves behind, and what it cannot have.
func TestUserOfARealm(t *testing.T) {
	h := newHost(t, pbs.Options{})
	h.must("POST", openID, minimal)
	h.must("POST", "/access/users", "userid=jane%40authelia")
	h.refused(400, "user 'jane@authelia' already exists.", "POST", "/access/users", "userid=jane%40authelia")
	h.must("POST", "/access/users/jane@authelia/token/tool", "")
	h.must("PUT", "/access/acl", "path=/&role=Audit&auth-id=jane%40authelia")
	h.must("PUT", "/access/acl", "path=/&role=Audit&auth-id=jane%40authelia%21tool")
	h.as("jane@authelia!tool").must("GET", "/nodes/localhost/syslog", "")
	h.must("DELETE", openID+"/authelia", "")
	h.as("jane@authelia!tool").must("GET", "/version", "")

	h.refused(400, "unknown realm 'authelia'", "DELETE", "/access/users/jane@authelia", "")
	h.refused(400, "user 'jane@authelia' does not exist.", "DELETE", "/access/users/jane@authelia", "")
	h.as("jane@authelia!tool").refused(401, "authentication failed", "GET", "/version", "")
	if list := h.must("GET", "/access/users/jane@authelia/token", ""); !strings.Contains(list, `"tokenid":"jane@authelia!tool"`) {
		t.Errorf("%s: the token goes, though the realm was gone before", list)
	}
	h.must("POST", openID, minimal)
	h.must("POST", "/access/users", "userid=jane%40authelia")
	h.as("jane@authelia!tool").must("GET", "/nodes/localhost/syslog", "") // the old rights apply again
	h.must("DELETE", "/access/users/jane@authelia", "")
	acl := h.must("GET", "/access/acl", "")
	if strings.Contains(acl, "jane@authelia!tool") || !strings.Contains(acl, `"jane@authelia"`) {
		t.Errorf("%s: a user's ACLs stay, those of its tokens go", acl)
	}
}

// TestOwn: a user without privileges may manage its own tokens and see itself; a token may not.
func TestOwn(t *testing.T) {
	h := newHost(t, pbs.Options{})
	in := h.withTicket("plain@pbs", "plain-password")
	in.must("POST", "/access/users/plain@pbs/token/tool", "")
	in.must("PUT", "/access/users/plain@pbs/token/tool", "comment=x&expire=4000000000&enable=1")
	in.refused(403, "permission check failed", "POST", "/access/users/admin@pbs/token/tool", "")
	tool := h.as("plain@pbs!tool")
	tool.refused(403, "permission check failed", "POST", "/access/users/plain@pbs/token/other", "")
	tool.refused(403, "permission check failed", "GET", "/access/users/plain@pbs", "")
	in.must("PUT", "/access/acl", "path=/access&role=Admin&auth-id=plain%40pbs%21tool")
	in.refused(400, "Unprivileged users can only set ACL items for their own API tokens.", "PUT", "/access/acl", "path=/&role=Admin&auth-id=poor%40pbs%21tool")
	tool.refused(403, "permission check failed", "GET", openID, "") // its user has no such right
	for who, want := range map[*host]int{in: 1, tool: 0} {
		var acl struct{ Data []any }
		if err := json.Unmarshal([]byte(who.must("GET", "/access/acl", "")), &acl); err != nil || len(acl.Data) != want {
			t.Errorf("%v, %v", acl, err)
		}
	}
	var users struct {
		Data []struct {
			Userid string
			Tokens []struct {
				Comment string
				Expire  int64
				Enable  *bool
			}
		}
	}
	if err := json.Unmarshal([]byte(in.must("GET", "/access/users?include_tokens=1", "")), &users); err != nil {
		t.Fatal(err)
	}
	if len(users.Data) != 1 || len(users.Data[0].Tokens) != 1 || users.Data[0].Tokens[0].Comment != "x" || users.Data[0].Tokens[0].Expire != 4000000000 || users.Data[0].Tokens[0].Enable != nil {
		t.Errorf("%+v", users)
	}

	old := h.Token(pbs.TokenRealmAllocate)
	h.must("PUT", "/access/users/realmctl@pbs/token/full", "regenerate=1")
	if old == h.Token(pbs.TokenRealmAllocate) {
		t.Error("the secret is the old one")
	}
}

// TestNoAccess: NoAccess displaces other roles, and any other role displaces it; the deepest path decides.
func TestNoAccess(t *testing.T) {
	h := newHost(t, pbs.Options{})
	allocate := h.as(pbs.TokenRealmAllocate)
	allocate.must("GET", openID, "")
	h.must("PUT", "/access/acl", "path=/access/domains&role=NoAccess&auth-id=realmctl%40pbs")
	allocate.refused(403, "permission check failed", "GET", openID, "")
	h.must("PUT", "/access/acl", "path=/access&role=Admin&auth-id=realmctl%40pbs")
	allocate.refused(403, "permission check failed", "GET", openID, "")
	h.must("PUT", "/access/acl", "path=/access/domains&role=Audit&auth-id=realmctl%40pbs")
	h.must("GET", "/access/permissions?path=/access/domains&auth-id=realmctl%40pbs", "")
	allocate.refused(403, "permission check failed", "GET", openID, "") // Audit on the deeper path replaces Admin
	h.must("PUT", "/access/acl", "path=/access/domains&role=Audit&auth-id=realmctl%40pbs&delete=1")
	h.must("PUT", "/access/acl", "path=/access/domains&role=Audit&auth-id=realmctl%40pbs&delete=1")
	allocate.must("GET", openID, "")
	h.must("PUT", "/access/acl", "path=/access&role=Admin&auth-id=realmctl%40pbs&propagate=0")
	h.must("PUT", "/access/acl", "path=/access/domains&role=Admin&auth-id=realmctl%40pbs&delete=1")
	allocate.refused(403, "permission check failed", "GET", openID, "") // Admin on /access does not reach below it
}

// TestACLPaths: the API takes some paths only.
func TestACLPaths(t *testing.T) {
	for product, paths := range map[*pbs.Product][2]string{
		pbs.BackupServer: {
			"/ /access /access/acl /access/openid/any /datastore/a/b /remote/a/b/c /system/log /system/services/x /system/network/interfaces/e0 /system/s3-endpoint/x /tape/pool/x",
			"/access/domains/x /access/realm /system/foo /system/log/x /system/network/x /tape/x /resource /x",
		},
		pbs.DatacenterManager: {
			"/ /access /access/realm /resource/pve1 /resource/pve1/guest/100 /view/x /system/network/dns",
			"/access/domains /access/openid /resource/pve1/x /datastore/a /system/s3-endpoint",
		},
	} {
		h := newHost(t, pbs.Options{Product: product})
		body := "role=NoAccess&auth-id=plain%40" + product.Name + "&path="
		for path := range strings.SplitSeq(paths[0], " ") {
			h.must("PUT", "/access/acl", body+path)
		}
		for path := range strings.SplitSeq(paths[1], " ") {
			h.refused(400, "invalid acl path '"+path+"'.", "PUT", "/access/acl", body+path)
			h.must("PUT", "/access/acl", body+path+"&delete=1")
		}
	}
}
