package report_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"proxmox-realm/internal/report"
)

// Every report that this package writes is one of the schema, and reports with further keys are as well.
func TestSchema(t *testing.T) {
	text, err := report.Schema()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	takes := func(text string) error {
		instance, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(instance)
	}
	var whole string
	for _, s := range scenarios() {
		got := string(encodeJSON(t, s.run))
		if err := takes(got); err != nil {
			t.Errorf("%s: %v\n%s", s.name, err, got)
		}
		if s.name == "apply-updated" {
			whole = got
		}
	}
	for _, tt := range []struct{ from, to, says string }{
		{`"version":1`, `"version":1,"later":{}`, ""},
		{`"kind":"property"`, `"kind":"property","later":1`, ""},
		{`"outcome":"changed"`, `"outcome":"fine"`, "/outcome"},
		{`"status":"pass"`, `"status":"good"`, "/status"},
		{`"action":"update"`, `"action":"alter"`, "/action"},
		{`"product":"pve"`, `"product":"pmg"`, "/product"},
		{`"wrote":true,`, ``, "wrote"},
		{`"hint":""`, `"hint":[]`, "/hint"},
		{`"checks":[`, `"checks":null,"x":[`, "/checks"},
	} {
		if !strings.Contains(whole, tt.from) {
			t.Errorf("no %s in %s", tt.from, whole)
		}
		err := takes(strings.ReplaceAll(whole, tt.from, tt.to))
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", tt.to, err)
		}
	}
	var described struct {
		Properties struct {
			Targets struct {
				Items struct {
					Properties struct {
						Wrote struct{ Description string }
						Error struct {
							Properties struct{ Hint struct{ Description string } }
						}
					}
				}
			}
		}
	}
	if err := json.Unmarshal(text, &described); err != nil {
		t.Fatal(err)
	}
	if p := described.Properties.Targets.Items.Properties; p.Wrote.Description == "" || !strings.Contains(p.Error.Properties.Hint.Description, "{realm.scopes}") {
		t.Errorf("%+v", p)
	}
}
