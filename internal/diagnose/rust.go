package diagnose

import (
	"strings"
	"time"
)

// apart is how far the two lines about one failed request are apart at most.
const apart = 5 * time.Second

// rust takes a message of Backup Server or Datacenter Manager (proxmox-rest-server, proxmox-auth-api). A failed login has a
// line of its own. The server adds one for each request that fails, so that failures to make an authorization URL have a
// line too.
func (r *Reader) rust(w *worker, e entry) {
	if values, ok := pattern("successful auth for user '%'").match(e.message); ok {
		if user := r.facts.Cleaner.Clean(values[0]); realmOf(user) == r.facts.Login.Realm {
			r.succeed(w, e, user)
		}
		return
	}
	if values, ok := pattern("authentication failure; rhost=% msg=%").match(e.message); ok {
		peer, user, named := strings.Cut(values[0], " user=")
		if !r.ofOpenID(user, named, values[1]) {
			return
		}
		if named {
			w.login.User = r.facts.Cleaner.Clean(user)
		}
		w.told = &attempt{e.time, peer, values[1]}
		r.fail(w, e, peer, values[1])
		return
	}
	if values, ok := pattern("could not get openid auth url: %").match(e.message); ok {
		w.details = values[0]
		return
	}
	for _, p := range requestLines {
		if values, ok := p.match(e.message); ok {
			r.request(w, e, values[1], values[2])
			return
		}
	}
}

// requestLines are what the server writes about requests of a login that fail.
var requestLines = []pattern{
	"POST /api2/json/access/openid/login: %: [client %] %", "POST /api2/json/access/openid/auth-url: %: [client %] %",
	"POST /api2/extjs/access/openid/login: %: [client %] %", "POST /api2/extjs/access/openid/auth-url: %: [client %] %",
}

// request takes the server's line about a request that failed.
func (r *Reader) request(w *worker, e entry, peer, text string) {
	if t := w.told; t != nil && t.address == peer && t.text == text && e.time.Sub(t.time) <= apart {
		w.told = nil // a line before has told it
		return
	}
	if w.details != "" {
		text = w.details
	}
	w.details = ""
	r.fail(w, e, peer, text)
}

// ofOpenID tells whether a failure is that of a login through OpenID Connect. Failures of passwords and of API tokens look
// the same, but the user of a password has a realm. A text that is not known is told by the server's line about the request.
func (r *Reader) ofOpenID(user string, named bool, text string) bool {
	switch {
	case !named:
		return explainable(text)
	case !strings.Contains(user, "@"):
		return true
	}
	return strings.Contains(text, user+"@"+r.facts.Login.Realm) || strings.HasPrefix(text, "writing ")
}
