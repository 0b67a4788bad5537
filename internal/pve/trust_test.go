package pve_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"

	"proxmox-realm/internal/pve"
)

func colons(hex string) string {
	var parts []string
	for i := 0; i < len(hex); i += 2 {
		parts = append(parts, hex[i:i+2])
	}
	return strings.Join(parts, ":")
}

func TestTrust(t *testing.T) {
	right := func(*call) answer { return byID(t, "read").answer() }
	expired := certify(authority(), func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	elsewhere := certify(authority(), func(c *x509.Certificate) {
		c.IPAddresses, c.DNSNames = []net.IP{net.IPv4(192, 0, 2, 1)}, []string{"pve1.example.com"}
	})
	for _, tt := range []struct {
		name   string
		cert   tls.Certificate
		change func(*pve.Options)
		says   string // "": trusted
	}{
		{"CA", nodeCert(), nil, ""},
		{"system's CAs", nodeCert(), func(o *pve.Options) { o.CA = nil }, "its issuer is not known here"},
		{"another CA", certify(tls.Certificate{}, func(*x509.Certificate) {}), nil, "its issuer is not known here"},
		{"expired", expired, nil, "it is valid from"},
		{"another name", elsewhere, nil, "it is for other names: pve1.example.com, 192.0.2.1"},
		{"pin", nodeCert(), func(o *pve.Options) { o.CA, o.Fingerprints = nil, []string{colons(pinOf(nodeCert()))} }, ""},
		{"pin without colons, lower case", nodeCert(), func(o *pve.Options) {
			o.CA, o.Fingerprints = nil, []string{strings.Repeat("00", 32), "sha256:" + strings.ToLower(pinOf(nodeCert()))}
		}, ""},
		{"pin of an expired certificate for another name", expired, func(o *pve.Options) { o.CA, o.Fingerprints = nil, []string{pinOf(expired)} }, ""},
		{"pin of the CA", nodeCert(), func(o *pve.Options) { o.CA, o.Fingerprints = nil, []string{pinOf(authority())} }, "none of the pinned ones"},
		{"another pin", nodeCert(), func(o *pve.Options) { o.CA, o.Fingerprints = nil, []string{strings.Repeat("AB", 32)} }, "none of the pinned ones"},
		{"CA and pin", nodeCert(), func(o *pve.Options) { o.Fingerprints = []string{pinOf(nodeCert())} }, ""},
		{"CA and another pin", nodeCert(), func(o *pve.Options) { o.Fingerprints = []string{strings.Repeat("AB", 32)} }, "none of the pinned ones"},
		{"pin, and expired under the CA", expired, func(o *pve.Options) { o.Fingerprints = []string{pinOf(expired)} }, "it is valid from"},
		{"insecure", expired, func(o *pve.Options) { o.CA, o.Insecure = nil, true }, ""},
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
			var e *pve.Error
			var f *check.Error
			if !errors.As(err, &e) || !errors.As(err, &f) || e.Kind != pve.Certificate || f.Code != check.UnknownCertificate {
				t.Fatalf("%v", err)
			}
			if e.Fingerprint != colons(pinOf(tt.cert)) || !strings.Contains(f.Message, tt.says) || !strings.Contains(f.Message, e.Fingerprint+": compare with `pvenode cert info`") || f.Remedy.String() == "" {
				t.Errorf("%s; %s", f.Message, f.Remedy.String())
			}
			if len(n.seen()) != 0 || len(other.seen()) != 0 {
				t.Error("a request was sent, or another node asked in silence")
			}
		})
	}
}

