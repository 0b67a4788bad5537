package cli

import (
	"fmt"
	"time"
)

// When a sign of life appears, and how often it moves.
const (
	patience = time.Second
	frame    = 125 * time.Millisecond
)

// working shows on a terminal that something takes its time, from the first second on, until the returned function is called.
// Where stderr is no terminal it shows nothing.
func (a *app) working(what string) (stop func()) {
	if _, ok := terminal(a.stderr); !ok || a.quiet || a.getenv("TERM") == "dumb" {
		return func() {}
	}
	frames := []rune(`⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏`)
	if !utf8Locale(a.getenv) {
		frames = []rune(`|/-\`)
	}
	quit, stopped := make(chan struct{}), make(chan struct{})
	began := time.Now()
	go func() {
		defer close(stopped)
		select {
		case <-quit:
			return
		case <-time.After(patience):
		}
		ticker := time.NewTicker(frame)
		defer ticker.Stop()
		for i := 0; ; i++ {
			_, _ = fmt.Fprintf(a.stderr, "\r%c %s, %s ", frames[i%len(frames)], what, time.Since(began).Round(time.Second))
			select {
			case <-quit:
				_, _ = fmt.Fprint(a.stderr, "\r\x1b[K")
				return
			case <-ticker.C:
			}
		}
	}()
	return func() {
		close(quit)
		<-stopped
	}
}
