package cli

import (
	"errors"
	"os"
	"strings"
	"syscall"

	"proxmox-realm/internal/check"

	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/report"
)

// style fits text to the terminal that stdout may be.
func (a *app) style() report.Style {
	width, isTerminal := terminal(a.stdout)
	return report.Style{
		Color:   isTerminal && !a.noColor && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb",
		ASCII:   !utf8Locale(a.getenv),
		Width:   width,
		Quiet:   a.quiet,
		Verbose: a.verbose,
		Aside:   true,
	}
}

// utf8Locale tells whether the locale's characters are UTF-8 (POSIX: LC_ALL, then LC_CTYPE, then LANG); where none is
// set, as under cron and systemd, UTF-8 is assumed, which every mail and journal reader shows today.
func utf8Locale(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := getenv(name); value != "" {
			upper := strings.ToUpper(value)
			return strings.Contains(upper, "UTF-8") || strings.Contains(upper, "UTF8") || value == "C" || value == "POSIX"
		}
	}
	return true
}

// finish shows a run and returns what the command ends with: the result on stdout, errors and warnings of the run
// or its only target on stderr, those of several targets beside each.
func (a *app) finish(run fleet.Run, drift bool) error {
	if err := render(a.stdout, a.output, run, a.style()); err != nil && !errors.Is(err, syscall.EPIPE) { // a reader that had enough
		return unwritten(err)
	}
	if len(run.Targets) == 1 {
		for _, w := range run.Targets[0].Warnings {
			a.warning(w)
		}
		if err := run.Targets[0].Err; err != nil {
			a.sayError(err)
		}
	}
	if run.Err != nil {
		a.sayError(run.Err)
	}
	return done(runCode(run, drift))
}

// unwritten is the error of a result that could not be shown. What was done is done all the same.
func unwritten(err error) error {
	return check.Errorf(check.Internal, "the result could not be written to standard output: %v", err).Because(err)
}

// create makes a file that must not exist, readable by its owner alone. One that cannot be written whole is removed.
func create(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		_ = os.Remove(path)
	}
	return err
}
