package proxmox

import (
	"strings"
	"testing"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
)

// The product's port is advice only where the endpoint has another one.
func TestThePortIsAdviceForAnotherPort(t *testing.T) {
	for _, p := range realm.Products() {
		for port, advice := range map[string]string{p.Port(): "the node itself", "443": "listens on port " + p.Port()} {
			hint := checkPort(&Error{Endpoint: config.Origin("https://host.example.com:" + port), dialect: dialectOf(p)}, p.Host())
			if !strings.Contains(string(hint), advice) {
				t.Errorf("%s, port %s: %s", p, port, hint)
			}
		}
	}
}
