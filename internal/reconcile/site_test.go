package reconcile_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/lab/authority"
	labissuer "proxmox-realm/internal/lab/issuer"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/lab/standin"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

const (
	name               = "authelia"
	node1              = "https://127.0.0.1:8006"
	issuerURL          = "https://127.0.0.1:9091"
	clientID           = "proxmox"
	oldKey, key        = "the-former-key", "the-declared-key"
	documentPath       = "/.well-known/openid-configuration"
	tokenPath          = "/api/oidc/token"
	introspectionPath  = "/api/oidc/introspection"
	authorizationPath  = "/api/oidc/authorization"
	agent              = "proxmox-realm/test"
	read, create       = "read", "create"
	update, remove     = "update", "delete"
	permissions, users = "permissions", "users"
	groups, acl, roles = "groups", "acl", "roles"
	addGroup, setGrant = "group", "grant"
	version, discovery = "version", "discovery"
)

// requests are the requests to Proxmox, as tests name them: method, path, and whether more may follow the path.
var requests = map[string]struct{ method, path string }{
	read: {"GET", "/access/domains/"}, create: {"POST", "/access/domains"}, update: {"PUT", "/access/domains/"}, remove: {"DELETE", "/access/domains/"},
	permissions: {"GET", "/access/permissions"}, users: {"GET", "/access/users"}, groups: {"GET", "/access/groups"}, acl: {"GET", "/access/acl"},
	roles: {"GET", "/access/roles"}, addGroup: {"POST", "/access/groups"}, setGrant: {"PUT", "/access/acl"},
	version: {"GET", "/version"}, discovery: {"POST", "/access/openid/auth-url"},
}

// site is a Proxmox VE installation, an issuer, and a target that is about them. They are the stand-ins of the lab; the
// product's own clients reach them over connections in memory. It lives in a bubble of synctest.
type site struct {
	config.Target
	reconcile.Deps
	testing.TB
	ctx context.Context
	pve *pve.Server
	idp *labissuer.Server

	network *standin.Memory
	sent    atomic.Int64 // requests to Proxmox
	// before and after the n-th request something happens in this process.
	before, after map[int]func()
	touched       int
}

// certified makes an authority and a certificate by it, once: time begins anew in each bubble.
var certified = sync.OnceValue(func() (c struct {
	authority *authority.CA
	pair      tls.Certificate
},
) {
	var err error
	if c.authority, err = authority.New(); err != nil {
		panic(err)
	}
	begin := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	c.pair, err = c.authority.IssueBetween(authority.Valid, begin, begin.AddDate(9, 0, 0), "127.0.0.1", "127.0.0.2")
	if err != nil {
		panic(err)
	}
	return c
})

// open makes a site without a realm whose issuer accepts both keys. Its target has every default of a configuration.
func open(tb testing.TB, changes ...func(*realm.Spec)) *site {
	tb.Helper()
	s := &site{TB: tb, ctx: tb.Context(), network: &standin.Memory{}, before: map[int]func(){}, after: map[int]func(){}}
	own := certified()
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	var err error
	s.idp, err = labissuer.Start(labissuer.Options{
		Bind: s.network.Listen, Listen: strings.TrimPrefix(issuerURL, "https://"), Authority: own.authority, Certificate: &own.pair,
	})
	must(err)
	tb.Cleanup(func() { must(s.idp.Close()) })
	s.accepts(key, oldKey)
	seed := pve.DefaultState()
	seed.Users["jane@"+name] = &pve.User{Enable: true}
	seed.ACL = append(seed.ACL, pve.ACL{Path: "/vms", Type: "user", ID: "jane@" + name, Role: "PVEVMUser", Propagate: true})
	s.startPVE(pve.Options{Seed: seed})
	s.Target = config.Target{
		Name: "default", Realm: spec(changes...), Gate: true,
		Proxmox: config.Proxmox{Endpoints: []config.Origin{node1}, CA: own.authority.Pool(), Timeout: time.Minute},
		Verify: config.Verify{
			Issuer: true, Proxmox: true, Client: true, RedirectURLs: []config.Origin{node1}, MaxClockSkew: 5 * time.Minute,
		},
	}
	s.Cleaner, s.History = check.NewCleaner(), history.Open(filepath.Join(tb.TempDir(), "state"))
	s.as(pve.TokenRoot)
	s.sees(s.network, own.authority.Pool())
	return s
}

