package proxmox_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/proxmox"
)

func TestTrust(t *testing.T) {
	right := func(*call) answer { return byID(t, "read").answer() }
	expired := certify(authority(), func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	early := certify(authority(), func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })
	nameless := certify(authority(), func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, nil })
	elsewhere := certify(authority(), func(c *x509.Certificate) {
		c.IPAddresses, c.DNSNames = []net.IP{net.IPv4(192, 0, 2, 1)}, []string{"pve1.example.com"}
	})
	for _, tt := range []struct {
		name   string
		cert   tls.Certificate
		change func(*setup)
		says   string // "": trusted
		hint   string
	}{
		{"CA", nodeCert(), nil, "", ""},
		{"system's CAs", nodeCert(), func(o *setup) { o.CA = nil }, "it was issued by an unknown authority", "set {proxmox.fingerprints} to " + pinOf(nodeCert()).String() + ", if a node prints the same"},
		{"another CA", certify(tls.Certificate{}, func(*x509.Certificate) {}), nil, "it was issued by an unknown authority", ", if a node prints the same, and remove {proxmox.ca_file}"},
		{"expired", expired, nil, "it was valid until", "pvecm updatecerts --force"},
		{"not valid yet", early, nil, "it is valid only from", "correct the clock of this machine"},
		{"no name", nameless, nil, "it has no name", "and remove {proxmox.ca_file}"},
		{"another name", elsewhere, nil, "it is for other names: pve1.example.com, 192.0.2.1", "set {proxmox.endpoints} to one of these names"},
		{"pin", nodeCert(), func(o *setup) { o.CA, o.Fingerprints = nil, []config.Fingerprint{pinOf(nodeCert())} }, "", ""},
		{"one pin of two", nodeCert(), func(o *setup) { o.CA, o.Fingerprints = nil, []config.Fingerprint{{1}, pinOf(nodeCert())} }, "", ""},
		{"pin of an expired certificate for another name", expired, func(o *setup) { o.CA, o.Fingerprints = nil, []config.Fingerprint{pinOf(expired)} }, "", ""},
		{"pin of the CA", nodeCert(), func(o *setup) { o.CA, o.Fingerprints = nil, []config.Fingerprint{pinOf(authority())} }, "matches no configured fingerprint", "add " + pinOf(nodeCert()).String() + " to {proxmox.fingerprints}, if a node"},
		{"another pin", nodeCert(), func(o *setup) { o.CA, o.Fingerprints = nil, []config.Fingerprint{{0xAB}} }, "matches no configured fingerprint", " to {proxmox.fingerprints}, if a node"},
		{"CA and pin", nodeCert(), func(o *setup) { o.Fingerprints = []config.Fingerprint{pinOf(nodeCert())} }, "", ""},
		{"CA and another pin", nodeCert(), func(o *setup) { o.Fingerprints = []config.Fingerprint{{0xAB}} }, "matches no configured fingerprint", ", if a node prints the same"},
		{"pin, and expired under the CA", expired, func(o *setup) { o.Fingerprints = []config.Fingerprint{pinOf(expired)} }, "it was valid until", "remove {proxmox.ca_file}: the fingerprint suffices"},
		{"insecure", expired, func(o *setup) { o.CA, o.Insecure = nil, true }, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, other := startAt(t, "127.0.0.1:0", tt.cert, right), start(t, right)
			c := connect(t, tt.change, n, other)
			_, err := c.Realm(t.Context(), "authelia")
			if tt.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var e *proxmox.Error
			var f *check.Error
			if !errors.As(err, &e) || !errors.As(err, &f) || e.Kind != proxmox.Certificate || f.Code != check.UnknownCertificate {
				t.Fatalf("%v", err)
			}
			if e.Fingerprint != pinOf(tt.cert).String() || !strings.Contains(f.Message, tt.says) || !strings.Contains(f.Message, e.Fingerprint+": compare with `pvenode cert info`") || !strings.Contains(string(f.Hint), tt.hint) {
				t.Errorf("%s; %s", f.Message, f.Hint)
			}
			if len(n.seen()) != 0 || len(other.seen()) != 0 {
				t.Error("a request was sent, or another node asked in silence")
			}
		})
	}
}

// Proxmox closes the connection after a write. The next handshake resumes the session, and the pin holds there too.
func TestPinHoldsOnResumption(t *testing.T) {
	n := start(t, func(*call) answer { a := byID(t, "read").answer(); a.Open = false; return a })
	c := connect(t, func(o *setup) { o.CA, o.Fingerprints = nil, []config.Fingerprint{pinOf(nodeCert())} }, n)
	for range 3 {
		if _, err := c.Realm(t.Context(), "authelia"); err != nil {
			t.Fatal(err)
		}
	}
	all, resumed := n.shaken()
	if all != 3 || resumed != 2 || c.Requests() != 3 {
		t.Errorf("%d handshakes, %d resumed, %d requests", all, resumed, c.Requests())
	}
}

func TestCredentialsThatAreMissing(t *testing.T) {
	endpoint := []config.Origin{"https://pve1.example.com:8006"}
	token := tokenOf(t, tokenID+"="+tokenSecret)
	root := config.UserID{Name: "root", Realm: "pam"}
	for name, p := range map[string]config.Proxmox{
		"no password": {Endpoints: endpoint, Username: root},
	} {
		var f *check.Error
		if c, err := proxmox.New(p, proxmox.Options{}); c != nil || !errors.As(err, &f) || f.Code != check.Config || len(f.Hint) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if c, err := proxmox.New(config.Proxmox{Endpoints: endpoint, Token: token}, proxmox.Options{}); err != nil || c.Identity() != tokenID {
		t.Errorf("%v", err)
	}
}

// The error for another service on the port has words of its own, not those of net/http.
func TestWhatIsNoHTTP(t *testing.T) {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{nodeCert()}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = conn.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n"))
			_ = conn.Close()
		}
	}()
	c := connect(t, func(o *setup) { o.Endpoints = []config.Origin{config.Origin("https://" + listener.Addr().String())} })
	_, err = c.Realm(t.Context(), "authelia")
	var f *check.Error
	if !errors.As(err, &f) || f.Code != check.Unreachable || !strings.HasSuffix(f.Message, "did not answer with valid HTTP") || !strings.Contains(f.Hint.For(check.Names{}), "proxmox.endpoints") {
		t.Errorf("%+v", f)
	}
}

func TestAnAddressWithAZone(t *testing.T) {
	c := connect(t, func(o *setup) { o.Endpoints = []config.Origin{"https://[fe80::1%25LO]:1"} })
	if _, err := c.Realm(t.Context(), "authelia"); check.CodeOf(err) != check.Unreachable {
		t.Errorf("%v", err)
	}
}
