package fleet

import (
	"context"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/pve"
	"proxmox-realm/internal/realm"
)

// restAfterHang is how long a node is not asked to discover an issuer that was silent towards it: each such
// question blocks one of its three workers.
const restAfterHang = time.Hour

// cluster is what a reconciler sees of one Proxmox cluster: its client, and what is remembered of it.
type cluster struct {
	*pve.Client
	cleaner *check.Cleaner
	nodes   []string // the endpoints that are asked to discover the issuer; nil: the one that answers
	all     []string // every endpoint
	inspect bool     // this machine looks at the issuer itself

	rest   func(node string) time.Time // until when a node is not asked to discover an issuer
	forget func(func(*Memory))         // changes what is remembered

	mu         sync.Mutex
	discovered *check.Check // asked once for a run
}

// Realm reads a realm, and from then on cleans its client key out of every text.
func (c *cluster) Realm(ctx context.Context, name string) (realm.Current, error) {
	current, err := c.Client.Realm(ctx, name)
	if key := current.Values.Login(name).ClientKey; key.IsSet() {
		c.cleaner.Hold(key)
	}
	return current, err
}

// Users counts the users of a realm.
func (c *cluster) Users(ctx context.Context, name string) (realm.Users, error) {
	users, _, err := c.Client.Users(ctx, name)
	return users, err
}

// Clock returns how far Proxmox's clock is ahead of this machine's.
func (c *cluster) Clock() (time.Duration, bool) {
	server, local, ok := c.Date()
	return server.Sub(local), ok
}

// CheckDiscovery asks each node once in a run, and not for an hour after the issuer was silent towards it.
func (c *cluster) CheckDiscovery(ctx context.Context, login realm.Login, redirects []string) check.Check {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.discovered != nil {
		return *c.discovered
	}
	nodes := c.nodes
	if nodes == nil {
		nodes = []string{c.Endpoint()}
	}
	var found []check.Check
	for _, node := range nodes {
		found = append(found, c.discoveryOn(ctx, node, login, redirects))
	}
	if !slices.ContainsFunc(found, func(c check.Check) bool { return c.Status == check.Fail }) {
		found = append(found, c.fronts(ctx, redirects)...)
	}
	all := together(found)
	c.discovered = &all
	c.forget(func(m *Memory) { m.Proxmox = time.Now() })
	return all
}

func (c *cluster) discoveryOn(ctx context.Context, node string, login realm.Login, redirects []string) check.Check {
	if until := c.rest(node); time.Now().Before(until) && time.Until(until) <= restAfterHang { // more: the clock was set back
		return check.Skipped(check.ProxmoxDiscovery, "an issuer was silent towards %s, which blocked a worker there: that node is not asked again before %s", node, until.Format(time.TimeOnly))
	}
	found, hung := c.On(node).CheckDiscovery(ctx, login, redirectFor(node, redirects), c.inspect)
	c.forget(func(m *Memory) {
		delete(m.Rests, node)
		if hung {
			if m.Rests == nil {
				m.Rests = map[string]time.Time{}
			}
			m.Rests[node] = time.Now().Add(restAfterHang)
		}
	})
	return found
}

// balanced is how often an address that browsers open is looked at where several nodes may be behind it.
const balanced = 3

// fronts looks at what browsers open, and returns what would make a login fail there: a node keeps the state of the logins
// that began on it to itself (PVE::API2::OpenId), so that an address behind which several nodes take turns loses it; and
// a login comes back to exactly the address that the browser has open.
func (c *cluster) fronts(ctx context.Context, redirects []string) []check.Check {
	const id = check.ProxmoxDiscovery
	var found []check.Check
	for _, front := range redirects {
		own := slices.ContainsFunc(c.all, func(e string) bool { return origin(e) == front })
		attempts := 1
		if !own && len(c.all) > 1 {
			attempts = balanced
		}
		beside := c.beside(front)
		if address(front) && (own || len(c.all) == 1 && beside == "") {
			continue // one address of one node
		}
		switch seen := pve.Look(ctx, front, attempts); {
		case seen.Nodes > 1:
			found = append(found, check.Warned(id,
				check.Advice("let browsers open each node by a name of its own, with each in verify.redirect_urls and among the client's redirect URIs; or let the balancer before the nodes keep a browser on one of them"),
				"%d nodes take turns at %s, and each keeps to itself the logins that began on it", seen.Nodes, front).
				Because("%d different certificates were presented there", seen.Nodes))
		case seen.Refused && beside != "" && !slices.Contains(redirects, beside): // else whoever wrote both knows both
			found = append(found, check.Warned(id,
				check.Advice("if browsers open "+beside+", set verify.redirect_urls to that, and register exactly that at the issuer"),
				"nothing listens at %s, where logins come back to: Proxmox is at %s", front, beside).
				Because("a connection to %s is refused", front))
		}
	}
	return found
}

// beside returns the origin of the endpoint on the same host as a front and another port; "" where there is none.
func (c *cluster) beside(front string) string {
	u, err := url.Parse(front)
	if err != nil {
		return ""
	}
	for _, endpoint := range c.all {
		if e, err := url.Parse(endpoint); err == nil && strings.EqualFold(e.Hostname(), u.Hostname()) && origin(endpoint) != front {
			return origin(endpoint)
		}
	}
	return ""
}

// address tells whether an origin names its host by an IP address.
func address(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil {
		return false
	}
	_, err = netip.ParseAddr(u.Hostname())
	return err == nil
}

// redirectFor chooses the redirect URL that browsers use with this node: its own where it is among them.
func redirectFor(node string, redirects []string) string {
	own := origin(node)
	if slices.Contains(redirects, own) || len(redirects) == 0 {
		return own
	}
	return redirects[0]
}

// origin is what a browser's location.origin gives for an endpoint: without the port where it is 443.
func origin(endpoint string) string {
	if u, err := url.Parse(endpoint); err == nil && u.Port() == "443" {
		return strings.TrimSuffix(endpoint, ":443")
	}
	return endpoint
}

// together makes one finding of those of several nodes: it fails where one fails, and passes where all that
// could be asked pass.
func together(found []check.Check) check.Check {
	if len(found) == 1 {
		return found[0]
	}
	for _, status := range []check.Status{check.Fail, check.Warn, check.Pass} {
		if i := slices.IndexFunc(found, func(c check.Check) bool { return c.Status == status }); i >= 0 {
			worst := found[i]
			var each []string
			worst.Duration = 0
			for _, c := range found {
				each = append(each, string(c.Status)+": "+c.Summary)
				worst.Duration += c.Duration
			}
			worst.Evidence = strings.TrimPrefix(worst.Evidence+"; "+strings.Join(each, "; "), "; ")
			return worst
		}
	}
	return found[0]
}
