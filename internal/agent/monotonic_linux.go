package agent

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// monotonic is what goes with RELOADING=1 (sd_notify(3)): the reading of CLOCK_MONOTONIC, in microseconds.
func monotonic() []string {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return nil
	}
	return []string{"MONOTONIC_USEC=" + strconv.FormatInt(now.Nano()/1000, 10)}
}
