package lab

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"proxmox-realm/internal/lab/pve"
)

// seed is one state of the realms.
type seed struct {
	name  string
	about string
	// change edits a state that holds the realms pam and pve only. realm is the
	// realm of the configuration, as proxmox-realm would create it.
	change func(state *pve.State, realm pve.Realm)
}

// seedBare is a cluster that nobody prepared, and an issuer that does not know it.
const seedBare = "bare"

// seeds are in the order of the help text.
var seeds = []seed{
	{seedBare, "a new cluster: no token, no role, no realm, and no client at the issuer", func(state *pve.State, _ pve.Realm) {
		*state = *pve.BareState()
	}},
	{"empty", "only the realms pam and pve", func(state *pve.State, _ pve.Realm) {
		state.AtTicket = pve.RecordedAccounts(state)
	}},
	{"converged", "the realm is as the configuration says", func(state *pve.State, realm pve.Realm) {
		state.Realms = append(state.Realms, realm)
	}},
	{"drifted", "scopes, key and comment differ, and autocreate is missing", func(state *pve.State, realm pve.Realm) {
		realm.Properties["scopes"] = "openid email"
		realm.Properties["client-key"] = "the-key-before-the-last-rotation"
		realm.Properties["comment"] = "changed by hand"
		delete(realm.Properties, "autocreate")
		state.Realms = append(state.Realms, realm)
	}},
	{"foreign", "an LDAP realm has the name of the realm", func(state *pve.State, realm pve.Realm) {
		state.Realms = append(state.Realms, pve.Realm{Name: realm.Name, Type: "ldap", Properties: map[string]string{
			"server1": "ldap.example.test", "base_dn": "dc=example,dc=test", "user_attr": "uid", "comment": "the directory of before",
		}})
	}},
	{"unmanaged", "as configured, with more properties than the configuration has", func(state *pve.State, realm pve.Realm) {
		realm.Properties["prompt"] = "login"
		realm.Properties["acr-values"] = "urn:example:gold"
		realm.Properties["groups-claim"] = "groups"
		realm.Properties["groups-autocreate"] = "1"
		realm.Properties["query-userinfo"] = "1"
		state.Realms = append(state.Realms, realm)
	}},
	{"claim", "users are named by the claim sub; only apply --replace changes that", func(state *pve.State, realm pve.Realm) {
		delete(realm.Properties, "username-claim")
		realm.Properties["prompt"] = "login"
		state.Realms = append(state.Realms, realm)
		for _, name := range []string{"5b9a3ff6-3c02-4f0f-a9d2-4f4dd7a4f7f1", "b7e0d6a2-9a53-4b33-8c5f-3a6e8f0f2f64"} {
			state.Users[name+"@"+realm.Name] = &pve.User{Enable: true}
		}
	}},
	{"slash", "issuer-url ends with a slash, so that logins fail", func(state *pve.State, realm pve.Realm) {
		realm.Properties["issuer-url"] += "/"
		state.Realms = append(state.Realms, realm)
	}},
	{"default", "as configured, and another realm is the default realm", func(state *pve.State, realm pve.Realm) {
		state.Realms = append(state.Realms, realm, pve.Realm{Name: "company", Type: "openid", Properties: map[string]string{
			"issuer-url": "https://sso.example.test", "client-id": "pve", "default": "1",
		}})
	}},
	{"locked-out", "autocreate is off, and the realm has no users", func(state *pve.State, realm pve.Realm) {
		realm.Properties["autocreate"] = "0"
		state.Realms = append(state.Realms, realm)
	}},
}

// Seeds lists the names that Options.Seed and Lab.Seed accept, each with a description.
func Seeds() (names []string, about map[string]string) {
	about = map[string]string{}
	for _, seed := range seeds {
		names = append(names, seed.name)
		about[seed.name] = seed.about
	}
	return names, about
}

// Realm returns the realm that proxmox-realm creates from the lab's configuration.
func (l *Lab) Realm() pve.Realm {
	properties := map[string]string{
		"issuer-url":     l.IssuerURL,
		"client-id":      l.ClientID,
		"username-claim": "preferred_username",
		"scopes":         strings.Join(scopes, " "),
		"autocreate":     "1",
		"comment":        comment,
	}
	if l.ClientKey != "" {
		properties["client-key"] = l.ClientKey
	}
	return pve.Realm{Name: RealmName, Type: "openid", Properties: properties}
}

// bare says whether the stand-in is as the seed "bare" makes it: without the tokens of the others.
func (l *Lab) bare() bool {
	if l.PBS != nil {
		return len(l.PBS.State().TokenNames) == 0
	}
	return len(l.PVE.State().TokenNames) == 0
}

// Seed sets the realms, and the users of the lab's realm, to one of Seeds; "" means "empty". It changes nothing else in the
// stand-in, except from and to "bare": then it replaces all users, and the issuer's clients.
func (l *Lab) Seed(name string) error {
	if name == "" {
		name = "empty"
	}
	index := slices.IndexFunc(seeds, func(s seed) bool { return s.name == name })
	if index < 0 {
		names, _ := Seeds()
		return fmt.Errorf("unknown seed %q: one of %s", name, strings.Join(names, ", "))
	}
	bare := l.bare()
	err := l.seed(seeds[index])
	if err != nil || l.Issuer == nil || bare == l.bare() {
		return err
	}
	if err := l.writeClients(); err != nil {
		return err
	}
	return l.RestartIssuer()
}

func (l *Lab) seed(s seed) error {
	if l.PBS != nil {
		return l.seedPBS(s)
	}
	bare := l.bare()
	return l.PVE.Update(func(state *pve.State) {
		if bare {
			*state = *pve.DefaultState()
		}
		state.Realms = slices.DeleteFunc(state.Realms, func(realm pve.Realm) bool { return realm.Type != "pam" && realm.Type != "pve" })
		maps.DeleteFunc(state.Users, func(id string, _ *pve.User) bool { return strings.HasSuffix(id, "@"+RealmName) })
		state.AtTicket = nil
		s.change(state, l.Realm())
	})
}