// startPVE starts the installation.
func (s *site) startPVE(o pve.Options) {
	s.Helper()
	own := certified()
	o.Bind, o.Listen, o.Authority, o.Certificate = s.network.Listen, strings.TrimPrefix(node1, "https://"), own.authority, own.pair
	o.IssuerClient = &http.Client{Transport: &http.Transport{
		DialContext: s.network.Dial, TLSClientConfig: &tls.Config{RootCAs: own.authority.Pool(), MinVersion: tls.VersionTLS12}, DisableKeepAlives: true,
	}}
	var err error
	if s.pve, err = pve.Start(o); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = s.pve.Close() })
}

// as makes the target use a token.
func (s *site) as(token string) {
	parsed, err := config.ParseToken(realm.VE, s.pve.Token(token))
	if err != nil {
		s.Fatal(err)
	}
	s.Proxmox.Token = parsed
	s.reconnect()
}

// reconnect makes the client of Proxmox.
func (s *site) reconnect() {
	client, err := proxmox.New(s.Proxmox, proxmox.Options{UserAgent: agent, Cleaner: s.Cleaner, Dial: s.network.Dial, OnRequest: func() func() {
		n := int(s.sent.Add(1))
		if f := s.before[n]; f != nil {
			f()
		}
		return func() {
			if f := s.after[n]; f != nil {
				f()
			}
		}
	}})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(client.Close)
	s.Cluster = client
}

// sees makes this machine see an issuer over a network, and trust authorities.
func (s *site) sees(network *standin.Memory, roots *x509.CertPool) {
	client := issuer.New(issuer.Options{Roots: roots, UserAgent: agent, Dial: network.Dial, Cleaner: s.Cleaner})
	s.Cleanup(client.Close)
	s.Inspect = func(url string, _ time.Time) *issuer.Inspection { return client.Inspect(s.ctx, url) }
}

// accepts makes the issuer accept one key or two.
func (s *site) accepts(keys ...string) {
	s.idp.SetClient(labissuer.Client{ID: clientID, Secret: keys[0], FormerSecret: slices.Concat(keys, []string{""})[1], RedirectURIs: []string{node1}})
}

// fields are a realm as Proxmox stores it, with its type.
type fields map[string]string

// stored is the realm that most tests begin with.
func stored(changes ...func(fields)) fields {
	f := fields{
		"type": "openid", "issuer-url": issuerURL, "client-id": clientID, "client-key": oldKey, "username-claim": "preferred_username",
		"scopes": "openid profile email", "autocreate": "1", "comment": "by hand",
	}
	for _, change := range changes {
		change(f)
	}
	return f
}

// directory is a realm of another type.
func directory() fields {
	return fields{"type": "ldap", "server1": "ldap.example.com", "base_dn": "dc=example", "user_attr": "uid"}
}

func with(p realm.Property, v string) func(fields) { return func(f fields) { f[string(p)] = v } }
func without(p realm.Property) func(fields)        { return func(f fields) { delete(f, string(p)) } }

// put stores the realm behind the reconciler's back; nil removes it.
func (s *site) put(f fields) *site { return s.putAs(name, f) }

func (s *site) putAs(name string, f fields) *site {
	err := s.pve.Update(func(st *pve.State) {
		st.Realms = slices.DeleteFunc(st.Realms, func(r pve.Realm) bool { return r.Name == name })
		if f != nil {
			r := pve.Realm{Name: name, Type: f["type"], Properties: maps.Clone(f)}
			delete(r.Properties, "type")
			st.Realms = append(st.Realms, r)
		}
	})
	if err != nil {
		s.Fatal(err)
	}
	return s
}

// holds returns the realm that Proxmox holds; nil: none.
func (s *site) holds() fields {
	r, ok := s.pve.Realm(name)
	if !ok {
		return nil
	}
	f := fields(maps.Clone(r.Properties))
	f["type"] = r.Type
	return f
}

// touch is somebody else's change of another realm: only the digest of ours moves.
func (s *site) touch() {
	s.touched++
	other := directory()
	other["comment"] = strconv.Itoa(s.touched)
	s.putAs("other", other)
}

