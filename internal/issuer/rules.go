package issuer

import (
	"net/url"
	"slices"
	"strings"
	"unicode"

	"proxmox-realm/internal/check"
)

// checkURL is issuer.url. Proxmox appends the well-known path to the URL, and compares the URL byte by byte with the
// issuer's own name.
func checkURL(issuerURL string) check.Check {
	shown := (*check.Cleaner)(nil).Clean(issuerURL[strings.LastIndex(issuerURL, "@")+1:]) // without credentials
	wrong := func(value, note, what string) check.Check {
		set := check.Set("realm.issuer_url", value).With("%s", note)
		return fail(check.Hints(set), "the issuer URL %s", what).Because("%q", shown)
	}
	u, err := url.Parse(issuerURL)
	example := "only the issuer, such as https://auth.example.com"
	bare := !strings.Contains(issuerURL, "://") && !strings.ContainsAny(issuerURL, "@?#") && requestable("https://"+issuerURL)
	switch {
	case strings.ContainsFunc(issuerURL, unicode.IsSpace) || err != nil && !bare:
		return wrong("", example, "is not a URL")
	case bare:
		return wrong("https://"+issuerURL, "", "does not begin with https://")
	case u.User != nil:
		return wrong("", "without the part before @", "holds credentials")
	case u.Scheme != "http" && u.Scheme != "https":
		return wrong("", example, "does not begin with https://")
	case u.Hostname() == "":
		return wrong("", example, "names no host")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(issuerURL, "#"):
		return wrong("", "without everything from ? or # on", "has a query or a fragment")
	}
	if issuer, _, pasted := strings.Cut(issuerURL, "/.well-known"); pasted {
		return wrong(issuer, "with a slash at the end if the issuer's own name has one", "is that of the discovery document")
	}
	if u.Scheme != "https" {
		return wrong("https://"+u.Host+u.EscapedPath(), "Proxmox needs TLS", "does not begin with https://")
	}
	return pass("%s", shown)
}

// checkDiscovery is issuer.discovery.
func checkDiscovery(i *Inspection, _ View) check.Check {
	a := i.discovery
	if i.documentErr.Status != "" {
		return i.documentErr.Took(a.took)
	}
	c := pass("Proxmox can read the discovery document").Because("%s, %d bytes", a.clean.Clean(a.url), len(a.body))
	if a.redirected > 0 {
		c.Evidence += ", after " + check.Count(a.redirected, "redirect", "redirects")
	}
	return c.Took(a.took)
}

// checkIdentity is issuer.identity.
func checkIdentity(i *Inspection, _ View) check.Check {
	named, clean := string(i.document.Issuer), i.client.cleaner
	if named == i.issuer {
		return pass("the issuer's own name is %s, as configured", clean.Clean(named))
	}
	return fail(identityRemedy(i.issuer, named, clean),
		"the issuer's own name differs from the issuer URL; Proxmox requires an exact match").
		Because("configured: %s; the issuer's own name: %s", clean.Clean(i.issuer), clean.Clean(named))
}

func identityRemedy(configured, named string, clean *check.Cleaner) check.Hint {
	shown := clean.Clean(named)
	adopt := check.Set("realm.issuer_url", shown)
	headers := check.Hint("let the proxy pass on Host, X-Forwarded-Proto and X-Forwarded-Host")
	external := check.Hint("set the issuer's external address in the issuer").
		With("Keycloak: hostname; Dex: issuer; Zitadel: external domain")
	want, err1 := url.Parse(configured)
	have, err2 := url.Parse(named)
	switch {
	case err1 != nil || err2 != nil || have.Hostname() == "" || shown != named:
		return check.Hints(external, headers)
	case strings.Contains(named, "{tenantid}"):
		return check.Hints(check.Set("realm.issuer_url", "https://"+want.Host+"/TENANT-ID/v2.0").With("TENANT-ID: your tenant's"))
	case have.Hostname() == "sts.windows.net": // Entra ID's name at its endpoint of version 1.0
		return check.Hints(check.Set("realm.issuer_url", strings.TrimSuffix(configured, "/")+"/v2.0"))
	case have.Scheme != "https": // the issuer does not know that users reach it over https
		return check.Hints(headers, external)
	case !strings.EqualFold(have.Host, want.Host):
		return check.Hints(adopt.With("if users reach the issuer there"), headers, external)
	}
	return check.Hints(adopt)
}

// checkEndpoints is issuer.endpoints.
func checkEndpoints(i *Inspection, v View) check.Check {
	d, clean := i.document, i.client.cleaner
	var missing, insecure []string
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
		case !e.endpoint.secure():
			insecure = append(insecure, e.name+" "+clean.Clean(string(e.endpoint)))
		}
	}
	switch {
	case slices.Equal(missing, []string{"userinfo_endpoint"}):
		off := check.Set("realm.query_userinfo", "false").With("if the ID token holds every claim that is needed")
		return fail(check.Hints(off), "the issuer has no userinfo endpoint, but Proxmox asks it").
			Because("userinfo_endpoint is missing")
	case len(missing) > 0:
		return fail("add the endpoints to the issuer's discovery document",
			"the discovery document lacks endpoints").Because("%s", strings.Join(missing, ", "))
	case len(insecure) > 0:
		return fail("let the proxy in front of the issuer pass on Host and X-Forwarded-Proto",
			"endpoints are not https").Because("%s", strings.Join(insecure, ", "))
	}
	return pass("the issuer has every endpoint, over https").
		Because("authorization: %s", clean.Clean(string(d.AuthorizationEndpoint)))
}

// checkCapabilities is issuer.capabilities. A list that is absent excludes nothing.
func checkCapabilities(i *Inspection, v View) check.Check {
	d, basic := i.document, v.Login.ClientKey.IsSet()
	var found []string
	for _, c := range []struct {
		member string
		list   []string
		value  string // that Proxmox always uses
		used   bool
	}{
		{"response_types_supported", d.ResponseTypes, "code", true},
		{"response_modes_supported", d.ResponseModes, "query", true},
		{"grant_types_supported", d.GrantTypes, "authorization_code", true},
		{"token_endpoint_auth_methods_supported", d.AuthMethods, "client_secret_basic", basic},
		{"code_challenge_methods_supported", d.ChallengeMethods, "S256", true},
	} {
		if c.used && len(c.list) > 0 && !slices.Contains(c.list, c.value) {
			found = append(found, c.member+": "+i.client.cleaner.Clean(listed(c.list)))
		}
	}
	if d.RequirePushedRequests == true {
		found = append(found, "require_pushed_authorization_requests: true")
	}
	if d.RequireSignedRequests == true {
		found = append(found, "require_signed_request_object: true")
	}
	if len(found) > 0 {
		enable := check.Hint("enable the code flow, client_secret_basic and S256 in the issuer, for plain requests")
		return fail(check.Hints(enable), "the issuer excludes a capability that Proxmox always uses").
			Because("%s", strings.Join(found, "; "))
	}
	if v.Login.Prompt == "none" {
		return warn(check.Hints(check.Set("realm.prompt", "login"), check.Unset("realm.prompt")),
			"with the prompt none, only users with a session at the issuer can log in").Because("prompt: none")
	}
	return pass("nothing advertised excludes the code flow, client_secret_basic or S256")
}
