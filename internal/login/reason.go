package login

import (
	"context"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/reconcile"
)

// oneNode are the logs of the node that answers, whatever its name is.
type oneNode struct{ *proxmox.Client }

// Nodes implements [reconcile.Logs].
func (oneNode) Nodes(context.Context) ([]proxmox.Node, error) {
	return []proxmox.Node{{Name: "localhost", Online: true}}, nil
}

// facts are what is known of the realm.
func (r *rehearsal) facts() diagnose.Facts {
	product := r.Client.Product()
	facts := diagnose.Facts{
		Product: product, Login: r.held, Declared: r.Target.Realm.Login(), Cleaner: r.cleaner,
	}
	if r.inspection != nil {
		facts = reconcile.About(facts, r.inspection)
	}
	return facts
}

// clockError is how far a login may be before the time at which it was sent, as the node sees it.
const clockError = 2 * time.Second

// logged looks for this login in the log of the node that it went through. If it is not there, a balancer may have asked another
// node, so the logs of all nodes are read. It is false if there is no such login. The error says why no log could be read.
func (r *rehearsal) logged(ctx context.Context, node config.Origin, began time.Time, ours func(diagnose.Login) bool) (found diagnose.Login, ok bool, err error) {
	for _, logs := range []reconcile.Logs{oneNode{r.Client.On(node)}, r.Client} {
		_, err = reconcile.NewLoginReader(r.facts(), time.Since(began)+clockError).Read(ctx, logs, func(l diagnose.Login) {
			if ours(l) && (!ok || !l.Time.Before(found.Time)) {
				found, ok = l, true
			}
		})
		if ok {
			found.Node = node.Host()
			return found, true, nil
		}
	}
	if err != nil {
		r.Log.Debug("reading the logs of the nodes", "error", err)
	}
	return diagnose.Login{}, false, err
}

// reason returns why Proxmox refused the login: from its answer if that tells, and from the log otherwise.
func (r *rehearsal) reason(ctx context.Context, failure *proxmox.Error, began time.Time, checks []check.Check) (diagnose.Login, bool, error) {
	if failure.Reason != unexplained {
		return r.facts().Explain(failure.Endpoint.Host(), failure.Reason).Decide(checks, r.facts()), true, nil
	}
	found, ok, err := r.logged(ctx, failure.Endpoint, began, func(l diagnose.Login) bool { return l.Outcome == diagnose.Failed })
	return found.Decide(checks, r.facts()), ok, err
}

// unexplained is all that Proxmox VE answers to a login that fails (PVE::API2::OpenId).
const unexplained = "authentication failure"

// groupsOf returns what the log tells of the groups that this login set.
func (r *rehearsal) groupsOf(ctx context.Context, session proxmox.Session, began time.Time) (diagnose.Login, bool) {
	found, ok, _ := r.logged(ctx, session.Endpoint, began, func(l diagnose.Login) bool {
		return l.Outcome == diagnose.Succeeded && l.User == session.Username
	})
	return found.Decide(nil, r.facts()), ok
}

// seeLog is the hint for credentials that cannot read logs.
func (r *rehearsal) seeLog() check.Hint {
	return check.Hints("let the credentials read the log of the nodes, so that login and diagnose show the reason", r.Client.LogHint())
}