// on injects a rule into requests of a name: "update" for each one, "update#2" for the second from now on. The newest rule counts.
func (s *site) on(request string, rule pve.Rule) *site {
	what, n, numbered := strings.Cut(request, "#")
	rule.Method, rule.Path = requests[what].method, requests[what].path
	if numbered {
		rule.From, _ = strconv.Atoi(n)
		rule.Count = 1
	}
	s.pve.Inject(rule)
	return s
}

// calls lists the requests to Proxmox by name.
func (s *site) calls() (list []string) {
	for _, r := range s.pve.Requests() {
		path := strings.TrimPrefix(r.Path, "/api2/json")
		found := r.Method + " " + path
		for name, request := range requests {
			if r.Method == request.method && (path == request.path || strings.HasSuffix(request.path, "/") && strings.HasPrefix(path, request.path)) {
				found = name
			}
		}
		list = append(list, found)
	}
	return list
}

// count returns how often the requests were made.
func (s *site) count(names ...string) int {
	return len(slices.DeleteFunc(s.calls(), func(call string) bool { return !slices.Contains(names, call) }))
}

func (s *site) writes() int { return s.count(create, update, remove, addGroup, setGrant) }

// reset forgets the requests so far.
func (s *site) reset() {
	s.pve.Reset()
	s.idp.Reset()
	s.sent.Store(0)
}

// asked returns how often this machine asked the issuer at a path, and at how many different times.
func (s *site) asked(path string) (questions, times int) {
	seen := map[time.Time]bool{}
	for _, r := range s.idp.Requests() {
		if r.Path == path && r.UserAgent == agent {
			questions++
			seen[r.Time] = true
		}
	}
	return questions, len(seen)
}

// inspections counts the inspections of the issuer.
func (s *site) inspections() int {
	n, _ := s.asked(documentPath)
	return n
}

// looks counts the inspections in which the client was asked about, and the times at which it was asked about in full.
func (s *site) looks() (all, full int) {
	for _, r := range s.idp.Requests() {
		if r.Path == authorizationPath && r.Parameters.Get("prompt") == "none" { // each look begins with it
			all++
		}
	}
	_, full = s.asked(tokenPath)
	return all, full
}

// The ways to run.

func (s *site) apply(o ...reconcile.Options) reconcile.Result {
	return reconcile.Apply(s.ctx, s.Target, s.Deps, options(o))
}

func (s *site) plan(o ...reconcile.Options) reconcile.Result {
	return reconcile.Plan(s.ctx, s.Target, s.Deps, options(o))
}

func (s *site) verify(o ...reconcile.Options) reconcile.Result {
	return reconcile.Verify(s.ctx, s.Target, s.Deps, options(o))
}

func (s *site) delete() reconcile.Result {
	return reconcile.Delete(s.ctx, s.Target, s.Deps, reconcile.Options{})
}

func (s *site) planDelete() reconcile.Result {
	return reconcile.PlanDelete(s.ctx, s.Target, s.Deps, reconcile.Options{})
}

func options(o []reconcile.Options) reconcile.Options {
	return slices.Concat(o, []reconcile.Options{{}})[0]
}

var (
	agreed = reconcile.Options{Replace: true}
	quiet  = reconcile.Options{Quiet: true}
)

// restore brings the newest saved realm back, as the command restore does.
func (s *site) restore() reconcile.Result {
	saved, problems := reconcile.ListSaved(s.History.Dir())
	switch {
	case len(saved) == 0 && len(problems) == 0:
		s.Fatal("nothing is saved")
	case len(saved) == 0:
		return reconcile.Result{Outcome: reconcile.Refused, Action: realm.Refuse, Err: problems[0]}
	}
	return reconcile.Restore(s.ctx, s.Target, s.Deps, reconcile.Options{}, saved[0], true)
}

// waits looks at the gate every 10 s, as a run with --wait does, and returns what that took.
func (s *site) waits(atMost time.Duration, look func(reconcile.Options) reconcile.Result) (got reconcile.Result, took time.Duration) {
	o := reconcile.Options{Began: time.Now(), Waits: true}
	for {
		got, took = look(o), time.Since(o.Began)
		if got.Outcome != reconcile.Held || took >= atMost || s.ctx.Err() != nil {
			return got, took
		}
		_ = reconcile.Sleep(s.ctx, min(10*time.Second, atMost-took))
		o.Look, o.Last = time.Now(), time.Since(o.Began) >= atMost
	}
}

