package report_test

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

const endpoint = "https://pve1.example.com:8006"

// clientKey is what no rendering may show.
const clientKey = "correct-horse-battery-staple"

// scenario is a run as a command may leave it.
type scenario struct {
	name string
	run  fleet.Run
}

func scenarios() []scenario {
	stored := realm.Current{Exists: true, Type: realm.Type, Digest: "d", Values: realm.Values{
		realm.IssuerURL: realm.Text("https://auth.example.com"), realm.ClientID: realm.Text("proxmox"),
		realm.ClientKey: realm.Key(check.NewSecret("old-" + clientKey)), realm.UsernameClaim: realm.Text("sub"),
		realm.Scopes: realm.Text("email profile"), realm.Comment: realm.Text("Single\nsign-on"),
	}}
	want := realm.Spec{Name: "authelia", Unset: []realm.Property{realm.Comment}, Set: realm.Values{
		realm.IssuerURL: realm.Text("https://auth.example.com"), realm.ClientID: realm.Text("proxmox"),
		realm.ClientKey: realm.Key(check.NewSecret(clientKey)), realm.Autocreate: realm.Bool(true),
		realm.Scopes: realm.Words(realm.Scopes, "openid", "profile", "email", "groups"),
	}}
	update := realm.Diff(want, stored, realm.Facts{})
	create := realm.Diff(want, realm.Current{}, realm.Facts{})
	rebind := want
	rebind.Set = realm.Values{realm.UsernameClaim: realm.Text("preferred_username")}
	rebind.Unset = nil
	refuse := realm.Diff(rebind, stored, realm.Facts{Users: realm.Users{Asked: true, Visible: true, Count: 3}})
	replace := realm.Diff(rebind, stored, realm.Facts{AllowReplace: true})

	held := fmt.Errorf("authelia: %w", check.Errorf(check.Held, "the change is held: the issuer refuses the client key").
		Try(check.Hint("put the digest of the key into the issuer's configuration and restart it, then run apply --wait 10m")))
	denied := fmt.Errorf("read realm: %w", check.Errorf(check.PermissionDenied, "permission check failed (/access/realm, Realm.Allocate|Sys.Audit)").
		Try(check.Hint("run pveum acl modify /access/realm --tokens 'realm@pve!agent' --roles RealmAdmin")))

	return []scenario{
		{"apply-unchanged", single("apply", reconcile.Unchanged, realm.Plan{Action: realm.None}, nil, good())},
		{"apply-created", single("apply", reconcile.Changed, create, nil, good())},
		{"apply-updated", single("apply", reconcile.Changed, update, nil, good())},
		{"apply-replaced", single("apply", reconcile.Changed, replace, nil, good())},
		{"apply-unverified", single("apply", reconcile.Unverified, realm.Plan{Action: realm.None}, nil, bad())},
		{"apply-updated-unverified", single("apply", reconcile.Unverified, update, nil, bad())},
		{"apply-held", single("apply", reconcile.Held, update, held, bad())},
		{"apply-refused", single("apply", reconcile.Refused, refuse, refuse.Refusal, good())},
		{"apply-failed", single("apply", reconcile.Failed, realm.Plan{}, denied, nil)},
		{"apply-half", stopped(reconcile.Written, 1, granted(single("apply", reconcile.Failed, update, denied, nil)))},
		{"apply-lost", stopped(reconcile.Sent, 0, granted(single("apply", reconcile.Failed, update, denied, nil)))},
		{"plan-unchanged", single("plan", reconcile.Unchanged, realm.Plan{Action: realm.None}, nil, good())},
		{"plan-create", single("plan", reconcile.Drift, create, nil, good())},
		{"plan-access", granted(single("plan", reconcile.Drift, update, nil, good()))},
		{"apply-access", granted(single("apply", reconcile.Changed, realm.Plan{Action: realm.None}, nil, good()))},
		{"plan-update", let(single("plan", reconcile.Drift, update, nil, good()))},
		{"plan-replace", let(single("plan", reconcile.Drift, replace, nil, good()))},
		{"plan-held", single("plan", reconcile.Held, update, held, bad())},
		{"plan-refused", single("plan", reconcile.Refused, refuse, refuse.Refusal, good())},
		{"verify-good", single("verify", reconcile.Unchanged, realm.Plan{}, nil, good())},
		{"verify-bad", single("verify", reconcile.Unverified, realm.Plan{}, nil, bad())},
		{"verify-failed", single("verify", reconcile.Failed, realm.Plan{}, denied, good()[:3])},
		{"probe-good", probe(reconcile.Unchanged, good()[:4])},
		{"probe-bad", probe(reconcile.Unverified, bad()[:4])},
		{"delete-done", saved(single("delete", reconcile.Changed, realm.Plan{Action: realm.Delete}, nil, nil))},
		{"delete-absent", single("delete", reconcile.Unchanged, realm.Plan{Action: realm.None}, nil, nil)},
		{"delete-failed", single("delete", reconcile.Failed, realm.Plan{Action: realm.Delete}, denied, nil)},
		{"config-error", fleet.Run{Command: "apply", Outcome: reconcile.Failed, Err: errors.Join(
			check.Errorf(check.Config, "config.yaml:3: unknown key proxmox.endpiont").Try(check.Hint("did you mean proxmox.endpoint")),
			check.Errorf(check.Config, "required").At("realm.client_id").Try("set {realm.client_id} (as the issuer calls the client)"),
		)}},
		{"diagnose-nothing", diagnosed(reconcile.Unchanged, reconcile.Diagnosis{Succeeded: 3, Groupless: 1}, good())},
		{"diagnose-failed", diagnosed(reconcile.Unverified, reconcile.Diagnosis{Failed: 14, Succeeded: 1, Logins: logins()}, bad())},
		{"diagnose-unread", single("diagnose", reconcile.Failed, realm.Plan{}, denied, bad())},
		{"fleet-mixed", many(
			target("berlin", reconcile.Unchanged, realm.Plan{Action: realm.None}, nil, good()),
			target("paris", reconcile.Changed, update, nil, good()),
			target("rome", reconcile.Failed, realm.Plan{}, denied, nil),
			target("vienna", reconcile.Unchanged, realm.Plan{Action: realm.None}, nil, good()),
			target("zurich", reconcile.Held, update, held, bad()),
		)},
		{"fleet-1000", many(thousand()...)},
	}
}

