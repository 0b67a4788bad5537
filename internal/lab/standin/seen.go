package standin

import (
	"strings"
	"sync"
	"time"
)

// Request describes one request that the server has seen, without its body and secrets.
type Request struct {
	Method string
	Host   string // and port of the node that was asked
	Path   string // as sent, without query
	Query  string // as sent
	Token  string // user@realm!id of an API token, user@realm of a ticket; empty if anonymous or refused
	Status int    // 0 if it was not answered, or not yet
	Hit    bool   // by a rule
	Begin  time.Time
}

// Handshakes counts TLS handshakes that a server completed.
type Handshakes struct {
	Full    int
	Resumed int
}

// Seen collects what a server got. The zero value is ready for use.
type Seen struct {
	mu         sync.Mutex
	requests   []*Request
	handshakes Handshakes
}

// Requests returns the requests since the start or the last Reset, in order.
func (s *Seen) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Request, len(s.requests))
	for i, r := range s.requests {
		list[i] = *r
	}
	return list
}

// Handshakes returns the TLS handshakes since the start or the last Reset.
func (s *Seen) Handshakes() Handshakes {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handshakes
}

// Reset forgets everything.
func (s *Seen) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests, s.handshakes = nil, Handshakes{}
}

// handshake counts a TLS handshake.
func (s *Seen) handshake(resumed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if resumed {
		s.handshakes.Resumed++
	} else {
		s.handshakes.Full++
	}
}

// begin adds a request, and end, which takes what begin returned, its outcome. target is as sent, hit says that a rule applies.
func (s *Seen) begin(method, host, target string, hit bool) *Request {
	path, query, _ := strings.Cut(target, "?")
	entry := &Request{Method: method, Host: host, Path: path, Query: query, Hit: hit, Begin: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, entry)
	return entry
}

// end records how a request ended.
func (s *Seen) end(entry *Request, status int, user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry.Status, entry.Token = status, user
}
