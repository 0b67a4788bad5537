package cli

import (
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"proxmox-realm/internal/report"
)

// terminal reports whether a stream is a terminal, and its width (0: unknown).
func terminal(stream any) (width int, ok bool) {
	if r, ok := stream.(*reader); ok {
		stream = r.File
	}
	f, isFile := stream.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		width = 0
	}
	return width, true
}

// style fits text to stdout.
func (a *app) style() report.Style {
	width, isTerminal := terminal(a.stdout)
	return report.Style{
		Color:      isTerminal && !a.noColor && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
		ASCII:      !utf8Locale(),
		Width:      width,
		Quiet:      a.quiet,
		Verbose:    a.verbose,
		OmitErrors: true,
		Zone:       time.Local,
		Wording:    a.wording,
	}
}

// utf8Locale reports whether the locale uses UTF-8. POSIX reads LC_ALL, then LC_CTYPE, then LANG. Cron and systemd set
// none of them; readers of mails and journals show UTF-8.
func utf8Locale() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := os.Getenv(name); value != "" {
			upper := strings.ToUpper(value)
			return strings.Contains(upper, "UTF-8") || strings.Contains(upper, "UTF8") || value == "C" || value == "POSIX"
		}
	}
	return true
}

// working tells a person at a terminal what takes more than two seconds. The returned function ends it.
func (a *app) working(what string) (stop func()) {
	if _, ok := terminal(a.stderr); !ok || a.quiet {
		return func() {}
	}
	timer := time.AfterFunc(2*time.Second, func() { a.note("%s …", what) })
	return func() { timer.Stop() }
}
