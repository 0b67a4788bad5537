package authelia

import (
	"encoding/json"
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

// Text writes a comparison for people.
func Text(w io.Writer, c Comparison, style report.Style) error {
	if style.Quiet && len(c.Differences) == 0 {
		return nil
	}
	var b strings.Builder
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
	for _, p := range c.Unseen {
		fmt.Fprintf(&b, "%s:%d: %s: not compared: %s\n", p.File, p.Line, p.Name, p.Reason)
	}
	for _, p := range c.Kept {
		fmt.Fprintf(&b, "%s:%d: %s: your own setting, keep it\n", p.File, p.Line, p.Name)
	}
	switch len(c.Differences) {
	case 0:
		fmt.Fprintf(&b, "client %s (%s:%d): no differences\n", c.Client, c.File, c.Line)
	case 1:
		fmt.Fprintf(&b, "client %s (%s:%d): 1 difference\n", c.Client, c.File, c.Line)
	default:
		fmt.Fprintf(&b, "client %s (%s:%d): %d differences\n", c.Client, c.File, c.Line, len(c.Differences))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// JSON writes a comparison as one object on one line.
func JSON(w io.Writer, c Comparison) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(struct {
		Version int               `json:"version"`
		Command string            `json:"command"`
		Outcome reconcile.Outcome `json:"outcome"`
		Error   *report.Error     `json:"error"`
		Comparison
	}{report.Version, "authelia", c.Outcome(), nil, c})
}
