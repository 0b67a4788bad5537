package issuer_test

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/lab/authority"
	lab "proxmox-realm/internal/lab/issuer"
)

func TestCertificates(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Now()
	for _, tt := range []struct {
		kind       authority.Kind
		begin, end time.Duration // from now; both 0: as the kind has it
		status     check.Status
		says       []string
	}{
		{authority.Valid, 0, 0, check.Pass, []string{"valid until"}},
		{authority.Valid, -80 * day, 15 * day, check.Pass, nil},
		{authority.Valid, -80 * day, 13 * day, check.Warn, []string{"expires on", "renew"}},
		{authority.Valid, -5 * 365 * day, 15 * day, check.Pass, nil},
		{authority.ShortLived, 0, 0, check.Pass, nil},
		{authority.ShortLived, -3 * day, 3 * day, check.Pass, nil},
		{authority.ShortLived, -5 * day, day + time.Minute, check.Warn, []string{"expires on"}},
		{authority.Expiring, 0, 0, check.Warn, nil},
		{authority.Expired, 0, 0, check.Fail, []string{"expired on"}},
		{authority.NotYetValid, 0, 0, check.Fail, []string{"not valid before", "clock"}},
		{authority.OtherName, 0, 0, check.Fail, []string{"other.example.test", "another name"}},
		{authority.UnknownAuthority, 0, 0, check.Warn, []string{"proxmox-realm lab CA", "verify.issuer_ca_file", "update-ca-certificates"}},
		{authority.SelfSigned, 0, 0, check.Warn, []string{"verify.issuer_ca_file"}},
	} {
		t.Run(string(tt.kind), func(t *testing.T) {
			ca, err := authority.New()
			if err != nil {
				t.Fatal(err)
			}
			certificate, err := ca.Issue(tt.kind, "127.0.0.1")
			if tt.begin != 0 {
				certificate, err = ca.IssueBetween(tt.kind, now.Add(tt.begin), now.Add(tt.end), "127.0.0.1")
			}
			if err != nil {
				t.Fatal(err)
			}
			s := start(t, lab.Options{Authority: ca, Certificate: &certificate})
			i := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL())
			checks := i.Checks(view(login(s.URL())))
			want(t, find(t, checks, check.IssuerReach), check.Pass)
			want(t, find(t, checks, check.IssuerCertificate), tt.status, tt.says...)
			for _, c := range checks[3:] {
				if tt.status == check.Fail {
					want(t, c, check.Skip)
				} else {
					want(t, c, check.Pass)
				}
			}
			if end, ok := i.Certificate(); !ok || !end.Equal(certificate.Leaf.NotAfter) {
				t.Errorf("certificate: %v %v", end, ok)
			}
		})
	}
}

func TestReach(t *testing.T) {
	listen := func(t *testing.T, serve func(net.Conn)) string {
		t.Helper()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				if serve != nil {
					serve(conn)
				}
				_ = conn.Close()
			}
		}()
		t.Cleanup(func() { _ = l.Close(); <-done })
		return "https://" + l.Addr().String()
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()

	for _, tt := range []struct {
		name, url string
		says      []string
		connected bool // Proxmox would connect too, and may find a silent issuer
	}{
		{"no such name", "https://issuer.invalid", []string{"cannot resolve the name issuer.invalid", "getent hosts issuer.invalid", "set verify.issuer to false"}, false},
		{"nobody listens", "https://" + closed.Addr().String(), []string{"cannot connect to " + closed.Addr().String(), "refused"}, false},
		{"closes at once", listen(t, nil), []string{"closed before TLS begins"}, true},
		{"speaks HTTP", listen(t, func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }), []string{"but no TLS", "serve https on that port"}, true},
		{"is silent", listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), []string{"but gets no answer", "hangs or is paused", "!TLS 1.2"}, true},
		{"old TLS", listen(t, func(c net.Conn) {
			_ = tls.Server(c, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}).Handshake()
		}), []string{"but TLS fails", "TLS 1.2 or 1.3", "openssl s_client"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := issuer.New(issuer.Options{Timeout: 500 * time.Millisecond})
			t.Cleanup(c.Close)
			i := c.Inspect(t.Context(), tt.url)
			checks := i.Checks(view(login(tt.url)))
			want(t, find(t, checks, check.IssuerURL), check.Pass)
			want(t, find(t, checks, check.IssuerReach), check.Fail, tt.says...)
			for _, c := range checks[2:] {
				want(t, c, check.Skip, "needs issuer.")
			}
			if i.Quick() == tt.connected || i.Trusted() {
				t.Errorf("quick %v, trusted %v", i.Quick(), i.Trusted())
			}

			v := view(login(tt.url))
			v.Found = []check.Check{check.Passed(check.ProxmoxDiscovery, "discovered")} // this machine's failure proves nothing
			for _, c := range i.Checks(v) {
				if c.Status == check.Fail {
					t.Errorf("%s fails, though Proxmox discovered the issuer: %s", c.ID, c.Summary)
				}
			}
			if _, ok := i.Certificate(); ok {
				t.Error("a certificate of nobody")
			}
		})
	}
}

// An authority that this machine does not know says nothing about the node. The documents are public, so they are checked;
// nothing is asked about a client.
func TestUnknownAuthorityIsNoProof(t *testing.T) {
	ca, err := authority.New()
	if err != nil {
		t.Fatal(err)
	}
	for kind, reads := range map[authority.Kind]bool{authority.UnknownAuthority: true, authority.Expired: false, authority.OtherName: false} {
		certificate, err := ca.Issue(kind, "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		s := start(t, lab.Options{Authority: ca, Certificate: &certificate})
		i := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL())
		answer := i.Client(t.Context(), issuer.Question{Depth: issuer.Full, Login: login(s.URL()), RedirectURLs: []string{redirectURL}})
		for _, c := range answer.Checks {
			want(t, c, check.Skip, "does not trust the issuer's certificate")
		}
		if v := accepts(t.Context(), i, s, "another"); v.Decision != issuer.NoVerdict {
			t.Errorf("%+v", v)
		}
		for _, r := range s.Requests() {
			if r.Path != "/.well-known/openid-configuration" && r.Path != "/jwks.json" {
				t.Errorf("%s: %s is requested", kind, r.Path)
			}
		}
		if n := len(s.Requests()); (n == 2) != reads || (n == 0) == reads {
			t.Errorf("%s: %d requests", kind, n)
		}
		if i.Trusted() || i.Quick() != reads {
			t.Errorf("%s: trusted %v, quick %v", kind, i.Trusted(), i.Quick())
		}
	}
}

func TestDualStackNameIsReached(t *testing.T) {
	s := start(t, lab.Options{Hosts: nil})
	byName := strings.Replace(s.URL(), "127.0.0.1", "localhost", 1)
	i := client(t, s, issuer.Options{}).Inspect(t.Context(), byName)
	want(t, find(t, i.Checks(view(login(byName))), check.IssuerReach), check.Pass, "127.0.0.1:")
}
