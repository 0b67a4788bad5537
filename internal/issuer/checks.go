package issuer

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"proxmox-realm/internal/check"
)

// checkURL is issuer.url. Proxmox appends the well-known path to the URL, and compares the URL byte by byte with the
// issuer's own name.
func checkURL(issuerURL string, clean *check.Cleaner) check.Check {
	shown := clean.Clean(issuerURL[strings.LastIndex(issuerURL, "@")+1:]) // without credentials
	wrong := func(hint check.Hint, what string) check.Check {
		return fail(hint, "the issuer URL %s", what).Because("%q", shown)
	}
	u, err := url.Parse(issuerURL)
	bare := !strings.Contains(issuerURL, "://") && !strings.ContainsAny(issuerURL, "@?#") && requestable("https://"+issuerURL)
	const example = "set {realm.issuer_url} to the issuer alone, such as https://auth.example.com"
	switch {
	case strings.ContainsFunc(issuerURL, unicode.IsSpace) || err != nil && !bare:
		return wrong(example, "is not a URL")
	case bare:
		return wrong(check.Hintf("set {realm.issuer_url} to %s", clean.Clean("https://"+issuerURL)), "does not begin with https://")
	case u.User != nil:
		return wrong("set {realm.issuer_url} to the URL without the part before @", "holds credentials")
	case u.Scheme != "http" && u.Scheme != "https":
		return wrong(example, "does not begin with https://")
	case u.Hostname() == "":
		return wrong(example, "names no host")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(issuerURL, "#"):
		return wrong("set {realm.issuer_url} to the URL without everything from ? or # on", "has a query or a fragment")
	}
	if issuer, _, pasted := strings.Cut(issuerURL, "/.well-known"); pasted {
		return wrong(check.Hintf("set {realm.issuer_url} to %s (with a slash at the end if the issuer's own name has one)", clean.Clean(issuer)),
			"is that of the discovery document")
	}
	if u.Scheme != "https" {
		return warn("serve the issuer over https, and set {realm.issuer_url} to that address",
			"the issuer is used over http: client key and tokens travel in clear, so no key is sent from here to check it").Because("%q", shown)
	}
	return pass("%s", shown)
}

// checkDiscovery is issuer.discovery.
func checkDiscovery(i *Inspection, _ View) check.Check {
	a := i.discovery
	switch {
	case i.around.portal:
		return fail("add identity_providers.oidc with a client to Authelia's configuration, and restart Authelia; to print the client:\n"+
			check.Command+"{authelia}", "Authelia answers, but its OpenID Connect provider is off").
			Because("%s answers %d; Authelia's portal is there", i.clean(a.url), a.status).Took(a.took)
	case i.around.serves != "" && i.metadataErr.Status == check.Fail:
		c := i.metadataErr
		c.Hint = check.Hintf("set {realm.issuer_url} to %s (a discovery document is there)", i.clean(i.around.serves))
		return c.Took(a.took)
	case i.metadataErr.Status == check.Fail && i.misplaced():
		c := i.metadataErr
		c.Hint = i.formHint()
		return c.Took(a.took)
	case i.metadataErr.Status != "":
		return i.metadataErr.Took(a.took)
	}
	c := pass("Proxmox can read the discovery document").Because("%s, %d bytes", i.clean(a.url), len(a.body))
	if a.redirected > 0 {
		c.Evidence += ", after " + check.Count(a.redirected, "redirect", "redirects")
	}
	return c.Took(a.took)
}

// misplaced tells whether the issuer URL may be wrong, since something else than a document is there. Authelia answers 400 at
// addresses that it is not configured for.
func (i *Inspection) misplaced() bool {
	switch i.discovery.status {
	case http.StatusNotFound, http.StatusBadRequest, http.StatusGone:
		return true
	case http.StatusOK:
		return strings.Contains(strings.ToLower(i.discovery.header.Get("Content-Type")), "html")
	}
	return false
}

// formHint says how the issuer URLs of a provider look, if the URL or the page is that provider's.
func (i *Inspection) formHint() check.Hint {
	const wrong = check.Hint("correct host or path of {realm.issuer_url}, or let the proxy pass on its path: no discovery document is there")
	page := strings.ToLower(string(i.discovery.body[:min(len(i.discovery.body), maxRead)]))
	for _, p := range providers {
		if p.looks != nil && p.looks().MatchString(i.issuer) || p.marker != "" && strings.Contains(page, p.marker) {
			return check.Hints(wrong, check.Hint(p.name+": its issuer URLs look like "+p.form))
		}
	}
	return wrong
}

// checkIdentity is issuer.identity.
func checkIdentity(i *Inspection, _ View) check.Check {
	named := string(i.metadata.Issuer)
	if named == i.issuer {
		return pass("the issuer's own name is %s, as configured", i.clean(named))
	}
	return fail(i.identityHint(named), "the issuer's own name differs from the issuer URL; Proxmox requires an exact match").
		Because("configured: %s; the issuer's own name: %s", i.clean(i.issuer), i.clean(named))
}

