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
		{authority.Valid, 0, 0, check.Pass, []string{"59 days"}},
		{authority.Valid, -80 * day, 15 * day, check.Pass, nil},
		{authority.Valid, -80 * day, 13 * day, check.Warn, []string{"12 days", "renew"}},
		{authority.Valid, -5 * 365 * day, 15 * day, check.Pass, nil},
		{authority.ShortLived, 0, 0, check.Pass, nil},
		{authority.ShortLived, -3 * day, 3 * day, check.Pass, nil},
		{authority.ShortLived, -5 * day, day + time.Minute, check.Warn, []string{"1 day 0 hours"}},
		{authority.Expiring, 0, 0, check.Warn, nil},
		{authority.Expired, 0, 0, check.Fail, []string{"expired on"}},
		{authority.NotYetValid, 0, 0, check.Fail, []string{"not valid yet", "clocks"}},
		{authority.OtherName, 0, 0, check.Fail, []string{"other.example.test", "another name"}},
		{authority.UnknownAuthority, 0, 0, check.Fail, []string{"proxmox-realm lab CA", "verify.issuer_ca_file", "update-ca-certificates"}},
		{authority.SelfSigned, 0, 0, check.Fail, []string{"verify.issuer_ca_file"}},
		{authority.Weak, 0, 0, check.Fail, []string{"1024 bits", "2048"}},
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
	}{
		{"no such name", "https://issuer.invalid", []string{"does not resolve", "getent hosts issuer.invalid", "verify.issuer"}},
		{"nobody listens", "https://" + closed.Addr().String(), []string{"no connection to " + closed.Addr().String(), "refused"}},
		{"closes at once", listen(t, nil), []string{"TLS with"}},
		{"speaks HTTP", listen(t, func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }), []string{"TLS with", "openssl s_client"}},
		{"is silent", listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), []string{"TLS with", "no answer within"}},
		{"old TLS", listen(t, func(c net.Conn) {
			_ = tls.Server(c, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}).Handshake()
		}), []string{"TLS with", "TLS 1.2"}},
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
			if i.Quick() {
				t.Error("quick")
			}
			if _, ok := i.Certificate(); ok {
				t.Error("a certificate of nobody")
			}
		})
	}
}

func TestDualStackNameIsReached(t *testing.T) {
	s := start(t, lab.Options{Hosts: nil})
	byName := strings.Replace(s.URL(), "127.0.0.1", "localhost", 1)
	i := client(t, s, issuer.Options{}).Inspect(t.Context(), byName)
	want(t, find(t, i.Checks(view(login(byName))), check.IssuerReach), check.Pass, "127.0.0.1:")
}
