package main

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"proxmox-realm/internal/lab/authority"
	"proxmox-realm/internal/lab/issuer"
)

// provider VARIABLE [/PATH | NAME | HOW …] starts another issuer that knows the lab's client, and puts its URL into the
// variable. It is below a path, has a name on port 443 (see streets), or is behind a reverse proxy (see proxied).
func provider(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: provider VARIABLE [/PATH | NAME | HOW …]")
	}
	l := theLab(ts)
	keys, err := issuer.DefaultKeys()
	ts.Check(err)
	client, _ := l.Issuer.Client(l.ClientID)
	options := issuer.Options{Authority: l.Authority, Keys: keys, Clients: []issuer.Client{client}}
	var name string
	var how []string
	for _, word := range args[1:] {
		switch {
		case strings.HasPrefix(word, "/"):
			options.Path = word
		case strings.Contains(word, "."):
			name = word
			certificate, err := l.Authority.Issue(authority.Valid, name)
			ts.Check(err)
			options.Hosts, options.Certificate = append(options.Hosts, name), &certificate
		default:
			how = append(how, word)
		}
	}
	front := &reverseProxy{how: how}
	address := front.start(ts, l.Authority)
	options.Hosts = append(options.Hosts, address)
	s, err := issuer.Start(options)
	ts.Check(err)
	ts.Defer(func() { _ = s.Close() })
	behind, err := url.Parse(s.URL())
	ts.Check(err)
	front.before(behind, l.Authority.Pool())
	switch {
	case name != "":
		l.streets(ts).lead(name+":443", behind.Host)
		ts.Setenv(args[0], "https://"+name+options.Path)
	case len(how) > 0:
		ts.Setenv(args[0], "https://"+address+options.Path)
	default:
		ts.Setenv(args[0], s.URL())
	}
}

// documented VARIABLE PROVIDER HOST starts an issuer with a host name (see streets) and puts its URL into the variable. It
// serves keys and the discovery document from the provider's manual, and nothing else.
func documented(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: documented VARIABLE PROVIDER HOST")
	}
	l := theLab(ts)
	text, err := os.ReadFile(filepath.Join(discoveryDocuments, args[1]+".json"))
	ts.Check(err)
	var file struct {
		Path     string
		Document struct {
			JWKSURI       string `json:"jwks_uri"`
			Authorization string `json:"authorization_endpoint"`
			Token         string `json:"token_endpoint"`
		}
	}
	origin := "https://" + args[2]
	ts.Check(json.Unmarshal(text, &file))
	var whole struct{ Document json.RawMessage }
	filled := strings.NewReplacer("{{issuer}}", origin+file.Path, "{{origin}}", origin).Replace(string(text))
	ts.Check(json.Unmarshal([]byte(filled), &whole))
	ts.Check(json.Unmarshal(whole.Document, &file.Document))
	jwks, err := url.Parse(file.Document.JWKSURI)
	ts.Check(err)
	trusting := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: l.Authority.Pool(), MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}}
	response, err := trusting.Get(l.Issuer.URL() + "/jwks.json")
	ts.Check(err)
	published, err := io.ReadAll(response.Body)
	ts.Check(err)
	_ = response.Body.Close()
	serve := func(body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(body)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc(strings.TrimSuffix(file.Path, "/")+"/.well-known/openid-configuration", serve(whole.Document))
	mux.HandleFunc(jwks.Path, serve(published))
	at := func(endpoint string) string { return strings.TrimPrefix(endpoint, origin) }
	mux.HandleFunc(at(file.Document.Authorization), func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("client_id") != l.ClientID {
			http.Error(w, "unknown client", http.StatusBadRequest)
			return
		}
		http.Redirect(w, r, r.FormValue("redirect_uri")+"?error=login_required", http.StatusFound)
	})
	if path := at(file.Document.Token); strings.HasPrefix(path, "/") {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			id, key, _ := r.BasicAuth()
			status, code := http.StatusUnauthorized, "invalid_client"
			if key, _ = url.QueryUnescape(key); id == l.ClientID && key == l.ClientKey {
				status, code = http.StatusBadRequest, "invalid_grant"
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, `{"error":%q}`, code)
		})
	}
	certificate, err := l.Authority.Issue(authority.Valid, args[2])
	ts.Check(err)
	s := httptest.NewUnstartedServer(mux)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	ts.Defer(s.Close)
	l.streets(ts).lead(args[2]+":443", s.Listener.Addr().String())
	ts.Setenv(args[0], origin+file.Path)
}

var discoveryDocuments, _ = filepath.Abs("../../internal/issuer/testdata/discovery") // scripts run in other folders

