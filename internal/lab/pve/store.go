package pve

import (
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
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
	if st.Domains == "" && len(st.Realms) > 0 {
		if err := s.writeRealms(st); err != nil {
			return err
		}
	}
	s.file.load(fileBytes(st.Domains))
	s.replace(st)
	return s.save()
}

// writeRealms sets Domains to the text of Realms.
func (s *Server) writeRealms(st *State) error {
	raw, err := s.api.schema.render(setOf(st.Realms))
	if err != nil {
		return fmt.Errorf("realms: %w", err)
	}
	st.Domains = latin1(raw)
	return nil
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
	st.Realms, st.Domains = nil, ""
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
	limit := time.NewTimer(s.opts.LockTimeout)
	defer limit.Stop()
	s.mu.Lock()
	quorum := s.quorum
	s.mu.Unlock()
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
	if err := s.file.change(change); err != nil {
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

// Digest is the digest of the realm file as it is now.
func (s *Server) Digest() string { return s.file.digest() }

// Realm is a copy of the realm of that name.
func (s *Server) Realm(name string) (r Realm, ok bool) {
	sec := s.file.get(name)
	if sec == nil {
		return Realm{}, false
	}
	return sec.realm(name), true
}

// Realms are copies of all realms, in the order of the file.
func (s *Server) Realms() []Realm {
	set := s.file.all()
	var list []Realm
	for _, name := range set.order {
		if sec := set.get(name); sec != nil {
			list = append(list, sec.realm(name))
		}
	}
	return list
}

func (sec *section) realm(name string) Realm {
	return Realm{Name: name, Type: sec.kind, Properties: maps.Clone(sec.props)}
}

func sectionOf(r Realm) *section {
	sec := newSection(r.Type)
	maps.Copy(sec.props, r.Properties)
	return sec
}

func setOf(realms []Realm) *realmSet {
	set := newRealmSet()
	for _, r := range realms {
		set.put(r.Name, sectionOf(r))
	}
	return set
}

// SetRealm stores a realm without the lock or the checks of the API, like
// another administrator. It fails if the realm lacks a property that its type requires.
func (s *Server) SetRealm(r Realm) error {
	return s.editRealms(func(f *edit) error {
		f.put(r.Name, sectionOf(r))
		return nil
	})
}

// SetProperty sets one property of a realm, without the lock or the checks of the API. An empty value removes it.
func (s *Server) SetProperty(realm, property, value string) error {
	return s.editRealms(func(f *edit) error {
		sec := f.get(realm)
		if sec == nil {
			return nil
		}
		if value == "" {
			delete(sec.props, property)
		} else {
			sec.props[property] = value
		}
		f.put(realm, sec)
		return nil
	})
}

// RemoveRealm removes a realm, without the lock of the API.
func (s *Server) RemoveRealm(name string) error {
	return s.editRealms(func(f *edit) error {
		f.remove(name)
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
	st.Realms, st.Domains = s.Realms(), latin1(s.file.text())
	return st
}

// Update edits the whole state. It ignores changes of Realms if change sets
// Domains to another text. If the state cannot be stored, Update returns an error and changes nothing.
func (s *Server) Update(change func(*State)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.whole()
	st := before.clone()
	change(st)
	sameRealms := slices.EqualFunc(before.Realms, st.Realms, func(a, b Realm) bool {
		return a.Name == b.Name && a.Type == b.Type && maps.Equal(a.Properties, b.Properties)
	})
	if cleared := st.Domains == "" && before.Domains != ""; cleared || !sameRealms && st.Domains == before.Domains {
		if err := s.writeRealms(st); err != nil {
			return err
		}
	}
	if st.Domains != before.Domains {
		s.file.load(fileBytes(st.Domains))
	}
	s.replace(st)
	return nil
}

// Pending is how many logins of a realm the nodes wait for.
func (s *Server) Pending(realm string) (n int) {
	for _, pending := range s.view().Pending {
		n += len(pending.Of(realm))
	}
	return n
}
