package reconcile

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/realm"
)

// want is how much a run asks of what costs the issuer or a node something.
type want int

const (
	ifDue   want = iota // what the schedule says
	anew                // in the gate, and after a write that concerns it
	watched             // the same, while somebody gives the issuer a new client
	atOnce              // the issuer has just been changed
	always              // in verify
)

// The schedule. In between, the remembered finding counts.
const (
	freeAfter    = time.Hour      // questions that cost a right client nothing
	fullAfter    = 24 * time.Hour // all questions
	againLoud    = time.Minute    // what failed or warned
	againQuiet   = time.Hour      // the same, in scheduled runs
	hungRests    = 24 * time.Hour // a node on which an issuer hung
	unknownLimit = 5 * time.Minute
)

// again reports whether a finding that failed or warned is asked about again.
func (r run) again(f history.Finding) bool {
	if r.Quiet {
		return f.Age(r.began) >= againQuiet
	}
	return f.Age(r.began) >= againLoud
}

// open reports whether something is to be done about a finding.
func open(f history.Finding) bool {
	return f.Check.Status == check.Fail || f.Check.Status == check.Warn
}

// clientFindings is what is known about the client of one login.
type clientFindings struct {
	about  string // digest of what was asked; "" if nothing was
	fresh  bool   // the issuer was asked now
	checks []check.Check
	// limited is when the issuer may be asked again after a 429; zero if it does not limit requests.
	limited time.Time
}

// decision returns what the issuer makes of id and key.
func (c clientFindings) decision() issuer.Decision {
	found, _ := check.Find(c.checks, check.ClientCredentials)
	switch found.Status {
	case check.Pass:
		return issuer.Accepted
	case check.Fail:
		return issuer.Rejected
	case check.Warn, check.Skip:
	}
	return issuer.NoVerdict
}

// yes reports whether the issuer accepts everything that was asked.
func (c clientFindings) yes() bool {
	return len(c.checks) > 0 && !slices.ContainsFunc(c.checks, func(c check.Check) bool { return c.Status != check.Pass })
}

// due decides what is asked about a client.
//
//	wanted   the memory                                           question
//	------   --------------------------------------------------   -------------------------------------------
//	any      the issuer limits requests until later               none
//	always   anything else                                        in full
//	atOnce   anything else                                        in full
//	anew     in full, within the last minute, without a failure   none
//	watched  a refused login request, within a minute             for free; in full if the request is accepted now
//	any      failed or warned, within a minute (quiet: an hour)   none
//	any      failed or warned, before that                        in full
//	anew     anything else (watched: the same)                    in full
//	ifDue    in full, more than a day ago                         in full
//	ifDue    nothing, or more than an hour ago                    for free; in full if the answer is not a yes
//	ifDue    anything else                                        none
func (r run) due(known history.Client, request string, w want) (depth issuer.Depth, ask bool) {
	asked := known.Requests[request]
	opened, last := false, history.Finding{Asked: asked.Last()}
	for _, f := range known.Findings(request) {
		if open(f) {
			opened, last.Asked = true, history.Later(last.Asked, f.Asked)
		}
	}
	switch {
	case known.Limited.After(r.began):
		return 0, false
	case w == always && !r.Quiet:
		return issuer.Person, true
	case w == always:
		return issuer.Full, true
	case w == atOnce:
		return issuer.Full, true
	case opened && (r.again(last) || r.Last):
		return issuer.Full, true
	case opened:
		return issuer.Free, w == watched && asked.Redirect.Red()
	case w == anew, w == watched:
		return issuer.Full, r.began.Sub(asked.Full) >= againLoud
	case !asked.Begun.IsZero() && r.began.Sub(history.Later(asked.Full, asked.Begun)) >= fullAfter:
		return issuer.Full, true
	case r.began.Sub(asked.Last()) >= freeAfter:
		return issuer.Free, true
	}
	return 0, false
}

