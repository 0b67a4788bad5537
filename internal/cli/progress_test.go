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
		locked := func(do func()) { p.mu.Lock(); defer p.mu.Unlock(); do() }
		text := func() (text string) { locked(func() { text = out.String() }); return text }
		reset := func() { locked(out.Reset) }
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
		if drawn := text(); !strings.HasSuffix(drawn, "\r\x1b[K"+line) || strings.Contains(drawn, "\n") {
			t.Errorf("draws %q", drawn)
		}
		p.note("berlin", reconcile.Changed)
		reset()
		if _, err := io.WriteString(p, "level=WARN\n"); err != nil || text() != "\r\x1b[Klevel=WARN\n" {
			t.Errorf("between two lines: %q, %v", text(), err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if drawn := text(); !strings.HasSuffix(drawn, "5 of 1000 targets done, 2 failing; slowest now: rome, 4s") {
			t.Errorf("draws %q", drawn)
		}
		reset()
		stop()
		if text() != "\r\x1b[K" {
			t.Errorf("at the end: %q", text())
		}
		reset()
		p.width = 20
		p.draw()
		if text() != "\r\x1b[K5 of 1000 targets d" {
			t.Errorf("on a narrow terminal: %q", text())
		}
	})
}
