package diagnose

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Entry is all logins of one node that ended in the same way, for the same cause.
type Entry struct {
	Login               // the newest of them
	Count     int       // how many there were
	Since     time.Time // when the oldest was
	Addresses []string  // of the browsers, each once, the newest first; at most [MaxAddresses]

	// Works is when a login that may have failed likewise succeeded later on this node. It is one of the same user, or of anybody
	// if the cause is not about a user. Zero: there was none.
	Works time.Time
}

const (
	// MaxAddresses bounds the addresses that an [Entry] names.
	MaxAddresses = 32
	// maxEntries bounds the entries of a [Summary]: their number depends on names that others choose.
	maxEntries = 1000
)

// Summary folds logins as they are read. It is small, however many there are. The zero value is empty.
type Summary struct {
	Realm string // of the target: a login of an unknown realm is taken for one of this realm; "": all realms are alike

	entries map[key]*growing
	success map[string]moment // by node, and by node and user: when a login succeeded last
	added   int
	dropped int
}

// growing is an entry while logins are added to it.
type growing struct {
	Entry
	key   key
	added int // of the newest
}

// moment is when a login was, and as which it was added: a log has no time below a second, but an order.
type moment struct {
	time  time.Time
	added int
}

// key is what logins of one [Entry] have in common.
type key struct {
	node, user, subject string
	outcome             Outcome
	cause               Cause
}

// Add takes a login. Those of one node come in the order of its log.
func (s *Summary) Add(l Login) {
	if s.entries == nil {
		s.entries, s.success = map[key]*growing{}, map[string]moment{}
	}
	s.added++
	if l.Outcome == Succeeded && (s.Realm == "" || l.Realm == s.Realm) && len(s.success) < 2*maxEntries {
		s.success[l.Node], s.success[l.Node+"\n"+l.User] = moment{l.Time, s.added}, moment{l.Time, s.added}
	}
	k := key{l.Node, l.User, l.subject, l.Outcome, l.Cause}
	e := s.entries[k]
	if e == nil {
		e = &growing{Entry: Entry{Since: l.Time}, key: k}
		s.entries[k] = e
	}
	if e.Count++; l.Time.Before(e.Since) {
		e.Since = l.Time
	}
	if !l.Time.Before(e.Time) {
		e.Login, e.added = l, s.added
	}
	e.from(l.Address)
	if len(s.entries) > 2*maxEntries {
		s.prune()
	}
}

// Single returns the entry of one login.
func Single(l Login) Entry {
	e := Entry{Login: l, Count: 1, Since: l.Time}
	e.from(l.Address)
	return e
}

// from notes an address, the newest first.
func (e *Entry) from(address string) {
	if address == "" {
		return
	}
	if i := slices.Index(e.Addresses, address); i >= 0 {
		e.Addresses = slices.Delete(e.Addresses, i, i+1)
	}
	e.Addresses = slices.Insert(e.Addresses, 0, address)
	e.Addresses = e.Addresses[:min(len(e.Addresses), MaxAddresses)]
}

// prune drops the oldest entries, those of logins that succeeded first.
func (s *Summary) prune() {
	for _, e := range s.sorted()[maxEntries:] {
		s.dropped += e.Count
		delete(s.entries, e.key)
	}
}

func (s *Summary) sorted() []*growing {
	return slices.SortedFunc(maps.Values(s.entries), func(a, b *growing) int {
		return cmp.Or(cmp.Compare(a.Outcome, b.Outcome), b.Time.Compare(a.Time), cmp.Compare(a.Node, b.Node),
			cmp.Compare(a.User, b.User), cmp.Compare(a.Cause, b.Cause), cmp.Compare(a.subject, b.subject))
	})
}

// Entries returns what was added: logins that failed first, each kind the newest first.
func (s *Summary) Entries() []Entry {
	var all []Entry
	for _, e := range s.sorted() {
		out := e.Entry
		who := e.Node
		if e.User != "" {
			who += "\n" + e.User
		}
		if last := s.success[who]; e.Outcome == Failed && last.added > e.added {
			out.Works = last.time
		}
		all = append(all, out)
	}
	return all
}

// Dropped counts the logins of which there are no entries any more, because there were too many different ones.
func (s *Summary) Dropped() int { return s.dropped }
