package pbs

import (
	"bytes"
	"cmp"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"proxmox-realm/internal/lab/standin"
)

// The limits of proxmox-rest-server, and the content type of tickets.
const (
	maxTarget = 3072      // bytes of path and query
	maxBody   = 512 << 10 // bytes
	plainJSON = "application/json"
)

// apiError is an error with a status. Every other error of a handler is a 400.
type apiError struct {
	status int
	text   string
}

func (e *apiError) Error() string { return e.text }

// refuse returns a 400 with a text of Proxmox.
func refuse(format string, args ...any) error {
	return &apiError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

var errForbidden = &apiError{http.StatusForbidden, "permission check failed"}

// serve answers a request as proxmox-rest-server does.
func (s *Server) serve(r *http.Request) *standin.Answer {
	c := &call{s: s, request: r, peer: peerOf(r.RemoteAddr), extra: map[string]any{}}
	a := s.answerTo(c)
	a.User = c.auth
	if a.Header.Get("Content-Type") != "" && strings.Contains(r.Header.Get("Accept-Encoding"), "deflate") {
		var b bytes.Buffer
		w := zlib.NewWriter(&b)
		_, _ = w.Write(a.Body)
		_ = w.Close() // to memory
		a.Body, a.Chunked = b.Bytes(), true
		a.Header.Set("Content-Encoding", "deflate")
	}
	return a
}

// plain is an answer of the server itself: no JSON.
func plain(status int, text string) *standin.Answer {
	return &standin.Answer{Status: status, Body: []byte(text), Header: http.Header{}}
}

// answerTo finds the API in the path.
func (s *Server) answerTo(c *call) *standin.Answer {
	r := c.request
	components := strings.FieldsFunc(r.URL.Path, func(c rune) bool { return c == '/' })
	path := "/" + strings.Join(components, "/")
	switch {
	case slices.ContainsFunc(components, func(c string) bool { return strings.HasPrefix(c, ".") }):
		return plain(http.StatusBadRequest, "Path contains illegal components.")
	case len(path)+len(r.URL.RawQuery) > maxTarget:
		return plain(http.StatusRequestURITooLong, "")
	case len(components) < 2 || components[0] != "api2" || components[1] != "json":
		return plain(http.StatusNotFound, "no such file: '"+strings.Join(components, "/")+"'")
	}
	return s.dispatch(c, path, components[2:])
}

// peerOf writes an address as a server that listens on [::] sees it.
func peerOf(address string) string {
	a, err := netip.ParseAddrPort(address)
	if err != nil || !a.Addr().Is4() {
		return address
	}
	return net.JoinHostPort("::ffff:"+a.Addr().String(), fmt.Sprint(a.Port()))
}

// dispatch checks credentials, path and permission, in this order, and runs the handler in its daemon.
func (s *Server) dispatch(c *call, path string, components []string) *standin.Answer {
	e := s.find(c, components)
	proxy, daemon := s.product.proxy, s.product.daemon
	if e == nil || !e.access.world {
		auth, err := s.authenticate(c.request)
		if err != nil {
			s.logFailure(proxy, c, "", err)
			a := s.answer(c, proxy, &apiError{http.StatusUnauthorized, "authentication failed"}, nil)
			a.Header.Del("Content-Type")
			return a
		}
		c.auth = auth
	}
	if e == nil {
		return s.answer(c, proxy, &apiError{http.StatusNotFound, fmt.Sprintf("Path '%s' not found.", path)}, nil)
	}
	if !c.may(e.access) {
		return s.answer(c, proxy, errForbidden, nil)
	}
	if !e.protected {
		c.ctx = s.Context()
		return s.run(c, e, proxy)
	}
	a, err := s.daemon.run(func(ctx context.Context) *standin.Answer {
		c.ctx, c.privileged = ctx, true
		if !c.may(e.access) {
			return s.answer(c, daemon, errForbidden, nil)
		}
		return s.run(c, e, daemon)
	})
	if err != nil {
		return s.answer(c, proxy, err, nil)
	}
	return a
}

// run reads the parameters and calls the handler.
func (s *Server) run(c *call, e *endpoint, identifier string) *standin.Answer {
	var data any
	err := c.read(e)
	if err == nil {
		data, err = e.run(c)
	}
	return s.answer(c, identifier, err, data)
}

// read reads the parameters of path, query and body.
func (c *call) read(e *endpoint) (err error) {
	contentType, asJSON := c.request.Header.Get("Content-Type"), false
	switch media, _, _ := strings.Cut(contentType, ";"); media {
	case "", "application/x-www-form-urlencoded":
	case "application/json":
		asJSON = true
	default:
		return fmt.Errorf("unsupported content type Ok(%q)", contentType)
	}
	body, _ := io.ReadAll(c.request.Body) // from memory
	switch {
	case len(body) >= maxBody:
		return errTooLarge
	case asJSON:
		c.params, err = parseJSON(e.schema, body, c.path)
		return err
	}
	query := slices.DeleteFunc(decodeForm(c.request.URL.RawQuery), func(pair [2]string) bool { return pair[0] == "_dc" })
	c.params, err = parseForm(e.schema, slices.Concat(decodeForm(string(body)), query, c.path))
	return err
}

var errTooLarge = &apiError{http.StatusBadRequest, "Request body too large"}

// answer formats what a handler returned. It logs errors as the daemon of that identifier does.
func (s *Server) answer(c *call, identifier string, err error, data any) *standin.Answer {
	if err == nil {
		c.extra["data"] = data
		a := &standin.Answer{Status: http.StatusOK, Body: standin.Marshal(c.extra), Header: http.Header{"Content-Type": {cmp.Or(c.contentType, standin.JSON)}}}
		if c.cookie != "" {
			a.Header.Set("Set-Cookie", c.cookie)
		}
		return a
	}
	a := plain(http.StatusBadRequest, err.Error())
	a.Header.Set("Content-Type", standin.JSON)
	if e, ok := errors.AsType[*apiError](err); ok {
		a.Status = e.status
	}
	switch a.Close = errors.Is(err, errTooLarge); a.Status {
	case http.StatusUnauthorized:
		a.Wait = s.opts.Delay401
		if s.product.clearsCookie {
			a.Header.Set("Set-Cookie", s.clearedCookie())
		}
	case http.StatusForbidden:
		a.Wait = s.opts.Delay403
	}
	s.write(identifier, fmt.Sprintf("%s %s: %d %s: [client %s] %s",
		c.request.Method, c.request.RequestURI, a.Status, http.StatusText(a.Status), c.peer, err))
	return a
}
