package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/realm"
)

// The structs that are decoded into and the list of keys say the same.
func TestKeysAreThoseOfTheStructs(t *testing.T) {
	var fields []string
	var walk func(reflect.Type, string)
	walk = func(typ reflect.Type, prefix string) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, option, _ := strings.Cut(f.Tag.Get("mapstructure"), ",")
			switch {
			case option == "remain":
				for _, d := range realm.Definitions() {
					fields = append(fields, prefix+d.Key)
				}
			case f.Type.Kind() == reflect.Struct && f.Type.Name() == "":
				walk(f.Type, prefix+name+".")
			default:
				fields = append(fields, prefix+name)
			}
		}
	}
	walk(reflect.TypeFor[targetKeys](), "")
	walk(reflect.TypeFor[runKeys](), "")
	fields = append(fields, "proxmox.endpoint") // becomes one of endpoints before anything is decoded
	var keys []string
	for _, k := range Keys() {
		keys = append(keys, k.Path)
	}
	slices.Sort(fields)
	slices.Sort(keys)
	if !slices.Equal(fields, keys) {
		t.Errorf("structs and list differ:\n%s\n%s", fields, keys)
	}
}

func TestKeysAreComplete(t *testing.T) {
	seen := map[string]string{}
	taken := func(what, name, by string) {
		if other, dup := seen[what+name]; dup && name != "" {
			t.Errorf("%s %s is that of %s and of %s", what, name, other, by)
		}
		seen[what+name] = by
	}
	for _, k := range table() {
		taken("path", k.Path, k.Path)
		taken("variable", k.Env, k.Path)
		taken("flag", k.Flag, k.Path)
		if !strings.HasSuffix(k.Doc, ".") || strings.Contains(k.Doc, "\n") {
			t.Errorf("%s: documentation %q", k.Path, k.Doc)
		}
		if (k.Kind == Enum) != (len(k.Choices) > 0) {
			t.Errorf("%s: kind %s with choices %v", k.Path, k.Kind, k.Choices)
		}
		if k.Kind == List && k.normal == nil {
			t.Errorf("%s: the words of a list are not checked", k.Path)
		}
		if k.Default == "[]" {
			if k.Kind != List || !k.empty {
				t.Errorf("%s: an empty list by default, and refused", k.Path)
			}
		} else if _, err := k.scalar(k.Default, surroundings{}); k.Default != "" && err != nil {
			t.Errorf("%s: its own default %v", k.Path, err)
		}
		if k.Secret && (k.Flag != "" || k.Default != "") {
			t.Errorf("%s: a secret that a flag or a default gives", k.Path)
		}
	}
	for p := range property {
		if _, ok := p.Definition(); !ok {
			t.Errorf("%s is documented and no property", p)
		}
	}
}

// The flags of the contract, and no others.
func TestFlags(t *testing.T) {
	want := map[string]string{
		"endpoint": "proxmox.endpoints", "token-file": "proxmox.token_file", "username": "proxmox.username",
		"ca-file": "proxmox.ca_file", "fingerprint": "proxmox.fingerprints", "insecure": "proxmox.insecure",
		"realm": "realm.name", "issuer-url": "realm.issuer_url", "issuer-ca-file": "verify.issuer_ca_file",
		"client-id": "realm.client_id", "client-key-file": "realm.client_key_file", "username-claim": "realm.username_claim",
		"scopes": "realm.scopes", "autocreate": "realm.autocreate", "redirect-url": "verify.redirect_urls",
	}
	got := map[string]string{}
	for _, k := range Keys() {
		if k.Flag != "" {
			got[k.Flag] = k.Path
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("flags %v, want %v", got, want)
	}
}
