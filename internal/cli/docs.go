package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"proxmox-realm/internal/check"

	"github.com/spf13/cobra"
)

// docsCommand writes what packages bring along: the manual pages and the shell completions, made from the commands.
func (a *app) docsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "docs DIR",
		Short: "Write the manual pages and the shell completions into a folder",
		Long: `Write the manual pages into DIR/man and the shell completions into DIR/completions.

The pages carry the date of $SOURCE_DATE_EPOCH, so that a package can be built twice with the same result.`,
		Example: "  proxmox-realm docs .cache/docs",
		Args:    exactly(1, "a folder"),
		Hidden:  true, // for those who build packages
		RunE: func(cmd *cobra.Command, args []string) error {
			date, err := a.buildDate()
			if err != nil {
				return err
			}
			root := cmd.Root()
			defineAllFlags(root)
			files, err := completions(root)
			if err != nil {
				return err
			}
			for name, page := range manual(root, date) {
				files[filepath.Join("man", name)] = page
			}
			for name, content := range files {
				if err := writeDoc(filepath.Join(args[0], name), content); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// buildDate returns when the program was made: $SOURCE_DATE_EPOCH, else the commit's time, else now.
func (a *app) buildDate() (time.Time, error) {
	if epoch := a.getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return time.Time{}, usage("SOURCE_DATE_EPOCH is not a number of seconds")
		}
		return time.Unix(seconds, 0).UTC(), nil
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key != "vcs.time" {
				continue
			}
			if committed, err := time.Parse(time.RFC3339, s.Value); err == nil {
				return committed.UTC(), nil
			}
		}
	}
	return time.Now().UTC(), nil
}

// completions returns a script for each shell, by the name under which the shell looks for it.
func completions(root *cobra.Command) (map[string][]byte, error) {
	files := map[string][]byte{}
	for name, write := range map[string]func(*bytes.Buffer) error{
		"proxmox-realm.bash": func(b *bytes.Buffer) error { return root.GenBashCompletionV2(b, true) },
		"_proxmox-realm":     func(b *bytes.Buffer) error { return root.GenZshCompletion(b) },
		"proxmox-realm.fish": func(b *bytes.Buffer) error { return root.GenFishCompletion(b, true) },
		"proxmox-realm.ps1":  func(b *bytes.Buffer) error { return root.GenPowerShellCompletionWithDesc(b) },
	} {
		var script bytes.Buffer
		if err := write(&script); err != nil {
			return nil, err
		}
		files[filepath.Join("completions", name)] = script.Bytes()
	}
	return files, nil
}

func writeDoc(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // documents are for everyone
		return check.Errorf(check.Internal, "making %s: %v", filepath.Dir(path), err).Because(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil { //nolint:gosec // as above
		return check.Errorf(check.Internal, "writing %s: %v", path, err).Because(err)
	}
	return nil
}
