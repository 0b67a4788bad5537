package realm_test

import (
	"testing"

	"proxmox-realm/internal/realm"
)

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]realm.Version{
		"9.2.11": {Major: 9, Minor: 2}, "9.2": {Major: 9, Minor: 2}, "8.4-1": {Major: 8, Minor: 4}, "8.4.1": {Major: 8, Minor: 4},
		"7.4-3": {Major: 7, Minor: 4}, "7.4-18": {Major: 7, Minor: 4}, "9.0.0~11": {Major: 9}, "10.1+deb": {Major: 10, Minor: 1},
	} {
		got, err := realm.ParseVersion(text)
		if err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "9", "9.", ".2", "x.y", "9.x", "x.2", "-1.2x", "0.9", "99999999.1", "9 .2", "v9.2"} {
		if got, err := realm.ParseVersion(text); err == nil || !got.IsZero() {
			t.Errorf("%q is taken for version %v", text, got)
		}
	}
}

func TestVersionOrderAndText(t *testing.T) {
	ascending := []realm.Version{{}, {Major: 7}, {Major: 7, Minor: 4}, {Major: 8, Minor: 1}, {Major: 8, Minor: 4}, {Major: 9}, {Major: 9, Minor: 10}}
	for i, a := range ascending {
		for j, b := range ascending {
			if a.Less(b) != (i < j) {
				t.Errorf("%v.Less(%v) is %t", a, b, a.Less(b))
			}
		}
	}
	if got := (realm.Version{Major: 9, Minor: 2}).String(); got != "9.2" {
		t.Error(got)
	}
	if got := (realm.Version{}).String(); got != "unknown" {
		t.Error(got)
	}
}

// Only an earlier major version proves that a property is unknown.
func TestLacks(t *testing.T) {
	for _, tt := range []struct {
		version realm.Version
		prop    realm.Property
		lacks   bool
	}{
		{realm.Version{}, realm.Audiences, false},
		{realm.Version{Major: 7, Minor: 4}, realm.GroupsClaim, true},
		{realm.Version{Major: 7, Minor: 4}, realm.QueryUserinfo, true},
		{realm.Version{Major: 7, Minor: 0}, realm.Prompt, false},
		{realm.Version{Major: 8, Minor: 1}, realm.GroupsClaim, false},
		{realm.Version{Major: 8, Minor: 4}, realm.Audiences, true},
		{realm.Version{Major: 9, Minor: 0}, realm.Audiences, false},
		{realm.Version{Major: 6, Minor: 4}, realm.IssuerURL, true},
		{realm.Version{Major: 7, Minor: 4}, "nonsense", false},
	} {
		if got := tt.version.Lacks(tt.prop); got != tt.lacks {
			t.Errorf("%v lacks %s: %t", tt.version, tt.prop, got)
		}
	}
}
