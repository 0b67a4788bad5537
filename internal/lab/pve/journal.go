package pve

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// Line is one entry of a node's journal. Its message may have several lines, or bytes that are no text.
type Line struct {
	Time time.Time
	// Process is what logged it (SYSLOG_IDENTIFIER), such as "pvedaemon". If it is empty, Message is a line of journalctl's
	// own, such as "-- Boot 3f0c… --".
	Process string
	PID     int
	// Unit is the systemd unit without ".service"; empty means that of the process's name.
	Unit    string
	Message string
}

// journal is what a node's systemd-journald holds, in the order of time.
type journal struct {
	mu      sync.RWMutex
	entries []entry
}

// entry is a line with what journalctl makes of it.
type entry struct {
	Line
	blob   bool // journalctl shows the size of the message in place of its text
	height int  // how many lines journalctl prints
}

// Log adds lines to the journal of a node, in any order. It returns an error if there is no such node.
func (s *Server) Log(node string, lines ...Line) error {
	n := s.node(node, nil)
	if n == nil {
		return fmt.Errorf("there is no node %s", node)
	}
	n.log.add(lines...)
	return nil
}

// write logs a message of pvedaemon.
func (n *node) write(pid int, message string) {
	n.log.add(Line{Time: n.now(), Process: "pvedaemon", PID: pid, Message: fileBytes(message)})
}

func (j *journal) add(lines ...Line) {
	j.mu.Lock()
	defer j.mu.Unlock()
	sorted := true
	for _, l := range lines {
		if l.Unit == "" {
			l.Unit = l.Process
		}
		l.Message = strings.TrimRight(l.Message, "\n")
		e := entry{Line: l, blob: !printable(l.Message), height: 1}
		if !e.blob {
			e.height += strings.Count(l.Message, "\n")
		}
		sorted = sorted && (len(j.entries) == 0 || !l.Time.Before(j.entries[len(j.entries)-1].Time))
		j.entries = append(j.entries, e)
	}
	if !sorted {
		slices.SortStableFunc(j.entries, func(a, b entry) int { return a.Time.Compare(b.Time) })
	}
}

// printable is utf8_is_printable of systemd, which allows line feeds and tabs.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && r != '\t' && unicode.IsControl(r) })
}

// between returns the entries of a unit from since to until. Zero times and an empty unit match all. Journalctl's own lines
// belong to every unit.
func (j *journal) between(since, until time.Time, unit string) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		j.mu.RLock()
		defer j.mu.RUnlock()
		first := 0
		if !since.IsZero() {
			first, _ = slices.BinarySearchFunc(j.entries, since, func(e entry, t time.Time) int { return e.Time.Compare(t) })
		}
		for i := first; i < len(j.entries); i++ {
			e := &j.entries[i]
			if !until.IsZero() && e.Time.After(until) || (unit == "" || e.Unit == unit || e.Process == "") && !yield(e) {
				return
			}
		}
	}
}

// lines returns what `journalctl -o short` prints for an entry, line by line.
func (e *entry) lines(n *node) []string {
	if e.Process == "" {
		return []string{e.Message}
	}
	head := e.Time.In(n.zone).Format("Jan 02 15:04:05 ") + n.Name + " " + e.Process
	if e.PID != 0 {
		head += fmt.Sprintf("[%d]", e.PID)
	}
	head += ": "
	if e.blob {
		return []string{fmt.Sprintf("%s[%dB blob data]", head, len(e.Message))}
	}
	lines := strings.Split(e.Message, "\n")
	for i := range lines {
		lines[i] = head + lines[i]
		head = strings.Repeat(" ", len(head))
	}
	return lines
}
