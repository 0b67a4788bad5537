package pve

import (
	"maps"
	"slices"
	"strings"
)

func (s *Server) roleEndpoints() []*endpoint {
	role := schema{"roleid": &roleParam}
	data := role.and(schema{"privs": {kind: "string", format: s.verifyPriv, list: true, optional: true}})
	modify := s.need("/access", "Sys.Modify")
	return []*endpoint{
		{method: "GET", path: "/access/roles", all: true, run: s.listRoles},
		{method: "POST", path: "/access/roles", proxied: true, allowed: modify, params: data, run: s.createRole},
		{method: "GET", path: "/access/roles/{roleid}", all: true, params: role, run: s.readRole},
		{
			method: "PUT", path: "/access/roles/{roleid}", proxied: true, allowed: modify, run: s.updateRole,
			params: data.and(schema{"append": {kind: "boolean", optional: true, requires: "privs"}}),
		},
		{method: "DELETE", path: "/access/roles/{roleid}", proxied: true, allowed: modify, params: role, run: s.deleteRole},
	}
}

// builtinRoles are the roles and privileges that a node of some version has
// (PVE::AccessControl::create_roles).
func builtinRoles(v version) (roles map[string]map[string]bool, privs map[string]bool) {
	type groups struct{ root, admin, user, audit string }
	vm := groups{
		admin: "Config.Disk Config.CPU Config.Memory Config.Network Config.HWType Config.Options Allocate Clone Migrate Snapshot Snapshot.Rollback",
		user:  "Config.CDROM Config.Cloudinit Console Backup PowerMgmt",
		audit: "Audit",
	}
	if v.has(sinceGuestAgentRights) {
		vm.admin += " Replicate GuestAgent.Unrestricted"
		vm.user += " GuestAgent.FileRead GuestAgent.FileWrite GuestAgent.FileSystemMgmt"
		vm.audit += " GuestAgent.Audit"
	} else {
		vm.admin += " Monitor"
	}
	all := map[string]groups{
		"VM":        vm,
		"Sys":       {root: "Sys.PowerMgmt Sys.Modify Sys.Incoming Sys.AccessNetwork", admin: "Sys.Console Sys.Syslog", audit: "Sys.Audit"},
		"Datastore": {admin: "Datastore.Allocate Datastore.AllocateTemplate", user: "Datastore.AllocateSpace", audit: "Datastore.Audit"},
		"SDN":       {admin: "SDN.Allocate SDN.Audit", user: "SDN.Use", audit: "SDN.Audit"},
		"User":      {root: "Realm.Allocate", admin: "User.Modify Group.Allocate Realm.AllocateUser"},
		"Pool":      {admin: "Pool.Allocate", user: "Pool.Audit", audit: "Pool.Audit"},
	}
	if v.atLeast(8, 0) {
		all["Mapping"] = groups{admin: "Mapping.Modify", user: "Mapping.Use", audit: "Mapping.Audit"}
	}
	privs = map[string]bool{"Permissions.Modify": true}
	roles = map[string]map[string]bool{
		"NoAccess":        {},
		"Administrator":   privs,
		"PVEAdmin":        {},
		"PVEAuditor":      {},
		"PVETemplateUser": {"VM.Clone": true, "VM.Audit": true},
	}
	for cat, g := range all {
		fields := func(s string) []string {
			list := strings.Fields(s)
			if cat == "VM" {
				for i := range list {
					list[i] = "VM." + list[i]
				}
			}
			return list
		}
		add := func(role string, lists ...string) {
			if roles[role] == nil {
				roles[role] = map[string]bool{}
			}
			for _, l := range lists {
				for _, p := range fields(l) {
					roles[role][p] = true
					privs[p] = true
				}
			}
		}
		add("Administrator", g.root, g.admin, g.user, g.audit)
		add("PVE"+cat+"Admin", g.admin, g.user, g.audit)
		add("PVEAdmin", g.admin, g.user, g.audit)
		if g.user != "" {
			add("PVE"+cat+"User", g.user, g.audit)
		}
		add("PVEAuditor", g.audit)
	}
	delete(roles["PVEAdmin"], "Mapping.Modify")
	return roles, privs
}

func (s *Server) verifyPriv(p string) error {
	if !s.privs[p] {
		return dief("invalid privilege '%s'", p)
	}
	return nil
}

// rolePrivs are the privileges of a role, ok says whether there is one.
func (s *Server) rolePrivs(st *State, role string) (privs map[string]bool, ok bool) {
	if p, ok := s.roles[role]; ok {
		return p, true
	}
	list, ok := st.Roles[role]
	privs = map[string]bool{}
	for _, p := range list {
		privs[p] = true
	}
	return privs, ok
}

func (s *Server) listRoles(*call) (any, error) {
	st := s.view()
	list := []any{}
	add := func(name string, privs map[string]bool, special any) {
		list = append(list, map[string]any{"roleid": name, "privs": strings.Join(slices.Sorted(maps.Keys(privs)), ","), "special": special})
	}
	for name, privs := range s.roles {
		add(name, privs, 1)
	}
	for name := range st.Roles {
		privs, _ := s.rolePrivs(st, name)
		add(name, privs, 0)
	}
	return byJSON(list), nil
}

func (s *Server) readRole(c *call) (any, error) {
	privs, ok := s.rolePrivs(s.view(), c.text("roleid"))
	if !ok {
		return nil, dief("role '%s' does not exist", c.text("roleid"))
	}
	d := map[string]any{}
	for p := range privs {
		d[p] = 1
	}
	return d, nil
}

func (s *Server) createRole(c *call) (any, error) {
	name := c.text("roleid")
	if len(name) >= 3 && strings.EqualFold(name[:3], "PVE") && s.version.atLeast(8, 0) {
		return nil, badParams(map[string]string{"roleid": "cannot use role ID starting with the (case-insensitive) 'PVE' namespace"})
	}
	return nil, s.withUsers("create role failed", func(st *State) error {
		if _, ok := s.rolePrivs(st, name); ok {
			return dief("role '%s' already exists", name)
		}
		st.Roles[name] = splitList(c.text("privs"))
		return nil
	})
}

func (s *Server) updateRole(c *call) (any, error) {
	name := c.text("roleid")
	if s.roles[name] != nil {
		return nil, dief("auto-generated role '%s' cannot be modified", name)
	}
	return nil, s.withUsers("update role failed", func(st *State) error {
		privs, ok := st.Roles[name]
		if !ok {
			return dief("role '%s' does not exist", name)
		}
		if !truthy(c.params["append"]) {
			privs = nil
		}
		st.Roles[name] = append(slices.Clone(privs), splitList(c.text("privs"))...)
		return nil
	})
}

func (s *Server) deleteRole(c *call) (any, error) {
	name := c.text("roleid")
	if s.roles[name] != nil {
		return nil, dief("auto-generated role '%s' cannot be deleted", name)
	}
	return nil, s.withUsers("delete role failed", func(st *State) error {
		if _, ok := st.Roles[name]; !ok {
			return dief("role '%s' does not exist", name)
		}
		delete(st.Roles, name)
		st.ACL = slices.DeleteFunc(st.ACL, func(e ACL) bool { return e.Role == name })
		return nil
	})
}
