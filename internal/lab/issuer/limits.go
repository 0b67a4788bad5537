package issuer

import (
	"math"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/time/rate"
)

// Limit is how many failures a source address may have before it gets 429, and
// how long it takes until one is forgiven.
type Limit struct {
	Failures int
	Refill   time.Duration
}

// AutheliaLimits returns the limits of Authelia 4.39.17 and later, which hold for each of its endpoints for programs: all
// buckets at once.
func AutheliaLimits() []Limit {
	return []Limit{{30, time.Minute}, {40, 2 * time.Minute}, {50, 10 * time.Minute}, {100, time.Hour}}
}

// limiter counts failures by endpoint and source address.
type limiter struct {
	limits  []Limit
	buckets map[[2]string][]*rate.Limiter
}

func (l *limiter) of(path, address string) []*rate.Limiter {
	key := [2]string{path, address}
	buckets := l.buckets[key]
	if buckets == nil {
		for _, limit := range l.limits {
			buckets = append(buckets, rate.NewLimiter(rate.Every(limit.Refill), limit.Failures))
		}
		if l.buckets == nil {
			l.buckets = map[[2]string][]*rate.Limiter{}
		}
		l.buckets[key] = buckets
	}
	return buckets
}

// limited says how long the source of a request has to wait; zero means not at all.
func (s *Server) limited(path string, r *http.Request) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.limits.limits) == 0 || !hasLimit(path) {
		return 0
	}
	now := s.now()
	var wait time.Duration
	for i, bucket := range s.limits.of(path, source(r)) {
		if missing := 1 - bucket.TokensAt(now); missing > 0 {
			wait = max(wait, time.Duration(missing*float64(s.limits.limits[i].Refill)))
		}
	}
	return wait
}

func (s *Server) countFailure(path string, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.limits.limits) == 0 || !hasLimit(path) {
		return
	}
	now := s.now()
	for _, bucket := range s.limits.of(path, source(r)) {
		bucket.AllowN(now, 1)
	}
}

func (s *Server) tooMany(w http.ResponseWriter, wait time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	writeJSON(w, http.StatusTooManyRequests, map[string]string{"status": "KO", "message": "Too Many Requests"})
}

func hasLimit(path string) bool {
	switch path {
	case pathToken, pathIntrospection, pathUserinfo, pathPushed:
		return true
	}
	return false
}

func source(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
