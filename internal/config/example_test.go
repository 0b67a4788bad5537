package config

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/realm"
)

// Every example loads and is one of the schema, and full.yaml names every key.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	s := schema(t)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		if err := validate(t, s, data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		setenv(t)
		o := Options{File: write(t, filepath.Join(t.TempDir(), name), string(data))}
		if name == "environment.yaml" {
			setenv(t, "PROXMOX_REALM_CONFIG=/config/environment.yaml", "PROXMOX_REALM_REALM_CLIENT_KEY=the-client-key-of-a-test",
				"PROXMOX_REALM_PROXMOX_ENDPOINTS=https://pve1.example.com:8006,https://pve2.example.com:8006", "PROXMOX_REALM_PROXMOX_TOKEN=user@realm!id=secret")
		}
		c, err := Load(context.Background(), o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(c.Warnings) > 0 {
			t.Errorf("%s: %q", name, c.Warnings)
		}
		switch name {
		case "full.yaml":
			lines := strings.Split(string(data), "\n")
			for _, k := range Keys() {
				leaf := k.Path[strings.LastIndex(k.Path, ".")+1:] + ":"
				if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(strings.TrimLeft(line, " #"), leaf) }) {
					t.Errorf("full.yaml says nothing of %s", k.Path)
				}
			}
		case "all-products.yaml":
			cluster, backup, manager := c.Targets[0], c.Targets[1], c.Targets[2]
			if cluster.Access == nil || backup.Access != nil || manager.Access != nil || backup.Realm.Set.Login("").GroupsClaim != "" ||
				backup.Realm.Product != realm.BackupServer || manager.Realm.Product != realm.DatacenterManager {
				t.Errorf("%+v", c.Targets)
			}
		case "many-clusters.yaml":
			if len(c.Targets) != 3 || c.Targets[1].Proxmox.CAFile != "" || c.Targets[2].Realm.Name != "authelia-lab" {
				t.Errorf("%+v", c.Targets)
			}
		}
	}
}
