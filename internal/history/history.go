// Package history keeps what runs remember, in the state_dir. A [Target] holds what was found about one target and who was told.
// A [Client] holds what an issuer answered about one client. The store also knows on which nodes an issuer hung. All processes
// that use the state_dir share it.
//
// A finding stands until something newer contradicts it: another answer about the same values. Findings about other values
// are told apart by a keyed digest ([Store.Digest]).
package history

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
)

// Finding is a check as it was last answered.
type Finding struct {
	Check check.Check `json:"check"`
	Asked time.Time   `json:"asked"`
	About string      `json:"about"` // digest of the values that were asked about, see [Store.Digest]
}

// Of returns a finding to be remembered. It drops the evidence, because that quotes answers, which may hold a secret.
func Of(c check.Check, about string, now time.Time) Finding {
	c.Evidence, c.Duration = "", 0
	return Finding{Check: c, Asked: now.UTC(), About: about}
}

// IsZero reports whether nothing was found.
func (f Finding) IsZero() bool { return f.Check.ID == "" }

// Red reports whether the finding is a failure.
func (f Finding) Red() bool { return f.Check.Status == check.Fail }

// Age returns how long ago the answer came. It is never negative, even if the clock was set back: [Store] returns no answer from
// the future.
func (f Finding) Age(now time.Time) time.Duration { return max(now.Sub(f.Asked), 0) }

// Recall returns the check, with the time of the answer as its evidence.
func (f Finding) Recall() check.Check {
	return f.Check.Because("as of %s", f.Asked.Format(time.RFC3339))
}

// Target is what runs of one target remember.
type Target struct {
	Begun    time.Time            `json:"begun,omitzero"`    // when a run first saw the target
	Findings map[check.ID]Finding `json:"findings,omitzero"` // all but those of Nodes and of the [Client]
	Nodes    map[string]Node      `json:"nodes,omitzero"`    // by endpoint
	Told     map[Reader]Told      `json:"told,omitzero"`
	Success  time.Time            `json:"success,omitzero"` // when a run last left the realm as declared
	Lost     bool                 `json:"lost,omitempty"`   // what was remembered could not be read, and no run has asked all of it again
}

// Node is what is known of one node of the target.
type Node struct {
	Discovery Finding `json:"discovery"` // proxmox.discovery
	// Outage says that the issuer did not answer this machine either, so that the failure ends with the outage.
	Outage bool `json:"outage,omitempty"`
}

// Reader is somebody who is told what is new, independently of other readers.
type Reader string

// The readers.
const (
	Quiet  Reader = "quiet"  // reads what quiet runs print
	Notify Reader = "notify" // notify.command
	Log    Reader = "log"    // reads the agent's log; kept in the memory of the process alone
)

// Told is what one reader knows of a target. internal/report decides what is news.
type Told struct {
	Troubles []string  `json:"troubles,omitempty"` // what was wrong when the reader was last told, sorted
	Outcome  string    `json:"outcome,omitempty"`  // of the run that was told
	Since    time.Time `json:"since,omitzero"`     // when these troubles began
	At       time.Time `json:"at,omitzero"`        // when the reader was last told
	// Unsaid counts the latest runs in a row whose new troubles were not told, because they may pass.
	Unsaid      int       `json:"unsaid,omitempty"`
	UnsaidSince time.Time `json:"unsaid_since,omitzero"`
	Written     []string  `json:"written,omitempty"` // what runs wrote and the reader has not been told
}

// Client is what is known of one client at its issuer. Realms that use the client share it.
type Client struct {
	Credentials Finding            `json:"credentials,omitzero"` // client.credentials
	Requests    map[string]Request `json:"requests,omitzero"`    // by digest of scopes, prompt and the like: what realms may differ in
	Limited     time.Time          `json:"limited,omitzero"`     // the issuer limits requests (429) until then
	Known       json.RawMessage    `json:"known,omitzero"`       // what internal/issuer remembers of control questions
}

// Request is what is known of one login request of a client.
type Request struct {
	Begun    time.Time `json:"begun,omitzero"`    // when it was first asked about
	Full     time.Time `json:"full,omitzero"`     // the last answer of token endpoint and authorization endpoint
	Free     time.Time `json:"free,omitzero"`     // the last answer to questions that cost a right client nothing
	Redirect Finding   `json:"redirect,omitzero"` // client.redirect
}

// Last returns when an answer last came.
func (r Request) Last() time.Time { return Later(r.Free, r.Full) }

// Findings returns what was found about the client with one login request.
func (c Client) Findings(request string) []Finding {
	found := []Finding{c.Credentials, c.Requests[request].Redirect}
	return slices.DeleteFunc(found, Finding.IsZero)
}

// WithRequest sets what is known of a login request in a copy of the client's history.
func (c Client) WithRequest(name string, r Request) Client {
	c.Requests = maps.Clone(c.Requests)
	set(&c.Requests, name, r)
	return c
}

