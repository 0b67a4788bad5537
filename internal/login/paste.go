package login

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"time"
	"unicode"
)

// paste takes an address that the user copied from a browser. An empty line is neither an arrival nor an error.
func (c *callback) paste(line string) (*arrival, error) {
	if strings.TrimSpace(line) == "" {
		return nil, nil
	}
	query, found := c.query(line)
	if !found {
		return nil, errors.New("not the address that the browser was sent to, which begins with " + c.redirect.String() + "?")
	}
	return c.take(query)
}

// query finds the redirect URL's parameters in a line. Browsers show addresses without http://, and terminals, chats
// and mails add characters around them.
func (c *callback) query(line string) (query string, found bool) {
	_, rest, found := strings.Cut(line, c.redirect.Host+c.redirect.EscapedPath()+"?")
	if !found {
		return "", false
	}
	if end := strings.IndexFunc(rest, delimits); end >= 0 {
		rest = rest[:end]
	}
	rest, _, _ = strings.Cut(rest, "#")
	return strings.TrimRight(rest, ")],;"), true
}

// delimits tells whether a character ends an address (RFC 3986 appendix C).
func delimits(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune("\"'<>`\\", r)
}

// maxLine is the greatest length of a pasted line, in bytes.
const maxLine = 64 << 10

// lines reads lines until it is stopped or the input ends. The read of a terminal cannot be interrupted and goes on until
// the program ends.
func lines(in io.Reader) (<-chan string, func()) {
	out := make(chan string)
	if in == nil {
		return out, func() {}
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		scanner := bufio.NewScanner(in)
		scanner.Buffer(nil, maxLine)
		for scanner.Scan() {
			select {
			case out <- scanner.Text():
			case <-stop:
				return
			}
		}
	}()
	return out, func() {
		close(stop)
		if d, ok := in.(interface{ SetReadDeadline(t time.Time) error }); ok && d.SetReadDeadline(time.Unix(1, 0)) == nil {
			<-ended
		}
	}
}
