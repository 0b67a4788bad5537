package issuer

import (
	"cmp"
	"net/http"
	"time"
)

// Fault is a fault of the issuer at one path. The fields that are set apply, in this order.
type Fault struct {
	Times   int           // the number of requests that it hits; 0 means all until it is cleared
	Delay   time.Duration // waits before all else
	Hang    bool          // does not answer until the client leaves or the server closes
	Reset   bool          // close the connection without an answer
	Status  int           // answers with this status; 200 if only Header or Body is set
	Header  http.Header
	Body    []byte
	Handler http.HandlerFunc // answers instead, for example with an endless or truncated body
}

// takeFault returns the fault that a request to path meets. The caller holds the lock.
func (s *Server) takeFault(path string) *Fault {
	for _, key := range []string{path, ""} {
		faults := s.faults[key]
		if len(faults) == 0 {
			continue
		}
		fault := faults[0]
		if fault.Times > 0 {
			if fault.Times--; fault.Times == 0 {
				s.faults[key] = faults[1:]
			}
		}
		return fault
	}
	return nil
}

// answer answers a request with the fault, and reports whether it did.
func (f *Fault) answer(w http.ResponseWriter, r *http.Request, closing <-chan struct{}) bool {
	select {
	case <-time.After(f.Delay):
	case <-closing:
	}
	switch {
	case f.Hang:
		select {
		case <-r.Context().Done():
		case <-closing:
		}
		panic(http.ErrAbortHandler) // a return would answer with an empty 200
	case f.Reset:
		panic(http.ErrAbortHandler)
	case f.Handler != nil:
		f.Handler(w, r)
		return true
	case f.Status == 0 && f.Header == nil && f.Body == nil:
		return false
	}
	for name, values := range f.Header {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	w.WriteHeader(cmp.Or(f.Status, http.StatusOK))
	_, _ = w.Write(f.Body)
	return true
}
