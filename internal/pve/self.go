package pve

import (
	"context"
	"encoding/json"
	"slices"
)

// Self returns the client's own user with its groups; false where Proxmox does not list it. Every user may see itself
// in GET /access/users, and with `full` its groups, though GET /access/users/{userid} needs privileges (PVE::API2::User).
func (c *Client) Self(ctx context.Context) (User, bool, error) {
	const path = "/access/users?full=1"
	data, endpoint, err := c.get(ctx, path, userLimit)
	if err != nil {
		return User{}, false, err
	}
	var answer []wireUser
	if err := json.Unmarshal(data, &answer); err != nil {
		return User{}, false, c.useless(endpoint, path, err)
	}
	i := slices.IndexFunc(answer, func(w wireUser) bool { return string(w.UserID) == c.Identity() })
	if i < 0 {
		return User{}, false, nil
	}
	return c.user(string(answer[i].UserID), answer[i]), true, nil
}