func good() []check.Check {
	return []check.Check{
		check.Passed(check.IssuerURL, "https://auth.example.com is a usable issuer URL"),
		check.Passed(check.IssuerReach, "auth.example.com answers at 192.0.2.10:443").Because("TLS 1.3").Took(12 * time.Millisecond),
		check.Passed(check.IssuerIdentity, "the issuer calls itself as configured").Took(5 * time.Millisecond),
		check.Passed(check.IssuerKeys, "1 signing key that Proxmox verifies").Because("RS256 main"),
		check.Passed(check.ProxmoxRealm, "realm authelia is as declared"),
		check.Skipped(check.ProxmoxUsers, "users are not visible with these credentials"),
	}
}

func bad() []check.Check {
	return []check.Check{
		check.Passed(check.IssuerURL, "https://auth.example.com is a usable issuer URL"),
		check.Warned(check.IssuerCertificate, "renew the certificate of auth.example.com", "the certificate expires in 9 days").
			Because("CN=auth.example.com, not after 2026-12-02 10:00 UTC, issued by Example Intermediate CA R7 of Example Trust Services"),
		check.Failed(check.IssuerIdentity, "set realm.issuer_url to https://auth.example.com/", "the discovery document names another issuer than the one that is configured").
			Because("issuer is https://auth.example.com/ and realm.issuer_url is https://auth.example.com").Took(7 * time.Millisecond),
		check.Skipped(check.ClientCredentials, "not asked, because issuer.identity fails"),
		check.Failed(check.ClientRedirect, "add https://pve1.example.com:8006 to the client's redirect_uris in the issuer",
			"the issuer refuses https://pve1.example.com:8006").Because("„redirect_uri“ not registered 日本 😀"),
	}
}

func target(name string, o reconcile.Outcome, plan realm.Plan, err error, checks []check.Check) reconcile.Result {
	t := reconcile.Result{Name: name, Product: "pve", Endpoint: "https://" + name + ".example.com:8006", Realm: "authelia", Requests: 2}
	t.Outcome, t.Action, t.Changes, t.Checks, t.Err = o, plan.Action, plan.Changes, checks, err
	t.Duration = 48 * time.Millisecond
	if o == reconcile.Changed || o == reconcile.Unverified && len(plan.Changes) > 0 {
		t.Stage = reconcile.Written
	}
	return t
}

// let is the run with the gate's consent.
func let(run fleet.Run) fleet.Run {
	run.Targets[0].Checks = append(slices.Clone(run.Targets[0].Checks), check.Passed(check.ClientCredentials, "the issuer accepts the client"))
	return run
}

// granted is the run with changes of access.
func granted(run fleet.Run) fleet.Run {
	run.Targets[0].Access = []realm.AccessChange{
		{Kind: realm.AccessGroup, Op: realm.Set, Group: "admins-authelia"},
		{Kind: realm.AccessGrant, Op: realm.Set, Group: "admins-authelia", Grant: realm.Grant{Path: "/", Role: "PVEAdmin", Propagate: true}},
		{Kind: realm.AccessGrant, Op: realm.Set, Group: "admins-authelia", Grant: realm.Grant{Path: "/vms", Role: "PVEVMAdmin"}, Flips: true},
		{Kind: realm.AccessGrant, Op: realm.Unset, Group: "admins-authelia", Grant: realm.Grant{Path: "/pool/dev", Role: "PVEVMUser"}},
	}
	return run
}

