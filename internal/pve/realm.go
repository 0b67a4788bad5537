package pve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"proxmox-realm/internal/check"

	"github.com/luthermonson/go-proxmox"

	"proxmox-realm/internal/realm"
)

// Realm reads a realm (GET /access/domains/{realm}). One that does not exist is the zero Current and no error.
// It needs Realm.Allocate or Sys.Audit on /access/realm.
func (c *Client) Realm(ctx context.Context, name string) (realm.Current, error) {
	path, err := domainPath(name)
	if err != nil {
		return realm.Current{}, err
	}
	data, endpoint, err := c.get(ctx, path, realmLimit)
	var e *Error
	if errors.As(err, &e) && e.Kind == Absent {
		return realm.Current{}, nil
	}
	if err != nil && mute(err) && c.lacks(ctx, name) {
		return realm.Current{}, nil
	}
	if err != nil {
		return realm.Current{}, err
	}
	current, err := realm.ParseCurrent(data)
	if err != nil {
		return realm.Current{}, explained(&Error{
			Kind: BadAnswer, Status: http.StatusOK, Endpoint: endpoint, Method: http.MethodGet, Path: path,
			Reason: "no realm in it",
		})
	}
	c.cleaner.Hold(current.Values.Login(name).ClientKey)
	return current, nil
}

// lacks tells whether a realm is not in the list of all (GET /access/domains), which holds each of them whoever asks. False
// where the list cannot be had.
func (c *Client) lacks(ctx context.Context, name string) bool {
	data, _, err := c.get(ctx, "/access/domains", realmLimit)
	if err != nil {
		return false
	}
	var all []struct{ Realm string }
	if err := json.Unmarshal(data, &all); err != nil || len(all) == 0 {
		return false
	}
	return !slices.ContainsFunc(all, func(r struct{ Realm string }) bool { return r.Realm == name })
}

// Create adds a realm (POST /access/domains). Errors match [realm.ErrConflict] where it exists already,
// [realm.ErrLost] where the answer did not come back, and *[realm.UnknownPropertyError].
func (c *Client) Create(ctx context.Context, p realm.Params) error {
	fields := p.Reveal()
	name, _ := fields["realm"].(string)
	if _, err := domainPath(name); err != nil {
		return err
	}
	if fields["type"] == realm.Type {
		for _, required := range []realm.Property{realm.IssuerURL, realm.ClientID} {
			if _, ok := fields[string(required)]; !ok {
				return check.Errorf(check.Config, "a realm cannot be created without %s", required)
			}
		}
	}
	if err := c.sendable(fields); err != nil {
		return err
	}
	return c.write(ctx, func(ctx context.Context, api *proxmox.Client) error {
		return api.Post(ctx, "/access/domains", fields, nil)
	})
}

// Update changes a realm (PUT /access/domains/{realm}). It refuses to send what Proxmox would swallow to the
// realm's harm: a missing or empty digest, an empty issuer-url or client-id, and removing username-claim. Errors match
// [realm.ErrConflict] where the digest is stale or the realm is gone, else as those of [Client.Create].
func (c *Client) Update(ctx context.Context, name string, p realm.Params) error {
	path, err := domainPath(name)
	if err != nil {
		return err
	}
	fields := p.Reveal()
	if digest, _ := fields["digest"].(string); digest == "" {
		return check.Errorf(check.Internal, "an update of realm %s without a digest could overwrite what others changed: not sent", name)
	}
	if len(fields) == 1 {
		return check.Errorf(check.Internal, "an update of realm %s that changes nothing: not sent", name)
	}
	for _, fixed := range []string{"type", string(realm.UsernameClaim)} {
		if _, ok := fields[fixed]; ok {
			return check.Errorf(check.Internal, "an update of realm %s cannot set %s: not sent", name, fixed)
		}
	}
	if err := c.sendable(fields); err != nil {
		return err
	}
	return c.write(ctx, func(ctx context.Context, api *proxmox.Client) error {
		return api.Put(ctx, path, fields, nil)
	})
}

// Delete removes a realm (DELETE /access/domains/{realm}). An error that matches [realm.ErrLost] means that it may still
// take effect, up to a minute later; one that matches [realm.ErrConflict], that the realm is gone already.
func (c *Client) Delete(ctx context.Context, name string) error {
	path, err := domainPath(name)
	if err != nil {
		return err
	}
	return c.write(ctx, func(ctx context.Context, api *proxmox.Client) error {
		return api.Delete(ctx, path, nil)
	})
}

