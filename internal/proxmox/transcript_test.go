package proxmox_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

// kinds lists the recorded refusals whose kind does not follow from their status: 401 are bad credentials, 403 a missing
// privilege, 595 an unavailable node. All others are refused parameters.
var kinds = map[realm.Product]map[proxmox.Kind]string{
	realm.VE: {
		proxmox.Absent: "read-missing update-missing delete-missing role-unknown group-absent grant-unknown-group grant-unknown-user " +
			"grant-one-of-two-unknown revoke-unknown-group remove-group-again role-read-missing role-update-missing user-read-missing " +
			"token-read-missing token-create-unknown-user acl-unknown-user acl-unknown-token token-delete-again role-delete-again",
		proxmox.Exists:          "create-pam create-again create-group-twice role-create-again user-create-again token-create-again admin-role-create-again",
		proxmox.StaleDigest:     "update-stale-digest",
		proxmox.UnknownProperty: "create-unknown-property create-capital-realm create-verify update-username-claim-same update-type",
		proxmox.UnknownRole:     "grant-unknown-role acl-unknown-role",
		proxmox.NoQuorum:        "role-create-no-quorum token-create-no-quorum",
		proxmox.Failed: "create-broken-json create-text-plain update-nothing update-only-digest delete-with-body unknown-path head " +
			"role-builtin-update user-unknown-group role-delete-builtin certificates-unknown-node syslog-unknown-node " +
			"syslog-since-impossible syslog-since-after-until",
		proxmox.NoRealm:           "auth-url-missing auth-url-unknown-realm",
		proxmox.WrongType:         "auth-url-pam auth-url-not-openid",
		proxmox.IssuerUnreachable: "auth-url-unreachable auth-url-rec-down auth-url-rec-name",
		proxmox.IssuerMismatch:    "auth-url-rec-slash",
		proxmox.LoginRefused: "login-bad-state login-rec-key login-rec-claim login-rec-noauto login-odd-user login-disabled login-expired " +
			"login-wrong-code login-wrong-redirect login-twice login-nonsense-state login-other-node login-no-quorum-new",
	},
	realm.BackupServer: {
		proxmox.Absent:          "read-missing update-missing delete-missing user-read-missing token-read-missing",
		proxmox.Exists:          "create-pam create-again user-create-again token-create-again",
		proxmox.StaleDigest:     "update-stale update-stale-missing delete-stale",
		proxmox.UnknownProperty: "create-type create-pve-keys create-json-pve-keys update-claim read-unknown-query",
		proxmox.WrongType:       "read-pam",
		proxmox.NotProxmox:      "unknown-path head",
		proxmox.Failed: "permissions-of-another create-key-line-feed create-json-broken create-text user-unknown-realm openid-user-delete " +
			"acl-unknown-token acl-unknown-path acl-group acl-as-token own-acl",
		proxmox.NoRealm:           "auth-url-missing",
		proxmox.IssuerUnreachable: "auth-url-unreachable",
		proxmox.LoginRefused:      "login-bad-state",
	},
}

// Every recorded answer has the right kind and code, with and without the message in the body of Proxmox VE. Nodes before
// libpve-http-server 5.2.0 send none. Datacenter Manager is the same code as Backup Server.
func TestTranscripts(t *testing.T) {
	for p, files := range transcripts {
		want := map[string]proxmox.Kind{}
		for kind, ids := range kinds[p] {
			for id := range strings.FieldsSeq(ids) {
				want[id] = kind
			}
		}
		met := map[string]bool{}
		s := start(t, p)
		c := connect(t, s, pve.TokenRoot)
		for _, r := range exchanges(t, files...) {
			now, older := r.rule(), r.rule()
			var body map[string]json.RawMessage
			if p == realm.VE && json.Unmarshal([]byte(now.Body), &body) == nil {
				delete(body, "message")
				raw, _ := json.Marshal(body)
				older.Body = string(raw)
			}
			for _, rule := range []pve.Rule{now, older} {
				s.Reset()
				remove := s.Inject(rule)
				err := r.send(t, c)
				remove()
				if n := len(s.Requests()); n != 1 {
					t.Errorf("%v: %s: %d requests", p, r.ID, n)
				}
				if rule.Status == http.StatusOK {
					if err != nil {
						t.Errorf("%v: %s: a success is %v", p, r.ID, err)
					}
					continue
				}
				kind, listed := want[r.ID]
				met[r.ID] = true
				if !listed {
					kind = cmp.Or(map[int]proxmox.Kind{
						401: proxmox.BadCredentials, 403: proxmox.PermissionDenied, 595: proxmox.Unavailable,
					}[rule.Status], proxmox.Invalid)
				}
				e := isKind(t, p.String()+" "+r.ID, err, kind)
				if e.Status != rule.Status || errors.Is(err, realm.ErrLost) {
					t.Errorf("%v: %s: status %d, lost %v", p, r.ID, e.Status, errors.Is(err, realm.ErrLost))
				}
				if kind == proxmox.Invalid && len(e.Fields) == 0 && p != realm.VE {
					t.Errorf("%v: %s: no parameter was read from %q", p, r.ID, rule.Body)
				}
			}
		}
		for id := range want {
			if !met[id] {
				t.Errorf("%v: %s is in no transcript", p, id)
			}
		}
	}
}