// stopped is the run that came so far with its writes, and made the first changes of access.
func stopped(at reconcile.Stage, made int, run fleet.Run) fleet.Run {
	run.Targets[0].Stage, run.Targets[0].Made = at, run.Targets[0].Access[:made]
	return run
}

// saved is the run with the file where the deleted realm was kept.
func saved(run fleet.Run) fleet.Run {
	run.Targets[0].Saved = "/var/lib/proxmox-realm/deleted.json"
	return run
}

func single(command string, o reconcile.Outcome, plan realm.Plan, err error, checks []check.Check) fleet.Run {
	t := target("default", o, plan, err, checks)
	t.Endpoint = endpoint
	if o == reconcile.Failed {
		t.Warnings = []string{"the token file is readable by everyone: run chmod 600 /etc/proxmox-realm/token"}
	}
	return fleet.Run{Command: command, Outcome: o, Targets: []reconcile.Result{t}, Duration: 51 * time.Millisecond}
}

func diagnosed(o reconcile.Outcome, d reconcile.Diagnosis, checks []check.Check) fleet.Run {
	run := single("diagnose", o, realm.Plan{}, nil, checks)
	d.Since, d.Nodes = time.Date(2026, 11, 30, 9, 12, 0, 0, time.UTC), []string{"pve", "pve2"}
	run.Targets[0].Diagnosis = &d
	return run
}

// logins are of two nodes in the zone of Adelaide, whose offset has half an hour.
func logins() []diagnose.Entry {
	zone := time.FixedZone("ACDT", 37800)
	at := func(minute int) time.Time { return time.Date(2026, 12, 1, 5, minute, 0, 0, zone) }
	differs := diagnose.Entry{
		Login: diagnose.Login{
			Time: at(40), Node: "pve2", Address: "192.0.2.7", Outcome: diagnose.Failed, Cause: diagnose.IssuerDiffers,
			Text:    "Validation error: unexpected issuer URI `https://auth.example.com/` (expected `https://auth.example.com`)",
			Summary: "the issuer's own name is https://auth.example.com/", Hint: "set {realm.issuer_url} to https://auth.example.com/",
		},
		Count: 12, Since: at(2).AddDate(0, 0, -1), Addresses: []string{"192.0.2.7", "192.0.2.8", "2001:db8::1"},
	}
	there := differs
	there.Node, there.Time, there.Since, there.Count, there.Addresses = "pve", at(30), at(30), 1, []string{"192.0.2.9"}
	disabled := diagnose.Entry{
		Login: diagnose.Login{
			Time: at(35), Node: "pve", Address: "192.0.2.9", User: "jane@authelia", Realm: "authelia", Outcome: diagnose.Failed,
			Cause: diagnose.UserDisabled, Text: "user 'jane@authelia' is disabled", Summary: "the user jane@authelia is disabled",
			Hint: "run on a node (if this user may log in):\n    pveum user modify jane@authelia --enable 1",
		},
		Count: 1, Since: at(35), Addresses: []string{"192.0.2.9"}, Works: at(50),
	}
	succeeded := diagnose.Entry{
		Login: diagnose.Login{
			Time: at(50), Node: "pve", User: "jane@authelia", Realm: "authelia", Outcome: diagnose.Succeeded, Cause: diagnose.GroupsRefused,
			Summary: "Proxmox refuses names of groups that the issuer sent: /ops", Hint: "let the issuer send other names",
			Groups: []string{"dev-authelia"}, Refused: []string{"/ops"}, Unshown: 1,
		},
		Count: 1, Since: at(50),
	}
	return []diagnose.Entry{differs, disabled, there, succeeded}
}

func probe(o reconcile.Outcome, checks []check.Check) fleet.Run {
	t := reconcile.Result{Name: "https://auth.example.com"}
	t.Outcome, t.Checks = o, checks
	return fleet.Run{Command: "probe", Outcome: o, Targets: []reconcile.Result{t}}
}

func many(targets ...reconcile.Result) fleet.Run {
	run := fleet.Run{Command: "apply", Outcome: reconcile.Failed, Targets: targets, Duration: 1234 * time.Millisecond}
	return run
}

// thousand are targets that share an issuer whose certificate is about to expire; some are down.
func thousand() []reconcile.Result {
	var out []reconcile.Result
	for i := range 1000 {
		name := fmt.Sprintf("site%04d", i)
		t := target(name, reconcile.Unchanged, realm.Plan{Action: realm.None}, nil, append(good(), bad()[1]))
		if i%10 == 5 {
			t = target(name, reconcile.Failed, realm.Plan{}, check.Errorf(check.Unreachable, "connect to %s: no such host %s.example.com", t.Endpoint, name).
				Try(check.Hint("check the name server")), nil)
		}
		if i == 700 {
			t = target(name, reconcile.Failed, realm.Plan{}, check.Errorf(check.Unreachable, "connect to %s: connection refused", t.Endpoint).
				Try(check.Hint("is pveproxy running there")), nil)
		}
		out = append(out, t)
	}
	return out
}
