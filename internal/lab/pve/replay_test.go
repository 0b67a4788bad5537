package pve_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/lab/pve"
)

type transcript struct {
	Exchanges []struct {
		Auth        string
		ID          string
		Method      string
		Path        string
		Body        *string
		ContentType string `json:"content_type"`
		Response    struct {
			Status      int
			Reason      string
			ContentType *string `json:"content_type"`
			Close       bool    `json:"connection_close"`
			Body        any
		}
	}
}

// start is a server without delays, and a client that trusts it.
func start(t *testing.T, o pve.Options) (*pve.Server, *http.Client) {
	t.Helper()
	s, err := pve.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, clientOf(t, s)
}

func clientOf(tb testing.TB, s *pve.Server) *http.Client {
	tb.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.CertificatePEM()) {
		tb.Fatal("no certificate")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		Timeout:       time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

var (
	lineNumber = regexp.MustCompile(`line \d+\.`)
	sourcePath = regexp.MustCompile(`/usr/share/perl5/`)
)

func normal(s string) string {
	return sourcePath.ReplaceAllString(lineNumber.ReplaceAllString(s, "line N."), "")
}

func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/proxmox-ve-*.json")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { replay(t, file) })
	}
}

func replay(t *testing.T, file string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var script transcript
	if err := json.Unmarshal(raw, &script); err != nil {
		t.Fatal(err)
	}
	s, c := start(t, pve.Options{IssuerClient: &http.Client{Transport: unreachable{}}})
	digests := map[string]string{} // placeholder to value
	var last, stale string
	for _, x := range script.Exchanges {
		var body io.Reader
		if x.Body != nil {
			b := strings.ReplaceAll(strings.ReplaceAll(*x.Body, "{{digest}}", last), "{{stale}}", stale)
			body = strings.NewReader(b)
		}
		req, err := http.NewRequest(x.Method, s.URL()+"/api2/json"+x.Path, body)
		if err != nil {
			t.Fatal(err)
		}
		if x.ContentType != "" {
			req.Header.Set("Content-Type", x.ContentType)
		}
		switch x.Auth {
		case "anonymous":
		case "malformed":
			req.Header.Set("Authorization", "PVEAPIToken=not a token")
		case "wrong-secret":
			id, _, _ := strings.Cut(s.Token(pve.TokenRealmAllocate), "=")
			req.Header.Set("Authorization", "PVEAPIToken="+id+"=00000000-0000-4000-8000-000000000000")
		default:
			req.Header.Set("Authorization", "PVEAPIToken="+s.Token(x.Auth))
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", x.ID, err)
		}
		got, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatalf("%s: %v", x.ID, err)
		}
		_ = res.Body.Close()
		want := x.Response
		if line := fmt.Sprintf("%d %s", want.Status, want.Reason); normal(res.Status) != line {
			t.Errorf("%s: status %q, want %q", x.ID, res.Status, line)
		}
		if res.Close != want.Close {
			t.Errorf("%s: connection close %v, want %v", x.ID, res.Close, want.Close)
		}
		contentType := ""
		if want.ContentType != nil {
			contentType = *want.ContentType
		}
		if h := res.Header.Get("Content-Type"); h != contentType {
			t.Errorf("%s: content type %q, want %q", x.ID, h, contentType)
		}
		if text, ok := want.Body.(string); ok {
			if normal(string(got)) != text {
				t.Errorf("%s: body %q, want %q", x.ID, got, text)
			}
			continue
		}
		var answer any
		if err := json.Unmarshal(got, &answer); err != nil {
			t.Errorf("%s: body %q: %v", x.ID, got, err)
			continue
		}
		if value, ok := digestOf(answer); ok {
			name, _ := digestOf(want.Body)
			if name == "" || len(value) != 40 {
				t.Errorf("%s: digest %q", x.ID, value)
			}
			if known, ok := digests[name]; ok && known != value {
				t.Errorf("%s: %s is %s, was %s", x.ID, name, value, known)
			}
			for other, v := range digests {
				if v == value && other != name {
					t.Errorf("%s: %s is as %s was", x.ID, name, other)
				}
			}
			digests[name] = value
			if value != last {
				stale, last = last, value
			}
		}
		if a, b := canonical(t, answer), canonical(t, want.Body); !reflect.DeepEqual(a, b) {
			t.Errorf("%s: body %s, want %s", x.ID, a, b)
		}
	}
}

func digestOf(body any) (string, bool) {
	m, _ := body.(map[string]any)
	data, _ := m["data"].(map[string]any)
	d, ok := data["digest"].(string)
	return d, ok
}

// canonical is JSON without digests, with lists sorted and line numbers taken out.
func canonical(t *testing.T, v any) string {
	t.Helper()
	var walk func(any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			m := map[string]any{}
			for k, e := range v {
				if k == "digest" {
					e = "digest"
				}
				m[k] = walk(e)
			}
			return m
		case []any:
			list := make([]any, len(v))
			for i, e := range v {
				list[i] = walk(e)
			}
			slices.SortFunc(list, func(a, b any) int {
				x, _ := json.Marshal(a)
				y, _ := json.Marshal(b)
				return bytes.Compare(x, y)
			})
			return list
		case string:
			return normal(v)
		}
		return v
	}
	b, err := json.Marshal(walk(v))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// unreachable is a network in which no issuer resolves.
type unreachable struct{}

func (unreachable) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("lookup %s: no such host", r.URL.Hostname())
}
