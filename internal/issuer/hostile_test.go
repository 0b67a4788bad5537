package issuer_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/issuer"
	lab "proxmox-realm/internal/lab/issuer"
)

func TestHostileIssuers(t *testing.T) {
	const discovery, keys = "/.well-known/openid-configuration", "/jwks.json"
	chunk := bytes.Repeat([]byte(" "), 64<<10)
	asJSON := func(w http.ResponseWriter) { w.Header().Set("Content-Type", "application/json") }
	endless := func(w http.ResponseWriter, r *http.Request) {
		asJSON(w)
		for r.Context().Err() == nil {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}
	drip := func(w http.ResponseWriter, r *http.Request) {
		asJSON(w)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_, _ = w.Write([]byte("{"))
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}
	var bomb bytes.Buffer
	zip := gzip.NewWriter(&bomb)
	for range 1 << 10 { // 64 MiB
		_, _ = zip.Write(chunk)
	}
	_ = zip.Close()
	serve := func(body string, headers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			asJSON(w)
			for n := 0; n+1 < len(headers); n += 2 {
				w.Header().Set(headers[n], headers[n+1])
			}
			_, _ = w.Write([]byte(body))
		}
	}
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusFound)
		}
	}
	manyKeys := `{"keys":[` + strings.TrimSuffix(strings.Repeat(strings.TrimSuffix(strings.TrimPrefix(rsaKeys, `{"keys":[`), `]}`)+",", 10_000), ",") + `]}`
	keyByKey := `{"keys":[` + strings.TrimSuffix(strings.Repeat(`{"kty":"EC"},`, 10_000), ",") + `]}`

	const late = "did not arrive in time"
	for _, tt := range []struct {
		name, path string
		handler    http.HandlerFunc
		says       []string
	}{
		{"endless", discovery, endless, []string{"larger than 1024 KiB"}},
		{"slow drip", discovery, drip, []string{late}},
		{"silence", discovery, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, []string{late}},
		{"one byte too many", discovery, serve(strings.Repeat(" ", 1<<20+1)), []string{"larger than 1024 KiB"}},
		{"compressed to burst", discovery, serve(bomb.String(), "Content-Encoding", "gzip"), []string{"larger than 1024 KiB"}},
		{"not what it is compressed with", discovery, serve("{}", "Content-Encoding", "gzip"), []string{"the request for the discovery document failed"}},
		{"truncated", discovery, serve(`{"issuer":`, "Content-Length", "4096"), []string{"the request for the discovery document failed"}},
		{"huge header", discovery, serve("{}", "X-Junk", strings.Repeat("x", 1<<20)), []string{"the request for the discovery document failed"}},
		{"redirect loop", discovery, redirect(discovery), []string{"more than 5 redirects"}},
		{"redirect to http", discovery, redirect("http://127.0.0.1:1" + discovery), []string{"away from https"}},
		{"redirect to another host", discovery, redirect("https://other.example.test" + discovery), []string{"another host", "without a redirect"}},
		{"redirect to another port", discovery, redirect("https://127.0.0.1:1" + discovery), []string{"another host"}},
		{"redirect to nowhere", discovery, redirect(""), []string{"302"}},
		{"redirect to a file", discovery, redirect("file:///etc/passwd"), []string{"away from https"}},
		{"byte order mark", discovery, serve("\ufeff{}"), []string{"invalid character"}},
		{"deep nesting", discovery, serve(`{"x":` + strings.Repeat("[", 100_000)), []string{"max depth"}},
		{"numbers for strings", discovery, serve(`{"issuer":1,"authorization_endpoint":2,"jwks_uri":3,"response_types_supported":[4],"subject_types_supported":5,"id_token_signing_alg_values_supported":6}`), []string{"the member issuer has the wrong type: number"}},
		{"null", discovery, serve("null"), []string{"issuer is missing"}},
		{"an array", discovery, serve("[]"), []string{"the document has the wrong type: array"}},
		{"nothing", discovery, serve(""), []string{"unexpected end of JSON"}},
		{"two documents", discovery, serve("{}{}"), []string{"after top-level value"}},
		{"control characters", discovery, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte("<b>\x1b]0;owned\x07</b>\u202e" + strings.Repeat("x", 10_000)))
		}, []string{"]0;owned"}},

		{"endless keys", keys, endless, []string{"larger than 1024 KiB"}},
		{"10,000 keys", keys, serve(manyKeys), []string{"larger than 1024 KiB"}},
		{"10,000 small keys", keys, serve(keyByKey), []string{"with any key of the key set"}},
		{"keys that are no objects", keys, serve(`{"keys":[1,null,"x",[],{}]}`), []string{"with any key of the key set"}},
		{"keys elsewhere", keys, redirect("https://other.example.test/keys"), []string{"another host"}},
		{"silent keys", keys, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, []string{late}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, lab.Options{})
			s.Inject(tt.path, lab.Fault{Handler: tt.handler})
			options := issuer.Options{} // whose timeout no machine is too slow for
			if slices.Contains(tt.says, late) {
				options.Timeout = time.Second
			}
			c := client(t, s, options)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			i := c.Inspect(t.Context(), s.URL())
			checks := i.Checks(view(login(s.URL())))
			runtime.ReadMemStats(&after)

			id := check.IssuerDiscovery
			if tt.path == keys {
				id = check.IssuerKeys
			}
			found := find(t, checks, id)
			want(t, found, check.Fail, tt.says...)
			for _, text := range append(strings.Split(string(found.Hint), "\n"), found.Summary, found.Evidence) {
				if strings.ContainsAny(text, "\x1b\x07\u202e\n") || len(text) > 4*check.MaxText {
					t.Errorf("not clean: %q", text)
				}
			}
			if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 64 {
				t.Errorf("%d MiB were allocated", used)
			}
			if requests := len(s.Requests()); requests > 10 {
				t.Errorf("%d requests", requests)
			}
			if i.Quick() && tt.path == discovery {
				t.Error("quick, though nothing usable came")
			}
		})
	}
}

func TestSameHostRedirectAndGzipAreFollowed(t *testing.T) {
	s := start(t, lab.Options{})
	s.Inject("/.well-known/openid-configuration", lab.Fault{Times: 1, Status: 301, Header: http.Header{"Location": {"/.well-known/openid-configuration?again"}}})
	s.Inject("/jwks.json", lab.Fault{Handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		zip := gzip.NewWriter(w)
		_, _ = fmt.Fprint(zip, rsaKeys)
		_ = zip.Close()
	}})
	checks := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).Checks(view(login(s.URL())))
	want(t, find(t, checks, check.IssuerDiscovery), check.Pass, "1 redirect")
	want(t, find(t, checks, check.IssuerKeys), check.Pass)
	want(t, find(t, checks, check.IssuerCertificate), check.Pass)
}
