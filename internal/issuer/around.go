package issuer

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// surroundings is what was found near an issuer URL that serves no document, or the document of another issuer. Only what was
// found is advised.
type surroundings struct {
	serves string // an issuer URL that serves its own document; "": none was found
	portal bool   // Authelia answers, and its OpenID Connect part is off
}

const (
	aroundTimeout = 3 * time.Second // of all requests
	maxAround     = 4               // requests for documents
)

// lookAround looks once where the right document may be.
func (i *Inspection) lookAround(ctx context.Context, transport *http.Transport) (s surroundings) {
	var candidates []string
	named := string(i.metadata.Issuer)
	absent := i.metadataErr.Status == check.Fail && i.discovery.status != 0
	switch {
	case absent:
		candidates = neighbours(i.issuer, i.discovery)
	case i.metadataErr.Status == "" && named != i.issuer && strings.TrimSuffix(named, "/") == strings.TrimSuffix(i.issuer, "/"):
		return surroundings{serves: named} // by the same document
	case i.metadataErr.Status == "" && named != i.issuer:
		candidates = []string{named, strings.TrimSuffix(i.issuer, "/") + "/v2.0"} // the latter at Entra ID
	default:
		return s
	}
	ctx, cancel := context.WithTimeout(ctx, aroundTimeout)
	defer cancel()
	asked := map[string]int{}
	for _, candidate := range candidates {
		at := realm.DiscoveryURL(candidate)
		if _, again := asked[at]; again || at == realm.DiscoveryURL(i.issuer) || !requestable(candidate) || len(asked) == maxAround {
			continue
		}
		a := i.inspector.get(ctx, transport, at, "application/json")
		asked[at] = a.status
		if found, unusable := parseDiscovery(candidate, a); unusable.Status == "" &&
			strings.TrimSuffix(string(found.Issuer), "/") == strings.TrimSuffix(candidate, "/") {
			return surroundings{serves: string(found.Issuer)}
		}
	}
	if absent {
		s.portal = i.findPortal(ctx, transport, asked)
	}
	return s
}

// portalMark stands in each page of Authelia's portal (web/index.html).
const portalMark = "data-duoselfenrollment"

// findPortal tells whether Authelia's portal answers where no discovery document is. asked holds the statuses of other places.
func (i *Inspection) findPortal(ctx context.Context, transport *http.Transport, asked map[string]int) bool {
	if i.discovery.status == http.StatusOK && strings.Contains(string(i.discovery.body), portalMark) {
		// The portal answers below any path. It is off if the root has no document either.
		return asked[realm.DiscoveryURL(originOf(i.issuer))] == http.StatusNotFound
	}
	if i.discovery.status != http.StatusNotFound {
		return false
	}
	a := i.inspector.get(ctx, transport, strings.TrimSuffix(i.issuer, "/")+"/", "text/html")
	return strings.Contains(string(a.body), portalMark)
}

var (
	documentURL = check.Pattern(`https?://[^\s"'<>\\]+/\.well-known/openid-configuration`)
	issuerForms = check.Pattern(`^(.*?/realms/[^/]+|.*?/application/o/[^/]+/|.*?/oauth2/openid/[^/]+|.*?/adfs|.*?/v2\.0)`)
)

// neighbours returns where the document may be, if it is not at the issuer URL.
func neighbours(issuerURL string, a answer) []string {
	u, err := url.Parse(issuerURL)
	if err != nil {
		return nil
	}
	at := func(path string) string { return u.Scheme + "://" + u.Host + path }
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	var all []string
	if a.location != nil { // a redirect that was not followed
		if base, ok := strings.CutSuffix(a.location.String(), "/.well-known/openid-configuration"); ok {
			all = append(all, base)
		}
	}
	for _, found := range documentURL().FindAllString(string(a.body[:min(len(a.body), maxRead)]), 2) {
		if base := strings.TrimSuffix(found, "/.well-known/openid-configuration"); originOf(base) == originOf(issuerURL) {
			all = append(all, base)
		}
	}
	if form := issuerForms().FindString(path + "/"); form != "" && strings.TrimSuffix(form, "/") != path {
		all = append(all, at(form))
	}
	if without, ok := strings.CutPrefix(path, "/auth"); ok && (without == "" || without[0] == '/') {
		all = append(all, at(without))
	} else {
		all = append(all, at("/auth"+path))
	}
	return slices.Concat(all, []string{at("")})
}
