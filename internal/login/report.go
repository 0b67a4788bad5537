package login

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"proxmox-realm/internal/report"
)

// Text writes whom Proxmox takes the user for, or where nobody was logged in, the findings that may tell why. The error,
// the warnings and the hint are left to the caller, who shows them on standard error.
func Text(w io.Writer, r Result, style report.Style) error {
	if r.Err != nil || r.User == "" {
		if len(r.Checks) == 0 {
			return nil
		}
		return report.Checks(w, r.Checks, style)
	}
	if style.Quiet {
		return nil
	}
	p := &printer{style: style}
	p.line("%s: %s takes the user for %s", p.paint("32", "the login works"), p.text(r.Endpoint), p.text(r.User))
	switch {
	case r.Created == nil:
		p.line("  created:     cannot be told: whether the user existed before is not visible to these credentials")
	case *r.Created:
		p.line("  created:     just now, by this login")
	default:
		p.line("  created:     no, the user was there before")
	}
	switch {
	case r.Groups == nil:
		p.line("  groups:      not visible to these credentials")
	case len(r.Groups) == 0:
		p.line("  groups:      none")
	default:
		p.list("  groups:      ", r.Groups)
	}
	switch {
	case r.Privileges == nil:
		p.line("  privileges:  not visible")
	case len(r.Privileges) == 0:
		p.line("  privileges:  %s: this user may do nothing", p.paint("33", "none"))
	default:
		p.line("  privileges:")
		p.privileges(r.Privileges)
	}
	_, err := io.WriteString(w, p.String())
	return err
}

type printer struct {
	strings.Builder
	style report.Style
}

// privileges writes a path's privileges, and after it those below with the same ones.
func (p *printer) privileges(byPath map[string][]string) {
	type group struct {
		paths []string
		names []string
	}
	var groups []*group
	for _, path := range slices.Sorted(maps.Keys(byPath)) {
		i := slices.IndexFunc(groups, func(g *group) bool { return slices.Equal(g.names, byPath[path]) })
		if i < 0 {
			groups = append(groups, &group{names: byPath[path]})
			i = len(groups) - 1
		}
		groups[i].paths = append(groups[i].paths, path)
	}
	for _, g := range groups {
		p.list("    ", g.paths)
		p.list("      ", g.names)
	}
}

// list writes words after a head, and what does not fit below them.
func (p *printer) list(head string, words []string) {
	width := p.style.Width
	if width <= 0 {
		width = 100
	}
	line := head
	for i, word := range words {
		word = p.text(word)
		if i < len(words)-1 {
			word += ","
		}
		if line != head && line != strings.Repeat(" ", len(head)) {
			if utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
				p.line("%s", line)
				line = strings.Repeat(" ", len(head))
			} else {
				line += " "
			}
		}
		line += word
	}
	p.line("%s", line)
}

func (p *printer) line(format string, args ...any) { _, _ = fmt.Fprintf(p, format+"\n", args...) }

// text returns what a server said; it was cleaned where it came in.
func (p *printer) text(s string) string {
	if p.style.ASCII {
		return strings.Trim(strconv.QuoteToASCII(s), `"`)
	}
	return s
}

func (p *printer) paint(color, text string) string {
	if !p.style.Color {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// JSON writes the result as one object on one line, in the style of the report of other commands; what is
// not known is null.
func JSON(w io.Writer, r Result) error {
	out := jsonResult{
		Version: report.Version, Command: "login", Outcome: string(r.Outcome()),
		Target: r.Target, Endpoint: r.Endpoint, Realm: r.Realm, Issuer: r.Issuer, RedirectURL: r.RedirectURL,
		Created: r.Created, Groups: r.Groups, Privileges: r.Privileges, Hint: r.Hint,
		Checks: []report.Check{}, Warnings: append([]string{}, r.Warnings...), Duration: r.Duration.Milliseconds(), Error: report.ErrorOf(r.Err),
	}
	if r.User != "" {
		out.User = &r.User
	}
	for _, c := range r.Checks {
		out.Checks = append(out.Checks, report.CheckOf(c))
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(out)
}

type jsonResult struct {
	Version     int                 `json:"version"`
	Command     string              `json:"command"`
	Outcome     string              `json:"outcome"`
	Error       *report.Error       `json:"error"`
	Target      string              `json:"target"`
	Endpoint    string              `json:"endpoint"`
	Realm       string              `json:"realm"`
	Issuer      string              `json:"issuer"`
	RedirectURL string              `json:"redirect_url"`
	User        *string             `json:"user"`
	Created     *bool               `json:"created"`
	Groups      []string            `json:"groups"`
	Privileges  map[string][]string `json:"privileges"`
	Hint        string              `json:"hint"`
	Checks      []report.Check      `json:"checks"`
	Warnings    []string            `json:"warnings"`
	Duration    int64               `json:"duration_ms"`
}