// askClient asks the issuer about a client, as far as that is due, and adds what is remembered. keyUnknown tells that the
// client may have a key that is not known here.
func (r run) askClient(ctx context.Context, l realm.Login, keyUnknown bool, inspection *issuer.Inspection, w want) (clientFindings, error) {
	known, request := r.History.Client(r.clientID(l)), r.request(l)
	out := clientFindings{about: r.about(l), checks: recall(known.Findings(request)), limited: known.Limited}
	depth, ask := r.due(known, request, w)
	if !ask || inspection.Wait(ctx) != nil {
		return out, context.Cause(ctx)
	}
	refused := depth == issuer.Free && known.Requests[request].Redirect.Red()
	q := issuer.Question{
		Login: l, KeyUnknown: keyUnknown || refused, RedirectsDeclared: r.Verify.RedirectsDeclared, Depth: depth, Known: r.controls(known),
	}
	for _, u := range r.Verify.RedirectURLs {
		q.RedirectURLs = append(q.RedirectURLs, string(u))
	}
	answer := inspection.Client(ctx, q)
	_, limited := answer.RateLimited()
	switch {
	case depth != issuer.Free || ctx.Err() != nil || limited:
	case refused && answer.Redirect.Decision != issuer.Accepted:
		return out, nil // what is remembered stands, until it is asked about in full
	case refused, !(clientFindings{checks: answer.Checks}).yes():
		q.Depth, q.KeyUnknown, q.Known = issuer.Full, keyUnknown, answer.Known
		answer = inspection.Client(ctx, q)
	}
	if ctx.Err() != nil {
		return out, context.Cause(ctx)
	}
	known = r.rememberClient(l, known, answer, q.Depth)
	former := out.checks
	out.fresh, out.limited, out.checks = true, known.Limited, nil
	for _, c := range answer.Checks {
		if f, found := check.Find(former, c.ID); c.Status == check.Skip && found {
			c = f // the question was not answered: the former answer stands
		}
		out.checks = append(out.checks, c)
	}
	return out, nil
}

func recall(findings []history.Finding) (checks []check.Check) {
	for _, f := range findings {
		checks = append(checks, f.Recall())
	}
	return checks
}

func (r run) clientID(l realm.Login) history.ClientID {
	id := history.ClientID{Issuer: l.IssuerURL, Client: l.ClientID, Key: l.ClientKey}
	for _, u := range r.Verify.RedirectURLs {
		id.Redirects = append(id.Redirects, string(u))
	}
	return id
}

// controls returns what is remembered of the answers to control questions.
func (r run) controls(known history.Client) (k issuer.Known) {
	if len(known.Known) > 0 && json.Unmarshal(known.Known, &k) == nil {
		return k
	}
	return issuer.Known{}
}

// rememberClient keeps an answer about a client and returns what is known now.
func (r run) rememberClient(l realm.Login, known history.Client, a issuer.Answer, depth issuer.Depth) history.Client {
	now, name := time.Now().UTC(), r.request(l)
	if after, limited := a.RateLimited(); limited {
		known.Limited = now.Add(cmp.Or(after, unknownLimit))
	}
	known.Known, _ = json.Marshal(a.Known) // a struct of strings, numbers and times
	request, answered := known.Requests[name], false
	for _, c := range a.Checks {
		switch {
		case c.Status == check.Skip:
			continue
		case c.ID == check.ClientRedirect:
			request.Redirect = history.Of(c, name, now)
		default:
			known.Credentials = history.Of(c, "", now)
		}
		answered = true
	}
	if answered {
		if request.Begun.IsZero() {
			request.Begun = now
		}
		if depth != issuer.Free {
			request.Full, request.Free = now, now
		} else if (clientFindings{checks: a.Checks}).yes() {
			request.Free = now // else the answer to one question, as about the key alone, would keep the others from being asked
		}
		known = known.WithRequest(name, request)
	}
	r.History.KeepClient(r.clientID(l), known)
	return known
}

