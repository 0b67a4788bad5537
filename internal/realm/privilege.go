package realm

import (
	"slices"
	"strings"
)

// Privileges are the privileges that credentials hold, by path. The value says whether they hold below the path too.
type Privileges map[string]map[string]bool

// At returns the privileges at a path. A path that is not listed inherits from the nearest one above it, because Proxmox
// lists each path with an entry of its own (PVE::RPCEnvironment::get_effective_permissions).
func (p Privileges) At(path string) map[string]bool {
	if held, ok := p[path]; ok {
		return held
	}
	inherited := map[string]bool{}
	for path != "/" {
		path = NormalPath(path[:strings.LastIndexByte(path, '/')])
		held, ok := p[path]
		for name, propagates := range held {
			if propagates {
				inherited[name] = true
			}
		}
		if ok {
			break
		}
	}
	return inherited
}

// Hold reports whether one of the privileges is held at a path.
func (p Privileges) Hold(path string, names ...string) bool {
	held := p.At(path)
	return slices.ContainsFunc(names, func(name string) bool { _, ok := held[name]; return ok })
}

// Privilege is one that credentials lack.
type Privilege struct{ Name, Path string }

// String returns "Group.Allocate on /access/groups".
func (p Privilege) String() string { return p.Name + " on " + p.Path }

// Complete reports whether the credentials see all groups and all entries. Otherwise Proxmox leaves out what they may not
// change.
func (c CurrentAccess) Complete() bool {
	return c.Own.Hold("/access", "Sys.Audit") && c.Own.Hold("/access/groups", "Sys.Audit", "Group.Allocate", "User.Modify")
}

// seesGroup reports whether Proxmox would list a group to the credentials (PVE::API2::Group, index).
func (c CurrentAccess) seesGroup(group string) bool {
	return c.Own.Hold("/access/groups/"+group, "Sys.Audit", "Group.Allocate", "User.Modify")
}

// seesEntries reports whether Proxmox lists the entries of a path to the credentials (PVE::API2::ACL, read_acl).
func (c CurrentAccess) seesEntries(path string) bool {
	return c.Own.Hold("/access", "Sys.Audit") || c.Own.Hold(path, modifying(path)...)
}

// modifying returns the privileges that open a path for changes (PVE::RPCEnvironment::check_perm_modify).
func modifying(path string) []string {
	names := []string{"Permissions.Modify"}
	for parent, allocate := range map[string]string{"/storage/": "Datastore.Allocate", "/vms/": "VM.Allocate", "/pool/": "Pool.Allocate"} {
		if strings.HasPrefix(path, parent) {
			names = append(names, allocate)
		}
	}
	return names
}

// missing returns the privileges that the credentials lack for changes, each once.
func (c CurrentAccess) missing(changes []AccessChange) []Privilege {
	var missing []Privilege
	for _, change := range changes {
		lacks := Privilege{"Permissions.Modify", change.Grant.Path}
		may := change.Kind == AccessGrant && c.mayChange(change)
		if change.Kind == AccessGroup {
			lacks = Privilege{"Group.Allocate", "/access/groups"}
			may = c.Own.Hold(lacks.Path, lacks.Name)
		}
		if !may && !slices.Contains(missing, lacks) {
			missing = append(missing, lacks)
		}
	}
	return missing
}

// mayChange reports whether the credentials may make or remove a grant. Without Permissions.Modify they may hand out roles
// whose privileges they hold themselves, below /storage, /vms and /pool (PVE::API2::ACL, update_acl).
func (c CurrentAccess) mayChange(change AccessChange) bool {
	g := change.Grant
	if c.Own.Hold(g.Path, "Permissions.Modify") {
		return true
	}
	own, role := c.Own.At(g.Path), c.Roles[g.Role]
	return c.Own.Hold(g.Path, modifying(g.Path)...) && len(role) > 0 && !slices.ContainsFunc(role, func(name string) bool {
		propagates, held := own[name]
		return !held || change.Op == Set && g.Propagate && !propagates
	})
}

// powerful reports whether a grant lets its holder change permissions or realms everywhere.
func (r Roles) powerful(g Grant) bool {
	if g.Path != "/" && g.Path != "/access" && g.Path != "/access/realm" {
		return false
	}
	return slices.ContainsFunc(r[g.Role], func(p string) bool { return p == "Permissions.Modify" || p == "Realm.Allocate" })
}
