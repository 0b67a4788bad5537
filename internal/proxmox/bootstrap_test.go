package proxmox_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

// administration is a stand-in for the commands of a host. It fails where these fail: what exists is not made again. The words
// of each call are in the file calls.
const administration = `#!/bin/sh
echo "$(basename "$0") $*" >> "$STATE/calls"
once() { [ ! -e "$STATE/$1" ] || { echo "$1 already exists" >&2; exit 255; }; : > "$STATE/$1"; }
case "$*" in
"role add"*) once "role-$3" ;;
"user add"* | "user create"*) once "user-$3" ;;
"user token add"*) once "token-$5"; echo '{"full-tokenid":"x","info":{"privsep":"1"},"value":"11111111-2222-3333-4444-555555555555"}' ;;
"user generate-token"*) once "token-$4"; printf 'Result: {\n  "tokenid": "x",\n  "value": "11111111-2222-3333-4444-555555555555"\n}\n' ;;
"acl "*) ;;
*) echo "unknown: $*" >&2; exit 2 ;;
esac
`

// The lines make a role, a user, a token and grants, leave the token in a file, and can be run again.
func TestBootstrapLines(t *testing.T) {
	for _, tt := range []struct {
		name  string
		b     proxmox.Bootstrap
		token string // what the file holds; "" if there is none
		calls []string
	}{
		{"Proxmox VE", proxmox.Bootstrap{}, "proxmox-realm@pve!agent=11111111-2222-3333-4444-555555555555\n", []string{
			"pveum role add RealmAdmin --privs Realm.Allocate",
			"pveum user add proxmox-realm@pve --comment keeps OpenID Connect realms",
			"pveum user token add proxmox-realm@pve agent --privsep 1 --output-format json",
			"pveum acl modify /access/realm --users proxmox-realm@pve --roles RealmAdmin",
			"pveum acl modify /access/realm --tokens proxmox-realm@pve!agent --roles RealmAdmin",
		}},
		{"reading users", proxmox.Bootstrap{User: "o'neil@pve", TokenID: "xx", Audit: true, Users: true}, "o'neil@pve!xx=11111111-2222-3333-4444-555555555555\n", []string{
			"pveum role add RealmAuditor --privs Sys.Audit",
			"pveum user add o'neil@pve --comment keeps OpenID Connect realms",
			"pveum user token add o'neil@pve xx --privsep 1 --output-format json",
			"pveum acl modify /access/realm --users o'neil@pve --roles RealmAuditor",
			"pveum acl modify /access/realm --tokens o'neil@pve!xx --roles RealmAuditor",
			"pveum acl modify /access --users o'neil@pve --roles RealmAuditor",
			"pveum acl modify /access --tokens o'neil@pve!xx --roles RealmAuditor",
		}},
		{"groups and grants, beyond that", proxmox.Bootstrap{Access: realm.Access{"dev": {{Path: "/pool/dev", Role: "x"}}}}, "", []string{
			"pveum role add RealmAuditor --privs Sys.Audit",
			"pveum role add RealmGroupAdmin --privs Group.Allocate,Sys.Audit",
			"pveum role add PermissionsModifyOnly --privs Permissions.Modify",
			"pveum acl modify /access --users proxmox-realm@pve --roles RealmAuditor",
			"pveum acl modify /access --tokens proxmox-realm@pve!agent --roles RealmAuditor",
			"pveum acl modify /access/groups --users proxmox-realm@pve --roles RealmGroupAdmin",
			"pveum acl modify /access/groups --tokens proxmox-realm@pve!agent --roles RealmGroupAdmin",
			"pveum acl modify /pool/dev --users proxmox-realm@pve --roles PermissionsModifyOnly",
			"pveum acl modify /pool/dev --tokens proxmox-realm@pve!agent --roles PermissionsModifyOnly",
		}},
		{"the log, beyond that", proxmox.Bootstrap{Diagnose: true}, "", []string{
			"pveum role add RealmLogReader --privs Sys.Audit,Sys.Syslog",
			"pveum acl modify /nodes --users proxmox-realm@pve --roles RealmLogReader",
			"pveum acl modify /nodes --tokens proxmox-realm@pve!agent --roles RealmLogReader",
		}},
		{"Backup Server", proxmox.Bootstrap{Product: realm.BackupServer}, "proxmox-realm@pbs!agent:11111111-2222-3333-4444-555555555555\n", []string{
			"proxmox-backup-manager user create proxmox-realm@pbs --comment keeps OpenID Connect realms",
			"proxmox-backup-manager user generate-token proxmox-realm@pbs agent",
			"proxmox-backup-manager acl update /access/domains Admin --auth-id proxmox-realm@pbs",
			"proxmox-backup-manager acl update /access/domains Admin --auth-id proxmox-realm@pbs!agent",
		}},
		{"the log of Backup Server", proxmox.Bootstrap{Product: realm.BackupServer, Diagnose: true}, "", []string{
			"proxmox-backup-manager acl update /system/log Audit --auth-id proxmox-realm@pbs",
			"proxmox-backup-manager acl update /system/log Audit --auth-id proxmox-realm@pbs!agent",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			folder := t.TempDir()
			for _, name := range []string{"pveum", "proxmox-backup-manager"} {
				if err := os.WriteFile(filepath.Join(folder, name), []byte(administration), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			run := func() string {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), "sh", "-e")
				cmd.Stdin, cmd.Dir = strings.NewReader(strings.Join(tt.b.Lines(), "\n")+"\n"), folder
				cmd.Env = append(os.Environ(), "PATH="+folder+":"+os.Getenv("PATH"), "STATE="+folder)
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				return string(out)
			}
			run()
			calls, err := os.ReadFile(filepath.Join(folder, "calls"))
			if err != nil || strings.TrimSpace(string(calls)) != strings.Join(tt.calls, "\n") {
				t.Errorf("%v\n%s\nwant\n%s", err, calls, strings.Join(tt.calls, "\n"))
			}
			out := run()
			file := filepath.Join(folder, proxmox.TokenFile)
			token, err := os.ReadFile(file)
			if tt.token == "" {
				if err == nil {
					t.Errorf("a token was written: %s", token)
				}
				return
			}
			if string(token) != tt.token || !strings.Contains(out, "no new token: if "+tt.b.Token()+" exists") {
				t.Errorf("%s, %v\n%s", token, err, out)
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info, err)
			}
		})
	}
}

