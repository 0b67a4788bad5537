package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestReadmeCommands runs the shell blocks of README.md in order against a lab. It replaces hosts and folders by the
// lab's. Where a person would paste a digest and restart Authelia, it changes the lab's issuer.
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
	script.WriteString("mkdir etc\nrm lab/client-key\n")
	commands := 0
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(readme, -1) {
		for line := range strings.Lines(block[1]) {
			command, _, _ := strings.Cut(line, " #")
			command = strings.TrimSpace(command)
			if command == "" || strings.HasPrefix(command, "#") {
				continue
			}
			commands++
			for from, to := range map[string]string{
				"/etc/proxmox-realm/":             "lab/", // the folder of the lab's client key
				"https://auth.example.com":        "$LAB_ISSUER",
				"/etc/authelia/configuration.yml": "$LAB_AUTHELIA_CONFIG",
			} {
				command = strings.ReplaceAll(command, from, to)
			}
			switch {
			case command == "proxmox-realm login", strings.HasPrefix(command, "proxmox-realm diagnose"):
				command += " --help" // internal/login tests the rest with a browser, scripts the rest of diagnose
			case strings.HasPrefix(command, "proxmox-realm probe"):
				command += " --ca-file $LAB_ISSUER_CA_FILE"
			}
			if strings.HasPrefix(command, "proxmox-realm rotate") {
				command += " --yes --wait 0"
				script.WriteString("exits 13 sh -c '" + command + "'\nissuer restart\n")
			}
			script.WriteString("exits 0 sh -c '" + command + "'\n")
			if _, file, made := strings.Cut(command, " --new-key "); made {
				script.WriteString("cp stdout block.yml\nclient paste block.yml " + file + "\n")
			}
		}
	}
	if commands < 10 {
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
