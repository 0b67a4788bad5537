package pve

import (
	"crypto/rand"
	"fmt"
	"maps"
	"reflect"
	"time"

	"proxmox-realm/internal/lab/openid"
	"proxmox-realm/internal/lab/standin"
)

// view returns the current state. Callers must not change it.
func (s *Server) view() *State { return s.state.Load() }

func (s *Server) loadState() error {
	st := s.opts.Seed
	if s.opts.StateFile != "" {
		stored := &State{}
		found, err := standin.Load(s.opts.StateFile, stored)
		if err != nil {
			return err
		}
		if found {
			st = stored
		}
	}
	if st == nil {
		st = DefaultState()
	}
	st = st.clone()
	s.realms = &realmSet{schema: s.api.schema}
	if err := s.realms.load(st.Realms); err != nil {
		return fmt.Errorf("realms: %w", err)
	}
	s.replace(st)
	return s.save()
}

// replace makes st the current state. It ignores the realms of st.
func (s *Server) replace(st *State) {
	if st.Users["root@pam"] == nil { // there is always a root
		st.Users["root@pam"] = &User{Enable: true}
	}
	if len(st.Key) == 0 {
		st.Key = make([]byte, 32)
		_, _ = rand.Read(st.Key) // never fails
	}
	st.Realms = nil
	s.state.Store(st)
	s.changed()
}

// changed makes keepSaved save the state.
func (s *Server) changed() {
	select {
	case s.unsaved <- struct{}{}:
	default:
	}
}

// saveEvery is the shortest time between two writes of the state file.
const saveEvery = 100 * time.Millisecond

// keepSaved saves the state after each change, until the server closes.
func (s *Server) keepSaved() {
	for {
		select {
		case <-s.unsaved:
		case <-s.ctx.Done():
			return
		}
		if err := s.save(); err != nil {
			s.log.Error("state", "msg", err.Error())
		}
		select {
		case <-time.After(saveEvery):
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *Server) save() error {
	if s.opts.StateFile == "" {
		return nil
	}
	return standin.Save(s.opts.StateFile, s.State())
}

// change edits a copy of the state without the locks of the cluster, and makes it current. It cannot edit realms.
func (s *Server) change(f func(*State) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.view().clone()
	if err := f(st); err != nil {
		return err
	}
	s.replace(st)
	return nil
}

// changePending edits the logins that have begun on a node. Unlike change, it copies nothing else.
func (s *Server) changePending(n *node, f func(openid.Pending) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := *s.view()
	if st.Pending = maps.Clone(st.Pending); st.Pending == nil {
		st.Pending = map[string]openid.Pending{}
	}
	pending := maps.Clone(st.Pending[n.Name])
	if pending == nil {
		pending = openid.Pending{}
	}
	if err := f(pending); err != nil {
		return err
	}
	st.Pending[n.Name] = pending
	s.replace(&st)
	return nil
}

// locked runs f with one of the locks of the cluster, waiting for it as long as a node does.
func (s *Server) locked(lock chan struct{}, id string, f func() error) error {
	s.mu.Lock()
	quorum := s.quorum
	s.mu.Unlock()
	select { // what is free is not waited for, however short the wait may be
	case <-quorum:
		select {
		case lock <- struct{}{}:
			defer func() { <-lock }()
			return f()
		default:
		}
	default:
	}
	limit := time.NewTimer(s.opts.LockTimeout)
	defer limit.Stop()
	select {
	case <-quorum:
	case <-limit.C:
		return dief("cfs-lock '%s' error: no quorum!", id)
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	select {
	case lock <- struct{}{}:
	case <-limit.C:
		return dief("cfs-lock '%s' error: got lock request timeout", id)
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	defer func() { <-lock }()
	return f()
}

// withRealms changes the realm file under its lock. Errors get the prefix.
func (s *Server) withRealms(prefix string, change func(*edit) error) error {
	err := s.locked(s.realmLock, "file-domains_cfg", func() error { return s.editRealms(change) })
	if err != nil {
		return wrapped(prefix, err)
	}
	return nil
}

// editRealms edits the realm file without the lock of the cluster.
func (s *Server) editRealms(change func(*edit) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.realms.change(change); err != nil {
		return err
	}
	s.changed()
	return nil
}

// withUsers changes the user file under its lock. Errors get the prefix, unless it is empty.
func (s *Server) withUsers(prefix string, change func(*State) error) error {
	err := s.locked(s.userLock, "file-user_cfg", func() error {
		return s.change(func(st *State) error {
			st.AtTicket = nil
			return change(st)
		})
	})
	if err != nil && prefix != "" {
		return wrapped(prefix, err)
	}
	return err
}

// Realm is a copy of the realm of that name.
func (s *Server) Realm(name string) (r Realm, ok bool) {
	sec := s.realms.get(name)
	if sec == nil {
		return Realm{}, false
	}
	return sec.realm(name), true
}

// Realms are copies of all realms, in the order of the file.
func (s *Server) Realms() []Realm { return s.realms.all() }

// SetRealm stores a realm without the lock or the checks of the API, like
// another administrator. It fails if the realm lacks a property that its type requires.
func (s *Server) SetRealm(r Realm) error {
	return s.editRealms(func(e *edit) error {
		e.put(r.Name, newSection(r))
		return nil
	})
}

// SetProperty sets one property of a realm, without the lock or the checks of the API. An empty value removes it.
func (s *Server) SetProperty(realm, property, value string) error {
	return s.editRealms(func(e *edit) error {
		sec := e.find(realm)
		if sec == nil {
			return nil
		}
		if value == "" {
			delete(sec.props, property)
		} else {
			sec.props[property] = value
		}
		e.put(realm, sec)
		return nil
	})
}

// State is a copy of the whole state.
func (s *Server) State() *State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.whole()
}

func (s *Server) whole() *State {
	st := s.view().clone()
	st.Realms = s.Realms()
	return st
}

// Update edits the whole state. If the realms cannot be stored, Update returns an error and changes nothing.
func (s *Server) Update(change func(*State)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.whole()
	st := before.clone()
	change(st)
	if !sameAccounts(before, st) && (st.AtTicket == nil || before.AtTicket != nil && sameAccounts(before.AtTicket, st.AtTicket)) {
		st.AtTicket = nil // the changes are to stay
	}
	if err := s.realms.load(st.Realms); err != nil {
		return err
	}
	s.replace(st)
	return nil
}

func sameAccounts(a, b *State) bool {
	return reflect.DeepEqual(a.Users, b.Users) && reflect.DeepEqual(a.Roles, b.Roles) && reflect.DeepEqual(a.ACL, b.ACL)
}
