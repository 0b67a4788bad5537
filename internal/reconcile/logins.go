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
	logs  Logs
	facts diagnose.Facts
	span  time.Duration
	nodes map[string]*position
}

// position is how far the log of a node was read, on the node's clock.
type position struct {
	since time.Time
	told  map[told]int
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
func NewLoginReader(logs Logs, facts diagnose.Facts, span time.Duration) *LoginReader {
	return &LoginReader{logs: logs, facts: facts, span: span, nodes: map[string]*position{}}
}

// Read reads the logs of all nodes at the same time, and calls each for each login that no read has told yet. Calls do not
// overlap. Its error says why no node could be read.
func (r *LoginReader) Read(ctx context.Context, each func(diagnose.Login)) (Reading, error) {
	reading := Reading{Since: time.Now().Add(-r.span), Ahead: map[string]time.Duration{}, Hidden: map[string]int{}}
	nodes, err := r.logs.Nodes(ctx)
	if err != nil {
		return reading, err
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, node := range nodes {
		if !node.Online {
			mu.Lock() // others are read already
			reading.Unread = append(reading.Unread, Unread{node.Name, check.Errorf(check.Unreachable, "the node is offline")})
			mu.Unlock()
			continue
		}
		at := r.nodes[node.Name]
		if at == nil {
			at = &position{}
			r.nodes[node.Name] = at
		}
		all.Go(func() {
			n := nodeReader{LoginReader: r, node: node.Name, position: at, mu: &mu, each: each}
			clock, err := n.clock(ctx)
			hidden := 0
			if err == nil {
				hidden, err = n.read(ctx, clock, 0)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				reading.Unread = append(reading.Unread, Unread{node.Name, err})
				return
			}
			reading.Read = append(reading.Read, node.Name)
			reading.Ahead[node.Name] = clock.at.Ahead
			if hidden > 0 {
				reading.Hidden[node.Name] = hidden
			}
		})
	}
	all.Wait()
	slices.Sort(reading.Read)
	slices.SortFunc(reading.Unread, func(a, b Unread) int { return strings.Compare(a.Node, b.Node) })
	return reading, reading.failure(ctx)
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

// nodeReader reads the log of one node.
type nodeReader struct {
	*LoginReader
	*position
	node string
	mu   *sync.Mutex
	each func(diagnose.Login)
}

// clock asks for the node's clock, which the credentials may not see.
func (n *nodeReader) clock(ctx context.Context) (clock, error) {
	at, err := n.logs.NodeTime(ctx, n.node)
	if denied(err) {
		return clock{blind: true}, nil
	}
	return clock{at: at}, err
}

// read reads on, with at most so many requests (0: until the end).
func (n *nodeReader) read(ctx context.Context, c clock, requests int) (hidden int, err error) {
	at := c.at
	now := time.Now().Add(at.Ahead)
	if n.since.IsZero() {
		n.since = now.Add(-n.span).Truncate(time.Second)
	}
	seen := map[told]int{}
	reader := diagnose.NewReader(n.node, n.facts, func(l diagnose.Login) { n.tell(l, seen) })
	oldest := n.since.Add(-3 * time.Hour) // a log begins earlier where clocks were set back
	stamps := &diagnose.Clock{Since: oldest}
	take := func(p proxmox.LogPage) {
		if p.Zone == nil { // the offsets of each page are its own
			stamps = &diagnose.Clock{Since: oldest, Offsets: p.Offsets}
		}
		stamps.Zone, stamps.Now = p.Zone, p.Now
		reader.Read(stamps, p.Lines)
	}
	r := proxmox.LogRange{Since: n.since, Requests: requests}
	var whole bool
	if c.blind {
		whole, err = n.logs.ReadJournal(ctx, n.node, 0, r, take)
	} else {
		whole, err = n.logs.ReadLog(ctx, n.node, at, r, take)
	}
	next := now.Add(-overlap)
	switch {
	case err != nil: // after some pages
		n.advance(reader.Last().Add(-overlap), seen)
		return 0, err
	case !whole:
		if next = reader.Last(); !next.After(n.since) { // more lines in a second than in a page: better to lose some than to stay here
			next = n.since.Add(time.Second)
		}
	}
	reader.End()
	n.advance(next, seen)
	return reader.Hidden(), nil
}

// maxTold bounds how many logins a read remembers, unless more than that end within the overlap.
const maxTold = 4096

// tell passes a login on, unless a read before has told it.
func (n *nodeReader) tell(l diagnose.Login, seen map[told]int) {
	if l.Time.Before(n.since) { // a log may begin earlier than asked for
		return
	}
	if len(seen) >= maxTold && len(seen)%maxTold == 0 {
		forget(seen, l.Time.Add(-overlap))
	}
	k := told{l.Time.Unix(), l.Address, l.User, l.Text, l.Outcome}
	if seen[k]++; seen[k] <= n.told[k] {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.each(l)
}

// advance notes where the next read begins. What was told from there on is not told again.
func (n *nodeReader) advance(next time.Time, seen map[told]int) {
	if next = next.Truncate(time.Second); next.After(n.since) {
		n.since = next
	}
	for k, count := range n.told {
		seen[k] = max(seen[k], count)
	}
	forget(seen, n.since)
	n.told = seen
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
