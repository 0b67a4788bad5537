package config

import (
	"bytes"
	"fmt"
	"strings"

	"proxmox-realm/internal/realm"
)

// Document returns a commented configuration for a realm that exists. It holds every property of the Spec. The target
// says how Proxmox is reached and what is verified. Loading it gives the Spec again.
//
// It never holds the client key: clientKeyFile names the file with the key, and "" leaves the key unmanaged. It leaves out a
// property that a configuration cannot hold, such as a comment of two lines, and says so in a comment.
func Document(spec realm.Spec, from Target, clientKeyFile string) []byte {
	p, v := from.Proxmox, from.Verify
	var d document
	if len(p.Endpoints) > 0 || p.TokenFile != "" || p.CAFile != "" || len(p.Fingerprints) > 0 || p.Insecure {
		d.section("proxmox", "How the cluster is reached.")
	}
	d.set(len(p.Endpoints) > 0, "proxmox.endpoints", texts(p.Endpoints))
	d.set(p.TokenFile != "", "proxmox.token_file", p.TokenFile)
	d.set(p.CAFile != "", "proxmox.ca_file", p.CAFile)
	d.set(len(p.Fingerprints) > 0, "proxmox.fingerprints", texts(p.Fingerprints))
	d.set(p.Insecure, "proxmox.insecure", true)

	d.section("realm", "A property that is not here stays as it is.")
	d.set(true, "realm.name", spec.Name)
	for _, definition := range realm.Definitions() {
		value, set := spec.Set[definition.Property]
		if definition.Kind == realm.KindKey {
			d.set(clientKeyFile != "", "realm.client_key_file", clientKeyFile)
		} else if set {
			d.property(definition, value.String())
		}
	}
	d.set(len(spec.Unset) > 0, "realm.unset", texts(spec.Unset))

	if v.RedirectsDeclared || v.IssuerCAFile != "" {
		d.section("verify", "What is checked before anyone logs in.")
	}
	d.set(v.RedirectsDeclared, "verify.redirect_urls", texts(v.RedirectURLs))
	d.set(v.IssuerCAFile != "", "verify.issuer_ca_file", v.IssuerCAFile)
	if len(from.Access) > 0 {
		d.section("access", "What the issuer's groups may do; groups that are not here are not touched.")
		for _, group := range from.Access.Groups() {
			fmt.Fprintf(&d, "  %s: %s\n", written("access", group), written("access", from.Access[group]))
		}
	}
	return d.Bytes()
}

// document is a configuration that is being written.
type document struct{ bytes.Buffer }

func (d *document) section(name, comment string) {
	if d.Len() > 0 {
		d.WriteByte('\n')
	}
	fmt.Fprintf(d, "# %s\n%s:\n", comment, name)
}

// set writes a key below its documentation if it is wanted.
func (d *document) set(wanted bool, path string, value any) {
	if wanted {
		fmt.Fprintf(d, "  # %s\n  %s: %s\n", index().path[path].Doc, path[strings.LastIndex(path, ".")+1:], written(path, value))
	}
}

// property writes a property as Proxmox stores it, or a comment if a configuration cannot hold the value.
func (d *document) property(p realm.Definition, stored string) {
	path := "realm." + p.Key
	if err := p.Validate(realm.Text(stored)); err != nil {
		fmt.Fprintf(d, "  # %s stays as it is: a configuration's value %v\n", p.Key, err)
		return
	}
	switch p.Kind {
	case realm.KindBool:
		d.set(true, path, stored == "1")
	case realm.KindSet, realm.KindList:
		d.set(true, path, realm.Split(stored))
	default:
		d.set(true, path, stored)
	}
}

// texts returns the text of each value.
func texts[T any](values []T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = fmt.Sprint(v)
	}
	return out
}
