package reconcile_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
)

// The calls of a cluster, as scripts and expectations name them.
const (
	read, create, update, remove        = "read", "create", "update", "delete"
	version, users, permissions         = "version", "users", "permissions"
	discovery, usersCheck               = "discovery", "users-check"
	readAccess, readRoles, changeAccess = "read-access", "read-roles", "change-access"
	issuerURL, clientID, oldKey, key    = "https://auth.example.com", "proxmox", "the-former-key", "the-declared-key"
)

// cluster is a Proxmox cluster in memory. It answers as the recorded exchanges of Proxmox VE 9.2 do: one
// digest over all realms, a stale one refused, existing and absent realms refused, unknown properties refused, one default
// realm, white space stripped. What goes wrong is scripted by call: "update" for each one, "update#2" for the second.
type cluster struct {
	tb      testing.TB
	mu      sync.Mutex // late writes come from timers
	realms  map[string]fields
	serial  int // the digest: any write to any realm alters it
	lacks   []realm.Property
	version realm.Version
	users   realm.Users
	hung    bool          // the issuer keeps the node waiting
	failing config.Origin // a node that cannot discover the issuer
	groups  []string
	entries []realm.Entry
	own     realm.Privileges // of the credentials
	script  map[string]trouble
	at      map[int]trouble          // by the number of the call, of any kind; goes before script
	atCall  func(n int, call string) // before the n-th call of any kind

	calls []string
	puts  []fields // parameters of every PUT
}

type fields map[string]any

// trouble is what happens around one call.
type trouble struct {
	before func()        // somebody else is faster
	err    error         // the answer; the call has no effect
	effect bool          // …but it has: something in between answered
	lost   bool          // no answer comes back
	never  bool          // lost, or pretended, without effect
	late   time.Duration // lost, and takes effect after this time
	die    bool          // the process ends in this moment, before the call
	after  func()        // somebody else comes right behind
}

// died is what a process that ends throws.
type died struct{}

func newCluster(tb testing.TB) *cluster {
	return &cluster{
		tb: tb, serial: 1, script: map[string]trouble{}, version: realm.Version{Major: 9, Minor: 2},
		realms: map[string]fields{"pam": {"type": "pam"}, "pve": {"type": "pve"}},
	}
}

// stored is the realm that most tests begin with, as Proxmox answered it.
func stored(changes ...func(fields)) fields {
	f := fields{
		"type": "openid", "issuer-url": issuerURL, "client-id": clientID, "client-key": oldKey,
		"username-claim": "preferred_username", "scopes": "openid profile email", "autocreate": 1, "comment": "by hand", "future": "kept",
	}
	for _, change := range changes {
		change(f)
	}
	return f
}

func with(p realm.Property, v any) func(fields) { return func(f fields) { f[string(p)] = v } }
func without(p realm.Property) func(fields)     { return func(f fields) { delete(f, string(p)) } }

// put stores a realm behind the reconciler's back.
func (c *cluster) put(name string, f fields) *cluster {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.store(name, f)
	return c
}

func (c *cluster) store(name string, f fields) {
	c.serial++
	if f == nil {
		delete(c.realms, name)
	} else {
		c.realms[name] = maps.Clone(f)
	}
}

// touch is somebody else's change of another realm: only the digest of ours moves.
func (c *cluster) touch() { c.put("other", fields{"type": "ldap", "comment": "touched"}) }

// count returns how often the calls were made.
func (c *cluster) count(calls ...string) int {
	n := 0
	for _, made := range c.calls {
		if slices.Contains(calls, made) {
			n++
		}
	}
	return n
}

func (c *cluster) writes() int { return c.count(create, update, remove) }

// begin notes a call and finds its trouble. A request whose context has ended is not sent.
func (c *cluster) begin(ctx context.Context, call string) (trouble, error) {
	c.calls = append(c.calls, call)
	if c.atCall != nil {
		c.atCall(len(c.calls), call)
	}
	t, ok := c.at[len(c.calls)]
	if !ok {
		t, ok = c.script[fmt.Sprintf("%s#%d", call, c.count(call))]
	}
	if !ok {
		t = c.script[call]
	}
	if t.before != nil {
		t.before()
	}
	if t.die {
		panic(died{})
	}
	if ctx.Err() != nil {
		return t, fmt.Errorf("%s: %w", call, ctx.Err())
	}
	return t, t.err
}

// around carries out a write as its trouble has it.
func (c *cluster) around(t trouble, write func() error) error {
	effect := func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		return write()
	}
	if t.after != nil {
		defer t.after()
	}
	switch {
	case t.late > 0:
		time.AfterFunc(t.late, func() { _ = effect() })
	case !t.never:
		if err := effect(); err != nil && !t.lost {
			return err
		}
	}
	if t.lost || t.late > 0 {
		return errLost
	}
	return nil
}

