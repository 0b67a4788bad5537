package agent

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is a Runner whose runs end as a test says, by the time since the start.
type script struct {
	end   func(since time.Duration, n int) fleet.Run
	takes time.Duration
	store *history.Store // nil: one that keeps nothing

	mu      sync.Mutex
	begun   time.Time
	at      []time.Duration // when each run began
	options []fleet.Options
}

func (s *script) History() *history.Store { return cmp.Or(s.store, history.Open("")) }

func (s *script) Apply(ctx context.Context, o fleet.Options) fleet.Run {
	s.mu.Lock()
	if s.begun.IsZero() {
		s.begun = time.Now()
	}
	since := time.Since(s.begun)
	s.at, s.options = append(s.at, since), append(s.options, o)
	n := len(s.at)
	s.mu.Unlock()
	if s.takes > 0 {
		select {
		case <-time.After(s.takes):
		case <-ctx.Done():
			return failed(check.Terminated)
		}
	}
	return s.end(since, n)
}

func target(o reconcile.Outcome, err error, checks ...check.Check) fleet.Run {
	stage := reconcile.Idle
	if o == reconcile.Changed {
		stage = reconcile.Written
	}
	return fleet.Run{Command: "apply", Outcome: o, Targets: []reconcile.Result{{
		Name: "default", Endpoint: "https://pve1.example.com:8006", Realm: "authelia",
		Outcome: o, Action: realm.None, Err: err, Checks: checks, Stage: stage,
	}}}
}

func fine() fleet.Run { return target(reconcile.Unchanged, nil) }

func failed(code check.Code) fleet.Run {
	return target(reconcile.Failed, check.Errorf(code, "it is %s", code).Try(check.Hint("mend it")))
}

func issuerAway() fleet.Run {
	return target(reconcile.Unverified, nil, check.Failed(check.IssuerReach, "look", "no connection to auth.example.com:443"))
}

func settings() *config.Config {
	return &config.Config{Agent: config.Agent{Interval: 15 * time.Minute, Listen: "127.0.0.1:9746"}, Targets: []config.Target{{Name: "default"}}}
}

// live runs an agent in a bubble for so long, and returns its log.
func live(t *testing.T, runner Runner, lasts time.Duration, change func(*Options)) string {
	t.Helper()
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	o := Options{
		Config: settings(), Runner: func(*config.Config) Runner { return runner },
		Load: func(context.Context) (*config.Config, error) { return settings(), nil },
		Log:  slog.New(slog.NewTextHandler(&log, nil)),
	}
	if change != nil {
		change(&o)
	}
	ended := make(chan error)
	go func() { ended <- Run(ctx, o) }()
	time.Sleep(lasts)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the agent ended with %v", err)
	}
	return log.String()
}

func TestFirstRunAtOnceThenEachInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{end: func(time.Duration, int) fleet.Run { return fine() }}
		live(t, s, 46*time.Minute, nil)
		if len(s.at) != 4 || s.at[0] != 0 || s.at[1] != 15*time.Minute || s.at[3] != 45*time.Minute {
			t.Errorf("runs at %v", s.at)
		}
		if o := s.options[1]; !o.Quiet || o.Replace || o.NoGate || o.Wait != 0 {
			t.Errorf("a run with %+v", o)
		}
	})
}

func TestPauses(t *testing.T) {
	two := failed(check.BadCredentials)
	two.Targets = append(two.Targets, failed(check.Unreachable).Targets...)
	const interval = 15 * time.Minute
	for name, tt := range map[string]struct {
		run  fleet.Run
		want []time.Duration
	}{
		"unreachable":        {failed(check.Unreachable), []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, interval, interval}},
		"locked":             {fleet.Run{Outcome: reconcile.Failed, Err: check.Errorf(check.Locked, "x")}, []time.Duration{30 * time.Second, time.Minute}},
		"refused":            {target(reconcile.Refused, check.Errorf(check.UsernameClaim, "x")), []time.Duration{interval, interval}},
		"held":               {target(reconcile.Held, check.Errorf(check.Held, "x")), []time.Duration{interval, interval}},
		"limited":            {failed(check.RateLimited), []time.Duration{interval, interval}},
		"no privilege":       {failed(check.PermissionDenied), []time.Duration{interval, interval}},
		"bad credentials":    {failed(check.BadCredentials), []time.Duration{interval, 2 * interval, 4 * interval, 8 * interval, 16 * interval, 6 * time.Hour, 6 * time.Hour}},
		"one of two refused": {two, []time.Duration{interval, interval}},
		"unverified":         {issuerAway(), []time.Duration{interval, interval}},
	} {
		a := &agent{Options: Options{Config: settings()}}
		for i, want := range tt.want {
			if got := a.schedule(tt.run); got != want {
				t.Errorf("%s: pause %d is %s, want %s", name, i+1, got, want)
			}
		}
		a.schedule(fine())
		if got := a.schedule(tt.run); got != tt.want[0] {
			t.Errorf("%s: after a success, the pause is %s", name, got)
		}
	}
	for random, want := range map[float64]time.Duration{0: 54 * time.Second, 0.5: time.Minute, 1: 66 * time.Second} {
		if got := vary(time.Minute, 0.1, random); got != want {
			t.Errorf("vary by %v: %s, want %s", random, got, want)
		}
	}
	if got := vary(2*time.Second, 1, 0); got != time.Second {
		t.Errorf("a pause never vanishes: %s", got)
	}
}

