package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
)

// oneTarget loads a configuration for a command that works on one cluster, of which it needs only how to reach it.
func (a *app) oneTarget(cmd *cobra.Command) (config.Target, *fleet.Fleet, error) {
	c, err := a.connectable(cmd, true)
	if err != nil {
		return config.Target{}, nil, err
	}
	if len(c.Targets) > 1 {
		var names []string
		for _, t := range c.Targets {
			names = append(names, t.Name)
		}
		return config.Target{}, nil, usage("%s works on one target, and the configuration has %d", cmd.CommandPath(), len(names)).
			Try(check.Advise("choose one with -t: %s", strings.Join(names[:min(len(names), 10)], ", ")))
	}
	return c.Targets[0], a.fleet(c), nil
}
