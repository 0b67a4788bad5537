package cli

import (
	"slices"
	"testing"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/config"
)

// A flag that is given twice has its last value, except a list other than endpoints, which has all values.
func TestTheLastValueOfAKeyFlagCounts(t *testing.T) {
	cmd := &cobra.Command{}
	(&app{}).configFlags(cmd)
	err := cmd.ParseFlags([]string{
		"--issuer-url", "https://a.example.com", "--endpoint", "pve1", "--autocreate", "--scopes", "openid",
		"--issuer-url", "https://b.example.com", "--endpoint", "pve2", "--autocreate=false", "--scopes", "email",
	})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string][]string{
		"realm.issuer_url": {"https://b.example.com"}, "realm.autocreate": {"false"}, "proxmox.endpoints": {"pve2"}, "realm.scopes": {"openid", "email"},
	} {
		var got []string
		for _, f := range flagValues(cmd) {
			if f.Key == key {
				got = append(got, f.Value)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if values := flagValues(&cobra.Command{}); !slices.Equal(values, []config.FlagValue(nil)) {
		t.Errorf("without flags: %v", values)
	}
}
