package reconcile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/realm"
)

// Verify runs every check on realm, issuer and client, and changes nothing. If Proxmox does not answer, it still checks
// the issuer.
func Verify(ctx context.Context, t config.Target, d Deps, o Options) Result {
	r := newRun(ctx, t, d, o)
	return r.finish(r.examine(ctx))
}

func (r run) examine(ctx context.Context) (Result, error) {
	res := r.start()
	if err := r.Recovery.pending(); err != nil {
		res.warn(fmt.Sprintf("%s; %s", err.Message, err.Hint))
	}
	inspection := r.inspect(ctx, time.Time{})
	current, err := r.Cluster.Realm(ctx, r.Realm.Name)
	var seen realm.CurrentAccess
	if err == nil {
		seen, err = r.observeAccess(ctx)
	}
	if err != nil {
		return r.examineIssuer(ctx, res, inspection, err)
	}
	res.Action = realm.None
	plan, err := r.plan(ctx, current, seen)
	if err != nil {
		return res, interruption(ctx, err)
	}
	permissions, err := r.Cluster.CheckPermissions(ctx, !plan.Empty(), plan.access.Missing)
	res.add(r.Verify.Ignore, permissions)
	if err != nil {
		return res, interruption(ctx, err)
	}
	asks := questions{client: r.clientDue(askNow), users: true}
	if r.Verify.Proxmox {
		asks.proxmox = askNow
	}
	return r.verify(ctx, res, plan, inspection, asks)
}

// examineIssuer checks the issuer alone. why is the error of Proxmox, with which the run ends.
func (r run) examineIssuer(ctx context.Context, res Result, inspection Inspection, why error) (Result, error) {
	for _, e := range check.Catalog() {
		if strings.HasPrefix(string(e.ID), "proxmox.") {
			res.add(r.Verify.Ignore, check.Skipped(e.ID, "not checked: the realm could not be read"))
		}
	}
	assumed := planned{Plan: realm.Diff(r.Realm, realm.Current{}, realm.Facts{})}
	res, err := r.verifyIssuer(ctx, res, assumed, inspection, questions{client: r.clientDue(askNow), unread: true})
	if err != nil {
		return res, err
	}
	return res, interruption(ctx, why)
}

// clientDue returns a unless the configuration forbids client questions.
func (r run) clientDue(a ask) ask {
	if !r.Verify.Client {
		return notAsked
	}
	return a
}

// verify runs the checks. All of them run: a failure is a finding. It returns an error only for an interruption and if
// Proxmox does not answer.
func (r run) verify(ctx context.Context, res Result, plan planned, inspection Inspection, asks questions) (Result, error) {
	if ctx.Err() != nil {
		return res, context.Cause(ctx)
	}
	res.add(r.Verify.Ignore, r.realmCheck(plan))
	if r.Access != nil {
		res.add(r.Verify.Ignore, r.accessCheck(plan.access))
	}
	if inspection != nil && inspection.Wait(ctx) == nil && !inspection.Trusted() && r.Verify.Proxmox {
		asks.proxmox = askNow // this machine cannot judge the issuer, but the node may
	}
	res, err := r.verifyProxmox(ctx, res, plan, inspection, asks.proxmox)
	if err != nil {
		return res, interruption(ctx, err)
	}
	if res, err = r.verifyIssuer(ctx, res, plan, inspection, asks); err != nil || !asks.users {
		return res, err
	}
	users, err := r.Cluster.CheckUsers(ctx, plan.login(), r.Access == nil)
	res.add(r.Verify.Ignore, users...)
	if err == nil {
		err = context.Cause(ctx)
	}
	return res, interruption(ctx, err)
}

// verifyIssuer runs the issuer.* and client.* checks.
func (r run) verifyIssuer(ctx context.Context, res Result, plan planned, inspection Inspection, asks questions) (Result, error) {
	if inspection == nil {
		return res, nil
	}
	found, asked := check.Find(res.Checks, check.ProxmoxDiscovery)
	checks, err := r.issuerChecks(ctx, plan, inspection, asked && found.Status == check.Pass)
	if err != nil {
		return res, err
	}
	res.add(r.Verify.Ignore, checks...)
	if notAfter, ok := inspection.Certificate(); ok {
		res.IssuerCertificate = notAfter
	}
	switch asks.client {
	case askNow:
		depth := issuer.Full
		if r.Repeats && !res.sent {
			depth = issuer.Free
		}
		question := r.question(plan, depth)
		question.KeyUnknown = asks.unread && !question.Login.ClientKey.IsSet()
		answer := inspection.Client(ctx, question)
		res.add(r.Verify.Ignore, answer.Checks...)
		_, limited := answer.RateLimited()
		res.Memory.Client = res.Memory.Client.remember(r.about(plan), answer.Checks, limited)
	case recalled:
		res.add(r.Verify.Ignore, r.Memory.Client.recall()...)
	case notAsked:
	}
	return res, context.Cause(ctx)
}

// verifyProxmox runs proxmox.discovery on the stored realm, unless that could block a worker of the node.
func (r run) verifyProxmox(ctx context.Context, res Result, plan planned, inspection Inspection, a ask) (Result, error) {
	if a == recalled {
		res.add(r.Verify.Ignore, r.Memory.Proxmox.recall()...)
	}
	if a != askNow {
		return res, nil
	}
	if why := r.mayNotDiscover(ctx, plan, inspection); why != "" {
		res.add(r.Verify.Ignore, check.Skipped(check.ProxmoxDiscovery, "%s", why))
		return res, nil
	}
	found, memory, err := r.discoveries(ctx, plan.before(), res.Memory)
	res.add(r.Verify.Ignore, found)
	if err == nil {
		memory.Proxmox = memory.Proxmox.remember(r.about(plan), []check.Check{found}, false)
	}
	res.Memory = memory
	return res, err
}

