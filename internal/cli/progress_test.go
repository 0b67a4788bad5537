package cli

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"proxmox-realm/internal/reconcile"
)

// The line says how many targets are done and failing and which takes longest. It is erased before anything else is
// written and at the end.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := &progress{out: &out, width: 60, total: 1000, running: map[string]time.Time{}}
		stop := p.show()
		p.note("berlin", "")
		time.Sleep(200 * time.Millisecond)
		for _, ended := range []reconcile.Outcome{reconcile.Unchanged, reconcile.Failed, reconcile.Drift, reconcile.Held} {
			p.note("paris", "")
			p.note("paris", ended)
		}
		p.note("rome", "")
		time.Sleep(3 * time.Second)
		synctest.Wait()
		const line = "4 of 1000 targets done, 2 failing; slowest now: berlin, 3s"
		if drawn := out.String(); !strings.HasSuffix(drawn, "\r\x1b[K"+line) || strings.Contains(drawn, "\n") {
			t.Errorf("draws %q", drawn)
		}
		p.note("berlin", reconcile.Changed)
		out.Reset()
		if _, err := io.WriteString(p, "level=WARN\n"); err != nil || out.String() != "\r\x1b[Klevel=WARN\n" {
			t.Errorf("between two lines: %q, %v", out.String(), err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if drawn := out.String(); !strings.HasSuffix(drawn, "5 of 1000 targets done, 2 failing; slowest now: rome, 4s") {
			t.Errorf("draws %q", drawn)
		}
		out.Reset()
		stop()
		if out.String() != "\r\x1b[K" {
			t.Errorf("at the end: %q", out.String())
		}
		out.Reset()
		p.width = 20
		p.draw()
		if out.String() != "\r\x1b[K5 of 1000 targets d" {
			t.Errorf("on a narrow terminal: %q", out.String())
		}
	})
}
