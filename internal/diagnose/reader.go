package diagnose

import (
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
)

// Reader turns the lines of one node's log into logins. It keeps little of what it has read, however long the log is.
type Reader struct {
	node  string
	facts Facts
	each  func(Login)
	lines lines

	workers map[string]*worker // by process id
	hidden  int
}

// worker is what one process has written about a login that has not ended. A process handles one login after the other.
type worker struct {
	since   time.Time
	login   Login
	blobs   int
	details string   // why Datacenter Manager made no authorization URL
	told    *attempt // the failure that was told last: a second line repeats it
}

// attempt identifies a request of Backup Server or Datacenter Manager, which write two lines about some failures.
type attempt struct {
	time          time.Time
	address, text string
}

// together is how far apart the lines of one login are at most: a lock is waited for 10 s, an issuer for 30 s.
const together = time.Minute

// NewReader returns a Reader of a node's log. Each is called for each login as its last line is read.
func NewReader(node string, facts Facts, each func(Login)) *Reader {
	r := &Reader{node: node, facts: facts, each: each, workers: map[string]*worker{}}
	r.lines.each = r.entry
	return r
}

// Read takes the next lines of the log. The clock says what their times mean; it may be another one for each call.
func (r *Reader) Read(clock *Clock, lines []string) {
	if former := r.lines.clock; former != nil && former != clock {
		clock.last = former.last
	}
	r.lines.clock = clock
	for _, line := range lines {
		r.lines.add(line)
	}
}

// End takes the end of the log.
func (r *Reader) End() {
	r.lines.end()
	for _, w := range r.workers {
		r.abandon(w)
	}
	clear(r.workers)
}

// Hidden counts the messages that the log does not show, and that belong to no login that succeeded. One of them may tell
// of a login that failed. They hold characters outside ASCII, such as the ö of a name.
func (r *Reader) Hidden() int { return r.hidden }

// Last returns when the last line was written; zero before the first one.
func (r *Reader) Last() time.Time {
	if r.lines.clock == nil {
		return time.Time{}
	}
	return r.lines.clock.last
}

// A daemon is one of Proxmox's programs whose messages tell of logins.
type daemon func(*Reader, *worker, entry)

// daemons are by the identifier of their messages.
var daemons = map[string]daemon{
	"pvedaemon":                         (*Reader).virtualEnvironment,
	"proxmox-backup-api":                (*Reader).rust,
	"proxmox-datacenter-privileged-api": (*Reader).rust,
}

// entry takes the next message.
func (r *Reader) entry(e entry) {
	d, ours := daemons[e.identifier]
	if !ours {
		return
	}
	w := r.workers[e.pid]
	if w == nil || e.time.Sub(w.since).Abs() > together {
		if w != nil {
			r.abandon(w)
		}
		w = &worker{since: e.time}
	}
	r.workers[e.pid] = w
	if blob().MatchString(e.message) {
		w.blobs++
		return
	}
	d(r, w, e)
}

// blob is what journalctl writes in place of a message that is not printable.
var blob = check.Pattern(`^\[[0-9.]+[BKMG] blob data\]$`)

// abandon counts what belongs to no login.
func (r *Reader) abandon(w *worker) {
	r.hidden += w.blobs
	if w.details != "" {
		r.fail(w, entry{time: w.since}, "", w.details)
	}
}

// tell hands a login over, and begins the next one of the worker.
func (r *Reader) tell(w *worker, l Login, at time.Time) {
	l.Time, l.Node = at, r.node
	l.Unshown = w.blobs
	*w = worker{since: at, told: w.told}
	r.each(l)
}

