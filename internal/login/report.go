package login

import (
	"encoding/json"
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
	var b strings.Builder
	fmt.Fprintf(&b, "the login works: %s takes the user for %s\n", r.Endpoint, r.User)
	created := "not visible to these credentials"
	if r.Created != nil {
		created = map[bool]string{true: "just now, by this login", false: "no, the user existed before"}[*r.Created]
	}
	groups := strings.Join(r.Groups, ", ")
	switch {
	case r.Groups == nil:
		groups = "not visible to these credentials"
	case len(r.Groups) == 0:
		groups = "none"
	}
	privileges := ""
	switch {
	case r.Privileges == nil:
		privileges = " not visible"
	case len(r.Privileges) == 0:
		privileges = " none: this user may do nothing"
	}
	fmt.Fprintf(&b, "  created:    %s\n  groups:     %s\n", created, groups)
	if len(r.GroupsSet) > 0 {
		fmt.Fprintf(&b, "  set now:    %s\n", strings.Join(r.GroupsSet, ", "))
	}
	if len(r.GroupsRefused) > 0 {
		fmt.Fprintf(&b, "  refused:    %s\n", strings.Join(r.GroupsRefused, ", "))
	}
	if r.Trouble != "" {
		fmt.Fprintf(&b, "              %s\n", r.Trouble)
	}
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
		Hint:   string(r.Hint),
		Checks: []report.Check{}, Warnings: append([]string{}, r.Warnings...), Duration: r.Duration.Milliseconds(),
	}
	for _, text := range []struct {
		value string
		to    **string
	}{{r.User, &out.User}, {string(r.Cause), &out.Cause}, {r.Trouble, &out.Trouble}} {
		if text.value != "" {
			*text.to = &text.value
		}
	}
	for _, c := range r.Checks {
		out.Checks = append(out.Checks, report.CheckOf(c))
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(out)
}
