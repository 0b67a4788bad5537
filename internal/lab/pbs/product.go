package pbs

import (
	"regexp"
	"strconv"
	"strings"
)

// Product is what differs between the two products. All else is the same Rust code in both.
type Product struct {
	// Name is "pbs" or "pdm". It is also the product's own realm.
	Name    string
	prefix  string // of tokens, cookies and tickets
	comment string // of the own realm
	// defaultRealm is the realm that a fresh installation preselects.
	defaultRealm string
	version      string // what a server is whose options name none
	repoID       string
	ping         any
	since        map[string]string // property to the version that brought it

	audit, modify, accessAudit string // privileges: read settings, change users and ACLs, read users and ACLs
	admin, auditor             string // roles
	roles                      map[string][]string
	aclPath                    *regexp.Regexp // paths that ACLs may name
	listed                     []string       // paths that /access/permissions always looks at
	// tokenPath is where the tokens of a fresh state hold their role.
	tokenPath string

	config, run   string // folders
	proxy, daemon string // identifiers in the journal, and units
	daemonUnit    string // where it is another one

	acr, redirect *regexp.Regexp // items of acr-values; redirect-url of auth-url
	cookieOnly    bool           // tickets come as a cookie, whether http-only is asked for or not
	clearsCookie  bool           // a 401 deletes the cookie
	regenerateID  bool           // a regenerated token is answered like a new one
	explains      bool           // the journal has the cause of a failed auth-url
}

var (
	safeID  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._\-]*$`)
	acrItem = regexp.MustCompile(`^[^\x00-\x1F\x7F <>#"]*$`)
	httpURL = regexp.MustCompile(`^https?://[^\s/]+(/.*)?$`)
)

// systemPaths are the ACL paths below /system that both products have.
const systemPaths = "/system(/(certificates|disks|log|notifications|status|tasks|time))?|/system/services(/*)?|/system/network(/dns|/interfaces(/*)?)?"

// aclPaths is an expression for paths. A star stands for one component.
func aclPaths(alternatives ...string) *regexp.Regexp {
	return regexp.MustCompile("^(?:" + strings.ReplaceAll(strings.Join(alternatives, "|"), "/*", "/[^/]+") + ")$")
}

// BackupServer is Proxmox Backup Server 4.2. Recordings hold most of it.
var BackupServer = &Product{
	Name: "pbs", prefix: "PBS", comment: "Proxmox Backup authentication server", defaultRealm: "pam",
	version: "4.2.3", repoID: "506700f6c640eb57efbe7ab088b228e484e57dc9", ping: map[string]any{"pong": true},
	since: map[string]string{"default": "3.3.7", "http-only": "4.0.12", "audiences": "4.2.1"},
	audit: "Sys.Audit", modify: "Permissions.Modify", accessAudit: "Sys.Audit", admin: "Admin", auditor: "Audit",
	roles: map[string][]string{
		"Admin": {
			"Datastore.Allocate", "Datastore.Audit", "Datastore.Backup", "Datastore.Modify", "Datastore.Prune", "Datastore.Read", "Datastore.Verify",
			"Permissions.Modify", "Realm.Allocate", "Remote.Audit", "Remote.DatastoreBackup", "Remote.DatastoreModify", "Remote.DatastorePrune",
			"Remote.Modify", "Remote.Read", "Sys.Audit", "Sys.Console", "Sys.Modify", "Sys.PowerManagement",
			"Tape.Audit", "Tape.Modify", "Tape.Read", "Tape.Write",
		},
		"Audit":              {"Sys.Audit", "Datastore.Audit"},
		"NoAccess":           {},
		"DatastoreAdmin":     {"Datastore.Audit", "Datastore.Modify", "Datastore.Read", "Datastore.Verify", "Datastore.Backup", "Datastore.Prune"},
		"DatastoreReader":    {"Datastore.Audit", "Datastore.Verify", "Datastore.Read"},
		"DatastoreBackup":    {"Datastore.Backup"},
		"DatastorePowerUser": {"Datastore.Prune", "Datastore.Backup"},
		"DatastoreAudit":     {"Datastore.Audit"},
		"RemoteAudit":        {"Remote.Audit"},
		"RemoteAdmin":        {"Remote.Audit", "Remote.Modify", "Remote.Read"},
		"RemoteSyncOperator": {"Remote.Audit", "Remote.Read"},
		"TapeAudit":          {"Tape.Audit"},
		"TapeAdmin":          {"Tape.Audit", "Tape.Modify", "Tape.Read", "Tape.Write"},
		"TapeOperator":       {"Tape.Audit", "Tape.Read", "Tape.Write"},
		"TapeReader":         {"Tape.Audit", "Tape.Read"},
	},
	aclPath: aclPaths("/", "/access(/(acl|users|domains))?", "/access/openid(/*)?", "/datastore(/*){0,8}", "/remote(/*){0,9}",
		systemPaths, "/system/(s3-endpoint|encryption-keys)(/*)?", "/tape", "/tape/(device|pool|job)(/*)?"),
	listed: []string{"/", "/access", "/datastore", "/remote", "/system"}, tokenPath: "/access/domains",
	config: "/etc/proxmox-backup", run: "/run/proxmox-backup", proxy: "proxmox-backup-proxy", daemon: "proxmox-backup-api",
	daemonUnit: "proxmox-backup", acr: acrItem, clearsCookie: true,
}

