package setup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

// Account is the token that the program will use, and what it must be allowed to do.
type Account struct {
	proxmox.Bootstrap
	Place Place
	Here  bool // the secret of the token is on this machine
}

// user returns the user of the token.
func (a Account) user() string {
	user, _, _ := strings.Cut(a.Token(), "!")
	return user
}

// Missing returns what an administrator has to make in Proxmox: roles, user, token and grants, in this order. It looks for each and
// changes nothing. It returns [check.TokenTaken] if the token is there and its secret is not here. It returns
// [check.PermissionDenied] if the administrator may not make what is missing, and [check.UnknownRole] if a declared grant has a role that
// does not exist.
func (a Account) Missing(ctx context.Context, admin *proxmox.Client) ([]Step, error) {
	userExists, err := admin.UserExists(ctx, a.user())
	if err != nil {
		return nil, err
	}
	tokens, err := a.missingToken(ctx, admin, userExists)
	if err != nil {
		return nil, err
	}
	roles, err := admin.Roles(ctx)
	if err != nil {
		return nil, err
	}
	if unknown := a.Access.UnknownRoles(roles); unknown != nil {
		return nil, unknown
	}
	grants, err := a.missingGrants(ctx, admin, userExists, roles)
	if err != nil {
		return nil, err
	}
	var steps []Step
	var needs []realm.Privilege
	for _, g := range grants {
		needs = append(needs, realm.Privilege{Name: "Permissions.Modify", Path: g.Path})
		if _, exists := roles[g.Role]; !exists {
			roles[g.Role] = g.Privileges
			needs = append(needs, realm.Privilege{Name: "Sys.Modify", Path: "/access"})
			steps = append(steps, Step{
				What: "role " + g.Role, Note: strings.Join(g.Privileges, ", "), Undo: []string{"pveum role delete " + g.Role},
				Make: func(ctx context.Context) error { return admin.MakeRole(ctx, g.Role, g.Privileges...) },
			})
		}
	}
	if !userExists {
		_, own, _ := strings.Cut(a.user(), "@")
		needs = append(needs, realm.Privilege{Name: "Realm.AllocateUser", Path: "/access/realm/" + own})
		steps = append(steps, Step{
			What: "user " + a.user(), Note: "without a password", Undo: []string{"pveum user delete " + check.Quote(a.user())},
			Make: func(ctx context.Context) error { return admin.MakeUser(ctx, a.user(), "keeps OpenID Connect realms") },
		})
	}
	if len(tokens) > 0 || !userExists {
		needs = append(needs, realm.Privilege{Name: "User.Modify", Path: "/access/groups"})
	}
	steps = append(steps, tokens...)
	for _, g := range slices.Backward(grants) { // a setup that is interrupted leaves nothing to inherit, so the next one plans the same
		steps = append(steps, g.step(admin, a.user(), userExists))
	}
	if len(steps) == 0 {
		return nil, nil
	}
	return steps, suffices(ctx, admin, needs)
}

