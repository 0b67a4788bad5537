package authelia_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"proxmox-realm/internal/authelia"
	"proxmox-realm/internal/check"
	"proxmox-realm/internal/report"
)

// shapes returns files of Authelia's configuration in many shapes, by name.
func shapes(t testing.TB) []txtar.File {
	archive, err := txtar.ParseFile("testdata/files.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if len(archive.Files) < 60 {
		t.Fatalf("%d files", len(archive.Files))
	}
	return archive.Files
}

const otherDigest = "$pbkdf2-sha512$310000$bmV3c2FsdG5ld3NhbHQ$bmV3ZGlnZXN0bmV3ZGlnZXN0bmV3ZGlnZXN0bmV3ZGlnZXN0bmV3ZGlnZXN0bmV3ZGlnZXN0bmV3ZGlnZXN0MQ"

func withLogin() authelia.Options {
	return authelia.Options{Client: proxmox(), Digest: knownDigest, WithLogin: true}
}

// compared writes what a file shows, as people read it.
func compared(t testing.TB, o authelia.Options, files ...authelia.File) string {
	c, err := authelia.Compare(o, files...)
	if err != nil {
		return fmt.Sprintf("error: %v\n%s\n", err, check.HintOf(err).For(check.Names{}))
	}
	var out bytes.Buffer
	if err := authelia.Text(&out, c, report.Style{}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// edited writes what an edit does: the difference, or why it is refused.
func edited(t testing.TB, before, after []byte, err error) string {
	var refused *authelia.Refusal
	switch {
	case errors.As(err, &refused):
		return "refused: " + refused.Error() + "\n"
	case err != nil:
		t.Errorf("%v is no refusal", err)
	case bytes.Equal(before, after):
		return "no change\n"
	}
	return authelia.Diff("file", before, after)
}

// What a file shows, and what becomes of it, stands in a golden file. It was compared with what Authelia 4.39.20 says.
func TestShapes(t *testing.T) {
	var out strings.Builder
	for _, f := range shapes(t) {
		fmt.Fprintf(&out, "== %s\n%s", f.Name, compared(t, withLogin(), authelia.File{Name: f.Name, Data: f.Data}))
		after, err := authelia.Append(f.Data, withLogin())
		fmt.Fprintf(&out, "-- append: %s", edited(t, f.Data, after, err))
		after, err = authelia.ReplaceSecret(f.Data, "proxmox", otherDigest)
		fmt.Fprintf(&out, "-- replace: %s", edited(t, f.Data, after, err))
	}
	got := out.String()
	if strings.Contains(got, "nobody") || strings.Contains(got, knownKey) || strings.ContainsAny(got, "\x1b\u202e\ue000") {
		t.Error("a secret or a control character is shown")
	}
	const file = "testdata/files.golden"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s", firstDifference(got, string(want)))
	}
}

func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d: got\n%s\nwant\n%s", i+1, a[i], b[i])
		}
	}
	return fmt.Sprintf("%d lines, not %d", len(a), len(b))
}

// Line ends and a missing last line feed change neither what a file shows nor where it is edited.
func TestShapesWithOtherLineEnds(t *testing.T) {
	windows := func(data []byte) []byte { return bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n")) }
	for _, f := range shapes(t) {
		lines := windows(f.Data)
		if got, want := compared(t, withLogin(), authelia.File{Name: "f", Data: lines}), compared(t, withLogin(), authelia.File{Name: "f", Data: f.Data}); got != want {
			t.Errorf("%s with CRLF: %s", f.Name, firstDifference(got, want))
		}
		after, err := authelia.Append(f.Data, withLogin())
		crlf, errCRLF := authelia.Append(lines, withLogin())
		if fmt.Sprint(err) != fmt.Sprint(errCRLF) || err == nil && !bytes.Equal(windows(after), crlf) {
			t.Errorf("%s with CRLF: %v\n%q", f.Name, errCRLF, crlf)
		}
		open, errOpen := authelia.Append(bytes.TrimSuffix(f.Data, []byte("\n")), withLogin())
		if fmt.Sprint(err) != fmt.Sprint(errOpen) || err == nil && string(bytes.TrimSuffix(after, []byte("\n"))) != string(bytes.TrimSuffix(open, []byte("\n"))) {
			t.Errorf("%s without the last line feed: %v\n%s", f.Name, errOpen, open)
		}
	}
}

// A client that was added is there: it does not differ, and nothing is added again.
func TestAppendedClientIsThere(t *testing.T) {
	added := 0
	for _, f := range shapes(t) {
		after, err := authelia.Append(f.Data, withLogin())
		if err != nil || bytes.Equal(f.Data, after) {
			continue
		}
		added++
		c, err := authelia.Compare(withLogin(), authelia.File{Name: f.Name, Data: after})
		if err != nil || len(c.Differences)+len(c.Unseen) > 0 {
			t.Errorf("%s: %v %+v", f.Name, err, c)
		}
		again, err := authelia.Append(after, withLogin())
		if err != nil || !bytes.Equal(after, again) {
			t.Errorf("%s: %v", f.Name, err)
		}
		replaced, err := authelia.ReplaceSecret(after, "proxmox", otherDigest)
		if err != nil || !bytes.Contains(replaced, []byte("'"+otherDigest+"'")) {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
	if added < 5 {
		t.Errorf("the client was added to %d files", added)
	}
}
