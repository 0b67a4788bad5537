package proxmox

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
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

	// Again is the command that prints these lines, without the token's id and without the program's name. The lines propose it, with
	// another id, if the token is there and its secret is not.
	Again string
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
	if err := b.Product.ValidateTokenID(b.TokenID); b.TokenID != "" && err != nil {
		return check.Errorf(check.Usage, "a token id %v", err).Try("use an id such as agent")
	}
	if b.Access != nil && !b.Product.HasGroups() {
		return check.Errorf(check.Usage, "%s has no groups, so `access` cannot be declared", b.Product.Name()).
			Try(check.Hintf("print the lines that make a token there:\n    {bootstrap --product %s}", b.Product))
	}
	return nil
}

// Token returns the name of the token: user@realm!id.
func (b Bootstrap) Token() string { return b.user() + "!" + b.id() }

func (b Bootstrap) user() string { return cmp.Or(b.User, "proxmox-realm@"+b.Product.String()) }
func (b Bootstrap) id() string   { return cmp.Or(b.TokenID, "agent") }

// needs returns the roles that the token and its user need; beyond tells to leave out those to keep realms.
func (b Bootstrap) needs(beyond bool) []Need {
	d := dialectOf(b.Product)
	var needs []Need
	if !beyond && b.Audit {
		needs = append(needs, d.need(d.audit, d.read.path))
	} else if !beyond {
		needs = append(needs, d.need(d.write.all[0], d.write.path))
	}
	if b.Users && !beyond {
		needs = append(needs, d.need(d.audit, "/access"))
	}
	if b.Access != nil && beyond || len(b.Access) > 0 {
		needs = append(needs, d.need(d.audit, d.seeGrants.path), d.need("Group.Allocate", groupsPath))
		for _, path := range b.Access.Paths() {
			needs = append(needs, d.need("Permissions.Modify", path))
		}
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
	beyond := b.Access != nil || b.Diagnose
	return b.lines(b.needs(beyond), beyond)
}

// All returns the lines that make the token and everything that it needs, for an identity that holds nothing yet.
func (b Bootstrap) All() []string { return b.lines(NameRoles(b.Grants(nil), nil), false) }

// all returns everything that the token needs: one role for each path, the shortest path first.
func (b Bootstrap) all() []Need {
	all := b.needs(false)
	slices.SortStableFunc(all, func(a, b Need) int { return cmp.Compare(len(a.Path), len(b.Path)) })
	var merged []Need
	for _, need := range all {
		if i := slices.IndexFunc(merged, func(m Need) bool { return m.Path == need.Path }); i >= 0 {
			merged[i].add(need.Privileges...)
		} else {
			merged = append(merged, need)
		}
	}
	return merged
}

// Lacks returns what an identity with these privileges lacks of everything that the token needs.
func (b Bootstrap) Lacks(held realm.Privileges) []realm.Privilege {
	var lacks []realm.Privilege
	for _, need := range b.all() {
		for _, name := range need.Privileges {
			if !held.Hold(need.Path, name) {
				lacks = append(lacks, realm.Privilege{Name: name, Path: need.Path})
			}
		}
	}
	return lacks
}

// Grants returns the roles that an identity with these privileges needs beyond them: one for each path where it lacks something,
// the shortest path first. A grant replaces what is inherited from paths above. So each role also holds what the identity has on
// its path now. One below a path of this program's own, for groups of an issuer, holds what is needed on that path too.
func (b Bootstrap) Grants(held realm.Privileges) []Need {
	have := maps.Clone(held)
	if have == nil {
		have = realm.Privileges{}
	}
	var grants []Need
	for _, need := range b.all() {
		own := have.At(need.Path)
		if !slices.ContainsFunc(need.Privileges, func(name string) bool { return !have.Hold(need.Path, name) }) {
			continue
		}
		need.add(slices.Collect(maps.Keys(held.At(need.Path)))...)
		if slices.Contains(need.Privileges, "Permissions.Modify") {
			need.add(slices.Collect(maps.Keys(own))...)
		}
		have[need.Path] = map[string]bool{}
		for _, name := range need.Privileges {
			have[need.Path][name] = true
		}
		grants = append(grants, need)
	}
	return grants
}

// NameRoles gives roles with other privileges other names than those of a cluster, and of each other: RealmAdmin2, RealmAdmin3.
func NameRoles(needs []Need, existing realm.Roles) []Need {
	used := maps.Clone(existing)
	if used == nil {
		used = realm.Roles{}
	}
	for i, need := range needs {
		base := strings.TrimRight(need.Role, "0123456789")
		for n := 2; !sameSet(used[need.Role], need.Privileges); n++ {
			if _, taken := used[need.Role]; !taken {
				used[need.Role] = need.Privileges
				break
			}
			need.Role = fmt.Sprintf("%s%d", base, n)
		}
		needs[i] = need
	}
	return needs
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// add adds privileges to a role. If it is another role then, it is called so.
func (n *Need) add(privileges ...string) {
	all := slices.Compact(slices.Sorted(slices.Values(slices.Concat(n.Privileges, privileges))))
	if len(all) > len(n.Privileges) {
		n.Role, n.Privileges = strings.TrimRight(n.Role, "2")+"2", all
	}
}

// lines returns the commands for these needs. beyond tells that the token is there.
func (b Bootstrap) lines(needs []Need, beyond bool) []string {
	d := dialectOf(b.Product)
	k := d.product.Host()
	creations, grants := d.granting(b.Token(), needs...)
	var lines []string
	switch {
	case b.Access != nil:
		lines = append(lines, "# Whoever holds this token can give itself any role on the paths below: it is as good as an administrator's.")
	case b.Diagnose:
		lines = append(lines, "# This opens the whole system log of "+k.All+" to the token, with the names and addresses of users.")
	case !b.Audit && k.Strong != "":
		lines = append(lines, k.Strong)
	}
	if k.Enter != "" {
		lines = append(lines, k.Enter)
	}
	for _, create := range creations { // first: if somebody stops halfway, nothing exists that could log in
		lines = append(lines, create+" || true")
	}
	if !beyond {
		lines = append(lines, k.AddUser.With("user", b.user())+" --comment 'keeps OpenID Connect realms' || true")
		lines = append(lines, b.makeToken(k)...)
	}
	lines = append(lines, grants...)
	if d.grantDelay > 0 {
		lines = append(lines, fmt.Sprintf("# The grants count after %s.", d.grantDelay))
	}
	return lines
}

// makeToken returns the lines that create the token and keep its secret, which the product shows once.
func (b Bootstrap) makeToken(k realm.Host) []string {
	full := b.Token() + b.Product.TokenSeparators()[:1]
	if k.MakeToken == "" {
		return []string{
			fmt.Sprintf("# No command makes a token: in the web interface, under Access Control, add the API token %s of %s.", b.id(), b.user()),
			fmt.Sprintf("# Write %sSECRET, with the secret that is shown there once, to the file of proxmox.token_file.", full),
		}
	}
	return []string{
		"secret=$(" + k.MakeToken.With("user", b.user(), "id", b.id()) + ` | sed -n 's/.*"value": *"\([^"]*\)".*/\1/p')`,
		fmt.Sprintf(`if [ -n "$secret" ]; then (umask 077; printf '%%s%%s\n' %s "$secret" > %s); fi`, check.Quote(full), TokenFile),
		fmt.Sprintf(`[ -n "$secret" ] || printf '%%s\n' %s %s >&2`,
			check.Quote("no new token: if "+b.Token()+" exists and its secret is lost, run the lines that this prints:"),
			check.Quote("    proxmox-realm "+cmp.Or(b.Again, "bootstrap")+" --token-id "+check.Quote(b.id()+"2"))),
	}
}

// granting returns the commands that give an identity (user@realm!id or user@realm) a role, after those that make the role. A
// token may do what both it and its user may, so both get the role.
func (d *dialect) granting(who string, needs ...Need) (creations, grants []string) {
	host := d.product.Host()
	user, _, isToken := strings.Cut(who, "!")
	for _, need := range needs {
		if len(need.Privileges) > 0 && host.AddRole != "" {
			create := host.AddRole.With("role", need.Role, "privileges", strings.Join(need.Privileges, ","))
			if !slices.Contains(creations, create) {
				creations = append(creations, create)
			}
		}
		words := []string{"path", need.Path, "role", need.Role, "token", who, "user", user}
		grants = append(grants, host.GrantUser.With(words...))
		if isToken {
			grants = append(grants, host.GrantToken.With(words...))
		}
	}
	return creations, grants
}

// grant is the hint that gives an identity a privilege on a path.
func (d *dialect) grant(who, path, privilege string) check.Hint {
	creations, grants := d.granting(who, d.need(privilege, path))
	return d.product.Host().Run(d.late(), append(creations, grants...)...)
}

// late is the note that a grant does not count at once.
func (d *dialect) late() string {
	if d.grantDelay == 0 {
		return ""
	}
	return "it counts after " + d.grantDelay.String()
}