// identityHint advises the issuer's own name only if a document is there.
func (i *Inspection) identityHint(named string) check.Hint {
	serves := i.around.serves
	external := check.Hints("set the external address of the issuer in the issuer's own configuration", i.provider().tell(OnAddress))
	headers := check.Hint("let the proxy in front of the issuer pass on Host, X-Forwarded-Proto and X-Forwarded-Host")
	want, err := url.Parse(i.issuer)
	switch {
	case serves != "" && i.clean(serves) == serves && hostOf(serves) == hostOf(i.issuer):
		return check.Hintf("set {realm.issuer_url} to %s", serves)
	case serves != "" && i.clean(serves) == serves:
		return check.Hints(check.Hintf("set {realm.issuer_url} to %s (if users reach the issuer there)", serves), headers, external)
	case err == nil && strings.Contains(named, "{tenantid}"):
		return check.Hintf("set {realm.issuer_url} to https://%s/TENANT-ID/v2.0 (TENANT-ID: your tenant's)", want.Host)
	}
	return check.Hints(headers, external)
}

// checkEndpoints is issuer.endpoints.
func checkEndpoints(i *Inspection, v View) check.Check {
	d := i.metadata
	var missing, insecure, unusable []string
	for _, e := range []struct {
		name     string
		endpoint address
		needed   bool
	}{
		{"authorization_endpoint", d.AuthorizationEndpoint, true},
		{"token_endpoint", d.TokenEndpoint, true},
		{"jwks_uri", d.JWKSURI, true},
		{"userinfo_endpoint", d.UserinfoEndpoint, v.Login.QueryUserinfo},
	} {
		switch {
		case !e.needed:
		case e.endpoint == "":
			missing = append(missing, e.name)
		case !e.endpoint.usable():
			unusable = append(unusable, e.name+" "+i.clean(string(e.endpoint)))
		case !e.endpoint.secure():
			insecure = append(insecure, e.name+" "+i.clean(string(e.endpoint)))
		}
	}
	switch {
	case slices.Equal(missing, []string{"userinfo_endpoint"}):
		return fail(check.Hints(v.Version.Product.WithoutUserinfo(), "let the issuer serve a userinfo endpoint"),
			"the issuer has no userinfo endpoint, but Proxmox asks it").Because("userinfo_endpoint is missing")
	case len(missing) > 0:
		return fail("add the endpoints to the issuer's discovery document",
			"the discovery document lacks endpoints").Because("%s", strings.Join(missing, ", "))
	case len(unusable) > 0:
		return fail("correct the endpoints in the issuer's discovery document",
			"endpoints are no http or https URLs").Because("%s", strings.Join(unusable, ", "))
	case len(insecure) > 0:
		return warn(check.Hints("let the proxy in front of the issuer pass on Host and X-Forwarded-Proto", i.provider().tell(OnAddress),
			ignore(check.IssuerEndpoints, "if the network between Proxmox and the issuer is trusted")),
			"endpoints are http: client key and tokens travel in clear, so no key is sent from here to check it").
			Because("%s", strings.Join(insecure, ", "))
	}
	return pass("the issuer has every endpoint, over https").Because("authorization: %s", i.clean(string(d.AuthorizationEndpoint)))
}

// checkCapabilities is issuer.capabilities. A list that is absent excludes nothing, and what the issuer's answers about the
// client proved is not judged.
func checkCapabilities(i *Inspection, v View) check.Check {
	d, request := i.metadata, !v.requestProven()
	confidential := v.Login.ClientKey.IsSet() || v.Login.ClientID == "" // most clients are
	var found []string
	for _, c := range []struct {
		member string
		list   []string
		value  string // that Proxmox always uses
		used   bool
	}{
		{"response_types_supported", d.ResponseTypes, "code", request},
		{"response_modes_supported", d.ResponseModes, "query", request},
		{"grant_types_supported", d.GrantTypes, "authorization_code", !v.keyProven()},
		{"token_endpoint_auth_methods_supported", d.AuthMethods, "client_secret_basic", confidential && !v.keyProven()},
		{"code_challenge_methods_supported", d.ChallengeMethods, "S256", request},
	} {
		if c.used && len(c.list) > 0 && !slices.Contains(c.list, c.value) {
			found = append(found, c.member+": "+i.clean(listed(c.list)))
		}
	}
	if d.RequirePushedRequests == true && request {
		found = append(found, "require_pushed_authorization_requests: true")
	}
	if d.RequireSignedRequests == true && request {
		found = append(found, "require_signed_request_object: true")
	}
	prompt := v.Login.Prompt
	switch {
	case len(found) > 0:
		p := i.provider()
		return fail(check.Hints("enable the code flow, client_secret_basic and S256 in the issuer, for plain requests",
			p.tell(OnFlow), p.tell(OnMethod), p.tell(OnRequest)), "the issuer excludes a capability that Proxmox always uses").
			Because("%s", strings.Join(found, "; "))
	case prompt == "none":
		return warn(check.Hints("set {realm.prompt} to login", "add prompt to {realm.unset}"),
			"with the prompt none, only users with a session at the issuer can log in").Because("prompt: none")
	case prompt != "" && request && len(d.Prompts) > 0 && !slices.Contains(d.Prompts, prompt):
		return warn(check.Hints("add prompt to {realm.unset}", "set {realm.prompt} to one of "+check.Hint(i.clean(strings.Join(d.Prompts, ", ")))),
			"the issuer does not advertise the prompt %s", i.clean(prompt)).Because("prompt_values_supported: %s", i.clean(listed(d.Prompts)))
	case v.keyProven() && v.requestProven():
		return pass("the issuer accepts the code flow, client_secret_basic and S256")
	}
	return pass("nothing advertised excludes the code flow, client_secret_basic or S256")
}

// listed returns the words, or "none".
func listed(words []string) string { return cmp.Or(strings.Join(words, " "), "none") }

func ignore(id check.ID, when string) check.Hint {
	return check.Hintf("set {verify.ignore} to [%s] (%s)", string(id), when)
}
