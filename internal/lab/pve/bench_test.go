package pve_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"proxmox-realm/internal/lab/pve"
)

// BenchmarkRead is one read of a realm over a connection that stays open.
func BenchmarkRead(b *testing.B) {
	s, err := pve.Start(pve.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := s.SetRealm(pve.Realm{Name: "authelia", Type: "openid", Properties: map[string]string{"issuer-url": "https://a", "client-id": "b"}}); err != nil {
		b.Fatal(err)
	}
	c := clientOf(b, s)
	for b.Loop() {
		req, _ := http.NewRequest(http.MethodGet, s.URL()+"/api2/json/access/domains/authelia", nil)
		req.Header.Set("Authorization", "PVEAPIToken="+s.Token(pve.TokenRealmAllocate))
		res, err := c.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
}

// BenchmarkCreate creates realms beside thousands of others, and reads each back.
func BenchmarkCreate(b *testing.B) {
	for _, others := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("beside %d", others), func(b *testing.B) {
			s, err := pve.Start(pve.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			properties := map[string]string{"issuer-url": "https://a", "client-id": "b", "comment": "one of many"}
			for i := range others {
				if err := s.SetRealm(pve.Realm{Name: fmt.Sprintf("other-%d", i), Type: "openid", Properties: properties}); err != nil {
					b.Fatal(err)
				}
			}
			c := clientOf(b, s)
			send := func(method, path, body string) {
				req, _ := http.NewRequest(method, s.URL()+"/api2/json/access/domains"+path, strings.NewReader(body))
				if body == "" {
					req.Body = nil
				}
				req.Header.Set("Authorization", "PVEAPIToken="+s.Token(pve.TokenRealmAllocate))
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				res, err := c.Do(req)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if res.StatusCode != http.StatusOK {
					b.Fatal(res.Status)
				}
			}
			n := 0
			for b.Loop() {
				name := fmt.Sprintf("realm-%d", n)
				n++
				send(http.MethodPost, "", "realm="+name+"&type=openid&issuer-url=https://a&client-id=b")
				send(http.MethodGet, "/"+name, "")
			}
		})
	}
}
