package login_test

import (
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/lab"
	labpbs "proxmox-realm/internal/lab/pbs"
)

// stand is a lab with a node of the product.
func stand(product string) lab.Options {
	return map[string]lab.Options{
		"pve": {},
		"pbs": {PBS: &labpbs.Options{Product: labpbs.BackupServer}},
		"pdm": {PBS: &labpbs.Options{Product: labpbs.DatacenterManager}},
	}[product]
}

// After a login on Backup Server or Datacenter Manager nobody may do anything: the hint has the line that grants a role to the
// user. The ticket is in the answer of the one and in a cookie of the other.
func TestLoginOnEachProduct(t *testing.T) {
	for product, grant := range map[string]string{
		"pve": "    pveum acl modify / --users john@authelia --roles PVEAuditor",
		"pbs": "    proxmox-backup-manager acl update / Audit --auth-id john@authelia",
		"pdm": "    proxmox-datacenter-manager-client acl update / Auditor --auth-id john@authelia",
	} {
		s := set(t, stand(product))
		result := s.rehearse(s.browser().visit)
		if result.Err != nil || result.User != "john@authelia" || result.Privileges == nil || len(result.Privileges) != 0 {
			t.Errorf("%s: %v, %+v", product, result.Err, result.Identity)
		}
		if hint := string(result.Hint); !strings.Contains(hint, grant) || product != "pve" && (strings.Contains(hint, "access") || strings.Contains(hint, "pveum")) {
			t.Errorf("%s: %s", product, hint)
		}
	}
}

// Backup Server answers why it refuses a login.
func TestReasonOfBackupServer(t *testing.T) {
	for name, tt := range map[string]struct {
		change     func(*labpbs.State)
		says, hint string
	}{
		"a user who may not log in": {
			func(st *labpbs.State) {
				st.Users["john@authelia"] = &labpbs.User{UserConfig: labpbs.UserConfig{Enable: new(bool)}}
			},
			"user 'john@authelia' is disabled", "proxmox-backup-manager user update john@authelia --enable 1",
		},
		"a user whom nobody made": {
			func(st *labpbs.State) {
				i := slices.IndexFunc(st.Realms, func(r labpbs.Realm) bool { return r.Name == lab.RealmName })
				st.Realms[i].Properties["autocreate"] = "false"
			},
			"user account 'john@authelia' missing, disabled or expired", "{apply}",
		},
	} {
		s := set(t, stand("pbs"))
		if err := s.PBS.Update(tt.change); err != nil {
			t.Fatal(err)
		}
		result := s.rehearse(s.browser().visit)
		if check.CodeOf(result.Err) != check.LoginFailed || !strings.Contains(check.MessageOf(result.Err), tt.says) {
			t.Errorf("%s: %v", name, result.Err)
		}
		if hint := string(check.HintOf(result.Err)); !strings.Contains(hint, tt.hint) || strings.Contains(hint, "pve") {
			t.Errorf("%s: %s", name, hint)
		}
	}
}