// The answers that a client gives its caller.
var (
	errLost       = errors.Join(check.Errorf(check.Unreachable, "the connection broke").Try(check.Hint("look at the network")), realm.ErrLost)
	errLock       = check.Errorf(check.LockTimeout, "got lock request timeout")
	errPermission = check.Errorf(check.PermissionDenied, "Realm.Allocate is missing").Try(check.Hint("pveum acl modify"))
	errDown       = check.Errorf(check.Unreachable, "no endpoint answers")
)

func conflict(why string) error { return fmt.Errorf("%s: %w", why, realm.ErrConflict) }

func (c *cluster) Realm(ctx context.Context, name string) (realm.Current, error) {
	t, err := c.begin(ctx, read)
	if t.after != nil {
		defer t.after()
	}
	if err != nil {
		return realm.Current{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.realms[name]
	if !ok {
		return realm.Current{}, nil
	}
	f = maps.Clone(f)
	f["digest"] = c.digest()
	data, err := json.Marshal(f)
	if err != nil {
		c.tb.Fatal(err)
	}
	return realm.ParseCurrent(realm.VE, data)
}

func (c *cluster) digest() string { return fmt.Sprintf("digest-%d", c.serial) }

func (c *cluster) Create(ctx context.Context, p realm.Params) error {
	t, err := c.begin(ctx, create)
	if err != nil {
		return err
	}
	return c.around(t, func() error {
		sent := fields(p.Reveal())
		name, _ := sent["realm"].(string)
		delete(sent, "realm")
		if err := c.schema(sent); err != nil {
			return err
		}
		if sent["digest"] != nil || sent["delete"] != nil || sent["type"] != "openid" {
			c.tb.Errorf("POST %v", sent)
		}
		if c.realms[name] != nil {
			return conflict("domain '" + name + "' already exists")
		}
		c.realms[name] = fields{}
		c.set(name, sent)
		return nil
	})
}

func (c *cluster) Update(ctx context.Context, name string, p realm.Params) error {
	t, err := c.begin(ctx, update)
	c.puts = append(c.puts, p.Reveal())
	if err != nil {
		return err
	}
	return c.around(t, func() error {
		sent := fields(p.Reveal())
		digest, _ := sent["digest"].(string)
		if digest == "" {
			c.tb.Error("a PUT without a digest overwrites what others wrote")
		}
		if sent["type"] != nil || sent["realm"] != nil || sent["username-claim"] != nil {
			c.tb.Errorf("PUT %v", sent)
		}
		if err := c.schema(sent); err != nil {
			return err
		}
		if c.realms[name] == nil {
			return conflict("cannot lookup undefined type")
		}
		if digest != c.digest() {
			return conflict("detected modified configuration")
		}
		if list, ok := sent["delete"].(string); ok {
			for property := range strings.SplitSeq(list, ",") {
				if property == "username-claim" {
					c.tb.Error("delete=username-claim rebinds every user")
				}
				delete(c.realms[name], property)
			}
		}
		delete(sent, "digest")
		delete(sent, "delete")
		c.set(name, sent)
		return nil
	})
}

// schema refuses what this version does not know.
func (c *cluster) schema(sent fields) error {
	for _, p := range c.lacks {
		if _, ok := sent[string(p)]; ok {
			return &realm.UnknownPropertyError{Properties: []realm.Property{p}}
		}
	}
	return nil
}

func (c *cluster) set(name string, sent fields) {
	c.serial++
	for property, v := range sent {
		if text, ok := v.(string); ok {
			v = strings.TrimSpace(text)
		}
		if property == "default" && v == 1 {
			for _, other := range c.realms {
				delete(other, "default")
			}
		}
		c.realms[name][property] = v
	}
}

func (c *cluster) Delete(ctx context.Context, name, _ string) error {
	t, err := c.begin(ctx, remove)
	if err != nil {
		if t.effect {
			c.put(name, nil)
		}
		return err
	}
	return c.around(t, func() error {
		if c.realms[name] == nil {
			return conflict("authentication domain '" + name + "' does not exist")
		}
		c.store(name, nil)
		return nil
	})
}

func (c *cluster) Version(ctx context.Context) (realm.Version, error) {
	_, err := c.begin(ctx, version)
	if err != nil {
		return realm.Version{}, err
	}
	return c.version, nil
}

func (c *cluster) CountUsers(ctx context.Context, _ string) (realm.Users, error) {
	_, err := c.begin(ctx, users)
	if err != nil {
		return realm.Users{}, err
	}
	return c.users, nil
}

func (c *cluster) ClockOffset() (time.Duration, bool) { return 0, true }

func (c *cluster) Endpoint() config.Origin { return "https://pve1.example.com:8006" }

func (c *cluster) CheckPermissions(ctx context.Context, write bool, missing []realm.Privilege) (check.Check, error) {
	found := check.Passed(check.ProxmoxPermissions, "may write: %t", write)
	if len(missing) > 0 {
		found = check.Failed(check.ProxmoxPermissions, "run on a node:\n    pveum acl modify", "missing: %v", missing)
	}
	return c.asked(ctx, permissions, found)
}

func (c *cluster) Realms(context.Context) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.realms)), nil
}

