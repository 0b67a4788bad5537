package login

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"
	"unicode"
)

// paste takes an address that the user copied from a browser. An empty line is neither an arrival nor an error.
func (c *callback) paste(line string) (*arrival, error) {
	if strings.TrimSpace(line) == "" {
		return nil, nil
	}
	// Browsers show addresses without http://, and terminals add characters around what is pasted.
	_, query, found := strings.Cut(line, c.redirect.Host+c.redirect.Path+"?")
	if !found {
		return nil, errors.New("not the address that the browser was sent to, which begins with " + c.redirect.String() + "?")
	}
	if end := strings.IndexFunc(query, delimits); end >= 0 {
		query = query[:end]
	}
	return c.take(query)
}

// delimits tells whether a character ends the query of an address (RFC 3986 appendix C).
func delimits(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune("\"'<>`\\#", r)
}

// maxLine is the greatest length of a pasted line, in bytes.
const maxLine = 64 << 10

// lines reads lines until ctx or the input ends. A read from a terminal cannot be interrupted: it goes on until the
// program ends.
func lines(ctx context.Context, in io.Reader) <-chan string {
	out := make(chan string)
	if in == nil {
		return out
	}
	go func() {
		scanner := bufio.NewScanner(in)
		scanner.Buffer(nil, maxLine)
		for scanner.Scan() {
			select {
			case out <- scanner.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}