// proxied VARIABLE URL [HOW …] puts a reverse proxy (with HTTP/2) before a server, and the proxy's URL into the variable. Like
// many proxies, it writes its own reason phrases and Server header, and adds other headers.
//
//	gzip       always compresses answers
//	chunked    removes the length of answers
//	undated    removes the Date header
//	stripped   removes the Authorization header
func proxied(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: proxied VARIABLE URL [HOW …]")
	}
	l := theLab(ts)
	front := &reverseProxy{how: args[2:]}
	address := front.start(ts, l.Authority)
	behind, err := url.Parse(args[1])
	ts.Check(err)
	front.before(behind, l.Authority.Pool())
	ts.Setenv(args[0], "https://"+address)
}

type reverseProxy struct {
	how   []string
	ready sync.RWMutex
	proxy http.Handler
}

func (p *reverseProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.ready.RLock()
	defer p.ready.RUnlock()
	if slices.Contains(p.how, "undated") {
		w.Header()["Date"] = nil // net/http adds none then
	}
	p.proxy.ServeHTTP(w, r)
}

// start begins to listen; [reverseProxy.before] sets the server behind the proxy.
func (p *reverseProxy) start(ts *testscript.TestScript, ca *authority.CA) (address string) {
	certificate, err := ca.Issue(authority.Valid, "127.0.0.1", "::1", "localhost")
	ts.Check(err)
	s := httptest.NewUnstartedServer(p)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	s.EnableHTTP2 = true
	s.StartTLS()
	ts.Defer(s.Close)
	return s.Listener.Addr().String()
}

func (p *reverseProxy) before(behind *url.URL, pool *x509.CertPool) {
	p.ready.Lock()
	defer p.ready.Unlock()
	p.proxy = &httputil.ReverseProxy{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}, DisableCompression: true, DisableKeepAlives: true},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetXForwarded()
			r.Out.URL.Scheme, r.Out.URL.Host = behind.Scheme, behind.Host
			if slices.Contains(p.how, "stripped") {
				r.Out.Header.Del("Authorization")
			}
		},
		ModifyResponse: p.rewrite,
	}
}

func (p *reverseProxy) rewrite(r *http.Response) error {
	r.Header.Set("Server", "proxy/1.0")
	r.Header.Set("Strict-Transport-Security", "max-age=63072000")
	r.Header.Set("Via", "2 proxy")
	if slices.Contains(p.how, "undated") {
		r.Header.Del("Date")
	}
	if slices.Contains(p.how, "chunked") {
		r.Header.Del("Content-Length")
		r.ContentLength = -1
	}
	if !slices.Contains(p.how, "gzip") {
		return nil
	}
	whole, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	var zipped bytes.Buffer
	zip := gzip.NewWriter(&zipped)
	_, _ = zip.Write(whole)
	_ = zip.Close()
	_ = r.Body.Close()
	r.Body = io.NopCloser(&zipped)
	r.Header.Set("Content-Encoding", "gzip")
	r.Header.Set("Content-Length", strconv.Itoa(zipped.Len()))
	return nil
}

// streets is a CONNECT proxy that connects host names, which no DNS knows, to servers of the script.
type streets struct {
	mu      sync.Mutex
	leads   map[string]string
	address string
}

func (s *streets) lead(name, address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leads[name] = address
}

func (s *streets) to(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leads[name]
}

func (s *streets) url() *url.URL { return &url.URL{Scheme: "http", Host: s.address} }

func (s *streets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	to := s.to(r.Host)
	if r.Method != http.MethodConnect || to == "" {
		http.Error(w, "unknown", http.StatusBadGateway)
		return
	}
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
	forward(client, to)
}

// forward connects a connection to an address.
func forward(client net.Conn, to string) {
	defer func() { _ = client.Close() }()
	behind, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = behind.Close() }()
	go func() {
		_, _ = io.Copy(behind, client)
		_ = behind.Close()
	}()
	_, _ = io.Copy(client, behind)
}

// town is the command `streets`. It comes before every command that needs host names.
func town(ts *testscript.TestScript, _ bool, _ []string) { theLab(ts).streets(ts) }

// streets starts that proxy for this script's commands and for the nodes that it starts later.
func (w *world) streets(ts *testscript.TestScript) *streets {
	if w.town == nil {
		w.town = &streets{leads: map[string]string{}}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		s := &http.Server{Handler: w.town, ReadHeaderTimeout: time.Minute}
		go func() { _ = s.Serve(listener) }()
		ts.Defer(func() { _ = s.Close() })
		w.town.address = listener.Addr().String()
		ts.Setenv("HTTPS_PROXY", w.town.url().String())
	}
	return w.town
}
