package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/proxmox"
)

// Logs are the system logs of one Proxmox installation. *proxmox.Client implements it; a rehearsal of a login reads one node alone.
type Logs interface {
	// Nodes lists the hosts that have a log.
	Nodes(ctx context.Context) ([]proxmox.Node, error)
	// NodeTime returns the clock of a node, and a [proxmox.PermissionDenied] if the credentials may not see it.
	NodeTime(ctx context.Context, node string) (proxmox.NodeTime, error)
	ReadLog(ctx context.Context, node string, at proxmox.NodeTime, r proxmox.LogRange, page func(proxmox.LogPage)) (whole bool, err error)
	// ReadJournal reads the log of a node whose clock is not known.
	ReadJournal(ctx context.Context, node string, ahead time.Duration, r proxmox.LogRange, page func(proxmox.LogPage)) (whole bool, err error)
}

// overlap is how far back a second read goes: the lines of one login may have been written before and after the first one.
const overlap = time.Minute

// LoginReader reads the logins of one installation from the logs of its nodes. Each read goes on where the one before
// ended. It is not safe for concurrent use.
type LoginReader struct {
	facts   diagnose.Facts
	span    time.Duration
	sparing bool
	nodes   map[string]*position
	open    []string  // the nodes that can be read, sorted
	looked  time.Time // when open was filled
	mu      sync.Mutex
}

// position is how far the log of a node was read, on the node's clock.
type position struct {
	clock  proxmox.NodeTime
	blind  bool // the credentials may not see the clock
	since  time.Time
	told   map[told]int
	hidden int // in the last read
}

// told identifies logins that were told: so many of them, within the overlap.
type told struct {
	at                  int64
	address, user, text string
	outcome             diagnose.Outcome
}

// Reading is what one read came to.
type Reading struct {
	Since  time.Time // by this machine's clock
	Read   []string  // the nodes whose logs were read
	Unread []Unread
	Ahead  map[string]time.Duration // clocks of nodes, against this machine's
	Hidden map[string]int           // messages that a log does not show, see [diagnose.Reader.Hidden]
}

// Unread is a node whose log could not be read.
type Unread struct {
	Node string
	Err  error
}

// NewLoginReader returns a reader whose first read goes back as far as span.
func NewLoginReader(facts diagnose.Facts, span time.Duration) *LoginReader {
	return &LoginReader{facts: facts, span: span, nodes: map[string]*position{}}
}

// NewLoginWatch returns a reader for a log that is read again and again, with little effort. A read sends at most two requests
// for each node. Nodes, clocks and privileges are asked for in the first read and hourly, by reads that read no log. What
// happened before the first read is not told, and a node whose log may not be read is left alone for an hour.
func NewLoginWatch(facts diagnose.Facts) *LoginReader {
	r := NewLoginReader(facts, 0)
	r.sparing = true
	return r
}

// lookEvery is how often a watch asks for nodes, clocks and privileges again.
const lookEvery = time.Hour

// Read reads the logs of all nodes at the same time, and calls each for each login that no read has told yet. Calls do not
// overlap. Its error says why no node could be read; a watch, which tries again, returns none for a node.
func (r *LoginReader) Read(ctx context.Context, logs Logs, each func(diagnose.Login)) (Reading, error) {
	reading := Reading{Since: time.Now().Add(-r.span), Ahead: map[string]time.Duration{}, Hidden: map[string]int{}}
	looks := !r.sparing || time.Since(r.looked) >= lookEvery
	if looks {
		if err := r.look(ctx, logs, &reading); err != nil {
			return reading, err
		}
	}
	if !looks || !r.sparing {
		failed := r.at(r.open, &reading, func(node string) error { return r.read(ctx, logs, node, r.nodes[node], each) })
		r.open = slices.DeleteFunc(r.open, func(node string) bool { return denied(failed[node]) })
		for _, node := range r.open {
			if at := r.nodes[node]; failed[node] == nil {
				reading.Read = append(reading.Read, node)
				if reading.Ahead[node] = at.clock.Ahead; at.hidden > 0 {
					reading.Hidden[node] = at.hidden
				}
			}
		}
	}
	slices.SortFunc(reading.Unread, func(a, b Unread) int { return strings.Compare(a.Node, b.Node) })
	if r.sparing {
		return reading, context.Cause(ctx)
	}
	return reading, reading.failure(ctx)
}

// at does something for nodes at the same time. It returns the errors, which the reading notes too.
func (r *LoginReader) at(nodes []string, reading *Reading, do func(node string) error) map[string]error {
	failed := map[string]error{}
	var all sync.WaitGroup
	for _, node := range nodes {
		all.Go(func() {
			if err := do(node); err != nil {
				r.mu.Lock()
				defer r.mu.Unlock()
				failed[node] = err
				reading.Unread = append(reading.Unread, Unread{node, err})
			}
		})
	}
	all.Wait()
	return failed
}

// look finds out which nodes there are, and what their clocks show, which the credentials may not see.
func (r *LoginReader) look(ctx context.Context, logs Logs, reading *Reading) error {
	nodes, err := logs.Nodes(ctx)
	if err != nil {
		return err
	}
	var online []string
	for _, node := range nodes {
		if !node.Online {
			reading.Unread = append(reading.Unread, Unread{node.Name, check.Errorf(check.Unreachable, "the node is offline")})
			continue
		}
		online = append(online, node.Name)
		if r.nodes[node.Name] == nil {
			r.nodes[node.Name] = &position{}
		}
	}
	failed := r.at(online, reading, func(node string) (err error) {
		at := r.nodes[node]
		at.clock, err = logs.NodeTime(ctx, node)
		if at.blind = denied(err); err != nil && !at.blind {
			return err
		}
		if at.since.IsZero() {
			at.since = time.Now().Add(at.clock.Ahead - r.span).Truncate(time.Second)
		}
		return nil
	})
	if ctx.Err() == nil {
		r.open, r.looked = slices.DeleteFunc(online, func(node string) bool { return failed[node] != nil }), time.Now()
	}
	return nil
}

