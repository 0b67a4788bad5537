package pve

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// realmPath is where the privileges over realms are granted: on one realm alone, /access/realm/NAME, they are not looked at
// (PVE::API2::Domains).
const realmPath = "/access/realm"

// CheckPermissions is proxmox.permissions: whether the credentials may read realms, and write them where write is set.
func (c *Client) CheckPermissions(ctx context.Context, write bool) check.Check {
	const id = check.ProxmoxPermissions
	began := time.Now()
	has, err := c.Permissions(ctx, realmPath)
	took := time.Since(began)
	if err != nil {
		return check.Skipped(id, "the privileges could not be read: %v", err).Took(took)
	}
	allocate, audit := has["Realm.Allocate"], has["Sys.Audit"]
	switch {
	case allocate:
		return check.Passed(id, "%s may read and write realms", c.Identity()).Because("Realm.Allocate on %s", realmPath).Took(took)
	case write:
		return check.Failed(id, check.Remedy{check.OnNode("%s", strings.Join(Grant(c.Identity(), realmPath, "Realm.Allocate"), "; "))},
			"%s may not write realms", c.Identity()).Because("Realm.Allocate on %s is missing", realmPath).Took(took)
	case audit:
		return check.Passed(id, "%s may read realms, which is all that is needed now", c.Identity()).Because("Sys.Audit on %s", realmPath).Took(took)
	}
	return check.Failed(id, check.Remedy{check.OnNode("%s", strings.Join(Grant(c.Identity(), realmPath, "Sys.Audit"), "; "))},
		"%s may not read realms", c.Identity()).Because("neither Realm.Allocate nor Sys.Audit on %s", realmPath).Took(took)
}

// CheckDiscovery is proxmox.discovery on the node that the client talks to: whether it discovers the issuer, and whether
// its authorization URL is the one that the login should produce. fromHere tells whether this machine reached
// the issuer, which decides where to look for a remedy. hung tells that a worker of the node is blocked now: it
// must not be asked again soon.
func (c *Client) CheckDiscovery(ctx context.Context, login realm.Login, redirectURL string, fromHere bool) (found check.Check, hung bool) {
	const id = check.ProxmoxDiscovery
	began := time.Now()
	made, err := c.AuthURL(ctx, login.Realm, redirectURL)
	took := time.Since(began)
	node := c.Endpoint()
	if err == nil {
		if wrong := unexpected(made, login, redirectURL); len(wrong) > 0 {
			return check.Failed(id, check.Remedy{check.Advise("run apply, then verify again; where it stays so, the node answers from an old configuration: look at pvedaemon there")},
				"the authorization URL of %s is not the one that the realm should produce", node).
				Because("%s", strings.Join(wrong, "; ")).Took(took), false
		}
		return check.Passed(id, "%s discovers the issuer and sends browsers to %s", node, made.Location).
			Because("client_id=%s scope=%q redirect_uri=%s code_challenge_method=%s", made.ClientID, strings.Join(made.Scopes, " "), made.RedirectURI, made.CodeChallengeMethod).
			Took(took), false
	}
	var failure *Error
	if !errors.As(err, &failure) {
		return check.Skipped(id, "%s could not be asked: %v", node, err).Took(took), false
	}
	host := login.IssuerURL
	if u, err := url.Parse(login.IssuerURL); err == nil && u.Hostname() != "" {
		host = u.Hostname()
	}
	var hint, summary string
	switch failure.Kind {
	case IssuerUnreachable:
		summary = fmt.Sprintf("%s cannot fetch the issuer's documents", node)
		if fromHere {
			summary += ", though this machine can"
		}
		hint = fmt.Sprintf("on that node, try `curl -v %s`; then look at its DNS (`getent hosts %s`), its authorities (the issuer's CA into /usr/local/share/ca-certificates, then `update-ca-certificates`), and http_proxy in /etc/pve/datacenter.cfg", wellKnown(login.IssuerURL), host)
	case IssuerMismatch:
		summary = fmt.Sprintf("%s finds that the issuer calls itself %s, not %s", node, failure.Found, failure.Expected)
		hint = "set realm.issuer_url to " + failure.Found
	case IssuerDocument:
		summary = fmt.Sprintf("%s cannot read the issuer's documents", node)
		hint = fmt.Sprintf("the node may be sent elsewhere than this machine: on it, try `curl -v %s`, which must answer JSON", wellKnown(login.IssuerURL))
	case IssuerURL:
		summary = fmt.Sprintf("%s takes the realm's issuer-url for no URL", node)
		hint = "set realm.issuer_url to the issuer's https URL"
	case IssuerHung:
		summary = fmt.Sprintf("the issuer kept %s waiting for 30 s, and one of its workers is blocked now", node)
		hint = fmt.Sprintf("find out why %s is silent towards that node (a firewall that drops packets), then run `systemctl restart pvedaemon` there", host)
	case TooManyPending:
		summary = fmt.Sprintf("a hundred logins are pending on %s: until they expire, 10 minutes after they began, nobody can log in there", node)
		hint = "wait 10 minutes; where it returns, look for what keeps opening the login page"
	default:
		return check.Skipped(id, "%s could not be asked: %v", node, err).Took(took), false
	}
	return check.Failed(id, check.Advice(hint), "%s", summary).Because("%s", failure.Reason).Took(took), failure.Kind == IssuerHung
}

