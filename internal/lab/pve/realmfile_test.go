package pve

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// TestSpliceIsRewrite: replacing only the sections that an edit changes comes to the same as writing and reading the
// whole file, as a node does.
func TestSpliceIsRewrite(t *testing.T) {
	v := parseVersion(DefaultVersion)
	schema := newRealmSchema(v)
	rapid.Check(t, func(t *rapid.T) {
		quick, slow := newRealmFile(schema, v), newRealmFile(schema, v)
		for range rapid.IntRange(1, 12).Draw(t, "edits") {
			name := rapid.SampledFrom([]string{"pam", "one", "two", "three", "two\n"}).Draw(t, "name")
			key := rapid.SampledFrom([]string{"comment", "client-key", "default", "client-id", "scopes"}).Draw(t, "key")
			value := rapid.SampledFrom([]string{"", "1", " spaced  out ", "clé", "ключ", "100%41", "a: b"}).Draw(t, "value")
			remove := rapid.IntRange(0, 4).Draw(t, "remove") == 0
			change := func(e *edit) error {
				sec := e.find(name)
				switch {
				case remove:
					e.remove(name)
					return nil
				case sec == nil:
					sec = newSection("openid")
					sec.props = map[string]string{"issuer-url": "https://a", "client-id": "b"}
				}
				if sec.kind == "openid" || key == "comment" {
					sec.props[key] = value
				}
				e.put(name, sec)
				return nil
			}
			before := slow.text()
			errQuick, errSlow := quick.change(change), error(nil)
			func() {
				slow.mu.Lock()
				defer slow.mu.Unlock()
				e := &edit{file: slow, changed: map[string]*section{}}
				if errSlow = change(e); errSlow == nil {
					errSlow = slow.rewrite(e)
				}
			}()
			if fmt.Sprint(errQuick) != fmt.Sprint(errSlow) {
				t.Fatalf("error %v, want %v", errQuick, errSlow)
			}
			if quick.text() != slow.text() {
				t.Fatalf("of %q became %q, want %q", before, quick.text(), slow.text())
			}
			sum := sha1.Sum([]byte(slow.text()))
			if want := hex.EncodeToString(sum[:]); quick.digest() != want || slow.digest() != want {
				t.Fatalf("digests %s and %s, want %s", quick.digest(), slow.digest(), want)
			}
			a, b := quick.all(), slow.all()
			if !reflect.DeepEqual(a.order, b.order) {
				t.Fatalf("order %q, want %q", a.order, b.order)
			}
			for _, n := range a.order {
				if !reflect.DeepEqual(a.by[n].props, b.by[n].props) || a.by[n].kind != b.by[n].kind {
					t.Fatalf("%q is %v, want %v", n, a.by[n].props, b.by[n].props)
				}
			}
		}
	})
}
