package cli

import (
	"github.com/spf13/cobra"

	"proxmox-realm/internal/ansible"
)

func (a *app) ansibleCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "ansible",
		Hidden: true,
		Short:  "What the Ansible module proxmox_openid_realm talks to",
		Long: `Read one request of the Ansible module proxmox_openid_realm as JSON from standard input, do it, and answer in
JSON on standard output. It exits with 0 where there is an answer, also one that says what failed. People use the
module, or apply.`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ansible.Run(cmd.Context(), a.stdin, a.stdout, ansible.Program{Env: a.env, UserAgent: userAgent(), Log: a.logger()})
		},
	}
}
