package cli

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// docsCommand writes the files that packages include. It is hidden because users have no need for it.
func (a *app) docsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "docs DIR",
		Short: "Write the manual pages and the shell completions into a folder",
		Long: `Write the manual pages into DIR/man and the shell completions into
DIR/completions.

The pages carry the date of $SOURCE_DATE_EPOCH, so that packages are
reproducible.`,
		Example: "  proxmox-realm docs .cache/docs",
		Args:    exactly(1, "a folder"),
		Hidden:  true,
		RunE:    func(cmd *cobra.Command, args []string) error { return writeDocs(cmd.Root(), args[0]) },
	}
}

// writeDocs writes a manual page for each command, and a completion script for each shell under the name that the shell
// looks for.
func writeDocs(root *cobra.Command, dir string) error {
	man, completions := filepath.Join(dir, "man"), filepath.Join(dir, "completions")
	for _, dir := range []string{man, completions} {
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the files are for everyone
			return err
		}
	}
	version, _ := build()
	header := doc.GenManHeader{Section: "1", Source: "proxmox-realm " + version, Manual: "proxmox-realm"}
	if err := doc.GenManTree(root, &header, man); err != nil {
		return err
	}
	for name, write := range map[string]func(string) error{
		"proxmox-realm.bash": func(path string) error { return root.GenBashCompletionFileV2(path, true) },
		"_proxmox-realm":     root.GenZshCompletionFile,
		"proxmox-realm.fish": func(path string) error { return root.GenFishCompletionFile(path, true) },
		"proxmox-realm.ps1":  root.GenPowerShellCompletionFileWithDesc,
	} {
		if err := write(filepath.Join(completions, name)); err != nil {
			return err
		}
	}
	return nil
}
