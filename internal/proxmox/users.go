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
	groups, err := c.groups(ctx)
	if err != nil {
		return check.Check{}, err
	}
	r := rights{login: login, users: able, host: c.dialect.product.Host(), clean: c.cleaner.Clean, gives: map[realm.Entry]bool{}}
	if r.holders = []string{"user"}; c.dialect.product.HasGroups() {
		r.holders, r.declare = []string{"user", "group"}, "set {access} to the issuer's groups and the roles that they get"
	}
	for _, u := range able {
		r.gives[realm.Entry{Type: "user", ID: u.ID}] = true
	}
	var names []string
	for _, g := range groups {
		names = append(names, r.clean(g.ID))
		// A login adds its user to groups of this name (PVE::API2::OpenId).
		name, fromIssuer := strings.CutSuffix(g.ID, "-"+login.Realm)
		if fromIssuer = fromIssuer && name != ""; fromIssuer && r.issuers == "" {
			r.issuers = g.ID
		}
		r.gives[realm.Entry{Type: "group", ID: g.ID}] = fromIssuer && login.GroupsClaim != "" ||
			slices.ContainsFunc(separated(g.Users), func(id string) bool { return r.gives[realm.Entry{Type: "user", ID: id}] })
	}
	if login.GroupsClaim != "" && !login.GroupsAutocreate && r.issuers == "" {
		return r.ignoredGroups(names), nil
	}
	if visible, err := c.may(ctx, c.dialect.seeGrants); err != nil {
		return check.Check{}, err
	} else if see := c.dialect.seeGrants; !visible { // Proxmox would silently omit entries
		return check.Skipped(check.ProxmoxAccess, "not checked: grants are not visible without %s on %s", see.all[0], see.path), nil
	}
	entries, err := c.entries(ctx)
	if err != nil {
		return check.Check{}, err
	}
	if slices.ContainsFunc(entries, func(e realm.Entry) bool { return e.Role != "NoAccess" && r.gives[realm.Entry{Type: e.Type, ID: e.ID}] }) {
		return check.Passed(check.ProxmoxAccess, "a %s of realm %s has a role", strings.Join(r.holders, " or "), login.Realm), nil
	}
	return check.Warned(check.ProxmoxAccess, check.Hints(r.declare, r.grant()),
		"users may log in and then do nothing: no %s of realm %s has a role", strings.Join(r.holders, " and no "), login.Realm).
		Because("none of the %d ACL entries gives a role to somebody who can log in", len(entries)), nil
}

// rights is what the users of a realm may get a role by.
type rights struct {
	login   realm.Login
	users   []User               // who can log in
	gives   map[realm.Entry]bool // users and groups: a role of theirs is one of somebody who can log in
	issuers string               // a group that the issuer's groups lead to; "" if there is none
	holders []string             // what a role may be granted to
	declare check.Hint           // to declare access; "" if the product has no groups
	host    realm.Host
	clean   func(string) string // for what is shown
}

// ignoredGroups is the finding that Proxmox has none of the issuer's groups. It ignores unknown groups.
func (r rights) ignoredGroups(names []string) check.Check {
	suffix := "-" + r.login.Realm
	return check.Warned(check.ProxmoxAccess, check.Hints(
		r.declare, r.host.Run("for each group GROUP of the issuer", r.host.AddGroup.With("group", "GROUP"+suffix)),
		"set {realm.groups_autocreate} to true"), "Proxmox ignores the groups of a login: it has no group whose name ends in %s, and groups-autocreate is off", suffix).
		Because("groups in Proxmox: %s", cmp.Or(strings.Join(names, ", "), "none"))
}

// grant says how somebody of the realm gets a role.
func (r rights) grant() check.Hint {
	k := r.host
	user, group := "NAME@"+r.login.Realm, "GROUP-"+r.login.Realm
	grantUser := func(name string) string { return k.GrantUser.With("path", "/", "user", name, "role", k.Auditor) }
	grantGroup := func(name string) string { return k.GrantGroup.With("path", "/", "group", name, "role", k.Auditor) }
	switch {
	case r.login.GroupsClaim != "" && r.issuers != "":
		return k.Run("", grantGroup(r.clean(r.issuers)))
	case r.login.GroupsClaim != "":
		return k.Run("", k.AddGroup.With("group", group), grantGroup(group))
	case len(r.users) > 0:
		return k.Run("", grantUser(r.clean(r.users[0].ID)))
	case r.declare == "":
		return k.Run("once NAME has logged in", grantUser(user))
	}
	return check.Hints(
		k.Run("", k.AddUser.With("user", user), grantUser(user)),
		"set {realm.groups_claim} to groups: then logins add users to groups, which may have roles")
}
