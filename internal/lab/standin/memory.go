package standin

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Memory is a network within the process, for tests: it connects clients with stand-ins that listen on it. Below
// [testing/synctest] time passes while everybody waits on it, which the real network does not allow. The zero value is ready
// for use.
type Memory struct {
	mu        sync.Mutex
	listeners map[string]*memoryListener
	ports     int
}

// Listen is [net.Listen] for an address of host and port. It takes a free port for port 0.
func (m *Memory) Listen(address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if port == "0" {
		m.ports++
		port = strconv.Itoa(50000 + m.ports)
	}
	at, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, err
	}
	if m.listeners[at.String()] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: at, Err: syscall.EADDRINUSE}
	}
	l := &memoryListener{at: at, connected: make(chan net.Conn), closed: make(chan struct{})}
	l.free = func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.listeners, at.String())
	}
	if m.listeners == nil {
		m.listeners = map[string]*memoryListener{}
	}
	m.listeners[at.String()] = l
	return l, nil
}

// Dial is [net.Dialer.DialContext].
func (m *Memory) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	m.mu.Lock()
	l := m.listeners[address]
	m.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("dial %s %s: %w", network, address, syscall.ECONNREFUSED)
	}
	there, back := newStream(), newStream()
	from := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}
	select {
	case l.connected <- &memoryConn{in: there, out: back, local: l.at, remote: from}:
		return &memoryConn{in: back, out: there, local: from, remote: l.at}, nil
	case <-l.closed:
		return nil, fmt.Errorf("dial %s %s: %w", network, address, syscall.ECONNREFUSED)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type memoryListener struct {
	at        net.Addr
	connected chan net.Conn
	closed    chan struct{}
	once      sync.Once
	free      func()
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.connected:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.free()
	})
	return nil
}

func (l *memoryListener) Addr() net.Addr { return l.at }

// memoryConn is one end of a connection. Writes never wait.
type memoryConn struct {
	in, out       *stream
	local, remote net.Addr
}

func (c *memoryConn) Read(b []byte) (int, error)        { return c.in.read(b) }
func (c *memoryConn) Write(b []byte) (int, error)       { return c.out.write(b) }
func (c *memoryConn) LocalAddr() net.Addr               { return c.local }
func (c *memoryConn) RemoteAddr() net.Addr              { return c.remote }
func (c *memoryConn) SetDeadline(t time.Time) error     { return c.SetReadDeadline(t) }
func (c *memoryConn) SetWriteDeadline(time.Time) error  { return nil }
func (c *memoryConn) SetReadDeadline(t time.Time) error { return c.in.setDeadline(t) }
func (c *memoryConn) Close() error {
	c.in.change(func() { c.in.closed = true })
	c.out.change(func() { c.out.ended = true })
	return c.in.setDeadline(time.Time{}) // stops its timer
}

// stream is one direction of a connection.
type stream struct {
	mu       sync.Mutex
	data     []byte
	ended    bool          // nothing more is written
	closed   bool          // nothing more is read
	changed  chan struct{} // closed at the next change
	deadline time.Time
	timer    *time.Timer
}

func newStream() *stream { return &stream{changed: make(chan struct{})} }

// change makes a change, and wakes who waits for one.
func (s *stream) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *stream) read(b []byte) (int, error) {
	for {
		n, changed, err := s.take(b)
		if changed == nil {
			return n, err
		}
		<-changed
	}
}

// take reads what there is. If there is nothing yet, it returns a channel that is closed at the next change.
func (s *stream) take(b []byte) (n int, changed <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return 0, nil, net.ErrClosed
	case !s.deadline.IsZero() && !time.Now().Before(s.deadline):
		return 0, nil, os.ErrDeadlineExceeded
	case len(s.data) > 0 || len(b) == 0:
		n = copy(b, s.data)
		s.data = s.data[n:]
		return n, nil, nil
	case s.ended:
		return 0, nil, io.EOF
	}
	return 0, s.changed, nil
}

func (s *stream) write(b []byte) (n int, err error) {
	s.change(func() {
		if s.closed || s.ended {
			err = syscall.EPIPE
			return
		}
		n, s.data = len(b), append(s.data, b...)
	})
	return n, err
}

func (s *stream) setDeadline(t time.Time) error {
	s.change(func() {
		if s.timer != nil {
			s.timer.Stop()
		}
		if s.deadline = t; !t.IsZero() && !s.closed {
			s.timer = time.AfterFunc(time.Until(t), func() { s.change(func() {}) })
		}
	})
	return nil
}