// stops makes a context end when the returned function is called, as a signal does.
func (s *site) stops(cause check.Code) (stop func()) {
	ctx, cancel := context.WithCancelCause(s.ctx)
	s.Cleanup(func() { cancel(nil) })
	s.ctx = ctx
	return func() { cancel(check.Errorf(cause, "stopped")) }
}

// saved lists the files of saved realms, and pending those of replaces.
func (s *site) saved() []string {
	found, _ := filepath.Glob(filepath.Join(s.History.Dir(), "saved-*"))
	return found
}

func (s *site) pending() []string {
	return slices.DeleteFunc(s.saved(), func(f string) bool { return !strings.Contains(f, "-replace") })
}

// bubble is t.Run with a site whose time passes at once.
func bubble(t *testing.T, title string, f func(*site)) {
	t.Helper()
	t.Run(title, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(open(t)) }) })
}

// alone is bubble for the whole of a test.
func alone(t *testing.T, f func(*site)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(open(t)) })
}

// spec declares the client, with the former key, and whose names users get.
func spec(changes ...func(*realm.Spec)) realm.Spec {
	s := realm.Spec{Name: name, Set: realm.Values{
		realm.IssuerURL: realm.Text(issuerURL), realm.ClientID: realm.Text(clientID), realm.UsernameClaim: realm.Text("preferred_username"),
		realm.ClientKey: realm.Key(check.NewSecret(oldKey)),
	}}
	for _, change := range changes {
		change(&s)
	}
	return s
}

// declares replaces what the target declares.
func (s *site) declares(changes ...func(*realm.Spec)) *site {
	s.Realm = spec(changes...)
	return s
}

func set(p realm.Property, v string) func(*realm.Spec) {
	return func(s *realm.Spec) { s.Set[p] = realm.Text(v) }
}

func setKey(v string) func(*realm.Spec) {
	return func(s *realm.Spec) { s.Set[realm.ClientKey] = realm.Key(check.NewSecret(v)) }
}

// undeclared leaves properties as they are.
func undeclared(ps ...realm.Property) func(*realm.Spec) {
	return func(s *realm.Spec) {
		for _, p := range ps {
			delete(s.Set, p)
		}
	}
}

func unset(ps ...realm.Property) func(*realm.Spec) {
	return func(s *realm.Spec) { s.Unset = append(s.Unset, ps...) }
}

// expect compares the outcome, the action and the error's code ("" for no error).
func (s *site) expect(got reconcile.Result, outcome reconcile.Outcome, action realm.Action, code check.Code) {
	s.Helper()
	var found check.Code
	if got.Err != nil {
		found = check.CodeOf(got.Err)
	}
	if got.Outcome != outcome || got.Action != action || found != code {
		s.Errorf("%s, %s, code %q (%v); want %s, %s, %q; checks %v", got.Outcome, got.Action, found, got.Err, outcome, action, code, check.Failures(got.Checks))
	}
}

// called compares the requests to Proxmox.
func (s *site) called(want ...string) {
	s.Helper()
	if got := s.calls(); !slices.Equal(got, want) {
		s.Errorf("requests %v, want %v", got, want)
	}
}

// status returns the status of a check; "" if there is none.
func status(r reconcile.Result, id check.ID) check.Status {
	c, _ := check.Find(r.Checks, id)
	return c.Status
}

// errorOf returns message and hint of an error as people read them.
func errorOf(r reconcile.Result) string {
	if r.Err == nil {
		return ""
	}
	return check.MessageOf(r.Err) + "; " + check.HintOf(r.Err).For(check.Names{})
}

// What goes wrong with a request.
var (
	refused   = pve.Rule{Status: 403, Reason: "Permission check failed (/access/realm, Realm.Allocate)"}
	locked    = pve.Rule{Status: 500, Reason: "cfs-lock 'file-domains_cfg' error: got lock request timeout"}
	broken    = pve.Rule{TruncateHead: true} // of a read: the connection breaks in the middle of the answer
	lost      = pve.Rule{DropAnswer: true}   // of a write: it takes effect
	dropped   = pve.Rule{Drop: true}         // of a write: it takes no effect
	pretended = pve.Rule{Status: 200, Body: `{"data":null}`}
)

// late is a write whose answer is lost, and which takes effect after that time.
func late(d time.Duration) pve.Rule { return pve.Rule{Drop: true, Delay: d} }
