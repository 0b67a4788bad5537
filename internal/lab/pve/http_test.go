package pve_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"proxmox-realm/internal/lab/pve"
)

// TestTransport: what the server answers before it looks for a handler, as far as no recording has it.
func TestTransport(t *testing.T) {
	n := newNode(t, pve.Options{})
	const list = "/api2/json/access/domains"
	for name, x := range map[string]struct{ method, path, contentType, body, status, answer string }{
		"OPTIONS":           {"OPTIONS", list, "", "", "501 method 'OPTIONS' not available", ""},
		"no API":            {"GET", "/other", "", "", "500 no such file '/other'", "no such file '/other'\n"},
		"GET with body":     {"GET", list + "/pam", "", "{}", "501 Unexpected content for method 'GET'", "Unexpected content for method 'GET'"},
		"too large":         {"POST", list, "", strings.Repeat("x", 512<<10+1), "501 for data too large", "for data too large"},
		"JSON list":         {"PUT", list + "/x2", "application/json", "[]", "500 Not a HASH reference at PVE/APIServer/AnyEvent.pm line N.", "Not a HASH reference at PVE/APIServer/AnyEvent.pm line N.\n"},
		"JSON with charset": {"PUT", list + "/x2", "application/json; charset=utf-8", "{}", "500 update auth server failed: no options specified", `{"data":null,"message":"update auth server failed: no options specified\n"}`},
		"escaped path": {
			"GET", list + "/p%61m?realm=pve", "", "", "400 Parameter verification failed.",
			`{"data":null,"errors":{"realm":"duplicate parameter (already defined in URI) with conflicting values!"},"message":"Parameter verification failed.\n"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), x.method, n.URL()+x.path, strings.NewReader(x.body))
			if err != nil {
				t.Fatal(err)
			}
			request.Header = n.header.Clone()
			request.Header.Set("Content-Type", x.contentType)
			response, err := n.client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			if body, err := io.ReadAll(response.Body); err != nil || response.Status != x.status || string(body) != x.answer {
				t.Errorf("%s, %q, %v; want %s, %q", response.Status, body, err, x.status, x.answer)
			}
		})
	}
}
