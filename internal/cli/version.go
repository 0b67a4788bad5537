package cli

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/report"
)

// version is set by the linker (-X proxmox-realm/internal/cli.version=…) for a release. Otherwise the build
// information has a version.
var version string

// build returns the version and the commit.
func build() (name, commit string) {
	name = version
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return strings.TrimPrefix(cmp.Or(name, "unknown"), "v"), ""
	}
	for _, s := range info.Settings { // vcs.modified comes after vcs.revision
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			commit += "-dirty"
		}
	}
	if name == "" && info.Main.Version != "(devel)" {
		name = info.Main.Version
	}
	return strings.TrimPrefix(cmp.Or(name, "unreleased"), "v"), commit
}

func versionLine() string {
	name, commit := build()
	if commit != "" {
		commit = " (" + commit + ")"
	}
	return fmt.Sprintf("proxmox-realm %s%s %s %s/%s", name, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// userAgent names the program in the logs of Proxmox and the issuer.
func userAgent() string {
	name, _ := build()
	name, _, _ = strings.Cut(name, "+")
	return "proxmox-realm/" + name
}

// by says which program made a report, and where.
func by() report.By {
	name, _ := build()
	host, _ := os.Hostname() // "" if the system does not tell
	return report.By{Program: name, Host: host}
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			if a.output == "json" {
				name, commit := build()
				return report.Encode(a.stdout, map[string]string{
					"version": name, "commit": commit, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
				})
			}
			return a.printf("%s\n", versionLine())
		},
	}
}
