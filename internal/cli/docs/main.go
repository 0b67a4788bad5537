// Command docs writes the files that packages hold beside the program: a manual page for each command into DIR/man, and a
// completion script for each shell into DIR/completions. It is no part of the program, which needs none of its libraries.
//
// The pages carry the date of $SOURCE_DATE_EPOCH, so that packages are reproducible.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"proxmox-realm/internal/cli"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: docs DIR VERSION")
		os.Exit(64)
	}
	if err := write(cli.Command(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// write writes the pages, and the scripts under the names that the shells look for.
func write(root *cobra.Command, dir, version string) error {
	man, completions := filepath.Join(dir, "man"), filepath.Join(dir, "completions")
	for _, dir := range []string{man, completions} {
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the files are for everyone
			return err
		}
	}
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
