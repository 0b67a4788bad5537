package realm

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
)

// Access is what the issuer's groups may do in Proxmox: the group as the issuer calls it, and exactly the grants that it
// has. Groups that are not named are not managed.
type Access map[string][]Grant

// Grant gives a role on a path of the access control list.
type Grant struct {
	Path      string // as [NormalPath] returns it
	Role      string
	Propagate bool // also below the path
}

// MarshalYAML returns the grant as a configuration file holds it, without a propagate that is true.
func (g Grant) MarshalYAML() (any, error) {
	var propagate *bool
	if !g.Propagate {
		propagate = &g.Propagate
	}
	return struct {
		Path, Role string
		Propagate  *bool `yaml:",omitempty"`
	}{g.Path, g.Role, propagate}, nil
}

// Roles maps each role that Proxmox knows to its privileges.
type Roles map[string][]string

// Entry is one entry of Proxmox's access control list.
type Entry struct {
	Path      string
	Type      string // "user", "group" or "token"
	ID        string // of the user, group or token
	Role      string
	Propagate bool
}

// CurrentAccess is what Proxmox holds of groups, roles and grants, as far as the credentials may see it.
type CurrentAccess struct {
	Product Product
	Groups  []string
	Entries []Entry
	Own     Privileges // of the credentials
	Roles   Roles      // nil: not read, see [AccessPlan.NeedsRoles]
}

// AccessKind is what an access change is about.
type AccessKind string

// The kinds.
const (
	AccessGroup AccessKind = "group"
	AccessGrant AccessKind = "grant"
)

// AccessChange is one group or grant that differs.
type AccessChange struct {
	Kind  AccessKind
	Op    Op     // a group is only ever set
	Group string // as Proxmox calls it
	Grant Grant  // of a grant
	Flips bool   // of a grant that is set: it is there, with the other value of Propagate
}

// String returns "+ group admins-authelia", "+ grant admins-authelia PVEAdmin on /" or "- grant …".
func (c AccessChange) String() string {
	sign := "+"
	if c.Op == Unset {
		sign = "-"
	}
	if c.Kind == AccessGroup {
		return sign + " group " + c.Group
	}
	text := fmt.Sprintf("%s grant %s %s on %s", sign, c.Group, c.Grant.Role, c.Grant.Path)
	if c.Op == Set && !c.Grant.Propagate {
		text += " (not below it)"
	}
	return text
}

// AccessPlan turns groups and grants into the declared ones. Build one with [DiffAccess].
type AccessPlan struct {
	Changes []AccessChange // in the order in which they are made: groups, new grants, removed grants
	// Hidden lists what is declared and may exist: the credentials may not see it. These are no changes.
	Hidden  []AccessChange
	Missing []Privilege  // that the credentials need for Changes and Hidden
	Refusal *check.Error // why nothing may be written; nil if the plan can be carried out
	// Powerful lists new grants that make whoever controls the issuer's groups as powerful as root.
	Powerful []string
	// Replacing lists grants that take from members of another declared group what that group inherits on their path.
	Replacing []string

	rolesUnread bool
}

// Empty reports whether there is nothing to do, as far as the credentials see it.
func (p AccessPlan) Empty() bool { return p.Refusal == nil && len(p.Changes) == 0 }

// NeedsRoles reports whether the plan depends on [CurrentAccess].Roles, which were not read.
func (p AccessPlan) NeedsRoles() bool {
	isGrant := func(c AccessChange) bool { return c.Kind == AccessGrant }
	return p.rolesUnread && (slices.ContainsFunc(p.Changes, isGrant) || slices.ContainsFunc(p.Hidden, isGrant))
}

// GroupName returns what Proxmox calls an issuer's group (PVE::API2::OpenId).
func GroupName(group, realm string) string { return group + "-" + realm }

