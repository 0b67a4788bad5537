package proxmox

import (
	"encoding/json"
	"strings"
	"time"

	"proxmox-realm/internal/realm"
)

// dialect is what differs between the products on the wire, as far as a value can say it. Two functions say the rest: how an
// error is read, and how a change is written. What their realms have is in the table of package realm.
type dialect struct {
	product realm.Product

	// Credentials: what stands before an API token in the Authorization header, and the cookie that holds a ticket.
	authorization string
	cookie        string

	realms string // the collection of OpenID Connect realms; a realm is below it
	users  string // the users with the groups of each, as far as there are groups

	handlerStatus int // of an error that the handler of a request raised
	decode        func(reason string, body []byte) (said string, fields map[string]string)
	phrases       []phrase // map the texts of errors to kinds
	unknown       string   // begins the text about a parameter that the API does not know

	plainRefusal bool // a 401 has a text of its own in its body
	clearsCookie bool // and it clears a cookie

	encode func(fields map[string]any) map[string]any // from the parameters of [realm.Params]
	// guardedDelete: a DELETE removes a realm of any type. It takes the digest of the realm that was read, so it needs one.
	guardedDelete bool

	joinsVersion bool          // the patch of the version is in `release`
	grantDelay   time.Duration // until a new entry of the access control list is seen everywhere

	read, write privileges // to read a realm, and to change it
	audit       string     // the privilege to see what is in the way of a login
	seeUsers    privileges // to see all users
	seeGrants   privileges // to see the whole access control list
	log         Need       // to read the system log
	service     string     // the unit that logs logins
	roles       map[string]Need
}

// privileges are needed on a path.
type privileges struct {
	path string
	any  []string // one of these suffices
	all  []string // beside it, each of these is needed
}

// held tells whether privileges suffice.
func (p privileges) held(own realm.Privileges) bool { return len(p.missing(own)) == 0 }

// missing returns what is missing of the privileges; of alternatives, all.
func (p privileges) missing(own realm.Privileges) []string {
	var missing []string
	if len(p.any) > 0 && !own.Hold(p.path, p.any...) {
		missing = append(missing, strings.Join(p.any, " or "))
	}
	for _, name := range p.all {
		if !own.Hold(p.path, name) {
			missing = append(missing, name)
		}
	}
	return missing
}

// Need is a role on a path that a token needs, with the privileges that an own role of this name must hold.
type Need struct {
	Role       string
	Privileges []string // none: the role is the product's own
	Path       string
}

// Paths that all products share.
const (
	domainsPath     = "/access/domains" // lists the realms of all types, without credentials
	usersPath       = "/access/users"
	groupsPath      = "/access/groups"
	rolesPath       = "/access/roles"
	aclPath         = "/access/acl"
	permissionsPath = "/access/permissions"
)

// dialects is the table, by [realm.Product]. Proxmox VE: libpve-access-control 9.1.1 and libpve-http-server 6.0.5. Backup Server
// 4.2.3 and Datacenter Manager 1.1.7: proxmox-rest-server, proxmox-router, proxmox-access-control.
var dialects = [...]dialect{
	realm.VE: {
		product: realm.VE, authorization: "PVEAPIToken=", cookie: "PVEAuthCookie",
		realms: domainsPath, users: usersPath + "?full=1",
		handlerStatus: 500, decode: decodePerl, phrases: perlPhrases, unknown: "property is not defined in schema",
		encode: func(fields map[string]any) map[string]any { return fields },
		read:   privileges{path: "/access/realm", any: []string{"Realm.Allocate", "Sys.Audit"}},
		write:  privileges{path: "/access/realm", all: []string{"Realm.Allocate"}},
		audit:  "Sys.Audit",
		// GET /access/users asks for privileges on groups (PVE::API2::User).
		seeUsers:  privileges{path: groupsPath, any: []string{"Sys.Audit", "User.Modify"}},
		seeGrants: privileges{path: "/access", all: []string{"Sys.Audit"}},
		service:   "pvedaemon",
		log:       Need{Role: "RealmLogReader", Privileges: []string{"Sys.Audit", "Sys.Syslog"}, Path: "/nodes"},
		// An entry for /access/groups replaces what /access gives there, so the role for groups repeats Sys.Audit.
		roles: map[string]Need{
			"Realm.Allocate": {Role: "RealmAdmin", Privileges: []string{"Realm.Allocate"}},
			"Sys.Audit":      {Role: "RealmAuditor", Privileges: []string{"Sys.Audit"}},
			"Group.Allocate": {Role: "RealmGroupAdmin", Privileges: []string{"Group.Allocate", "Sys.Audit"}},
		},
	},
	realm.BackupServer: {
		product: realm.BackupServer, plainRefusal: true, clearsCookie: true, authorization: "PBSAPIToken=", cookie: "PBSAuthCookie",
		realms: "/config/access/openid", users: usersPath,
		handlerStatus: 400, decode: decodeText, phrases: rustPhrases, unknown: "schema does not allow additional properties",
		encode: encodeStrict, guardedDelete: true, joinsVersion: true, grantDelay: 5 * time.Second,
		read:      privileges{path: domainsPath, all: []string{"Sys.Audit"}},
		write:     privileges{path: domainsPath, all: []string{"Realm.Allocate", "Sys.Audit"}},
		audit:     "Sys.Audit",
		seeUsers:  privileges{path: usersPath, all: []string{"Sys.Audit"}},
		seeGrants: privileges{path: aclPath, all: []string{"Sys.Audit"}},
		service:   "proxmox-backup",
		log:       Need{Role: "Audit", Path: "/system/log"},
		roles:     map[string]Need{"Realm.Allocate": {Role: "Admin"}, "Sys.Audit": {Role: "Audit"}},
	},
	realm.DatacenterManager: {
		product: realm.DatacenterManager, plainRefusal: true, authorization: "PDMAPIToken=", cookie: "__Host-PDMAuthCookie",
		realms: "/config/access/openid", users: usersPath,
		handlerStatus: 400, decode: decodeText, phrases: rustPhrases, unknown: "schema does not allow additional properties",
		encode: encodeStrict, guardedDelete: true, joinsVersion: true, grantDelay: 5 * time.Second,
		read:      privileges{path: domainsPath, all: []string{"System.Audit"}},
		write:     privileges{path: domainsPath, all: []string{"Realm.Allocate", "System.Audit"}},
		audit:     "System.Audit",
		seeUsers:  privileges{path: usersPath, all: []string{"Access.Audit", "System.Audit"}},
		seeGrants: privileges{path: aclPath, all: []string{"Access.Audit", "System.Audit"}},
		service:   "proxmox-datacenter-privileged-api",
		log:       Need{Role: "Auditor", Path: "/system/log"},
		// The API takes no entry for /access/domains, the path that realms are checked on.
		roles: map[string]Need{"Realm.Allocate": {Role: "Administrator", Path: "/access"}, "System.Audit": {Role: "Auditor", Path: "/access"}},
	},
}

