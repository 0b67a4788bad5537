// Package fleet runs the reconciler over every target of a configuration. It builds what a target needs, shares what targets
// have in common, keeps overlapping runs apart and remembers what the next run can use. Every way into the
// program that touches Proxmox goes through it.
package fleet

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/pve"
	"proxmox-realm/internal/reconcile"
)

// Options are what a run adds to its configuration.
type Options struct {
	reconcile.Options
	WaitLock     time.Duration // how long to wait for another run of the configuration; 0: not at all
	AllEndpoints bool          // every node is asked to discover the issuer, not only the one that answers
	// How often a run that repeats asks costly questions where the configuration says auto; 0: never.
	ProxmoxEach, ClientEach time.Duration
	// Carry lets the last answers to costly questions count in the runs that do not ask them, so that what failed
	// does not look mended; what failed is asked again each hour.
	Carry bool
}

// Fleet is a configuration at work. It may run many times; close it in the end.
type Fleet struct {
	config    *config.Config
	log       *slog.Logger
	userAgent string
	cleaner   *check.Cleaner // of what issuers say: it holds the client keys of all targets
	state     *state

	mu  sync.Mutex
	pem map[string][]byte // CA files, each read once
}

// New prepares a configuration's targets; it sends nothing. userAgent is how the program calls itself
// towards Proxmox and issuers, such as "proxmox-realm/1.0".
func New(c *config.Config, userAgent string, log *slog.Logger) *Fleet {
	f := &Fleet{config: c, log: log, userAgent: userAgent, cleaner: check.NewCleaner(), pem: map[string][]byte{}}
	f.state = loadState(c.StateDir, c.File)
	for _, t := range c.Targets {
		f.cleaner.Hold(t.Realm.Set.Login(t.Realm.Name).ClientKey)
	}
	return f
}

// Reload prepares another version of the configuration, and goes on with what this one remembers.
func (f *Fleet) Reload(c *config.Config) *Fleet {
	next := New(c, f.userAgent, f.log)
	if next.state.path == f.state.path {
		next.state = f.state
	}
	return next
}

// Plan shows what Apply would do and changes nothing.
func (f *Fleet) Plan(ctx context.Context, o Options) Run {
	return f.each(ctx, "plan", o, func(ctx context.Context, t reconcile.Target) reconcile.Result {
		return reconcile.Plan(ctx, t, o.Options)
	})
}

// Apply makes every target's realm what it should be, and verifies it.
func (f *Fleet) Apply(ctx context.Context, o Options) Run {
	return f.alone(ctx, "apply", o, func(ctx context.Context, t reconcile.Target) reconcile.Result {
		return reconcile.Apply(ctx, t, o.Options)
	})
}

// Recover ends replaces that were cut short.
func (f *Fleet) Recover(ctx context.Context, o Options) Run {
	return f.alone(ctx, "apply", o, reconcile.Recover)
}

// Verify runs every check and changes nothing.
func (f *Fleet) Verify(ctx context.Context, o Options) Run {
	return f.each(ctx, "verify", o, reconcile.Verify)
}

// Delete saves and removes every target's realm.
func (f *Fleet) Delete(ctx context.Context, o Options) Run {
	return f.alone(ctx, "delete", o, reconcile.Delete)
}

// alone is each, while no other run of the configuration writes.
func (f *Fleet) alone(ctx context.Context, command string, o Options, work worker) Run {
	began := time.Now()
	unlock, err := lock(ctx, f.config.LockFile, o.WaitLock, f.log)
	if err != nil {
		return Run{Command: command, Outcome: reconcile.Failed, Err: err, Duration: time.Since(began)}
	}
	defer unlock()
	return f.each(ctx, command, o, work)
}

// worker does one target's work.
type worker func(context.Context, reconcile.Target) reconcile.Result

// each does the work on every target, as many at once as the configuration allows.
func (f *Fleet) each(ctx context.Context, command string, o Options, work worker) Run {
	began := time.Now()
	inspecting, stop := context.WithCancel(ctx)
	defer stop()
	shared := &session{Fleet: f, options: o, ctx: inspecting, providers: map[string]*provider{}}
	defer shared.close()

	targets := make([]reconcile.Result, len(f.config.Targets))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(max(f.config.Concurrency, 1), len(targets)) {
		workers.Go(func() {
			for i := range next {
				targets[i] = shared.run(ctx, f.config.Targets[i], work)
			}
		})
	}
	for i := range targets {
		next <- i
	}
	close(next)
	workers.Wait()

	if command == "plan" { // which changes nothing, here as elsewhere
		return Run{Command: command, Outcome: worst(targets), Targets: targets, Duration: time.Since(began)}
	}
	if err := f.state.save(); err != nil {
		f.log.Debug("remembering this run", "error", err)
	}
	return Run{Command: command, Outcome: worst(targets), Targets: targets, Duration: time.Since(began)}
}

// worst is the outcome of a run: that of its worst target.
func worst(targets []reconcile.Result) reconcile.Outcome {
	for _, o := range reconcile.Outcomes() {
		if slices.ContainsFunc(targets, func(t reconcile.Result) bool { return t.Outcome == o }) {
			return o
		}
	}
	return reconcile.Unchanged
}

// session is one run over the targets: what they share while it lasts.
type session struct {
	*Fleet
	options Options
	ctx     context.Context

	mu        sync.Mutex
	providers map[string]*provider // by issuer CA file
}