// DiffAccess plans what makes Proxmox hold exactly the declared grants for the declared groups.
//
//	declared                       Proxmox                             change
//	-----------------------------  ----------------------------------  -------------------------
//	a group                        no such group                       + group
//	a grant                        no such entry of the group          + grant
//	a grant                        the entry, propagated differently   + grant, which replaces it
//	a group without such a grant   an entry of the group               - grant
//	a group or grant               not visible to the credentials      none: it is hidden
//	a role that Proxmox lacks      –                                   refuse
//	grants, no groups claim        –                                   refuse
//	anything                       a product without groups            refuse
//
// Entries of users, tokens and groups that are not declared never appear in a change.
func DiffAccess(want Access, realmName string, login Login, have CurrentAccess) AccessPlan {
	plan := AccessPlan{rolesUnread: have.Roles == nil}
	if plan.Refusal = refuseAccess(want, login, have); plan.Refusal != nil {
		return plan
	}
	var grants, revocations []AccessChange
	for _, name := range want.Groups() {
		group := GroupName(name, realmName)
		held := have.of(group)
		if create := (AccessChange{Kind: AccessGroup, Op: Set, Group: group}); !have.has(group) {
			if have.seesGroup(group) {
				plan.Changes = append(plan.Changes, create)
			} else {
				plan.Hidden = append(plan.Hidden, create)
			}
		}
		for _, g := range want[name] {
			other := g
			other.Propagate = !g.Propagate
			grant := AccessChange{Kind: AccessGrant, Op: Set, Group: group, Grant: g, Flips: slices.Contains(held, other)}
			switch {
			case slices.Contains(held, g):
			case have.seesEntries(g.Path):
				grants = append(grants, grant)
			default:
				plan.Hidden = append(plan.Hidden, grant)
			}
		}
		for _, g := range held {
			if !slices.ContainsFunc(want[name], func(w Grant) bool { return w.Path == g.Path && w.Role == g.Role }) {
				revocations = append(revocations, AccessChange{Kind: AccessGrant, Op: Unset, Group: group, Grant: g})
			}
		}
	}
	plan.Changes = slices.Concat(plan.Changes, grants, revocations)
	plan.Missing = have.missing(slices.Concat(plan.Changes, plan.Hidden))
	for _, c := range grants {
		if have.Roles.powerful(c.Grant) {
			plan.Powerful = append(plan.Powerful, fmt.Sprintf("%s on %s for the group %s", c.Grant.Role, c.Grant.Path, c.Group))
		}
	}
	plan.Replacing = replacing(want, realmName, grants, have.Roles)
	return plan
}

// replacing lists the declared grants that replace inherited ones, as far as one of both is new. Proxmox looks for the deepest
// path at which one of a user's groups has a grant, and then only at the grants there (PVE::AccessControl, roles).
func replacing(want Access, realmName string, added []AccessChange, roles Roles) []string {
	var all []AccessChange
	for _, name := range want.Groups() {
		for _, g := range want[name] {
			all = append(all, AccessChange{Kind: AccessGrant, Op: Set, Group: GroupName(name, realmName), Grant: g})
		}
	}
	var list []string
	for _, upper := range all {
		for _, deeper := range all {
			isNew := slices.Contains(added, upper) || slices.Contains(added, deeper)
			if !isNew || !upper.Grant.Propagate || !inside(deeper.Grant.Path, upper.Grant.Path) {
				continue
			}
			var kept []string // what a member of both groups holds on the deeper path
			for _, c := range all {
				if c.Grant.Path == deeper.Grant.Path && (c.Group == upper.Group || c.Group == deeper.Group) {
					kept = append(kept, roles[c.Grant.Role]...)
				}
			}
			if slices.ContainsFunc(roles[upper.Grant.Role], func(p string) bool { return !slices.Contains(kept, p) }) {
				who := upper.Group
				if deeper.Group != who {
					who += " and in " + deeper.Group
				}
				list = append(list, fmt.Sprintf("whoever is in %s has only %s on %s: a grant there replaces %s, which %s has on %s",
					who, deeper.Grant.Role, deeper.Grant.Path, upper.Grant.Role, upper.Group, upper.Grant.Path))
			}
		}
	}
	return list
}

// inside reports whether a path is below another.
func inside(path, above string) bool {
	return path != above && (above == "/" || strings.HasPrefix(path, above+"/"))
}

// refuseAccess returns why the declared access cannot be written.
func refuseAccess(want Access, login Login, have CurrentAccess) *check.Error {
	granting := slices.ContainsFunc(want.Groups(), func(name string) bool { return len(want[name]) > 0 })
	unknown := want.UnknownRoles(have.Roles)
	switch {
	case !have.Product.HasGroups():
		return check.Errorf(check.UnknownProperty, "%s has no groups: roles are given to each user there", have.Product.Name()).At("access").
			Try("remove {access} from the configuration of this target")
	case unknown != nil:
		return unknown
	case granting && login.GroupsClaim == "":
		return check.Errorf(check.NoGroupsClaim, "grants need a groups claim: without one nobody becomes a member of a group").At("access").
			Try("set {realm.groups_claim} to groups, or to the claim that holds the user's groups")
	}
	return nil
}

