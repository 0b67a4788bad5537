package reconcile

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/realm"
)

// DiagnoseOptions say which logins are explained.
type DiagnoseOptions struct {
	Since time.Duration // how far back
	All   bool          // also those that succeeded
	// Follow takes what is new, until the context ends: first the logins that there are, then those that come. nil: [Diagnose]
	// returns after the first.
	Follow func(Result)
}

// Diagnosis is what the logs of a target tell of logins.
type Diagnosis struct {
	Since     time.Time // by this machine's clock
	Nodes     []string  // whose logs were read
	Logins    []diagnose.Entry
	Failed    int // logins, in all
	Succeeded int // likewise
	Groupless int // logins that succeeded, and set no groups for a reason that should be known
}

// followEvery is the pause between two reads of logs that are followed.
const followEvery = 5 * time.Second

// Diagnose explains the logins that failed lately, from the logs of the nodes. It changes nothing. Failures before the issuer's
// login page leave no line in a log of Proxmox VE, so it also verifies the realm as it is stored. What that finds decides why
// an issuer refused a code.
func Diagnose(ctx context.Context, t config.Target, d Deps, o Options, q DiagnoseOptions) Result {
	began := time.Now()
	g := diagnosis{target: t, deps: d, options: o, DiagnoseOptions: q}
	g.lookAtRealm(ctx)
	reader := NewLoginReader(g.facts, q.Since)

	sum := diagnose.Summary{Realm: t.Realm.Name}
	var total Diagnosis
	var reading Reading
	var logErr error
	var both sync.WaitGroup
	both.Go(func() {
		reading, logErr = reader.Read(ctx, d.Cluster, func(l diagnose.Login) {
			total.count(l)
			sum.Add(l)
		})
	})
	both.Go(func() { g.verify(ctx) })
	both.Wait()

	total.Since, total.Nodes = reading.Since, reading.Read
	for _, e := range sum.Entries() {
		if e.Login = g.decide(e.Login); e.Outcome == diagnose.Failed || q.All {
			total.Logins = append(total.Logins, e)
		}
	}
	res := g.result(reading, total, logErr)
	if n := sum.Dropped(); n > 0 {
		res.Warnings = append(res.Warnings, check.Count(n, "older login is", "older logins are")+" not shown: there are too many different ones")
	}
	res.Duration = time.Since(began)
	if q.Follow == nil || logErr != nil {
		return res
	}
	q.Follow(res)
	return g.follow(ctx, reader, res)
}

// count counts a login.
func (d *Diagnosis) count(l diagnose.Login) {
	switch {
	case l.Outcome == diagnose.Failed:
		d.Failed++
	case l.Cause != "":
		d.Groupless++
		fallthrough
	default:
		d.Succeeded++
	}
}

// diagnosis is a diagnosis of one target while it is made.
type diagnosis struct {
	target  config.Target
	deps    Deps
	options Options
	DiagnoseOptions

	facts    diagnose.Facts
	verified Result // without checks that say nothing about logins
	checks   []check.Check
	checked  time.Time
	warnings []string
	drift    []string // properties in which the realm differs from its configuration
}

// lookAtRealm reads the realm as logins use it, as far as the credentials may.
func (g *diagnosis) lookAtRealm(ctx context.Context) {
	t := &g.target
	g.facts = diagnose.Facts{
		Product: t.Realm.Product, Login: t.Realm.Login(), Declared: t.Realm.Login(), Cleaner: g.deps.Cleaner,
	}
	current, err := g.deps.Cluster.Realm(ctx, t.Realm.Name)
	if err != nil || !current.Exists || current.Type != realm.Type {
		return
	}
	if g.declares() {
		g.drift = realm.Diff(t.Realm, current, realm.Facts{}).Names()
	}
	if len(g.drift) > 0 {
		g.warnings = append(g.warnings, "the realm differs from its configuration, and logins use the realm: "+strings.Join(g.drift, ", "))
	}
	g.facts.Login = current.Values.Login(t.Realm.Name)
	g.deps.Cleaner.Hold(g.facts.Login.ClientKey)
	t.Realm.Set, t.Realm.Unset, t.Access = current.Values, nil, nil // as logins use it
}

// declares tells whether there is a realm to compare with or to verify.
func (g *diagnosis) declares() bool {
	l := g.target.Realm.Login()
	return l.IssuerURL != "" && l.ClientID != ""
}

// verify makes the checks of realm, issuer and client.
func (g *diagnosis) verify(ctx context.Context) {
	if !g.declares() {
		g.verified = Result{Name: g.target.Name, Realm: g.target.Realm.Name, Endpoint: string(g.deps.Cluster.Endpoint())}
		g.warnings = append(g.warnings, "issuer and client were not checked: the realm cannot be read, and the configuration does not name them")
		return
	}
	g.verified = Verify(ctx, g.target, g.deps, g.options)
	g.checked = time.Now()
	g.facts.Limited = check.CodeOf(g.verified.Err) == check.RateLimited
	if url := g.facts.Login.IssuerURL; g.deps.Inspect != nil && url != "" {
		if seen := g.deps.Inspect(url, time.Time{}); seen.Wait(ctx) == nil { // that of Verify
			g.facts = About(g.facts, seen)
		}
	}
	g.checks = nil
	for _, c := range g.verified.Checks {
		if c.ID != check.ProxmoxPermissions && c.ID != check.ProxmoxAccess {
			g.checks = append(g.checks, c)
		}
	}
}

