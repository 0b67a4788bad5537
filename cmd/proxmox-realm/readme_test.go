package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestReadmeCommands runs the shell blocks of README.md in order against a lab that nobody prepared. It replaces hosts and folders by
// the lab's. Where a person would restart Authelia, it restarts the lab's issuer.
func TestReadmeCommands(t *testing.T) {
	readme := read(t, "../../README.md")
	dir := t.TempDir()
	script := readmeScript(t, readme)
	if err := os.WriteFile(filepath.Join(dir, "readme.txtar"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, scripts(t, dir))
}

func readmeScript(t *testing.T, readme string) string {
	t.Helper()
	var script strings.Builder
	script.WriteString("bare\nenv PROXMOX_REALM_CONFIG=$WORK/etc/config.yaml\n")
	commands := 0
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(readme, -1) {
		for line := range strings.Lines(strings.ReplaceAll(block[1], "\\\n", "")) {
			command, _, _ := strings.Cut(line, " #")
			command = strings.TrimSpace(command)
			if command == "" || strings.HasPrefix(command, "#") {
				continue
			}
			commands++
			command = strings.NewReplacer(
				"--new-key /etc/proxmox-realm/client-key", "--new-key by-hand", // init has made the other one
				"https://pve1.example.com:8006", "$LAB_ENDPOINT", "pve-root-ca.pem", "$LAB_CA_FILE",
				"https://auth.example.com", "$LAB_ISSUER", "/etc/authelia/configuration.yml", "$LAB_AUTHELIA_CONFIG",
			).Replace(command)
			waits := false
			switch {
			case command == "proxmox-realm init", command == "proxmox-realm login", strings.HasPrefix(command, "proxmox-realm diagnose"):
				command += " --help" // other tests have a terminal, a browser and a log
			case strings.HasPrefix(command, "proxmox-realm probe"):
				command += " --ca-file $LAB_ISSUER_CA_FILE"
			case strings.HasPrefix(command, "proxmox-realm init"):
				command, waits = command+" --dir $WORK/etc --issuer-ca-file $LAB_ISSUER_CA_FILE --wait 0", true
			case strings.HasPrefix(command, "proxmox-realm rotate"):
				command, waits = command+" --yes --wait 0", true
			}
			if waits {
				script.WriteString("exits 13 sh -c '" + command + "'\nissuer restart\n")
			}
			script.WriteString("exits 0 sh -c '" + command + "'\n")
		}
	}
	if commands < 12 {
		t.Fatalf("README.md has %d commands in shell blocks: this test does not see them", commands)
	}
	return script.String()
}

// Every relative link has a target.
func TestReadmeLinks(t *testing.T) {
	for _, link := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(read(t, "../../README.md"), -1) {
		if _, err := os.Stat(filepath.Join("../..", link[1])); err != nil {
			t.Errorf("README.md: %v", err)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
