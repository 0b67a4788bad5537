package login

import (
	"context"
	"crypto/subtle"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"proxmox-realm/internal/check"
)

// RedirectURL is where the browser comes back to unless [Options].Listen says otherwise, and so what to register at the
// issuer. An address and not a name: a name could be answered by somebody else (RFC 8252 section 8.3). Authelia takes
// any port where this one is registered; other issuers compare ports, which is why it is a fixed one.
const RedirectURL = "http://" + loopback + ":" + defaultPort + defaultPath

const (
	loopback    = "127.0.0.1"
	defaultPort = "8000"
	defaultPath = "/callback"
)

// callback is where a browser comes back to. It takes one answer to one login, and refuses all else
// without ending the wait: whatever page the user has open can send requests to a loopback port.
type callback struct {
	redirect *url.URL
	moved    bool // the usual port was taken
	listener net.Listener
	server   *http.Server
	serving  sync.WaitGroup

	arrivals chan *arrival // one at most
	refusals chan error    // why the first refused answer was, for the user to know
	refused  sync.Once
	broken   chan error // the server ended by itself
	closing  chan struct{}

	mu    sync.Mutex
	state string // that the issuer must return; "" before the login began
	taken bool
}

// arrival is what the issuer sent the browser back with: a code, or a refusal.
type arrival struct {
	code    check.Secret
	refusal *refusal
	done    chan page // what to show in the browser; takes one without waiting
}

// refusal is an error of the authorization endpoint (RFC 6749 section 4.1.2.1), as it came.
type refusal struct{ code, description string }

// listen takes the port. Until [callback.serve], browsers wait.
func listen(ctx context.Context, where string) (*callback, error) {
	redirect, err := parseListen(where)
	if err != nil {
		return nil, err
	}
	var config net.ListenConfig
	c := &callback{
		redirect: redirect, arrivals: make(chan *arrival, 1), refusals: make(chan error, 1), broken: make(chan error, 1),
		closing: make(chan struct{}),
	}
	c.listener, err = config.Listen(ctx, "tcp", redirect.Host)
	if err != nil && where == "" {
		c.moved = true
		c.listener, err = config.Listen(ctx, "tcp", loopback+":0")
	}
	if err != nil {
		return nil, check.Errorf(check.Usage, "%s cannot be listened on: %v", redirect.Host, err).
			Try(check.Advise("choose another port with --listen, and register its redirect URL at the issuer")).Because(err)
	}
	c.redirect.Host = strings.TrimSuffix(c.listener.Addr().String(), ":80") // which browsers leave out
	return c, nil
}

// parseListen reads host:port, with a path or without, as a redirect URL.
func parseListen(where string) (*url.URL, error) {
	if where == "" {
		where = RedirectURL
	}
	wrong := check.Errorf(check.Usage, "--listen takes a port of a loopback address").
		Try(check.Advise("such as %s:%s, or with a path %s:%s%s; names such as localhost can lead elsewhere", loopback, defaultPort, loopback, defaultPort, defaultPath))
	u, err := url.Parse("http://" + strings.TrimPrefix(where, "http://"))
	if err != nil || u.User != nil || u.RawPath != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, wrong
	}
	address, err := netip.ParseAddrPort(u.Host)
	if err != nil || !address.Addr().IsLoopback() || address.Addr().Zone() != "" || address.Addr().Is4In6() {
		return nil, wrong
	}
	if u.Path == "" {
		u.Path = defaultPath
	}
	if strings.ContainsFunc(u.Path, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"'<>\^{|}%`+"`", r) }) {
		return nil, wrong // whether it came back could not be told byte for byte
	}
	return u, nil
}

// serve begins to answer: the issuer must return this state.
func (c *callback) serve(state string, log *slog.Logger) {
	c.mu.Lock()
	c.state = state
	c.mu.Unlock()
	c.server = &http.Server{
		Handler:           c,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       10 * time.Second,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          serverLog(log),
	}
	c.server.SetKeepAlivesEnabled(false)
	c.serving.Go(func() {
		if err := c.server.Serve(c.listener); !errors.Is(err, http.ErrServerClosed) {
			c.broken <- err
		}
	})
}

// close lets an answer that is under way reach the browser, and frees the port. It does so although ctx has ended.
func (c *callback) close(ctx context.Context) {
	close(c.closing)
	if c.server == nil {
		_ = c.listener.Close()
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second) // browsers keep spare connections open
	defer cancel()
	if c.server.Shutdown(ctx) != nil {
		_ = c.server.Close()
	}
	c.serving.Wait()
}

// ServeHTTP implements [http.Handler].
func (c *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Host != c.redirect.Host: // another site's name that leads here (DNS rebinding)
		refusedPage("this address answers under its own name alone").write(w, http.StatusMisdirectedRequest)
		return
	case r.URL.EscapedPath() != c.redirect.Path:
		refusedPage("there is nothing at this address").write(w, http.StatusNotFound)
		return
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		refusedPage("the issuer must send the browser back with GET").write(w, http.StatusMethodNotAllowed)
		return
	}
	came, err := c.take(r.URL.RawQuery)
	if err != nil {
		c.refused.Do(func() { c.refusals <- err })
		refusedPage(err.Error()).write(w, http.StatusBadRequest)
		return
	}
	c.arrivals <- came
	select {
	case p := <-came.done:
		p.write(w, http.StatusOK)
	case <-c.closing:
		select { // both may be ready
		case p := <-came.done:
			p.write(w, http.StatusOK)
		default:
			failurePage("the rehearsal ended before Proxmox had answered").write(w, http.StatusOK)
		}
	}
}

// What is wrong with an answer that is refused.
var (
	errOther  = errors.New("this address belongs to another or an earlier login")
	errTwice  = errors.New("the answer to this login was taken already")
	errSpoilt = errors.New("the issuer sends either a code or an error, and this address does not hold just one of them")
)

// take looks at the parameters of an authorization response (RFC 6749 sections 4.1.2 and 4.1.2.1), of which the first with
// the right state counts, and no other.
func (c *callback) take(query string) (*arrival, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, errOther
	}
	one := func(name string) string { // a parameter that comes twice is none
		if list := values[name]; len(list) == 1 {
			return list[0]
		}
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == "" || subtle.ConstantTimeCompare([]byte(one("state")), []byte(c.state)) != 1 {
		return nil, errOther
	}
	if c.taken {
		return nil, errTwice
	}
	code, failure := one("code"), one("error")
	if (code == "") == (failure == "") {
		return nil, errSpoilt
	}
	c.taken = true
	came := &arrival{done: make(chan page, 1)}
	if failure != "" {
		came.refusal = &refusal{failure, one("error_description")}
	} else {
		came.code = check.NewSecret(code)
	}
	return came, nil
}

// serverLog keeps what net/http has to say, such as about broken requests, at debug level.
func serverLog(l *slog.Logger) *log.Logger {
	return slog.NewLogLogger(l.Handler(), slog.LevelDebug)
}