// UnknownRoles returns an error with [check.UnknownRole] if a grant names a role that does not exist. Nil roles are not known.
func (a Access) UnknownRoles(roles Roles) *check.Error {
	var unknown []string
	for _, name := range a.Groups() {
		for _, g := range a[name] {
			if _, ok := roles[g.Role]; !ok && roles != nil && !slices.Contains(unknown, g.Role) {
				unknown = append(unknown, g.Role)
			}
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	return check.Errorf(check.UnknownRole, "Proxmox has no role %s", strings.Join(unknown, ", ")).At("access").
		Try("run on a node (it lists the roles that exist):\n    pveum role list") // only Proxmox VE has groups
}

// Groups returns the declared groups, sorted, as the issuer calls them.
func (a Access) Groups() []string { return slices.Sorted(maps.Keys(a)) }

// Paths returns the paths of all grants, sorted.
func (a Access) Paths() []string {
	var paths []string
	for _, grants := range a {
		for _, g := range grants {
			paths = append(paths, g.Path)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// has reports whether a group exists, as far as the credentials see it.
func (c CurrentAccess) has(group string) bool {
	return slices.Contains(c.Groups, group) ||
		slices.ContainsFunc(c.Entries, func(e Entry) bool { return e.Type == "group" && e.ID == group })
}

// of returns the grants of a group, sorted.
func (c CurrentAccess) of(group string) []Grant {
	var grants []Grant
	for _, e := range c.Entries {
		if e.Type == "group" && e.ID == group {
			grants = append(grants, Grant{Path: NormalPath(e.Path), Role: e.Role, Propagate: e.Propagate})
		}
	}
	slices.SortFunc(grants, func(a, b Grant) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Role, b.Role))
	})
	return grants
}

// Stored returns the access of a realm's groups as Proxmox holds it: what [DiffAccess] finds nothing to change in. A group
// that ends in the longer name of one of the other realms belongs to that one.
func (c CurrentAccess) Stored(realmName string, others ...string) Access {
	access := Access{}
	for _, group := range c.Groups {
		name, ok := strings.CutSuffix(group, "-"+realmName)
		foreign := slices.ContainsFunc(others, func(other string) bool {
			return len(other) > len(realmName) && strings.HasSuffix(group, "-"+other)
		})
		if ok && name != "" && !foreign {
			access[name] = c.of(group)
		}
	}
	return access
}

// NormalPath returns a path as Proxmox stores it (PVE::AccessControl::normalize_path): one slash before each part and
// none at the end.
func NormalPath(path string) string {
	parts := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	return "/" + strings.Join(parts, "/")
}

// aclPath matches the paths that Proxmox takes (PVE::AccessControl::check_path of Proxmox VE 9.2). Older versions know fewer of
// them below /sdn.
var aclPath = check.Pattern(`^(/|/access|/access/(groups|realm)(/[A-Za-z0-9._-]+)?|/nodes(/[A-Za-z0-9._-]+)?|/pool(/[A-Za-z0-9._-]+){0,3}` +
	`|/sdn|/sdn/controllers(/[A-Za-z0-9_-]+)?|/sdn/(dns|fabrics|ipams|prefix-lists|route-maps)(/[A-Za-z0-9]+)?` +
	`|/sdn/zones(/[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+(/[1-9][0-9]{0,3})?)?)?` +
	`|/storage(/[A-Za-z0-9._-]+)?|/vms(/[1-9][0-9]{2,})?|/mapping(/[A-Za-z0-9._-]+){0,2})$`)

// groupName matches the names of groups (PVE::AccessControl::verify_groupname).
var groupName = check.Pattern(`^[A-Za-z0-9._-]+$`)

// ValidateGroup returns what is wrong with the name of an issuer's group. Its error completes "must …" and says how the issuer
// can send another name.
func ValidateGroup(name string) error {
	const wrong = "must consist of letters, digits, '.', '_' and '-', because Proxmox ignores groups with other names"
	switch {
	case groupName().MatchString(name):
		return nil
	case strings.HasPrefix(name, "/"):
		return errors.New(wrong + ": let the issuer send the bare name of the group, without its path")
	case strings.Contains(name, "@"):
		return errors.New(wrong + ": let the issuer send the short name of the group, without what follows the @")
	}
	return errors.New(wrong + ": let the issuer send another name, or rename the group there")
}

// Validate returns what is wrong with a grant. Its error completes "must …".
func (g Grant) Validate() error {
	switch {
	case !aclPath().MatchString(g.Path):
		return errors.New("must be a path of Proxmox's access control list, such as /, /vms/100, /pool/dev or /storage/local")
	case !groupName().MatchString(g.Role):
		return errors.New("must name a role, such as PVEAuditor")
	}
	return nil
}
