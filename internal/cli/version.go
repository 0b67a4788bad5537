package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// version is set by the linker (-X proxmox-realm/internal/cli.version=…) for a release; else the build says what
// it was made from.
var version string

// build returns version and commit.
func build() (name, commit string) {
	name = version
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return strings.TrimPrefix(cmpOr(name, "unknown"), "v"), ""
	}
	dirty := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if commit != "" {
		commit += dirty
	}
	if name == "" && info.Main.Version != "(devel)" {
		name = info.Main.Version
	}
	return strings.TrimPrefix(cmpOr(name, "unreleased"), "v"), commit
}

func cmpOr(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func versionLine() string {
	name, commit := build()
	if commit != "" {
		commit = " (" + commit + ")"
	}
	return fmt.Sprintf("proxmox-realm %s%s %s %s/%s", name, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// userAgent is how requests call the program: administrators find it in the logs of Proxmox and the issuer.
func userAgent() string {
	name, _ := build()
	name, _, _ = strings.Cut(name, "+")
	return "proxmox-realm/" + name
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  exactly(0, ""),
		RunE: func(*cobra.Command, []string) error {
			if a.output == "json" {
				name, commit := build()
				return json.NewEncoder(a.stdout).Encode(struct {
					Version string `json:"version"`
					Commit  string `json:"commit"`
					Go      string `json:"go"`
					OS      string `json:"os"`
					Arch    string `json:"arch"`
				}{name, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH})
			}
			return a.printf("%s\n", versionLine())
		},
	}
}
