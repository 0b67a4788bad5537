package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	if err := compiler.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// validate asks the schema about a file's text.
func validate(t *testing.T, s *jsonschema.Schema, text []byte) error {
	t.Helper()
	var value any
	if err := yaml.Unmarshal(text, &value); err != nil {
		return err
	}
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(instance)
}

// The schema refuses the mistakes that a schema can see. It takes the examples, and each key: see TestExamples and TestEveryKeyIsRead.
func TestSchemaRefusesTheMistakes(t *testing.T) {
	s := schema(t)
	unseen := []string{ // meaning, and what several layers say together
		"alias", "binary-tag", "custom-tag", "claim", "control", "duration-too-long", "endpoint-", "endpoints-twice", "fingerprint",
		"ca-file-and", "client-key-", "product-by-port", "target-without-token", "groups-claim", "insecure", "listen", "merge", "no-", "not-", "nothing", "otp-not", "password-without", "path-", "realm-name",
		"redirect", "targets-", "target-inherits", "token-", "too-long", "two-documents", "unset-and", "username-", "variable", "word-", "line-feed", "absent-value",
		"access-group-name", "access-paths", "concurrency-zero", "duration-without", "empty-", "ignore-", "jitter-too-large", "negative-", "surrounding-",
		"target-with-bad-name", "two-", "unset-required", "unset-unknown", "unset-username",
	}
	if err := validate(t, s, nil); err != nil {
		t.Errorf("an empty file: %v", err)
	}
	seen := 0
	files, err := filepath.Glob("testdata/mistakes/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
next:
	for _, file := range files {
		name := filepath.Base(file)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		refused := validate(t, s, text) != nil
		for _, prefix := range unseen {
			if strings.HasPrefix(name, prefix) {
				continue next
			}
		}
		if seen++; !refused {
			t.Errorf("the schema takes %s", name)
		}
	}
	if seen < 30 {
		t.Errorf("only %d mistakes are asked about", seen)
	}
}
