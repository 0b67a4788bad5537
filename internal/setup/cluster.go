package setup

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

// Cluster is what a cluster says of itself to somebody who sets it up.
type Cluster struct {
	Version realm.Version
	Name    string // "" if it is not known, or a node is in no cluster
	Nodes   []string
	// Endpoints are the addresses at which nodes answer over a trusted certificate, the given one first.
	Endpoints []config.Origin
	Silent    []string // nodes that have no such address
	// Front is the given address, if it is not that of a node: something that ends TLS, and sees the token, stands there.
	Front config.Origin
	// What verifies all endpoints: an authority in PEM, or else fingerprints. Without both, the system's authorities do.
	Authority    []byte
	Fingerprints []config.Fingerprint
}

// Survey looks at the cluster of a client. The client's one endpoint is trusted as p says; given is the authority of p in PEM. It
// fails with [check.NoQuorum] if the cluster cannot write.
func Survey(ctx context.Context, c *proxmox.Client, p config.Proxmox, given []byte, o proxmox.Options) (Cluster, error) {
	version, err := c.Version(ctx)
	if err != nil {
		return Cluster{}, err
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return Cluster{}, err
	}
	status, err := c.Cluster(ctx)
	switch {
	case check.CodeOf(err) == check.PermissionDenied: // a token that keeps realms sees names only
		status.Quorate = true
	case err != nil:
		return Cluster{}, err
	case !status.Quorate:
		return Cluster{}, check.Errorf(check.NoQuorum, "the cluster %s has no quorum, so it cannot write: nothing was made", status.Name).
			Try(realm.VE.Host().Run("shows which nodes are missing", "pvecm status"))
	}
	s := surveyor{client: c, proxmox: p, options: o, found: Cluster{Version: version, Name: status.Name}}
	s.locate(ctx, nodes, status)
	if err := s.trust(ctx, given); err != nil {
		return Cluster{}, err
	}
	return s.found, nil
}

// surveyor gathers what a survey finds.
type surveyor struct {
	client  *proxmox.Client
	proxmox config.Proxmox
	options proxmox.Options
	found   Cluster
	pins    []config.Fingerprint // of the endpoints that were found
}

// locate finds the addresses of the nodes.
func (s *surveyor) locate(ctx context.Context, nodes []proxmox.Node, status proxmox.Cluster) {
	given, local := s.proxmox.Endpoints[0], s.local(nodes, status)
	addresses := make([]config.Origin, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		s.found.Nodes = append(s.found.Nodes, n.Name)
		if n.Name == local {
			addresses[i] = given
			continue
		}
		all.Go(func() { addresses[i] = s.address(ctx, n, local, status) })
	}
	all.Wait()
	if local == "" {
		s.found.Front = given
	} else {
		s.found.Endpoints, s.pins = []config.Origin{given}, slices.Clone(s.proxmox.Fingerprints)
	}
	for i, n := range nodes {
		switch {
		case addresses[i] == "":
			s.found.Silent = append(s.found.Silent, n.Name)
		case !slices.Contains(s.found.Endpoints, addresses[i]):
			s.found.Endpoints = append(s.found.Endpoints, addresses[i])
			if pin, err := config.ParseFingerprint(realm.VE, n.Fingerprint); err == nil && !slices.Contains(s.pins, pin) {
				s.pins = append(s.pins, pin)
			}
		}
	}
	if len(s.found.Endpoints) == 0 {
		s.found.Endpoints, s.pins = []config.Origin{given}, s.proxmox.Fingerprints
	}
}

// local returns the node at the given address, by the certificate there or by its name or address; "" if none is there.
func (s *surveyor) local(nodes []proxmox.Node, status proxmox.Cluster) string {
	served, _ := s.client.Served()
	given, _ := url.Parse(string(s.proxmox.Endpoints[0]))
	for _, n := range nodes {
		if n.Fingerprint == served.String() {
			return n.Name
		}
	}
	for _, n := range nodes {
		first, _, _ := strings.Cut(given.Hostname(), ".")
		known := slices.ContainsFunc(status.Members, func(m proxmox.Member) bool { return m.Name == n.Name && m.Address == given.Hostname() })
		if n.Fingerprint == "" && len(nodes) == 1 || first == n.Name || known {
			return n.Name
		}
	}
	return ""
}

