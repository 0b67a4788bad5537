// Package history keeps what runs remember, in the state_dir: of one target ([Target]: what was found and when, what was told
// to whom), of one client at its issuer ([Client]: what the issuer answered), and on which nodes an issuer hung. All processes that
// use the state_dir share it.
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
	Lost     bool                 `json:"-"`                // there was a memory that cannot be read: what it held is to be asked again
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

// Client is what is known of one client at its issuer.
type Client struct {
	Begun    time.Time            `json:"begun,omitzero"`    // when it was first asked about
	Full     time.Time            `json:"full,omitzero"`     // the last answer of token endpoint and authorization endpoint
	Free     time.Time            `json:"free,omitzero"`     // the last answer to questions that cost a right client nothing
	Findings map[check.ID]Finding `json:"findings,omitzero"` // client.credentials and client.redirect
	Limited  time.Time            `json:"limited,omitzero"`  // the issuer limits requests (429) until then
	Known    json.RawMessage      `json:"known,omitzero"`    // what internal/issuer remembers of control questions
}

// Last returns when an answer last came.
func (c Client) Last() time.Time { return Later(c.Free, c.Full) }

// Red reports whether a finding is a failure.
func (c Client) Red() bool {
	for _, f := range c.Findings {
		if f.Red() {
			return true
		}
	}
	return false
}

// Recall returns the remembered checks, in the order of their ids.
func (c Client) Recall() []check.Check {
	var checks []check.Check
	for _, id := range slices.Sorted(maps.Keys(c.Findings)) {
		checks = append(checks, c.Findings[id].Recall())
	}
	return checks
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

func mergedClient(theirs, mine Client) Client {
	out := mine
	if theirs.Last().After(mine.Last()) {
		out = theirs
	}
	out.Full, out.Free, out.Limited = Later(theirs.Full, mine.Full), Later(theirs.Free, mine.Free), Later(theirs.Limited, mine.Limited)
	out.Begun = first(theirs.Begun, mine.Begun)
	out.Findings = newer(theirs.Findings, nil, mine.Findings, asked)
	return out
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
