package login

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"time"
	"unicode"
)

// paste takes an address that somebody copied from a browser. A line without anything in it is neither an arrival
// nor an error.
func (c *callback) paste(line string) (*arrival, error) {
	if strings.TrimSpace(line) == "" {
		return nil, nil
	}
	query, found := c.query(line)
	if !found {
		return nil, errors.New("that is not the address that the browser was sent to: it begins with " + c.redirect.String() + "?")
	}
	return c.take(query)
}

// query finds the redirect URL's parameters in a line: browsers show addresses without http://, and terminals, chats
// and mails put things around them.
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

// delimits tells what cannot stand in an address (RFC 3986 appendix C).
func delimits(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune("\"'<>`\\", r)
}

// maxLine is the length of a pasted line beyond which reading ends.
const maxLine = 64 << 10

// lines reads lines until it is stopped or the input ends. A read that cannot be interrupted, as of a terminal, is left
// behind for the end of the program.
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
