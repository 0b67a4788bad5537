package pve

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"proxmox-realm/internal/lab/standin"
)

// total is an answer with the number of all entries beside its data.
type total struct {
	data  any
	total int
}

// raw is an answer that is streamed as it is, compressed in any case.
type raw string

const (
	syslogLimit     = 50  // lines that a node answers with if limit is absent or 0
	clusterLogLimit = 50  // likewise, of max
	clusterLogSize  = 500 // entries that the cluster keeps; a real one keeps 128 KiB
)

var (
	syslogTime = property{kind: "string", pattern: pattern(`\d{4}-\d{2}-\d{2}( \d{2}:\d{2}(:\d{2})?)?`), optional: true}
	natural    = property{kind: "integer", bounded: true, optional: true}
)

// logEndpoints are the methods that read logs.
func (s *Server) logEndpoints() []*endpoint {
	node := schema{"node": &anyString}
	syslog := s.onNode("Sys.Syslog")
	return []*endpoint{
		{method: "GET", path: "/nodes/{node}/syslog", proxied: true, allowed: syslog, run: s.readSyslog, params: node.and(schema{
			"start": &natural, "limit": &natural, "since": &syslogTime, "until": &syslogTime,
			"service": {kind: "string", max: 128, optional: true},
		})},
		{method: "GET", path: "/nodes/{node}/journal", proxied: true, allowed: syslog, run: s.readJournal, params: node.and(schema{
			"since": &natural, "until": &natural, "lastentries": &natural,
			"unit": {kind: "string", pattern: pattern(`[a-zA-Z0-9:_.@-]+`), optional: true},
		})},
		{method: "GET", path: "/nodes/{node}/time", allowed: s.onNode("Sys.Audit"), run: readTime, params: node},
		{method: "GET", path: "/cluster/log", all: true, run: s.readClusterLog, params: schema{"max": {kind: "integer", bounded: true, lowest: 1, optional: true}}},
	}
}

// onNode is the check [perm, /nodes/{node}, priv].
func (s *Server) onNode(priv string) func(*call) error {
	return func(c *call) error { return s.need("/nodes/"+c.text("node"), priv)(c) }
}

func (c *call) number(k string) int {
	n, _ := strconv.Atoi(c.text(k))
	return n
}

// readSyslog is PVE::Tools::dump_journal: the lines that journalctl prints, counted from the oldest.
func (s *Server) readSyslog(c *call) (any, error) {
	since, isSince := c.node.log.Time(c.text("since"))
	until, isUntil := c.node.log.Time(c.text("until"))
	if !isSince || !isUntil || !since.IsZero() && !until.IsZero() && since.After(until) {
		command := "journalctl -o short --no-pager"
		for _, option := range [][2]string{{"service", "unit"}, {"since", "since"}, {"until", "until"}} {
			if value := c.text(option[0]); value != "" {
				command += " --" + option[1] + " " + shellQuote(value)
			}
		}
		return nil, dief("command '%s' failed: exit code 1", command)
	}
	page, count := c.node.log.Page(since, until, c.text("service"), c.number("start"), cmp.Or(c.number("limit"), syslogLimit))
	return total{page, count}, nil
}

// shellQuote quotes an argument as String::ShellQuote does.
func shellQuote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune("!%+,-./:=@^_", r) && !isWord(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func isWord(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_'
}

// readJournal is what mini-journalreader prints. Its failures are answers too: empty, or broken off.
func (s *Server) readJournal(c *call) (any, error) {
	last := c.number("lastentries")
	if last > 0 && (c.params["since"] != nil || c.params["until"] != nil) {
		return raw(""), nil
	}
	var since, until time.Time
	if c.params["since"] != nil {
		since = time.Unix(int64(c.number("since")), 0)
	}
	if c.params["until"] != nil {
		until = time.Unix(int64(c.number("until")), 0)
	}
	entries := slices.Collect(c.node.log.Between(since, until, c.text("unit")))
	if last > 0 {
		entries = entries[max(0, len(entries)-last):]
	}
	if len(entries) == 0 {
		return raw(`{"data":[`), nil
	}
	lines := []string{cursor(entries[0])}
	for _, e := range entries {
		lines = append(lines, c.node.log.Show(e)...)
	}
	lines = append(lines, cursor(entries[len(entries)-1]))
	return raw(`{"data":` + string(standin.Marshal(lines)) + `,"success":1}`), nil
}

func cursor(e standin.Entry) string {
	const boot = "c1419c5d1087427f9cfb6d9437b3e4bc"
	micro := e.Time.UnixMicro()
	return fmt.Sprintf("s=%s;i=%x;b=%s;m=%x;t=%x;x=%x", boot, e.PID, boot, micro, micro, micro)
}

func readTime(c *call) (any, error) {
	now := c.node.now()
	_, offset := now.Zone()
	return map[string]any{"time": now.Unix(), "localtime": now.Unix() + int64(offset), "timezone": c.node.log.Zone.String()}, nil
}

// clusterLine is an entry of the log that all nodes of a cluster share.
type clusterLine struct {
	id   int
	time time.Time
	node *node
	pid  int
	user string
	msg  string
}

// tell logs a message about a user (PVE::Cluster::log_msg): in the node's journal and in the cluster's log.
func (s *Server) tell(c *call, user, message string) {
	c.node.write(c.worker, "<"+user+"> "+message)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clusterLines++
	s.clusterLog = append(s.clusterLog, clusterLine{s.clusterLines, c.node.now(), c.node, c.worker, user, message})
	s.clusterLog = s.clusterLog[max(0, len(s.clusterLog)-clusterLogSize):]
}

// readClusterLog lists the newest entries first. Whoever lacks Sys.Syslog on / sees only their own.
func (s *Server) readClusterLog(c *call) (any, error) {
	all := s.has(s.view(), c.user, "/", "Sys.Syslog")
	limit := cmp.Or(c.number("max"), clusterLogLimit)
	s.mu.Lock()
	entries := slices.Clone(s.clusterLog)
	s.mu.Unlock()
	data := []any{}
	for _, e := range slices.Backward(entries) {
		if len(data) < limit && (all || e.user == c.user) {
			data = append(data, map[string]any{
				"id": fmt.Sprintf("%d:%s", e.id, e.node.Name), "uid": strconv.Itoa(e.id), "node": e.node.Name, "pid": e.pid,
				"pri": 6, "tag": "pvedaemon", "time": e.time.Unix(), "user": e.user, "msg": e.msg,
			})
		}
	}
	return data, nil
}
