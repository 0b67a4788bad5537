package proxmox_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/lab/authority"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/proxmox"
)

func TestTrust(t *testing.T) {
	ca, err := authority.New()
	if err != nil {
		t.Fatal(err)
	}
	issue := func(kind authority.Kind, hosts ...string) tls.Certificate {
		cert, err := ca.Issue(kind, hosts...)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	valid, expired, early := issue(authority.Valid, "127.0.0.1"), issue(authority.Expired, "127.0.0.1"), issue(authority.NotYetValid, "127.0.0.1")
	pinOf := func(c tls.Certificate) config.Fingerprint { return sha256.Sum256(c.Certificate[0]) }
	another := config.Fingerprint{0xAB}
	both := func(*x509.CertPool) *x509.CertPool { return ca.Pool() }
	none := func(*x509.CertPool) *x509.CertPool { return nil }
	for _, tt := range []struct {
		name string
		cert tls.Certificate
		ca   func(*x509.CertPool) *x509.CertPool
		pins []config.Fingerprint
		says string // "": trusted
		hint string
	}{
		{"CA", valid, both, nil, "", ""},
		{"system's CAs", valid, none, nil, "it was issued by an unknown authority", "set proxmox.fingerprints to " + pinOf(valid).String() + ", if a node prints the same"},
		{"another CA", issue(authority.UnknownAuthority, "127.0.0.1"), both, nil, "it was issued by an unknown authority", ", if a node prints the same, and remove proxmox.ca_file"},
		{"expired", expired, both, nil, "it was valid until", "pvecm updatecerts --force"},
		{"not valid yet", early, both, nil, "it is valid only from", "correct the clock of this machine"},
		{"no name", issue(authority.Valid), both, nil, "it has no name", "and remove proxmox.ca_file"},
		{"another name", issue(authority.Valid, "192.0.2.1", "pve1.example.com"), both, nil, "it is for other names: pve1.example.com, 192.0.2.1", "set proxmox.endpoints to one of these names"},
		{"pin", valid, none, []config.Fingerprint{pinOf(valid)}, "", ""},
		{"one pin of two", valid, none, []config.Fingerprint{{1}, pinOf(valid)}, "", ""},
		{"pin of an expired certificate", expired, none, []config.Fingerprint{pinOf(expired)}, "", ""},
		{"another pin", valid, none, []config.Fingerprint{another}, "matches no configured fingerprint", "add " + pinOf(valid).String() + " to proxmox.fingerprints, if a node"},
		{"CA and pin", valid, both, []config.Fingerprint{pinOf(valid)}, "", ""},
		{"CA and another pin", valid, both, []config.Fingerprint{another}, "matches no configured fingerprint", ", if a node prints the same"},
		{"pin, and expired under the CA", expired, both, []config.Fingerprint{pinOf(expired)}, "it was valid until", "remove proxmox.ca_file: the fingerprint suffices"},
	} {
		s, c := cluster(t, 2, func(o *setup) { o.CA, o.Fingerprints = tt.ca(o.CA), tt.pins })
		if err := s.SetCertificate("pve", &tt.cert); err != nil {
			t.Fatal(err)
		}
		_, err := c.Realm(t.Context(), "authelia")
		if tt.says == "" {
			if served, ok := c.Served(); err != nil || !ok || served != pinOf(tt.cert) {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		e := isKind(t, tt.name, err, proxmox.Certificate)
		if e.Fingerprint != pinOf(tt.cert).String() || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), e.Fingerprint+": compare with `pvenode cert info`") || !strings.Contains(hintOf(err), tt.hint) {
			t.Errorf("%s: %v; %s", tt.name, err, hintOf(err))
		}
		if len(s.Requests()) != 0 {
			t.Errorf("%s: a request was sent, or another node asked in silence", tt.name)
		}
	}
	insecure, c := cluster(t, 1, func(o *setup) { o.CA, o.Insecure = nil, true })
	if err := insecure.SetCertificate("pve", &expired); err != nil {
		t.Fatal(err)
	}
	read(t, c)
}

// Proxmox closes the connection after an error. The next handshake resumes the session, and the pin holds there too.
func TestPinHoldsOnResumption(t *testing.T) {
	s := startVE(t, pve.Options{})
	first := connect(t, s, pve.TokenRoot)
	read(t, first)
	pin, _ := first.Served()
	s.Reset()
	c := connect(t, s, pve.TokenRoot, func(o *setup) { o.CA, o.Fingerprints = nil, []config.Fingerprint{pin} })
	for range 3 {
		read(t, c) // there is none, which is status 500
	}
	if h := s.Handshakes(); h.Full != 1 || h.Resumed != 2 || c.Requests() != 3 {
		t.Errorf("%+v, %d requests", h, c.Requests())
	}
}
