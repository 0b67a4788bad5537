package issuer

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// However many clients are asked about at once, the issuer sees two requests at a time. Waiting for one's turn is not taken
// for an issuer that does not answer.
func TestAnIssuerIsAskedInTurn(t *testing.T) {
	var now, most atomic.Int32
	c, issuerURL, _ := serve(t, "keycloak", func(w http.ResponseWriter, _ *http.Request) {
		n := now.Add(1)
		for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
		}
		time.Sleep(50 * time.Millisecond)
		now.Add(-1)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"error":"invalid_client"}`)
	})
	c.timeout = time.Second
	i := c.Inspect(t.Context(), issuerURL)
	if err := i.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for n := range 20 {
		wait.Go(func() {
			l := realm.Login{IssuerURL: issuerURL, ClientID: fmt.Sprint("client-", n), ClientKey: check.NewSecret(fmt.Sprint("a-key-", n))}
			if v := i.Client(t.Context(), Question{Login: l, Depth: Full}).Credentials; v.Decision != Rejected {
				t.Errorf("client %d: %+v", n, v)
			}
		})
	}
	wait.Wait()
	if got := most.Load(); got != 2 {
		t.Errorf("%d requests at a time", got)
	}
}