// Access shows what Proxmox would show to credentials with the cluster's privileges.
func (c *cluster) Access(ctx context.Context) (realm.CurrentAccess, error) {
	if _, err := c.begin(ctx, readAccess); err != nil {
		return realm.CurrentAccess{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := realm.CurrentAccess{Own: c.own}
	at := func(path, privilege string) bool { _, held := c.own.At(path)[privilege]; return held }
	if at("/access/groups", "Group.Allocate") || at("/access/groups", "Sys.Audit") {
		seen.Groups = slices.Clone(c.groups)
	}
	for _, e := range c.entries {
		if at("/access", "Sys.Audit") || at(e.Path, "Permissions.Modify") {
			seen.Entries = append(seen.Entries, e)
		}
	}
	return seen, nil
}

func (c *cluster) Roles(ctx context.Context) (realm.Roles, error) {
	_, err := c.begin(ctx, readRoles)
	return roles, err
}

// Change changes groups and entries as Proxmox does: adding twice and removing what is not there succeed.
func (c *cluster) Change(ctx context.Context, change realm.AccessChange) error {
	t, err := c.begin(ctx, changeAccess)
	if err != nil {
		return err
	}
	return c.around(t, func() error {
		if change.Kind == realm.AccessGroup {
			c.groups = append(c.groups, change.Group)
			return nil
		}
		if !slices.Contains(c.groups, change.Group) {
			return check.Errorf(check.ProxmoxFailed, "group '%s' does not exist", change.Group)
		}
		c.entries = slices.DeleteFunc(c.entries, func(e realm.Entry) bool {
			return e.Kind == "group" && e.ID == change.Group && e.Path == change.Grant.Path && e.Role == change.Grant.Role
		})
		if change.Op == realm.Set {
			c.entries = append(c.entries, realm.Entry{
				Path: change.Grant.Path, Kind: "group", ID: change.Group, Role: change.Grant.Role, Propagate: change.Grant.Propagate,
			})
		}
		return nil
	})
}

// roles are the roles that the cluster has.
var roles = realm.Roles{
	"PVEAdmin": {"Sys.Audit", "VM.Allocate"}, "PVEAuditor": {"Sys.Audit"}, "PVEVMUser": {"VM.Console"}, "Administrator": {"Permissions.Modify", "Realm.Allocate"},
}

func (c *cluster) CheckDiscovery(ctx context.Context, node config.Origin, login realm.Login, redirectURL string, _ bool) (check.Check, bool, error) {
	found := check.Passed(check.ProxmoxDiscovery, "%s discovers %s as %s for %s", node, login.IssuerURL, login.ClientID, redirectURL)
	if c.script[discovery].never || node == c.failing {
		found = check.Failed(check.ProxmoxDiscovery, "look at the node's DNS", "the node cannot reach %s", login.IssuerURL)
	}
	found, err := c.asked(ctx, discovery, found)
	return found, c.hung, err
}

func (c *cluster) CheckUsers(ctx context.Context, _ realm.Login, access bool) ([]check.Check, error) {
	users := check.Passed(check.ProxmoxUsers, "3 users")
	if c.script[usersCheck].never {
		users = check.Failed(check.ProxmoxUsers, "set {realm.autocreate} to true", "nobody can log in")
	}
	users, err := c.asked(ctx, usersCheck, users)
	if !access {
		return []check.Check{users}, err
	}
	return []check.Check{users, check.Passed(check.ProxmoxAccess, "somebody has a role")}, err
}

// asked answers a check, or says that Proxmox cannot be asked.
func (c *cluster) asked(ctx context.Context, call string, found check.Check) (check.Check, error) {
	if _, err := c.begin(ctx, call); err != nil {
		return check.Skipped(found.ID, "not checked: %v", err), err
	}
	return found, nil
}