// An issuer comes and goes for an hour, and a Proxmox answers 595 for two. Each failure is logged when it begins and when it ends,
// however many runs it lasts.
func TestFailuresAreLoggedWhenTheyBeginChangeAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{end: func(since time.Duration, n int) fleet.Run {
			switch {
			case since < time.Hour && n%2 == 0:
				return issuerAway()
			case since < time.Hour:
				return fine()
			case since < 2*time.Hour:
				return failed(check.ProxmoxFailed)
			case since < 3*time.Hour:
				return failed(check.NoQuorum)
			}
			return fine()
		}}
		log := live(t, s, 5*time.Hour, func(o *Options) { o.Config.Agent.Interval = 6 * time.Minute })
		for what, want := range map[string]int{
			"no connection to auth.example.com": 5, "it is proxmox-failed": 1, "it is no-quorum": 1,
		} {
			if got := strings.Count(log, what); got != want {
				t.Errorf("%q is logged %d times, want %d:\n%s", what, got, want, log)
			}
		}
		begins, ends := strings.Count(log, "needs attention"), strings.Count(log, "OK again")
		if begins != 7 || ends != 5 { // the fifth flap turns into another failure, which turns into a third
			t.Errorf("%d begin or change, %d end:\n%s", begins, ends, log)
		}
		if len(s.at) < 50 {
			t.Errorf("%d runs", len(s.at))
		}
	})
}

func TestManyRunsWithoutGrowth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := []func() fleet.Run{
			fine, issuerAway, func() fleet.Run { return failed(check.Unreachable) },
			func() fleet.Run { return target(reconcile.Changed, nil) },
			func() fleet.Run { return fleet.Run{Outcome: reconcile.Failed, Err: check.Errorf(check.Locked, "x")} },
		}
		var heap [2]uint64
		var goroutines [2]int
		measure := func(i int) {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			heap[i], goroutines[i] = m.HeapAlloc, runtime.NumGoroutine()
		}
		n := 0
		s := &counting{run: func() fleet.Run {
			n++
			switch n {
			case 500:
				measure(0)
			case 10_500:
				measure(1)
			}
			run := ends[n%len(ends)]()
			if len(run.Targets) > 0 {
				run.Targets[0].Name = "t" + string(rune('a'+n%20)) // targets come and go
			}
			return run
		}}
		live(t, s, 70*24*time.Hour, func(o *Options) {
			o.Config.Agent.Interval = 10 * time.Minute
			o.Log = slog.New(slog.DiscardHandler)
		})
		if n < 10_500 {
			t.Fatalf("%d runs", n)
		}
		if heap[1] > heap[0]+256<<10 || goroutines[1] > goroutines[0] {
			t.Errorf("after 500 runs %d bytes and %d goroutines, after 10,500 %d and %d", heap[0], goroutines[0], heap[1], goroutines[1])
		}
	})
}

// counting is a Runner that keeps nothing.
type counting struct{ run func() fleet.Run }

func (c *counting) History() *history.Store { return history.Open("") }

func (c *counting) Apply(context.Context, fleet.Options) fleet.Run { return c.run() }

func TestAReloadTakesTheNewAndABrokenOneKeepsTheOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := &script{end: func(time.Duration, int) fleet.Run { return fine() }}
		second := &script{end: func(time.Duration, int) fleet.Run { return fine() }}
		reload := make(chan os.Signal)
		loads := []error{check.Errorf(check.Config, "line 3: unknown key").Try(check.Hint("did you mean realm")), nil}
		go func() {
			for range 2 {
				time.Sleep(5 * time.Minute)
				reload <- syscall.SIGHUP
			}
		}()
		log := live(t, nil, 20*time.Minute-time.Second, func(o *Options) {
			o.Reload = reload
			o.Load = func(context.Context) (*config.Config, error) {
				c := settings()
				c.Agent.Interval = time.Minute
				if len(loads) == 0 {
					return c, nil // a cycle that reads secrets again
				}
				err := loads[0]
				loads = loads[1:]
				return c, err
			}
			runners := []Runner{first, second}
			o.Runner = func(*config.Config) Runner {
				next := runners[0]
				runners = runners[1:]
				return next
			}
		})
		if len(first.at) != 2 || first.at[1] != 5*time.Minute || len(second.at) != 10 {
			t.Errorf("runs of the first at %v, of the second at %v", first.at, second.at)
		}
		if strings.Count(log, "the former one stays in force") != 1 || !strings.Contains(log, "line 3: unknown key") || strings.Count(log, "configuration reloaded") != 1 {
			t.Error(log)
		}
	})
}

