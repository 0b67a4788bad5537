package agent

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"
)

// systemd is told how the agent is (sd_notify(3)): datagrams of assignments on the socket that $NOTIFY_SOCKET names.
// Elsewhere than under systemd nothing is said to nobody.
type systemd struct {
	address  string
	watchdog time.Duration // how often it wants to hear that the agent lives; 0: it does not
	log      *slog.Logger
}

func newSystemd(env []string, log *slog.Logger) *systemd {
	s := &systemd{log: log}
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		switch name {
		case "NOTIFY_SOCKET": // an @ stands for the abstract name space, as in package net
			s.address = value
		case "WATCHDOG_USEC":
			if usec, err := strconv.ParseInt(value, 10, 63); err == nil && usec > 0 {
				s.watchdog = time.Duration(usec) * time.Microsecond
			}
		}
	}
	return s
}

// say sends assignments, such as READY=1.
func (s *systemd) say(assignments ...string) {
	if s.address == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.address, Net: "unixgram"})
	if err != nil {
		s.log.Debug("telling systemd", "error", err)
		return
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second)) // a full queue must not hold the agent
	if _, err := conn.Write([]byte(strings.Join(assignments, "\n"))); err != nil {
		s.log.Debug("telling systemd", "error", err)
	}
}

// watch feeds the watchdog twice as often as it bites, for as long as the agent is alive: a loop that hangs is for
// systemd to end.
func (s *systemd) watch(ctx context.Context, alive func() bool) {
	if s.watchdog == 0 || s.address == "" {
		return
	}
	tick := time.NewTicker(s.watchdog / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if alive() {
				s.say("WATCHDOG=1")
			}
		}
	}
}