// Each product says what its token opens, and Datacenter Manager what its command line cannot do.
func TestBootstrapComments(t *testing.T) {
	for _, tt := range []struct {
		b    proxmox.Bootstrap
		says []string
	}{
		{proxmox.Bootstrap{Access: realm.Access{}}, []string{"# Whoever holds this token can give itself any role on the paths below: it is as good as an administrator's."}},
		{proxmox.Bootstrap{Diagnose: true}, []string{"# This opens the whole system log of the nodes to the token, with the names and addresses of users."}},
		{proxmox.Bootstrap{Product: realm.BackupServer}, []string{"# The grants count after 5s."}},
		{proxmox.Bootstrap{Product: realm.DatacenterManager}, []string{
			"# Datacenter Manager takes no smaller grant: whoever holds this token can give itself everything.",
			"proxmox-datacenter-manager-client login --host localhost --user root@pam",
			"# No command makes a token: in the web interface, under Access Control, add the API token agent of proxmox-realm@pdm.",
			"# Write proxmox-realm@pdm!agent:SECRET, with the secret that is shown there once, to the file of proxmox.token_file.",
			"proxmox-datacenter-manager-client acl update /access Administrator --auth-id proxmox-realm@pdm",
			"proxmox-datacenter-manager-client acl update /access Administrator --auth-id 'proxmox-realm@pdm!agent'",
		}},
	} {
		lines := strings.Join(tt.b.Lines(), "\n") + "\n"
		for _, want := range tt.says {
			if !strings.Contains(lines, want+"\n") {
				t.Errorf("%q is missing in\n%s", want, lines)
			}
		}
	}
	for _, tt := range []struct {
		b     proxmox.Bootstrap
		wrong bool
	}{
		{proxmox.Bootstrap{}, false},
		{proxmox.Bootstrap{User: "keeper@pve", TokenID: "tool"}, false},
		{proxmox.Bootstrap{User: "keeper"}, true},
		{proxmox.Bootstrap{User: "keeper!tool@pve"}, true},
		{proxmox.Bootstrap{User: strings.Repeat("k", 60) + "@pve"}, false},
		{proxmox.Bootstrap{User: strings.Repeat("k", 61) + "@pve"}, true},
		{proxmox.Bootstrap{TokenID: "1"}, true},
		{proxmox.Bootstrap{Product: realm.BackupServer, TokenID: "1"}, false},
		{proxmox.Bootstrap{Product: realm.BackupServer, Access: realm.Access{}}, true}, // it has no groups
	} {
		if err := tt.b.Validate(); (err != nil) != tt.wrong || err != nil && check.CodeOf(err) != check.Usage {
			t.Errorf("%+v: %v", tt.b, err)
		}
	}
}

