// Package ansible is what the module proxmox_openid_realm of the Ansible collection (deploy/ansible) talks to: one request
// as JSON in, one answer as JSON out. The module keeps to what Ansible wants of modules; all that concerns realms is
// here, over the same fleet as every other way of running.
package ansible

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"proxmox-realm/internal/check"

	"proxmox-realm/internal/fleet"
)

// Protocol is the version of requests and answers. The module sends its own, and both sides refuse another: what one
// of them does not know must not be lost in silence.
const Protocol = 1

// waitLock is how long a task waits for another one on the same realm: Ansible runs a task for several hosts at once,
// and all of them may be delegated to this one.
const waitLock = time.Minute

// Program is what a run takes from the program around it.
type Program struct {
	Env       []string     // as os.Environ returns it; PROXMOX_* is not looked at: the arguments say everything
	UserAgent string       // how the program calls itself towards Proxmox and issuers
	Log       *slog.Logger // never to out
}

// Run reads one request, does what it asks for and writes one answer, in one write: also where something went wrong,
// what the caller gets is a whole JSON object. It returns an error only where the answer could not be written.
func Run(ctx context.Context, in io.Reader, out io.Writer, p Program) error {
	content, err := encode(p.serve(ctx, in))
	if err != nil {
		return err
	}
	if _, err := out.Write(content); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

// encode writes an answer on one line. Addresses hold &, which stays what it is.
func encode(a answer) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(a); err != nil {
		return nil, fmt.Errorf("encoding the answer: %w", err)
	}
	return out.Bytes(), nil
}

// serve does one task.
func (p Program) serve(ctx context.Context, in io.Reader) answer {
	data, err := read(ctx, in)
	if err != nil {
		return failed("", err)
	}
	r, err := parse(data)
	if err != nil {
		return failed("", err)
	}
	t, err := r.task(ctx, unprefixed(p.Env))
	if err != nil {
		return failed(r.arguments.text("realm"), err)
	}
	f := fleet.New(t.config, p.UserAgent, p.Log)
	return t.answer(t.work(f)(ctx, fleet.Options{Options: t.options, WaitLock: waitLock}))
}

// work is the way of running that a task asks for.
func (t task) work(f *fleet.Fleet) func(context.Context, fleet.Options) fleet.Run {
	switch {
	case t.absent && t.check:
		return f.PlanDelete
	case t.absent:
		return f.Delete
	case t.check:
		return f.Plan
	}
	return f.Apply
}

// unprefixed leaves out the variables that the module's fallbacks read, and those of other ways of running.
func unprefixed(env []string) []string {
	var left []string
	for _, variable := range env {
		if !strings.HasPrefix(variable, "PROXMOX_") {
			left = append(left, variable)
		}
	}
	return left
}

// read returns the request, unless the run ends first.
func read(ctx context.Context, in io.Reader) ([]byte, error) {
	type outcome struct {
		data []byte
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		data, err := io.ReadAll(io.LimitReader(in, maxRequest+1))
		done <- outcome{data, err}
	}()
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case got := <-done:
		switch {
		case got.err != nil:
			return nil, check.Errorf(check.Usage, "the request cannot be read: %v", got.err).Because(got.err)
		case len(got.data) > maxRequest:
			return nil, malformed("it is larger than %d KiB", maxRequest>>10)
		}
		return got.data, nil
	}
}
