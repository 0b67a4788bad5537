package pve

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
)

// Bootstrap is the least that this program needs in Proxmox.
type Bootstrap struct {
	User    string // user@realm; "" means proxmox-realm@pve
	TokenID string // "" means agent
	Audit   bool   // only plan and verify: Sys.Audit in place of Realm.Allocate
	Users   bool   // also see users, groups and their privileges: Sys.Audit on /access
}

// Validate returns a [check.Usage] error for names that `pveum` would reject.
func (b Bootstrap) Validate() error {
	if b.User != "" {
		// An exclamation mark would begin the id of a token.
		if _, err := config.ParseUserID(b.User); err != nil || strings.Contains(b.User, "!") || len(b.User) > maxUserID {
			return check.Errorf(check.Usage, "a user has the form name@realm, with at most %d characters", maxUserID).
				Try(check.Advise("use a name such as proxmox-realm@pve"))
		}
	}
	if b.TokenID != "" && realm.ValidateName(b.TokenID) != nil {
		return check.Errorf(check.Usage, "a token id has 2 to 32 characters: a letter, then letters, digits, '.', '_' or '-'").
			Try(check.Advise("use an id such as agent"))
	}
	return nil
}

// Lines returns the `pveum` commands to run as root on one node, in this order. The one that creates the token prints its
// secret, once.
func (b Bootstrap) Lines() []string {
	user, id := cmp.Or(b.User, "proxmox-realm@pve"), cmp.Or(b.TokenID, "agent")
	privilege := "Realm.Allocate"
	if b.Audit {
		privilege = "Sys.Audit"
	}
	role, grants := grant(user+"!"+id, realmGrants, privilege)
	lines := []string{role} // roles come first: if somebody stops halfway, nothing exists that could log in
	if b.Users {
		audit, more := grant(user+"!"+id, "/access", "Sys.Audit")
		lines, grants = append(lines, audit), append(grants, more...)
	}
	return slices.Concat(slices.Compact(lines), []string{
		fmt.Sprintf("pveum user add %s --comment 'keeps OpenID Connect realms'", Quote(user)),
		fmt.Sprintf("pveum user token add %s %s --privsep 1", Quote(user), Quote(id)),
	}, grants)
}

// grantStep is the remedy for a missing privilege: all `pveum` commands that grant it, separated by semicolons.
func grantStep(who, path, privilege string) check.Step {
	create, grants := grant(who, path, privilege)
	return check.OnNode("%s; %s", create, strings.Join(grants, "; "))
}

// grant returns the `pveum` commands that create a role with one privilege, and those that give it to an identity
// (user@realm!id or user@realm) at a path. A token with privilege separation may do what both it and its user may, so both
// get the role.
func grant(who, path, privilege string) (create string, grants []string) {
	role := Quote(cmp.Or(roles[privilege], strings.ReplaceAll(privilege, ".", "")+"Only"))
	create = fmt.Sprintf("pveum role add %s --privs %s", role, Quote(privilege))
	user, _, isToken := strings.Cut(who, "!")
	if isToken {
		grants = append(grants, fmt.Sprintf("pveum acl modify %s --tokens %s --roles %s", Quote(path), Quote(who), role))
	}
	return create, append(grants, fmt.Sprintf("pveum acl modify %s --users %s --roles %s", Quote(path), Quote(user), role))
}

// roles names the roles that hold one of this program's privileges.
var roles = map[string]string{"Realm.Allocate": "RealmAdmin", "Sys.Audit": "RealmAuditor"}

// Quote makes one word for a POSIX shell. Names of users and groups come from the issuer and may hold any character.
func Quote(word string) string {
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool { return !plain(r) }) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// plain tells whether a character has no special meaning for a shell.
func plain(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@%+=:,./-_", r)
}
