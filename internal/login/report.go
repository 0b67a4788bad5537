package login

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

// Text writes which user Proxmox takes the visitor for or, if nobody was logged in, the checks that may tell why. The
// caller shows the error, the warnings and the remedy on standard error.
func Text(w io.Writer, r Result, style report.Style) error {
	if r.User == "" {
		if len(r.Checks) == 0 {
			return nil
		}
		return report.Checks(w, r.Checks, style)
	}
	if style.Quiet {
		return nil
	}
	const hidden = "not visible to these credentials"
	var b strings.Builder
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "  %-11s %s\n", name, text)
		}
	}
	fmt.Fprintf(&b, "the login works: %s takes the user for %s\n", r.Endpoint, r.User)
	created, groups, privileges := hidden, hidden, " not visible"
	if r.Created != nil {
		created = map[bool]string{true: "just now, by this login", false: "no, the user existed before"}[*r.Created]
	}
	if r.Groups != nil {
		groups = cmp.Or(strings.Join(r.Groups, ", "), "none")
	}
	if len(r.Privileges) > 0 {
		privileges = "" // they follow
	} else if r.Privileges != nil {
		privileges = " none: this user may do nothing"
	}
	line("created:", created)
	line("groups:", groups)
	line("set now:", strings.Join(r.GroupsSet, ", "))
	line("refused:", strings.Join(r.GroupsRefused, ", "))
	line("", r.Trouble)
	fmt.Fprintf(&b, "  privileges:%s\n", privileges)
	writePrivileges(&b, r.Privileges)
	_, err := io.WriteString(w, b.String())
	return err
}

// writePrivileges writes paths with the same privileges together.
func writePrivileges(b *strings.Builder, byPath map[string][]string) {
	paths := map[string][]string{} // by their privileges
	var order []string
	for _, path := range slices.Sorted(maps.Keys(byPath)) {
		names := strings.Join(byPath[path], ", ")
		if paths[names] == nil {
			order = append(order, names)
		}
		paths[names] = append(paths[names], path)
	}
	for _, names := range order {
		fmt.Fprintf(b, "    %s\n      %s\n", strings.Join(paths[names], ", "), names)
	}
}

// JSON writes the result as one object on one line, like the report of other commands. What is not known is null.
func JSON(w io.Writer, r Result) error {
	out := struct {
		Version int               `json:"version"`
		Command string            `json:"command"`
		Outcome reconcile.Outcome `json:"outcome"`
		Error   *report.Error     `json:"error"`
		Result
		Cause    *string        `json:"cause"`
		Trouble  *string        `json:"trouble"`
		User     *string        `json:"user"`
		Checks   []report.Check `json:"checks"`
		Warnings []string       `json:"warnings"`
		Hint     string         `json:"hint"`
		Duration int64          `json:"duration_ms"`
	}{
		Version: report.Version, Command: "login", Outcome: r.Outcome(), Error: report.ErrorOf(r.Err), Result: r,
		Cause: report.Known(string(r.Cause)), Trouble: report.Known(r.Trouble), User: report.Known(r.User), Hint: string(r.Hint),
		Checks: []report.Check{}, Warnings: append([]string{}, r.Warnings...), Duration: r.Duration.Milliseconds(),
	}
	for _, c := range r.Checks {
		out.Checks = append(out.Checks, report.CheckOf(c))
	}
	return report.Encode(w, out)
}
