package agent

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/report"
)

// Listen opens the address of agent.listen.
func Listen(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address) //nolint:noctx // nothing is waited for
	if err != nil {
		return nil, check.Errorf(check.Config, "%v", err).At("agent.listen").
			Try("stop the other agent, if one runs on this machine", "set {agent.listen} to another address").
			Because(err)
	}
	return listener, nil
}

// serve begins to serve on a listener, and returns what ends that. address is agent.listen, whose host the agent answers to.
func (a *agent) serve(listener net.Listener, address string) (end func()) {
	host, _, _ := net.SplitHostPort(address) // without a host, the agent has one name less
	name, _ := os.Hostname()
	server := &http.Server{
		Handler:           guard(a.status.handler(), host, name),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(a.Log.Handler(), slog.LevelDebug), // mistakes of clients
	}
	go func() { _ = server.Serve(listener) }() // until the end
	a.Log.Info("serving status and metrics", "listen", listener.Addr().String())
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second) // for answers under way
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
		_ = listener.Close() // in case Serve had not begun
	}
}

// handler serves
//
//	/         a page for people
//	/metrics  the metrics, for Prometheus
//	/healthz  200 while the agent works; 503 if it hangs
//	/readyz   200 once the first run has ended, with any outcome
func (s *status) handler() http.Handler {
	probe := func(ok func() bool, problem string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if !ok() {
				http.Error(w, problem, http.StatusServiceUnavailable)
				return
			}
			_, _ = io.WriteString(w, "ok\n")
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = page().Execute(w, s.view(time.Now()))
	})
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, r *http.Request) {
		promhttp.HandlerFor(s.gatherers(), promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
	mux.Handle("/healthz", probe(s.alive, "the agent hangs"))
	mux.Handle("/readyz", probe(s.ready, "the first run has not ended yet"))
	return mux
}

// guard refuses writes and foreign host names. A web page can point a name of its own at this address (DNS rebinding) and
// would then read the answers. It cannot do that with an IP address, localhost, or the given names of this agent.
func guard(next http.Handler, names ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		report.PageHeaders(w.Header(), style)
		switch {
		case !ownName(r.Host, names):
			http.Error(w, "the agent does not answer to this host name; use its IP address, or set agent.listen to this name and a port",
				http.StatusMisdirectedRequest)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			w.Header().Set("Connection", "close") // the request's body is not read
			http.Error(w, "only GET and HEAD are allowed", http.StatusMethodNotAllowed)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func ownName(hostport string, names []string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport // without a port
	}
	host = strings.Trim(host, "[]")
	for _, name := range append(names, "localhost") {
		if name != "" && strings.EqualFold(strings.TrimSuffix(host, "."), name) {
			return true
		}
	}
	return net.ParseIP(host) != nil
}
