package config

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fleet returns a configuration of n targets that share an issuer.
func fleet(n int) string {
	var b strings.Builder
	b.WriteString("realm: {issuer_url: https://auth.example.com, client_id: proxmox, client_key: shared-client-key, scopes: [openid, profile, email]}\ntargets:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - name: cluster-%d\n    proxmox: {endpoints: [https://pve%d.example.com:8006], token: realm@pve!agent=secret-%d}\n", i, i, i)
	}
	return b.String()
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("targets=%d", n), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "config.yaml")
			if err := os.WriteFile(path, []byte(fleet(n)), 0o600); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Load(context.Background(), Options{File: path, Secrets: true}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
