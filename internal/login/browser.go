package login

import (
	"os"
	"os/exec"
	"runtime"
)

// Browser returns a function that opens an address in the user's browser. It returns nil over ssh, because the user is at
// another machine, and without a display.
//
// The function blocks until the program that it starts ends, which may be the browser itself. That program is not
// connected to the terminal.
func Browser() func(address string) error {
	if os.Getenv("SSH_CONNECTION") != "" || os.Getenv("SSH_TTY") != "" {
		return nil
	}
	var command []string
	switch runtime.GOOS {
	case "darwin":
		command = []string{"open"}
	case "windows":
		command = []string{"rundll32", "url.dll,FileProtocolHandler"}
	default:
		if os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
			return nil // xdg-open would start a browser in the terminal
		}
		command = []string{"xdg-open"}
	}
	return func(address string) error {
		// Without a context: the browser outlives the rehearsal. The address is an https URL, never an option.
		return exec.Command(command[0], append(command[1:], address)...).Run() //nolint:noctx // see above
	}
}
