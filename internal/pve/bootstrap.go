package pve

import (
	"fmt"
	"slices"
	"strings"

	"proxmox-realm/internal/check"

	"proxmox-realm/internal/realm"
)

// Bootstrap says what to set up on a node for this program: the least that it needs.
type Bootstrap struct {
	User    string // user@realm; "" means proxmox-realm@pve
	TokenID string // "" means agent
	Audit   bool   // plan and verify alone: Sys.Audit in place of Realm.Allocate
	Users   bool   // may see users, groups and what they may do as well: Sys.Audit on /access
}

// Validate tells, as a [check.Usage], what `pveum` would refuse of the names, or leave for somebody to find out later.
func (b Bootstrap) Validate() error {
	if b.User != "" {
		name, realmName, found := cutLast(b.User)
		// PVE::Auth::Plugin: 64 characters in all, none of them white space, a colon or a slash. One ! would begin a token's id.
		if !found || name == "" || strings.ContainsAny(b.User, ":/!") || !printable(b.User) || len(b.User) > maxUserID || realm.ValidateName(realmName) != nil {
			return check.Errorf(check.Usage, "a user has the form name@realm, at most %d characters", maxUserID).Try(check.Advise("such as proxmox-realm@pve"))
		}
	}
	if b.TokenID != "" && realm.ValidateName(b.TokenID) != nil {
		return check.Errorf(check.Usage, "a token's id is 2 to 32 characters, a letter first, then letters, digits, '.', '_' or '-'").Try(check.Advise("such as agent"))
	}
	return nil
}

// Lines returns the `pveum` lines, to be run as root on one node, in this order. The one that makes the token prints its
// secret, once.
func (b Bootstrap) Lines() []string {
	user, id := b.User, b.TokenID
	if user == "" {
		user = "proxmox-realm@pve"
	}
	if id == "" {
		id = "agent"
	}
	privilege := "Realm.Allocate"
	if b.Audit {
		privilege = "Sys.Audit"
	}
	grants := Grant(user+"!"+id, realmPath, privilege)
	if b.Users {
		for _, line := range Grant(user+"!"+id, "/access", "Sys.Audit") {
			if !slices.Contains(grants, line) {
				grants = append(grants, line)
			}
		}
	}
	lines := []string{
		fmt.Sprintf("pveum user add %s --comment 'keeps OpenID Connect realms'", Quote(user)),
		fmt.Sprintf("pveum user token add %s %s --privsep 1", Quote(user), Quote(id)),
	}
	// Roles first: whoever stops halfway has made nothing that could log in.
	isRole := func(line string) bool { return strings.HasPrefix(line, "pveum role ") }
	var roles, entries []string
	for _, line := range grants {
		if isRole(line) {
			roles = append(roles, line)
		} else {
			entries = append(entries, line)
		}
	}
	return slices.Concat(roles, lines, entries)
}

// Grant returns the `pveum` lines that give an identity (user@realm!id or user@realm) privileges at a path. A token with
// privilege separation may do what both it and its user may, so both are granted.
func Grant(identity, path string, privileges ...string) []string {
	user, _, isToken := strings.Cut(identity, "!")
	var lines []string
	for _, privilege := range privileges {
		role := roleFor(privilege)
		lines = append(lines, fmt.Sprintf("pveum role add %s --privs %s", role, Quote(privilege)))
		if isToken {
			lines = append(lines, fmt.Sprintf("pveum acl modify %s --tokens %s --roles %s", Quote(path), Quote(identity), role))
		}
		lines = append(lines, fmt.Sprintf("pveum acl modify %s --users %s --roles %s", Quote(path), Quote(user), role))
	}
	return lines
}

// roleFor names the role that holds one privilege.
func roleFor(privilege string) string {
	switch privilege {
	case "Realm.Allocate":
		return "RealmAdmin"
	case "Sys.Audit":
		return "RealmAuditor"
	}
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, privilege) + "Only"
}

// Quote makes one word for a POSIX shell, as it is where it needs no quotation: a user's name is what the issuer says it is.
func Quote(word string) string {
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool { return !plain(r) }) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// plain tells that a shell takes the character for itself.
func plain(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@%+=:,./-_", r)
}