// Writes close the connection; the next handshake resumes the session, and the pin holds there too.
func TestPinHoldsOnResumption(t *testing.T) {
	n := start(t, func(*call) answer { a := byID(t, "read").answer(); a.Open = false; return a })
	c := connect(t, func(o *pve.Options) { o.CA, o.Fingerprints = nil, []string{pinOf(nodeCert())} }, n)
	for range 3 {
		if _, err := c.Realm(t.Context(), "authelia"); err != nil {
			t.Fatal(err)
		}
	}
	all, resumed := n.shaken()
	if s := c.Stats(); all != 3 || resumed != 2 || s.Handshakes != 3 || s.Resumed != 2 || s.Requests != 3 {
		t.Errorf("%d handshakes, %d resumed, %+v", all, resumed, s)
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	good := func() pve.Options {
		return pve.Options{Endpoints: []string{"https://pve1.example.com:8006"}, Token: check.NewSecret(tokenID + "=" + tokenSecret)}
	}
	for name, change := range map[string]func(*pve.Options){
		"no endpoint":             func(o *pve.Options) { o.Endpoints = nil },
		"plain http":              func(o *pve.Options) { o.Endpoints = []string{"http://pve1.example.com:8006"} },
		"a bare host":             func(o *pve.Options) { o.Endpoints = []string{"pve1.example.com"} },
		"a path":                  func(o *pve.Options) { o.Endpoints = []string{"https://pve1.example.com:8006/api2"} },
		"a user":                  func(o *pve.Options) { o.Endpoints = []string{"https://user:" + tokenSecret + "@pve1.example.com"} },
		"a second one":            func(o *pve.Options) { o.Endpoints = append(o.Endpoints, "https://") },
		"CA without certificates": func(o *pve.Options) { o.CA = []byte("nothing") },
		"short fingerprint":       func(o *pve.Options) { o.Fingerprints = []string{"AB:CD"} },
		"SHA-1":                   func(o *pve.Options) { o.Fingerprints = []string{strings.Repeat("AB", 20)} },
		"insecure and CA":         func(o *pve.Options) { o.Insecure, o.CA = true, authorityFile() },
		"no credentials":          func(o *pve.Options) { o.Token = check.Secret{} },
		"token and user":          func(o *pve.Options) { o.Username, o.Password = "root@pam", check.NewSecret(tokenSecret) },
		"token without id":        func(o *pve.Options) { o.Token = check.NewSecret("root@pam=" + tokenSecret) },
		"token without realm":     func(o *pve.Options) { o.Token = check.NewSecret("root!x=" + tokenSecret) },
		"token without secret":    func(o *pve.Options) { o.Token = check.NewSecret("root@pam!x=") },
		"token with a prefix":     func(o *pve.Options) { o.Token = check.NewSecret("PVEAPIToken= root@pam!x=" + tokenSecret) },
		"token with a colon":      func(o *pve.Options) { o.Token = check.NewSecret("root@pam!x:" + tokenSecret) },
		"token of two lines":      func(o *pve.Options) { o.Token = check.NewSecret("root@pam!x=" + tokenSecret + "\nX: y") },
		"quoted token":            func(o *pve.Options) { o.Token = check.NewSecret(`"root@pam!x=` + tokenSecret + `"`) },
		"empty token":             func(o *pve.Options) { o.Token = check.NewSecret("") },
		"user without realm": func(o *pve.Options) {
			o.Token, o.Username, o.Password = check.Secret{}, "root", check.NewSecret(tokenSecret)
		},
		"user without password": func(o *pve.Options) { o.Token, o.Username = check.Secret{}, "root@pam" },
	} {
		o := good()
		change(&o)
		c, err := pve.New(o)
		var f *check.Error
		if c != nil || !errors.As(err, &f) || f.Code != check.Config || f.Remedy.String() == "" {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if strings.Contains(f.Message+f.Remedy.String(), tokenSecret) {
			t.Errorf("%s: shows the secret", name)
		}
	}
	if c, err := pve.New(good()); err != nil || c.Identity() != tokenID {
		t.Errorf("%v", err)
	}
}

// Another service on the port is named as such, in words and with a hint, not in those of net/http.
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
	c, err := pve.New(pve.Options{
		Endpoints: []string{"https://" + listener.Addr().String()}, CA: authorityFile(), Token: check.NewSecret(tokenID + "=" + tokenSecret),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Realm(t.Context(), "authelia")
	var f *check.Error
	if !errors.As(err, &f) || f.Code != check.Unreachable || !strings.HasSuffix(f.Message, "no HTTP that could be read") || !strings.Contains(f.Remedy.String(), "proxmox.endpoints") {
		t.Errorf("%+v", f)
	}
}

func TestAnAddressWithAZone(t *testing.T) {
	c, err := pve.New(pve.Options{Endpoints: []string{"https://[fe80::1%25LO]:1"}, Token: check.NewSecret(tokenID + "=" + tokenSecret)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err = c.Realm(t.Context(), "authelia"); check.CodeOf(err) != check.Unreachable {
		t.Errorf("%v", err)
	}
}
