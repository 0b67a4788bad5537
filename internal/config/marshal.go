package config

import (
	"bytes"
	"fmt"
	"strings"

	"proxmox-realm/internal/realm"
)

// Marshal returns a configuration of one target, each key below its documentation. It leaves out what has its default. Loading
// it gives the target again. Paths are written as they are: relative ones begin in the folder of the configuration.
//
// It never holds a secret: ClientKeyFile and TokenFile name the files, and without them a key is not managed. It leaves out a
// property that a configuration cannot hold, such as a comment of two lines, and says so in a comment.
func Marshal(t Target) []byte {
	if !t.Verify.RedirectsDeclared {
		t.Verify.RedirectURLs = nil
	}
	var d bytes.Buffer
	section := ""
	for _, k := range table() {
		if !k.Target || k.Secret || k.Path == "proxmox.endpoint" {
			continue
		}
		line := k.line(&t)
		if line == "" {
			continue
		}
		if name, _, _ := strings.Cut(k.Path, "."); name != section {
			section = name
			if d.Len() > 0 {
				d.WriteByte('\n')
			}
			fmt.Fprintf(&d, "# %s\n%s:\n", sections[name], name)
		}
		d.WriteString(line)
	}
	return d.Bytes()
}

// sections says what the keys of each section are about.
var sections = map[string]string{
	"proxmox": "How Proxmox is reached.",
	"realm":   "A property that is not here stays as it is.",
	"verify":  "What is checked before anyone logs in.",
	"policy":  "When the realm is not changed.",
	"access":  "What the issuer's groups may do; groups that are not here are not touched.",
}

// line returns the key of a target below its documentation, "" if a configuration need not hold it.
func (k *Key) line(t *Target) string {
	value := k.in(result{Target: t}).get()
	_, name, nested := strings.Cut(k.Path, ".")
	switch access, _ := value.(realm.Access); {
	case value == nil || inYAML(value) == k.Default && k.Path != "realm.name": // users have the name in theirs
		return ""
	case !nested:
		var lines strings.Builder
		for _, group := range access.Groups() {
			fmt.Fprintf(&lines, "  %s: %s\n", inYAML(group), inYAML(access[group]))
		}
		return lines.String()
	}
	if v, isProperty := t.Realm.Set[k.property]; isProperty && k.content == nil {
		if err := t.Proxmox.Product.Validate(k.property, v); err != nil {
			return fmt.Sprintf("  # %s stays as it is: a configuration's value %v\n", name, err)
		}
	}
	return fmt.Sprintf("  # %s\n  %s: %s\n", k.Doc, name, inYAML(value))
}
