package diagnose

import (
	"fmt"
	"strings"

	"proxmox-realm/internal/check"
)

// Cause names why a login failed, or why it set no groups. Causes are part of the JSON report and labels of a metric: they are
// added, never renamed.
type Cause string

// The causes.
const (
	Unknown Cause = "unknown" // no row of the table knows the text

	// Before the issuer is asked for a token.
	IssuerDiffers     Cause = "issuer-differs"     // the issuer's own name is not issuer-url
	IssuerUnreachable Cause = "issuer-unreachable" // the node cannot fetch the issuer's documents
	IssuerDocument    Cause = "issuer-document"    // the node cannot read them
	BadURL            Cause = "bad-url"            // issuer-url or the browser's address is no URL
	NoRealm           Cause = "no-realm"           // the realm is gone, or of another type
	TooManyPending    Cause = "too-many-pending"   // a hundred logins have begun and not ended
	StateLost         Cause = "state-lost"         // begun too long ago, or ended already
	OtherNode         Cause = "other-node"         // begun on another node
	BadState          Cause = "bad-state"          // not what Proxmox sent to the issuer
	DaemonDown        Cause = "daemon-down"        // Proxmox's own daemon does not answer

	// The token endpoint.
	RequestFailed   Cause = "request-failed"    // it refused, and Proxmox does not tell why
	ClientRefused   Cause = "client-refused"    // it refuses the client, its key or its method
	RedirectRefused Cause = "redirect-refused"  // it refuses the redirect URL
	RateLimited     Cause = "rate-limited"      // it limits requests
	NodeToIssuer    Cause = "node-to-issuer"    // it accepts all of this from here
	CodeRefused     Cause = "code-refused"      // it refuses this code
	IssuerRefused   Cause = "issuer-refused"    // it refuses for a reason of its own
	TokenUnreadable Cause = "token-unreadable"  // Proxmox cannot read its answer
	NoTokenEndpoint Cause = "no-token-endpoint" // the issuer's document names none

	// The ID token.
	NoIDToken      Cause = "no-id-token"
	EncryptedToken Cause = "encrypted-token"
	TokenType      Cause = "token-type"
	Audience       Cause = "audience"
	TokenExpired   Cause = "clock"
	Nonce          Cause = "nonce"
	Signature      Cause = "signature"
	TokenRefused   Cause = "token-refused" // for another reason

	// The userinfo endpoint.
	NoUserinfo         Cause = "no-userinfo"
	UserinfoRefused    Cause = "userinfo-refused"
	UserinfoUnreadable Cause = "userinfo-unreadable"

	// The user.
	ClaimMissing   Cause = "claim-missing" // the username claim
	NameRefused    Cause = "name-refused"  // Proxmox refuses the name
	UserAbsent     Cause = "user-absent"
	UserDisabled   Cause = "user-disabled"
	UserExpired    Cause = "user-expired"
	UserNotCreated Cause = "user-not-created"
	NoQuorum       Cause = "no-quorum"

	// Groups. All but the last one are of logins that succeeded.
	GroupsClaimAbsent Cause = "groups-claim-absent"
	GroupsNoList      Cause = "groups-no-list"
	GroupsRefused     Cause = "groups-refused" // Proxmox refuses names of groups
	GroupsUnknown     Cause = "groups-unknown" // Proxmox has none of the groups
	GroupsNotWritten  Cause = "groups-not-written"
)

// row is one row of the table of causes.
type row struct {
	cause Cause
	texts []pattern
	// user and realm say which value of the text is a user id or a realm, counted from 1; 0: none.
	user, realm int
	// fleeting: the values differ from login to login, and the cause is the same.
	fleeting bool
	related  []check.ID // checks about the same cause

	// One sentence, and what to do. In both, $1 and $2 stand for the values of the text. $user and $node are those of the login,
	// and $client is the client id of the realm.
	summary string
	hint    check.Hint
	more    func(f Facts, l Login) check.Hint // comes after the hint; nil: nothing
	// explain returns both, where the facts decide about them. The values are cleaned.
	explain func(f Facts, l Login, v []string) (summary string, hint check.Hint)
}

