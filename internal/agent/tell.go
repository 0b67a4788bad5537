package agent

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

// Teller tells one reader what is new, and remembers what it told.
type Teller struct {
	Reader   history.Reader
	Patience report.Patience
	Runs     *history.Store // what runs of the targets remember
	// Usual is what runs remember whose configuration cannot be loaded: neither their targets nor their state_dir are known.
	// Configuration names the file of these runs.
	Usual         *history.Store
	Configuration string
}

// Tell tells the reader what is new after a run. show gets the run and the news of each target. The run includes what earlier runs
// wrote and could not tell this reader. Nothing counts as told unless show returns nil. Tell returns its error.
func (r Teller) Tell(run fleet.Run, show func(run fleet.Run, news []report.News) error) error {
	now := time.Now()
	if run.Err != nil {
		next, news := r.Patience.News(r.Usual.Target(r.whole()).Told[r.Reader], reconcile.Result{Outcome: reconcile.Failed, Err: run.Err}, now)
		if news.Text != "" {
			if err := show(run, []report.News{news}); err != nil {
				return err
			}
		}
		r.keep(r.Usual, r.whole(), next)
		return nil
	}
	var known, told []history.Told
	var news []report.News
	worth := false
	run.Targets = slices.Clone(run.Targets)
	for i, t := range run.Targets {
		former := r.Runs.Target(t.ID).Told[r.Reader]
		next, n := r.Patience.News(former, t, now)
		t.Untold = slices.DeleteFunc(slices.Clone(former.Written), func(line string) bool { // this run's are in its report
			return slices.Contains(t.Noted, line)
		})
		run.Targets[i] = t
		known, told, news = append(known, former), append(told, next), append(news, n)
		worth = worth || n.Text != ""
	}
	whole := r.Usual.Target(r.whole()).Told[r.Reader]
	if len(whole.Troubles) > 0 { // the last run could not load the configuration
		_, again := r.Patience.News(whole, reconcile.Result{Outcome: run.Outcome}, now)
		for i := range news {
			if news[i].Text == "" {
				news[i] = again
			}
		}
		worth = true
	}
	if worth {
		if err := show(run, news); err != nil {
			return err
		}
	}
	for i, t := range run.Targets {
		if !reflect.DeepEqual(told[i], known[i]) {
			r.keep(r.Runs, t.ID, told[i])
		}
	}
	if len(whole.Troubles) > 0 {
		r.keep(r.Usual, r.whole(), history.Told{})
	}
	return nil
}

// keep keeps what the reader knows of a target.
func (r Teller) keep(h *history.Store, id history.TargetID, told history.Told) {
	h.ChangeTarget(id, func(t *history.Target) {
		t.Told = maps.Clone(t.Told)
		if t.Told == nil {
			t.Told = map[history.Reader]history.Told{}
		}
		t.Told[r.Reader] = told
	})
}

// whole identifies runs that reached no target.
func (r Teller) whole() history.TargetID {
	return history.TargetID{Product: "configuration", Realm: r.Configuration}
}

// Printed notes that a loud run has printed its report: what it wrote is told.
func Printed(h *history.Store, run fleet.Run) {
	for _, t := range run.Targets {
		if len(t.Untold) > 0 || t.Wrote() {
			h.ChangeTarget(t.ID, func(target *history.Target) {
				if told, ok := target.Told[history.Quiet]; ok {
					told.Written = nil
					target.Told[history.Quiet] = told
				}
			})
		}
	}
}
