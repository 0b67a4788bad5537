package report

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/jsonschema-go/jsonschema"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// Schema returns the JSON Schema (2020-12) of the reports that [JSON] writes. It takes reports with keys that it does not know:
// later versions add keys. Of [JSONLines], each line but the last is an element of targets.
func Schema() ([]byte, error) {
	s, err := jsonschema.For[jsonRun](nil)
	if err != nil {
		return nil, fmt.Errorf("make the schema: %w", err)
	}
	s.Schema, s.Title = "https://json-schema.org/draft/2020-12/schema", "proxmox-realm report"
	target := s.Properties["targets"].Items
	changes, checks, logins := target.Properties["changes"].Items, target.Properties["checks"].Items, target.Properties["logins"].Items
	for _, closed := range []struct {
		in     *jsonschema.Schema
		key    string
		values []any
	}{
		{s, "outcome", values(reconcile.Outcomes())},
		{target, "outcome", values(reconcile.Outcomes())},
		{target, "product", append(values(realm.Products()), "")},
		{target, "action", values([]realm.Action{realm.None, realm.Create, realm.Update, realm.Replace, realm.Refuse, realm.Delete})},
		{changes, "kind", []any{"property", string(realm.AccessGroup), string(realm.AccessGrant)}},
		{changes, "op", values([]realm.Op{realm.Set, realm.Unset})},
		{checks, "status", values([]check.Status{check.Pass, check.Warn, check.Fail, check.Skip})},
		{logins, "outcome", values([]diagnose.Outcome{diagnose.Failed, diagnose.Succeeded})},
	} {
		closed.in.Properties[closed.key].Enum = closed.values
	}
	const hint = "One line for each thing to do, the most likely one first. A line that begins with four spaces is a command to copy. " +
		"Names stand in braces: {realm.scopes} is a configuration key, {apply --no-gate} a command line of this program. " +
		"A brace after a backslash is an ordinary one."
	for _, describes := range []*jsonschema.Schema{checks, logins, s.Properties["error"], target.Properties["error"]} {
		describes.Properties["hint"].Description = hint
	}
	s.Required = slices.DeleteFunc(s.Required, func(key string) bool { // jsonTally
		return slices.Contains([]string{"counts", "retries", "lost_ms"}, key)
	})
	open(s)
	text, err := json.MarshalIndent(s, "", "  ")
	return append(text, '\n'), err
}

func values[T any](list []T) (texts []any) {
	for _, v := range list {
		texts = append(texts, fmt.Sprint(v))
	}
	return texts
}

// open lets a schema and those within it take keys that they do not name. Lists are never null.
func open(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	if s.Properties != nil {
		s.AdditionalProperties = nil
	}
	if slices.Contains(s.Types, "array") {
		s.Type, s.Types = "array", nil
	}
	open(s.Items)
	for _, p := range s.Properties {
		open(p)
	}
}
