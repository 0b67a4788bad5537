package check_test

import (
	"testing"

	"proxmox-realm/internal/check"
)

func TestRemedyIsWordedForItsReader(t *testing.T) {
	remedy := check.Remedy{
		check.Set("realm.issuer_url", "https://auth.example.com"),
		check.Set("realm.name", "").With("a second realm beside this one"),
		check.Unset("realm.prompt"),
		check.Omit("realm.audiences"),
		check.Run("apply --replace"),
		check.OnNode("pveum realm list"),
		check.SeeLog("the issuer's log"),
		check.Advise("restart %s", "Authelia"),
	}
	want := "set realm.issuer_url to https://auth.example.com, or set realm.name (a second realm beside this one), or add prompt to realm.unset, " +
		"or remove realm.audiences from the configuration, or run proxmox-realm apply --replace, or run on a node: pveum realm list, or read the issuer's log, or restart Authelia"
	if got := remedy.String(); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	flags := check.Wording{
		Key:     func(key string) string { return "--" + key },
		Command: func(line string) string { return "me " + line },
	}
	want = "set --realm.issuer_url to https://auth.example.com, or set --realm.name (a second realm beside this one), or add prompt to --realm.unset, " +
		"or remove --realm.audiences from the configuration, or run me apply --replace, or run on a node: pveum realm list, or read the issuer's log, or restart Authelia"
	if got := remedy.In(flags); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := (check.Remedy{}).String(); got != "" {
		t.Errorf("%q for nothing", got)
	}
}
