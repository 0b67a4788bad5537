package proxmox_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

// node is a listener that writes a test's answers byte for byte. The server of net/http can neither set a
// reason phrase nor send broken answers.
type node struct {
	URL  config.Origin
	Cert tls.Certificate

	listener net.Listener
	handle   func(*call) answer
	handled  sync.WaitGroup

	mu         sync.Mutex
	calls      []*call
	handshakes int
	resumed    int
	conns      map[net.Conn]bool
}

// call is a request that a node received.
type call struct {
	*http.Request
	Body []byte
	N    int // from 1
}

// answer is the answer of a node. Raw overrides all other fields.
type answer struct {
	Status int
	Reason string
	Type   string // "" means Proxmox's JSON, "-" none
	Header string // lines that end with CRLF
	Body   string
	Raw    string // instead of all of the above
	Drop   bool   // close without an answer
	Cut    int    // omit so many bytes of the body, then close
	Open   bool   // keep the connection alive
	Wait   <-chan struct{}
}

func ok(data string) answer {
	return answer{Status: 200, Reason: "OK", Body: `{"data":` + data + `}`, Open: true}
}
func fails(status int, reason string) answer { return answer{Status: status, Reason: reason} }

var (
	authority   = sync.OnceValue(func() tls.Certificate { return certify(tls.Certificate{}, func(*x509.Certificate) {}) })
	nodeCert    = sync.OnceValue(func() tls.Certificate { return certify(authority(), func(*x509.Certificate) {}) })
	authorities = sync.OnceValue(func() *x509.CertPool {
		pool := x509.NewCertPool()
		pool.AddCert(authority().Leaf)
		return pool
	})
)

func certify(by tls.Certificate, change func(*x509.Certificate)) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "node"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, DNSNames: []string{"localhost"},
		BasicConstraintsValid: true,
	}
	parent, signer := template, any(key)
	if by.PrivateKey == nil {
		template.IsCA, template.KeyUsage, template.Subject.CommonName = true, x509.KeyUsageCertSign, "authority"
	} else {
		parent, signer = by.Leaf, by.PrivateKey
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func pinOf(c tls.Certificate) config.Fingerprint { return sha256.Sum256(c.Certificate[0]) }

func start(t *testing.T, handle func(*call) answer) *node {
	t.Helper()
	return startAt(t, "127.0.0.1:0", nodeCert(), handle)
}

func startAt(t *testing.T, address string, cert tls.Certificate, handle func(*call) answer) *node {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{listener: listener, handle: handle, URL: config.Origin("https://" + listener.Addr().String()), Cert: cert, conns: map[net.Conn]bool{}}
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	n.handled.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			n.mu.Lock()
			n.conns[conn] = true
			n.mu.Unlock()
			n.handled.Go(func() { n.serve(tls.Server(conn, config), conn) })
		}
	})
	t.Cleanup(n.close)
	return n
}

func (n *node) close() {
	_ = n.listener.Close()
	n.mu.Lock()
	for conn := range n.conns {
		_ = conn.Close()
	}
	n.mu.Unlock()
	n.handled.Wait()
}

func (n *node) serve(conn *tls.Conn, raw net.Conn) {
	defer func() { _ = raw.Close() }()
	if conn.Handshake() != nil {
		return
	}
	n.mu.Lock()
	n.handshakes++
	if conn.ConnectionState().DidResume {
		n.resumed++
	}
	n.mu.Unlock()
	reader := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		n.mu.Lock()
		c := &call{Request: req, Body: body, N: len(n.calls) + 1}
		n.calls = append(n.calls, c)
		n.mu.Unlock()
		a := n.handle(c)
		if a.Wait != nil {
			<-a.Wait
		}
		if a.Drop {
			return
		}
		_, _ = conn.Write(a.bytes())
		if a.Cut > 0 || !a.Open {
			_ = conn.CloseWrite()
			return
		}
	}
}

func (a answer) bytes() []byte {
	if a.Raw != "" {
		return []byte(a.Raw)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nServer: pve-api-daemon/3.0\r\nDate: %s\r\n", a.Status, a.Reason, time.Now().UTC().Format(http.TimeFormat))
	switch a.Type {
	case "":
		b.WriteString("Content-Type: application/json;charset=UTF-8\r\n")
	case "-":
	default:
		b.WriteString("Content-Type: " + a.Type + "\r\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n", len(a.Body))
	if !a.Open {
		b.WriteString("Connection: close\r\nConnection: close\r\n") // both, as a proxied answer has them
	}
	b.WriteString(a.Header + "\r\n")
	b.WriteString(a.Body[:len(a.Body)-a.Cut])
	return b.Bytes()
}

func (n *node) seen() []*call {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls
}

func (n *node) shaken() (all, resumed int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.handshakes, n.resumed
}

const (
	tokenID     = "realmadm@pve!agent"
	tokenSecret = "7c5a3d1e-9b1f-4f0e-8f3b-2d1c0b9a8f7e"
)

// setup is what a client is made from.
type setup struct {
	config.Proxmox
	proxmox.Options
}

// tokenOf parses a token.
func tokenOf(t *testing.T, full string) config.Token {
	t.Helper()
	token, err := config.ParseToken(realm.VE, full)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func connect(t *testing.T, change func(*setup), nodes ...*node) *proxmox.Client {
	t.Helper()
	o := setup{
		Proxmox: config.Proxmox{Token: tokenOf(t, tokenID+"="+tokenSecret), CA: authorities(), Timeout: time.Minute},
		Options: proxmox.Options{Cleaner: check.NewCleaner()},
	}
	for _, n := range nodes {
		o.Endpoints = append(o.Endpoints, n.URL)
	}
	if change != nil {
		change(&o)
	}
	c, err := proxmox.New(o.Proxmox, o.Options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// inMemory is a success with that body, without a connection.
func inMemory(req *http.Request, body []byte) *http.Response {
	return &http.Response{
		StatusCode: http.StatusOK, Status: "200 OK", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: http.Header{"Content-Type": {"application/json;charset=UTF-8"}}, Body: io.NopCloser(bytes.NewReader(body)),
	}
}
