package reconcile

import (
	"context"
	"maps"
	"sync"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/proxmox"
)

// LoginWatch reads the logins of one installation from its first read on, with little effort: a read sends at most two requests
// for each node. It is not safe for concurrent use.
type LoginWatch struct {
	reader *LoginReader
	nodes  map[string]clock // those that can be read
	looked time.Time        // when nodes was filled
}

// clock is that of a node.
type clock struct {
	at    proxmox.NodeTime
	blind bool // the credentials may not see it
}

// lookEvery is how often a watch asks for nodes, clocks and privileges again.
const lookEvery = time.Hour

// NewLoginWatch returns a watch. What happened before its first read is not told.
func NewLoginWatch(facts diagnose.Facts) *LoginWatch {
	return &LoginWatch{reader: NewLoginReader(nil, facts, 0)}
}

// Read calls each for each login that is new. Calls do not overlap. Checks are those of the realm's last run: they decide why an
// issuer refused a code. A node whose log may not be read is left alone for an hour.
func (w *LoginWatch) Read(ctx context.Context, logs Logs, checks []check.Check, each func(diagnose.Login)) error {
	w.reader.logs = logs
	if time.Since(w.looked) >= lookEvery {
		return w.look(ctx)
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for node, c := range maps.Clone(w.nodes) { // a read may remove its node meanwhile
		all.Go(func() {
			n := nodeReader{LoginReader: w.reader, node: node, position: w.reader.nodes[node], mu: &mu, each: func(l diagnose.Login) {
				each(l.Decide(checks, w.reader.facts))
			}}
			if _, err := n.read(ctx, c, 2); denied(err) {
				mu.Lock()
				defer mu.Unlock()
				delete(w.nodes, node)
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// look finds out which nodes there are, and what their clocks show. The next read begins there, or where the last one ended.
func (w *LoginWatch) look(ctx context.Context) error {
	nodes, err := w.reader.logs.Nodes(ctx)
	if err != nil {
		return err
	}
	clocks := map[string]clock{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, node := range nodes {
		if !node.Online {
			continue
		}
		all.Go(func() {
			at, err := w.reader.logs.NodeTime(ctx, node.Name)
			if err != nil && !denied(err) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			clocks[node.Name] = clock{at, denied(err)}
			if w.reader.nodes[node.Name] == nil {
				w.reader.nodes[node.Name] = &position{since: time.Now().Add(at.Ahead).Truncate(time.Second)}
			}
		})
	}
	all.Wait()
	if ctx.Err() == nil {
		w.nodes, w.looked = clocks, time.Now()
	}
	return context.Cause(ctx)
}
