package realm_test

import (
	"slices"
	"testing"

	"proxmox-realm/internal/realm"
)

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]realm.Version{
		"9.2.11": {Major: 9, Minor: 2, Patch: 11}, "9.2": {Major: 9, Minor: 2}, "8.4-1": {Major: 8, Minor: 4, Patch: 1},
		"8.4.1": {Major: 8, Minor: 4, Patch: 1}, "7.4-18": {Major: 7, Minor: 4, Patch: 18}, "9.0.0~11": {Major: 9},
		"10.1+deb": {Major: 10, Minor: 1}, "0.9.2": {Minor: 9, Patch: 2}, "4.2.3": {Major: 4, Minor: 2, Patch: 3},
	} {
		for _, p := range realm.Products() {
			want.Product = p
			got, err := realm.ParseVersion(p, text)
			if err != nil || got != want {
				t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
			}
		}
	}
	for _, text := range []string{"", "9", "9.", ".2", "x.y", "9.x", "x.2", "-1.2x", "99999999.1", "9 .2", "v9.2", "0.0"} {
		if got, err := realm.ParseVersion(realm.BackupServer, text); err == nil || !got.IsZero() || got.Product != realm.BackupServer {
			t.Errorf("%q is taken for version %v", text, got)
		}
	}
}

func TestVersionOrderAndText(t *testing.T) {
	ascending := []realm.Version{{}, {Major: 7}, {Major: 7, Minor: 4}, {Major: 8, Minor: 1}, {Major: 8, Minor: 4}, {Major: 9}, {Major: 9, Minor: 10}, {Major: 10}}
	for i, a := range ascending {
		for j, b := range ascending {
			if a.Less(b) != (i < j) {
				t.Errorf("%v.Less(%v) is %t", a, b, a.Less(b))
			}
		}
	}
	old, other := realm.Version{Product: realm.BackupServer, Major: 4, Minor: 2}, realm.Version{Major: 9}
	if old.Less(other) || other.Less(old) {
		t.Error("versions of two products have an order")
	}
	for _, tt := range []struct {
		version     realm.Version
		text, named string
	}{
		{realm.Version{Major: 9, Minor: 2, Patch: 11}, "9.2", "Proxmox VE 9.2"},
		{realm.Version{}, "unknown", "Proxmox VE"},
		{realm.Version{Product: realm.BackupServer, Major: 4, Minor: 2, Patch: 3}, "4.2.3", "Proxmox Backup Server 4.2.3"},
		{realm.Version{Product: realm.DatacenterManager}, "unknown", "Proxmox Datacenter Manager"},
	} {
		if tt.version.String() != tt.text || tt.version.Named() != tt.named {
			t.Errorf("%s, %s", tt.version, tt.version.Named())
		}
	}
}

// Only an earlier major version of Proxmox VE proves that a property is unknown. The version of the others is exact.
func TestLacks(t *testing.T) {
	backup := func(major, minor, patch int) realm.Version {
		return realm.Version{Product: realm.BackupServer, Major: major, Minor: minor, Patch: patch}
	}
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
		{realm.Version{Major: 10, Minor: 0}, realm.Audiences, false},
		{realm.Version{Major: 6, Minor: 4}, realm.IssuerURL, true},
		{realm.Version{Major: 7, Minor: 4}, "nonsense", false},
		{backup(4, 2, 0), realm.Audiences, true},
		{backup(4, 2, 1), realm.Audiences, false},
		{backup(10, 0, 0), realm.Audiences, false},
		{backup(0, 0, 0), realm.Audiences, false},
		{backup(0, 0, 0), realm.GroupsClaim, true},
		{backup(4, 2, 3), "nonsense", false},
	} {
		if got := tt.version.Lacks(tt.prop); got != tt.lacks {
			t.Errorf("%s lacks %s: %t", tt.version.Named(), tt.prop, got)
		}
	}
}

// Proxmox VE 8 and Backup Server 3 have openidconnect-rs 2; every Datacenter Manager has openidconnect-rs 4.
func TestOpenIDLibraries(t *testing.T) {
	for _, tt := range []struct {
		version      realm.Version
		older, newer bool
	}{
		{realm.Version{}, true, true},
		{realm.Version{Major: 8, Minor: 4}, true, false},
		{realm.Version{Major: 9}, false, true},
		{realm.Version{Major: 10}, false, true},
		{realm.Version{Product: realm.BackupServer, Major: 3, Minor: 4}, true, false},
		{realm.Version{Product: realm.BackupServer, Major: 4, Minor: 2, Patch: 3}, false, true},
		{realm.Version{Product: realm.DatacenterManager}, false, true},
		{realm.Version{Product: realm.DatacenterManager, Minor: 9, Patch: 2}, false, true},
	} {
		var older, newer bool
		for _, l := range tt.version.OpenIDLibraries() {
			if slices.Contains(l.Algorithms, "ES256") {
				newer = true
			} else {
				older = true
			}
		}
		if older != tt.older || newer != tt.newer {
			t.Errorf("%s: openidconnect 2 %t, openidconnect 4 %t", tt.version.Named(), older, newer)
		}
	}
	if got := realm.VE.NewOpenIDLibrary().Named(); got != "Proxmox VE 9.0" {
		t.Error(got)
	}
}
