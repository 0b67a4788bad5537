package agent

import (
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// shown is a status with something of everything: a target in order, one that fails with what a server said, and a failed reload.
func shown() *status {
	s := newStatus("proxmox-realm 1.0")
	before, after := "email profile", "openid profile email"
	run := target(reconcile.Changed, nil,
		check.Passed(check.IssuerReach, "reached at 192.0.2.7:443"),
		check.Warned(check.IssuerCertificate, "renew it", "the issuer's certificate expires in 9 days"),
		check.Skipped(check.ClientCredentials, "not asked"))
	run.Targets[0].Changes = []realm.Change{{Property: realm.Scopes, Op: realm.Set, Before: &before, After: &after}}
	run.Targets[0].IssuerCertificate = time.Now().Add(9 * 24 * time.Hour)
	second := issuerAway().Targets[0]
	second.Name, second.Outcome = "berlin", reconcile.Failed
	second.Err = check.Errorf(check.ProxmoxFailed, `<script>alert("x")</script> & more`).Try(check.Hintf("look at %s", "'pveproxy'"))
	run.Targets, run.Outcome = append(run.Targets, second), reconcile.Failed
	s.ran(run, nil)
	s.sleep(time.Minute)
	s.reloaded(check.Errorf(check.Config, "line 3: <b>unknown</b> key"))
	return s
}

func get(t *testing.T, s *status, method, path string) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, nil)
	r.Host = "127.0.0.1:9746"
	guard(s.handler()).ServeHTTP(w, r)
	return w.Result()
}

func metricsText(s *status) string {
	w := httptest.NewRecorder()
	s.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(b.String(), "\r\n\r\n")
	return text
}

func TestPage(t *testing.T) {
	r := get(t, shown(), http.MethodGet, "/")
	text := body(t, r)
	for _, want := range []string{
		"Needs attention: failed", "2, 1 of them as declared", "email profile", "issuer.certificate", "Hint: renew it",
		"proxmox-failed:</strong> &lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt; &amp; more", "line 3: &lt;b&gt;unknown&lt;/b&gt; key", "in 8 days",
		"last corrected", "<details open>", "1 check warned, 1 passed",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "<script") || strings.Contains(text, "<b>") {
		t.Error("what others said is markup")
	}
	if i, j := strings.Index(text, "berlin"), strings.Index(text, ">default<"); i > j {
		t.Error("the worst target is not first")
	}
	// The policy names exactly the style that is there.
	_, rest, _ := strings.Cut(text, "<style>")
	css, _, _ := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(css))
	digest := base64.StdEncoding.EncodeToString(sum[:])
	if !strings.Contains(r.Header.Get("Content-Security-Policy"), "style-src 'sha256-"+digest+"'") || strings.Contains(text, "style=") {
		t.Error("the page's style is not that of its policy")
	}
}

func TestWeb(t *testing.T) {
	fresh := newStatus("x")
	if r := get(t, fresh, http.MethodGet, "/readyz"); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("before the first run, readyz: %s", r.Status)
	}
	if text := body(t, get(t, fresh, http.MethodGet, "/metrics")); strings.Contains(text, "proxmox_realm_last_run") || !strings.Contains(text, "proxmox_realm_agent_info") {
		t.Errorf("before the first run:\n%s", text)
	}
	fresh.due = time.Now().Add(-time.Second)
	if r := get(t, fresh, http.MethodGet, "/healthz"); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a loop that hangs, healthz: %s", r.Status)
	}
	s := shown()
	for _, tt := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/", 200},
		{"HEAD", "/", 200},
		{"GET", "/metrics", 200},
		{"GET", "/healthz", 200},
		{"GET", "/readyz", 200},
		{"GET", "/debug/pprof/", 404},
		{"GET", "/index.html", 404},
		{"POST", "/", 405},
		{"DELETE", "/metrics", 405},
		{"OPTIONS", "/", 405},
	} {
		r := get(t, s, tt.method, tt.path)
		if r.StatusCode != tt.code {
			t.Errorf("%s %s: %s", tt.method, tt.path, r.Status)
		}
		for header, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "X-Frame-Options": "DENY"} {
			if r.Header.Get(header) != want {
				t.Errorf("%s %s: %s is %q", tt.method, tt.path, header, r.Header.Get(header))
			}
		}
	}
}

func TestMetricsTellOfTheAgent(t *testing.T) {
	s := shown()
	s.ran(fine(), nil)
	if len(s.targets) != 1 {
		t.Errorf("a target that is gone is kept: %v", s.targets)
	}
	s.ran(fleet.Run{Command: "apply", Outcome: reconcile.Failed, Err: check.Errorf(check.Locked, "x")}, nil)
	text := metricsText(s)
	for _, want := range []string{
		`proxmox_realm_agent_runs_total{outcome="failed"} 2`, `proxmox_realm_agent_runs_total{outcome="unchanged"} 1`,
		"proxmox_realm_agent_config_reload_successful 0", `proxmox_realm_last_run_error{code="locked"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("the metrics lack %s:\n%s", want, text)
		}
	}
	if strings.Contains(text, "proxmox_realm_last_success_timestamp_seconds 0\n") {
		t.Error("the last success is forgotten")
	}
}

// A web page that points a name of its own at the agent (DNS rebinding) reads nothing.
func TestForeignHostNamesAreRefused(t *testing.T) {
	for host, allowed := range map[string]bool{
		"127.0.0.1:9746": true, "[::1]:9746": true, "192.0.2.7:9746": true, "192.0.2.7": true, "localhost:9746": true, "LOCALHOST": true,
		"agent.example.com:9746": true, "agent.example.com.:9746": true, "node1": true,
		"evil.example:9746": false, "agent.example.com.evil.example": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false, "": false,
	} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Host = host
		w := httptest.NewRecorder()
		guard(shown().handler(), "agent.example.com", "node1", "").ServeHTTP(w, r)
		if (w.Code == http.StatusOK) != allowed || !allowed && strings.Contains(w.Body.String(), "proxmox_realm") {
			t.Errorf("%q: %d", host, w.Code)
		}
	}
}

func TestServeEnds(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(l.Addr().String()); check.CodeOf(err) != check.Config {
		t.Errorf("an address that is taken: %v", err)
	}
	a := &agent{Options: Options{Listener: l, Config: settings(), Log: slog.New(slog.DiscardHandler)}, status: shown()}
	end := a.serve(l, l.Addr().String())
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	served := func() bool {
		r, err := client.Get("http://" + l.Addr().String() + "/healthz")
		if err != nil {
			return false
		}
		_ = r.Body.Close()
		return r.StatusCode == http.StatusOK
	}
	if !served() {
		t.Error("it is not served")
	}
	end()
	if served() {
		t.Error("it is served after the end")
	}
}
