package pve

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strconv"
	"strings"
)

// clusterEndpoints are the methods that describe the nodes.
func (s *Server) clusterEndpoints() []*endpoint {
	node := schema{"node": &anyString}
	audit := s.need("/", "Sys.Audit")
	return []*endpoint{
		{method: "GET", path: "/version", all: true, run: s.readVersion},
		{method: "GET", path: "/nodes", all: true, run: s.listNodes},
		{method: "GET", path: "/nodes/{node}/version", all: true, params: node, run: s.readVersion},
		{method: "GET", path: "/nodes/{node}/certificates/info", all: true, params: node, run: s.listCertificates},
		{method: "GET", path: "/cluster/status", proxied: true, allowed: audit, run: s.readClusterStatus},
		{method: "GET", path: "/cluster/config/nodes", allowed: audit, run: s.listClusterNodes},
		{method: "GET", path: "/cluster/config/join", allowed: audit, run: s.readJoin, params: schema{"node": anyString.opt()}},
	}
}

func (s *Server) readVersion(*call) (any, error) { return versionData(s.opts.Version), nil }

func (s *Server) listNodes(c *call) (any, error) {
	st := s.view()
	list := []any{}
	for _, n := range s.nodes {
		entry := map[string]any{
			"id": "node/" + n.Name, "node": n.Name, "type": "node", "level": "", "status": "online",
			"ssl_fingerprint": fingerprint(n.served().Certificate[0]),
		}
		if !n.on() {
			entry["status"] = "offline"
		} else if s.has(st, c.user, "/nodes/"+n.Name, "Sys.Audit") {
			for k, v := range map[string]any{ // as the recorded nodes say
				"cpu": 0.01, "maxcpu": 4, "mem": 2147483648, "maxmem": 8589934592, "disk": 4294967296, "maxdisk": 34359738368, "uptime": 86400,
			} {
				entry[k] = v
			}
		}
		list = append(list, entry)
	}
	return list, nil
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return strings.ToUpper(strings.ReplaceAll(fmt.Sprintf("% x", sum[:]), " ", ":"))
}

// single says whether the node belongs to no cluster.
func (s *Server) single() bool { return len(s.nodes) == 1 }

func (s *Server) readClusterStatus(c *call) (any, error) {
	list := []any{}
	if !s.single() {
		list = append(list, map[string]any{
			"id": "cluster", "type": "cluster", "name": s.opts.Cluster, "nodes": len(s.nodes), "version": len(s.nodes),
			"quorate": bit(s.quorate()),
		})
	}
	for _, n := range s.nodes {
		id := n.id
		if s.single() {
			id = 0
		}
		list = append(list, map[string]any{
			"id": "node/" + n.Name, "type": "node", "name": n.Name, "nodeid": id, "level": "", "ip": n.Address,
			"local": bit(n == c.asked), "online": bit(n.on()),
		})
	}
	return list, nil
}

func (s *Server) listClusterNodes(*call) (any, error) {
	list := []any{}
	if s.single() {
		return list, nil
	}
	for _, n := range s.nodes {
		list = append(list, map[string]any{
			"name": n.Name, "node": n.Name, "nodeid": strconv.Itoa(n.id), "quorum_votes": "1", "ring0_addr": n.Address,
		})
	}
	return list, nil
}

func (s *Server) readJoin(c *call) (any, error) {
	if s.single() {
		return nil, &apiError{status: 424, msg: "node is not in a cluster, no join info available!\n"}
	}
	list := []any{}
	for _, n := range s.nodes {
		list = append(list, map[string]any{
			"name": n.Name, "nodeid": strconv.Itoa(n.id), "quorum_votes": "1", "ring0_addr": n.Address,
			"pve_addr": n.Address, "pve_fp": fingerprint(n.served().Certificate[0]),
		})
	}
	digest := sha1.Sum([]byte(s.opts.Cluster))
	return map[string]any{
		"config_digest": hex.EncodeToString(digest[:]), "nodelist": list, "preferred_node": c.asked.Name,
		"totem": map[string]any{
			"cluster_name": s.opts.Cluster, "config_version": strconv.Itoa(len(s.nodes)), "interface": map[string]any{"0": map[string]any{"linknumber": "0"}},
			"ip_version": "ipv4-6", "link_mode": "passive", "secauth": "on", "version": "2",
		},
	}, nil
}

// listCertificates lists the cluster's CA, the node's certificate by it, and the node's own, if it has one.
func (s *Server) listCertificates(c *call) (any, error) {
	ca, _ := pem.Decode(s.opts.Authority.PEM())
	type file struct {
		name string
		der  []byte
	}
	files := []file{{"pve-root-ca.pem", ca.Bytes}, {"pve-ssl.pem", c.node.pair.Certificate[0]}}
	if own := c.node.served(); own != &c.node.pair {
		files = append(files, file{"pveproxy-ssl.pem", own.Certificate[0]})
	}
	list := []any{}
	for _, f := range files {
		cert, err := x509.ParseCertificate(f.der)
		if err != nil {
			return nil, dief("error parsing certificate: %v", err)
		}
		san := []any{}
		for _, ip := range cert.IPAddresses {
			san = append(san, ip.String())
		}
		for _, name := range cert.DNSNames {
			san = append(san, name)
		}
		list = append(list, map[string]any{
			"filename": f.name, "fingerprint": fingerprint(f.der), "subject": "/CN=" + cert.Subject.CommonName, "issuer": "/CN=" + cert.Issuer.CommonName,
			"notbefore": cert.NotBefore.Unix(), "notafter": cert.NotAfter.Unix(), "san": san,
			"pem":             string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.der})),
			"public-key-type": "id-ecPublicKey", "public-key-bits": 256, // as those of the lab's authority
		})
	}
	return list, nil
}
