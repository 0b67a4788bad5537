package pve

import (
	"reflect"
	"slices"
	"time"

	"proxmox-realm/internal/lab/standin"
)

// view returns the current state. Callers must not change it.
func (s *Server) view() *State { return s.store.View() }

// await waits for a value until a limit, and says whether there was one. What is there already is not waited for.
func (s *Server) await(c <-chan struct{}, limit <-chan time.Time) bool {
	select {
	case <-c:
		return true
	default:
	}
	select {
	case <-c:
		return true
	case <-limit:
	case <-s.Context().Done():
	}
	return false
}

// locked changes the state with one of the locks of the cluster, waiting for it as long as a node does.
func (s *Server) locked(lock chan struct{}, id string, change func(*State) error) error {
	s.mu.Lock()
	quorum := s.quorum
	s.mu.Unlock()
	limit := time.After(s.opts.LockTimeout)
	if !s.await(quorum, limit) {
		return dief("cfs-lock '%s' error: no quorum!", id)
	}
	if !s.await(lock, limit) {
		return dief("cfs-lock '%s' error: got lock request timeout", id)
	}
	defer func() { lock <- struct{}{} }()
	return s.store.Change(change)
}

// withRealms changes the realm file under its lock. Errors get the prefix.
func (s *Server) withRealms(prefix string, change func(*State) error) error {
	return wrapped(prefix, s.locked(s.realmLock, "file-domains_cfg", change))
}

// withUsers changes the user file under its lock. Errors get the prefix.
func (s *Server) withUsers(prefix string, change func(*State) error) error {
	return wrapped(prefix, s.locked(s.userLock, "file-user_cfg", func(st *State) error {
		st.AtTicket = nil
		return change(st)
	}))
}

// Realm is a copy of the realm of that name.
func (s *Server) Realm(name string) (Realm, bool) { return s.view().realm(name) }

// Realms are copies of all realms, in the order of the file.
func (s *Server) Realms() []Realm { return s.State().Realms }

// SetRealm stores a realm without the lock or the checks of the API, like
// another administrator. It fails if the realm lacks a property that its type requires.
func (s *Server) SetRealm(r Realm) error {
	return s.store.Change(func(st *State) error { return st.put(s.schema, r) })
}

// SetProperty sets one property of a realm, without the lock or the checks of the API. An empty value removes it.
func (s *Server) SetProperty(realm, property, value string) error {
	return s.store.Change(func(st *State) error {
		r, ok := st.realm(realm)
		if !ok {
			return nil
		}
		r.Properties[property] = value
		return st.put(s.schema, r)
	})
}

// State is a copy of the whole state.
func (s *Server) State() *State { return standin.Clone(s.view()) }

// Update edits the whole state. If the realms cannot be stored, Update returns an error and changes nothing.
func (s *Server) Update(change func(*State)) error {
	return s.store.Change(func(st *State) error {
		before := s.State()
		*st = *s.State()
		change(st)
		if !sameAccounts(before, st) && (st.AtTicket == nil || before.AtTicket != nil && sameAccounts(before.AtTicket, st.AtTicket)) {
			st.AtTicket = nil // the changes are to stay
		}
		if st.Users["root@pam"] == nil { // there is always a root
			st.Users["root@pam"] = &User{Enable: true}
		}
		realms := slices.Concat(builtin, st.Realms)
		st.Realms, st.sum = nil, [len(st.sum)]byte{}
		for _, r := range realms {
			if err := st.put(s.schema, r); err != nil {
				return err
			}
		}
		return nil
	})
}

func sameAccounts(a, b *State) bool {
	return reflect.DeepEqual(a.Users, b.Users) && reflect.DeepEqual(a.Roles, b.Roles) && reflect.DeepEqual(a.ACL, b.ACL)
}
