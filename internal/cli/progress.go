package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

// run loads the configuration, runs a command on its targets and shows the result. drift tells that drift has an exit code.
func (a *app) run(
	cmd *cobra.Command, doing, metrics string, o fleet.Options, drift bool, command func(*fleet.Fleet, context.Context, fleet.Options) fleet.Run,
) error {
	c, err := a.connectable(cmd, false)
	if err != nil {
		a.writeMetrics(cmd, metrics, fleet.Run{Command: a.command, Outcome: reconcile.Failed, Err: err})
		return err
	}
	o.Quiet = a.quiet
	run, err := a.watched(cmd, c, doing, metrics, o, command)
	if err != nil {
		return err
	}
	return a.finish(run, drift)
}

// watched runs a command on the targets of a configuration and writes its metrics if there is a file for them. Meanwhile it
// prints each target's line if the output is jsonl, and on a terminal how far the run is.
func (a *app) watched(
	cmd *cobra.Command, c *config.Config, doing, metrics string, o fleet.Options,
	command func(*fleet.Fleet, context.Context, fleet.Options) fleet.Run,
) (run fleet.Run, err error) {
	p := &progress{out: a.stderr, total: len(c.Targets), running: map[string]time.Time{}}
	width, onTerminal := terminal(a.stderr)
	stop := func() {}
	switch {
	case o.Wait > 0:
	case onTerminal && !a.quiet && p.total > 1 && os.Getenv("TERM") != "dumb":
		p.width, a.stderr, o.Progress = width, p, p.note
		stop = p.show()
	default:
		stop = a.working(doing)
	}
	var targets []reconcile.Result
	if a.output == "jsonl" && !a.quiet && p.total > 1 { // a quiet run decides at its end what is news
		o.Each = func(r reconcile.Result) {
			if err == nil {
				p.clear()
				err = report.JSONTarget(a.stdout, r)
			}
			if metrics != "" {
				targets = append(targets, r)
			}
		}
	}
	run = command(a.fleet(c), cmd.Context(), o)
	stop()
	a.stderr = p.out
	whole := run
	if o.Each != nil {
		whole.Targets = targets
	}
	a.writeMetrics(cmd, metrics, whole)
	if err != nil && !errors.Is(err, syscall.EPIPE) {
		return run, unwritten(err)
	}
	return run, nil
}

// progress shows on a terminal how far a run over many targets is, in one line that it rewrites. What others write to the
// terminal meanwhile goes through it, so that the line does not mix with theirs.
type progress struct {
	out   io.Writer
	width int
	total int

	mu            sync.Mutex
	running       map[string]time.Time // when each target began
	done, failing int
	drawn         bool
}

const (
	firstDraw = time.Second
	drawEvery = 500 * time.Millisecond
)

// note takes in that a target began, or how it ended.
func (p *progress) note(target string, ended reconcile.Outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ended == "" {
		p.running[target] = time.Now()
		return
	}
	delete(p.running, target)
	p.done++
	if !report.Settled(ended) && ended != reconcile.Drift {
		p.failing++
	}
}

// show draws the line from time to time, until the returned function is called.
func (p *progress) show() (stop func()) {
	ended, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		for wait := firstDraw; ; wait = drawEvery {
			select {
			case <-ended:
				p.clear()
				return
			case <-time.After(wait):
				p.draw()
			}
		}
	}()
	return func() { close(ended); <-gone }
}

func (p *progress) draw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := fmt.Sprintf("%d of %d targets done, %d failing", p.done, p.total, p.failing)
	slowest := slices.MinFunc(append(slices.Collect(maps.Keys(p.running)), ""), func(a, b string) int {
		return p.began(a).Compare(p.began(b))
	})
	if waited := time.Since(p.began(slowest)); waited >= time.Second {
		line += fmt.Sprintf("; slowest now: %s, %s", slowest, waited.Round(time.Second))
	}
	if p.width > 0 {
		line = line[:min(len(line), p.width-1)]
	}
	_, _ = fmt.Fprintf(p.out, "\r\x1b[K%s", line)
	p.drawn = true
}

// began is now for a target that does not run.
func (p *progress) began(target string) time.Time {
	if at, ok := p.running[target]; ok {
		return at
	}
	return time.Now()
}

func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
}

func (p *progress) erase() {
	if p.drawn {
		_, _ = io.WriteString(p.out, "\r\x1b[K")
		p.drawn = false
	}
}

// Write implements io.Writer.
func (p *progress) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	return p.out.Write(text)
}
