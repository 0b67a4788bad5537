package realm_test

import (
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// A hint names the host of the product and the note, and each command is on a line of its own. What the product has no command for
// is left out, and names of others become words of a shell.
func TestHostRun(t *testing.T) {
	ve, backup, manager := realm.VE.Host(), realm.BackupServer.Host(), realm.DatacenterManager.Host()
	for want, got := range map[check.Hint]check.Hint{
		"run on a node:\n    pveum user add 'o'\\''neil@pve'":                                ve.Run("", ve.AddUser.With("user", "o'neil@pve")),
		"run on the host (shows who):\n    proxmox-backup-manager user list\n    true":       backup.Run("shows who", backup.ListUsers, backup.ListRoles, "true"),
		"run on a node:\n    pveum acl modify / --tokens '$(reboot)@x!y' --roles PVEAuditor": ve.Run("", ve.GrantToken.With("path", "/", "token", "$(reboot)@x!y", "role", ve.Auditor)),
		"": manager.Run("a note", manager.ListRealms, manager.AddGroup.With("group", "x")),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