// failure is why no node could be read. A missing privilege on all that answer is told before a node that does not answer.
func (r Reading) failure(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(r.Read) > 0 {
		return nil
	}
	if len(r.Unread) == 0 {
		return check.Errorf(check.ProxmoxFailed, "Proxmox names no node")
	}
	chosen := r.Unread[0].Err
	for _, u := range r.Unread {
		if check.CodeOf(u.Err) == check.PermissionDenied {
			chosen = u.Err
		}
	}
	return check.Errorf(check.CodeOf(chosen), "no log of a node could be read: %s", check.MessageOf(chosen)).
		Try(check.HintOf(chosen)).Because(chosen)
}

// read reads on in the log of a node: until its end, or as far as a sparing read goes.
func (r *LoginReader) read(ctx context.Context, logs Logs, node string, at *position, each func(diagnose.Login)) error {
	now := time.Now().Add(at.clock.Ahead)
	seen := map[told]int{}
	reader := diagnose.NewReader(node, r.facts, func(l diagnose.Login) {
		if at.isNew(l, seen) {
			r.mu.Lock()
			defer r.mu.Unlock()
			each(l)
		}
	})
	oldest := at.since.Add(-3 * time.Hour) // a log begins earlier where clocks were set back
	stamps := &diagnose.Clock{Since: oldest}
	take := func(p proxmox.LogPage) {
		if p.Zone == nil { // the offsets of each page are its own
			stamps = &diagnose.Clock{Since: oldest, Offsets: p.Offsets}
		}
		stamps.Zone, stamps.Now = p.Zone, p.Now
		reader.Read(stamps, p.Lines)
	}
	span := proxmox.LogRange{Since: at.since}
	if r.sparing {
		span.Requests = 2
	}
	var whole bool
	var err error
	if at.blind {
		whole, err = logs.ReadJournal(ctx, node, 0, span, take)
	} else {
		whole, err = logs.ReadLog(ctx, node, at.clock, span, take)
	}
	next := now.Add(-overlap)
	switch {
	case err != nil: // after some pages
		at.advance(reader.Last().Add(-overlap), seen)
		return err
	case !whole:
		if next = reader.Last(); !next.After(at.since) { // more lines in a second than in a page: better to lose some than to stay here
			next = at.since.Add(time.Second)
		}
	}
	reader.End()
	at.advance(next, seen)
	at.hidden = reader.Hidden()
	return nil
}

// maxTold bounds how many logins a read remembers, unless more than that end within the overlap.
const maxTold = 4096

// isNew tells whether no read before has told a login.
func (p *position) isNew(l diagnose.Login, seen map[told]int) bool {
	if l.Time.Before(p.since) { // a log may begin earlier than asked for
		return false
	}
	if len(seen) >= maxTold && len(seen)%maxTold == 0 {
		forget(seen, l.Time.Add(-overlap))
	}
	k := told{l.Time.Unix(), l.Address, l.User, l.Text, l.Outcome}
	seen[k]++
	return seen[k] > p.told[k]
}

// advance notes where the next read begins. What was told from there on is not told again.
func (p *position) advance(next time.Time, seen map[told]int) {
	if next = next.Truncate(time.Second); next.After(p.since) {
		p.since = next
	}
	for k, count := range p.told {
		seen[k] = max(seen[k], count)
	}
	forget(seen, p.since)
	p.told = seen
}

// forget removes logins before a time.
func forget(seen map[told]int, before time.Time) {
	maps.DeleteFunc(seen, func(k told, _ int) bool { return k.at < before.Unix() })
}

// denied tells whether Proxmox refuses the credentials a privilege.
func denied(err error) bool {
	var e *proxmox.Error
	return errors.As(err, &e) && e.Kind == proxmox.PermissionDenied
}

// Warnings says what a reading lacks.
func (r Reading) Warnings(maxSkew time.Duration) []string {
	all := r.unread()
	for _, node := range r.Read {
		if n := r.Hidden[node]; n > 0 {
			all = append(all, fmt.Sprintf("%s: the log does not show %s, because of characters that are not ASCII; on the node, `journalctl -a` does",
				node, check.Count(n, "message", "messages")))
		}
		if ahead := r.Ahead[node]; ahead.Abs() > maxSkew {
			all = append(all, fmt.Sprintf("%s: its clock is %s of this machine's", node, signed(ahead)))
		}
	}
	return all
}

// unread names the nodes whose logs were not read, and why.
func (r Reading) unread() []string {
	var all []string
	var hint check.Hint
	for _, u := range r.Unread {
		why := check.MessageOf(u.Err)
		var e *proxmox.Error
		if errors.As(u.Err, &e) && len(e.Privileges) > 0 {
			why = fmt.Sprintf("the privilege %s on %s is missing", strings.Join(e.Privileges, " or "), e.DeniedPath)
			hint = check.HintOf(u.Err)
		}
		all = append(all, fmt.Sprintf("%s: its log was not read: %s", u.Node, why))
	}
	if hint != "" && len(r.Read) > 0 {
		all = append(all, strings.Split(hint.For(check.Names{}), "\n")...)
	}
	return all
}

func signed(d time.Duration) string {
	if d < 0 {
		return (-d).String() + " behind"
	}
	return d.String() + " ahead"
}
