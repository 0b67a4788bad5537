package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"syscall"
	"time"
)

// Stage is how far a request came.
type Stage int32

// The stages, in their order.
const (
	AtStart  Stage = iota // nothing was tried, or a proxy of HTTPS_PROXY failed
	AtName                // the name was looked up
	AtTCP                 // a connection was tried
	AtTLS                 // the TLS handshake was under way
	AtTrust               // the server's certificate was looked at
	AtAnswer              // the request was sent
)

// Cause is why a request failed.
type Cause string

// The causes. Each may come at one stage or at several.
const (
	Unknown       Cause = "unknown"       // none of the others: the error's text says more
	Canceled      Cause = "canceled"      // the caller gave up
	TimedOut      Cause = "timed out"     // no answer in time, at any stage
	ProxyFailed   Cause = "proxy failed"  // the proxy of HTTPS_PROXY
	NoSuchName    Cause = "no such name"  // the name cannot be resolved
	RefusedTCP    Cause = "refused"       // nobody listens on the port
	NoRoute       Cause = "no route"      // the host or network cannot be reached
	ClosedEarly   Cause = "closed"        // the server closed the connection
	NotTLS        Cause = "not TLS"       // the port does not speak TLS
	TLSRefused    Cause = "TLS refused"   // the two sides have no TLS version or cipher in common
	NotHTTP       Cause = "not HTTP"      // the answer is no valid HTTP
	OtherName     Cause = "other name"    // the certificate is for other names
	ExpiredCert   Cause = "expired"       // the certificate, or one of its authorities, is expired
	NotYetValid   Cause = "not yet valid" // the certificate is not valid yet by this machine's clock
	NoAuthority   Cause = "no authority"  // this machine does not know the authority
	UntrustedCert Cause = "not trusted"   // the certificate is not trusted for another reason
)

// Progress notes how far one request comes, for [Progress.Diagnose]. A dial that lost a race may go on after the request
// has ended, so a Progress is safe for concurrent use.
type Progress struct {
	stage atomic.Int32
	conn  atomic.Pointer[net.Conn]
}

// Trace returns the hooks with which a request fills the Progress (httptrace.WithClientTrace).
func (p *Progress) Trace() *httptrace.ClientTrace {
	at := func(s Stage) { p.stage.Store(int32(s)) }
	return &httptrace.ClientTrace{
		DNSStart:          func(httptrace.DNSStartInfo) { at(AtName) },
		ConnectStart:      func(_, _ string) { at(AtTCP) },
		TLSHandshakeStart: func() { at(AtTLS) },
		GotConn:           func(g httptrace.GotConnInfo) { p.conn.Store(&g.Conn) },
	}
}

// Conn returns the connection that carried the request, or nil.
func (p *Progress) Conn() net.Conn {
	if c := p.conn.Load(); c != nil {
		return *c
	}
	return nil
}

// Connection is what went wrong with a request: at which stage, and why.
type Connection struct {
	Stage       Stage
	Cause       Cause
	Certificate *x509.Certificate // at AtTrust: the one that is not trusted; nil: unknown
	Until       time.Time         // ExpiredCert: when it expired; NotYetValid: when it becomes valid
	Err         error             // what net/http returned, or at AtTrust why the certificate is not trusted
}

// Diagnose tells why a request failed. err is what net/http returned.
func (p *Progress) Diagnose(err error) Connection {
	c := Connection{Stage: Stage(p.stage.Load()), Cause: Unknown, Err: err}
	if p.Conn() != nil {
		c.Stage = AtAnswer
	}
	var untrusted *tls.CertificateVerificationError
	var dns *net.DNSError
	var op *net.OpError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &untrusted):
		return untrustedBy(untrusted)
	case errors.Is(err, context.Canceled):
		c.Cause = Canceled
	case errors.As(err, &op) && op.Op == "proxyconnect":
		c.Stage, c.Cause = AtStart, ProxyFailed
	case isTimeout(err):
		c.Cause = TimedOut
	case errors.As(err, &dns):
		c.Stage, c.Cause = AtName, NoSuchName
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		c.Stage, c.Cause = AtTLS, NotTLS
	case errors.As(err, &alert):
		c.Stage, c.Cause = AtTLS, TLSRefused
	case errors.Is(err, syscall.ECONNREFUSED):
		c.Stage, c.Cause = AtTCP, RefusedTCP
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		c.Stage, c.Cause = AtTCP, NoRoute
	case isClosed(err):
		c.Cause = ClosedEarly
	case c.Stage == AtTLS: // crypto/tls has no error types for a handshake that finds nothing in common
		c.Cause = TLSRefused
	case c.Stage == AtAnswer && !errors.As(err, &op): // net/http has none for answers that it cannot read
		c.Cause = NotHTTP
	}
	return c
}

// untrustedBy tells why a certificate is not trusted.
func untrustedBy(untrusted *tls.CertificateVerificationError) Connection {
	c := Connection{Stage: AtTrust, Cause: UntrustedCert, Err: untrusted.Err}
	if len(untrusted.UnverifiedCertificates) > 0 {
		c.Certificate = untrusted.UnverifiedCertificates[0]
	}
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var authority x509.UnknownAuthorityError
	switch {
	case errors.As(untrusted.Err, &name):
		c.Cause = OtherName
	case errors.As(untrusted.Err, &invalid) && invalid.Reason == x509.Expired && time.Now().Before(invalid.Cert.NotBefore):
		c.Cause, c.Until = NotYetValid, invalid.Cert.NotBefore
	case errors.As(untrusted.Err, &invalid) && invalid.Reason == x509.Expired:
		c.Cause, c.Until = ExpiredCert, invalid.Cert.NotAfter
	case errors.As(untrusted.Err, &authority):
		c.Cause = NoAuthority
	}
	return c
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE)
}
