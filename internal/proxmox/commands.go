package proxmox

import (
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// commands are what an administrator does on a host of a product. Each is a command line, "" if the product has none. Names in
// angle brackets are filled in as words of a shell.
type commands struct {
	host    string // where they run
	noun    string // what that is
	hosts   string // whose system log the log is
	enter   string // comes first in a session
	strong  string // a comment about a token that cannot be made weaker
	blocked string // what a silent issuer blocks
	reason  string // of a failed login: a note about the journal

	status  string // of the services
	journal string // of the services
	restart string // of the service that asks issuers
	renew   string // makes a new self-signed certificate

	authority string // the file with the certificate to trust
	proxy     string // how the product reaches issuers through a proxy
	allow     string // what refuses connections before TLS begins

	addUser, listUsers, listTokens string
	enableUser, prolongUser        string
	makeToken                      string // prints the secret as the JSON member `value`
	tokenRights, userRights        string // show the privileges of a token and of a user
	addRole                        string // "" if the product has no roles of one's own
	grantToken, grantUser          string
	addGroup, grantGroup           string
	listRoles, listRealms          string
	auditor                        string // a role that may see everything
}

var veCommands = commands{
	host: "a node", noun: "node", hosts: "the nodes", blocked: "one of the node's workers", reason: "only this log holds the reason",
	status: "systemctl status pveproxy pvedaemon", journal: "journalctl -u pvedaemon -u pveproxy",
	restart: "systemctl restart pvedaemon", renew: "pvecm updatecerts --force",
	authority: "/etc/pve/pve-root-ca.pem", proxy: "if the node needs a proxy, correct http_proxy in /etc/pve/datacenter.cfg",
	allow:      "check ALLOW_FROM and DENY_FROM in /etc/default/pveproxy on the node",
	enableUser: "pveum user modify <user> --enable 1", prolongUser: "pveum user modify <user> --expire 0",
	addUser: "pveum user add <user>", listUsers: "pveum user list", listTokens: "pveum user token list <user>",
	tokenRights: "pveum user token permissions <user> <id>", userRights: "pveum user permissions <user>",
	makeToken:  "pveum user token add <user> <id> --privsep 1 --output-format json",
	addRole:    "pveum role add <role> --privs <privileges>",
	grantToken: "pveum acl modify <path> --tokens <token> --roles <role>",
	grantUser:  "pveum acl modify <path> --users <user> --roles <role>",
	addGroup:   "pveum group add <group>", grantGroup: "pveum acl modify <path> --groups <group> --roles <role>",
	listRoles: "pveum role list", listRealms: "pveum realm list", auditor: "PVEAuditor",
}

var backupCommands = commands{
	host: "the host", noun: "host", hosts: "the host", blocked: "a thread of its privileged daemon, until that is restarted,", reason: "may show more",
	status:  "systemctl status proxmox-backup-proxy proxmox-backup",
	journal: "journalctl -u proxmox-backup -u proxmox-backup-proxy", restart: "systemctl restart proxmox-backup",
	renew: "proxmox-backup-manager cert update --force", authority: "/etc/proxmox-backup/proxy.pem",
	proxy:      "if the host needs a proxy, set all_proxy in the environment of the service proxmox-backup (systemctl edit)",
	enableUser: "proxmox-backup-manager user update <user> --enable 1", prolongUser: "proxmox-backup-manager user update <user> --expire 0",
	addUser: "proxmox-backup-manager user create <user>", listUsers: "proxmox-backup-manager user list",
	listTokens:  "proxmox-backup-manager user list-tokens <user>",
	makeToken:   "proxmox-backup-manager user generate-token <user> <id>",
	tokenRights: "proxmox-backup-manager user permissions <token>", userRights: "proxmox-backup-manager user permissions <user>",
	grantToken: "proxmox-backup-manager acl update <path> <role> --auth-id <token>",
	grantUser:  "proxmox-backup-manager acl update <path> <role> --auth-id <user>",
	listRealms: "proxmox-backup-manager openid list", auditor: "Audit",
}

// managerCommands: the command line of Datacenter Manager knows neither tokens nor realms.
var managerCommands = commands{
	enter:  "proxmox-datacenter-manager-client login --host localhost --user root@pam",
	strong: "# Datacenter Manager takes no smaller grant: whoever holds this token can give itself everything.",
	host:   "the host", hosts: "the host", blocked: "a thread of its privileged daemon, until that is restarted,", reason: "may show more",
	status:  "systemctl status proxmox-datacenter-api proxmox-datacenter-privileged-api",
	journal: "journalctl -u proxmox-datacenter-privileged-api -u proxmox-datacenter-api",
	restart: "systemctl restart proxmox-datacenter-privileged-api", authority: "/etc/proxmox-datacenter-manager/auth/api.pem",
	proxy:       "if the host needs a proxy, set all_proxy in the environment of the service proxmox-datacenter-privileged-api (systemctl edit)",
	enableUser:  "proxmox-datacenter-manager-client user update <user> --enable 1",
	prolongUser: "proxmox-datacenter-manager-client user update <user> --expire 0",
	addUser:     "proxmox-datacenter-manager-client user create <user>", listUsers: "proxmox-datacenter-manager-client user list",
	grantToken: "proxmox-datacenter-manager-client acl update <path> <role> --auth-id <token>",
	grantUser:  "proxmox-datacenter-manager-client acl update <path> <role> --auth-id <user>",
	auditor:    "Auditor",
}

// fill replaces the names in angle brackets. They come in pairs of name and word.
func fill(command string, pairs ...string) string {
	words := make([]string, len(pairs))
	for i, word := range pairs {
		if words[i] = Quote(word); i%2 == 0 {
			words[i] = "<" + word + ">"
		}
	}
	return strings.NewReplacer(words...).Replace(command)
}

// on returns a hint to run commands on a host of the product, with a note if there is one. It returns "" without a command.
func (k commands) on(note string, lines ...string) check.Hint {
	hint := "run on " + k.host
	if note != "" {
		hint += " (" + note + ")"
	}
	hint += ":"
	some := false
	for _, line := range lines {
		if line != "" {
			hint, some = hint+"\n"+check.Command+line, true
		}
	}
	if !some {
		return ""
	}
	return check.Hint(hint)
}

// Host words what an administrator does on a host of a product, for hints of other packages.
type Host struct {
	commands  commands
	clustered bool
}

// HostOf returns the words for a product.
func HostOf(p realm.Product) Host {
	d := dialectOf(p)
	return Host{d.commands, d.clustered}
}

// Clustered tells whether the product has nodes.
func (h Host) Clustered() bool { return h.clustered }

// Proxy says how the product reaches issuers through a proxy.
func (h Host) Proxy() check.Hint { return check.Hint(h.commands.proxy) }

// Run is a hint to run a command on a host of the product, with a note that may be "".
func (h Host) Run(note, command string) check.Hint { return h.commands.on(note, command) }

// Journal is the hint to read the log of the product's services.
func (h Host) Journal(note string) check.Hint { return h.commands.on(note, h.commands.journal) }

// AddUser is the hint to create a user; name is user@realm.
func (h Host) AddUser(name, note string) check.Hint {
	return h.commands.on(note, fill(h.commands.addUser, "user", name))
}

// EnableUser is the hint to enable a user; name is user@realm.
func (h Host) EnableUser(name, note string) check.Hint {
	return h.commands.on(note, fill(h.commands.enableUser, "user", name))
}

// ProlongUser is the hint to let a user expire never.
func (h Host) ProlongUser(name, note string) check.Hint {
	return h.commands.on(note, fill(h.commands.prolongUser, "user", name))
}

// GrantUser is the hint to let a user see everything.
func (h Host) GrantUser(name, note string) check.Hint {
	return h.commands.on(note, fill(h.commands.grantUser, "path", "/", "user", name, "role", h.commands.auditor))
}

// GrantGroup is the hint to let a group of the product see everything; "" if the product has no groups.
func (h Host) GrantGroup(name, note string) check.Hint {
	return h.commands.on(note, fill(h.commands.grantGroup, "path", "/", "group", name, "role", h.commands.auditor))
}

// Roles is the hint to list the roles; "" if the product has only its own.
func (h Host) Roles(note string) check.Hint { return h.commands.on(note, h.commands.listRoles) }

// Realms is the hint to list the realms.
func (h Host) Realms(note string) check.Hint { return h.commands.on(note, h.commands.listRealms) }

// granting returns the commands that give an identity (user@realm!id or user@realm) a role, after those that make the role. A
// token may do what both it and its user may, so both get the role.
func (d *dialect) granting(who string, needs ...Need) (creations, grants []string) {
	user, _, isToken := strings.Cut(who, "!")
	for _, need := range needs {
		if len(need.Privileges) > 0 && d.commands.addRole != "" {
			create := fill(d.commands.addRole, "role", need.Role, "privileges", strings.Join(need.Privileges, ","))
			if !slices.Contains(creations, create) {
				creations = append(creations, create)
			}
		}
		words := []string{"path", need.Path, "role", need.Role, "token", who, "user", user}
		grants = append(grants, fill(d.commands.grantUser, words...))
		if isToken {
			grants = append(grants, fill(d.commands.grantToken, words...))
		}
	}
	return creations, grants
}

// grant is the hint that gives an identity a privilege on a path.
func (d *dialect) grant(who, path, privilege string) check.Hint {
	creations, grants := d.granting(who, d.need(privilege, path))
	return d.commands.on(d.late(), append(creations, grants...)...)
}

// late is the note that a grant does not count at once.
func (d *dialect) late() string {
	if d.grantDelay == 0 {
		return ""
	}
	return "it counts after " + d.grantDelay.String()
}
