package issuer_test

import (
	"crypto/tls"
	"net/http"
	"net/http/cookiejar"
	"testing"

	"go.uber.org/goleak"

	"proxmox-realm/internal/lab/issuer"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// server is an issuer with clients of HTTP that trust it.
type server struct {
	*issuer.Server
	t *testing.T
}

func start(t *testing.T, options issuer.Options) server {
	t.Helper()
	s, err := issuer.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return server{s, t}
}

// client follows no redirects and keeps cookies.
func (s server) client() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Authority().Pool()}}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
