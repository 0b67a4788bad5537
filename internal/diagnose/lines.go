package diagnose

import (
	"strings"
	"time"
)

// entry is one message of a log.
type entry struct {
	time       time.Time
	identifier string // of the program
	pid        string
	message    string // its lines, separated by line feeds; not cleaned
}

// maxMessage bounds the length of a message, in bytes. What is behind it tells nothing that the beginning does not.
const maxMessage = 64 << 10

// lines puts the lines of a log together to messages. A message of several lines has one head; journalctl indents its other
// lines. So a text that somebody else sent never begins a message, whatever it holds.
type lines struct {
	clock *Clock
	open  *entry
	text  strings.Builder // the message of open
	each  func(entry)
}

// add takes the next line.
func (l *lines) add(line string) {
	head, message, ok := parseHead(line)
	switch {
	case ok:
		l.end()
		l.open = &head
		l.open.time = l.clock.instant(head.time)
		l.text.WriteString(message)
	case l.open == nil:
	case strings.HasPrefix(line, " ") || line == "":
		if l.text.Len() < maxMessage {
			l.text.WriteString("\n" + strings.TrimLeft(line, " "))
		}
	default: // journalctl's own words: "-- No entries --", "-- Boot 5f… --", "-- Reboot --", "-- Journal begins at … --"
		l.end()
	}
}

// end completes the last message.
func (l *lines) end() {
	if l.open == nil {
		return
	}
	l.open.message = l.text.String()
	l.each(*l.open)
	l.open = nil
	l.text.Reset()
}

// parseHead reads a line as journalctl writes it with `-o short`: "Dec 01 05:55:50 pve pvedaemon[26823]: " and the message.
// The time of the entry has no year and no zone yet.
func parseHead(line string) (head entry, message string, ok bool) {
	const layout = time.Stamp // "Jan _2 15:04:05"
	if len(line) <= len(layout) || line[len(layout)] != ' ' {
		return entry{}, "", false
	}
	t, err := time.Parse("2006 "+layout, "2000 "+line[:len(layout)]) // a year with a 29 February
	if err != nil {
		return entry{}, "", false
	}
	_, rest, found := strings.Cut(line[len(layout)+1:], " ") // the host
	program, message, colon := strings.Cut(rest, ": ")
	if !colon {
		program, colon = strings.CutSuffix(rest, ":")
	}
	if !found || !colon || strings.ContainsRune(program, ' ') {
		return entry{}, "", false
	}
	name, pid, _ := strings.Cut(program, "[")
	return entry{time: t, identifier: name, pid: strings.TrimSuffix(pid, "]")}, message, true
}
