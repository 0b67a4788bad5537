package diagnose

import (
	"net/url"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

func (f Facts) host() realm.Host { return f.Product.Host() }

// discoveryURL is the address of the issuer's discovery document; "" if the issuer is not known.
func (f Facts) discoveryURL() string {
	if f.Login.IssuerURL == "" {
		return ""
	}
	return f.Cleaner.Clean(realm.DiscoveryURL(f.Login.IssuerURL))
}

// fromNode says how to find out how a node reaches the issuer.
func (f Facts) fromNode(l Login) check.Hint {
	var commands []string
	if document := f.discoveryURL(); document != "" {
		commands = append(commands, "curl -v "+check.Quote(document))
		if u, err := url.Parse(document); err == nil {
			commands = append(commands, "getent hosts "+check.Quote(u.Hostname()))
		}
	}
	commands = append(commands, "timedatectl")
	look := check.Hintf("on %s, see whether it reaches and trusts the issuer, and whether its clock is right:", l.Node)
	for _, c := range commands {
		look += check.Hintf("\n    %s", c)
	}
	return check.Hints(look,
		f.host().Run("after copying the issuer's authority to /usr/local/share/ca-certificates, if the node does not know it", "update-ca-certificates"),
		f.host().Proxy, logNamesReason)
}

// admit says how a user gets in who does not exist.
func (f Facts) admit(user string) check.Hint {
	if f.Declared.Autocreate {
		return "autocreate is on in the configuration, and off in the realm:\n    {apply}"
	}
	return check.Hints(f.host().Run("if this user may log in", f.host().AddUser.With("user", user)), "set {realm.autocreate} to true (if logins may create users)")
}