// About adds to facts what an inspection that has ended tells of the issuer.
func About(f diagnose.Facts, seen *issuer.Inspection) diagnose.Facts {
	f.Encrypts = seen.EncryptsTokens()
	f.Advice = map[diagnose.Cause]check.Hint{}
	for topic, causes := range map[issuer.Topic][]diagnose.Cause{
		issuer.OnKey:        {diagnose.ClientRefused},
		issuer.OnSigning:    {diagnose.Signature},
		issuer.OnEncryption: {diagnose.EncryptedToken},
		issuer.OnAudience:   {diagnose.Audience},
		issuer.OnUserinfo:   {diagnose.UserinfoRefused, diagnose.UserinfoUnreadable},
		issuer.OnGroups:     {diagnose.GroupsClaimAbsent, diagnose.GroupsNoList, diagnose.GroupsRefused},
		issuer.OnNames:      {diagnose.ClaimMissing},
	} {
		for _, c := range causes {
			f.Advice[c] = seen.Advice(topic)
		}
	}
	if f.Login.UsernameClaim == "sub" {
		f.Advice[diagnose.NameRefused] = seen.Advice(issuer.OnNames)
	}
	if !f.Login.QueryUserinfo { // the ID token alone has the claims
		f.Advice[diagnose.ClaimMissing] = check.Hints(f.Advice[diagnose.ClaimMissing], seen.Advice(issuer.OnClaims))
		f.Advice[diagnose.GroupsClaimAbsent] = check.Hints(f.Advice[diagnose.GroupsClaimAbsent], seen.Advice(issuer.OnClaims))
	}
	return f
}

// result puts together what the logs and the checks tell.
func (g *diagnosis) result(reading Reading, total Diagnosis, logErr error) Result {
	res := g.verified
	res.Action, res.Changes, res.Access = "", nil, nil
	res.Checks, res.Diagnosis = g.checks, &total
	res.Warnings = append(append(res.Warnings, g.warnings...), reading.Warnings(cmp.Or(g.target.Verify.MaxClockSkew, 5*time.Minute))...)
	if res.Err != nil && logErr == nil {
		res.Warnings = append(res.Warnings, "not verified in full: "+check.MessageOf(res.Err))
	}
	if res.Err = logErr; logErr != nil {
		res.Outcome = outcomeOf(logErr)
		return res
	}
	res.Outcome = Unchanged
	if total.Failed > 0 || len(check.Failures(g.checks)) > 0 {
		res.Outcome = Unverified
	}
	return res
}

// follow reads on until the context ends. What it returns counts all logins.
func (g *diagnosis) follow(ctx context.Context, reader *LoginReader, all Result) Result {
	total := *all.Diagnosis
	total.Logins = nil
	all.Diagnosis, all.Checks, all.Warnings = &total, nil, nil
	unread := ""
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return all
		case <-tick.C:
		}
		news := Diagnosis{Since: time.Now(), Nodes: total.Nodes}
		var logins []diagnose.Login
		reading, err := reader.Read(ctx, g.deps.Cluster, func(l diagnose.Login) { logins = append(logins, l) })
		if ctx.Err() != nil {
			return all
		}
		for _, l := range logins {
			l = g.decide(g.asked(ctx, l))
			news.count(l)
			total.count(l)
			if l.Outcome == diagnose.Failed || g.All {
				news.Logins = append(news.Logins, diagnose.Single(l))
			}
		}
		if total.Failed > 0 {
			all.Outcome = Unverified
		}
		res := g.result(reading, news, err)
		res.Checks, res.Warnings = nil, reading.unread()
		now := strings.Join(res.Warnings, "\n") + check.MessageOf(err)
		changed := now != unread
		if unread = now; !changed { // told before
			res.Warnings, res.Err = nil, nil
		}
		if changed || len(news.Logins) > 0 {
			g.Follow(res)
		}
	}
}

// asked asks the issuer about the client, at most once a minute, before a login is decided for which it refused a code.
func (g *diagnosis) asked(ctx context.Context, l diagnose.Login) diagnose.Login {
	if l.Cause == diagnose.RequestFailed && time.Since(g.checked) > time.Minute {
		g.verify(ctx)
	}
	return l
}

// decide completes a login by what the checks found.
func (g *diagnosis) decide(l diagnose.Login) diagnose.Login {
	l = l.Decide(g.checks, g.facts)
	if l.Cause == diagnose.ClientRefused && slices.ContainsFunc(g.drift, func(p string) bool { return strings.HasPrefix(p, "client-") }) {
		l.Hint = check.Hints(check.Hintf("the configuration has another %s than the realm:\n    {apply}", strings.Join(g.drift, ", ")), l.Hint)
	}
	return l
}
