package check_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"proxmox-realm/internal/check"
)

func TestErrorIsFoundByItsCause(t *testing.T) {
	base := check.Errorf(check.Held, "%s is held", "update")
	full := base.Try(check.Hintf("restart %s", "Authelia")).At("realm.client_key").Because(io.ErrUnexpectedEOF)
	if base.Hint != "" || base.Err != nil || base.Key != "" {
		t.Error("Try, At and Because change a copy")
	}
	if full.Error() != "realm.client_key: update is held" || full.Hint.For(check.Names{}) != "restart Authelia" {
		t.Errorf("%+v", full)
	}
	if wrapped := fmt.Errorf("target berlin: %w", full); !errors.Is(wrapped, io.ErrUnexpectedEOF) || !errors.Is(wrapped, full) {
		t.Error("the cause is not found")
	}
}

func TestCodeOf(t *testing.T) {
	inner := check.Errorf(check.Unreachable, "x")
	for _, tt := range []struct {
		err  error
		want check.Code
	}{
		{io.EOF, check.Internal},
		{nil, ""},
		{inner, check.Unreachable},
		{fmt.Errorf("a: %w", inner), check.Unreachable},
		{check.Errorf(check.Held, "y").Because(inner), check.Held},
		{errors.Join(io.EOF, inner, check.Errorf(check.Held, "y")), check.Unreachable},
	} {
		if got := check.CodeOf(tt.err); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.err, got, tt.want)
		}
	}
}

func TestShownTextIsPrintable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		err := fmt.Errorf("%s: %w", rapid.String().Draw(t, "outer"), check.Errorf(check.Internal, "%s", rapid.String().Draw(t, "message")).Try(check.Hintf("%s", rapid.String().Draw(t, "hint"))))
		for _, text := range []string{check.MessageOf(err), check.HintOf(err).For(check.Names{})} {
			if strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) }) {
				t.Fatalf("%q", text)
			}
		}
	})
}
