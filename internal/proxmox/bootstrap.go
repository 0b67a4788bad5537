package proxmox

import (
	"cmp"
	"fmt"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
)

// Bootstrap is what this program needs in Proxmox: a user with an API token, and their roles.
type Bootstrap struct {
	Product realm.Product
	User    string // user@realm; "" means proxmox-realm@ and the product's own realm
	TokenID string // "" means agent
	Audit   bool   // only plan and verify: read realms, write nothing
	Users   bool   // also see users, groups and what they may do

	// Access and Diagnose are what the token needs beyond that, each alone: nothing else is granted then.
	Access   realm.Access // to keep these groups and grants, which includes Users
	Diagnose bool         // to read the system log
}

// Validate returns a [check.Usage] error for names that the product would reject, and for what it does not have.
func (b Bootstrap) Validate() error {
	if b.User != "" {
		// An exclamation mark would begin the id of a token.
		if _, err := config.ParseUserID(b.Product, b.User); err != nil || strings.Contains(b.User, "!") || len(b.User) > maxUserID {
			return check.Errorf(check.Usage, "a user has the form name@realm, with at most %d characters", maxUserID).
				Try(check.Hintf("use a name such as %s", Bootstrap{Product: b.Product}.user()))
		}
	}
	if b.TokenID != "" && realm.VE.ValidateName(b.TokenID) != nil {
		return check.Errorf(check.Usage, "a token id has 2 to 32 characters: a letter, then letters, digits, '.', '_' or '-'").
			Try("use an id such as agent")
	}
	if b.Access != nil && !b.Product.HasGroups() {
		return check.Errorf(check.Usage, "%s has no groups, so `access` cannot be declared", b.Product.Name()).
			Try("run it without --access")
	}
	return nil
}

// Token returns the name of the token: user@realm!id.
func (b Bootstrap) Token() string { return b.user() + "!" + b.id() }

func (b Bootstrap) user() string { return cmp.Or(b.User, "proxmox-realm@"+b.Product.String()) }
func (b Bootstrap) id() string   { return cmp.Or(b.TokenID, "agent") }

// Needs returns the roles that the token and its user need, one for each path.
func (b Bootstrap) Needs() []Need {
	d := dialectOf(b.Product)
	needs := []Need{}
	switch {
	case b.Access != nil:
		needs = append(needs, d.need(d.audit, d.seeGrants.path), d.need("Group.Allocate", groupsPath))
		for _, path := range b.Access.Paths() {
			needs = append(needs, d.need("Permissions.Modify", path))
		}
	case b.Diagnose:
	case b.Audit:
		needs = append(needs, d.need(d.audit, d.read.path))
	default:
		needs = append(needs, d.need(d.write.all[0], d.write.path))
	}
	if b.Users {
		needs = append(needs, d.need(d.audit, "/access"))
	}
	if b.Diagnose {
		needs = append(needs, d.log)
	}
	return needs
}

// TokenFile is the file in the current folder to which the lines of a [Bootstrap] write the token.
const TokenFile = "proxmox-realm.token"

// Lines returns the commands to run as root on a host of the product, in this order, for `sh -e`. They can be run again: what is
// there already is left as it is. The token is written to [TokenFile].
func (b Bootstrap) Lines() []string {
	d := dialectOf(b.Product)
	k, beyond := d.commands, b.Access != nil || b.Diagnose
	creations, grants := d.granting(b.Token(), b.Needs()...)
	var lines []string
	switch {
	case b.Access != nil:
		lines = append(lines, "# Whoever holds this token can give itself any role on the paths below: it is as good as an administrator's.")
	case b.Diagnose:
		lines = append(lines, "# This opens the whole system log of "+k.hosts+" to the token, with the names and addresses of users.")
	case !b.Audit && k.strong != "":
		lines = append(lines, k.strong)
	}
	if k.enter != "" {
		lines = append(lines, k.enter)
	}
	for _, create := range creations { // first: if somebody stops halfway, nothing exists that could log in
		lines = append(lines, create+" || true")
	}
	if !beyond {
		lines = append(lines, fill(k.addUser, "user", b.user())+" --comment 'keeps OpenID Connect realms' || true")
		lines = append(lines, b.makeToken(k)...)
	}
	lines = append(lines, grants...)
	if d.grantDelay > 0 {
		lines = append(lines, fmt.Sprintf("# The grants count after %s.", d.grantDelay))
	}
	return lines
}

// makeToken returns the lines that create the token and keep its secret, which the product shows once.
func (b Bootstrap) makeToken(k commands) []string {
	full := b.Token() + b.Product.TokenSeparators()[:1]
	if k.makeToken == "" {
		return []string{
			fmt.Sprintf("# No command makes a token: in the web interface, under Access Control, add the API token %s of %s.", b.id(), b.user()),
			fmt.Sprintf("# Write %sSECRET, with the secret that is shown there once, to the file of proxmox.token_file.", full),
		}
	}
	return []string{
		"secret=$(" + fill(k.makeToken, "user", b.user(), "id", b.id()) + ` | sed -n 's/.*"value": *"\([^"]*\)".*/\1/p')`,
		fmt.Sprintf(`if [ -n "$secret" ]; then (umask 077; printf '%%s%%s\n' %s "$secret" > %s); fi`, Quote(full), TokenFile),
		fmt.Sprintf(`[ -n "$secret" ] || echo %s >&2`,
			Quote("no new token: if "+b.Token()+" exists and its secret is lost, run bootstrap with another --token-id")),
	}
}

// Quote makes one word for a POSIX shell.
func Quote(word string) string { return check.Quote(word) }
