package pbs

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// journal is the host's system log, as far as it is about requests. Successful logins are not in it: the daemon writes them
// to its auth.log alone.
type journal struct {
	mu    sync.Mutex
	last  int // number of the newest line
	lines []line
}

type line struct {
	number           int
	time             time.Time
	identifier, text string
}

const (
	maxLines  = 10_000
	maxNumber = 1 << 30 // of a line
)

func (j *journal) add(now time.Time, identifier, text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last++
	j.lines = append(j.lines, line{j.last, now, identifier, text})
	if len(j.lines) > maxLines {
		j.lines = slices.Clone(j.lines[maxLines/10:])
	}
}

// logFailure logs refused credentials. user is empty where nobody claimed to be one.
func (s *Server) logFailure(identifier string, c *call, user string, err error) {
	if user != "" {
		user = " user=" + user
	}
	s.journal.add(s.opts.Now(), identifier, fmt.Sprintf("authentication failure; rhost=%s%s msg=%s", c.peer, user, err))
}

// show writes a line as journalctl -o short does.
func (s *Server) show(l line) string {
	return fmt.Sprintf("%s %s %s[%d]: %s", l.time.In(s.opts.Zone).Format(time.Stamp), s.product.Name, l.identifier, 1000+len(l.identifier), l.text)
}

// between returns the lines of a unit, or of all if it is empty, from since to until, which zero leaves open.
func (s *Server) between(unit string, since, until time.Time) []line {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	var lines []line
	for _, l := range s.journal.lines {
		if (unit == "" || unit == s.product.unit(l.identifier)) && !l.time.Before(since) && (until.IsZero() || !l.time.After(until)) {
			lines = append(lines, l)
		}
	}
	return lines
}

var dateTime = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}( \d{2}:\d{2}(:\d{2})?)?$`)

// parseTime reads a time in the zone of the host, and says whether there is such a time. An empty text is the zero time.
func (s *Server) parseTime(text string) (time.Time, bool) {
	if text == "" {
		return time.Time{}, true
	}
	t, err := time.ParseInLocation(time.DateTime[:len(text)], text, s.opts.Zone)
	return t, err == nil
}

// syslog is GET /nodes/{node}/syslog: what journalctl prints.
func (c *call) syslog() (any, error) {
	since, isSince := c.s.parseTime(c.params.text("since"))
	until, isUntil := c.s.parseTime(c.params.text("until"))
	lines := []map[string]any{}
	if !isSince || !isUntil { // journalctl fails, and prints nothing
		c.extra["total"] = 1
		return append(lines, map[string]any{"n": 1, "t": "no content"}), nil
	}
	var texts []string
	for _, l := range c.s.between(strings.TrimSuffix(c.params.text("service"), ".service"), since, until) {
		texts = append(texts, strings.Split(c.s.show(l), "\n")...)
	}
	if len(texts) == 0 {
		texts = []string{"-- No entries --"}
	}
	start, limit := c.params.integer("start", 0), c.params.integer("limit", 50)
	for i, text := range texts {
		if n := int64(i) + 1; n >= start && int64(len(lines)) < limit {
			lines = append(lines, map[string]any{"n": n, "t": text})
		}
	}
	c.extra["total"] = len(texts)
	return lines, nil
}

// showJournal is GET /nodes/{node}/journal: lines between two cursors.
func (c *call) showJournal() (any, error) {
	var until time.Time
	if n := c.params.integer("until", 0); n > 0 {
		until = time.Unix(n, 0)
	}
	lines := c.s.between("", time.Unix(c.params.integer("since", 0), 0), until)
	from, to := 0, maxNumber
	if n, err := strconv.Atoi(c.params.text("startcursor")); err == nil {
		from = n
	}
	if n, err := strconv.Atoi(c.params.text("endcursor")); err == nil {
		to = n
	}
	lines = slices.DeleteFunc(lines, func(l line) bool { return l.number <= from || l.number >= to })
	if n := c.params.integer("lastentries", 0); n > 0 && n < int64(len(lines)) {
		lines = lines[len(lines)-int(n):]
	}
	c.contentType, c.extra["success"] = plainJSON, 1
	out := []string{}
	for _, l := range lines {
		out = append(out, c.s.show(l))
	}
	if len(lines) > 0 {
		out = slices.Concat([]string{strconv.Itoa(lines[0].number)}, out, []string{strconv.Itoa(lines[len(lines)-1].number)})
	}
	return out, nil
}

// time is GET /nodes/{node}/time. localtime is the time as if the zone were UTC.
func (c *call) time() (any, error) {
	now := c.s.opts.Now()
	_, offset := now.In(c.s.opts.Zone).Zone()
	return map[string]any{"time": now.Unix(), "localtime": now.Unix() + int64(offset), "timezone": c.s.opts.Zone.String()}, nil
}
