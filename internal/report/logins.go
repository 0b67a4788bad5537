package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/reconcile"
)

// Logins writes the logins of a target as they become known. The name of the target stands before them, unless it is "".
func Logins(w io.Writer, name string, t reconcile.Result, style Style) error {
	p := &printer{Style: style}
	indent := 0
	if name != "" && len(t.Diagnosis.Logins) > 0 {
		p.line(0, p.paint(bold, p.clean(name+":")))
		indent = 2
	}
	p.logins(indent, t.Diagnosis)
	return p.writeTo(w)
}

// logins writes what logs tell: each cause below the logins that have it, which may be of several nodes.
func (p *printer) logins(indent int, d *reconcile.Diagnosis) {
	done := make([]bool, len(d.Logins))
	for i, e := range d.Logins {
		if done[i] {
			continue
		}
		for k := i; k < len(d.Logins); k++ {
			if other := d.Logins[k]; k == i || !done[k] && alike(e, other) {
				done[k] = true
				p.line(indent, p.head(other))
			}
		}
		p.cause(indent+2, e)
	}
}

// alike tells whether two entries differ in nothing but node and time.
func alike(a, b diagnose.Entry) bool {
	return a.Outcome == b.Outcome && a.Cause == b.Cause && a.User == b.User && a.Text == b.Text && a.Summary == b.Summary && a.Hint == b.Hint &&
		a.Works.IsZero() && b.Works.IsZero() && slices.Equal(a.Groups, b.Groups) && slices.Equal(a.Refused, b.Refused)
}

// head says when, where and how often.
func (p *printer) head(e diagnose.Entry) string {
	words := []string{p.paint(bold, p.clean(e.Node)), p.at(e.Time)}
	switch len(e.Addresses) {
	case 0:
	case 1:
		words = append(words, "from "+p.clean(e.Addresses[0]))
	case diagnose.MaxAddresses:
		words = append(words, fmt.Sprintf("from %d addresses or more", diagnose.MaxAddresses))
	default:
		words = append(words, fmt.Sprintf("from %d addresses", len(e.Addresses)))
	}
	if e.User != "" {
		words = append(words, short(p.clean(e.User)))
	}
	ended := p.paint(red, "failed")
	if e.Outcome == diagnose.Succeeded {
		ended = p.paint(green, "logged in")
	}
	if e.Count > 1 {
		ended += fmt.Sprintf(" %d times since %s", e.Count, since(e.Since, e.Time))
	}
	return strings.Join(append(words, ended), "  ")
}

// short cuts what is longer than a user id of Proxmox can be.
func short(name string) string {
	const most = 64
	if all := []rune(name); len(all) > most {
		return string(all[:most-1]) + "…"
	}
	return name
}

// at returns a time on the clock of a node, and on that of this machine if it shows another one.
func (p *printer) at(t time.Time) string {
	text := t.Format("2006-01-02 15:04")
	if p.Zone == nil {
		return text
	}
	here := t.In(p.Zone)
	switch {
	case here.Format(time.DateTime) == t.Format(time.DateTime):
		return text
	case here.Format(time.DateOnly) == t.Format(time.DateOnly):
		return text + here.Format(" (15:04 here)")
	}
	return text + here.Format(" (2006-01-02 15:04 here)")
}

// since returns the time of day, with the day if it is another one.
func since(t, until time.Time) string {
	if t.Format(time.DateOnly) == until.Format(time.DateOnly) {
		return t.Format("15:04")
	}
	return t.Format("2006-01-02 15:04")
}

// cause says what Proxmox wrote, what that means, and what to do.
func (p *printer) cause(indent int, e diagnose.Entry) {
	if e.Outcome == diagnose.Failed {
		p.wrap(indent, "", 0, "Proxmox says: "+p.clean(e.Text))
	} else if len(e.Groups) > 0 {
		p.wrap(indent, "", 0, "groups: "+p.clean(strings.Join(e.Groups, ", ")))
	}
	if e.Summary != "" {
		p.wrap(indent, "", 0, p.clean(asSentence(e.Summary)))
	}
	if e.Unshown > 0 {
		p.line(indent, "The log does not show "+check.Count(e.Unshown, "name", "names")+" with characters that are not ASCII.")
	}
	if !e.Works.IsZero() {
		p.line(indent, "A later login succeeded, at "+since(e.Works, e.Time)+".")
	}
	p.hint(indent+2, "", e.Hint)
}

