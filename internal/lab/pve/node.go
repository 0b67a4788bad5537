package pve

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"proxmox-realm/internal/lab/authority"
	"proxmox-realm/internal/lab/standin"
)

// Node describes one node of a cluster.
type Node struct {
	// Name is the node's name. The first is "pve" by default, the second "pve2", and so on.
	Name string
	// Address is the IP address that the cluster has of the node. By default it is the one that the node listens on:
	// 127.0.0.1 for the first, 127.0.0.2 for the second, and so on, all with the same port.
	Address string
	// Zone is the name of the node's time zone in the IANA database; empty means UTC.
	Zone string
	// Ahead is how far the node's clock is ahead of the real time.
	Ahead time.Duration
	// Certificate is a certificate of the node's own (pveproxy-ssl.pem), which it serves instead of the cluster's.
	Certificate *tls.Certificate
	// Off says that the node is switched off.
	Off bool
}

// node is a node of a running server. Its address does not change while it is off.
type node struct {
	Node
	srv     *Server
	id      int    // from 1
	listen  string // host and port
	pair    tls.Certificate
	log     standin.Journal
	daemon  int      // process id of pvedaemon
	workers chan int // process ids of its idle workers
	proxy   int      // process id of pveproxy's worker

	mu       sync.Mutex
	listener *standin.Listener // nil while the node is off
	missed   bool              // another node has waited for this one since it is off
}

// startNodes prepares the nodes and starts those that are on.
func (s *Server) startNodes() error {
	described := s.opts.Nodes
	if len(described) == 0 {
		described = []Node{{}}
	}
	host, port, err := net.SplitHostPort(cmp.Or(s.opts.Listen, "127.0.0.1:0"))
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	for i, d := range described {
		n := &node{Node: d, srv: s, id: i + 1, daemon: 1000 + 100*i, proxy: 1050 + 100*i, workers: make(chan int, s.opts.Workers)}
		n.Name = cmp.Or(n.Name, "pve"+strings.TrimLeft(strconv.Itoa(i+1), "1"))
		if n.log.Zone, err = time.LoadLocation(cmp.Or(n.Zone, "UTC")); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
		n.log.Host = n.Name
		if i > 0 {
			host = "127.0.0." + strconv.Itoa(i+1)
		}
		n.listen = net.JoinHostPort(host, port)
		n.Address = cmp.Or(n.Address, host)
		if err := n.certify(host); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
		s.nodes = append(s.nodes, n)
		if err := n.start(); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
		_, port, _ = net.SplitHostPort(n.listen)
		if d.Off {
			n.stop()
		}
	}
	s.updateQuorum()
	return nil
}

// certify gives the node its certificate of the cluster, and chooses the one that it serves.
func (n *node) certify(host string) (err error) {
	if n.id == 1 && len(n.srv.opts.Certificate.Certificate) > 0 {
		n.pair = n.srv.opts.Certificate
	} else {
		names := slices.Compact(slices.Sorted(slices.Values([]string{"127.0.0.1", "::1", "localhost", host, n.Address, n.Name})))
		if n.pair, err = n.srv.opts.Authority.Issue(authority.Valid, names...); err != nil {
			return err
		}
	}
	return nil
}

// served is the certificate that clients see.
func (n *node) served() *tls.Certificate {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.Certificate != nil {
		return n.Certificate
	}
	return &n.pair
}

// start listens and starts the daemons.
func (n *node) start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	listener, err := n.srv.Listen(n.listen, idleTimeout, n.served, func(r *http.Request) *standin.Answer { return n.srv.serve(n, r) })
	if err != nil {
		return err
	}
	n.listener, n.listen, n.missed = listener, listener.Host, false
	n.write(n.daemon, "starting server")
	n.write(n.daemon, fmt.Sprintf("starting %d worker(s)", cap(n.workers)))
	for i := range cap(n.workers) {
		worker := n.daemon + 1 + i
		n.write(n.daemon, fmt.Sprintf("worker %d started", worker))
		select {
		case n.workers <- worker:
		default: // they work on since the last start
		}
	}
	return nil
}

// stop closes the listener and the connections.
func (n *node) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listener != nil {
		n.listener.Close()
		n.listener = nil
	}
}

// on says whether the node runs.
func (n *node) on() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.listener != nil
}

// now is the node's own time, in its zone.
func (n *node) now() time.Time { return n.srv.opts.Now().Add(n.Ahead).In(n.log.Zone) }

// write logs a message of pvedaemon.
func (n *node) write(pid int, message string) {
	n.log.Add(Line{Time: n.now(), Process: "pvedaemon", PID: pid, Message: fileBytes(message)})
}

// unreachable is the answer of another node about this one, which is off. The first time, that node waits.
func (n *node) unreachable() *standin.Answer {
	n.mu.Lock()
	missed := n.missed
	n.missed = true
	n.mu.Unlock()
	if missed {
		return plain(595, "No route to host", "")
	}
	a := plain(595, "Connection timed out", "")
	a.Wait = n.srv.opts.NodeTimeout
	return a
}

// node finds a node by its name; "localhost" is the node that was asked.
func (s *Server) node(name string, asked *node) *node {
	if name == "localhost" {
		return asked
	}
	for _, n := range s.nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// SetNode switches a node on or off. While most nodes are off, the cluster has no quorum.
func (s *Server) SetNode(name string, on bool) error {
	n := s.node(name, nil)
	if n == nil {
		return fmt.Errorf("there is no node %s", name)
	}
	if !on {
		n.stop()
	} else if !n.on() {
		if err := n.start(); err != nil {
			return err
		}
	}
	s.updateQuorum()
	return nil
}

// SetCertificate gives a node a certificate of its own, or takes it away if certificate is nil.
func (s *Server) SetCertificate(name string, certificate *tls.Certificate) error {
	n := s.node(name, nil)
	if n == nil {
		return fmt.Errorf("there is no node %s", name)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Certificate = certificate
	return nil
}

// NodeURL is the origin of a node, such as https://127.0.0.2:41235, or "" if there is none of that name.
func (s *Server) NodeURL(name string) string {
	if n := s.node(name, nil); n != nil {
		return "https://" + n.listen
	}
	return ""
}

// updateQuorum follows from the nodes that are on, and from SetQuorum.
func (s *Server) updateQuorum() {
	on := 0
	for _, n := range s.nodes {
		if n.on() {
			on++
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	has := !s.noQuorum && 2*on > len(s.nodes)
	select {
	case <-s.quorum:
		if !has {
			s.quorum = make(chan struct{})
		}
	default:
		if has {
			close(s.quorum)
		}
	}
}

// SetQuorum says whether the cluster has quorum, as far as its nodes are on. Without it every write fails, after it has
// waited for Options.LockTimeout.
func (s *Server) SetQuorum(ok bool) {
	s.mu.Lock()
	s.noQuorum = !ok
	s.mu.Unlock()
	s.updateQuorum()
}

// quorate says whether the cluster has quorum.
func (s *Server) quorate() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.quorum:
		return true
	default:
		return false
	}
}
