package proxmox

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// may tells whether the client holds privileges.
func (c *Client) may(ctx context.Context, p privileges) (bool, error) {
	own, err := c.permissions(ctx, url.Values{"path": {p.path}})
	return err == nil && p.held(own), err
}

// Privileges returns the client's own privileges by path, for the paths that have entries of their own.
func (c *Client) Privileges(ctx context.Context) (realm.Privileges, error) {
	return c.permissions(ctx, nil)
}

// permissions reads GET /access/permissions: of one path, of another identity, or of all paths that have entries. A privilege in
// the list is held at the path itself; its number tells whether paths below inherit it.
func (c *Client) permissions(ctx context.Context, query url.Values) (realm.Privileges, error) {
	var answer map[string]map[string]any
	if _, err := c.get(ctx, permissionsPath+"?"+query.Encode(), &answer); err != nil {
		return nil, err
	}
	all := make(realm.Privileges, len(answer))
	for path, privileges := range answer {
		held := make(map[string]bool, len(privileges))
		for name, propagates := range privileges {
			held[plainText(name)] = realm.Truth(propagates)
		}
		all[plainText(path)] = held
	}
	return all, nil
}

// User is a user as Proxmox lists it.
type User struct {
	ID      string   // user@realm
	Enabled bool     // enabled and not expired
	Groups  []string // only from [Client.Self]
}

// CountUsers counts the users of a realm. Visible is false if the client may not see users.
func (c *Client) CountUsers(ctx context.Context, realmName string) (realm.Users, error) {
	list, visible, err := c.ListUsers(ctx, realmName)
	if err != nil {
		return realm.Users{}, err
	}
	return realm.Users{Asked: true, Visible: visible, Count: len(list)}, nil
}

// ListUsers returns the users of a realm, sorted. If the client may not see all users, visible is false: Proxmox would answer
// with a shorter list.
func (c *Client) ListUsers(ctx context.Context, realmName string) (users []User, visible bool, err error) {
	if visible, err = c.may(ctx, c.dialect.seeUsers); err != nil || !visible {
		return nil, false, err
	}
	var answer []wireUser
	if _, err := c.get(ctx, usersPath, &answer); err != nil {
		return nil, false, err
	}
	for _, w := range answer {
		if strings.HasSuffix(w.UserID, "@"+realmName) {
			users = append(users, w.user())
		}
	}
	slices.SortFunc(users, func(a, b User) int { return strings.Compare(a.ID, b.ID) })
	return users, true, nil
}

// Self returns the client's own user with its groups. It is false if Proxmox does not list the user. Every user sees
// itself in GET /access/users, but GET /access/users/{userid} needs privileges (PVE::API2::User).
func (c *Client) Self(ctx context.Context) (User, bool, error) {
	var answer []wireUser
	if _, err := c.get(ctx, c.dialect.users, &answer); err != nil {
		return User{}, false, err
	}
	i := slices.IndexFunc(answer, func(w wireUser) bool { return w.UserID == c.Identity() })
	if i < 0 {
		return User{}, false, nil
	}
	return answer[i].user(), true, nil
}

// wireUser is a user in the API.
type wireUser struct {
	UserID string      `json:"userid"`
	Enable any         `json:"enable"` // absent: enabled
	Expire json.Number `json:"expire"` // Unix time; 0: never
	Groups string      `json:"groups"` // separated by commas
}

func (w wireUser) user() User {
	end, _ := w.Expire.Int64()
	enabled, expired := w.Enable == nil || realm.Truth(w.Enable), end > 0 && end < time.Now().Unix()
	return User{ID: plainText(w.UserID), Enabled: enabled && !expired, Groups: separated(w.Groups)}
}

// group is a group in the API. A login adds its user to groups whose name is GROUP-REALM.
type group struct {
	ID    string `json:"groupid"`
	Users string // user@realm, separated by commas
}

