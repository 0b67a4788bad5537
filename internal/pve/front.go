package pve

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// Front is what answers at an address that browsers open, as seen by TLS handshakes from here. Nothing is sent on them.
type Front struct {
	Nodes   int  // different certificates that were presented: each node has its own; 0: none was seen
	Refused bool // nothing listens there
}

// frontTimeout bounds one handshake: what browsers open need not be reachable from here.
const frontTimeout = 3 * time.Second

// maxFronts is how many addresses of a name are looked at.
const maxFronts = 8

// Look tells what answers at an origin such as https://pve.example.com:8006. Each address of the name is asked
// once, and a single one so many times as attempts says, since a load balancer may lie behind it. What cannot be reached
// is left out: only what was seen is counted.
func Look(ctx context.Context, origin string, attempts int) Front {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return Front{}
	}
	addresses := resolve(ctx, u.Hostname())
	return look(ctx, u.Hostname(), portOf(u), addresses, attempts)
}

func resolve(ctx context.Context, host string) []netip.Addr {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}
	}
	ctx, cancel := context.WithTimeout(ctx, frontTimeout)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	return addresses[:min(len(addresses), maxFronts)]
}

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	return "443"
}

func look(ctx context.Context, host, port string, addresses []netip.Addr, attempts int) Front {
	if len(addresses) > 1 {
		attempts = 1
	}
	seen := map[[sha256.Size]byte]bool{}
	refused := 0
	for _, address := range addresses {
		for range attempts {
			digest, err := presented(ctx, host, net.JoinHostPort(address.Unmap().String(), port))
			if err != nil {
				if errors.Is(err, syscall.ECONNREFUSED) {
					refused++
				}
				break
			}
			seen[digest] = true
		}
	}
	return Front{Nodes: len(seen), Refused: refused > 0 && refused == len(addresses)}
}

// presented returns the digest of the certificate that is presented at an address. It is not verified, since nothing is
// sent there and nothing believed but that two of them differ.
func presented(ctx context.Context, host, address string) (digest [sha256.Size]byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, frontTimeout)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{ServerName: host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}} //nolint:gosec // see above
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return digest, err
	}
	defer func() { _ = conn.Close() }()
	encrypted, ok := conn.(*tls.Conn)
	if !ok || len(encrypted.ConnectionState().PeerCertificates) == 0 {
		return digest, errors.New("no certificate")
	}
	return sha256.Sum256(encrypted.ConnectionState().PeerCertificates[0].Raw), nil
}
