package pve

import (
	"bytes"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// rules are the faults that tests added, the last one first.
type rules struct {
	mu   sync.Mutex
	list []*activeRule
}

type activeRule struct {
	Rule
	seen    int
	removed chan struct{}
	once    sync.Once
}

// Inject adds a rule. If several rules match a request, the newest applies.
// remove also ends the requests that the rule lets hang.
func (s *Server) Inject(r Rule) (remove func()) {
	active := &activeRule{Rule: r, removed: make(chan struct{})}
	s.rules.mu.Lock()
	defer s.rules.mu.Unlock()
	s.rules.list = append([]*activeRule{active}, s.rules.list...)
	return func() {
		active.once.Do(func() {
			close(active.removed)
			s.rules.mu.Lock()
			defer s.rules.mu.Unlock()
			for i, a := range s.rules.list {
				if a == active {
					s.rules.list = append(s.rules.list[:i:i], s.rules.list[i+1:]...)
					return
				}
			}
		})
	}
}

// match returns the rule for a request, or nil.
func (s *Server) match(r *request) *activeRule {
	s.rules.mu.Lock()
	defer s.rules.mu.Unlock()
	var hit *activeRule
	path := strings.TrimPrefix(r.path, "/api2/json")
	for _, a := range s.rules.list {
		if a.Method != "" && a.Method != r.method || !strings.HasPrefix(path, a.Path) {
			continue
		}
		a.seen++
		from := max(a.From, 1)
		if hit == nil && a.seen >= from && (a.Count == 0 || a.seen < from+a.Count) {
			hit = a
		}
	}
	return hit
}

// fault is what a rule does to one request.
type fault struct {
	rule   *Rule
	drop   bool
	answer *response
}

// inject does what comes before a request is processed.
func (s *Server) inject(a *activeRule) *fault {
	f := &fault{}
	if a == nil {
		return f
	}
	f.rule = &a.Rule
	if a.Drop {
		f.drop = true
		return f
	}
	wait := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		case <-s.ctx.Done():
			return false
		}
	}
	if a.Hang {
		wait(a.removed)
		f.drop = true
		return f
	}
	if a.Delay > 0 {
		select {
		case <-time.After(a.Delay):
		case <-s.ctx.Done():
			f.drop = true
			return f
		}
	}
	if a.Until != nil && !wait(a.Until) {
		f.drop = true
		return f
	}
	if a.Before != nil {
		a.Before()
	}
	if a.Status != 0 {
		contentType := a.ContentType
		if contentType == "" && a.Body != "" {
			contentType = jsonType
		}
		f.answer = &response{status: a.Status, reason: a.Reason, contentType: contentType, body: []byte(a.Body)}
	}
	return f
}

// adjust applies to an answer what a rule says of its headers.
func (f *fault) adjust(res *response) *response {
	if f.rule == nil {
		return res
	}
	c := *res
	c.header = http.Header{}
	maps.Copy(c.header, f.rule.Header)
	for k, vs := range res.header {
		for _, v := range vs {
			c.header.Add(k, v)
		}
	}
	switch f.rule.ContentType {
	case "":
	case "-":
		c.contentType = ""
	default:
		c.contentType = f.rule.ContentType
	}
	return &c
}

// writeFaulty sends head and body with the faults of a rule. It returns whether it sent all of them.
func (s *Server) writeFaulty(conn net.Conn, head *bytes.Buffer, body []byte, rule *Rule) bool {
	if rule.Truncate {
		_, _ = conn.Write(append(head.Bytes(), body[:len(body)/2]...))
		return false
	}
	if rule.Slow > 0 {
		if _, err := conn.Write(head.Bytes()); err != nil {
			return false
		}
		for i := range body {
			if _, err := conn.Write(body[i : i+1]); err != nil {
				return false
			}
			select {
			case <-time.After(rule.Slow):
			case <-s.ctx.Done():
				return false
			}
		}
	} else if _, err := conn.Write(append(head.Bytes(), body...)); err != nil {
		return false
	}
	blank := bytes.Repeat([]byte{' '}, 16<<10)
	for left := rule.Pad; left > 0 || rule.Endless; left -= int64(len(blank)) {
		n := int64(len(blank))
		if !rule.Endless {
			n = min(n, left)
		}
		if _, err := conn.Write(blank[:n]); err != nil {
			return false
		}
	}
	return true
}
