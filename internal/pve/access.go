package pve

import (
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

// Permissions returns the client's own privileges at a path such as /access/realm, those inherited from above included.
func (c *Client) Permissions(ctx context.Context, path string) (map[string]bool, error) {
	all, err := c.permissions(ctx, url.Values{"path": {path}})
	if err != nil {
		return nil, err
	}
	return all[path], nil
}

// UserPermissions returns a user's privileges by path; the client's own where userID is empty. Those of others
// need Sys.Audit on /access.
func (c *Client) UserPermissions(ctx context.Context, userID string) (map[string]map[string]bool, error) {
	query := url.Values{}
	if userID != "" {
		query.Set("userid", userID)
	}
	return c.permissions(ctx, query)
}

// permissions reads GET /access/permissions. Its numbers say whether a privilege is inherited below the path: one that is
// there at all is held, be its number 0.
func (c *Client) permissions(ctx context.Context, query url.Values) (map[string]map[string]bool, error) {
	path := "/access/permissions"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	data, endpoint, err := c.get(ctx, path, realmLimit)
	if err != nil {
		return nil, err
	}
	var answer map[string]json.RawMessage
	if err := object(data, &answer); err != nil {
		return nil, c.useless(endpoint, "/access/permissions", err)
	}
	held := make(map[string]map[string]bool, len(answer))
	for at, list := range answer {
		var privileges map[string]json.RawMessage
		if err := object(list, &privileges); err != nil {
			return nil, c.useless(endpoint, "/access/permissions", err)
		}
		at = c.cleaner.Clean(at)
		held[at] = make(map[string]bool, len(privileges))
		for name := range privileges {
			held[at][c.cleaner.Clean(name)] = true
		}
	}
	return held, nil
}

// User is a user as Proxmox lists it.
type User struct {
	ID      string // user@realm
	Enabled bool
	Expire  time.Time // zero: never
	Email   string
	Name    string // first and last name
	Comment string
	Groups  []string // from [Client.User] alone
}

// Users returns the users of a realm. Proxmox answers an empty list to whom it does not show users, so the privilege is
// asked for first: without Sys.Audit or User.Modify on /access/groups, Visible is false and there is no list.
func (c *Client) Users(ctx context.Context, realmName string) (realm.Users, []User, error) {
	const groups = "/access/groups"
	if _, err := domainPath(realmName); err != nil {
		return realm.Users{}, nil, err
	}
	held, err := c.Permissions(ctx, groups)
	if err != nil {
		return realm.Users{}, nil, err
	}
	if !held["Sys.Audit"] && !held["User.Modify"] {
		return realm.Users{Asked: true}, nil, nil
	}
	data, endpoint, err := c.get(ctx, "/access/users", userLimit)
	if err != nil {
		return realm.Users{}, nil, err
	}
	var answer []wireUser
	if err := json.Unmarshal(data, &answer); err != nil {
		return realm.Users{}, nil, c.useless(endpoint, "/access/users", err)
	}
	var users []User
	for _, w := range answer {
		if _, of, _ := cutLast(string(w.UserID)); of == realmName {
			users = append(users, c.user(string(w.UserID), w))
		}
	}
	slices.SortFunc(users, func(a, b User) int { return strings.Compare(a.ID, b.ID) })
	return realm.Users{Asked: true, Visible: true, Count: len(users)}, users, nil
}

// Group is a group as Proxmox lists it. One that a login brings along is called after the issuer's and the realm: GROUP-REALM.
type Group struct {
	ID      string
	Members []string // user@realm, sorted
}

// Groups returns the groups that the credentials may see. Proxmox leaves out the others without a word: the list is
// complete where Users says that it is visible.
func (c *Client) Groups(ctx context.Context) ([]Group, error) {
	const path = "/access/groups"
	data, endpoint, err := c.get(ctx, path, userLimit)
	if err != nil {
		return nil, err
	}
	var answer []struct {
		ID    text `json:"groupid"`
		Users text `json:"users"` // joined by commas
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, c.useless(endpoint, path, err)
	}
	groups := make([]Group, 0, len(answer))
	for _, w := range answer {
		g := Group{ID: c.cleaner.Clean(string(w.ID))}
		for _, member := range separated(string(w.Users)) {
			g.Members = append(g.Members, c.cleaner.Clean(member))
		}
		slices.Sort(g.Members)
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b Group) int { return strings.Compare(a.ID, b.ID) })
	return groups, nil
}