// virtualEnvironment takes a message of pvedaemon (PVE::API2::OpenId).
func (r *Reader) virtualEnvironment(w *worker, e entry) {
	l := &w.login
	if rest, ok := strings.CutPrefix(e.message, "openid authentication failure; rhost="); ok {
		address, text, _ := strings.Cut(rest, " msg=")
		r.hidden += w.blobs
		w.blobs = 0
		r.fail(w, e, address, text)
		return
	}
	if values, ok := pattern("<root@pam> successful openid auth for user '%'").match(e.message); ok {
		r.succeed(w, e, values[0])
		return
	}
	for _, line := range groupLines {
		if values, ok := line.text.match(e.message); ok {
			line.note(l, values, r.facts.Cleaner.Clean)
			if l.Text == "" && line.cause != "" {
				l.Cause, l.Text = line.cause, r.facts.Cleaner.Clean(e.message)
			}
			return
		}
	}
}

// groupLines are what pvedaemon writes about groups before a login succeeds (PVE::API2::OpenId).
var groupLines = []struct {
	text  pattern
	cause Cause
	note  func(l *Login, values []string, clean func(string) string)
}{
	{"openid groups claim '%' is not found in claims", GroupsClaimAbsent, func(l *Login, v []string, clean func(string) string) {
		l.subject = clean(v[0])
	}},
	{"openid groups list is not an array%", GroupsNoList, func(*Login, []string, func(string) string) {}},
	{"openid group '%' contains invalid characters", GroupsRefused, func(l *Login, v []string, clean func(string) string) {
		l.Refused = appendName(l.Refused, clean(v[0]))
	}},
	{"openid user '%' added to groups: %", "", func(l *Login, v []string, clean func(string) string) {
		l.User = clean(v[0])
		for name := range strings.SplitSeq(v[1], ", ") {
			l.Groups = appendName(l.Groups, clean(name))
		}
	}},
	{"openid overwrite groups enabled; user '%' removed from all groups", "", func(l *Login, v []string, clean func(string) string) {
		l.User = clean(v[0])
	}},
}

// maxNames bounds the names that are kept of one login.
const maxNames = 256

func appendName(names []string, name string) []string {
	if len(names) >= maxNames {
		return names
	}
	return append(names, name)
}

// succeed takes the line that ends a login that succeeded.
func (r *Reader) succeed(w *worker, e entry, user string) {
	user = r.facts.Cleaner.Clean(user)
	if w.login.User != "" && w.login.User != user { // the lines before belong to a login that never ended
		r.hidden += w.blobs
		*w = worker{since: e.time}
	}
	l := w.login
	l.Outcome, l.User, l.Realm = Succeeded, user, realmOf(user)
	if l.Text == "" {
		l.Text = r.facts.Cleaner.Clean(e.message)
	}
	if w.blobs > 0 && l.Cause == "" && r.facts.Login.GroupsClaim != "" {
		l.Cause = GroupsRefused
	}
	r.tell(w, r.facts.explainGroups(l), e.time)
}

// fail takes a line that ends a login that failed.
func (r *Reader) fail(w *worker, e entry, address, text string) {
	l := w.login
	l.Outcome, l.Address = Failed, r.address(address)
	r.tell(w, r.facts.explain(l, text), e.time)
}

// address returns the address of a browser: without a port, and IPv4 as such (PVE::HTTPServer sees ::ffff:192.0.2.1).
func (r *Reader) address(text string) string {
	text = strings.TrimSpace(text)
	if inner, _, found := strings.Cut(strings.TrimPrefix(text, "["), "]"); found && strings.HasPrefix(text, "[") {
		text = inner
	}
	if rest, ok := strings.CutPrefix(text, "::ffff:"); ok && strings.Contains(rest, ".") {
		text = rest
	}
	return r.facts.Cleaner.Clean(text)
}

// realmOf returns the realm of user@realm. The name may hold @.
func realmOf(user string) string {
	return user[strings.LastIndex(user, "@")+1:]
}

func clean(cleaner *check.Cleaner, values []string) []string {
	out := slices.Clone(values)
	for i, v := range out {
		out[i] = cleaner.Clean(v)
	}
	return out
}
