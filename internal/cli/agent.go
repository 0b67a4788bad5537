package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"proxmox-realm/internal/check"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/agent"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
)

func (a *app) agentCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Reconcile on a schedule; serve metrics and health",
		Long: `Apply the configuration at once, and then every agent.interval (15m). A
temporary failure is retried sooner. Rejected credentials are retried less and
less often.

The agent serves on agent.listen (127.0.0.1:9746):

    /         a page with each target, its drift and its checks
    /metrics  for Prometheus
    /healthz  whether the agent is working
    /readyz   whether its first run has ended

SIGHUP makes it reload the configuration and secrets and run at once. If the new
configuration has mistakes, the old one stays in force. SIGTERM and SIGINT end
it after the current write.

A failure is logged when it begins, changes and ends. notify.command runs when
the outcome changes. Under systemd, the agent reports readiness, status,
reloading and its watchdog.` +
			exitHelp(exitConfig),
		Example: "  proxmox-realm agent\n  curl http://127.0.0.1:9746/metrics",
		Args:    exactly(0, ""),
		RunE:    a.agent,
	}
	configFlags(cmd)
	return cmd
}

func (a *app) agent(cmd *cobra.Command, _ []string) error {
	if a.timeout > 0 {
		return usage("the agent runs until it is stopped: --timeout does not go with it")
	}
	if !cmd.Flags().Changed("log-level") && !a.quiet {
		a.logLevel = "info"
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	c, err := a.unattended(cmd)
	if err != nil {
		return err
	}
	listener, err := agent.Listen(c.Agent.Listen)
	if err != nil {
		return err
	}
	reload := make(chan struct{})
	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups: // holds one more; any further are the same wish
			}
			select {
			case <-ctx.Done():
				return
			case reload <- struct{}{}:
			}
		}
	}()
	log := a.logger()
	return agent.Run(ctx, agent.Options{
		Config: c,
		Load:   func(context.Context) (*config.Config, error) { return a.unattended(cmd) },
		Runner: func(c *config.Config, _ agent.Runner) agent.Runner { return fleet.New(c, userAgent(), log) },
		Reload: reload, Listener: listener, Version: versionLine(), Env: a.env, Log: log,
	})
}

// unattended loads a configuration for a command that runs where nobody can type a password, again and again.
func (a *app) unattended(cmd *cobra.Command) (*config.Config, error) {
	c, err := a.load(cmd, config.Options{Secrets: true})
	if err != nil {
		return nil, err
	}
	for _, t := range c.Targets {
		switch p := t.Proxmox; {
		case !p.Username.IsZero() && !p.Password.IsSet():
			return nil, check.Errorf(check.Config, "proxmox.password: there is none for %s of target %s, and the agent asks nobody", p.Username, t.Name).
				Try(check.Advise("use an API token (proxmox.token_file): run bootstrap for the pveum lines"))
		case p.OTP.IsSet():
			return nil, check.Errorf(check.Config, "proxmox.otp: a one-time password serves once, and the agent logs in again and again").
				Try(check.Advise("use an API token (proxmox.token_file): run bootstrap for the pveum lines"))
		}
	}
	return c, nil
}