// What a run wrote is in the agent's log. Later runs do not say that it was never reported.
func TestWhatTheLogHasIsReported(t *testing.T) {
	store := history.Open(t.TempDir())
	id := history.TargetID{Product: "pve", Endpoints: []string{"https://pve1.example.com:8006"}, Realm: "authelia"}
	runner := &script{store: store, end: func(time.Duration, int) fleet.Run {
		store.ChangeTarget(id, func(known *history.Target) {
			known.Told = map[history.Reader]history.Told{history.Quiet: {Written: []string{"~ comment"}}}
		})
		run := target(reconcile.Changed, nil)
		run.Targets[0].ID = id
		return run
	}}
	o := Options{Config: settings(), Runner: func(*config.Config) Runner { return runner }, Log: slog.New(slog.DiscardHandler)}
	a := &agent{Options: o, status: newStatus("x"), journal: newJournal(o.Log), runner: runner}
	if _, whole := a.cycle(t.Context()); !whole {
		t.Fatal("the run was interrupted")
	}
	if left := store.Target(id).Told[history.Quiet].Written; len(left) > 0 {
		t.Errorf("not reported: %v", left)
	}
}

// A changed secret is used in the next cycle. A secret that cannot be read leaves the former one in force. So does a change of
// the configuration itself, which waits for a reload.
func TestSecretsAreReadAgainInEachCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		with := func(token, digest string) *config.Config {
			c := settings()
			c.Digest, c.Targets[0].Proxmox.Password = digest, check.NewSecret(token)
			return c
		}
		var used []string
		loads := map[int]*config.Config{1: with("old", "a"), 3: with("new", "a"), 4: with("newer", "b"), 5: with("newest", "a")} // 2 fails
		n := 0
		log := live(t, nil, 76*time.Minute, func(o *Options) {
			o.Config = with("old", "a")
			o.Load = func(context.Context) (*config.Config, error) {
				n++
				if loads[n] == nil {
					return nil, check.Errorf(check.Config, "cannot read the token")
				}
				return loads[n], nil
			}
			o.Runner = func(c *config.Config) Runner {
				return &counting{run: func() fleet.Run {
					used = append(used, c.Targets[0].Proxmox.Password.Reveal())
					return fine()
				}}
			}
		})
		if want := []string{"old", "old", "old", "new", "new", "newest"}; !slices.Equal(used, want) {
			t.Errorf("the runs used %v, want %v", used, want)
		}
		for text, times := range map[string]int{
			"secrets cannot be read again": 1, "secrets can be read again": 1, "have changed": 2, "reload the agent to use it": 1, "newest": 0,
		} {
			if strings.Count(log, text) != times {
				t.Errorf("%q is not there %d times:\n%s", text, times, log)
			}
		}
	})
}

func TestTheEndCutsARunShortAndTellsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{takes: time.Hour, end: func(time.Duration, int) fleet.Run { return fine() }}
		log := live(t, s, time.Minute, nil)
		if strings.Contains(log, "attention") {
			t.Error(log)
		}
	})
}

func TestARunThatHangsIsGivenUpAndShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStatus("x")
		s.work()
		time.Sleep(limit + slack - time.Second)
		if !s.alive() {
			t.Error("dead too early")
		}
		time.Sleep(2 * time.Second)
		if s.alive() {
			t.Error("a loop that hangs counts as alive")
		}
		s.sleep(time.Hour)
		time.Sleep(time.Hour + slack - time.Second)
		if !s.alive() {
			t.Error("a loop that sleeps counts as dead")
		}
	})
}

func TestJournalOfWhatFailsBesides(t *testing.T) {
	var log bytes.Buffer
	j := newJournal(slog.New(slog.NewTextHandler(&log, nil)))
	for range 3 {
		j.attempt("notify", errors.New("exit status 1"), "notify.command failed", "")
		j.attempt("memory", errors.New("read-only"), "cannot be stored", "")
	}
	j.attempt("notify", nil, "", "notify.command works again")
	j.attempt("notify", nil, "", "notify.command works again")
	for text, want := range map[string]int{"notify.command failed": 1, "notify.command works again": 1, "read-only": 1} {
		if got := strings.Count(log.String(), text); got != want {
			t.Errorf("%q is logged %d times:\n%s", text, got, &log)
		}
	}
}
