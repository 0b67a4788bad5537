package pbs

import (
	"fmt"
	"regexp"

	"proxmox-realm/internal/lab/standin"
)

// The journal is the host's system log, as far as it is about requests. Successful logins are not in it: the daemon writes
// them to its auth.log alone.

func (s *Server) write(identifier, text string) {
	s.journal.Add(standin.Line{Time: s.opts.Now(), Process: identifier, PID: 1000 + len(identifier), Unit: s.product.unit(identifier), Message: text})
}

// logFailure logs refused credentials. user is empty where nobody claimed to be one.
func (s *Server) logFailure(identifier string, c *call, user string, err error) {
	if user != "" {
		user = " user=" + user
	}
	s.write(identifier, fmt.Sprintf("authentication failure; rhost=%s%s msg=%s", c.peer, user, err))
}

var dateTime = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}( \d{2}:\d{2}(:\d{2})?)?$`)

// syslog is GET /nodes/{node}/syslog: what journalctl prints. Its lines are counted from 1.
func (c *call) syslog() (any, error) {
	journal := &c.s.journal
	since, isSince := journal.Time(c.params.text("since"))
	until, isUntil := journal.Time(c.params.text("until"))
	if !isSince || !isUntil { // journalctl fails, and prints nothing
		c.extra["total"] = 1
		return []any{map[string]any{"n": 1, "t": "no content"}}, nil
	}
	first := max(int(c.params.integer("start", 0)), 1) - 1
	page, total := journal.Page(since, until, c.params.text("service"), first, int(c.params.integer("limit", 50)))
	c.extra["total"] = total
	return page, nil
}

// time is GET /nodes/{node}/time. localtime is the time as if the zone were UTC.
func (c *call) time() (any, error) {
	now := c.s.opts.Now()
	_, offset := now.In(c.s.opts.Zone).Zone()
	return map[string]any{"time": now.Unix(), "localtime": now.Unix() + int64(offset), "timezone": c.s.opts.Zone.String()}, nil
}
