package proxmox

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
)

// This file holds what an administrator does to set up a token in Proxmox VE: roles, users, tokens and grants. It also holds what a
// cluster says of its nodes. Errors of the writes match [realm.ErrConflict] if a role, user or token is there already, and
// [realm.ErrLost] if no answer came.

// Role reads the privileges of a role, sorted (GET /access/roles/{roleid}; any user may). It is false if there is no such role.
func (c *Client) Role(ctx context.Context, name string) (privileges []string, exists bool, err error) {
	var answer map[string]any
	_, err = c.get(ctx, rolesPath+"/"+url.PathEscape(name), &answer)
	if exists, err = found(err); !exists {
		return nil, false, err
	}
	return slices.Sorted(maps.Keys(answer)), true, nil
}

// MakeRole makes a role (POST /access/roles). It needs Sys.Modify on /access.
func (c *Client) MakeRole(ctx context.Context, name string, privileges ...string) error {
	return c.change(ctx, http.MethodPost, rolesPath, map[string]any{"roleid": name, "privs": strings.Join(privileges, ",")})
}

// UserExists tells whether there is a user, user@realm (GET /access/users/{userid}). It needs User.Modify or Sys.Audit on
// /access/groups.
func (c *Client) UserExists(ctx context.Context, user string) (bool, error) {
	var answer map[string]any
	_, err := c.get(ctx, userPath(user), &answer)
	return found(err)
}

// MakeUser makes a user, user@realm, without a password (POST /access/users). It needs Realm.AllocateUser on the user's realm
// and User.Modify on /access/groups. Proxmox takes a user of a realm that does not exist.
func (c *Client) MakeUser(ctx context.Context, user, comment string) error {
	return c.change(ctx, http.MethodPost, usersPath, map[string]any{"userid": user, "comment": comment})
}

// TokenComment reads the comment of a user's token (GET /access/users/{userid}/token/{tokenid}). It is false if there is no such
// token. Each user may ask for own tokens; for others it needs User.Modify on /access/groups. Nobody can read a secret again.
func (c *Client) TokenComment(ctx context.Context, user, id string) (comment string, exists bool, err error) {
	var answer struct{ Comment string }
	_, err = c.get(ctx, tokenPath(user, id), &answer)
	exists, err = found(err)
	return plainText(answer.Comment), exists, err
}

// RemoveToken removes a token and its grants (DELETE /access/users/{userid}/token/{tokenid}). It needs what MakeToken needs.
func (c *Client) RemoveToken(ctx context.Context, user, id string) error {
	return c.change(ctx, http.MethodDelete, tokenPath(user, id), nil)
}

// MakeToken makes a token with privilege separation that never expires (POST /access/users/{userid}/token/{tokenid}). The secret
// is shown this once; the cleaner learns it. After a lost answer the token may be there without a secret.
func (c *Client) MakeToken(ctx context.Context, user, id, comment string) (config.Token, error) {
	owner, err := config.ParseUserID(c.dialect.product, user)
	if err != nil {
		return config.Token{}, check.Errorf(check.Usage, "a user %v", err)
	}
	var answer struct{ Value string }
	path := tokenPath(user, id)
	r := request{
		method: http.MethodPost, path: path, write: true, as: c.identity,
		body: map[string]any{"privsep": 1, "expire": 0, "comment": comment},
	}
	endpoint, err := c.do(ctx, r, &answer)
	if err != nil {
		return config.Token{}, err
	}
	c.cleaner.Hold(check.NewSecret(answer.Value))
	if answer.Value == "" {
		return config.Token{}, c.unusable(r.method, path, endpoint, "its answer holds no secret of the token")
	}
	return config.Token{User: owner, ID: id, Secret: check.NewSecret(answer.Value)}, nil
}

// Grant gives a role on a path to users, user@realm, and tokens, user@realm!id (PUT /access/acl). A token with privilege separation
// may do what both it and its user may. The role counts below the path too. It needs Permissions.Modify on the path. A grant that
// is there already is no error. What an identity inherits from a path above no longer counts for it on this path.
func (c *Client) Grant(ctx context.Context, path, role string, who ...string) error {
	var users, tokens []string
	for _, id := range who {
		if strings.Contains(id, "!") {
			tokens = append(tokens, id)
		} else {
			users = append(users, id)
		}
	}
	body := map[string]any{"path": path, "roles": role, "propagate": 1}
	for kind, ids := range map[string][]string{"users": users, "tokens": tokens} {
		if len(ids) > 0 {
			body[kind] = strings.Join(ids, ",")
		}
	}
	return c.change(ctx, http.MethodPut, aclPath, body)
}

// PrivilegesOf returns the effective privileges of another identity, user@realm or user@realm!id, by path (GET
// /access/permissions). Of a token that does not exist there are none. Each user may ask about own tokens; for others it needs
// Sys.Audit on /access.
func (c *Client) PrivilegesOf(ctx context.Context, id string) (realm.Privileges, error) {
	return c.permissions(ctx, url.Values{"userid": {id}})
}

// Cluster is what a node says of its cluster.
type Cluster struct {
	Name    string // "" if the node is in no cluster
	Quorate bool   // can write; true for a node in no cluster
	Members []Member
}

// Member is a node of a cluster.
type Member struct {
	Name    string
	Address string // as the cluster's own network knows it; "" if it is not known
}

// Cluster reads the state of the cluster (GET /cluster/status). It needs Sys.Audit on /.
func (c *Client) Cluster(ctx context.Context) (Cluster, error) {
	var answer []struct {
		Type, Name, IP string
		Quorate        any
	}
	if _, err := c.get(ctx, "/cluster/status", &answer); err != nil {
		return Cluster{}, err
	}
	cluster := Cluster{Quorate: true}
	for _, w := range answer {
		if w.Type == "cluster" {
			cluster.Name, cluster.Quorate = plainText(w.Name), realm.Truth(w.Quorate)
			continue
		}
		cluster.Members = append(cluster.Members, Member{plainText(w.Name), plainText(w.IP)})
	}
	return cluster, nil
}

// NodeCertificate is a certificate file of a node.
type NodeCertificate struct {
	File  string   `json:"filename"` // pve-root-ca.pem, pve-ssl.pem or pveproxy-ssl.pem
	PEM   string   `json:"pem"`
	Names []string `json:"san"`
}

// AuthorityFile is the name of the file with the cluster's own certificate authority.
const AuthorityFile = "pve-root-ca.pem"

// Certificates lists the certificate files of a node (GET /nodes/{node}/certificates/info; any user may). The last one is the one
// that the node serves. localhost is the node that answers.
func (c *Client) Certificates(ctx context.Context, node string) (certificates []NodeCertificate, err error) {
	_, err = c.get(ctx, nodePath(node, "certificates/info"), &certificates)
	for _, certificate := range certificates {
		for i, name := range certificate.Names {
			certificate.Names[i] = plainText(name)
		}
	}
	return certificates, err
}

// found turns the error of something that is not there into false.
func found(err error) (bool, error) {
	var e *Error
	if errors.As(err, &e) && e.Kind == Absent {
		return false, nil
	}
	return err == nil, err
}

func userPath(user string) string      { return usersPath + "/" + url.PathEscape(user) }
func tokenPath(user, id string) string { return userPath(user) + "/token/" + url.PathEscape(id) }
