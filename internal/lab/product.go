package lab

import (
	"cmp"
	"crypto/rand"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"proxmox-realm/internal/lab/authority"
	"proxmox-realm/internal/lab/pbs"
	"proxmox-realm/internal/lab/pve"
)

// product is the name of what the lab runs: pve, pbs or pdm.
func (l *Lab) product() string {
	if l.PBS != nil {
		return l.PBS.Product().Name
	}
	return "pve"
}

// origins are the addresses of the first stand-in.
func (l *Lab) origins() []string {
	if l.PBS != nil {
		return []string{l.PBS.URL()}
	}
	return l.PVE.URLs()
}

// tokens are the variables that hold the tokens of the lab's product.
func (l *Lab) tokens() map[string]string {
	variables := map[string]string{}
	if l.PBS == nil {
		for _, name := range []string{pve.TokenRoot, pve.TokenRealmAllocate, pve.TokenSysAudit, pve.TokenNoPrivilege, pve.TokenPrivsepWithoutACL} {
			variables[tokenVariable(name)] = l.PVE.Token(name)
		}
		return variables
	}
	for _, name := range []string{
		pbs.TokenRoot, pbs.TokenRealmAllocate, pbs.TokenSysAudit, pbs.TokenNoPrivilege, pbs.TokenExpired, pbs.TokenDisabled,
		pbs.TokenUserWithoutACL, pbs.TokenDisabledUser, pbs.TokenNoPropagate, pbs.TokenLogReader,
	} {
		variables[tokenVariable(name)] = l.PBS.Token(name)
	}
	return variables
}

func tokenVariable(name string) string {
	return "LAB_TOKEN_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// admin is the administrator of the lab's product.
func (l *Lab) admin() pve.Credentials {
	if l.PBS == nil {
		return l.PVE.User(pve.UserRoot)
	}
	return pve.Credentials{Username: "root@pam", Password: l.PBS.State().Users["root@pam"].Password}
}

// startProxmox starts the stand-ins. fresh says that the first did not load the state of an earlier run.
func (l *Lab) startProxmox(options Options, kept *kept) (fresh bool, err error) {
	ve, others := options.PVE, pbs.Options{}
	name := "pve"
	if options.PBS != nil {
		others = *options.PBS
		others.Product = cmp.Or(others.Product, pbs.BackupServer)
		name = others.Product.Name
	}
	fresh = true
	if !l.temporary {
		ve.StateFile = filepath.Join(l.Dir, name+".json")
		_, err := os.Stat(ve.StateFile)
		fresh = errors.Is(err, fs.ErrNotExist)
	}
	if ve.IssuerClient == nil {
		if ve.IssuerClient, err = l.nodeClient(); err != nil {
			return fresh, err
		}
	}
	ve.Authority = l.Authority
	if options.PBS == nil {
		err = l.startAt(&ve.Listen, kept.PVEAddress, func() (err error) {
			l.PVE, err = pve.Start(ve)
			return err
		})
	} else {
		others.StateFile, others.IssuerClient = ve.StateFile, cmp.Or(others.IssuerClient, ve.IssuerClient)
		if others.Certificate, err = l.Authority.Issue(authority.Valid, "127.0.0.1", "::1", "localhost"); err != nil {
			return fresh, err
		}
		err = l.startAt(&others.Listen, kept.PVEAddress, func() (err error) {
			l.PBS, err = pbs.Start(others)
			return err
		})
	}
	if err != nil {
		return fresh, err
	}
	if kept.PVEAddress, err = hostOf(l.origins()[0]); err != nil || l.PVE == nil {
		return fresh, err
	}
	l.Clusters = []*pve.Server{l.PVE}
	ve.Listen, ve.StateFile, ve.Seed = "", "", l.PVE.State() // the others are on free ports, and know the same people
	ve.Seed.Realms = nil
	for len(l.Clusters) < options.Clusters {
		cluster, err := pve.Start(ve)
		if err != nil {
			return fresh, err
		}
		l.Clusters = append(l.Clusters, cluster)
	}
	return fresh, nil
}

// onlyVE are properties that the other products lack.
var onlyVE = []string{"groups-claim", "groups-autocreate", "groups-overwrite", "query-userinfo"}

// seedPBS sets the realms of another product to what the seed makes of a cluster. Properties that the product lacks are
// left out.
func (l *Lab) seedPBS(s seed) error {
	cluster := pve.DefaultState()
	s.change(cluster, l.Realm())
	bare := l.bare()
	return l.PBS.Update(func(st *pbs.State) {
		p := l.PBS.Product()
		if bare || s.name == seedBare {
			*st = *pbs.DefaultState(p)
		}
		if s.name == seedBare {
			st.Users = map[string]*pbs.User{"root@pam": {Password: rand.Text()}}
			st.Tokens, st.ACL, st.TokenNames = map[string]*pbs.Token{}, nil, nil
		}
		st.Realms = slices.DeleteFunc(st.Realms, func(r pbs.Realm) bool { return r.Type != "pam" && r.Type != p.Name })
		maps.DeleteFunc(st.Users, func(id string, _ *pbs.User) bool { return strings.HasSuffix(id, "@"+RealmName) })
		for _, realm := range cluster.Realms {
			realm := translate(realm, p)
			if realm.Properties["default"] == "true" {
				for _, other := range st.Realms {
					delete(other.Properties, "default")
				}
			}
			st.Realms = append(st.Realms, realm)
		}
		for id := range cluster.Users {
			if strings.HasSuffix(id, "@"+RealmName) {
				st.Users[id] = &pbs.User{}
			}
		}
	})
}

// translate writes a realm of Proxmox VE as another product has it.
func translate(realm pve.Realm, p *pbs.Product) pbs.Realm {
	properties := map[string]string{}
	for name, value := range realm.Properties {
		if slices.Contains(onlyVE, name) {
			continue
		}
		switch {
		case name == "autocreate" || name == "default":
			value = map[string]string{"1": "true"}[value]
			if value == "" {
				value = "false"
			}
		case name == "acr-values" && p == pbs.DatacenterManager: // takes no URN
			value = value[strings.LastIndex(value, ":")+1:]
		}
		properties[strings.ReplaceAll(name, "_", "-")] = value
	}
	return pbs.Realm{Name: realm.Name, Type: realm.Type, Properties: properties}
}