// suffices returns an error if the administrator lacks privileges.
func suffices(ctx context.Context, admin *proxmox.Client, needs []realm.Privilege) error {
	own, err := admin.Privileges(ctx)
	if err != nil {
		return err
	}
	var lacks []string
	for _, need := range needs {
		if _, held := own.At(need.Path)[need.Name]; !held && !slices.Contains(lacks, need.String()) {
			lacks = append(lacks, need.String())
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	return check.Errorf(check.PermissionDenied, "%s may not set this up, nothing was made in Proxmox: missing is %s",
		admin.Identity(), strings.Join(lacks, ", ")).
		Try("log in as root@pam, or as a user with the role Administrator on /",
			"let somebody else run the commands on a node:\n    {init --print-commands}")
}

// Strong tells whether an identity may make roles, users, tokens and grants. A token that may is used once, to make a lesser one.
func Strong(own realm.Privileges) bool {
	for _, need := range []realm.Privilege{
		{Name: "Sys.Modify", Path: "/access"},
		{Name: "Permissions.Modify", Path: "/access/realm"},
		{Name: "User.Modify", Path: "/access/groups"},
		{Name: "Realm.AllocateUser", Path: "/access/realm/pve"},
	} {
		if _, held := own.At(need.Path)[need.Name]; !held {
			return false
		}
	}
	return true
}

// grant is an entry of the access control list that is missing.
type grant struct {
	proxmox.Need
	who []string
}

// missingGrants returns what is missing of the access control list, the shortest path first. There is one grant for each path, unless
// user and token hold different things there. An existing role is used if it holds exactly the same.
func (a Account) missingGrants(ctx context.Context, admin *proxmox.Client, userExists bool, existing realm.Roles) ([]grant, error) {
	held := map[string]realm.Privileges{}
	for _, id := range []string{a.user(), a.Token()} {
		if !userExists {
			break
		}
		privileges, err := admin.PrivilegesOf(ctx, id) // none, if there is no such token
		if err != nil {
			return nil, err
		}
		held[id] = privileges
	}
	return a.grants(held, existing), nil
}

// grants compares what user and token hold with what they need.
func (a Account) grants(held map[string]realm.Privileges, existing realm.Roles) []grant {
	var needs []proxmox.Need
	var who [][]string
	for _, id := range []string{a.user(), a.Token()} {
		for _, need := range a.Grants(held[id]) {
			same := func(n proxmox.Need) bool { return n.Path == need.Path && slices.Equal(n.Privileges, need.Privileges) }
			if i := slices.IndexFunc(needs, same); i >= 0 {
				who[i] = append(who[i], id)
				continue
			}
			needs, who = append(needs, need), append(who, []string{id})
		}
	}
	missing := make([]grant, len(needs))
	for i, need := range proxmox.NameRoles(needs, existing) {
		missing[i] = grant{need, who[i]}
	}
	return missing
}

// step makes a grant. The grants of a user that the setup makes go with the user.
func (g grant) step(admin *proxmox.Client, user string, userExists bool) Step {
	s := Step{
		What: fmt.Sprintf("grant %s on %s", g.Role, g.Path), Note: "to " + strings.Join(g.who, " and "),
		Make: func(ctx context.Context) error { return g.make(ctx, admin, user) },
	}
	for _, id := range g.who {
		if userExists && !strings.Contains(id, "!") {
			s.Undo = append(s.Undo, fmt.Sprintf("pveum acl delete %s --roles %s --users %s", g.Path, g.Role, check.Quote(id)))
		}
	}
	return s
}

// make makes a grant and reads it back. A grant that did not take ends the setup. After grants on paths above, the next setup would
// find inherited privileges here, and need another role. A token shows no privilege that its user does not hold yet.
func (g grant) make(ctx context.Context, admin *proxmox.Client, user string) error {
	if err := admin.Grant(ctx, g.Path, g.Role, g.who...); err != nil {
		return err
	}
	most, err := admin.PrivilegesOf(ctx, user)
	for _, id := range g.who {
		held := most
		if id != user && err == nil {
			held, err = admin.PrivilegesOf(ctx, id)
		}
		if err != nil {
			return err
		}
		for _, name := range g.Privileges {
			_, has := held.At(g.Path)[name]
			_, may := most.At(g.Path)[name]
			if !has && (may || id == user) {
				return check.Errorf(check.NotTaken, "Proxmox accepted the grant, but %s does not have it", id).Try("run the command again")
			}
		}
	}
	return nil
}

// Check uses the token and returns an error if it lacks something.
func (a Account) Check(ctx context.Context, token *proxmox.Client) error {
	own, err := token.Privileges(ctx)
	if err != nil {
		return err
	}
	lacks := a.Lacks(own)
	if len(lacks) == 0 {
		return nil
	}
	var names []string
	for _, l := range lacks {
		names = append(names, l.String())
	}
	return check.Errorf(check.PermissionDenied, "the API token %s lacks %s", token.Identity(), strings.Join(names, ", ")).
		Try("let an administrator give it what it lacks:\n    {init --username root@pam}",
			"let somebody else run the commands on a node:\n    {init --print-commands}")
}

// IsLack tells whether an error is about privileges that a token lacks, so that an administrator can help.
func IsLack(err error) bool {
	var e *proxmox.Error
	return check.CodeOf(err) == check.PermissionDenied && !errors.As(err, &e)
}
