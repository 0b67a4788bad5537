package fault_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"proxmox-realm/internal/fault"
)

func TestErrorIsFoundByKindAndCause(t *testing.T) {
	base := fault.New(fault.Held, "%s is held", "update")
	full := base.WithHint("restart %s", "Authelia").Because(io.ErrUnexpectedEOF)
	if base.Hint != "" || base.Err != nil {
		t.Error("WithHint and Because change a copy")
	}
	if full.Error() != "update is held" || full.Hint != "restart Authelia" {
		t.Errorf("%+v", full)
	}
	wrapped := fmt.Errorf("target berlin: %w", full)
	if !errors.Is(wrapped, io.ErrUnexpectedEOF) {
		t.Error("the cause is not found")
	}
	if !errors.Is(wrapped, &fault.Error{Code: fault.Held}) || errors.Is(wrapped, &fault.Error{Code: fault.Locked}) {
		t.Error("a kind is asked for by its code")
	}
	if errors.Is(wrapped, &fault.Error{Code: fault.Held, Message: "another"}) {
		t.Error("another fault of the same code is not the same")
	}
	if !errors.Is(wrapped, full) {
		t.Error("a fault is itself")
	}
}

func TestCodeOf(t *testing.T) {
	inner := fault.New(fault.Unreachable, "x")
	for _, tt := range []struct {
		err  error
		want fault.Code
	}{
		{io.EOF, fault.Internal},
		{nil, fault.Internal},
		{inner, fault.Unreachable},
		{fmt.Errorf("a: %w", inner), fault.Unreachable},
		{fault.New(fault.Held, "y").Because(inner), fault.Held},
		{errors.Join(io.EOF, inner, fault.New(fault.Held, "y")), fault.Unreachable},
	} {
		if got := fault.CodeOf(tt.err); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.err, got, tt.want)
		}
	}
}

func TestDescribeIsPrintable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		err := fmt.Errorf("%s: %w", rapid.String().Draw(t, "outer"), fault.New(fault.Internal, "%s", rapid.String().Draw(t, "message")).WithHint("%s", rapid.String().Draw(t, "hint")))
		got := fault.Describe(err)
		for _, text := range []string{got.Message, got.Hint} {
			if strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) }) {
				t.Fatalf("%q", text)
			}
		}
	})
}
