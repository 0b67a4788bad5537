package issuer_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proxmox-realm/internal/lab/issuer"
)

// transcript is a recording of a real Authelia.
type transcript struct {
	Exchanges []struct {
		ID      string
		Request struct {
			Method, Path string
			Headers      map[string]string
			Form         map[string]string
		}
		Response struct {
			Status      int
			Body        any
			Location    *string
			ContentType *string `json:"content_type"`
			RetryAfter  *string `json:"retry_after"`
		}
	}
}

// TestTranscript asks what Authelia was asked, and expects what it answered.
func TestTranscript(t *testing.T) {
	data, err := os.ReadFile("../testdata/authelia-4.39.20.json")
	if err != nil {
		t.Fatal(err)
	}
	var recorded transcript
	if err := json.Unmarshal(data, &recorded); err != nil {
		t.Fatal(err)
	}
	if len(recorded.Exchanges) < 20 {
		t.Fatalf("%d exchanges, too few", len(recorded.Exchanges))
	}
	const redirect = "https://pve.example.test:8006"
	server := start(t, issuer.Options{Clients: []issuer.Client{
		{ID: "proxmox", Secret: "insecure_secret", RedirectURIs: []string{redirect}},
		{ID: "proxmox-post", Secret: "insecure_secret", RedirectURIs: []string{redirect}, AuthMethod: "client_secret_post"},
	}})
	client := server.client()

	for _, exchange := range recorded.Exchanges {
		t.Run(exchange.ID, func(t *testing.T) {
			form := url.Values{}
			for name, value := range exchange.Request.Form {
				form.Set(name, value)
			}
			var body io.Reader
			if len(form) > 0 {
				body = strings.NewReader(form.Encode())
			}
			request, err := http.NewRequestWithContext(t.Context(), exchange.Request.Method, server.URL()+exchange.Request.Path, body)
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range exchange.Request.Headers {
				if name == "Host" {
					request.Host = value
				} else {
					request.Header.Set(name, value)
				}
			}
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()

			want := exchange.Response
			if response.StatusCode != want.Status {
				t.Errorf("status %d, want %d: %s", response.StatusCode, want.Status, text)
			}
			if got := response.Header.Get("Content-Type"); got != deref(want.ContentType) {
				t.Errorf("content type %q, want %q", got, deref(want.ContentType))
			}
			if got := response.Header.Get("Retry-After"); got != deref(want.RetryAfter) {
				t.Errorf("retry-after %q, want %q", got, deref(want.RetryAfter))
			}
			location := strings.ReplaceAll(deref(want.Location), "{{issuer}}", server.URL())
			location = strings.ReplaceAll(location, url.QueryEscape("https://auth.example.test:9093"), url.QueryEscape(server.URL()))
			if diff := cmp.Diff(location, response.Header.Get("Location")); diff != "" {
				t.Errorf("location (-recorded +answered):\n%s", diff)
			}
			if strings.HasPrefix(deref(want.ContentType), "text/html") {
				return // the page itself is the portal's own matter
			}
			compareBody(t, server.URL(), want.Body, text)
		})
	}
}

// compareBody expects the same JSON, but for what must differ: the issuer's
// name, its keys and opaque values.
func compareBody(t *testing.T, base string, want any, text []byte) {
	t.Helper()
	if plain, ok := want.(string); ok {
		if string(text) != plain {
			t.Errorf("body %q, want %q", text, plain)
		}
		return
	}
	recorded, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var expected, got any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(recorded), "{{issuer}}", base)), &expected); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("not JSON: %s", text)
	}
	opaque := cmp.FilterPath(func(path cmp.Path) bool {
		index, ok := path.Last().(cmp.MapIndex)
		if !ok {
			return false
		}
		switch index.Key().String() {
		case "n", "x", "y", "request_uri":
			return true
		}
		return false
	}, cmp.Comparer(func(a, b any) bool {
		x, _ := a.(string)
		y, _ := b.(string)
		return x != "" && y != "" && strings.HasPrefix(x, "urn:") == strings.HasPrefix(y, "urn:")
	}))
	if diff := cmp.Diff(expected, got, opaque); diff != "" {
		t.Errorf("body (-recorded +answered):\n%s", diff)
	}
}

func deref(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}
