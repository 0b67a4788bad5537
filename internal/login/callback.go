package login

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"proxmox-realm/internal/check"
)

// RedirectURL is where the browser comes back to, unless [Options].Listen says otherwise. Register it at the issuer. It
// holds an address, because a name could lead to another machine (RFC 8252 section 8.3). Authelia then accepts any port;
// the port is fixed for issuers that compare it.
const RedirectURL = "http://" + loopback + ":" + defaultPort + callbackPath

const (
	loopback     = "127.0.0.1"
	defaultPort  = "8000"
	callbackPath = "/callback"
)

// callback is the server that a browser comes back to. It takes one answer to one login. It refuses everything else
// without ending the wait, because any page that the user has open can send requests to a loopback port.
type callback struct {
	redirect *url.URL
	listener net.Listener
	server   *http.Server
	state    string        // the issuer must return it
	arrivals chan *arrival // one at most
	taken    atomic.Bool
}

// arrival is what the browser brought from the issuer: a code or a refusal.
type arrival struct {
	code    check.Secret
	refusal *refusal
	done    chan page // what the browser shows; holds one page
}

// refusal is an error of the authorization endpoint (RFC 6749 section 4.1.2.1), not yet cleaned.
type refusal struct{ code, description string }

// listen opens the port. Browsers wait until [callback.serve].
func listen(ctx context.Context, where string, log *slog.Logger) (*callback, error) {
	redirect, err := parseListen(where)
	if err != nil {
		return nil, err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", redirect.Host)
	if err != nil {
		return nil, check.Errorf(check.Usage, "listen on %s: %v", redirect.Host, err).
			Try(check.Hintf("it uses a free port; Authelia accepts any port, other issuers must know this redirect URL:\n    {login --listen %s:0}", loopback)).Because(err)
	}
	redirect.Host = strings.TrimSuffix(listener.Addr().String(), ":80") // browsers leave this port out
	c := &callback{redirect: redirect, listener: listener, arrivals: make(chan *arrival, 1)}
	c.server = &http.Server{
		Handler:           c,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       10 * time.Second,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	c.server.SetKeepAlivesEnabled(false)
	return c, nil
}

// parseListen reads host:port as a redirect URL.
func parseListen(where string) (*url.URL, error) {
	address, err := netip.ParseAddrPort(cmp.Or(where, loopback+":"+defaultPort))
	if ip := address.Addr(); err != nil || !ip.IsLoopback() || ip.Zone() != "" || ip.Is4In6() {
		return nil, check.Errorf(check.Usage, "the browser can come back only to a loopback address with a port, not to a name such as localhost").
			Try(check.Hintf("run:\n    {login --listen %s:%s}", loopback, defaultPort))
	}
	return &url.URL{Scheme: "http", Host: address.String(), Path: callbackPath}, nil
}

// serve begins to answer. The issuer must return this state.
func (c *callback) serve(state string) {
	c.state = state
	go func() { _ = c.server.Serve(c.listener) }() // ends with close
}

// close waits until the last answer has reached the browser, even if ctx has ended, and frees the port.
func (c *callback) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second) // browsers keep spare connections open
	defer cancel()
	if c.server.Shutdown(ctx) != nil {
		_ = c.server.Close()
	}
	_ = c.listener.Close() // in case serve was not called
}

// ServeHTTP implements [http.Handler].
func (c *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Host != c.redirect.Host: // another site's name that leads here (DNS rebinding)
		refused.saying("the browser used another host name for this address").write(w, http.StatusMisdirectedRequest)
		return
	case r.URL.EscapedPath() != c.redirect.Path:
		refused.saying("there is nothing at this address").write(w, http.StatusNotFound)
		return
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		refused.saying("the issuer must send the browser back with GET").write(w, http.StatusMethodNotAllowed)
		return
	}
	came, err := c.take(r.URL.RawQuery)
	if err != nil {
		refused.saying(err.Error()).write(w, http.StatusBadRequest)
		return
	}
	c.arrivals <- came
	select {
	case p := <-came.done:
		p.write(w, http.StatusOK)
	case <-r.Context().Done():
	}
}

// Why an answer is refused.
var (
	errOther  = errors.New("this address belongs to another or an earlier login")
	errTwice  = errors.New("this login already has its answer")
	errSpoilt = errors.New("this address must hold either one code or one error of the issuer")
)

// take reads an authorization response (RFC 6749 sections 4.1.2 and 4.1.2.1). Only the first one with the right state
// counts.
func (c *callback) take(query string) (*arrival, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, errOther
	}
	one := func(name string) string { // a repeated parameter does not count
		if list := values[name]; len(list) == 1 {
			return list[0]
		}
		return ""
	}
	if c.state == "" || subtle.ConstantTimeCompare([]byte(one("state")), []byte(c.state)) != 1 {
		return nil, errOther
	}
	code, failure := one("code"), one("error")
	if (code == "") == (failure == "") {
		return nil, errSpoilt
	}
	if !c.taken.CompareAndSwap(false, true) {
		return nil, errTwice
	}
	came := &arrival{done: make(chan page, 1)}
	if failure != "" {
		came.refusal = &refusal{failure, one("error_description")}
	} else {
		came.code = check.NewSecret(code)
	}
	return came, nil
}