// Version asks for the Proxmox VE version (GET /version).
func (c *Client) Version(ctx context.Context) (realm.Version, error) {
	data, endpoint, err := c.get(ctx, "/version", realmLimit)
	if err != nil {
		return realm.Version{}, err
	}
	var answer struct{ Version, Release text }
	if err := json.Unmarshal(data, &answer); err == nil {
		for _, t := range []text{answer.Version, answer.Release} { // "9.2.11" and "9.2"; "7.4-3" and "7.4"
			if v, err := realm.ParseVersion(string(t)); err == nil {
				return v, nil
			}
		}
	}
	return realm.Version{}, explained(&Error{
		Kind: BadAnswer, Status: http.StatusOK, Endpoint: endpoint, Method: http.MethodGet, Path: "/version",
		Reason: "no version in it",
	})
}

// get returns the `data` of a GET, which is there and not null.
func (c *Client) get(ctx context.Context, path string, limit int64) (json.RawMessage, string, error) {
	var data json.RawMessage
	endpoint, err := c.call(ctx, read, c.auth, limit, func(ctx context.Context, api *proxmox.Client) error {
		return api.Get(ctx, path, &data)
	})
	if err != nil {
		return nil, endpoint, err
	}
	if len(data) == 0 || string(data) == "null" {
		path, _, _ = strings.Cut(path, "?")
		return nil, endpoint, explained(&Error{
			Kind: BadAnswer, Status: http.StatusOK, Endpoint: endpoint, Method: http.MethodGet, Path: path,
			Reason: "no data in it",
		})
	}
	return data, endpoint, nil
}

func (c *Client) write(ctx context.Context, send func(context.Context, *proxmox.Client) error) error {
	_, err := c.call(ctx, write, c.auth, realmLimit, send)
	return err
}

func domainPath(name string) (string, error) {
	if err := realm.ValidateName(name); err != nil {
		return "", check.Errorf(check.Config, "the name of a realm %s", err).Try(check.Advise("correct realm.name"))
	}
	return "/access/domains/" + url.PathEscape(name), nil
}

// sendable refuses parameters that Proxmox would accept and that break the realm, or the file of all realms
// (PVE::SectionConfig writes values as they come, one on a line).
func (c *Client) sendable(fields map[string]any) error {
	for name, value := range fields {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return check.Errorf(check.Internal, "a parameter with white space or control characters in its name: not sent")
		}
		written, isText := value.(string)
		switch value.(type) {
		case string, bool, int, int64, float64, json.Number:
		default:
			return check.Errorf(check.Internal, "%s is neither text, number nor boolean: not sent", c.cleaner.Clean(name))
		}
		if !isText {
			continue
		}
		property := realm.Property(name)
		if d, _ := property.Definition(); d.Required && strings.TrimSpace(written) == "" {
			return check.Errorf(check.Config, "an empty %s makes the realm vanish and blocks every other: not sent", name).Try(check.Advise("set realm.%s", d.Key))
		}
		if property != realm.Comment && strings.ContainsFunc(written, unicode.IsControl) {
			return check.Errorf(check.Config, "%s holds control characters: not sent", c.cleaner.Clean(name))
		}
		if property == realm.ClientKey {
			c.cleaner.Hold(check.NewSecret(written))
		}
		if name == "delete" {
			if err := removable(written); err != nil {
				return err
			}
		}
	}
	return nil
}

// removable refuses to remove what a realm cannot be without. Proxmox removes username-claim without complaint, and every
// user of the realm is someone else from then on.
func removable(list string) error {
	names := strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(",;", r) || unicode.IsSpace(r) || r == 0 })
	for _, name := range names {
		d, known := realm.Property(name).Definition()
		if known && (d.Required || d.CreateOnly) || name == "type" {
			return check.Errorf(check.Config, "removing %s would break the realm: not sent", name).Try(check.Advise("take it out of realm.unset"))
		}
	}
	if len(names) == 0 {
		return check.Errorf(check.Internal, "nothing to remove: not sent")
	}
	return nil
}

// text is a JSON string or number, as versions differ.
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	if v != nil {
		*t = text(fmt.Sprint(v))
	}
	return nil
}