// request identifies what client.redirect depends on, besides the client with its key and its redirect URLs.
func (r run) request(l realm.Login) string {
	text, _ := json.Marshal([]any{l.Scopes, l.Prompt, l.ACRValues, r.Verify.RedirectsDeclared}) // strings always marshal
	return r.History.Digest(string(text))
}

// about identifies what the findings about a login depend on, besides the client key. Answers about other values do not count.
func (r run) about(l realm.Login) string {
	text, _ := json.Marshal([]any{ // strings always marshal
		l.IssuerURL, l.ClientID, l.Scopes, l.Prompt, l.ACRValues, l.UsernameClaim, l.GroupsClaim, l.QueryUserinfo, l.Autocreate,
		l.Audiences, r.Verify.RedirectURLs, r.Verify.RedirectsDeclared, r.Verify.IssuerCAFile, r.Verify.Issuer,
	})
	return r.History.Digest(string(text))
}

// found adds checks that were made now, and remembers those that failed or warned. A check that was skipped does not silence
// what an earlier run found about the same values.
func (r run) found(res Result, about string, checks ...check.Check) Result {
	for _, c := range checks {
		f := res.known.Findings[c.ID]
		switch {
		case slices.Contains(r.Verify.Ignore, c.ID), c.Status == check.Pass:
			res.known = res.known.Drop(c.ID)
		case c.Status == check.Skip && open(f) && f.About == about && about != "":
			c = f.Recall()
		case c.Status != check.Skip && about != "":
			res.known = res.known.Record(history.Of(c, about, time.Now()))
		}
		res = res.add(r.Verify.Ignore, c)
	}
	return res
}

// discover lets Proxmox discover the issuer of the stored realm, as far as that is due and cannot block a worker of the node.
// It adds what is remembered. It returns the newest inspection.
func (r run) discover(ctx context.Context, res Result, plan planned, inspection *issuer.Inspection, w want) (Result, *issuer.Inspection, error) {
	if !r.Verify.Proxmox {
		res.known.Nodes = nil
		return res, inspection, nil
	}
	why := r.mayNotDiscover(ctx, plan, inspection)
	nodes := []config.Origin{r.Cluster.Endpoint()}
	if r.AllEndpoints {
		nodes = r.Proxmox.Endpoints
	}
	about := r.about(plan.before())
	var found []check.Check
	var failure error
	for _, node := range r.Proxmox.Endpoints {
		var c check.Check
		var err error
		known, over := r.standing(node, res.known.Nodes[string(node)], about, inspection)
		if slices.Contains(nodes, node) && why == "" && failure == nil && r.nodeDue(res, node, known, w, over) {
			c, known, inspection, err = r.discoverAt(ctx, node, plan.before(), known, inspection)
			failure = err
		} else {
			c = r.recallNode(node, known, slices.Contains(nodes, node), why)
		}
		res.known = res.known.WithNode(string(node), known)
		if c.ID != "" {
			found = append(found, c)
		}
	}
	if len(found) > 0 {
		res = res.add(r.Verify.Ignore, together(found))
	}
	if len(nodes) > 1 { // the others have answered
		failure = nil
	}
	return res, inspection, failure
}

// standing returns what is known of a node, without a finding about other values. over tells that it is also without a failure that
// an outage of the issuer caused: the outage is over.
func (r run) standing(node config.Origin, n history.Node, about string, inspection *issuer.Inspection) (_ history.Node, over bool) {
	reachable := inspection == nil || inspection.Quick()
	switch {
	case n.Discovery.About != about:
		n.Discovery, n.Outage = history.Finding{About: about}, false
	case n.Outage && reachable:
		n.Discovery, n.Outage, over = history.Finding{About: about}, false, true
	case !reachable && n.Discovery.Red() && !r.resting(node): // a node at rest could not prove that the failure fell with the outage
		n.Outage = true
	}
	return n, over
}