// DatacenterManager is Proxmox Datacenter Manager 1.1. Tokens, tickets, realms and logins were seen on a real one; the rest
// follows its source.
var DatacenterManager = &Product{
	Name: "pdm", prefix: "PDM", comment: "Proxmox Datacenter Manager authentication server",
	version: "1.1.7", repoID: "e1cd6869", ping: "pong", since: map[string]string{"audiences": "1.0.4"},
	audit: "System.Audit", modify: "Access.Modify", accessAudit: "Access.Audit", admin: "Administrator", auditor: "Auditor",
	roles: map[string][]string{
		"Administrator": {
			"Access.Audit", "Access.Modify", "Realm.Allocate", "Resource.Audit", "Resource.Create", "Resource.Delete", "Resource.Manage",
			"Resource.Migrate", "Resource.Modify", "Sys.Console", "Sys.PowerManagement", "System.Audit", "System.Modify",
		},
		"Auditor":  {"System.Audit", "Resource.Audit", "Access.Audit"},
		"NoAccess": {},
	},
	aclPath: aclPaths("/", "/access(/(acl|users|realm))?", "/resource(/*(/(guest|storage)(/*)?)?)?", "/view(/*)?", systemPaths),
	listed:  []string{"/", "/access", "/resource", "/system"}, tokenPath: "/access",
	config: "/etc/proxmox-datacenter-manager/access", run: "/run/proxmox-datacenter-manager",
	proxy: "proxmox-datacenter-api", daemon: "proxmox-datacenter-privileged-api",
	acr: safeID, redirect: httpURL, cookieOnly: true, regenerateID: true, explains: true,
}

// Products lists both, by name.
var Products = map[string]*Product{BackupServer.Name: BackupServer, DatacenterManager.Name: DatacenterManager}

func (p *Product) cookie() string { return p.prefix + "AuthCookie" }

// unit returns the systemd unit that logs with an identifier.
func (p *Product) unit(identifier string) string {
	if identifier == p.daemon && p.daemonUnit != "" {
		return p.daemonUnit
	}
	return identifier
}

// knows says whether a version of the product has a property.
func (p *Product) knows(version, property string) bool {
	since, limited := p.since[property]
	return !limited || !older(version, since)
}

// older compares versions such as 4.2.3 number by number.
func older(a, b string) bool {
	for a != "" || b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		m, _ := strconv.Atoi(x) // what is no number counts as 0
		n, _ := strconv.Atoi(y)
		if m != n {
			return m < n
		}
	}
	return false
}
