package login

import (
	"os/exec"
	"runtime"
)

// Browser returns what opens an address in the user's browser, or nil where there is none to be expected: over ssh,
// whose user sits elsewhere, and where no display is. getenv looks an environment variable up.
//
// The function blocks until the program that it starts has ended, which may be the browser itself; its input and output
// are not the terminal's.
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
			return nil // xdg-open would begin a browser in the terminal
		}
		command = []string{"xdg-open"}
	}
	return func(address string) error {
		// Without a context: the browser outlives the rehearsal. The address is an https URL, never an option.
		return exec.Command(command[0], append(command[1:], address)...).Run() //nolint:noctx // see above
	}
}
