package cli

import (
	"fmt"
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
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := writeManual(cmd.Root(), filepath.Join(args[0], "man")); err != nil {
				return fmt.Errorf("writing the manual pages: %w", err)
			}
			if err := writeCompletions(cmd.Root(), filepath.Join(args[0], "completions")); err != nil {
				return fmt.Errorf("writing the completions: %w", err)
			}
			return nil
		},
	}
}

// writeManual writes a page of section 1 for each command, and a page of section 7 for each help topic.
func writeManual(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // manual pages are for everyone
		return err
	}
	version, _ := build()
	header := doc.GenManHeader{Section: "1", Source: "proxmox-realm " + version, Manual: "proxmox-realm"}
	if err := doc.GenManTree(root, &header, dir); err != nil {
		return err
	}
	for _, topic := range root.Commands() {
		if !topic.IsAdditionalHelpTopicCommand() {
			continue
		}
		file, err := os.Create(filepath.Join(dir, "proxmox-realm-"+topic.Name()+".7"))
		if err != nil {
			return err
		}
		// Without its parent, to which doc would refer in section 7.
		alone := &cobra.Command{
			Use: "proxmox-realm-" + topic.Name(), Short: topic.Short, Long: topic.Long,
			DisableAutoGenTag: true, DisableFlagsInUseLine: true,
		}
		page := doc.GenManHeader{Section: "7", Source: header.Source, Manual: header.Manual}
		if err := doc.GenMan(alone, &page, file); err != nil {
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
	return nil
}

// writeCompletions writes a script for each shell, under the name that the shell looks for.
func writeCompletions(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // completions are for everyone
		return err
	}
	for name, write := range map[string]func(string) error{
		"proxmox-realm.bash": func(path string) error { return root.GenBashCompletionFileV2(path, true) },
		"_proxmox-realm":     root.GenZshCompletionFile,
		"proxmox-realm.fish": func(path string) error { return root.GenFishCompletionFile(path, true) },
		"proxmox-realm.ps1":  root.GenPowerShellCompletionFileWithDesc,
	} {
		if err := write(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}
