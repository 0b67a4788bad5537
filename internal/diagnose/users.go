package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

const (
	// rename says how a user gets a name that Proxmox takes.
	rename check.Hint = "give the user another name at the issuer\n" +
		"set {realm.username_claim} (another claim, as long as nobody has logged in: Proxmox cannot change it later)"
	locked check.Hint = "try again; if it happens again, look at what holds the lock of /etc/pve/user.cfg"
)

// userRows are about the user whom the issuer names, and about groups.
var userRows = []row{
	{
		cause:   ClaimMissing,
		texts:   []pattern{"missing configured claim '%' in returned info object", "missing configured claim '%'", "missing claim '%'"},
		related: []check.ID{check.IssuerScopes, check.IssuerClaims},
		explain: func(f Facts, _ Login, v []string) (string, check.Hint) {
			summary := fmt.Sprintf("the issuer sent no claim %s, by which the realm named its users", v[0])
			if f.Login.UsernameClaim != "" && f.Login.UsernameClaim != "username" && f.Login.UsernameClaim != v[0] {
				return summary, corrected
			}
			return summary, check.Hints(f.sendClaim(v[0]), "set {realm.username_claim} (a claim that the issuer sends, as long as nobody has logged in: Proxmox cannot change it later)")
		},
	},
	{
		cause: NameRefused, user: 1, texts: []pattern{"value '%' does not look like a valid user name"},
		summary: "Proxmox refuses the user name $user: it takes no white space, no colon and no slash", hint: rename,
	},
	{
		cause: NameRefused, user: 1, texts: []pattern{"user name '%' is too long (%", "user name '%' is too short"},
		summary: "Proxmox refuses the user name $user: with its realm it must have 3 to 64 characters", hint: rename,
	},
	{
		cause: NameRefused, texts: []pattern{"invalid user name in user id", "writing \"%\" failed: syntax error in section identifier: value may only be %"},
		explain: func(_ Facts, l Login, _ []string) (string, check.Hint) {
			name := "the name of the user"
			if l.User != "" {
				name = "the user name " + l.User
			}
			return name + " is refused: with its realm it must have 3 to 64 characters, without white space, colons and slashes", rename
		},
	},
	{
		cause: UserAbsent, user: 1, texts: []pattern{"no such user ('%')"},
		explain: func(f Facts, l Login, _ []string) (string, check.Hint) {
			if f.Login.Autocreate {
				return fmt.Sprintf("the user %s did not exist, and logins did not create users then", l.User), corrected
			}
			return fmt.Sprintf("the user %s does not exist, and logins do not create users", l.User), f.admit(l.User)
		},
	},
	{
		cause: UserAbsent, user: 1, texts: []pattern{"user account '%' missing, disabled or expired"},
		summary: "the user $user does not exist, is disabled, or has expired; logins do not create users",
		more: func(f Facts, l Login) check.Hint {
			return check.Hints(f.admit(l.User), f.host().Run("if the user exists, and may log in", f.host().EnableUser.With("user", l.User)))
		},
	},
	{
		cause: UserDisabled, user: 1, texts: []pattern{"user '%' is disabled"},
		summary: "the user $user is disabled",
		more: func(f Facts, l Login) check.Hint {
			return f.host().Run("if this user may log in", f.host().EnableUser.With("user", l.User))
		},
	},
	{
		cause: UserExpired, user: 1, texts: []pattern{"user '%' access expired", "autocreate user failed - '%' already exists"},
		summary: "the user $user has expired",
		more: func(f Facts, l Login) check.Hint {
			return f.host().Run("if this user may log in, for good", f.host().ProlongUser.With("user", l.User))
		},
	},
	{
		cause: NoQuorum, texts: []pattern{"autocreate openid user failed: %no quorum%", "openid group mapping failed: %no quorum%"},
		summary: "the cluster has no quorum, so Proxmox can write neither a new user nor groups",
		hint:    "run on a node (it shows which nodes are missing):\n    pvecm status",
	},
	{
		cause: UserNotCreated, texts: []pattern{"autocreate openid user failed: %"},
		summary: "Proxmox could not create the user: $1", hint: locked,
	},
	{
		cause: GroupsNotWritten, texts: []pattern{"openid group mapping failed: %"},
		summary: "Proxmox could not write the groups of the user: $1", hint: locked,
	},
}

// stateRows are about the state that a login takes through the browser (proxmox-openid, auth_state.rs; serde_json).
var stateRows = []row{
	{
		cause: StateLost, texts: []pattern{"no openid auth state found%"},
		summary: "the node does not know this login: it was begun more than 10 minutes ago, has ended already, or was begun on another node",
		hint:    "begin again at the login page: the address that the issuer sent the browser back to works once, and for 10 minutes",
		more: func(f Facts, _ Login) (hint check.Hint) {
			if f.host().Clustered {
				hint = "if a balancer or a name with several addresses leads to the nodes, let it keep a browser on one node"
			}
			return hint
		},
	},
	{
		cause: OtherNode, realm: 2, texts: []pattern{"unable to read json \"%/proxmox-openid-auth-state-%\" - %"},
		explain: func(f Facts, _ Login, _ []string) (string, check.Hint) {
			if !f.host().Clustered {
				return "no login through this realm has begun on this host", "begin again at the login page"
			}
			return "the login was begun on another node: each node knows only its own",
				check.Hints("let the balancer, or the name with several addresses, keep a browser on one node", "or let everybody use the address of one node")
		},
	},
	{
		cause: BadState, texts: []pattern{"missing field `%`", "EOF while parsing %", "% at line % column %"},
		summary: "the browser did not bring back the state that Proxmox sent to the issuer",
		hint:    "begin again at the login page; if it happens to everybody, find out what changes the parameter state between issuer and Proxmox",
	},
}

// sendClaim says how a claim gets to Proxmox.
func (f Facts) sendClaim(claim string) check.Hint {
	var hint check.Hint
	if scope := realm.ScopeOf(claim); scope != "" && len(f.Login.Scopes) > 0 && !slices.Contains(f.Login.Scopes, scope) {
		hint = check.Hintf("set {realm.scopes} to [%s] (if the issuer has this scope, and allows it to the client)", strings.Join(append(slices.Clone(f.Login.Scopes), scope), ", "))
	}
	if f.Product.Has(realm.QueryUserinfo) && f.Login.IssuerURL != "" && !f.Login.QueryUserinfo {
		hint = check.Hints(hint, "set {realm.query_userinfo} to true (the ID token alone may lack the claim)")
	}
	return check.Hints(hint, check.Hintf("let the issuer send the claim %s to this client", claim))
}
