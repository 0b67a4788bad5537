// Package standin is what stand-ins for the Proxmox products share. Its HTTP server injects faults into chosen requests and
// records what it got. A store keeps their state. Tickets, one-time passwords and the journal are here too.
package standin

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Rule injects faults into the requests that match it: those that are set, in
// the order of the fields. A rule without a fault only counts requests.
type Rule struct {
	// Method to match; empty matches all.
	Method string
	// Path is a prefix of the path without /api2/json, such as "/access/domains/"; empty matches all.
	Path string
	// Host is the host and port of the node to match, as in its URL; empty matches all.
	Host string
	// From is the number of the first matching request that is hit, counted
	// from 1; zero means the first.
	From int
	// Count is how many matching requests are hit; zero means all from then on.
	Count int

	// Handshake fails the TLS handshake of the connection that the request would come on. A request on an open connection is
	// dropped.
	Handshake bool
	// Drop closes the connection before anything is processed. With Delay, the request is processed later nevertheless.
	Drop bool
	// Reset makes Drop and DropAnswer send a TCP reset.
	Reset bool
	// Hang does not answer the request, and processes it only with Process. The connection stays open until the rule is
	// removed, or the server closes.
	Hang bool
	// Delay processes the request after that time, even if the client has left,
	// like a late DELETE.
	Delay time.Duration
	// Until, if not nil, processes the request after it is closed, even if the
	// client has left. It is Delay without a clock.
	Until <-chan struct{}
	// Before, if not nil, runs just before the request is processed. A test can
	// change the state there, between a client's read and its write.
	Before func()
	// After, if not nil, runs after the request was processed and before it is answered.
	After func()
	// Twice processes the request twice.
	Twice bool
	// DropAnswer processes the request, then closes the connection instead of answering.
	DropAnswer bool
	// Status, if not zero, is answered instead of processing the request; Process processes it nevertheless.
	Status  int
	Process bool
	// Reason is the reason phrase that goes with Status.
	Reason string
	// Header is added to the answer, such as Location for a redirect.
	Header http.Header
	// Body is the answer's body that goes with Status.
	Body string
	// ContentType replaces the answer's content type; with "-" it has none.
	ContentType string
	// Garbage is written instead of an HTTP answer, then the connection is closed.
	Garbage string
	// Pad adds that many bytes of white space to the body.
	Pad int64
	// Endless sends white space after the body until the client stops reading.
	Endless bool
	// Slow pauses that long after each byte of the body.
	Slow time.Duration
	// Truncate announces the whole body and closes the connection halfway; TruncateHead does so halfway through the head.
	Truncate, TruncateHead bool
}

// Rules are the rules in force, the newest first. The zero value is ready for use.
type Rules struct {
	mu   sync.Mutex
	list []*active
}

// active is a rule in force.
type active struct {
	Rule
	seen    int
	removed chan struct{}
}

// Inject adds a rule. If several rules match a request, the newest applies.
// remove also ends the requests that the rule lets hang.
func (r *Rules) Inject(rule Rule) (remove func()) {
	added := &active{Rule: rule, removed: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append([]*active{added}, r.list...)
	return sync.OnceFunc(func() {
		close(added.removed)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.list = slices.DeleteFunc(r.list, func(a *active) bool { return a == added })
	})
}

// match returns the rule for a request to a host, or nil. path has no /api2/json.
func (r *Rules) match(method, host, path string) *active {
	r.mu.Lock()
	defer r.mu.Unlock()
	var hit *active
	for _, a := range r.list {
		if a.Method != "" && a.Method != method || a.Host != "" && a.Host != host || !strings.HasPrefix(path, a.Path) {
			continue
		}
		a.seen++
		if hit == nil && a.hits() {
			hit = a
		}
	}
	return hit
}

// hits says whether the rule applies to the latest request that it has seen.
func (a *active) hits() bool {
	from := max(a.From, 1)
	return a.seen >= from && (a.Count == 0 || a.seen < from+a.Count)
}

// refusesHandshake says whether a rule fails the TLS handshake of a new connection to a host. That counts as a request.
func (r *Rules) refusesHandshake(host string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.list {
		if !a.Handshake || a.Host != "" && a.Host != host {
			continue
		}
		a.seen++
		if a.hits() {
			return true
		}
		a.seen--
	}
	return false
}

// wait does what comes before a request is processed. It returns false if the connection is to be closed instead.
func (a *active) wait(ctx context.Context) bool {
	if a.Drop || a.Handshake {
		return false
	}
	until := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		case <-ctx.Done():
			return false
		}
	}
	if a.Hang {
		until(a.removed)
		return false
	}
	if a.Delay > 0 {
		select {
		case <-time.After(a.Delay):
		case <-ctx.Done():
			return false
		}
	}
	if a.Until != nil && !until(a.Until) {
		return false
	}
	if a.Before != nil {
		a.Before()
	}
	return true
}

// write sends head and body with the faults of a rule. It returns whether it sent all of them.
func (r *Rule) write(ctx context.Context, conn net.Conn, head, body []byte) bool {
	if r.TruncateHead {
		_, _ = conn.Write(head[:len(head)/2])
		return false
	}
	if r.Truncate {
		_, _ = conn.Write(append(head, body[:len(body)/2]...))
		return false
	}
	if r.Slow > 0 {
		if _, err := conn.Write(head); err != nil {
			return false
		}
		for i := range body {
			if _, err := conn.Write(body[i : i+1]); err != nil {
				return false
			}
			select {
			case <-time.After(r.Slow):
			case <-ctx.Done():
				return false
			}
		}
	} else if _, err := conn.Write(append(head, body...)); err != nil {
		return false
	}
	blank := bytes.Repeat([]byte{' '}, 16<<10)
	for left := r.Pad; left > 0 || r.Endless; left -= int64(len(blank)) {
		n := int64(len(blank))
		if !r.Endless {
			n = min(n, left)
		}
		if _, err := conn.Write(blank[:n]); err != nil {
			return false
		}
	}
	return true
}