// address returns an address at which a node answers, and "" if there is none.
func (s *surveyor) address(ctx context.Context, n proxmox.Node, local string, status proxmox.Cluster) config.Origin {
	if !n.Online {
		return ""
	}
	given, _ := url.Parse(string(s.proxmox.Endpoints[0]))
	var hosts []string
	if rest, ok := strings.CutPrefix(given.Hostname(), local); ok && (rest == "" || rest[0] == '.') && local != "" {
		hosts = append(hosts, n.Name+rest)
	}
	for _, m := range status.Members {
		if m.Name == n.Name && m.Address != "" {
			hosts = append(hosts, m.Address)
		}
	}
	if certificates, err := s.client.Certificates(ctx, n.Name); err == nil && len(certificates) > 0 {
		for _, name := range certificates[len(certificates)-1].Names {
			if strings.HasPrefix(name, n.Name+".") {
				hosts = append([]string{name}, hosts...)
			}
		}
	}
	for _, host := range hosts {
		for _, port := range slices.Compact([]string{given.Port(), realm.VE.Port()}) { // a front may have a port of its own
			endpoint, err := config.ParseEndpoint(realm.VE, "https://"+net.JoinHostPort(host, port))
			if err == nil && s.answers(ctx, endpoint, s.trusting(n)) == nil {
				return endpoint
			}
		}
	}
	return ""
}

// trusting returns how the certificate of a node is verified.
func (s *surveyor) trusting(n proxmox.Node) config.Proxmox {
	p := s.proxmox
	if pin, err := config.ParseFingerprint(realm.VE, n.Fingerprint); err == nil && len(p.Fingerprints) > 0 {
		p.Fingerprints = []config.Fingerprint{pin}
	}
	return p
}

// patience is how long an address may take to answer.
const patience = 5 * time.Second

func (s *surveyor) answers(ctx context.Context, endpoint config.Origin, p config.Proxmox) error {
	p.Endpoints, p.Timeout = []config.Origin{endpoint}, patience
	_, err := proxmox.Reach(ctx, p, s.options)
	return err
}

// trust decides what verifies the endpoints: the authority that was given, or none if the system's do. With fingerprints it is the
// cluster's own authority if that verifies every endpoint.
func (s *surveyor) trust(ctx context.Context, given []byte) error {
	if len(s.proxmox.Fingerprints) == 0 {
		s.found.Authority = given
		return nil
	}
	s.found.Fingerprints = s.pins
	certificates, err := s.client.Certificates(ctx, "localhost")
	if err != nil || ctx.Err() != nil {
		return context.Cause(ctx) // the fingerprints stay
	}
	for _, c := range certificates {
		pool := x509.NewCertPool()
		if c.File != proxmox.AuthorityFile || !pool.AppendCertsFromPEM([]byte(c.PEM)) {
			continue
		}
		p := s.proxmox
		p.Fingerprints, p.CA = nil, pool
		if !slices.ContainsFunc(s.found.Endpoints, func(e config.Origin) bool { return s.answers(ctx, e, p) != nil }) {
			s.found.Authority, s.found.Fingerprints = []byte(c.PEM), nil
		}
	}
	return nil
}

// String describes the cluster in one line.
func (c Cluster) String() string {
	text := c.Version.Named()
	switch {
	case c.Name != "":
		text += fmt.Sprintf(", cluster %q, %s: %s", c.Name, check.Count(len(c.Nodes), "node", "nodes"), strings.Join(c.Nodes, ", "))
	case len(c.Nodes) > 0:
		text += ", node " + strings.Join(c.Nodes, ", ")
	}
	return text
}

// Fingerprint returns the fingerprint of a certificate that is not trusted; false for other errors.
func Fingerprint(err error) (fingerprint string, ok bool) {
	var e *proxmox.Error
	if errors.As(err, &e) && e.Kind == proxmox.Certificate {
		return e.Fingerprint, e.Fingerprint != ""
	}
	return "", false
}
