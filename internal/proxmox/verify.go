package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
)

// CheckPermissions is proxmox.permissions: whether the credentials may read realms, and change them if write is set. Missing
// are the privileges that they lack for groups and grants. Its error says why Proxmox could not be asked; then the check is
// skipped.
func (c *Client) CheckPermissions(ctx context.Context, write bool, missing []realm.Privilege) (check.Check, error) {
	const id = check.ProxmoxPermissions
	began := time.Now()
	d := c.dialect
	own, err := c.permissions(ctx, url.Values{"path": {d.write.path}}) // the path of d.read, too
	if err != nil {
		return check.Skipped(id, "not checked: %v", err).Took(time.Since(began)), err
	}
	who, at := c.Identity(), " on "+d.write.path
	var found check.Check
	switch reads, writes := d.read.held(own), d.write.held(own); {
	case writes:
		found = check.Passed(id, "%s may read and change realms", who).Because("%s", strings.Join(d.write.all, " and ")+at)
	case write && reads:
		// Not a command that widens the privileges: this token may be read-only on purpose.
		writer := check.Hintf("set {proxmox.token_file} to another token, which has %s%s: this one can only plan and verify", d.write.all[0], at)
		found = check.Failed(id, writer, "%s may read realms but not change them", who).Because("%s%s is missing", d.write.all[0], at)
	case write:
		found = check.Failed(id, d.grant(who, d.write.path, d.write.all[0]), "%s may not change realms", who).
			Because("%s is missing", strings.Join(d.write.missing(own), " and ")+at)
	case reads:
		found = check.Passed(id, "%s may read realms, and nothing else is needed", who).Because("%s", d.audit+at)
	default:
		found = check.Failed(id, d.grant(who, d.read.path, d.audit), "%s may not read realms", who).
			Because("%s is missing", strings.Join(d.read.missing(own), " and ")+at)
	}
	if found.Status == check.Pass && len(missing) > 0 {
		found = c.lacking(missing)
	}
	return found.Took(time.Since(began)), nil
}

// lacking is proxmox.permissions for credentials that may not change the declared groups and grants.
func (c *Client) lacking(missing []realm.Privilege) check.Check {
	var evidence []string
	var needs []Need
	for _, p := range missing {
		evidence = append(evidence, p.String())
		needs = append(needs, c.dialect.need(p.Name, p.Path))
	}
	creations, grants := c.dialect.granting(c.Identity(), needs...)
	return check.Failed(check.ProxmoxPermissions, check.Hints(
		c.dialect.product.Host().Run("whoever may change permissions is as powerful as an administrator", append(creations, grants...)...),
		"remove {access} from the configuration, to manage the realm alone"),
		"%s may not change the declared groups and grants", c.Identity()).Because("missing: %s", strings.Join(evidence, ", "))
}

// CheckDiscovery is proxmox.discovery on one node: whether the node discovers the issuer, and whether its authorization URL
// is the expected one. fromHere tells whether this machine could read the issuer's documents. hung tells that a worker or thread
// of the node is blocked now, or may be, so the node must not be asked again soon. The error says why the node could not be
// asked; then the check is skipped.
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
	case failure != nil && failure.timedOut: // sooner than a silent issuer would be told from a slow one
		found, hung, err = check.Skipped(id, "not checked: %s did not answer in time, and may wait for the issuer", node), true, nil
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
			"to write the realm as declared; then verify again:\n    {apply}",
			c.dialect.product.Host().Run("if it uses an old configuration", c.dialect.product.Host().Restart)), "the authorization URL of %s differs from the one that the realm should produce", made.Endpoint).
			Because("%s", strings.Join(wrong, "; "))
	}
	return check.Passed(id, "%s discovers the issuer and sends browsers to %s", made.Endpoint, made.Location).
		Because("client_id=%s scope=%q redirect_uri=%s code_challenge_method=S256", c.cleaner.Clean(login.ClientID), c.cleaner.Clean(made.Query.Get("scope")), redirectURL)
}

// undiscovered is a node's refusal to begin a login.
func (c *Client) undiscovered(failure *Error, login realm.Login, fromHere bool) check.Check {
	summary, remedy := failure.described.Message, failure.described.Hint
	k, discovery := c.dialect.product.Host(), c.cleaner.Clean(realm.DiscoveryURL(login.IssuerURL))
	switch failure.Kind {
	case IssuerUnreachable:
		if fromHere {
			summary += ", although this machine can"
		}
		remedy = check.Hints(k.Run("shows the cause", "curl -v "+check.Quote(discovery)), remedy)
	case IssuerDocument:
		remedy = check.Hints(k.Run("must print JSON", "curl -v "+check.Quote(discovery)), remedy)
	case IssuerHung:
		remedy = check.Hints(k.Run("shows whether the issuer answers there", "curl -v -m 10 "+check.Quote(discovery)), remedy)
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
		got := made.Query.Get(parameter)
		if parameter == "scope" && wordSet(got) == wordSet(value) {
			continue
		}
		if got != value {
			wrong = append(wrong, fmt.Sprintf("%s is %q, not %q", parameter, c.cleaner.Clean(got), c.cleaner.Clean(value)))
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
