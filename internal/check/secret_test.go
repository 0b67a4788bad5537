package check_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"proxmox-realm/internal/check"
)

type holder struct {
	hidden check.Secret
	Shown  check.Secret
	Ptr    *check.Secret
	Map    map[string]check.Secret
}

// No renderer of the standard library may show a secret, whatever it is and wherever it sits.
func TestNoRenderingShowsTheValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringMatching(`[A-Za-z0-9]{12,40}`).Draw(t, "value")
		s := check.NewSecret(value)
		h := holder{hidden: s, Shown: s, Ptr: &s, Map: map[string]check.Secret{"k": s}}

		var out strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%t", "%e", "%p", "%T", "%10s", "% x"} {
			fmt.Fprintf(&out, verb, s)
			fmt.Fprintf(&out, verb, h)
			fmt.Fprintf(&out, verb, &h)
			fmt.Fprintf(&out, verb, []any{s, h})
		}
		fmt.Fprintln(&out, s, h, fmt.Errorf("wrapped: %v %w", s, fmt.Errorf("%s", s)))

		encoded, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(encoded)

		var logs bytes.Buffer
		for _, handler := range []slog.Handler{slog.NewTextHandler(&logs, nil), slog.NewJSONHandler(&logs, nil)} {
			slog.New(handler).Info("m", "secret", s, "holder", h, "any", []any{s})
		}
		out.Write(logs.Bytes())

		text := out.String()
		for _, form := range []string{value, fmt.Sprintf("%x", value), fmt.Sprintf("%X", value), fmt.Sprintf("% x", value), fmt.Sprintf("%d", []byte(value))} {
			if strings.Contains(text, form) {
				t.Fatalf("a rendering shows the value as %q", form)
			}
		}
		if !strings.Contains(text, check.Mask) {
			t.Fatal("no rendering shows the mask")
		}
	})
}

func TestEqualAndIsSet(t *testing.T) {
	var unset check.Secret
	empty, a, b := check.NewSecret(""), check.NewSecret("a"), check.NewSecret("b")
	for _, c := range []struct {
		name string
		x, y check.Secret
		want bool
	}{
		{"unset and unset", unset, check.Secret{}, true},
		{"unset and empty", unset, empty, false},
		{"empty and empty", empty, check.NewSecret(""), true},
		{"same value", a, check.NewSecret("a"), true},
		{"other value", a, b, false},
		{"prefix", a, check.NewSecret("aa"), false},
	} {
		if got := c.x.Equal(c.y); got != c.want {
			t.Errorf("%s: Equal = %v, want %v", c.name, got, c.want)
		}
		if got := c.y.Equal(c.x); got != c.want {
			t.Errorf("%s, swapped: Equal = %v, want %v", c.name, got, c.want)
		}
	}
	if unset.IsSet() || !empty.IsSet() {
		t.Error("IsSet: the zero value is not set, an empty secret is")
	}
	if unset.Reveal() != "" || a.Reveal() != "a" {
		t.Error("Reveal must return the value, or nothing where none is set")
	}
	if unset.String() != "" || empty.String() != check.Mask {
		t.Error("String: nothing for the zero value, the mask for all others")
	}
}