// Everything that the token needs is granted with one role for each path. What an identity holds already is not granted again, and
// what it inherits is not lost.
func TestGrants(t *testing.T) {
	everything := map[string]bool{"Realm.Allocate": true, "Sys.Audit": true, "Group.Allocate": true, "Permissions.Modify": true, "Sys.Syslog": true}
	on := func(paths ...string) realm.Access {
		access := realm.Access{}
		for _, path := range paths {
			access["admins"] = append(access["admins"], realm.Grant{Path: path, Role: "PVEAdmin", Propagate: true})
		}
		return access
	}
	groups := "RealmAuditor on /access: Sys.Audit; RealmAdmin on /access/realm: Realm.Allocate; RealmGroupAdmin on /access/groups: Group.Allocate Sys.Audit"
	for name, tt := range map[string]struct {
		b    proxmox.Bootstrap
		held realm.Privileges
		want string
	}{
		"the least":            {proxmox.Bootstrap{}, nil, "RealmAdmin on /access/realm: Realm.Allocate"},
		"groups":               {proxmox.Bootstrap{Access: on("/")}, nil, "PermissionsModifyOnly on /: Permissions.Modify; " + groups},
		"a path below another": {proxmox.Bootstrap{Access: on("/", "/pool/dev")}, nil, "PermissionsModifyOnly on /: Permissions.Modify; " + groups},
		"a path of its own": {
			proxmox.Bootstrap{Access: on("/access/groups/x")},
			nil,
			groups + "; PermissionsModifyOnly2 on /access/groups/x: Group.Allocate Permissions.Modify Sys.Audit",
		},
		"two needs of one path": {
			proxmox.Bootstrap{Access: on("/access/realm"), Diagnose: true},
			nil,
			"RealmLogReader on /nodes: Sys.Audit Sys.Syslog; RealmAuditor on /access: Sys.Audit; " +
				"RealmAdmin2 on /access/realm: Permissions.Modify Realm.Allocate Sys.Audit; RealmGroupAdmin on /access/groups: Group.Allocate Sys.Audit",
		},
		"everything is held": {proxmox.Bootstrap{Access: on("/", "/vms"), Diagnose: true}, realm.Privileges{"/": everything}, ""},
		"something is inherited": {
			proxmox.Bootstrap{}, realm.Privileges{"/": {"VM.Audit": true, "VM.Console": false}}, "RealmAdmin2 on /access/realm: Realm.Allocate VM.Audit",
		},
		"something is held there": {
			proxmox.Bootstrap{}, realm.Privileges{"/": {"VM.Audit": true}, "/access/realm": {"Sys.Audit": true}}, "RealmAdmin2 on /access/realm: Realm.Allocate Sys.Audit",
		},
	} {
		var got []string
		held := maps.Clone(tt.held)
		if held == nil {
			held = realm.Privileges{}
		}
		for _, need := range proxmox.NameRoles(tt.b.Grants(tt.held), nil) {
			got = append(got, need.Role+" on "+need.Path+": "+strings.Join(need.Privileges, " "))
			held[need.Path] = map[string]bool{}
			for _, name := range need.Privileges {
				held[need.Path][name] = true
			}
		}
		if strings.Join(got, "; ") != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(got, "; "), tt.want)
		}
		if lacks := tt.b.Lacks(held); len(lacks) > 0 || (len(tt.b.Lacks(tt.held)) > 0) != (tt.want != "") {
			t.Errorf("%s: lacks %v then, and %v before", name, lacks, tt.b.Lacks(tt.held))
		}
	}
}

// Roles of others keep their names, and roles that hold the same share one.
func TestNamesOfRoles(t *testing.T) {
	needs := proxmox.NameRoles([]proxmox.Need{
		{Role: "A", Privileges: []string{"x"}, Path: "/1"},
		{Role: "A", Privileges: []string{"x"}, Path: "/2"},
		{Role: "A", Privileges: []string{"y"}, Path: "/3"},
		{Role: "B", Privileges: []string{"y", "x"}, Path: "/4"},
		{Role: "C2", Privileges: []string{"x"}, Path: "/5"},
	}, realm.Roles{"A2": {"z"}, "B": {"x", "y"}, "C2": {"z"}})
	var got []string
	for _, need := range needs {
		got = append(got, need.Role)
	}
	if want := "A A A3 B C3"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}
