package reconcile_test

import (
	"slices"
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// What PlanDelete says is what Delete then does.
func TestPlanDelete(t *testing.T) {
	for _, tt := range []struct {
		name    string
		begin   fields
		outcome reconcile.Outcome
		action  realm.Action
		code    check.Code
		calls   []string
		then    reconcile.Outcome
	}{
		{"there", stored(), reconcile.Drift, realm.Delete, "", []string{read, readAccess, permissions}, reconcile.Changed},
		{"absent", nil, reconcile.Unchanged, realm.None, "", []string{read}, reconcile.Unchanged},
		{"another type", fields{"type": "ldap"}, reconcile.Refused, realm.Refuse, check.WrongType, []string{read}, reconcile.Refused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t)
			if tt.begin != nil {
				c.put(name, tt.begin)
			}
			target := aim(t, c, nil, spec())
			planned := planDelete(t.Context(), target)
			expect(t, planned, tt.outcome, tt.action, tt.code)
			if !slices.Equal(c.calls, tt.calls) || len(files(t, target)) != 0 {
				t.Errorf("calls %v, files %v", c.calls, files(t, target))
			}
			deleted := deletes(t.Context(), target)
			if deleted.Outcome != tt.then || len(deleted.Changes) != len(planned.Changes) {
				t.Errorf("then: %s, %d changes, planned %d", deleted.Outcome, len(deleted.Changes), len(planned.Changes))
			}
		})
	}
}
