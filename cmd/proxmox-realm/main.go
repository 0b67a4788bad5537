// Command proxmox-realm keeps an OpenID Connect realm of Proxmox VE as its configuration declares, and verifies that
// logins through it work.
package main

import (
	"os"

	"proxmox-realm/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