// last returns when an answer about any login request last came.
func (c Client) last() (last time.Time) {
	for _, r := range c.Requests {
		last = Later(last, r.Last())
	}
	return last
}

// TargetID identifies a target by what it keeps, never by its name or its place in a configuration.
type TargetID struct {
	Product   string
	Endpoints []string // in any order
	Realm     string
}

func (id TargetID) file() string {
	endpoints := slices.Sorted(slices.Values(id.Endpoints))
	return "target-" + fileDigest(append([]string{id.Product, id.Realm}, endpoints...)...) + ".json"
}

// ClientID identifies a client at its issuer.
type ClientID struct {
	Issuer, Client string
	Key            check.Secret // only its keyed digest is part of the file's name
	Redirects      []string     // in any order
}

func (id ClientID) file(s *Store) string {
	redirects := slices.Sorted(slices.Values(id.Redirects))
	return "client-" + s.Digest(append([]string{id.Issuer, id.Client, id.Key.Reveal()}, redirects...)...) + ".json"
}

// merged returns what two runs remember: for each entry the newer answer. before is what my run read: what it no longer has, fell.
// Readers are told through [Store.ChangeTarget] alone.
func merged(theirs, before, mine Target) Target {
	out := mine
	out.Findings = newer(theirs.Findings, before.Findings, mine.Findings, asked)
	out.Nodes = newer(theirs.Nodes, before.Nodes, mine.Nodes, func(n Node) time.Time { return n.Discovery.Asked })
	out.Told = theirs.Told
	out.Begun = first(theirs.Begun, mine.Begun)
	out.Success = Later(theirs.Success, mine.Success)
	return out
}

// mergedClient returns what two runs know of a client, without login requests that no run has asked about for long.
func mergedClient(theirs, mine Client, now time.Time) Client {
	out := mine
	if theirs.last().After(mine.last()) {
		out.Known = theirs.Known
	}
	out.Limited = Later(theirs.Limited, mine.Limited)
	out.Credentials = newerFinding(theirs.Credentials, mine.Credentials)
	for name, other := range theirs.Requests {
		r := mine.Requests[name]
		out = out.WithRequest(name, Request{
			Begun: first(other.Begun, r.Begun), Full: Later(other.Full, r.Full), Free: Later(other.Free, r.Free),
			Redirect: newerFinding(other.Redirect, r.Redirect),
		})
	}
	maps.DeleteFunc(out.Requests, func(_ string, r Request) bool {
		return r.Redirect.Check.Status == check.Pass && now.Sub(Later(r.Last(), r.Redirect.Asked)) > keptUnread
	})
	return out
}

func newerFinding(theirs, mine Finding) Finding {
	if theirs.Asked.After(mine.Asked) {
		return theirs
	}
	return mine
}

// newer merges entries by the times of their answers.
func newer[K comparable, V any](theirs, before, mine map[K]V, answered func(V) time.Time) map[K]V {
	out := maps.Clone(mine)
	for key, value := range theirs {
		known, ok := mine[key]
		_, read := before[key]
		if ok && answered(value).After(answered(known)) || !ok && !read {
			set(&out, key, value)
		}
	}
	return out
}

func asked(f Finding) time.Time { return f.Asked }

// Later returns the later one of two times.
func Later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// first returns the earlier one of two times; one that is zero is unknown.
func first(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func set[K comparable, V any](m *map[K]V, key K, value V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[key] = value
}

// Record adds a finding to a copy of the target's history.
func (t Target) Record(f Finding) Target {
	t.Findings = maps.Clone(t.Findings)
	set(&t.Findings, f.Check.ID, f)
	return t
}

// Drop removes a finding from a copy of the target's history.
func (t Target) Drop(id check.ID) Target {
	t.Findings = maps.Clone(t.Findings)
	delete(t.Findings, id)
	return t
}

// WithNode sets what is known of a node in a copy of the target's history.
func (t Target) WithNode(endpoint string, n Node) Target {
	t.Nodes = maps.Clone(t.Nodes)
	set(&t.Nodes, endpoint, n)
	return t
}

// Remember notes that something was written, for each reader. The same text is noted once.
func (t Target) Remember(written []string, readers ...Reader) Target {
	t.Told = maps.Clone(t.Told)
	for _, r := range readers {
		told := t.Told[r]
		for _, text := range written {
			if !slices.Contains(told.Written, text) && len(told.Written) < maxWritten {
				told.Written = append(slices.Clone(told.Written), text)
			}
		}
		set(&t.Told, r, told)
	}
	return t
}

// maxWritten bounds what is kept for a reader who is never told.
const maxWritten = 100

func fileDigest(parts ...string) string { return sum(nil, strings.Join(parts, "\x00")) }
