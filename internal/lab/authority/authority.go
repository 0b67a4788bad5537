// Package authority is the lab's own certificate authority: it vouches for the
// stand-ins on loopback and makes certificates of every bad kind for the tests.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Kind says what is right or wrong with a certificate.
type Kind string

// The kinds that Issue makes.
const (
	Valid            Kind = "valid"             // 90 days, as public authorities give them
	ShortLived       Kind = "short-lived"       // six days in all, one gone
	Expiring         Kind = "expiring"          // 90 days in all, two left
	Expired          Kind = "expired"           // ended yesterday
	NotYetValid      Kind = "not-yet-valid"     // begins tomorrow
	OtherName        Kind = "other-name"        // for other.example.test alone
	UnknownAuthority Kind = "unknown-authority" // by an authority that nobody trusts
	SelfSigned       Kind = "self-signed"       // by itself
)

// CA is a certificate authority.
type CA struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// New makes an authority with a fresh key, valid for ten years from yesterday.
func New() (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "proxmox-realm lab CA"},
		NotBefore:             time.Now().AddDate(0, 0, -1),
		NotAfter:              time.Now().AddDate(10, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &CA{certificate: certificate, key: key}, nil
}

// Open reads the authority in dir (ca.pem, ca-key.pem), and makes one there where there is none.
func Open(dir string) (*CA, error) {
	certificateFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem")
	pair, err := tls.LoadX509KeyPair(certificateFile, keyFile)
	switch {
	case err == nil:
		key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("read %s: not an ECDSA key", keyFile)
		}
		return &CA{certificate: pair.Leaf, key: key}, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read the authority in %s: %w", dir, err)
	}

	ca, err := New()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	// The certificate comes last: a half-written authority is made again.
	if err := os.WriteFile(certificateFile, ca.PEM(), 0o644); err != nil {
		return nil, err
	}
	return ca, nil
}

// PEM returns the authority's certificate.
func (ca *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.certificate.Raw})
}

// Pool returns a pool that trusts this authority alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.certificate)
	return pool
}

// Issue makes a server certificate of a kind for names and addresses, which may be none.
func (ca *CA) Issue(kind Kind, hosts ...string) (tls.Certificate, error) {
	const day = 24 * time.Hour
	now := time.Now()
	begin, end := now.Add(-30*day), now.Add(60*day)
	switch kind {
	case ShortLived:
		begin, end = now.Add(-day), now.Add(5*day)
	case Expiring:
		begin, end = now.Add(-88*day), now.Add(2*day)
	case Expired:
		begin, end = now.Add(-90*day), now.Add(-day)
	case NotYetValid:
		begin, end = now.Add(day), now.Add(90*day)
	case OtherName:
		hosts = []string{"other.example.test"}
	case UnknownAuthority:
		stranger, err := New()
		if err != nil {
			return tls.Certificate{}, err
		}
		ca = stranger
	case Valid, SelfSigned:
	default:
		return tls.Certificate{}, fmt.Errorf("unknown kind of certificate %q", kind)
	}
	return ca.IssueBetween(kind, begin, end, hosts...)
}

// IssueBetween is Issue with a lifetime of the caller's choice.
func (ca *CA) IssueBetween(kind Kind, begin, end time.Time, hosts ...string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: slices.Concat(hosts, []string{"nameless"})[0]},
		NotBefore:   begin,
		NotAfter:    end,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}

	parent, signer := ca.certificate, ca.key
	if kind == SelfSigned {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
