package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"proxmox-realm/internal/check"
)

// Style says how text looks. The zero value is plain UTF-8 for a pipe or a file.
type Style struct {
	Color      bool           // use ANSI colours; each coloured word has its meaning without the colour too
	ASCII      bool           // escape all other characters, for a locale that is not UTF-8
	Width      int            // columns of the terminal, where long lines wrap; 0: they do not wrap
	Quiet      bool           // write nothing if all targets are unchanged
	Verbose    bool           // show every check with its evidence and time, and every target by itself
	Wording    check.Names    // words the hints; the zero value is for readers of a configuration file
	Zone       *time.Location // of this machine; nil: times of nodes are shown in their zones alone
	OmitErrors bool           // leave out the errors and warnings of the run and of a lone target: the caller prints them
}

// color is an SGR parameter (ECMA-48).
type color string

// The colours that are used.
const (
	bold   color = "1"
	dim    color = "2"
	red    color = "31"
	green  color = "32"
	yellow color = "33"
)

// printer builds text for people. Text from elsewhere goes through clean before it is written.
type printer struct {
	Style
	out strings.Builder
}

// writeTo writes the text that was built.
func (p *printer) writeTo(w io.Writer) error {
	_, err := io.WriteString(w, p.out.String())
	return err
}

// line writes one line.
func (p *printer) line(indent int, text string) {
	p.out.WriteString(strings.Repeat(" ", indent) + strings.TrimRight(text, " ") + "\n")
}

// wrap writes text after a head that is so many columns wide, and continues it below itself. It breaks no words, so that
// addresses can be copied.
func (p *printer) wrap(indent int, head string, columns int, text string) {
	room := p.Width - indent - columns
	if p.Width <= 0 || room < 20 { // the terminal wraps better than a narrow column
		p.line(indent, head+text)
		return
	}
	line, length := head, 0
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		if length > 0 && length+1+n > room {
			p.line(indent, line)
			line, length = strings.Repeat(" ", columns), 0
		}
		if length > 0 {
			line, length = line+" ", length+1
		}
		line, length = line+word, length+n
	}
	p.line(indent, line)
}

// paint colours text, which the caller has cleaned.
func (p *printer) paint(c color, text string) string {
	if !p.Color || c == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// clean puts text on one line, removes what could steer the terminal, and escapes what the locale cannot show.
func (p *printer) clean(text string) string {
	text = oneLine(text)
	if !p.ASCII {
		return text
	}
	var out strings.Builder
	for _, r := range strings.ReplaceAll(text, "…", "...") {
		if r < utf8.RuneSelf {
			out.WriteRune(r)
			continue
		}
		out.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
	}
	return out.String()
}

// labelled writes each line of text after the label, so that joined errors read as several.
func (p *printer) labelled(indent int, label, text string) {
	for line := range strings.Lines(text) {
		p.line(indent, label+" "+p.clean(line))
	}
}

func (p *printer) fault(indent int, err error) {
	p.labelled(indent, p.paint(red, "error:"), check.MessageOf(err))
	p.hint(indent, p.hintLabel(), check.HintOf(err))
}

// hint writes a hint: the commands in it without a label, indented, so that they can be copied. No line is wrapped.
func (p *printer) hint(indent int, label string, hint check.Hint) {
	for line := range strings.Lines(hint.For(p.Wording)) {
		if strings.HasPrefix(line, check.Command) {
			p.line(indent+len(check.Command), p.clean(line))
			continue
		}
		p.line(indent, label+p.clean(line))
	}
}

// hintLabel stands before each line of a hint, except where a whole block is about what to do.
func (p *printer) hintLabel() string { return p.paint(dim, "hint:") + " " }

func (p *printer) checks(indent int, checks []check.Check) {
	width := 0
	for _, c := range checks {
		width = max(width, len(c.ID))
	}
	for _, c := range checks {
		status := p.paint(statusColor[c.Status], fmt.Sprintf("%-4s", c.Status))
		head := fmt.Sprintf("%s  %-*s  ", status, width, c.ID)
		text := p.clean(c.Summary)
		if p.Verbose && c.Duration > 0 {
			text += fmt.Sprintf(" (%d ms)", c.Duration.Milliseconds())
		}
		p.wrap(indent, head, 4+2+width+2, text)
		if !p.Verbose && c.Status != check.Fail && c.Status != check.Warn {
			continue
		}
		if c.Evidence != "" {
			p.wrap(indent+6, p.paint(dim, "evidence:")+" ", len("evidence: "), p.clean(c.Evidence))
		}
		p.hint(indent+6, p.hintLabel(), c.Hint)
	}
}

var statusColor = map[check.Status]color{check.Pass: green, check.Warn: yellow, check.Fail: red, check.Skip: dim}

// oneLine puts printable text on one line.
func oneLine(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		return r
	}, check.Printable(text)))
}
