package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/report"
)

const (
	notifyTimeout = time.Minute
	notifyOutput  = 4 << 10 // bytes of the command's output that are kept
)

// Notify runs notify.command, without a shell, with the JSON report of the run on its standard input. The command gets the
// environment without this program's variables and credentials. If the command fails, the error holds its output. Without notify.command, Notify does nothing.
func Notify(ctx context.Context, c *config.Config, run fleet.Run, by report.By) error {
	argv := c.Notify.Command
	if len(argv) == 0 {
		return nil
	}
	var body bytes.Buffer
	if err := report.JSON(&body, run, by); err != nil {
		return err
	}
	// The end of the agent does not interrupt the command, because the message may be about the last run.
	timed, cancel := context.WithTimeout(context.WithoutCancel(ctx), notifyTimeout)
	defer cancel()
	output := &config.Head{Limit: notifyOutput}
	cmd := config.CommandContext(timed, argv)
	cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool {
		return strings.HasPrefix(v, "PROXMOX_") || strings.HasPrefix(v, "CREDENTIALS_DIRECTORY=") // tokens of other tools, and our files
	})
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &body, output, output
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay): // only a child still runs
		return nil
	case timed.Err() != nil:
		err = fmt.Errorf("did not end within %s", notifyTimeout)
	case errors.As(err, &exit):
		err = errors.New(exit.String())
	}
	text := fmt.Sprintf("%s: %v", filepath.Base(argv[0]), err)
	if output.Len() > 0 {
		text += ": " + output.String()
	}
	return errors.New((*check.Cleaner)(nil).Clean(text))
}
