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

// realmGrants is the path of privileges over realms. Proxmox ignores privileges on a single realm, /access/realm/NAME
// (PVE::API2::Domains).
const realmGrants = "/access/realm"

// CheckPermissions is proxmox.permissions: whether the credentials may read realms and, if write is set, change them.
// Its error says why Proxmox could not be asked; then the check is skipped.
func (c *Client) CheckPermissions(ctx context.Context, write bool) (check.Check, error) {
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
		found = check.Failed(id, check.Remedy{check.Set("proxmox.token_file", "").With("another token, which has Realm.Allocate on %s: this one can only plan and verify", realmGrants)},
			"%s may read realms but not change them", who).Because("Realm.Allocate on %s is missing", realmGrants)
	case write:
		found = check.Failed(id, check.Remedy{grantStep(who, realmGrants, "Realm.Allocate")},
			"%s may not change realms", who).Because("Realm.Allocate on %s is missing", realmGrants)
	case audit:
		found = check.Passed(id, "%s may read realms, and nothing else is needed", who).Because("Sys.Audit on %s", realmGrants)
	default:
		found = check.Failed(id, check.Remedy{grantStep(who, realmGrants, "Sys.Audit")},
			"%s may not read realms", who).Because("Realm.Allocate and Sys.Audit on %s are missing", realmGrants)
	}
	return found.Took(time.Since(began)), nil
}

// CheckDiscovery is proxmox.discovery on the node that the client talks to: whether the node discovers the issuer, and
// whether its authorization URL is the expected one. fromHere tells whether this machine could read the issuer's documents.
// hung tells that one of the node's workers is blocked now, so the node must not be asked again soon. The error says why
// the node could not be asked; then the check is skipped.
func (c *Client) CheckDiscovery(ctx context.Context, login realm.Login, redirectURL string, fromHere bool) (found check.Check, hung bool, err error) {
	const id = check.ProxmoxDiscovery
	began := time.Now()
	made, err := c.AuthURL(ctx, login.Realm, redirectURL)
	node := c.Endpoint()
	var failure *Error
	switch {
	case err == nil:
		found = c.judgeAuthURL(made, login, redirectURL)
	case errors.As(err, &failure) && failure.answered():
		summary, remedy := c.undiscovered(failure, login, fromHere)
		found, err = check.Failed(id, remedy, "%s", summary).Because("%s", failure.Reason), nil
		hung = failure.Kind == IssuerHung
	default:
		found = check.Skipped(id, "not checked: %s did not answer: %v", node, err)
	}
	return found.Took(time.Since(began)), hung, err
}

// judgeAuthURL compares an authorization URL with what the realm should produce.
func (c *Client) judgeAuthURL(made AuthURL, login realm.Login, redirectURL string) check.Check {
	const id = check.ProxmoxDiscovery
	if wrong := c.unexpected(made, login, redirectURL); len(wrong) > 0 {
		return check.Failed(id, check.Remedy{
			check.Run("apply").With("then verify again"),
			check.OnNode("systemctl restart pvedaemon").With("if the node uses an old configuration"),
		}, "the authorization URL of %s differs from the one that the realm should produce", made.Endpoint).
			Because("%s", strings.Join(wrong, "; "))
	}
	return check.Passed(id, "%s discovers the issuer and sends browsers to %s", made.Endpoint, made.Location).
		Because("client_id=%s scope=%q redirect_uri=%s code_challenge_method=%s",
			made.ClientID, strings.Join(made.Scopes, " "), made.RedirectURI, made.CodeChallengeMethod)
}

// undiscovered words a node's refusal to begin a login.
func (c *Client) undiscovered(failure *Error, login realm.Login, fromHere bool) (summary string, remedy check.Remedy) {
	node := failure.Endpoint
	document := c.cleaner.Clean(strings.TrimSuffix(login.IssuerURL, "/") + "/.well-known/openid-configuration")
	curl := check.OnNode("curl -v %s", Quote(document))
	host := document
	if u, err := url.Parse(document); err == nil && u.Hostname() != "" {
		host = u.Hostname()
	}
	switch failure.Kind {
	case IssuerUnreachable:
		summary = fmt.Sprintf("%s cannot fetch the issuer's documents", node)
		if fromHere {
			summary += ", although this machine can"
		}
		return summary, check.Remedy{
			curl.With("shows the cause"),
			check.OnNode("getent hosts %s", Quote(host)).With("if the node does not resolve the name, correct its DNS"),
			check.OnNode("update-ca-certificates").With("if the authority is unknown: first copy the issuer's CA to /usr/local/share/ca-certificates"),
			check.Advise("if the node needs a proxy, correct http_proxy in /etc/pve/datacenter.cfg"),
		}
	case IssuerMismatch:
		return fmt.Sprintf("%s: the issuer's own name %s differs from %s; Proxmox requires an exact match", node, failure.Found, failure.Expected),
			check.Remedy{check.Set("realm.issuer_url", failure.Found)}
	case IssuerDocument:
		return fmt.Sprintf("%s cannot read the issuer's documents", node),
			check.Remedy{curl.With("must print JSON; the node may reach another server than this machine")}
	case IssuerURL:
		return fmt.Sprintf("%s cannot parse the realm's issuer-url", node), failure.described.Remedy
	case IssuerHung:
		return fmt.Sprintf("the issuer did not answer %s within 30 s, and one of the node's workers is blocked now", node),
			check.Remedy{
				check.Advise("find out why %s does not answer that node, such as a firewall that drops packets", host),
				check.OnNode("systemctl restart pvedaemon").With("frees the worker"),
			}
	case TooManyPending:
		return fmt.Sprintf("a hundred logins are pending on %s: nobody can log in there until they expire after 10 minutes", node),
			check.Remedy{check.Advise("wait 10 minutes; if it happens again, find out what keeps opening the login page")}
	}
	return fmt.Sprintf("%s refuses to begin a login", node), failure.described.Remedy
}

// unexpected lists how an authorization URL differs from what a login should produce.
func (c *Client) unexpected(made AuthURL, login realm.Login, redirectURL string) []string {
	var wrong []string
	differ := func(parameter, got, want string) {
		if want = c.cleaner.Clean(want); got != want {
			wrong = append(wrong, fmt.Sprintf("%s is %q, not %q", parameter, got, want))
		}
	}
	differ("response_type", made.ResponseType, "code")
	differ("client_id", made.ClientID, login.ClientID)
	differ("redirect_uri", made.RedirectURI, redirectURL)
	differ("scope", wordSet(made.Scopes), wordSet(login.Scopes))
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

// wordSet makes lists of scopes comparable: Proxmox sends openid twice if the realm lists it.
func wordSet(scopes []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(scopes))), " ")
}
