package realm

import (
	"strings"

	"proxmox-realm/internal/check"
)

// Host is what an administrator does on a host of a product. A command is "" if the product has none.
type Host struct {
	// How texts call it. Place is "a node" or "the host", where a command runs. Noun is "node" or "host". All is "the nodes" or "the
	// host", which have a system log.
	Place, Noun, All string
	Clustered        bool // a login may reach another node than the one where it began

	Blocked string // what an issuer that does not answer blocks
	Reason  string // what the journal tells of a failed login
	Strong  string // a comment on a token that cannot be made weaker; "" if it can
	Enter   string // the command that comes first in a session; "" if none is needed

	Certificate string     // prints the SHA-256 fingerprint of the certificate
	Status      string     // shows the state of the services
	Journal     string     // prints the log of the services
	Restart     string     // restarts the service that sends requests to issuers
	Renew       string     // makes a new self-signed certificate
	Authority   string     // the file with the certificate to trust
	Proxy       check.Hint // how the product reaches issuers through a proxy
	Allow       check.Hint // what refuses connections before TLS begins

	AddUser, ListTokens              Command
	EnableUser, ProlongUser          Command // a prolonged user never expires
	MakeToken                        Command // prints the secret as the JSON member `value`
	TokenRights, UserRights          Command // show the privileges of a token and of a user
	AddRole                          Command // "" if the product has no roles of one's own
	GrantToken, GrantUser            Command
	AddGroup, GrantGroup             Command
	ListUsers, ListRoles, ListRealms string
	Auditor                          string // a role that may see everything
}

// Command is a command line. [Command.With] fills in the names in angle brackets.
type Command string

// With replaces the names in angle brackets by words of a shell. They come in pairs of name and word.
func (c Command) With(pairs ...string) string {
	words := make([]string, len(pairs))
	for i, word := range pairs {
		if words[i] = check.Quote(word); i%2 == 0 {
			words[i] = "<" + word + ">"
		}
	}
	return strings.NewReplacer(words...).Replace(string(c))
}

// Run is a hint to run commands on a host of the product, with a note that may be "". Without a command it is "".
func (h Host) Run(note string, lines ...string) check.Hint {
	hint := "run on " + h.Place
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

var nodeOfVE = Host{
	Place: "a node", Noun: "node", All: "the nodes", Clustered: true,
	Blocked: "one of the node's workers", Reason: "only this log holds the reason", Certificate: "pvenode cert info",
	Status: "systemctl status pveproxy pvedaemon", Journal: "journalctl -u pvedaemon -u pveproxy",
	Restart: "systemctl restart pvedaemon", Renew: "pvecm updatecerts --force",
	Authority: "/etc/pve/pve-root-ca.pem", Proxy: "if the node needs a proxy, correct http_proxy in /etc/pve/datacenter.cfg",
	Allow:      "check ALLOW_FROM and DENY_FROM in /etc/default/pveproxy on the node",
	EnableUser: "pveum user modify <user> --enable 1", ProlongUser: "pveum user modify <user> --expire 0",
	AddUser: "pveum user add <user>", ListUsers: "pveum user list", ListTokens: "pveum user token list <user>",
	TokenRights: "pveum user token permissions <user> <id>", UserRights: "pveum user permissions <user>",
	MakeToken:  "pveum user token add <user> <id> --privsep 1 --output-format json",
	AddRole:    "pveum role add <role> --privs <privileges>",
	GrantToken: "pveum acl modify <path> --tokens <token> --roles <role>",
	GrantUser:  "pveum acl modify <path> --users <user> --roles <role>",
	AddGroup:   "pveum group add <group>", GrantGroup: "pveum acl modify <path> --groups <group> --roles <role>",
	ListRoles: "pveum role list", ListRealms: "pveum realm list", Auditor: "PVEAuditor",
}

var hostOfBackupServer = Host{
	Place: "the host", Noun: "host", All: "the host",
	Blocked: "a thread of its privileged daemon, until that is restarted,", Reason: "may show more", Certificate: "proxmox-backup-manager cert info",
	Status:  "systemctl status proxmox-backup-proxy proxmox-backup",
	Journal: "journalctl -u proxmox-backup -u proxmox-backup-proxy", Restart: "systemctl restart proxmox-backup",
	Renew: "proxmox-backup-manager cert update --force", Authority: "/etc/proxmox-backup/proxy.pem",
	Proxy:      "if the host needs a proxy, set all_proxy in the environment of the service proxmox-backup (systemctl edit)",
	EnableUser: "proxmox-backup-manager user update <user> --enable 1", ProlongUser: "proxmox-backup-manager user update <user> --expire 0",
	AddUser: "proxmox-backup-manager user create <user>", ListUsers: "proxmox-backup-manager user list",
	ListTokens:  "proxmox-backup-manager user list-tokens <user>",
	MakeToken:   "proxmox-backup-manager user generate-token <user> <id>",
	TokenRights: "proxmox-backup-manager user permissions <token>", UserRights: "proxmox-backup-manager user permissions <user>",
	GrantToken: "proxmox-backup-manager acl update <path> <role> --auth-id <token>",
	GrantUser:  "proxmox-backup-manager acl update <path> <role> --auth-id <user>",
	ListRealms: "proxmox-backup-manager openid list", Auditor: "Audit",
}

// hostOfManager: the command line of Datacenter Manager knows neither tokens nor realms.
var hostOfManager = Host{
	Enter:  "proxmox-datacenter-manager-client login --host localhost --user root@pam",
	Strong: "# Datacenter Manager takes no smaller grant: whoever holds this token can give itself everything.",
	Place:  "the host", Noun: "host", All: "the host",
	Blocked: "a thread of its privileged daemon, until that is restarted,", Reason: "may show more",
	Certificate: "openssl x509 -noout -fingerprint -sha256 -in /etc/proxmox-datacenter-manager/auth/api.pem",
	Status:      "systemctl status proxmox-datacenter-api proxmox-datacenter-privileged-api",
	Journal:     "journalctl -u proxmox-datacenter-privileged-api -u proxmox-datacenter-api",
	Restart:     "systemctl restart proxmox-datacenter-privileged-api", Authority: "/etc/proxmox-datacenter-manager/auth/api.pem",
	Proxy:       "if the host needs a proxy, set all_proxy in the environment of the service proxmox-datacenter-privileged-api (systemctl edit)",
	EnableUser:  "proxmox-datacenter-manager-client user update <user> --enable 1",
	ProlongUser: "proxmox-datacenter-manager-client user update <user> --expire 0",
	AddUser:     "proxmox-datacenter-manager-client user create <user>", ListUsers: "proxmox-datacenter-manager-client user list",
	GrantToken: "proxmox-datacenter-manager-client acl update <path> <role> --auth-id <token>",
	GrantUser:  "proxmox-datacenter-manager-client acl update <path> <role> --auth-id <user>",
	Auditor:    "Auditor",
}
