package reconcile_test

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/lab/pbs"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// TestLogsOfTheOtherProducts reads what failed logins leave in the log of Backup Server and Datacenter Manager.
func TestLogsOfTheOtherProducts(t *testing.T) {
	for _, product := range []realm.Product{realm.BackupServer, realm.DatacenterManager} {
		t.Run(product.String(), func(t *testing.T) {
			server, err := pbs.Start(pbs.Options{Product: pbs.Products[product.String()], Zone: time.FixedZone("Asia/Kolkata", 19800)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = server.Close() })
			client := func(token string) *proxmox.Client {
				parsed, err := config.ParseToken(realm.BackupServer, strings.Replace(server.Token(token), ":", "=", 1))
				if err != nil {
					t.Fatal(err)
				}
				roots := x509.NewCertPool()
				roots.AppendCertsFromPEM(server.CertificatePEM())
				c, err := proxmox.New(config.Proxmox{
					Product: product, Endpoints: []config.Origin{config.Origin(server.URL())}, Token: parsed, CA: roots, Timeout: time.Minute,
				}, proxmox.Options{})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(c.Close)
				return c
			}
			err = server.Update(func(s *pbs.State) {
				s.Realms = append(s.Realms, pbs.Realm{Name: "authelia", Type: "openid", Properties: map[string]string{"issuer-url": "https://127.0.0.1:1", "client-id": "proxmox"}})
			})
			if err != nil {
				t.Fatal(err)
			}
			nobody := client(pbs.TokenNoPrivilege)
			_, err1 := nobody.AuthURL(t.Context(), "authelia", "https://backup.example.com:8007")
			_, err2 := nobody.Login(t.Context(), `{"csrf_token":"x","realm":"authelia"}`, "code", "https://backup.example.com:8007")
			if err1 == nil || err2 == nil {
				t.Fatal(err1, err2)
			}
			f := facts()
			f.Product = product
			var causes []string
			_, err = reconcile.NewLoginReader(f, time.Hour).Read(t.Context(), client(pbs.TokenLogReader), func(l diagnose.Login) {
				causes = append(causes, string(l.Cause))
				if l.Node != "localhost" || l.Address != "127.0.0.1" || time.Until(l.Time).Abs() > time.Minute {
					t.Errorf("%+v", l)
				}
			})
			slices.Sort(causes)
			if got := strings.Join(causes, " "); err != nil || got != "issuer-unreachable state-lost" {
				t.Errorf("%v: %s", err, got)
			}
		})
	}
}
