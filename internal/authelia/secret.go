package authelia

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/check"
)

// compareSecret verifies the client's secret with the client key.
func (c *comparer) compareSecret(property Property, f field) {
	const wanted = "a digest of the realm's client key"
	if c.in.form == helm && f.value != nil && f.value.Kind == yaml.MappingNode && !c.in.filled(f) {
		value := get(f.value, "value")
		if list(value.value) == nil {
			c.unseen(property, "Helm reads it from another place")
			return
		}
		f = value
	}
	switch {
	case f.value == nil || f.value.Tag == "!!null" || f.value.Kind == yaml.ScalarNode && f.value.Value == "":
		if f.value == nil || !c.hidden(property, f) {
			c.differ(property, "", wanted)
		}
		return
	case c.hidden(property, f):
		return
	case f.value.Tag != "!!str" || f.value.Kind != yaml.ScalarNode:
		c.differ(property, "no text: Authelia cannot read it", wanted+", in quotes")
		return
	}
	found := f.value.Value
	c.hold(found)
	c.hold(strings.TrimPrefix(found, plaintextPrefix))
	found = c.undouble(property, found)
	if plain(found) {
		c.warn(property, "is stored in plain text, which Authelia will not accept much longer: store its digest instead")
	}
	ok, err := Verify(found, c.Login.ClientKey)
	switch {
	case err != nil:
		c.differ(property, err.Error(), wanted)
	case !c.Login.ClientKey.IsSet():
		c.unseen(property, "the client key is not configured")
	case !ok:
		c.differ(property, "the secret of another key", wanted)
	}
}

var single = check.Pattern(`\$[A-Za-z0-9_]`)

// undouble returns a secret as Authelia's filter `expand-env` makes it, if the file shows that it goes through the filter.
func (c *comparer) undouble(property Property, found string) string {
	doubled := strings.HasPrefix(found, "$$")
	alone := single().MatchString(strings.ReplaceAll(found, "$$", ""))
	evidence := c.in.variable
	if evidence == 0 && c.in.root != nil {
		evidence = dollar(c.in.root, doubling().MatchString)
	}
	switch {
	case doubled && !alone:
		if c.in.variable == 0 {
			c.warn(property, "each $ is doubled, which is right only with the filter expand-env of Authelia")
		}
		return strings.ReplaceAll(found, "$$", "$")
	case alone && evidence > 0 && c.in.form == plainFile:
		c.differ(property, fmt.Sprintf("single $, which the filter expand-env replaces: line %d shows that it is on", evidence), "each $ doubled")
	case alone && evidence > 0:
		c.warn(property, fmt.Sprintf("line %d has a variable: if it is replaced by the filter expand-env of Authelia, "+
			"each $ of the secret must be doubled", evidence))
	}
	return found
}

// plain tells whether Authelia takes a client secret for the secret itself, not for a digest.
func plain(secret string) bool {
	return strings.HasPrefix(secret, plaintextPrefix) || !strings.HasPrefix(secret, "$")
}

// readable tells whether Authelia can read a client secret.
func readable(secret string) bool {
	_, err := Verify(secret, check.Secret{})
	return err == nil
}
