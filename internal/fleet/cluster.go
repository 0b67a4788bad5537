package fleet

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/pve"
	"proxmox-realm/internal/realm"
)

// restAfterHang is how long a node is not asked to discover an issuer that was silent towards it: each such
// question blocks one of its three workers.
const restAfterHang = time.Hour

// cluster is what a reconciler sees of one Proxmox cluster: its client, and what is remembered of it.
type cluster struct {
	*pve.Client
	nodes   []string // the endpoints that are asked to discover the issuer; nil: the one that answers
	inspect bool     // this machine looks at the issuer itself

	rest   func(node string) time.Time // until when a node is not asked to discover an issuer
	forget func(func(*Memory))         // changes what is remembered

	mu         sync.Mutex
	discovered *check.Check // asked once for a run
}

// Clock returns how far Proxmox's clock is ahead of this machine's.
func (c *cluster) Clock() (time.Duration, bool) { return c.ClockOffset() }

// Users counts the users of a realm.
func (c *cluster) Users(ctx context.Context, name string) (realm.Users, error) {
	return c.CountUsers(ctx, name)
}

// CheckPermissions drops the error: the finding holds its text.
func (c *cluster) CheckPermissions(ctx context.Context, write bool) check.Check {
	found, _ := c.Client.CheckPermissions(ctx, write)
	return found
}

// CheckUsers drops the error: the finding holds its text.
func (c *cluster) CheckUsers(ctx context.Context, login realm.Login) check.Check {
	found, _ := c.Client.CheckUsers(ctx, login)
	return found
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
		nodes = []string{string(c.Endpoint())}
	}
	var found []check.Check
	for _, node := range nodes {
		found = append(found, c.discoveryOn(ctx, node, login, redirects))
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
	found, hung, _ := c.Client.CheckDiscovery(ctx, config.Origin(node), login, redirectFor(node, redirects), c.inspect)
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
