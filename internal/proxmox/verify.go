package proxmox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
)

// realmGrants is the path of privileges over realms. Proxmox ignores privileges on a single realm, /access/realm/NAME
// (PVE::API2::Domains).
const realmGrants = "/access/realm"

// CheckPermissions is proxmox.permissions: whether the credentials may read realms, and change them if write is set. Missing
// are the privileges that they lack for groups and grants. Its error says why Proxmox could not be asked; then the check is
// skipped.
func (c *Client) CheckPermissions(ctx context.Context, write bool, missing []realm.Privilege) (check.Check, error) {
	const id = check.ProxmoxPermissions
	began := time.Now()
	held, err := c.Permissions(ctx, realmGrants)
	if err != nil {
		return check.Skipped(id, "not checked: %v", err).Took(time.Since(began)), err
	}
	who := c.Identity()
	var found check.Check
	switch allocate, audit := held["Realm.Allocate"], held["Sys.Audit"]; {
	case allocate:
		found = check.Passed(id, "%s may read and change realms", who).Because("Realm.Allocate on %s", realmGrants)
	case write && audit:
		// Not a command that widens the privileges: this token may be read-only on purpose.
		writer := check.Set("proxmox.token_file", "").
			With("another token, which has Realm.Allocate on %s: this one can only plan and verify", realmGrants)
		found = check.Failed(id, check.Hints(writer), "%s may read realms but not change them", who).
			Because("Realm.Allocate on %s is missing", realmGrants)
	case write:
		found = check.Failed(id, check.Hints(grantStep(who, realmGrants, "Realm.Allocate")),
			"%s may not change realms", who).Because("Realm.Allocate on %s is missing", realmGrants)
	case audit:
		found = check.Passed(id, "%s may read realms, and nothing else is needed", who).Because("Sys.Audit on %s", realmGrants)
	default:
		found = check.Failed(id, check.Hints(grantStep(who, realmGrants, "Sys.Audit")),
			"%s may not read realms", who).Because("Realm.Allocate and Sys.Audit on %s are missing", realmGrants)
	}
	if found.Status == check.Pass && len(missing) > 0 {
		found = c.lacking(missing)
	}
	return found.Took(time.Since(began)), nil
}

// lacking is proxmox.permissions for credentials that may not change the declared groups and grants.
func (c *Client) lacking(missing []realm.Privilege) check.Check {
	var evidence []string
	for _, p := range missing {
		evidence = append(evidence, p.String())
	}
	creations, grants := grant(c.Identity(), missing...)
	return check.Failed(check.ProxmoxPermissions, check.Hints(
		check.OnNode("%s", strings.Join(append(creations, grants...), "; ")).
			With("whoever may change permissions is as powerful as an administrator"),
		check.Omit("access").With("to manage the realm alone")), "%s may not change the declared groups and grants", c.Identity()).Because("missing: %s", strings.Join(evidence, ", "))
}

// CheckDiscovery is proxmox.discovery on one node: whether the node discovers the issuer, and whether its authorization URL
// is the expected one. fromHere tells whether this machine could read the issuer's documents. hung tells that one of the
// node's workers is blocked now, so the node must not be asked again soon. The error says why the node could not be asked;
// then the check is skipped.
func (c *Client) CheckDiscovery(
	ctx context.Context, node config.Origin, login realm.Login, redirectURL string, fromHere bool,
) (found check.Check, hung bool, err error) {
	const id = check.ProxmoxDiscovery
	began := time.Now()
	made, err := c.On(node).AuthURL(ctx, login.Realm, redirectURL)
	var failure *Error
	switch {
	case err == nil:
		found = c.judgeAuthURL(made, login, redirectURL)
	case errors.As(err, &failure) && failure.answered():
		found, hung, err = c.undiscovered(failure, login, fromHere), failure.Kind == IssuerHung, nil
	default:
		found = check.Skipped(id, "not checked: %s did not answer: %v", node, err)
	}
	return found.Took(time.Since(began)), hung, err
}

// judgeAuthURL compares an authorization URL with what the realm should produce.
func (c *Client) judgeAuthURL(made AuthURL, login realm.Login, redirectURL string) check.Check {
	const id = check.ProxmoxDiscovery
	if wrong := c.Unexpected(made, login, redirectURL); len(wrong) > 0 {
		return check.Failed(id, check.Hints(
			check.Run("apply").With("it writes the realm as declared; then verify again"),
			check.OnNode("systemctl restart pvedaemon").With("if the node uses an old configuration")), "the authorization URL of %s differs from the one that the realm should produce", made.Endpoint).
			Because("%s", strings.Join(wrong, "; "))
	}
	return check.Passed(id, "%s discovers the issuer and sends browsers to %s", made.Endpoint, made.Location).
		Because("client_id=%s scope=%q redirect_uri=%s code_challenge_method=%s", made.Query.Get("client_id"),
			made.Query.Get("scope"), made.Query.Get("redirect_uri"), made.Query.Get("code_challenge_method"))
}

// undiscovered is a node's refusal to begin a login.
func (c *Client) undiscovered(failure *Error, login realm.Login, fromHere bool) check.Check {
	summary, remedy := failure.described.Message, failure.described.Hint
	document := c.cleaner.Clean(strings.TrimSuffix(login.IssuerURL, "/") + "/.well-known/openid-configuration")
	switch failure.Kind {
	case IssuerUnreachable:
		if fromHere {
			summary += ", although this machine can"
		}
		remedy = check.Hints(check.OnNode("curl -v %s", Quote(document)).With("shows the cause"), remedy)
	case IssuerDocument:
		remedy = check.Hints(check.OnNode("curl -v %s", Quote(document)).With("must print JSON"), remedy)
	}
	return check.Failed(check.ProxmoxDiscovery, remedy, "%s", summary).
		Because("%s: %d %s", failure.Path, failure.Status, failure.Reason)
}

// Unexpected lists how the parameters of an authorization URL differ from those of a login (OpenID Connect Core 1.0
// section 3.1.2.1, RFC 7636 section 4.3).
func (c *Client) Unexpected(made AuthURL, login realm.Login, redirectURL string) []string {
	want := map[string]string{
		"response_type": "code", "client_id": login.ClientID, "redirect_uri": redirectURL, "code_challenge_method": "S256",
		"scope": strings.Join(login.Scopes, " "), "prompt": login.Prompt, "acr_values": strings.Join(login.ACRValues, " "),
	}
	var wrong []string
	for parameter, value := range want {
		got, value := made.Query.Get(parameter), c.cleaner.Clean(value)
		if parameter == "scope" && wordSet(got) == wordSet(value) {
			continue
		}
		if got != value {
			wrong = append(wrong, fmt.Sprintf("%s is %q, not %q", parameter, got, value))
		}
	}
	for _, parameter := range []string{"state", "nonce", "code_challenge"} {
		if made.Query.Get(parameter) == "" {
			wrong = append(wrong, parameter+" is missing")
		}
	}
	slices.Sort(wrong)
	return wrong
}

// wordSet makes lists of scopes comparable: Proxmox sends openid twice if the realm lists it.
func wordSet(list string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(strings.Fields(list)))), " ")
}
