package fault_test

import (
	"errors"
	"fmt"
	"testing"

	"proxmox-realm/internal/fault"
)

func TestDescribe(t *testing.T) {
	denied := fault.New(fault.PermissionDenied, "the privilege is missing").WithHint("run pveum")
	unknown := fault.New(fault.Config, "line 3: unknown key").WithHint("did you mean realm")
	for _, tt := range []struct {
		name string
		err  error
		want fault.Error
	}{
		{"a fault", denied, fault.Error{Code: fault.PermissionDenied, Message: "the privilege is missing", Hint: "run pveum"}},
		{
			"with what was being done", fmt.Errorf("read realm: %w", denied),
			fault.Error{Code: fault.PermissionDenied, Message: "read realm: the privilege is missing", Hint: "run pveum"},
		},
		{
			"the cause's text is not shown", denied.Because(errors.New("secret details")),
			fault.Error{Code: fault.PermissionDenied, Message: "the privilege is missing", Hint: "run pveum"},
		},
		{
			"the cause's hint counts where there is no other", fault.New(fault.Held, "held").Because(denied),
			fault.Error{Code: fault.Held, Message: "held", Hint: "run pveum"},
		},
		{
			"the outermost hint wins", fault.New(fault.Held, "held").WithHint("wait").Because(denied),
			fault.Error{Code: fault.Held, Message: "held", Hint: "wait"},
		},
		{
			"joined", errors.Join(unknown, denied, unknown),
			fault.Error{Code: fault.Config, Message: "line 3: unknown key\nthe privilege is missing\nline 3: unknown key", Hint: "did you mean realm\nrun pveum"},
		},
		{
			"two wrapped", fmt.Errorf("%w, then %w", unknown, denied),
			fault.Error{Code: fault.Config, Message: "line 3: unknown key, then the privilege is missing", Hint: "did you mean realm\nrun pveum"},
		},
		{"no fault", errors.New("disk full"), fault.Error{Code: fault.Internal, Message: "disk full"}},
		{"what steers a terminal", errors.New("a\x1b[31m\tb\u202e\r\u009b\xff"), fault.Error{Code: fault.Internal, Message: "a[31m b\uFFFD"}},
	} {
		got := fault.Describe(tt.err)
		if got.Code != tt.want.Code || got.Message != tt.want.Message || got.Hint != tt.want.Hint {
			t.Errorf("%s: %q %q %q, want %q %q %q", tt.name, got.Code, got.Message, got.Hint, tt.want.Code, tt.want.Message, tt.want.Hint)
		}
		if !errors.Is(got, tt.err) {
			t.Errorf("%s: the description must still match what it describes", tt.name)
		}
	}
	if fault.Describe(nil) != nil {
		t.Error("nil describes nothing")
	}
}