// groups returns the groups that the client may see, sorted. The list is complete with Sys.Audit on /access/groups. It is empty
// for a product without groups.
func (c *Client) groups(ctx context.Context) (groups []group, err error) {
	if !c.dialect.product.HasGroups() {
		return nil, nil
	}
	_, err = c.get(ctx, groupsPath, &groups)
	for i, g := range groups {
		groups[i].ID = plainText(g.ID)
	}
	slices.SortFunc(groups, func(a, b group) int { return strings.Compare(a.ID, b.ID) })
	return groups, err
}

// plainText returns a name that is compared and sent again. It may hold a secret: a group may have the name of a client
// key. Secrets are replaced only where the name is shown. What could steer a terminal is in no name of Proxmox.
func plainText(name string) string {
	return strings.ReplaceAll(check.Printable(name), "\n", " ")
}

// separated splits and sorts a list that Proxmox joined.
func separated(joined string) []string {
	out := strings.FieldsFunc(plainText(joined), func(r rune) bool { return r == ',' || r == ' ' })
	slices.Sort(out)
	return out
}

// Roles returns the privileges of each role, sorted. Every caller may see them.
func (c *Client) Roles(ctx context.Context) (realm.Roles, error) {
	var answer []struct {
		ID         string `json:"roleid"`
		Privileges string `json:"privs"`
	}
	if _, err := c.get(ctx, rolesPath, &answer); err != nil {
		return nil, err
	}
	roles := make(realm.Roles, len(answer))
	for _, w := range answer {
		roles[plainText(w.ID)] = separated(w.Privileges)
	}
	return roles, nil
}

// entries returns the entries of the access control list that Proxmox shows to the client.
func (c *Client) entries(ctx context.Context) ([]realm.Entry, error) {
	var answer []struct {
		Path      string `json:"path"`
		Type      string `json:"type"`
		UgidType  string `json:"ugid_type"` // of the products that have no member type
		ID        string `json:"ugid"`
		Role      string `json:"roleid"`
		Propagate any    `json:"propagate"`
	}
	if _, err := c.get(ctx, aclPath, &answer); err != nil {
		return nil, err
	}
	var entries []realm.Entry
	for _, w := range answer {
		entries = append(entries, realm.Entry{
			Path: plainText(w.Path), Type: cmp.Or(w.Type, w.UgidType), ID: plainText(w.ID), Role: plainText(w.Role), Propagate: realm.Truth(w.Propagate),
		})
	}
	return entries, nil
}

// Access reads groups, the access control list and the client's own privileges, in three requests. Proxmox lists only what
// the client may see; the privileges tell what that is. Roles are not read.
func (c *Client) Access(ctx context.Context) (current realm.CurrentAccess, err error) {
	current.Product = c.dialect.product
	groups, err := c.groups(ctx)
	if err != nil {
		return current, err
	}
	for _, g := range groups {
		current.Groups = append(current.Groups, g.ID)
	}
	if current.Entries, err = c.entries(ctx); err != nil {
		return current, err
	}
	current.Own, err = c.Privileges(ctx)
	return current, err
}

// Change makes one change of groups and grants (POST /access/groups, PUT /access/acl). A grant names one path, group and
// role, so that it changes no other entry. Nothing is wrong if a group or grant is already as it should be. The errors match
// [realm.ErrConflict] if the group of a grant does not exist, and [realm.ErrLost] if no answer came.
func (c *Client) Change(ctx context.Context, change realm.AccessChange) error {
	if change.Kind == realm.AccessGroup {
		err := c.change(ctx, http.MethodPost, groupsPath, map[string]any{"groupid": change.Group})
		if errors.Is(err, realm.ErrConflict) {
			return nil
		}
		return err
	}
	g := change.Grant
	body := map[string]any{"path": g.Path, "groups": change.Group, "roles": g.Role, "propagate": g.Propagate}
	if change.Op == realm.Unset {
		delete(body, "propagate")
		body["delete"] = true
	}
	return c.change(ctx, http.MethodPut, aclPath, body)
}
