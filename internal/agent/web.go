package agent

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// web is the server of status, health and metrics. The zero value serves nothing.
type web struct {
	server   *http.Server
	listener net.Listener
}

// serve begins to serve on the listener.
func (a *agent) serve(listener net.Listener) *web {
	if listener == nil {
		return &web{}
	}
	w := &web{listener: listener, server: &http.Server{
		Handler:           a.status.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(a.Log.Handler(), slog.LevelDebug), // what clients get wrong is no news
	}}
	server := w.server
	go func() { _ = server.Serve(listener) }() // ends with close
	return w
}

func (w *web) address() string {
	if w.listener == nil {
		return ""
	}
	return w.listener.Addr().String()
}

// close lets answers that are under way end, and no longer than a moment.
func (w *web) close() {
	if w.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if w.server.Shutdown(ctx) != nil {
		_ = w.server.Close()
	}
	_ = w.listener.Close() // where Serve had not begun
}

// handler serves
//
//	/         a page for people
//	/metrics  the Prometheus text format
//	/healthz  200 while the agent goes on with its work; 503 where it hangs
//	/readyz   200 once the first run has ended, however it ended: how, metrics and page tell
func (s *status) handler() http.Handler {
	text := func(w http.ResponseWriter, code int, body string) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body+"\n")
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(s.page(time.Now()))
	})
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write(s.metrics())
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !s.alive() {
			text(w, http.StatusServiceUnavailable, "the agent hangs")
			return
		}
		text(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		ready := !s.ended.IsZero()
		s.mu.Unlock()
		if !ready {
			text(w, http.StatusServiceUnavailable, "the first run has not ended yet")
			return
		}
		text(w, http.StatusOK, "ok")
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			h.Set("Connection", "close") // whatever body comes along is not read
			text(w, http.StatusMethodNotAllowed, "only GET and HEAD: nothing here changes anything")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// policy lets the page have its own style and nothing else.
var policy = "default-src 'none'; style-src 'sha256-" + digestOf(style) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}