// asSentence gives a summary its capital letter and its full stop.
func asSentence(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	if word, _, _ := strings.Cut(text, " "); strings.ContainsAny(word, "@./:_") { // a name keeps its letters
		return text + "."
	}
	return string(unicode.ToUpper(first)) + text[size:] + "."
}

// unsaid returns the checks that no login was explained by.
func unsaid(checks []check.Check, d *reconcile.Diagnosis) []check.Check {
	return slices.DeleteFunc(slices.Clone(checks), func(c check.Check) bool {
		return slices.ContainsFunc(d.Logins, func(e diagnose.Entry) bool { return e.About(c.ID) })
	})
}

// diagnosed says what the logs of a target tell: "3 logins failed since 2026-11-30 09:12 (pve, pve2); 18 checks passed".
func (p *printer) diagnosed(t reconcile.Result) string {
	d := t.Diagnosis
	text := subject(t) + ": "
	if t.Err != nil {
		return text + fmt.Sprintf("diagnose failed (%s)", check.CodeOf(t.Err))
	}
	began := d.Since
	if p.Zone != nil {
		began = began.In(p.Zone)
	}
	failed := "no login"
	if d.Failed > 0 {
		failed = check.Count(d.Failed, "login", "logins")
	}
	text += fmt.Sprintf("%s failed since %s", failed, began.Format("2006-01-02 15:04"))
	if d.Succeeded > 0 {
		text += fmt.Sprintf(", %d succeeded", d.Succeeded)
	}
	if d.Groupless > 0 {
		text += fmt.Sprintf(" (%d of them without groups)", d.Groupless)
	}
	text += "; read: " + strings.Join(d.Nodes, ", ")
	if len(t.Checks) > 0 {
		text += "; verify: " + Tally(t.Checks)
	}
	return text
}

// jsonLogin is one kind of login in a JSON report.
type jsonLogin struct {
	Time      string   `json:"time" jsonschema:"of the newest, by the node's clock, RFC 3339 with the node's offset"`
	Since     string   `json:"since" jsonschema:"the time of the oldest"`
	Node      string   `json:"node"`
	Address   *string  `json:"address" jsonschema:"of the browser or of a proxy, of the newest; null if the log does not tell"`
	Addresses []string `json:"addresses" jsonschema:"each once, the newest first; 32 at most"`
	User      *string  `json:"user" jsonschema:"null if the log does not tell, as is realm"`
	Realm     *string  `json:"realm"`
	Outcome   string   `json:"outcome"`
	Cause     *string  `json:"cause" jsonschema:"null if nothing is wrong; later versions add causes"`
	Summary   string   `json:"summary"`
	Text      string   `json:"text" jsonschema:"the node's own words"`
	Hint      string   `json:"hint"`
	Count     int      `json:"count"`
	Groups    []string `json:"groups" jsonschema:"that the login added the user to"`
	Refused   []string `json:"refused" jsonschema:"names of the issuer's groups that Proxmox refuses"`
	Works     *string  `json:"works" jsonschema:"when a later login succeeded"`
}

func jsonLogins(d *reconcile.Diagnosis) []jsonLogin {
	if d == nil {
		return nil
	}
	all := []jsonLogin{}
	for _, e := range d.Logins {
		out := jsonLogin{
			Time: e.Time.Format(time.RFC3339), Since: e.Since.Format(time.RFC3339), Node: e.Node,
			Address: Known(e.Address), Addresses: append([]string{}, e.Addresses...), User: Known(e.User), Realm: Known(e.Realm),
			Outcome: string(e.Outcome), Cause: Known(string(e.Cause)), Summary: e.Summary, Text: e.Text, Hint: string(e.Hint),
			Count: e.Count, Groups: append([]string{}, e.Groups...), Refused: append([]string{}, e.Refused...),
		}
		if !e.Works.IsZero() {
			out.Works = Known(e.Works.Format(time.RFC3339))
		}
		all = append(all, out)
	}
	return all
}

// Known returns nil for "".
func Known(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
