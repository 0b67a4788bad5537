package issuer

import (
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// scopeOf names the scope that carries a claim (OpenID Connect Core 1.0 section 5.4; groups by convention).
var scopeOf = map[string]string{
	"preferred_username": "profile", "name": "profile", "nickname": "profile", "given_name": "profile", "family_name": "profile",
	"email": "email", "phone_number": "phone", "groups": "groups",
}

// checkScopes is issuer.scopes.
func checkScopes(i *Inspection, v View) check.Check {
	advertised, requested := i.document.Scopes, v.Login.Scopes
	if advertised == nil {
		return skip("the issuer does not advertise its scopes").Because("requested: %s", listed(requested))
	}
	evidence := i.client.cleaner.Clean("requested: " + listed(requested) + "; advertised: " + listed(advertised))
	var unknown []string
	for _, scope := range requested {
		if scope != "openid" && !slices.Contains(advertised, scope) {
			unknown = append(unknown, scope)
		}
	}
	if len(unknown) > 0 {
		remedy := check.Hints(
			check.Set("realm.scopes", "").With("without %s", strings.Join(unknown, ", ")),
			ignore(check.IssuerScopes, "if the issuer has the scope without advertising it"))
		return warn(remedy, "the issuer does not advertise the scope %s", strings.Join(unknown, ", ")).Because("%s", evidence)
	}
	for _, claim := range []string{v.Login.UsernameClaim, v.Login.GroupsClaim} {
		scope := scopeOf[claim]
		if i.provider().DefaultScopes || scope == "" || !slices.Contains(advertised, scope) || slices.Contains(requested, scope) {
			continue
		}
		all := strings.Join(append(slices.Clone(requested), scope), ", ")
		add := check.Set("realm.scopes", "["+all+"]").With("and allow the client the scope %s in the issuer", scope)
		return warn(check.Hints(add), "the claim %s needs the scope %s, which is not requested", claim, scope).
			Because("%s", evidence)
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
	advertised, l, p := i.document.Claims, v.Login, i.provider()
	wanted := slices.DeleteFunc([]string{l.UsernameClaim, l.GroupsClaim}, func(claim string) bool { return claim == "" })
	beyondSub := slices.DeleteFunc(slices.Clone(wanted), func(claim string) bool { return claim == "sub" })
	if claims := strings.Join(beyondSub, ", "); claims != "" && !l.QueryUserinfo && p.BareToken {
		remedy := check.Hints(
			check.Set("realm.query_userinfo", "true"),
			check.Hintf("let the issuer put %s into the ID token", claims).
				With("Authelia since 4.39: a claims policy of the client"))
		return warn(remedy, "%s may be missing: Proxmox reads only the ID token, and %s puts only sub into it", claims, p.Name).
			Because("wanted: %s; userinfo is not queried", listed(wanted))
	}
	if c := i.judgeNames(l); c.Status != "" {
		return c
	}
	if advertised == nil {
		return skip("the issuer does not advertise its claims").Because("wanted: %s", listed(wanted))
	}
	evidence := i.client.cleaner.Clean("wanted: " + listed(wanted) + "; advertised: " + listed(advertised))
	switch {
	case l.UsernameClaim != "" && i.document.lacksClaim(l.UsernameClaim):
		remedy := check.Hints(i.betterName(), ignore(check.IssuerClaims, "if the issuer has the claim without advertising it"))
		return warn(remedy, "the issuer does not advertise the username claim %s", l.UsernameClaim).Because("%s", evidence)
	case l.GroupsClaim != "" && i.document.lacksClaim(l.GroupsClaim):
		return skip("the issuer does not advertise the groups claim %s, but may have it", l.GroupsClaim).Because("%s", evidence)
	}
	return pass("the issuer advertises every claim that is needed").Because("%s", evidence)
}

// judgeNames warns if Proxmox refuses the values of the username claim, or if people cannot read them. The check is zero
// otherwise.
func (i *Inspection) judgeNames(l realm.Login) check.Check {
	claim, p := l.UsernameClaim, i.provider()
	if why, bad := unnameable[claim]; bad {
		return warn(check.Hints(i.betterName()), "the username claim %s %s, and Proxmox refuses such names", claim, why).
			Because("username claim: %s", claim)
	}
	if claim == "sub" && p.Subject != "" && l.QueryUserinfo { // without userinfo, sub may be the only claim
		return warn(check.Hints(i.betterName(), ignore(check.IssuerClaims, "if users log in by these names already")),
			"users are named by the claim sub, which %s fills with %s", p.Name, p.Subject).
			Because("username claim: sub (Proxmox's default)")
	}
	return check.Check{}
}

// betterName is the step that sets another username claim.
func (i *Inspection) betterName() check.Hint {
	claim := "preferred_username"
	if i.document.lacksClaim(claim) && !i.document.lacksClaim("email") {
		claim = "email"
	}
	return check.Set("realm.username_claim", claim).With("before anyone logs in: Proxmox cannot change it later")
}

func ignore(id check.ID, when string) check.Hint {
	return check.Set("verify.ignore", "["+string(id)+"]").With("%s", when)
}
