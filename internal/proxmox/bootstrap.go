package proxmox

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
	// Access is what the token shall keep besides the realm; nil: nothing. It includes Users.
	Access realm.Access
}

// Validate returns a [check.Usage] error for names that `pveum` would reject.
func (b Bootstrap) Validate() error {
	if b.User != "" {
		// An exclamation mark would begin the id of a token.
		if _, err := config.ParseUserID(b.User); err != nil || strings.Contains(b.User, "!") || len(b.User) > maxUserID {
			return check.Errorf(check.Usage, "a user has the form name@realm, with at most %d characters", maxUserID).
				Try(check.Hint("use a name such as proxmox-realm@pve"))
		}
	}
	if b.TokenID != "" && realm.ValidateName(b.TokenID) != nil {
		return check.Errorf(check.Usage, "a token id has 2 to 32 characters: a letter, then letters, digits, '.', '_' or '-'").
			Try(check.Hint("use an id such as agent"))
	}
	return nil
}

// Lines returns the `pveum` commands to run as root on one node, in this order. The one that creates the token prints its
// secret, once.
func (b Bootstrap) Lines() []string {
	user, id := b.token()
	needs := []realm.Privilege{{Name: "Realm.Allocate", Path: realmGrants}}
	if b.Audit {
		needs[0].Name = "Sys.Audit"
	}
	if b.Users || b.Access != nil {
		needs = append(needs, realm.Privilege{Name: "Sys.Audit", Path: "/access"})
	}
	var comment []string
	if b.Access != nil {
		comment = []string{"# Whoever holds this token can give itself any role on the paths below: it is as good as an administrator's."}
		needs = append(needs, realm.Privilege{Name: "Group.Allocate", Path: groupsPath})
		for _, path := range b.Access.Paths() {
			needs = append(needs, realm.Privilege{Name: "Permissions.Modify", Path: path})
		}
	}
	creations, grants := grant(b.Token(), needs...)
	return slices.Concat(comment, creations, []string{ // roles come first: if somebody stops halfway, nothing exists that could log in
		fmt.Sprintf("pveum user add %s --comment 'keeps OpenID Connect realms'", Quote(user)),
		fmt.Sprintf("pveum user token add %s %s --privsep 1", Quote(user), Quote(id)),
	}, grants)
}

// Token returns the name of the token: user@realm!id.
func (b Bootstrap) Token() string {
	user, id := b.token()
	return user + "!" + id
}

func (b Bootstrap) token() (user, id string) {
	return cmp.Or(b.User, "proxmox-realm@pve"), cmp.Or(b.TokenID, "agent")
}

// grantStep is the remedy for a missing privilege: all `pveum` commands that grant it, separated by semicolons.
func grantStep(who, path, privilege string) check.Hint {
	return check.OnNode("%s", grantLines(who, path, privilege))
}

func grantLines(who, path, privilege string) string {
	creations, grants := grant(who, realm.Privilege{Name: privilege, Path: path})
	return strings.Join(append(creations, grants...), "; ")
}

// grant returns the `pveum` commands that create a role for each privilege, and those that give the roles to an identity
// (user@realm!id or user@realm). A token with privilege separation may do what both it and its user may, so both get them.
func grant(who string, needs ...realm.Privilege) (creations, grants []string) {
	for _, need := range needs {
		known := roles[need.Name]
		role := Quote(cmp.Or(known.name, strings.ReplaceAll(need.Name, ".", "")+"Only"))
		create := fmt.Sprintf("pveum role add %s --privs %s", role, Quote(cmp.Or(known.privileges, need.Name)))
		if !slices.Contains(creations, create) {
			creations = append(creations, create)
		}
		user, _, isToken := strings.Cut(who, "!")
		if isToken {
			grants = append(grants, fmt.Sprintf("pveum acl modify %s --tokens %s --roles %s", Quote(need.Path), Quote(who), role))
		}
		grants = append(grants, fmt.Sprintf("pveum acl modify %s --users %s --roles %s", Quote(need.Path), Quote(user), role))
	}
	return creations, grants
}

// roles are those that hold one of this program's privileges. An entry for /access/groups replaces what /access gives there,
// so the role for groups repeats Sys.Audit.
var roles = map[string]struct{ name, privileges string }{
	"Realm.Allocate": {"RealmAdmin", "Realm.Allocate"},
	"Sys.Audit":      {"RealmAuditor", "Sys.Audit"},
	"Group.Allocate": {"RealmGroupAdmin", "Group.Allocate,Sys.Audit"},
	"Sys.Syslog":     {"RealmLogReader", "Sys.Audit,Sys.Syslog"},
}

// Quote makes one word for a POSIX shell.
func Quote(word string) string { return check.Quote(word) }
