//go:build acceptance

package acceptance

import (
	"os"
	"strings"
	"testing"
)

// On a right set-up every check passes, or is skipped for want of privilege, and nothing warns.
func TestVerifyOnARightSetUp(t *testing.T) {
	w := begin(t)
	config := w.config(setting{verify: object{"client": true, "proxmox": true}})
	w.run(0, config, "apply")
	o := w.run(0, config, "verify")
	seen := map[string]string{}
	for _, c := range o.report.Targets[0].Checks {
		seen[c.ID] = c.Status
		if c.Status == "fail" || c.Status == "warn" {
			t.Errorf("%s: %s: %s (%s)", c.ID, c.Status, c.Summary, c.Evidence)
		}
	}
	for _, id := range []string{
		"issuer.url", "issuer.reach", "issuer.certificate", "issuer.discovery", "issuer.identity", "issuer.endpoints", "issuer.keys",
		"issuer.capabilities", "issuer.scopes", "issuer.claims", "issuer.clock", "client.credentials", "client.redirect",
		"proxmox.permissions", "proxmox.realm", "proxmox.discovery",
	} {
		if seen[id] != "pass" {
			t.Errorf("%s: %q, not pass", id, seen[id])
		}
	}
	if _, there := seen["proxmox.users"]; !there {
		t.Error("proxmox.users is missing")
	}
}

func TestVerifyFindsAnAbsentRealm(t *testing.T) {
	w := begin(t)
	o := w.run(11, w.config(setting{}), "verify")
	if status := w.status(o, "proxmox.realm"); status != "fail" {
		t.Errorf("proxmox.realm: %s", status)
	}
	if o.report.Outcome != "unverified" {
		t.Errorf("the outcome is %s", o.report.Outcome)
	}
}

func (w *world) status(o outcome, id string) string {
	for _, c := range o.report.Targets[0].Checks {
		if c.ID == id {
			return c.Status
		}
	}
	return "absent"
}

func TestTheGateHoldsAWrongIssuerBack(t *testing.T) {
	w := begin(t)
	w.run(0, w.config(setting{}), "apply")
	before := w.digest(w.realm)
	wrong := w.config(setting{realm: object{"issuer_url": env(t, "LAB_ISSUER") + "/"}})
	o := w.run(13, wrong, "apply")
	target := o.report.Targets[0]
	if target.Outcome != "held" || target.Error == nil || target.Error.Code != "held" {
		t.Errorf("%s, %+v", target.Outcome, target.Error)
	}
	if w.digest(w.realm) != before {
		t.Error("something was written")
	}
	w.run(13, wrong, "plan")
	w.run(11, wrong, "apply", "--no-gate") // written, and found wrong
	w.holds(w.realm, object{"issuer-url": env(t, "LAB_ISSUER") + "/"})
}

func TestTheGateHoldsAWrongKeyBack(t *testing.T) {
	w := begin(t)
	client := object{"client": true}
	w.run(0, w.config(setting{}), "apply")
	stale := w.config(setting{verify: client, realm: object{"client_key_file": w.secretFile("not-the-key-of-this-client")}})
	o := w.run(13, stale, "apply")
	if target := o.report.Targets[0]; !strings.Contains(target.Error.Message, "accepts the client key that Proxmox holds") {
		t.Errorf("%s", target.Error.Message)
	}
	w.holds(w.realm, object{"client-key": env(t, "LAB_CLIENT_KEY")})
}

// Where somebody else changed the realm, verify says so, and changes nothing.
func TestVerifyFindsDrift(t *testing.T) {
	w := begin(t)
	config := w.config(setting{})
	w.run(0, config, "apply")
	w.change(w.realm, object{"client-key": "somebody-elses-key-77ab", "scopes": "email"})
	before := w.digest(w.realm)
	o := w.run(11, config, "verify")
	if status := w.status(o, "proxmox.realm"); status != "fail" {
		t.Errorf("proxmox.realm: %s", status)
	}
	if w.digest(w.realm) != before {
		t.Error("verify changed something")
	}
	if strings.Contains(o.stdout+o.stderr, "somebody-elses-key-77ab") {
		t.Error("the stored key was printed")
	}
}

func TestAWrongRedirectURLIsFound(t *testing.T) {
	w := begin(t)
	w.run(0, w.config(setting{}), "apply")
	o := w.run(11, w.config(setting{verify: object{"client": true, "redirect_urls": []string{"https://forgotten.example.com:8006"}}}), "verify")
	if status := w.status(o, "client.redirect"); status != "fail" {
		t.Errorf("client.redirect: %s", status)
	}
	for _, c := range o.report.Targets[0].Checks {
		if c.ID == "client.redirect" && !strings.Contains(c.Hint, "https://forgotten.example.com:8006") {
			t.Errorf("the hint does not name the redirect URL: %s", c.Hint)
		}
	}
}

func TestProbe(t *testing.T) {
	w := begin(t)
	args := []string{"probe", env(t, "LAB_ISSUER"), "--client-id", env(t, "LAB_CLIENT_ID"), "--redirect-url", env(t, "LAB_REDIRECT_URL")}
	if ca := os.Getenv("LAB_ISSUER_CA_FILE"); ca != "" {
		args = append(args, "--ca-file", ca)
	}
	if o := w.plainly(0, args...); !strings.Contains(o.stdout, "issuer.identity") {
		t.Errorf("the report is\n%s", o.stdout)
	}
}

func TestWithoutProxmoxTheIssuerIsStillLookedAt(t *testing.T) {
	w := begin(t)
	config := w.config(setting{more: object{"proxmox": object{
		"endpoints": []string{"https://127.0.0.1:9"}, "token_file": w.secretFile(env(t, "LAB_TOKEN_REALM_ALLOCATE")),
	}}})
	o := w.run(69, config, "verify")
	if status := w.status(o, "issuer.identity"); status != "pass" {
		t.Errorf("issuer.identity: %s", status)
	}
	o = w.run(69, config, "apply")
	if target := o.report.Targets[0]; target.Error == nil || target.Error.Code != "unreachable" {
		t.Errorf("%+v", target.Error)
	}
}