func wellKnown(issuerURL string) string {
	return strings.TrimSuffix(issuerURL, "/") + "/.well-known/openid-configuration"
}

// unexpected lists in what an authorization URL differs from what a login should produce.
func unexpected(made AuthURL, login realm.Login, redirectURL string) []string {
	var wrong []string
	differ := func(parameter, got, want string) {
		if got != want {
			wrong = append(wrong, fmt.Sprintf("%s is %q, not %q", parameter, got, want))
		}
	}
	differ("response_type", made.ResponseType, "code")
	differ("client_id", made.ClientID, login.ClientID)
	differ("redirect_uri", made.RedirectURI, redirectURL)
	differ("scope", words(made.Scopes), words(login.Scopes))
	differ("code_challenge_method", made.CodeChallengeMethod, "S256")
	differ("prompt", made.Prompt, login.Prompt)
	differ("acr_values", strings.Join(made.ACRValues, " "), strings.Join(login.ACRValues, " "))
	for parameter, value := range map[string]string{"state": made.State, "nonce": made.Nonce, "code_challenge": made.CodeChallenge} {
		if value == "" {
			wrong = append(wrong, parameter+" is missing")
		}
	}
	slices.Sort(wrong)
	return wrong
}

// words makes two lists of scopes comparable: Proxmox sends openid twice where the realm lists it.
func words(scopes []string) string {
	sorted := slices.Sorted(slices.Values(scopes))
	return strings.Join(slices.Compact(sorted), " ")
}

// maxUserID is the length of a user id, realm included (PVE::Auth::Plugin::verify_username).
const maxUserID = 64

// uuidLength is the length of the subject of Authelia, Keycloak, Zitadel and others.
const uuidLength = 36

// CheckUsers is proxmox.users: whether the users of a login can exist, and whether Proxmox grants them anything.
func (c *Client) CheckUsers(ctx context.Context, login realm.Login) check.Check {
	const id = check.ProxmoxUsers
	room := maxUserID - 1 - len(login.Realm)
	if login.UsernameClaim == "sub" && room < uuidLength {
		return check.Warned(id, check.Advice("choose a realm.name of at most "+fmt.Sprint(maxUserID-1-uuidLength)+" characters, or another realm.username_claim"),
			"where the issuer's subjects are UUIDs of %d characters, they and @%s are longer than the %d characters of a Proxmox user id", uuidLength, login.Realm, maxUserID)
	}
	began := time.Now()
	users, list, err := c.Users(ctx, login.Realm)
	switch {
	case err != nil:
		return check.Skipped(id, "the users could not be read: %v", err).Took(time.Since(began))
	case !users.Visible:
		return check.Skipped(id, "%s does not see users", c.Identity()).
			Because("%s", "to let it see users, groups and what they may do: "+strings.Join(Grant(c.Identity(), "/access", "Sys.Audit"), "; ")).Took(time.Since(began))
	}
	now := time.Now()
	able := slices.DeleteFunc(slices.Clone(list), func(u User) bool {
		return !u.Enabled || !u.Expire.IsZero() && u.Expire.Before(now)
	})
	if !login.Autocreate && len(able) == 0 {
		return check.Failed(id, check.Advice("create them, such as `pveum user add NAME@"+login.Realm+"`, or set realm.autocreate to true"),
			"nobody can log in: autocreate is off, and realm %s has no user who is enabled", login.Realm).
			Because("%s, %d enabled", users, len(able)).Took(time.Since(began))
	}
	found := check.Passed(id, "realm %s has %s", login.Realm, users).Because("%d enabled; autocreate is off, so that nobody else can log in", len(able))
	if login.Autocreate {
		found = check.Passed(id, "realm %s has %s, and others are created when they log in", login.Realm, users).
			Because("a user's name may have %d characters", room)
	}
	if lacking, ok := c.checkRights(ctx, login, able, &found); ok {
		return lacking.Took(time.Since(began))
	}
	return found.Took(time.Since(began))
}