// words returns the sentence of a row, and what to do.
func (r row) words(f Facts, l Login, values []string) (string, check.Hint) {
	if r.explain != nil {
		return r.explain(f, l, values)
	}
	named := []string{"$user", l.User, "$node", l.Node, "$client", f.Cleaner.Clean(f.Login.ClientID)}
	for i, v := range values {
		named = append(named, fmt.Sprintf("$%d", i+1), v)
	}
	summary := strings.NewReplacer(named...).Replace(r.summary)
	for i := 1; i < len(named); i += 2 {
		named[i] = string(check.Hintf("%s", named[i])) // without names of ours
	}
	hint := check.Hint(strings.NewReplacer(named...).Replace(string(r.hint)))
	if r.more != nil {
		hint = check.Hints(hint, r.more(f, l))
	}
	return summary, hint
}

// explainable tells whether a row of the table knows a text.
func explainable(text string) bool {
	_, _, known := lookup(text)
	return known
}

// lookup returns the first row that knows a text, with the values in it.
func lookup(text string) (row, []string, bool) {
	for _, r := range table {
		for _, p := range r.texts {
			if values, ok := p.match(text); ok {
				return r, values, true
			}
		}
	}
	return row{}, nil, false
}

var realmName = check.Pattern(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)

// Explain says why a login on a node failed, from Proxmox's own text.
func (f Facts) Explain(node, text string) Login {
	return f.explain(Login{Node: node, Outcome: Failed}, text)
}

func (f Facts) explain(l Login, text string) Login {
	text = strings.TrimSpace(text)
	l.Text = f.Cleaner.Clean(text)
	r, values, known := lookup(text)
	if !known {
		l.Cause, l.subject = Unknown, l.Text
		l.Summary = "this text is not known"
		l.Hint = f.host().Run("the lines before it may tell more", f.host().Journal)
		return l
	}
	values = clean(f.Cleaner, values)
	if l.Cause, l.related = r.cause, r.related; l.Cause == OtherNode && !f.host().Clustered {
		l.Cause = StateLost
	}
	if !r.fleeting {
		l.subject = strings.Join(values, "\n")
	}
	if r.user > 0 {
		l.User = values[r.user-1]
		l.Realm = realmOf(l.User)
	}
	if r.realm > 0 {
		l.Realm = values[r.realm-1]
	}
	if !realmName().MatchString(l.Realm) {
		l.Realm = ""
	}
	if l.Summary, l.Hint = r.words(f, l, values); f.foreign(l) {
		l.Hint = check.Hintf("this login used the realm %s and not %s, which is chosen on the login page; its own values explain more:\n    {diagnose --realm %s}", l.Realm, f.Login.Realm, l.Realm)
	}
	return l
}

// explainGroups says why a login set no groups, if something is wrong. Without a line about groups the log does not tell that
// Proxmox has none of them; with a groups claim there is no other reason.
func (f Facts) explainGroups(l Login) Login {
	if f.foreign(l) {
		return l
	}
	if l.Cause == "" && len(l.Groups) == 0 && f.Login.GroupsClaim != "" {
		l.Cause = GroupsUnknown
	}
	switch l.Cause {
	case GroupsClaimAbsent:
		l.Summary = "the issuer sent no claim " + l.subject + ", so the groups of the user stayed as they were"
		if l.Hint = f.sendClaim(l.subject); f.Login.GroupsClaim != "" && f.Login.GroupsClaim != l.subject {
			l.Hint = corrected
		}
		l.related = []check.ID{check.IssuerScopes, check.IssuerClaims}
	case GroupsNoList:
		l.Summary = "the groups claim is no list, so the groups of the user stayed as they were"
		l.Hint = check.Hints("let the issuer send the groups claim as a list of names",
			"set {realm.groups_claim} (a claim that is a list)")
	case GroupsRefused:
		l.Summary = "Proxmox refuses names of groups that the issuer sent"
		if len(l.Refused) > 0 {
			l.Summary += ": " + strings.Join(l.Refused, ", ")
		}
		l.Hint = "a group of Proxmox has letters, digits, '.', '_' and '-' only: let the issuer send such names"
	case GroupsUnknown:
		l.Summary = "Proxmox has none of the groups that the claim " + f.Login.GroupsClaim + " names"
		l.Hint = check.Hints(
			"set {access} (the issuer's groups, with their roles)",
			"set {realm.groups_autocreate} to true (logins then create the groups, without roles)")
	}
	return l
}
