package pve_test

import (
	"io"
	"net/http"
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
