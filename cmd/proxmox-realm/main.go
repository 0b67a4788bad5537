// Command proxmox-realm keeps an OpenID Connect realm of Proxmox VE as its configuration declares, and verifies that
// logins through it work.
package main

import (
	"os"
	"runtime/debug"

	"proxmox-realm/internal/cli"
)

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200) // a run over 10,000 targets costs 7 percent less CPU, and 12 MiB more memory
	}
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
