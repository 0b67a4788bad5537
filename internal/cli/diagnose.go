package cli

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

type diagnoseOptions struct {
	reconcile.DiagnoseOptions
	follow bool
}

func (a *app) diagnoseCommand() *cobra.Command {
	var o diagnoseOptions
	cmd := &cobra.Command{
		Use:   "diagnose",
		Short: "Explain the logins that failed lately, from the nodes' own logs",
		Long: `Explain the logins that failed lately. Proxmox answers a failed login with
"authentication failure"; the reason is in the log of the node that the browser
asked. diagnose reads the logs of all nodes through the API, and says what each
reason means and what to do. It changes nothing.

It needs Sys.Syslog and Sys.Audit on /nodes, which open the whole log of the
nodes: "bootstrap --diagnose" prints the lines that grant them. On Backup Server
and Datacenter Manager it is Sys.Audit on /system/log.

A login that fails before the issuer's page leaves no line in a log of Proxmox
VE. So diagnose also verifies the realm as it is stored.

--follow keeps reading: ask somebody to try again, and the reason appears. It
ends with an interrupt, or after --timeout.` +
			exitHelp(exitUnverified, exitUnavailable, exitDenied, exitInterrupted),
		Example: "  proxmox-realm diagnose\n" +
			"  proxmox-realm diagnose --since 168h --all\n" +
			"  proxmox-realm diagnose --follow --since 5m\n" +
			"  proxmox-realm diagnose -o json | jq '.targets[].logins[] | {time, user, cause}'",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.diagnose(cmd, o) },
	}
	f := cmd.Flags()
	f.DurationVar(&o.Since, "since", 24*time.Hour, "explain the logins of the last `DURATION`")
	f.BoolVar(&o.All, "all", false, "also show the logins that succeeded, with the groups that they set")
	f.BoolVar(&o.follow, "follow", false, "keep reading, and explain logins as they fail")
	shardFlag(cmd)
	a.configFlags(cmd)
	return cmd
}

func (a *app) diagnose(cmd *cobra.Command, o diagnoseOptions) error {
	switch {
	case o.Since <= 0:
		return usage("--since takes a duration above zero, such as 24h")
	case o.follow && a.output != "text" && a.output != "jsonl":
		return usage("--follow has no %s report, because it has no end", a.output).Try("run:\n    {diagnose --follow -o jsonl}")
	}
	c, err := a.connectable(cmd, true)
	if err != nil {
		return err
	}
	if o.follow {
		return a.followLogins(cmd, c, o.DiagnoseOptions)
	}
	run, err := a.watched(cmd, c, "reading logs", "", fleet.Options{}, func(f *fleet.Fleet, ctx context.Context, options fleet.Options) fleet.Run {
		return f.Diagnose(ctx, options, o.DiagnoseOptions)
	})
	if err != nil {
		return err
	}
	return a.finish(run, false)
}

// followLogins shows logins as they fail, until the command is interrupted or its time is over.
func (a *app) followLogins(cmd *cobra.Command, c *config.Config, q reconcile.DiagnoseOptions) error {
	if len(c.Targets) > c.Concurrency {
		return usage("--follow takes at most %d targets at once", c.Concurrency).
			Try("run:\n    {diagnose --follow -t NAME}", "set {concurrency}")
	}
	ctx, stop := context.WithCancelCause(cmd.Context())
	defer stop(nil)
	var mu sync.Mutex
	q.Follow = func(t reconcile.Result) {
		mu.Lock()
		defer mu.Unlock()
		if err := a.showLogins(t, len(c.Targets) > 1); err != nil {
			stop(err)
		}
	}
	run := a.fleet(c).Diagnose(ctx, fleet.Options{}, q)
	if err := context.Cause(ctx); interrupted(ctx) || err != nil && cmd.Context().Err() == nil {
		return err // the reader of stdout may have gone
	}
	if a.output == "jsonl" {
		for i := range run.Targets {
			if run.Targets[i].Diagnosis == nil {
				return a.finish(run, false)
			}
		}
		run.Targets = nil
	}
	return a.finish(run, false)
}

// showLogins shows what became known of the logins of one target.
func (a *app) showLogins(t reconcile.Result, several bool) error {
	if a.output == "jsonl" {
		return report.JSONTarget(a.stdout, t)
	}
	name := ""
	if several {
		name = t.Name
	}
	for _, w := range t.Warnings {
		a.warning(w)
	}
	if t.Err != nil {
		a.sayError(t.Err)
	}
	err := report.Logins(a.stdout, name, t, a.style())
	if err != nil && !errors.Is(err, syscall.EPIPE) {
		return unwritten(err)
	}
	return err
}