func dialectOf(p realm.Product) *dialect {
	if p < 0 || int(p) >= len(dialects) {
		return &dialects[realm.VE]
	}
	return &dialects[p]
}

// need returns the role that holds a privilege on a path, and where the product takes an entry for it.
func (d *dialect) need(privilege, path string) Need {
	need, known := d.roles[privilege]
	if !known {
		need = Need{Role: strings.ReplaceAll(privilege, ".", "") + "Only", Privileges: []string{privilege}}
	}
	if need.Path == "" {
		need.Path = path
	}
	return need
}

// decodePerl reads an error of Proxmox VE. Its message is the reason phrase, of which there is the first line. Newer nodes repeat
// the whole message in the body, which survives reverse proxies that replace the reason phrase.
func decodePerl(reason string, body []byte) (said string, fields map[string]string) {
	var answer struct {
		Message string         `json:"message"`
		Errors  map[string]any `json:"errors"`
	}
	_ = json.Unmarshal(body, &answer) // older nodes send no message, and a 401 has no body
	fields = map[string]string{}
	for name, value := range answer.Errors {
		if text, ok := value.(string); ok && len(fields) < maxFields {
			fields[name] = text
		}
	}
	if strings.TrimSpace(answer.Message) == "" {
		return reason, fields
	}
	return answer.Message, fields
}

// maxFields is the number of parameters of which errors are kept.
const maxFields = 32

// decodeText reads an error of Backup Server or Datacenter Manager: plain text, although it is labelled JSON. What is wrong with
// parameters follows one prefix, on the same line if it is one of them, otherwise each on its own (proxmox-schema,
// ParameterError).
func decodeText(reason string, body []byte) (said string, fields map[string]string) {
	said = strings.TrimSpace(string(body))
	if said == "" {
		return reason, nil
	}
	list, found := strings.CutPrefix(said, "parameter verification failed")
	if !found {
		return said, nil
	}
	fields = map[string]string{}
	for line := range strings.SplitSeq(strings.Replace(list, " - '", "\n- '", 1), "\n") {
		name, text, ok := strings.Cut(strings.TrimPrefix(line, "- '"), "': ")
		if ok && strings.HasPrefix(line, "- '") && len(fields) < maxFields {
			fields[name] = text
		}
	}
	return said, fields
}

// encodeStrict turns the parameters of a write into those that Backup Server and Datacenter Manager take. They have no type, real
// booleans, and a list of the properties to delete.
func encodeStrict(fields map[string]any) map[string]any {
	out := make(map[string]any, len(fields))
	for name, value := range fields {
		d, _ := realm.Property(name).Definition()
		list, isText := value.(string)
		switch {
		case name == "type":
		case name == "delete" && isText:
			out[name] = strings.Split(list, ",")
		case d.Form == realm.FormBool:
			out[name] = realm.Truth(value)
		default:
			out[name] = value
		}
	}
	return out
}
