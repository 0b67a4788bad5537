package login

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/proxmox"
)

// Identity is the user that Proxmox logged in, and what that user may do.
type Identity struct {
	User       string              `json:"-"`          // user@realm; "" if nobody was logged in
	Created    *bool               `json:"created"`    // whether Proxmox created the user in this login; nil: not visible
	Groups     []string            `json:"groups"`     // of Proxmox, sorted; nil: not visible
	Privileges map[string][]string `json:"privileges"` // by path, sorted; nil: not visible
	// GroupsSet are the groups into which this login put the user, by their names in Proxmox. GroupsRefused are the issuer's groups
	// whose names Proxmox does not take. nil: the log of the node was not read, or the realm has no groups.
	GroupsSet     []string   `json:"groups_set"`
	GroupsRefused []string   `json:"groups_refused"`
	Trouble       string     `json:"-"` // why the login set no groups, or not all: one sentence; "": nothing is wrong
	Hint          check.Hint `json:"-"` // gives a user without privileges some
}

// listUsers returns the ids of the realm's users, or nil if these credentials do not see them.
func listUsers(ctx context.Context, node *proxmox.Client, realmName string, log *slog.Logger) []string {
	list, visible, err := node.ListUsers(ctx, realmName)
	if err != nil {
		log.Debug("listing users", "realm", realmName, "error", err)
	}
	if err != nil || !visible {
		return nil
	}
	ids := []string{}
	for _, u := range list {
		ids = append(ids, u.ID)
	}
	return ids
}

// describe asks Proxmox, with the user's own ticket, what the user may do. before lists the realm's users before the login;
// nil: not visible. The login was sent at began. The error says why the privileges cannot be read.
func (r *rehearsal) describe(ctx context.Context, session proxmox.Session, before []string, began time.Time) (Identity, error) {
	who := Identity{User: session.Username}
	user := r.Client.On(session.Endpoint).As(session)
	privileges, failed := user.Privileges(ctx)
	if failed == nil {
		who.Privileges = map[string][]string{}
		for path, held := range privileges {
			if names := slices.Sorted(maps.Keys(held)); len(names) > 0 {
				who.Privileges[path] = names
			}
		}
	}
	known, found, err := user.Self(ctx)
	if err == nil && found {
		who.Groups = append([]string{}, known.Groups...)
		slices.Sort(who.Groups)
	} else {
		r.Log.Debug("reading the user's groups", "found", found, "error", err)
	}
	switch {
	case before != nil:
		created := !slices.Contains(before, session.Username)
		who.Created = &created
	case !r.held.Autocreate:
		who.Created = new(bool)
	}
	var login diagnose.Login
	if r.held.GroupsClaim != "" {
		var told bool
		if login, told = r.groupsOf(ctx, session, began); told {
			who.GroupsSet, who.GroupsRefused = append([]string{}, login.Groups...), append([]string{}, login.Refused...)
			who.Trouble = login.Summary
		}
	}
	switch {
	case who.Privileges != nil && len(who.Privileges) == 0:
		who.Hint = r.grants(who, login)
	case login.Cause == diagnose.GroupsUnknown: // the user has privileges, and nobody said that groups shall give some
		who.Trouble = ""
	default:
		who.Hint = login.Hint
	}
	return who, failed
}

// grants says how the user gets a role. The login is what the log tells of it, if that was read.
func (r *rehearsal) grants(who Identity, login diagnose.Login) check.Hint {
	host := r.Client.Product().Host()
	alone := check.Hints(host.Run("for this user", host.GrantUser.With("path", "/", "user", r.cleaner.Clean(who.User), "role", host.Auditor)),
		host.Run("shows other roles", host.ListRoles))
	claim := r.cleaner.Clean(r.held.GroupsClaim)
	switch {
	case claim == "" || who.Groups == nil:
		return alone
	case len(who.Groups) > 0:
		var names []string
		for _, g := range who.Groups {
			names = append(names, strings.TrimSuffix(g, "-"+r.held.Realm))
		}
		declare := check.Hintf("give one of the groups of this user a role in {access}: %s", strings.Join(names, ", "))
		group := host.GrantGroup.With("path", "/", "group", r.cleaner.Clean(who.Groups[0]), "role", host.Auditor)
		return check.Hints(login.Hint, declare, host.Run("for everyone in the group", group), alone)
	case login.Cause != "":
		return check.Hints(login.Hint, alone)
	}
	return check.Hints(
		check.Hintf("find out which: the issuer sent no claim %s, it is no list, or Proxmox has none of its groups as NAME-%s", claim, r.held.Realm),
		r.seeLog(),
		"set {realm.groups_autocreate} to true (if the groups are only missing in Proxmox)", alone)
}
