package standin

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

// Line is one entry of a host's journal. Its message may have several lines, or bytes that are no text.
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

// Journal is what a host's systemd-journald holds, in the order of time.
type Journal struct {
	Host string         // its name
	Zone *time.Location // in which it is read

	mu      sync.RWMutex
	entries []Entry
}

// Entry is a line with what journalctl makes of it.
type Entry struct {
	Line
	blob   bool // journalctl shows the size of the message in place of its text
	height int  // how many lines journalctl prints
}

// Add adds lines, in any order.
func (j *Journal) Add(lines ...Line) {
	j.mu.Lock()
	defer j.mu.Unlock()
	sorted := true
	for _, l := range lines {
		if l.Unit == "" {
			l.Unit = l.Process
		}
		l.Message = strings.TrimRight(l.Message, "\n")
		e := Entry{Line: l, blob: !printable(l.Message), height: 1}
		if !e.blob {
			e.height += strings.Count(l.Message, "\n")
		}
		sorted = sorted && (len(j.entries) == 0 || !l.Time.Before(j.entries[len(j.entries)-1].Time))
		j.entries = append(j.entries, e)
	}
	if !sorted {
		slices.SortStableFunc(j.entries, func(a, b Entry) int { return a.Time.Compare(b.Time) })
	}
}

// printable is utf8_is_printable of systemd, which allows line feeds and tabs.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && r != '\t' && unicode.IsControl(r) })
}

// Between returns the entries of a unit from since to until. Zero times and an empty unit match all. Journalctl's own lines
// belong to every unit. A unit may end in ".service".
func (j *Journal) Between(since, until time.Time, unit string) iter.Seq[Entry] {
	unit = strings.TrimSuffix(unit, ".service")
	return func(yield func(Entry) bool) {
		j.mu.RLock()
		defer j.mu.RUnlock()
		first := 0
		if !since.IsZero() {
			first, _ = slices.BinarySearchFunc(j.entries, since, func(e Entry, t time.Time) int { return e.Time.Compare(t) })
		}
		for i := first; i < len(j.entries); i++ {
			e := j.entries[i]
			if !until.IsZero() && e.Time.After(until) || (unit == "" || e.Unit == unit || e.Process == "") && !yield(e) {
				return
			}
		}
	}
}

// Show returns what `journalctl -o short` prints for an entry, line by line.
func (j *Journal) Show(e Entry) []string {
	if e.Process == "" {
		return []string{e.Message}
	}
	head := e.Time.In(j.Zone).Format("Jan 02 15:04:05 ") + j.Host + " " + e.Process
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

// Time reads a time of a query, such as "2026-12-01 05:55", and says whether there is such a time. An empty text is the
// zero time.
func (j *Journal) Time(text string) (time.Time, bool) {
	if text == "" {
		return time.Time{}, true
	}
	t, err := time.ParseInLocation(time.DateTime[:len(text)], text, j.Zone)
	return t, err == nil
}

// Page returns count of the lines that Between selects, as answers of the API have them, and how many lines there are in
// all. first is the number of the first line to return, counted from 0.
func (j *Journal) Page(since, until time.Time, unit string, first, count int) (page []any, total int) {
	page = []any{}
	show := func(e Entry) {
		at := total
		total += e.height
		if total <= first || at >= first+count {
			return
		}
		for i, text := range j.Show(e) {
			if n := at + i; n >= first && n < first+count {
				page = append(page, map[string]any{"n": n + 1, "t": text})
			}
		}
	}
	for e := range j.Between(since, until, unit) {
		show(e)
	}
	if total == 0 {
		show(Entry{Line: Line{Message: "-- No entries --"}, height: 1})
	}
	return page, total
}
