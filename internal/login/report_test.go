package login_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/login"
	"proxmox-realm/internal/report"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestReport(t *testing.T) {
	yes, no := true, false
	base := login.Result{
		Target: "default", Endpoint: "https://pve1.example.com:8006", Realm: "authelia", Issuer: "https://auth.example.com",
		RedirectURL: login.RedirectURL, Duration: 21500 * time.Millisecond,
	}
	logged := base
	logged.User = "john@authelia"
	auditor := []string{"Datastore.Audit", "Mapping.Audit", "Pool.Audit", "SDN.Audit", "Sys.Audit", "VM.Audit", "VM.GuestAgent.Audit"}

	rights := logged
	rights.Created, rights.Groups = &no, []string{"admins-authelia", "dev-authelia"}
	rights.Privileges = map[string][]string{
		"/": auditor, "/access": auditor, "/nodes": auditor, "/storage": auditor, "/vms": auditor, "/vms/100": append([]string{"VM.Console"}, auditor...),
	}
	nothing := logged
	nothing.Created, nothing.Groups, nothing.Privileges = &yes, []string{}, map[string][]string{}
	nothing.Hint = check.Hints("run on a node:\n    pveum acl modify / --users john@authelia --roles PVEAuditor")
	hidden := logged
	hidden.User, hidden.Warnings = "jürgen@authelia", []string{"the privileges cannot be read"}
	failed := base
	failed.Checks = []check.Check{check.Failed(check.ClientCredentials, "make them what the issuer holds", "the issuer refuses the client proxmox").Because("401 invalid_client")}
	failed.Err = check.Errorf(check.LoginFailed, "pve1.example.com:8006 refuses the login: authentication failure").Try(check.Hint("look there"))

	for name, r := range map[string]login.Result{"rights": rights, "nothing": nothing, "hidden": hidden, "failed": failed} {
		var text, json bytes.Buffer
		if err := login.Text(&text, r, report.Style{}); err != nil {
			t.Fatal(err)
		}
		if err := login.JSON(&json, r); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".txt", text.Bytes())
		golden(t, name+".json", json.Bytes())
	}
	var quiet bytes.Buffer
	if err := login.Text(&quiet, rights, report.Style{Quiet: true}); err != nil || quiet.Len() > 0 {
		t.Errorf("all is well, and still: %v %s", err, quiet.String())
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
	}
}
