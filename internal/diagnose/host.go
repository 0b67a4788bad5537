package diagnose

import (
	"net/url"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// host is what commands are called on the hosts of a product.
type host struct {
	unit     string                                // of the daemon that logs in
	modify   func(user, flag, value string) string // changes a user; nil: there is no such command
	add      func(user string) string
	proxy    check.Hint // where the proxy to the issuer is set
	clusters bool       // a login may reach another node than the one where it began
}

var hosts = map[realm.Product]host{
	realm.VE: {
		unit: "pvedaemon",
		modify: func(user, flag, value string) string {
			return "pveum user modify " + check.Quote(user) + " --" + flag + " " + value
		},
		add:      func(user string) string { return "pveum user add " + check.Quote(user) },
		proxy:    "if the node needs a proxy to reach the issuer, correct http_proxy in /etc/pve/datacenter.cfg",
		clusters: true,
	},
	realm.BackupServer: {
		unit: "proxmox-backup",
		modify: func(user, flag, value string) string {
			return "proxmox-backup-manager user update " + check.Quote(user) + " --" + flag + " " + value
		},
		add:   func(user string) string { return "proxmox-backup-manager user create " + check.Quote(user) },
		proxy: "if the host needs a proxy to reach the issuer, set all_proxy in the environment of proxmox-backup.service",
	},
	realm.DatacenterManager: {
		unit:  "proxmox-datacenter-privileged-api",
		proxy: "if the host needs a proxy to reach the issuer, set all_proxy in the environment of proxmox-datacenter-privileged-api.service",
	},
}

func (f Facts) host() host { return hosts[f.Product] }

// journal is the command that shows the log of logins on a host.
func (f Facts) journal() string { return "journalctl -u " + f.host().unit + " --since -1h" }

// change is the hint to change a user.
func (f Facts) change(user, flag, value, why string) check.Hint {
	if f.host().modify == nil {
		return check.Hintf("in the web interface, change the user %s (%s)", user, why)
	}
	return check.OnNode("%s", f.host().modify(user, flag, value)).With("%s", why)
}

// create is the hint to create a user.
func (f Facts) create(user string) check.Hint {
	if f.host().add == nil {
		return check.Hintf("in the web interface, add the user %s", user)
	}
	return check.OnNode("%s", f.host().add(user)).With("if this user may log in")
}

// document is the address of the issuer's discovery document; "" if the issuer is not known.
func (f Facts) document() string {
	if f.Login.IssuerURL == "" {
		return ""
	}
	return f.Cleaner.Clean(strings.TrimSuffix(f.Login.IssuerURL, "/") + "/.well-known/openid-configuration")
}

// fromNode says how to find out how a node reaches the issuer.
func (f Facts) fromNode(node string) check.Hint {
	var commands []string
	if document := f.document(); document != "" {
		commands = append(commands, "curl -v "+check.Quote(document))
		if u, err := url.Parse(document); err == nil {
			commands = append(commands, "getent hosts "+check.Quote(u.Hostname()))
		}
	}
	commands = append(commands, "timedatectl")
	look := check.Hintf("on %s, see whether it reaches and trusts the issuer, and whether its clock is right:", node)
	for _, c := range commands {
		look += check.Hintf("\n"+check.Command+"%s", c)
	}
	return check.Hints(look,
		check.OnNode("update-ca-certificates").With("after copying the issuer's authority to /usr/local/share/ca-certificates, if the node does not know it"),
		f.host().proxy,
		"read the issuer's log at the time of the login: it names the reason")
}