// run does one target's work. What cannot even be set up is that target's failure alone.
func (s *session) run(ctx context.Context, t config.Target, work worker) reconcile.Result {
	began := time.Now()
	failed := func(err error) reconcile.Result {
		return reconcile.Result{
			Name: t.Name, Endpoint: string(t.Proxmox.Endpoints[0]), Realm: t.Realm.Name,
			Outcome: reconcile.Failed, Err: err, Duration: time.Since(began),
		}
	}
	client, err := s.Connect(t)
	if err != nil {
		return failed(err)
	}
	defer client.Close()
	target, watched, err := s.target(t, client)
	if err != nil {
		return failed(err)
	}
	result := work(ctx, target)
	result.Name, result.Realm = t.Name, t.Realm.Name
	s.remember(t, &result)
	result.Endpoint = string(client.Endpoint())
	result.Requests = client.Requests()
	if watched != nil && result.Err == nil {
		result.IssuerCertificate = watched.expiry()
	}
	if result.Err == nil && len(t.Proxmox.Endpoints) > 1 {
		s.state.update(memoryKey(t), func(m *Memory) { m.Endpoint = result.Endpoint })
	}
	return result
}

// target puts together what a reconciler needs.
func (s *session) target(t config.Target, client *pve.Client) (reconcile.Target, *watch, error) {
	key := memoryKey(t)
	var remembered Memory
	if s.options.Carry || s.options.ProxmoxEach > 0 || s.options.ClientEach > 0 {
		remembered = s.state.get(key).about(t)
	}
	forget := func(change func(*Memory)) { s.state.update(key, change) }
	c := &cluster{
		Client: client, inspect: t.Verify.Issuer,
		rest: s.state.rest, forget: forget,
	}
	if s.options.AllEndpoints {
		c.nodes = texts(t.Proxmox.Endpoints)
	}
	target := reconcile.Target{
		Spec: t.Realm, Realms: c,
		Redirects: texts(t.Verify.RedirectURLs), RedirectsDeclared: t.Verify.RedirectsDeclared,
		AskProxmox: s.due(t.Verify.Proxmox, s.options.ProxmoxEach, remembered.Proxmox, remembered.failing(ofProxmox)),
		AskClient:  s.due(t.Verify.Client, s.options.ClientEach, remembered.Client, remembered.failing(ofClient)),
		Ignore:     t.Verify.Ignore, MaxSkew: t.Verify.MaxClockSkew, Gate: t.Gate,
		Recovery: reconcile.Recovery{Dir: s.config.StateDir, Target: t.Name, Realm: t.Realm.Name, Endpoints: texts(t.Proxmox.Endpoints), Private: config.MakePrivate},
		Log:      s.log.With("target", t.Name),
	}
	if !t.Verify.Issuer {
		return target, nil, nil
	}
	p, err := s.provider(t)
	if err != nil {
		return reconcile.Target{}, nil, err
	}
	w := &watch{provider: p, asked: func() { forget(func(m *Memory) { m.Client = time.Now() }) }}
	target.Issuer = w
	return target, w, nil
}

// memoryKey names a target in the state: its name may be given to another cluster tomorrow.
func memoryKey(t config.Target) string {
	return t.Name + " " + t.Realm.Name + " " + string(t.Proxmox.Endpoints[0])
}

func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.providers {
		p.client.Close()
	}
}

// provider returns the one for the target's authorities.
func (s *session) provider(t config.Target) (*provider, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.providers[t.Verify.IssuerCAFile]; ok {
		return p, nil
	}
	ca, err := s.certificates("verify.issuer_ca_file", t.Verify.IssuerCAFile)
	if err != nil {
		return nil, err
	}
	var roots *x509.CertPool
	if ca != nil {
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(ca) {
			return nil, check.Errorf(check.Config, "verify.issuer_ca_file: no certificate in PEM form").Try(check.Advise("give a PEM file of the issuer's certificate authority"))
		}
	}
	client := issuer.New(issuer.Options{Roots: roots, UserAgent: s.userAgent, Cleaner: s.cleaner, Log: s.log})
	p := newProvider(s.ctx, client)
	s.providers[t.Verify.IssuerCAFile] = p
	return p, nil
}

// Told returns what [Fleet.Tell] kept in an earlier run of the configuration; nil where there is nothing.
func (f *Fleet) Told() []byte { return f.state.told() }

// Tell keeps what a later run needs to know of what was said in this one: a JSON value.
func (f *Fleet) Tell(what []byte) error {
	f.state.tell(what)
	return f.state.save()
}

// Connect returns the client of a target, to be closed by the caller.
func (f *Fleet) Connect(t config.Target) (*pve.Client, error) {
	options := pve.Options{
		UserAgent: f.userAgent, Log: f.log.With("target", t.Name),
		Cleaner: check.NewCleaner(t.Realm.Set.Login(t.Realm.Name).ClientKey),
	}
	if len(t.Proxmox.Endpoints) > 1 {
		options.Prefer = config.Origin(f.state.get(memoryKey(t)).Endpoint)
	}
	return pve.New(t.Proxmox, options)
}

// certificates reads a CA file, once for all targets that name it.
func (f *Fleet) certificates(key, path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if pem, ok := f.pem[path]; ok {
		return pem, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, check.Errorf(check.Config, "%s: %v", key, err).Try(check.Advise("give a PEM file that this user can read")).Because(err)
	}
	f.pem[path] = pem
	return pem, nil
}

// texts returns the text of each value.
func texts[T any](values []T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = fmt.Sprint(v)
	}
	return out
}
