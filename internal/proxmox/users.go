package proxmox

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// maxUserID is the maximum length of a user id, including the realm (PVE::Auth::Plugin::verify_username).
const maxUserID = 64

// uuidLength is the length of the subjects of Authelia, Keycloak, Zitadel and others.
const uuidLength = 36

// CheckUsers is proxmox.users: whether the users of a login can exist. If access is set, it is also proxmox.access of a realm
// whose access is not declared: whether Proxmox grants its users anything. Its error says why Proxmox could not be asked; then
// the checks are skipped.
func (c *Client) CheckUsers(ctx context.Context, login realm.Login, access bool) ([]check.Check, error) {
	began := time.Now()
	users, able, err := c.checkUsers(ctx, login)
	if users, err = skipped(users, check.ProxmoxUsers, err); err != nil || !access {
		return []check.Check{users.Took(time.Since(began))}, err
	}
	if able == nil || len(able) == 0 && !login.Autocreate {
		unasked := check.Skipped(check.ProxmoxAccess, "not checked: needs proxmox.users")
		return []check.Check{users.Took(time.Since(began)), unasked}, nil
	}
	users, began = users.Took(time.Since(began)), time.Now()
	rights, err := c.checkRights(ctx, login, able)
	rights, err = skipped(rights, check.ProxmoxAccess, err)
	return []check.Check{users, rights.Took(time.Since(began))}, err
}

// skipped turns an error into a skipped check. A denied permission is no error: these credentials cannot see more.
func skipped(found check.Check, id check.ID, err error) (check.Check, error) {
	var denied *Error
	switch {
	case errors.As(err, &denied) && denied.Kind == PermissionDenied:
		return check.Skipped(id, "not checked: %v", err), nil
	case err != nil:
		return check.Skipped(id, "not checked: %v", err), err
	}
	return found, nil
}

// checkUsers is proxmox.users. It returns the users who can log in, nil if that is not known.
func (c *Client) checkUsers(ctx context.Context, login realm.Login) (found check.Check, able []User, err error) {
	const id = check.ProxmoxUsers
	room := maxUserID - 1 - len(login.Realm)
	if login.UsernameClaim == "sub" && room < uuidLength {
		shorter := check.Hintf("set {realm.name} to a name of at most %d characters", maxUserID-1-uuidLength)
		return check.Warned(id, check.Hints(shorter, "set {realm.username_claim} to a claim with shorter values"),
			"user ids from UUIDs of %d characters and @%s exceed Proxmox's limit of %d characters",
			uuidLength, login.Realm, maxUserID), nil, nil
	}
	users, visible, err := c.ListUsers(ctx, login.Realm)
	if err != nil {
		return check.Check{}, nil, err
	}
	if !visible {
		creations, grants := c.dialect.granting(c.Identity(), c.dialect.need(c.dialect.audit, "/access"))
		return check.Skipped(id, "not checked: %s may not see users", c.Identity()).
			Because("to let it see users and their privileges: %s", strings.Join(append(creations, grants...), "; ")), nil, nil
	}
	count := realm.Users{Asked: true, Visible: true, Count: len(users)}
	able = slices.DeleteFunc(append([]User{}, users...), func(u User) bool { return !u.Enabled })
	found = check.Passed(id, "realm %s has %s", login.Realm, count).
		Because("%d enabled; autocreate is off, so nobody else can log in", len(able))
	switch {
	case login.Autocreate:
		found = check.Passed(id, "realm %s has %s, and creates others when they log in", login.Realm, count).
			Because("a user name may have up to %d characters", room)
	case len(able) == 0:
		k := c.dialect.product.Host()
		hint := check.Hints(k.Run("for each user", k.AddUser.With("user", "NAME@"+login.Realm)), "set {realm.autocreate} to true")
		return check.Failed(id, hint, "nobody can log in: autocreate is off, and realm %s has no enabled user", login.Realm).
			Because("%s, %d enabled", count, len(able)), able, nil
	}
	return found, able, nil
}

// checkRights looks for logins that succeed and lead nowhere: Proxmox ignores the user's groups, or no user and group of
// the realm has a role.
func (c *Client) checkRights(ctx context.Context, login realm.Login, able []User) (check.Check, error) {
	groups, err := c.Groups(ctx)
	if err != nil {
		return check.Check{}, err
	}
	r := rights{login: login, users: able, groups: groups, dialect: c.dialect, clean: c.cleaner.Clean}
	if ignored, ok := r.ignoredGroups(); ok {
		return ignored, nil
	}
	entries, visible, err := c.ACL(ctx)
	if err != nil {
		return check.Check{}, err
	}
	if !visible {
		see := c.dialect.seeGrants
		return check.Skipped(check.ProxmoxAccess, "not checked: grants are not visible without %s on %s", see.all[0], see.path), nil
	}
	if none, ok := r.noRole(entries); ok {
		return none, nil
	}
	return check.Passed(check.ProxmoxAccess, "a %s of realm %s has a role", strings.Join(r.holders(), " or "), login.Realm), nil
}