// checkRights looks for what makes a login succeed and lead nowhere: groups that Proxmox passes over, and a realm of
// whose users and groups none has a role. What cannot be seen is noted in the finding that stands otherwise.
func (c *Client) checkRights(ctx context.Context, login realm.Login, able []User, otherwise *check.Check) (lacking check.Check, ok bool) {
	groups, err := c.Groups(ctx)
	if err != nil {
		*otherwise = otherwise.Because("%s; the groups could not be read: %v", otherwise.Evidence, err)
		return check.Check{}, false
	}
	r := rights{login: login, users: able, groups: groups}
	if lacking, ok = r.passedOver(); ok {
		return lacking, true
	}
	entries, visible, err := c.ACL(ctx)
	switch {
	case err != nil:
		*otherwise = otherwise.Because("%s; the access control list could not be read: %v", otherwise.Evidence, err)
		return check.Check{}, false
	case !visible:
		*otherwise = otherwise.Because("%s; what they may do is not visible: Sys.Audit on /access shows it", otherwise.Evidence)
		return check.Check{}, false
	}
	return r.none(entries)
}

// rights is what a realm's users may be granted something by.
type rights struct {
	login  realm.Login
	users  []User // who can log in
	groups []Group
}

// own tells whether a group has the name of one that a login through the realm brings along (PVE::API2::OpenId:
// the issuer's name, "-" and the realm's).
func (r rights) own(group string) bool {
	return strings.HasSuffix(group, "-"+r.login.Realm) && len(group) > len(r.login.Realm)+1
}

// passedOver finds that no group of the issuer's is one here: Proxmox ignores those that it does not know.
func (r rights) passedOver() (check.Check, bool) {
	if r.login.GroupsClaim == "" || r.login.GroupsAutocreate || slices.ContainsFunc(r.groups, func(g Group) bool { return r.own(g.ID) }) {
		return check.Check{}, false
	}
	names := "none"
	if len(r.groups) > 0 {
		var all []string
		for _, g := range r.groups {
			all = append(all, g.ID)
		}
		names = strings.Join(all, ", ")
	}
	suffix := "-" + r.login.Realm
	return check.Warned(check.ProxmoxUsers,
		check.Advice("for each group GROUP of the issuer that should count, `pveum group add GROUP"+suffix+"`; or set realm.groups_autocreate to true"),
		"the groups of a login are ignored: Proxmox adds %s to their names, has no such group, and groups_autocreate is off", suffix).
		Because("groups in Proxmox: %s", names), true
}

// none finds that no entry of the access control list is about anyone of the realm.
func (r rights) none(entries []Entry) (check.Check, bool) {
	var idle []string // groups that have a role, are named as the realm's would be, and have nobody in them
	for _, e := range entries {
		switch {
		case e.Role == "NoAccess":
		case e.Type == "user" && r.has(e.ID):
			return check.Check{}, false
		case e.Type == "group" && (r.populated(e.ID) || r.own(e.ID) && r.login.GroupsClaim != ""):
			return check.Check{}, false
		case e.Type == "group" && r.own(e.ID):
			idle = append(idle, e.ID)
		}
	}
	evidence := fmt.Sprintf("none of the %d entries of the access control list is about one of them", len(entries))
	const summary = "whoever logs in may do nothing: no user and no group of realm %s has a role"
	user, group := "NAME@"+r.login.Realm, "GROUP-"+r.login.Realm
	var hint string
	switch {
	case len(idle) > 0:
		hint = "put users into them by `pveum user modify " + user + " --groups " + idle[0] + "`, or set realm.groups_claim to groups, so that logins do"
		evidence = strings.Join(idle, ", ") + ": with a role, without a member, and realm.groups_claim is not set"
	case r.login.GroupsClaim != "":
		hint = "grant a role, such as `pveum acl modify / --groups " + group + " --roles PVEAuditor`"
		if existing := slices.IndexFunc(r.groups, func(g Group) bool { return r.own(g.ID) }); existing >= 0 {
			hint = strings.ReplaceAll(hint, group, r.groups[existing].ID)
		} else {
			hint += ", after `pveum group add " + group + "`"
		}
	case len(r.users) > 0:
		hint = "grant a role, such as `pveum acl modify / --users " + Quote(r.users[0].ID) + " --roles PVEAuditor`"
	default:
		hint = "create a user and grant a role, such as `pveum user add " + user + "` and `pveum acl modify / --users " + user +
			" --roles PVEAuditor`; or do it by groups: set realm.groups_claim"
	}
	return check.Warned(check.ProxmoxUsers, check.Advice(hint), summary, r.login.Realm).Because("%s", evidence), true
}

// has tells whether the user can log in through the realm.
func (r rights) has(userID string) bool {
	return slices.ContainsFunc(r.users, func(u User) bool { return u.ID == userID })
}

// populated tells whether somebody who can log in is in the group.
func (r rights) populated(group string) bool {
	return slices.ContainsFunc(r.groups, func(g Group) bool { return g.ID == group && slices.ContainsFunc(g.Members, r.has) })
}
