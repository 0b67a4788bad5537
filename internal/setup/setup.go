// Package setup leads from nothing to a realm that works. It looks at what is there and returns what is missing as a list of
// steps. Whoever asks people shows the list, and then makes it. Nothing here asks anybody.
//
// A setup can be interrupted between any two steps: the next one looks again and goes on.
package setup

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"proxmox-realm/internal/check"
)

// Step is one thing that is missing.
type Step struct {
	Sign string   // ~ changes what is there, - removes it; "" is +
	What string   // such as "role RealmAdmin"
	Note string   // what it is for, or what it may do; may be ""
	Here bool     // it is a file on this machine; otherwise it is in Proxmox
	Undo []string // the commands that remove it, in reverse; none if it goes with something else
	// Make makes it. It is no error if somebody else made the same in the meantime.
	Make func(context.Context) error
}

// Make makes what is missing, in order. It stops before the next step once ctx ends; a step that has begun ends first, so that no
// secret is lost. Place keeps how each is undone. made hears of each step.
func Make(ctx context.Context, p Place, steps []Step, made func(Step)) error {
	for _, step := range steps {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := step.Make(context.WithoutCancel(ctx)); err != nil {
			if step.Here { // the error names the file
				return err
			}
			return fmt.Errorf("%s: %w", step.What, err)
		}
		if err := p.Note(step.Undo...); err != nil {
			return err
		}
		made(step)
	}
	return nil
}

// Lines lists steps, one a line, behind their signs.
func Lines(steps []Step) string {
	width := 0
	for _, s := range steps {
		width = max(width, len(s.What))
	}
	var out strings.Builder
	for _, s := range steps {
		line := fmt.Sprintf("  %s %-*s  %s", cmp.Or(s.Sign, "+"), width, s.What, s.Note)
		out.WriteString(check.Printable(strings.TrimRight(line, " ")) + "\n")
	}
	return out.String()
}
