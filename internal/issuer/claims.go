package issuer

import (
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// checkScopes is issuer.scopes. What the issuer's answer to the login request proved is not judged by what it advertises.
func checkScopes(i *Inspection, v View) check.Check {
	advertised, requested, p := i.metadata.Scopes, v.Login.Scopes, i.provider()
	if advertised == nil && v.requestProven() {
		return pass("the issuer accepts the requested scopes").Because("requested: %s", i.clean(listed(requested)))
	}
	if advertised == nil {
		return skip("the issuer does not advertise its scopes").Because("requested: %s", i.clean(listed(requested)))
	}
	evidence := i.clean("requested: "+listed(requested)) + "; advertised: " + i.clean(listed(advertised))
	var unknown, others []string
	for _, scope := range requested {
		if scope == "openid" || slices.Contains(advertised, scope) {
			others = append(others, scope)
		} else {
			unknown = append(unknown, scope)
		}
	}
	if len(unknown) > 0 && !v.requestProven() {
		hint := check.Hints(
			check.Hintf("set {realm.scopes} to [%s]", i.clean(strings.Join(others, ", "))), groupsAdvice(p, unknown),
			ignore(check.IssuerScopes, "if the issuer has the scope without advertising it"))
		return warn(hint, "the issuer does not advertise the scope %s", i.clean(strings.Join(unknown, ", "))).Because("%s", evidence)
	}
	for _, claim := range []string{v.Login.UsernameClaim, v.Login.GroupsClaim} {
		scope := realm.ScopeOf(claim)
		if p.defaultScopes || scope == "" || !slices.Contains(advertised, scope) || slices.Contains(requested, scope) {
			continue
		}
		all := check.Hintf("set {realm.scopes} to [%s]", i.clean(strings.Join(append(slices.Clone(requested), scope), ", ")))
		return warn(check.Hints(all+check.Hint(", and allow the client the scope "+scope+" in the issuer"), p.tell(OnScope)),
			"the claim %s needs the scope %s, which is not requested", claim, scope).Because("%s", evidence)
	}
	if v.requestProven() {
		return pass("the issuer accepts the requested scopes").Because("%s", evidence)
	}
	return pass("the issuer advertises every requested scope").Because("%s", evidence)
}

// unnameable tells why Proxmox refuses a claim's value as a user name: a name is a text without white space, ":" and "/"
// (PVE::Auth::Plugin::verify_username).
var unnameable = map[string]string{
	"name": "holds white space", "profile": "is a URL", "website": "is a URL", "groups": "is a list", "roles": "is a list",
}

// checkClaims is issuer.claims.
func checkClaims(i *Inspection, v View) check.Check {
	advertised, l := i.metadata.Claims, v.Login
	wanted := slices.DeleteFunc([]string{l.UsernameClaim, l.GroupsClaim}, func(claim string) bool { return claim == "" })
	shown := i.clean(listed(wanted))
	for _, judge := range []func(*Inspection, realm.Login) check.Check{judgeToken, judgePaths, judgeNames} {
		if c := judge(i, l); c.Status != "" {
			if c.Evidence == "" {
				c = c.Because("wanted: %s", shown)
			}
			return c
		}
	}
	if !i.metadata.tellsClaims() {
		return skip("the issuer does not advertise the claims of users").Because("wanted: %s", shown)
	}
	evidence := "wanted: " + shown + "; advertised: " + i.clean(listed(advertised))
	switch {
	case l.UsernameClaim != "" && i.metadata.lacksClaim(l.UsernameClaim):
		return warn(check.Hints(i.betterName(l.UsernameClaim), ignore(check.IssuerClaims, "if the issuer has the claim without advertising it")),
			"the issuer does not advertise the username claim %s", i.clean(l.UsernameClaim)).Because("%s", evidence)
	case l.GroupsClaim != "" && i.metadata.lacksClaim(l.GroupsClaim):
		return skip("the issuer does not advertise the groups claim %s, but may have it", i.clean(l.GroupsClaim)).Because("%s", evidence)
	}
	return pass("the issuer advertises every claim that is needed").Because("%s", evidence)
}

// judgeToken warns if Proxmox reads only the ID token, and claims may be missing there. The check is zero otherwise.
func judgeToken(i *Inspection, l realm.Login) check.Check {
	p := i.provider()
	beyondSub := slices.DeleteFunc([]string{l.UsernameClaim, l.GroupsClaim}, func(claim string) bool { return claim == "" || claim == "sub" })
	if l.QueryUserinfo || p.tokenOfAll || len(beyondSub) == 0 {
		return check.Check{}
	}
	claims := i.clean(strings.Join(beyondSub, ", "))
	hint := check.Hints("set {realm.query_userinfo} to true", check.Hint("let the issuer put "+claims+" into the ID token"), p.tell(OnClaims),
		ignore(check.IssuerClaims, "if it does so already"))
	if p.tokenOfSub {
		return warn(hint, "%s may be missing: Proxmox reads only the ID token, and %s puts only sub into it by default", claims, p.name)
	}
	return warn(hint, "%s may be missing: Proxmox reads only the ID token, and many issuers put only sub into it", claims)
}

// judgePaths warns about a claim that looks like a path: Proxmox looks for a claim of exactly this name. The check is zero
// otherwise.
func judgePaths(i *Inspection, l realm.Login) check.Check {
	for _, claim := range []string{l.GroupsClaim, l.UsernameClaim} {
		if !strings.Contains(claim, ".") || slices.Contains(i.metadata.Claims, claim) {
			continue
		}
		hint := check.Hint("let the issuer put the value into a claim of its own, and set {realm.username_claim} to its name before anyone logs in")
		if claim == l.GroupsClaim {
			hint = check.Hints("let the issuer put the list of groups into a claim of its own, and set {realm.groups_claim} to its name", i.provider().tell(OnGroups))
		}
		return warn(check.Hints(hint, ignore(check.IssuerClaims, "if the issuer has a claim of this very name")),
			"the claim %s looks like a path, and Proxmox looks for a claim of exactly this name", i.clean(claim))
	}
	return check.Check{}
}

// judgeNames warns if Proxmox refuses the values of the username claim, or if people cannot read them. The check is zero
// otherwise.
func judgeNames(i *Inspection, l realm.Login) check.Check {
	claim, p := l.UsernameClaim, i.provider()
	if why, bad := unnameable[claim]; bad {
		return warn(i.betterName(claim), "the username claim %s %s, and Proxmox refuses such names", claim, why)
	}
	if claim == "sub" && p.subject != "" && l.QueryUserinfo { // without userinfo, sub may be the only claim
		return warn(check.Hints(i.betterName(claim), p.tell(OnNames), ignore(check.IssuerClaims, "if users log in by these names already")),
			"users are named by the claim sub, which %s fills with %s", p.name, p.subject).
			Because("username claim: sub (Proxmox's default)")
	}
	return check.Check{}
}

// betterName advises another username claim than the present one: one that the issuer advertises.
func (i *Inspection) betterName(present string) check.Hint {
	for _, claim := range []string{"preferred_username", "upn", "email"} {
		if claim != present && !i.metadata.lacksClaim(claim) && (claim == "preferred_username" || slices.Contains(i.metadata.Claims, claim)) {
			return check.Hintf("set {realm.username_claim} to %s (before anyone logs in: Proxmox cannot change it later)", claim)
		}
	}
	return "set {realm.username_claim} to a claim that the issuer has, before anyone logs in: Proxmox cannot change it later"
}

// checkAudience is issuer.audience. Proxmox accepts an ID token that names the client, and others only if the realm lists
// them (realm.audiences).
func checkAudience(i *Inspection, v View) check.Check {
	p, since := i.provider(), v.Version.Product.Since(realm.Audiences)
	switch {
	case p.namesOthers && len(v.Login.Audiences) > 0:
		return pass("the realm accepts more audiences than the client").Because("audiences: %s", i.clean(strings.Join(v.Login.Audiences, " ")))
	case p.namesOthers:
		hint := check.Hints("set {realm.audiences} to the id of the project", p.tell(OnAudience))
		if !v.Version.IsZero() && v.Version.Less(since) {
			hint = check.Hints("upgrade to "+check.Hint(since.Named())+", and then set {realm.audiences} to the id of the project", p.tell(OnAudience))
		}
		return warn(hint, "%s names more than the client in the ID token, and Proxmox refuses such a login unless the realm lists them", p.name)
	case p.known():
		return pass("the ID tokens of %s name the client alone", p.name)
	}
	return skip("whom the ID token names shows only after a login")
}
