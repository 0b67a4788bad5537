//go:build !linux

package agent

// monotonic: there is no systemd here.
func monotonic() []string { return nil }
