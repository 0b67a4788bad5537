package proxmox

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// Realm reads a realm (GET /access/domains/{realm}, or /config/access/openid/{realm}). A realm that does not exist is the zero
// Current, not an error. Of a realm of another type, some products tell nothing but the type. The cleaner learns the realm's
// client key.
func (c *Client) Realm(ctx context.Context, name string) (realm.Current, error) {
	path, err := c.realmPath(name)
	if err != nil {
		return realm.Current{}, err
	}
	var data json.RawMessage
	var aside beside
	endpoint, err := c.do(ctx, request{method: http.MethodGet, path: path, as: c.identity, aside: &aside}, &data)
	var e *Error
	switch {
	case errors.As(err, &e) && (e.Kind == Absent || e.reasonLost() && c.unlisted(ctx, name)):
		return realm.Current{Product: c.dialect.product}, nil
	case e != nil && e.Kind == WrongType && e.Found != "":
		return realm.Current{Product: c.dialect.product, Exists: true, Type: e.Found}, nil
	case err != nil:
		return realm.Current{}, err
	}
	current, err := realm.ParseCurrent(c.dialect.product, data)
	if err != nil {
		return realm.Current{}, c.unusable(http.MethodGet, path, endpoint, "its answer holds no realm")
	}
	if aside.digest != "" {
		current.Digest = aside.digest
	}
	c.cleaner.Hold(current.Values.Login(name).ClientKey)
	if current.Type != realm.Type { // compared as it was sent, and shown if it is another
		current.Type = c.cleaner.Clean(current.Type)
	}
	return current, nil
}

// unlisted tells whether the list of all realms (GET /access/domains) lacks a realm. Every caller sees the whole list. It is
// false if the list cannot be read.
func (c *Client) unlisted(ctx context.Context, name string) bool {
	names, err := c.Realms(ctx)
	return err == nil && len(names) > 0 && !slices.Contains(names, name)
}

// Realms lists the names of all realms, sorted (GET /access/domains).
func (c *Client) Realms(ctx context.Context) ([]string, error) {
	var all []struct{ Realm string }
	if _, err := c.get(ctx, domainsPath, &all); err != nil {
		return nil, err
	}
	names := make([]string, 0, len(all))
	for _, r := range all {
		names = append(names, c.cleaner.Clean(r.Realm))
	}
	slices.Sort(names)
	return names, nil
}

// Create adds a realm. Its errors match [realm.ErrConflict] if the realm exists, [realm.ErrLost] if
// no answer came. [Error].Unknown names properties that Proxmox does not know.
func (c *Client) Create(ctx context.Context, p realm.Params) error {
	fields := p.Reveal()
	name, _ := fields["realm"].(string)
	if _, err := c.realmPath(name); err != nil {
		return err
	}
	if err := c.sendable(fields); err != nil {
		return err
	}
	return c.change(ctx, http.MethodPost, c.dialect.realms, c.dialect.encode(fields))
}

// Update changes a realm. Its errors match [realm.ErrConflict] if the digest is stale or the
// realm is gone, otherwise as those of [Client.Create].
func (c *Client) Update(ctx context.Context, name string, p realm.Params) error {
	path, err := c.realmPath(name)
	if err != nil {
		return err
	}
	fields := p.Reveal()
	if digest, _ := fields["digest"].(string); digest == "" {
		return check.Errorf(check.Internal, "an update without a digest could overwrite changes of others: it was not sent")
	}
	if err := c.sendable(fields); err != nil {
		return err
	}
	return c.change(ctx, http.MethodPut, path, c.dialect.encode(fields))
}

// Delete removes the OpenID Connect realm that [Client.Realm] read with that digest. Some products would remove a realm of any
// type, and one that has changed since: these get the digest. Of a realm of another type there is none. Proxmox VE takes none.
//
// After an error that matches [realm.ErrLost] it may still take effect, up to a minute later. An error that matches
// [realm.ErrConflict] means that the realm is already gone, or that realms have changed since it was read.
func (c *Client) Delete(ctx context.Context, name, digest string) error {
	path, err := c.realmPath(name)
	if err != nil {
		return err
	}
	if c.dialect.guardedDelete {
		if digest == "" {
			return check.Errorf(check.Internal, "a DELETE without a digest could remove a realm of another type: it was not sent")
		}
		path += "?" + url.Values{"digest": {digest}}.Encode()
	}
	return c.change(ctx, http.MethodDelete, path, nil)
}

// Version asks for the version of the product (GET /version). After an error it is an unknown version of the product.
func (c *Client) Version(ctx context.Context) (realm.Version, error) {
	const path = "/version"
	unknown := realm.Version{Product: c.dialect.product}
	var answer struct{ Version, Release string }
	endpoint, err := c.get(ctx, path, &answer)
	if err != nil {
		return unknown, err
	}
	if c.dialect.joinsVersion {
		answer.Version += "." + answer.Release
	}
	v, err := realm.ParseVersion(c.dialect.product, answer.Version)
	if err != nil {
		return unknown, c.unusable(http.MethodGet, path, endpoint, "its answer holds no version")
	}
	return v, nil
}

func (c *Client) realmPath(name string) (string, error) {
	if err := c.dialect.product.ValidateName(name); err != nil {
		return "", check.Errorf(check.Config, "the name of a realm %s", err).Try("set {realm.name}")
	}
	return c.dialect.realms + "/" + url.PathEscape(name), nil
}

// sendable refuses parameters that Proxmox accepts although they break the realm or the file of all realms. It is the last
// line of defence: neither a configuration nor a plan should hold them.
func (c *Client) sendable(fields map[string]any) error {
	for name, value := range fields {
		written, isText := value.(string)
		d, _ := realm.Property(name).Definition()
		damage := ""
		switch {
		case isText && d.Required && strings.TrimSpace(written) == "":
			damage = "Proxmox would ignore the realm and reject writes to all others"
		case d.Property != realm.Comment && strings.ContainsFunc(name+written, unicode.IsControl):
			damage = "control characters could add lines to the file of all realms" // PVE::SectionConfig writes values unchanged
		case name == "delete" && !removable(written):
			damage = "the realm cannot do without the removed property"
		}
		if damage != "" {
			return check.Errorf(check.Internal, "the parameter %s was not sent: %s", c.cleaner.Clean(name), damage)
		}
		if name == string(realm.ClientKey) {
			c.cleaner.Hold(check.NewSecret(written))
		}
	}
	return nil
}

// removable tells whether a realm can do without each property of a list. Proxmox removes username-claim without complaint,
// and every user of the realm is someone else from then on.
func removable(list string) bool {
	names := strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(",; ", r) })
	return !slices.ContainsFunc(names, func(name string) bool {
		d, known := realm.Property(name).Definition()
		return known && (d.Required || d.CreateOnly)
	})
}
