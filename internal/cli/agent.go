package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/agent"
	"proxmox-realm/internal/check"
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

It answers to IP addresses, localhost, the name of this machine and the host
that agent.listen names.

Files and commands that give secrets or certificate authorities are read again
before each run. SIGHUP makes it reload the configuration and run at once. If
the new configuration has mistakes, the old one stays in force. SIGTERM and
SIGINT end it after the current write.

A failure is logged when it begins, changes and ends. notify.command runs then,
and after each change of a realm. Under systemd, the agent reports readiness,
status, reloading and its watchdog.` +
			exitHelp(exitConfig),
		Example: "  proxmox-realm agent\n  curl http://127.0.0.1:9746/metrics",
		Args:    noArguments,
		RunE:    a.agent,
	}
	a.configFlags(cmd)
	return cmd
}

func (a *app) agent(cmd *cobra.Command, _ []string) error {
	if a.timeout > 0 {
		return usage("--timeout does not apply: the agent runs until it is stopped")
	}
	if !cmd.Flags().Changed("log-level") && !a.quiet {
		a.logLevel = "info"
	}
	hangups := make(chan os.Signal, 1) // one is enough: later signals ask for the same
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
	log := a.logger()
	return agent.Run(cmd.Context(), agent.Options{
		Config: c,
		Load:   func(context.Context) (*config.Config, error) { return a.unattended(cmd) },
		Runner: func(c *config.Config) agent.Runner { return fleet.New(c, userAgent(), log) },
		Reload: hangups, Listener: listener, Version: versionLine(), By: by(), Log: log,
	})
}

// unattended loads a configuration for a command that logs in again and again where nobody can type a password. The agent
// logs the warnings.
func (a *app) unattended(cmd *cobra.Command) (*config.Config, error) {
	c, err := a.read(cmd, config.Options{Secrets: true})
	if err != nil {
		return nil, err
	}
	for _, t := range c.Targets {
		var problem *check.Error
		switch p := t.Proxmox; {
		case !p.Username.IsZero() && !p.Password.IsSet():
			problem = check.Errorf(check.Config, "target %s has none for %s, and the agent cannot ask for it", t.Name, p.Username).At("proxmox.password")
		case p.OTP.IsSet():
			problem = check.Errorf(check.Config, "target %s has a one-time password, but the agent logs in repeatedly", t.Name).At("proxmox.otp")
		default:
			continue
		}
		return nil, problem.Try("set {proxmox.token_file} (a file with an API token; the command bootstrap shows how to make one)")
	}
	return c, nil
}
