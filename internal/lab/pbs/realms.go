package pbs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// errModified is what a stale digest gets.
var errModified = refuse("detected modified configuration - file changed by other user? Try again.")

// fileText writes sections as a configuration file has them. An error names a value that no file can hold.
func (c *call) fileText(realms []Realm) (string, error) {
	var b strings.Builder
	for _, realm := range realms {
		fmt.Fprintf(&b, "%s: %s\n", realm.Type, realm.Name)
		for _, key := range slices.Sorted(maps.Keys(realm.Properties)) {
			value := realm.Properties[key]
			if strings.ContainsFunc(value, unicode.IsControl) {
				return "", fmt.Errorf(`writing "%s/domains.cfg" failed: detected unexpected control character in section '%s' key '%s'`, c.s.product.config, realm.Name, key)
			}
			fmt.Fprintf(&b, "\t%s %s\n", key, value)
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}

func digestText(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// noteDigest puts the digest of domains.cfg beside data.
func (c *call) noteDigest(realms []Realm) error {
	text, err := c.fileText(realms)
	c.extra["digest"] = digestText(text)
	return err
}

// checkDigest compares the parameter digest, if there is one, with that of a file.
func (c *call) checkDigest(text string) error {
	if want := c.params.text("digest"); want != "" && want != digestText(text) {
		return errModified
	}
	return nil
}

// withRealms changes domains.cfg under its lock, after it compared the digest.
func (c *call) withRealms(f func(*State) error) error {
	select {
	case c.s.realmLock <- struct{}{}:
		defer func() { <-c.s.realmLock }()
	case <-time.After(c.s.opts.LockTimeout):
		return refuse(`Unable to acquire lock "%s/.domains.lck" - Interrupted system call (os error 4)`, c.s.product.config)
	case <-c.ctx.Done():
		return errHungUp
	}
	return c.s.store.Change(func(st *State) error {
		before, err := c.fileText(st.Realms)
		if err != nil {
			return err
		}
		if err := c.checkDigest(before); err != nil {
			return err
		}
		if err := f(st); err != nil {
			return err
		}
		_, err = c.fileText(st.Realms)
		for _, realm := range st.Realms {
			for key, value := range realm.Properties {
				realm.Properties[key] = strings.TrimSpace(value) // lost when the file is read
			}
		}
		return err
	})
}

func (st *State) realm(name string) *Realm {
	i := slices.IndexFunc(st.Realms, func(r Realm) bool { return r.Name == name })
	if i < 0 {
		return nil
	}
	return &st.Realms[i]
}

// ofType returns the realm of that name and type.
func (st *State) ofType(kind, name string) (*Realm, error) {
	realm := st.realm(name)
	if realm == nil {
		return nil, fmt.Errorf("no such %s '%s'", kind, name)
	}
	if realm.Type != kind {
		return nil, fmt.Errorf("got unexpected type '%s' for %s '%s'", realm.Type, kind, name)
	}
	return realm, nil
}

// data shows a realm as the API does: booleans as booleans, only what is stored, no type.
func (r *Realm) data() map[string]any {
	data := map[string]any{"realm": r.Name}
	for key, value := range r.Properties {
		data[key] = value
		if key == "default" || key == "autocreate" {
			data[key] = value == "true"
		}
	}
	return data
}

// listRealms is GET /access/domains, for the login page.
func (c *call) listRealms() (any, error) {
	st := c.s.store.View()
	list := []map[string]any{}
	for _, realm := range shuffled(st.Realms) {
		all := realm.data()
		data := map[string]any{"type": realm.Type}
		for _, key := range []string{"realm", "comment", "default"} {
			if value, ok := all[key]; ok {
				data[key] = value
			}
		}
		list = append(list, data)
	}
	return list, c.noteDigest(st.Realms)
}

func (c *call) listOpenID() (any, error) {
	st := c.s.store.View()
	list := []map[string]any{}
	for _, realm := range shuffled(st.Realms) {
		if realm.Type == "openid" {
			list = append(list, realm.data())
		}
	}
	return list, c.noteDigest(st.Realms)
}

func (c *call) readOpenID() (any, error) { return c.readRealm("openid", c.params.text("realm")) }

func (c *call) readRealm(kind, name string) (any, error) {
	st := c.s.store.View()
	realm, err := st.ofType(kind, name)
	if err != nil {
		return nil, err
	}
	return realm.data(), c.noteDigest(st.Realms)
}

func (c *call) createRealm() (any, error) {
	name := c.params.text("realm")
	return nil, c.withRealms(func(st *State) error {
		if st.realm(name) != nil {
			return paramErrors{{"realm", fmt.Sprintf("realm '%s' already exists.", name)}}
		}
		realm := Realm{Name: name, Type: "openid", Properties: map[string]string{}}
		realm.set(c.params)
		if c.params.flag("default") {
			st.clearDefault()
		}
		st.Realms = append(st.Realms, realm)
		return nil
	})
}

// set stores the parameters that are properties.
func (r *Realm) set(p params) {
	for key, value := range p {
		switch value := value.(type) {
		case string:
			r.Properties[key] = value
		case bool:
			r.Properties[key] = strconv.FormatBool(value)
		}
	}
	delete(r.Properties, "realm")
	delete(r.Properties, "digest")
}

// clearDefault takes the flag from whichever realm has it.
func (st *State) clearDefault() {
	for _, realm := range st.Realms {
		delete(realm.Properties, "default")
	}
}

func (c *call) updateOpenID() (any, error) { return c.updateRealm("openid", c.params.text("realm")) }

// updateRealm deletes, then sets. Without default=1 the realm loses the flag, whatever the request is about.
func (c *call) updateRealm(kind, name string) (any, error) {
	return nil, c.withRealms(func(st *State) error {
		realm, err := st.ofType(kind, name)
		if err != nil {
			return err
		}
		for _, key := range c.params.list("delete") {
			delete(realm.Properties, key)
		}
		realm.set(c.params)
		if _, set := c.params["comment"]; set && strings.TrimSpace(c.params.text("comment")) == "" {
			delete(realm.Properties, "comment")
		}
		delete(realm.Properties, "default")
		if c.params.flag("default") {
			st.clearDefault()
			realm.Properties["default"] = "true"
		}
		return nil
	})
}

// deleteRealm removes a realm of any type.
func (c *call) deleteRealm() (any, error) {
	name := c.params.text("realm")
	return nil, c.withRealms(func(st *State) error {
		if st.realm(name) == nil {
			return &apiError{http.StatusNotFound, fmt.Sprintf("realm '%s' does not exist.", name)}
		}
		st.Realms = slices.DeleteFunc(st.Realms, func(r Realm) bool { return r.Name == name })
		return nil
	})
}

// shuffled returns a copy in random order: lists come from hash tables.
func shuffled[T any](list []T) []T {
	list = slices.Clone(list)
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}
