package login

import (
	"os/exec"
	"runtime"
)

// Browser returns a function that opens an address in the user's browser. It returns nil over ssh, because the user is at
// another machine, and without a display. getenv returns an environment variable.
//
// The function blocks until the program that it starts ends, which may be the browser itself. That program is not
// connected to the terminal.
func Browser(getenv func(string) string) func(address string) error {
	if getenv("SSH_CONNECTION") != "" || getenv("SSH_TTY") != "" {
		return nil
	}
	var command []string
	switch runtime.GOOS {
	case "darwin":
		command = []string{"open"}
	case "windows":
		command = []string{"rundll32", "url.dll,FileProtocolHandler"}
	default:
		if getenv("DISPLAY") == "" && getenv("WAYLAND_DISPLAY") == "" {
			return nil // xdg-open would start a browser in the terminal
		}
		command = []string{"xdg-open"}
	}
	return func(address string) error {
		// Without a context: the browser outlives the rehearsal. The address is an https URL, never an option.
		return exec.Command(command[0], append(command[1:], address)...).Run() //nolint:noctx // see above
	}
}