// nodeDue decides whether a node is asked to discover the issuer.
//
//	wanted   the memory                                                question
//	------   -------------------------------------------------------   -----------------
//	any      answered in this run                                      no
//	any      an issuer hung on this node within a day                  no, but for verify
//	always   anything else                                             yes
//	any      failed because of an outage of the issuer that is over    yes
//	any      failed or warned, within a minute (quiet: an hour)        no
//	any      failed or warned, before that                             yes
//	anew     anything else                                             yes
//	ifDue    answered more than a day ago, or never in a day of runs   yes
//	ifDue    anything else                                             no
func (r run) nodeDue(res Result, node config.Origin, n history.Node, w want, over bool) bool {
	f := n.Discovery
	switch {
	case !f.IsZero() && !f.Asked.Before(r.Began):
		return false
	case r.resting(node):
		return w == always && !r.Quiet && !r.Realm.Product.HangsForGood()
	case w == always, over:
		return true
	case open(f):
		return r.again(f)
	case w == anew:
		return true
	}
	last := history.Later(f.Asked, res.known.Begun)
	return !last.IsZero() && r.began.Sub(last) >= fullAfter
}

// resting reports whether a node is left alone, because an issuer kept it waiting.
func (r run) resting(node config.Origin) bool {
	return r.began.Sub(r.History.Hung(string(node))) < hungRests
}

// recallNode returns the remembered finding of a node, or why it was not asked. asked tells that the run asks this node.
func (r run) recallNode(node config.Origin, n history.Node, asked bool, why string) check.Check {
	const id = check.ProxmoxDiscovery
	switch {
	case open(n.Discovery), !n.Discovery.IsZero() && asked:
		return n.Discovery.Recall()
	case !asked:
		return check.Check{}
	case r.resting(node):
		return check.Skipped(id, "%s is not asked before %s: an issuer kept it waiting, which blocks one of its workers",
			node, r.History.Hung(string(node)).Add(hungRests).Format(time.RFC3339))
	case why != "":
		return check.Skipped(id, "%s", why)
	}
	return check.Check{}
}

// discoverAt asks one node. If that fails, it looks at the issuer once more: the failure of an outage ends with it.
func (r run) discoverAt(
	ctx context.Context, node config.Origin, login realm.Login, known history.Node, inspection *issuer.Inspection,
) (check.Check, history.Node, *issuer.Inspection, error) {
	fromHere := inspection != nil && inspection.Answered()
	c, hung, err := r.Cluster.CheckDiscovery(ctx, node, login, redirectFor(node, r.Verify.RedirectURLs), fromHere)
	if err != nil {
		return c, known, inspection, err
	}
	known.Outage = false
	if hung {
		r.History.KeepHung(string(node), time.Now())
	} else {
		r.History.KeepHung(string(node), time.Time{})
	}
	if c.Status == check.Fail && inspection != nil {
		fresh := r.inspect(time.Now())
		if fresh.Wait(ctx) == nil {
			inspection, known.Outage = fresh, !fresh.Quick()
		}
	}
	if c.Status != check.Skip {
		known.Discovery = history.Of(c, known.Discovery.About, time.Now())
	}
	return c, known, inspection, nil
}

// mayNotDiscover returns why Proxmox must not be asked to discover the issuer of the stored realm, "" if it may be.
func (r run) mayNotDiscover(ctx context.Context, plan planned, inspection *issuer.Inspection) string {
	stored := plan.Before()
	switch {
	case !plan.made() || stored.Type != realm.Type:
		return "not checked: there is no such realm yet"
	case inspection == nil:
		return ""
	case stored.Values.Login(r.Realm.Name).IssuerURL != r.Realm.Login().IssuerURL:
		return "not checked: the realm names another issuer than the declared one"
	case inspection.Wait(ctx) != nil:
		return "not checked: interrupted"
	case !inspection.Quick():
		return "not checked: " + inspection.WhyNotQuick()
	}
	return ""
}

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
