package setup

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
)

// ParseGrant reads GROUP=PATH:ROLE. Its error completes "must …".
func ParseGrant(text string) (group string, g realm.Grant, err error) {
	group, grant, ok := strings.Cut(text, "=")
	colon := strings.LastIndexByte(grant, ':')
	if !ok || group == "" || colon < 0 {
		return "", realm.Grant{}, errors.New("must be GROUP=PATH:ROLE, such as admins=/:PVEAdmin")
	}
	g = realm.Grant{Path: realm.NormalPath(grant[:colon]), Role: grant[colon+1:], Propagate: true}
	if err := realm.ValidateGroup(group); err != nil {
		return "", realm.Grant{}, fmt.Errorf("must be GROUP=PATH:ROLE: the group %w", err)
	}
	if !strings.HasPrefix(grant, "/") {
		return "", realm.Grant{}, errors.New("must be GROUP=PATH:ROLE, with a path that begins with a slash")
	}
	return group, g, g.Validate()
}

// ParseGrants reads several grants.
func ParseGrants(texts []string) (realm.Access, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	access := realm.Access{}
	for _, text := range texts {
		group, g, err := ParseGrant(text)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(access[group], g) {
			access[group] = append(access[group], g)
		}
	}
	return access, nil
}

// Adopt returns a target that declares what a realm holds, but for what the target declares itself. Groups and grants stay as they
// are: to manage them, the token would need wider privileges.
func Adopt(t config.Target, held realm.Current) config.Target {
	values := maps.Clone(held.Values)
	maps.Copy(values, t.Realm.Set)
	t.Realm.Set = values
	return t
}

// Complete returns a target of a new realm with the defaults of what it does not declare.
func Complete(t config.Target) config.Target {
	values := realm.CreationDefaults()
	values[realm.ClientID], values[realm.Autocreate] = realm.Text(defaultClientID), realm.Bool(true)
	maps.Copy(values, t.Realm.Set)
	t.Realm.Set = values
	return t
}

// What a setup proposes.
const (
	defaultClientID    = "proxmox"
	defaultGroupsClaim = "groups"
)

// WithGroups returns a target whose realm takes groups from a claim. It requests the scope of that name if the issuer offers it: some
// issuers have no such scope, and refuse it.
func WithGroups(t config.Target, offers func(scope string) bool) config.Target {
	values := maps.Clone(t.Realm.Set)
	if _, declared := values[realm.GroupsClaim]; !declared {
		values[realm.GroupsClaim] = realm.Text(defaultGroupsClaim)
	}
	login := values.Login(t.Realm.Name)
	if offers(login.GroupsClaim) && !slices.Contains(login.Scopes, login.GroupsClaim) {
		values[realm.Scopes] = realm.Words(realm.Scopes, append(slices.Clone(login.Scopes), login.GroupsClaim)...)
	}
	t.Realm.Set = values
	return t
}

// Lacks returns an error if this version of Proxmox does not know what the target declares.
func Lacks(t config.Target, v realm.Version) error {
	var lacking []realm.Property
	for _, p := range t.Realm.Set.Properties() {
		if v.Lacks(p) {
			lacking = append(lacking, p)
		}
	}
	if len(lacking) > 0 {
		return realm.LacksProperties(v, lacking)
	}
	return nil
}

// Differences returns the keys in which a configuration that is there says something else than what is asked for.
func Differences(there, asked config.Target) []string {
	var keys []string
	asked.Realm.Set = maps.Clone(asked.Realm.Set)
	delete(asked.Realm.Set, realm.ClientKey)
	held := realm.Current{Product: there.Realm.Product, Exists: true, Type: realm.Type, Values: there.Realm.Set}
	for _, c := range realm.Diff(asked.Realm, held, realm.Facts{}).Changes {
		if d, _ := c.Property.Definition(); !sameAddress(c.Property, there, asked) {
			keys = append(keys, "realm."+d.Key)
		}
	}
	if asked.Realm.Name != there.Realm.Name {
		keys = append(keys, "realm.name")
	}
	for _, e := range asked.Proxmox.Endpoints { // a front is an address for browsers only
		if !slices.Contains(there.Proxmox.Endpoints, e) && !slices.Contains(there.Verify.RedirectURLs, e.Browser()) {
			keys = append(keys, "proxmox.endpoints")
		}
	}
	if asked.Verify.RedirectsDeclared && !sameSet(there.Verify.RedirectURLs, asked.Verify.RedirectURLs) {
		keys = append(keys, "verify.redirect_urls")
	}
	if asked.Access != nil && !maps.EqualFunc(there.Access, asked.Access, sameSet) {
		keys = append(keys, "access")
	}
	return keys
}

// sameAddress tells whether both name the issuer, but for a slash at the end: a setup takes the name that the issuer has for itself.
func sameAddress(p realm.Property, there, asked config.Target) bool {
	bare := func(t config.Target) string { return strings.TrimRight(t.Realm.Set[p].String(), "/") }
	return p == realm.IssuerURL && bare(there) == bare(asked)
}

func sameSet[T comparable](a, b []T) bool {
	inside := func(a, b []T) bool {
		return !slices.ContainsFunc(a, func(v T) bool { return !slices.Contains(b, v) })
	}
	return inside(a, b) && inside(b, a)
}

// WrongType returns the error of a realm that cannot become one of OpenID Connect.
func WrongType(name, kind string) error {
	return check.Errorf(check.WrongType, "the realm %s exists and has the type %s", name, kind).
		Try(check.Hintf("choose another name:\n    {init --realm sso}"))
}
