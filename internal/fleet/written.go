package fleet

import (
	"fmt"
	"time"

	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// Written returns what a run wrote for a target, a line each, for those who are told of every write. It names no value of a
// property. A write whose answer was lost is told as well.
func Written(r reconcile.Result) []string {
	if !r.Wrote() {
		return nil
	}
	when := time.Now().UTC().Format(time.RFC3339) + " "
	unknown := ""
	if r.Stage == reconcile.Sent {
		unknown = " (the answer was lost: whether it took effect is unknown)"
	}
	var lines []string
	if len(r.Changes) > 0 || r.Action == realm.Delete {
		lines = append(lines, fmt.Sprintf("%s%s of realm %s%s", when, r.Action, r.Realm, unknown))
	}
	for _, c := range r.Changes {
		sign := map[realm.Op]string{realm.Set: "~ ", realm.Unset: "- "}[c.Op]
		if r.Action != realm.Delete {
			lines = append(lines, when+sign+string(c.Property)+unknown)
		}
	}
	for _, c := range r.Made {
		lines = append(lines, when+c.String())
	}
	if len(lines) == 0 {
		lines = append(lines, when+"groups and grants of realm "+r.Realm+unknown)
	}
	return lines
}