// mayNotDiscover returns why Proxmox must not be asked to discover the issuer of the stored realm, "" if it may be.
func (r run) mayNotDiscover(ctx context.Context, plan planned, inspection Inspection) string {
	stored := plan.Before()
	switch {
	case stored.Type != realm.Type:
		return "not checked: there is no such realm yet"
	case inspection == nil:
		return ""
	case stored.Values.Login(r.Realm.Name).IssuerURL != r.declared().IssuerURL:
		return "not checked: the realm names another issuer than the declared one"
	case inspection.Wait(ctx) != nil || !inspection.Quick():
		return "not checked: the issuer did not send a usable discovery document and keys within 5 s, " +
			"and a silent issuer blocks a worker of the node"
	}
	return ""
}

// discoveries asks the node that answers, or all of them, to discover the issuer. A node on which the issuer hung is not
// asked again for an hour.
func (r run) discoveries(ctx context.Context, login realm.Login, memory Memory) (check.Check, Memory, error) {
	nodes := []config.Origin{r.Cluster.Endpoint()}
	if r.AllEndpoints {
		nodes = r.Proxmox.Endpoints
	}
	memory.HungUntil = maps.Clone(memory.HungUntil)
	if memory.HungUntil == nil {
		memory.HungUntil = map[string]time.Time{}
	}
	var found []check.Check
	for _, node := range nodes {
		until := memory.HungUntil[string(node)]
		if left := time.Until(until); left > 0 && left <= restAfterHang { // more: the clock was set back
			found = append(found, check.Skipped(check.ProxmoxDiscovery,
				"%s is not asked before %s: the issuer kept it waiting, which blocks a worker of the node", node, until.Format(time.RFC3339)))
			continue
		}
		c, hung, err := r.Cluster.CheckDiscovery(ctx, node, login, redirectFor(node, r.Verify.RedirectURLs), r.Verify.Issuer)
		if err != nil && len(nodes) == 1 {
			return c, memory, err
		}
		delete(memory.HungUntil, string(node))
		if hung {
			memory.HungUntil[string(node)] = time.Now().Add(restAfterHang)
		}
		found = append(found, c)
	}
	return together(found), memory, nil
}

// restAfterHang is how long a node is not asked to discover an issuer that kept it waiting.
const restAfterHang = time.Hour

// redirectFor returns the redirect URL that browsers use with this node: its own if it is among them.
func redirectFor(node config.Origin, redirects []config.Origin) string {
	own := node.Browser()
	if slices.Contains(redirects, own) || len(redirects) == 0 {
		return string(own)
	}
	return string(redirects[0])
}

// together merges the findings of several nodes into the worst of them.
func together(found []check.Check) check.Check {
	if len(found) == 1 {
		return found[0]
	}
	rank := map[check.Status]int{check.Fail: 0, check.Warn: 1, check.Pass: 2, check.Skip: 3}
	worst := slices.MinFunc(found, func(a, b check.Check) int { return rank[a.Status] - rank[b.Status] })
	each := []string{worst.Evidence}
	worst.Duration = 0
	for _, c := range found {
		each = append(each, string(c.Status)+": "+c.Summary)
		worst.Duration += c.Duration
	}
	worst.Evidence = strings.TrimPrefix(strings.Join(each, "; "), "; ")
	return worst
}

// issuerChecks waits for the inspection and runs the issuer.* checks. It asks Proxmox for its version if they depend on
// it. discovered tells that Proxmox itself can discover the issuer.
func (r run) issuerChecks(ctx context.Context, plan planned, inspection Inspection, discovered bool) ([]check.Check, error) {
	if inspection.Wait(ctx) != nil {
		return nil, context.Cause(ctx)
	}
	var version realm.Version
	if inspection.NeedsVersion() {
		version = r.askVersion()
	}
	offset, known := r.Cluster.ClockOffset()
	return inspection.Checks(issuer.View{
		Login: plan.login(), Version: version, ClockOffset: offset, ClockKnown: known, MaxSkew: r.Verify.MaxClockSkew,
		Discovered: discovered,
	}), nil
}

// question returns the question about the client that the realm will have.
func (r run) question(plan planned, depth issuer.Depth) issuer.Question {
	urls := make([]string, 0, len(r.Verify.RedirectURLs))
	for _, u := range r.Verify.RedirectURLs {
		urls = append(urls, string(u))
	}
	return issuer.Question{Login: plan.login(), RedirectURLs: urls, RedirectsDeclared: r.Verify.RedirectsDeclared, Depth: depth}
}

// realmCheck returns the check proxmox.realm.
func (r run) realmCheck(plan planned) check.Check {
	switch {
	case plan.Empty():
		return check.Passed(check.ProxmoxRealm, "realm %s is as declared", r.Realm.Name)
	case plan.Action == realm.Create:
		return check.Failed(check.ProxmoxRealm, check.Hints(check.Run("apply")), "realm %s does not exist", r.Realm.Name)
	case plan.Action == realm.Refuse:
		return check.Failed(check.ProxmoxRealm, plan.Refusal.Hint, "%s", plan.Refusal.Message)
	}
	return check.Failed(check.ProxmoxRealm, check.Hints(check.Run("apply").With("it writes the realm as declared; plan shows the differences")),
		"realm %s differs from its configuration", r.Realm.Name).Because("%s", strings.Join(plan.Names(), ", "))
}
