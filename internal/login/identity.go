package login

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/proxmox"
)

// Identity is the user that Proxmox logged in, and what that user may do.
type Identity struct {
	User       string              `json:"-"`          // user@realm; "" if nobody was logged in
	Created    *bool               `json:"created"`    // whether Proxmox created the user in this login; nil: not visible
	Groups     []string            `json:"groups"`     // of Proxmox, sorted; nil: not visible
	Privileges map[string][]string `json:"privileges"` // by path, sorted; nil: not visible
	Hint       check.Hint          `json:"-"`          // gives a user without privileges some
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
// nil: not visible. The error says why the privileges cannot be read.
func (r *rehearsal) describe(ctx context.Context, session proxmox.Session, before []string) (Identity, error) {
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
	if who.Privileges != nil && len(who.Privileges) == 0 {
		who.Hint = r.grants(who)
	}
	return who, failed
}

// grants says how the user gets a role.
func (r *rehearsal) grants(who Identity) check.Hint {
	host := proxmox.HostOf(r.Client.Product())
	var remedy check.Hint
	switch {
	case r.held.GroupsClaim != "" && len(who.Groups) > 0:
		remedy = check.Hints(
			"set {access} to a role for a group of this user",
			host.GrantGroup(r.cleaner.Clean(who.Groups[0]), "for everyone in the group"))
	case r.held.GroupsClaim != "" && who.Groups != nil:
		remedy = check.Hints(
			check.Set("access", "").
				With("the claim %s named no group that Proxmox has as NAME-%s", r.cleaner.Clean(r.held.GroupsClaim), r.held.Realm),
			check.Set("realm.groups_autocreate", "true"))
	}
	return check.Hints(remedy, host.GrantUser(r.cleaner.Clean(who.User), "for this user"), host.Roles("shows other roles"))
}
