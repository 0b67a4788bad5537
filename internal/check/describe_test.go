package check_test

import (
	"errors"
	"fmt"
	"testing"

	"proxmox-realm/internal/check"
)

func TestDescribe(t *testing.T) {
	denied := check.Errorf(check.PermissionDenied, "the privilege is missing").Try(check.Advise("run pveum"))
	unknown := check.Errorf(check.Config, "line 3: unknown key").Try(check.Advise("did you mean realm"))
	for _, tt := range []struct {
		name string
		err  error
		want check.Error
	}{
		{"a fault", denied, check.Error{Code: check.PermissionDenied, Message: "the privilege is missing", Remedy: check.Remedy{check.Advise("run pveum")}}},
		{
			"with what was being done", fmt.Errorf("read realm: %w", denied),
			check.Error{Code: check.PermissionDenied, Message: "read realm: the privilege is missing", Remedy: check.Remedy{check.Advise("run pveum")}},
		},
		{
			"the cause's text is not shown", denied.Because(errors.New("secret details")),
			check.Error{Code: check.PermissionDenied, Message: "the privilege is missing", Remedy: check.Remedy{check.Advise("run pveum")}},
		},
		{
			"the cause's hint counts where there is no other", check.Errorf(check.Held, "held").Because(denied),
			check.Error{Code: check.Held, Message: "held", Remedy: check.Remedy{check.Advise("run pveum")}},
		},
		{
			"the outermost hint wins", check.Errorf(check.Held, "held").Try(check.Advise("wait")).Because(denied),
			check.Error{Code: check.Held, Message: "held", Remedy: check.Remedy{check.Advise("wait")}},
		},
		{
			"joined", errors.Join(unknown, denied, unknown),
			check.Error{Code: check.Config, Message: "line 3: unknown key\nthe privilege is missing\nline 3: unknown key", Remedy: check.Remedy{check.Advise("did you mean realm\nrun pveum")}},
		},
		{
			"two wrapped", fmt.Errorf("%w, then %w", unknown, denied),
			check.Error{Code: check.Config, Message: "line 3: unknown key, then the privilege is missing", Remedy: check.Remedy{check.Advise("did you mean realm\nrun pveum")}},
		},
		{"no fault", errors.New("disk full"), check.Error{Code: check.Internal, Message: "disk full"}},
		{"what steers a terminal", errors.New("a\x1b[31m\tb\u202e\r\u009b\xff"), check.Error{Code: check.Internal, Message: "a[31m b\uFFFD"}},
	} {
		got := check.Describe(tt.err)
		if got.Code != tt.want.Code || got.Message != tt.want.Message || got.Hint() != tt.want.Remedy.String() {
			t.Errorf("%s: %q %q %q, want %q %q %q", tt.name, got.Code, got.Message, got.Hint(), tt.want.Code, tt.want.Message, tt.want.Remedy)
		}
	}
	if check.Describe(nil).Code != "" {
		t.Error("nil describes nothing")
	}
}