// rights is what the users of a realm may get a role by.
type rights struct {
	login   realm.Login
	users   []User // who can log in
	groups  []Group
	dialect *dialect
	clean   func(string) string // for what is shown
}

// fromIssuer tells whether a group has the name of one that a login adds its user to: the issuer's name, "-" and the realm's
// (PVE::API2::OpenId).
func (r rights) fromIssuer(group string) bool {
	return strings.HasSuffix(group, "-"+r.login.Realm) && len(group) > len(r.login.Realm)+1
}

// holders is what a role may be granted to.
func (r rights) holders() []string {
	if r.dialect.product.HasGroups() {
		return []string{"user", "group"}
	}
	return []string{"user"}
}

// declareAccess is the remedy for a realm whose users may do nothing. It is "" if the product has no groups.
func (r rights) declareAccess() check.Hint {
	if !r.dialect.product.HasGroups() {
		return ""
	}
	return "set {access} to the issuer's groups and the roles that they get"
}

// ignoredGroups finds that Proxmox has none of the issuer's groups. It ignores unknown groups.
func (r rights) ignoredGroups() (check.Check, bool) {
	if r.login.GroupsClaim == "" || r.login.GroupsAutocreate || r.issuerGroup() != "" {
		return check.Check{}, false
	}
	ids := []string{}
	for _, g := range r.groups {
		ids = append(ids, r.clean(g.ID))
	}
	suffix := "-" + r.login.Realm
	k := r.dialect.product.Host()
	return check.Warned(check.ProxmoxAccess, check.Hints(
		r.declareAccess(), k.Run("for each group GROUP of the issuer", k.AddGroup.With("group", "GROUP"+suffix)),
		"set {realm.groups_autocreate} to true"), "Proxmox ignores the groups of a login: it has no group whose name ends in %s, and groups-autocreate is off", suffix).
		Because("groups in Proxmox: %s", cmp.Or(strings.Join(ids, ", "), "none")), true
}

// noRole finds that no entry of the access control list names a user or group of the realm.
func (r rights) noRole(entries []realm.Entry) (check.Check, bool) {
	for _, e := range entries {
		user := e.Kind == "user" && r.has(e.ID)
		group := e.Kind == "group" && (r.populated(e.ID) || r.fromIssuer(e.ID) && r.login.GroupsClaim != "")
		if e.Role != "NoAccess" && (user || group) {
			return check.Check{}, false
		}
	}
	return check.Warned(check.ProxmoxAccess, check.Hints(r.declareAccess(), r.roleRemedy()),
		"users may log in and then do nothing: no %s of realm %s has a role", strings.Join(r.holders(), " and no "), r.login.Realm).
		Because("none of the %d ACL entries gives a role to somebody who can log in", len(entries)), true
}

// roleRemedy says how somebody of the realm gets a role.
func (r rights) roleRemedy() check.Hint {
	k := r.dialect.product.Host()
	user, group := "NAME@"+r.login.Realm, "GROUP-"+r.login.Realm
	grantUser := func(name string) string { return k.GrantUser.With("path", "/", "user", name, "role", k.Auditor) }
	grantGroup := func(name string) string { return k.GrantGroup.With("path", "/", "group", name, "role", k.Auditor) }
	switch existing := r.issuerGroup(); {
	case r.login.GroupsClaim != "" && existing != "":
		return k.Run("", grantGroup(r.clean(existing)))
	case r.login.GroupsClaim != "":
		return k.Run("", k.AddGroup.With("group", group), grantGroup(group))
	case len(r.users) > 0:
		return k.Run("", grantUser(r.clean(r.users[0].ID)))
	case !r.dialect.product.HasGroups():
		return k.Run("once NAME has logged in", grantUser(user))
	}
	return check.Hints(
		k.Run("", k.AddUser.With("user", user), grantUser(user)),
		"set {realm.groups_claim} to groups: then logins add users to groups, which may have roles")
}

// issuerGroup returns a group with the name of one of the issuer's, or "".
func (r rights) issuerGroup() string {
	for _, g := range r.groups {
		if r.fromIssuer(g.ID) {
			return g.ID
		}
	}
	return ""
}

// has tells whether a user can log in through the realm.
func (r rights) has(userID string) bool {
	return slices.ContainsFunc(r.users, func(u User) bool { return u.ID == userID })
}

// populated tells whether a group has a member who can log in.
func (r rights) populated(group string) bool {
	return slices.ContainsFunc(r.groups, func(g Group) bool { return g.ID == group && slices.ContainsFunc(g.Members, r.has) })
}