// Entry is one entry of the access control list: a role at a path for a user, a group or a token.
type Entry struct {
	Path string
	Type string // user, group or token
	ID   string
	Role string
}

// ACL returns the access control list. Proxmox shows it as a whole to whom has Sys.Audit on /access, and leaves out
// entries for everyone else: visible is false then, and there is no list.
func (c *Client) ACL(ctx context.Context) (entries []Entry, visible bool, err error) {
	const path = "/access/acl"
	held, err := c.Permissions(ctx, "/access")
	if err != nil || !held["Sys.Audit"] {
		return nil, false, err
	}
	data, endpoint, err := c.get(ctx, path, userLimit)
	if err != nil {
		return nil, false, err
	}
	var answer []struct {
		Path text `json:"path"`
		Type text `json:"type"`
		ID   text `json:"ugid"`
		Role text `json:"roleid"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, false, c.useless(endpoint, path, err)
	}
	for _, w := range answer {
		entries = append(entries, Entry{
			Path: c.cleaner.Clean(string(w.Path)), Type: string(w.Type), ID: c.cleaner.Clean(string(w.ID)), Role: c.cleaner.Clean(string(w.Role)),
		})
	}
	return entries, true, nil
}

// separated splits a text that Proxmox joined.
func separated(joined string) []string {
	return strings.FieldsFunc(joined, func(r rune) bool { return r == ',' || r == ' ' })
}

// User reads one user with its groups; false where there is none.
func (c *Client) User(ctx context.Context, userID string) (User, bool, error) {
	if _, of, ok := cutLast(userID); !ok || of == "" || strings.ContainsAny(userID, "/:") || !printable(userID) {
		return User{}, false, check.Errorf(check.Config, "a user's name is not of the form user@realm")
	}
	path := "/access/users/" + url.PathEscape(userID)
	data, endpoint, err := c.get(ctx, path, realmLimit)
	var e *Error
	if errors.As(err, &e) && e.Kind == Absent {
		return User{}, false, nil
	}
	if err != nil {
		return User{}, false, err
	}
	var w wireUser
	if err := json.Unmarshal(data, &w); err != nil {
		return User{}, false, c.useless(endpoint, path, err)
	}
	return c.user(userID, w), true, nil
}

// wireUser is a user as the API writes it. Groups are a list here and a comma-separated text there.
type wireUser struct {
	UserID    text            `json:"userid"`
	Enable    any             `json:"enable"`
	Expire    json.Number     `json:"expire"`
	Email     text            `json:"email"`
	FirstName text            `json:"firstname"`
	LastName  text            `json:"lastname"`
	Comment   text            `json:"comment"`
	Groups    json.RawMessage `json:"groups"`
}

func (c *Client) user(id string, w wireUser) User {
	u := User{
		ID: c.cleaner.Clean(id), Enabled: w.Enable == nil || truth(w.Enable), // absent: enabled, as the schema's default
		Email: c.cleaner.Clean(string(w.Email)), Comment: c.cleaner.Clean(string(w.Comment)),
		Name: c.cleaner.Clean(string(w.FirstName) + " " + string(w.LastName)),
	}
	if seconds, err := w.Expire.Int64(); err == nil && seconds > 0 {
		u.Expire = time.Unix(seconds, 0)
	}
	var list []string
	var joined string
	if json.Unmarshal(w.Groups, &list) != nil && json.Unmarshal(w.Groups, &joined) == nil {
		list = separated(joined)
	}
	for _, g := range list {
		u.Groups = append(u.Groups, c.cleaner.Clean(g))
	}
	return u
}

// object reads a JSON object; Perl writes an empty one as [] here and there.
func object(data json.RawMessage, into *map[string]json.RawMessage) error {
	var empty []any
	if json.Unmarshal(data, &empty) == nil && len(empty) == 0 {
		return nil
	}
	return json.Unmarshal(data, into)
}

func (c *Client) useless(endpoint, path string, err error) error {
	return explained(&Error{
		Kind: BadAnswer, Status: http.StatusOK, Endpoint: endpoint, Method: http.MethodGet, Path: path,
		Reason: c.cleaner.Clean(err.Error()),
	})
}