// Details of the recorded refusals reach the caller: privileges, properties, parameters, and the commands that help.
func TestDetailsOfRecordedRefusals(t *testing.T) {
	for _, tt := range []struct {
		product realm.Product
		id      string
		right   func(e *proxmox.Error) bool
		says    string // in the message
		hint    string
	}{
		{realm.VE, "create-no-privilege", denied("/access/realm", "Realm.Allocate"), "", "pveum acl modify /access/realm --users realmadm@pve --roles RealmAdmin\n" +
			"    pveum acl modify /access/realm --tokens 'realmadm@pve!agent' --roles RealmAdmin"},
		{realm.VE, "read-missing-no-privilege", denied("/access/realm", "Realm.Allocate", "Sys.Audit"), "", ""},
		{realm.VE, "create-unknown-property", unknown("nonsense"), "", ""},
		{realm.VE, "create-verify", unknown("verify"), "", ""},
		{realm.VE, "create-capital-realm", unknown("Realm"), "", ""},
		{realm.VE, "update-groups", fields("acr-values", "value does not match the regex pattern", 2), "acr-values: value does not match", "set realm.acr_values\nset realm.audiences"},
		{realm.VE, "auth-url-rec-slash", func(e *proxmox.Error) bool { return strings.HasPrefix(e.Found, "https://") }, "", "(if its document is there)"},
		{realm.BackupServer, "create-pve-keys", unknown("groups-autocreate", "groups-claim", "groups-overwrite", "query-userinfo"), "Proxmox Backup Server does not know groups-autocreate (it has no groups), groups-claim (it has no groups), groups-overwrite (it has no groups), query-userinfo (it always reads", ""},
		{realm.BackupServer, "create-empty", fields("issuer-url", "parameter is missing and it is not optional", 3), "", ""},
		{realm.BackupServer, "create-scopes-colon", func(e *proxmox.Error) bool {
			return strings.HasPrefix(e.Fields["scopes"], "parameter verification failed - '': schema validation failed")
		}, "", ""},
		{realm.BackupServer, "list-openid-auditor", denied("/access/domains", "Realm.Allocate"), "", "(it counts after 5s):\n    proxmox-backup-manager acl update /access/domains Admin --auth-id realmadm@pbs\n" +
			"    proxmox-backup-manager acl update /access/domains Admin --auth-id 'realmadm@pbs!agent'"},
		{realm.BackupServer, "create-auditor", denied("/access/domains", "Realm.Allocate"), "", "/access/domains Admin"},
		{realm.BackupServer, "delete-auditor", denied("/access/domains", "Realm.Allocate"), "", "/access/domains Admin"},
		{realm.BackupServer, "read-missing-no-privilege", denied("/access/domains", "Sys.Audit"), "", "/access/domains Audit"},
		{realm.BackupServer, "read-pam", func(e *proxmox.Error) bool { return e.Found == "pam" }, "", ""},
		{realm.BackupServer, "version-expired", nil, "", "    proxmox-backup-manager user list-tokens realmadm@pbs"},
	} {
		r := exchangeOf(t, tt.product, tt.id)
		s, c := failing(t, tt.product, r.rule(), withToken(t, tt.product))
		err := r.send(t, c)
		var e *proxmox.Error
		if !errors.As(err, &e) || tt.right != nil && !tt.right(e) || !strings.Contains(e.Error(), tt.says) || !strings.Contains(hintOf(e), tt.hint) {
			t.Errorf("%v: %s: %+v\n%s", tt.product, tt.id, e, hintOf(err))
		}
		if n := len(s.Requests()); n != 1 {
			t.Errorf("%s: %d requests", tt.id, n)
		}
	}
}

func denied(path string, privileges ...string) func(*proxmox.Error) bool {
	return func(e *proxmox.Error) bool { return e.DeniedPath == path && slices.Equal(e.Privileges, privileges) }
}

func unknown(properties ...realm.Property) func(*proxmox.Error) bool {
	return func(e *proxmox.Error) bool { return slices.Equal(e.Unknown, properties) }
}

func fields(name, says string, count int) func(*proxmox.Error) bool {
	return func(e *proxmox.Error) bool { return len(e.Fields) == count && e.Fields[name] == says }
}
