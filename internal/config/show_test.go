package config

import (
	"context"
	"os"
	"testing"

	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/secret"
)

func TestTmp(t *testing.T) {
	c, err := Load(context.Background(), Options{File: os.Getenv("CFG"), Env: []string{"HOME=/root"}, Secrets: true})
	if err != nil {
		t.Fatal(err)
	}
	s := c.Targets[0].Realm
	s.Set[realm.Comment] = realm.Text("yes: # 'x' \"y\"")
	s.Set[realm.ClientKey] = realm.Key(secret.New("xxxx"))
	s.Set[realm.GroupsAutocreate] = realm.Bool(false)
	s.Set[realm.Prompt] = realm.Text("a b")
	d, err := Document(s, Proxmox{Endpoints: []string{"https://a:1"}}, "")
	t.Logf("%s %v", d, err)
	d, _ = Document(s, Proxmox{}, "/x/y")
	t.Logf("%s %v", d, err)
	d, _ = Schema()
	t.Logf("%s %v", d, err)
}
