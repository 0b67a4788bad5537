package issuer

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// However many questions there are at once, the issuer sees two requests at a time. Waiting for one's turn is not taken for
// an issuer that does not answer.
func TestAnIssuerIsAskedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{Timeout: 1500 * time.Millisecond})
		defer c.Close()
		c.verified.DialContext = func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() { // answers each request within a second
				for reader := bufio.NewReader(far); ; {
					if _, err := http.ReadRequest(reader); err != nil {
						return
					}
					time.Sleep(time.Second)
					_, _ = io.WriteString(far, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
				}
			}()
			return near, nil
		}
		i := &Inspection{inspector: c}
		began := time.Now()
		var wait sync.WaitGroup
		for range 20 {
			wait.Go(func() {
				if a := i.send(t.Context(), noRedirect, http.MethodGet, "http://auth.example.test/token", nil, ""); a.status != http.StatusUnauthorized {
					t.Errorf("%d, %v", a.status, a.err)
				}
			})
		}
		wait.Wait()
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("20 answers took %s", took)
		}
	})
}
