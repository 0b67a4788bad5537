package authelia

import (
	"fmt"
	"io"
	"strings"

	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

// Outcome is unverified if the client has to change.
func (c Comparison) Outcome() reconcile.Outcome {
	if len(c.Differences) > 0 {
		return reconcile.Unverified
	}
	return reconcile.Unchanged
}

// Text writes a comparison for people: first what was not compared, because it bounds what the rest is worth.
func Text(w io.Writer, c Comparison, style report.Style) error {
	if style.Quiet && len(c.Differences) == 0 {
		return nil
	}
	var b strings.Builder
	for _, p := range c.Unseen {
		fmt.Fprintf(&b, "%s:%d: %s: not compared: %s\n", p.File, p.Line, p.Name, p.Reason)
	}
	for _, d := range c.Differences {
		fmt.Fprintf(&b, "%s:%d: %s\n", d.File, d.Line, d.Name)
		found, label, wanted := d.Found, "wanted:", d.Wanted
		if found == "" {
			found = "(absent)"
		}
		switch {
		case len(d.Missing) > 0:
			label, wanted = "missing:", strings.Join(d.Missing, ", ")
		case wanted == "":
			wanted = "(absent)"
		}
		fmt.Fprintf(&b, "  found:   %s\n  %-8s %s\n", found, label, wanted)
	}
	for _, p := range c.Warnings {
		fmt.Fprintf(&b, "%s:%d: %s: warning: %s\n", p.File, p.Line, p.Name, p.Reason)
	}
	for _, p := range c.Kept {
		fmt.Fprintf(&b, "%s:%d: %s: your own setting, keep it\n", p.File, p.Line, p.Name)
	}
	fmt.Fprintf(&b, "client %s (%s:%d): %s\n", c.Client, c.File, c.Line, c.summary())
	_, err := io.WriteString(w, b.String())
	return err
}

func (c Comparison) summary() string {
	switch n := len(c.Differences); {
	case n > 1:
		return fmt.Sprintf("%d differences", n)
	case n == 1:
		return "1 difference"
	case len(c.Unseen) > 0:
		return "no differences in what was compared"
	}
	return "no differences"
}

// JSON writes a comparison as one object on one line.
func JSON(w io.Writer, c Comparison) error {
	return report.Encode(w, struct {
		Version int               `json:"version"`
		Command string            `json:"command"`
		Outcome reconcile.Outcome `json:"outcome"`
		Error   *report.Error     `json:"error"`
		Comparison
	}{report.Version, "authelia", c.Outcome(), nil, c})
}
