package login

import (
	"os"
	"os/exec"
	"runtime"
)

// Browser returns a function that opens an address in the user's browser. It returns nil without a display, and over ssh, because
// the user is at another machine. It returns nil for root on behalf of another user too: a browser must not run as root, and the
// desktop is not root's.
//
// The function blocks until the program that it starts ends, which may be the browser itself. That program is not
// connected to the terminal.
func Browser() func(address string) error {
	for _, elsewhere := range []string{"SSH_CONNECTION", "SSH_TTY", "SUDO_UID", "SUDO_USER", "DOAS_USER", "PKEXEC_UID"} {
		if os.Getenv(elsewhere) != "" {
			return nil
		}
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
