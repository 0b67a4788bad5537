package pve

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/lab/standin"
)

// The limits of PVE::APIServer::AnyEvent.
const (
	idleTimeout     = 5 * time.Second
	maxBody         = 512 << 10
	compressionFrom = 1024 // bytes
)

// serve answers a request to a node as pve-http-server does.
func (s *Server) serve(n *node, r *http.Request) *standin.Answer {
	c := &call{asked: n, node: n}
	c.client, _, _ = net.SplitHostPort(r.RemoteAddr)
	a := s.answerTo(c, r)
	a.User = c.user
	if len(a.Body) > compressionFrom && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		compress(a)
	}
	now := time.Now().UTC().Format(http.TimeFormat)
	for k, v := range map[string]string{"Cache-Control": "max-age=0", "Pragma": "no-cache", "Server": "pve-api-daemon/3.0", "Expires": now} {
		a.Header.Set(k, v)
	}
	if a.Close = a.Close || r.Close || a.Status >= 400 || len(a.Body) == 0; a.Close {
		a.Header.Set("Connection", "close")
	} else {
		a.Header.Add("Connection", "Keep-Alive")
	}
	return a
}

func compress(a *standin.Answer) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(a.Body)
	_ = w.Close() // to memory
	a.Body = b.Bytes()
	a.Header.Set("Content-Encoding", "gzip")
}

// plain is an answer of the server itself: no JSON.
func plain(status int, reason, body string) *standin.Answer {
	return &standin.Answer{Status: status, Reason: reason, Body: []byte(body), Header: http.Header{}}
}

// answerTo checks a request in the order in which the server does: method, credentials, length and type of the body.
func (s *Server) answerTo(c *call, r *http.Request) *standin.Answer {
	if !slices.Contains([]string{"GET", "POST", "PUT", "DELETE"}, r.Method) {
		return plain(501, "method '"+r.Method+"' not available", "")
	}
	path, isAPI := strings.CutPrefix(r.URL.Path, "/api2/json")
	if isAPI {
		if err := s.authenticate(c, r.Method, path, r.Header); err != nil {
			a := plain(401, err.Error(), "")
			a.Wait = s.opts.Delay401
			return a
		}
	}
	body, _ := io.ReadAll(r.Body) // from memory
	contentType := r.Header.Get("Content-Type")
	mediaType, _, _ := strings.Cut(contentType, ";")
	reason := ""
	switch {
	case len(body) == 0:
	case r.Method != http.MethodPut && r.Method != http.MethodPost:
		reason = "Unexpected content for method '" + r.Method + "'"
	case len(body) > maxBody:
		reason = "for data too large"
	case !slices.Contains([]string{"", "application/x-www-form-urlencoded", "application/json"}, mediaType):
		// So answers the real proxy, as recorded (create-text-plain).
		reason = "upload 'Content-Type '" + contentType + "' not implemented"
		return plain(506, reason, reason)
	}
	if reason != "" {
		return plain(501, reason, reason)
	}
	if !isAPI {
		return plain(500, "no such file '"+r.URL.Path+"'", "no such file '"+r.URL.Path+"'\n")
	}
	params, err := parameters(body, r.URL.RawQuery, mediaType == "application/json")
	if err != nil {
		return plain(500, err.Error(), err.Error()+"\n")
	}
	return s.dispatch(c, r.Method, path, params)
}

// parameters are those of body and query; the query's win.
func parameters(body []byte, query string, isJSON bool) (map[string]any, error) {
	params := map[string]any{}
	if !isJSON {
		params = decodeForm(string(body))
	} else if len(body) > 0 {
		v, err := decodeJSON(body)
		if err != nil {
			return nil, died(err.Error() + " at PVE/APIServer/AnyEvent.pm line N.")
		}
		object, ok := v.(map[string]any)
		if !ok {
			return nil, died("Not a HASH reference at PVE/APIServer/AnyEvent.pm line N.")
		}
		params = object
	}
	maps.Copy(params, decodeForm(query))
	return params, nil
}

// dispatch lets the handler of a path answer, in the daemon where that is its place.
func (s *Server) dispatch(c *call, method, path string, params map[string]any) *standin.Answer {
	e, uri := s.find(method, path)
	if e == nil { // so answers the real proxy, as recorded (unknown-path)
		return s.answer(nil, &apiError{status: 501, msg: "Method '" + method + " " + path + "' not implemented"})
	}
	if err := s.prepare(e, uri, params, c); err != nil {
		return s.answer(nil, err)
	}
	if name, ok := c.params["node"]; ok && strings.Contains(e.path, "{node}") {
		if c.node = s.node(text(name), c.asked); c.node == nil {
			return s.answer(nil, dief("hostname lookup '%s' failed - failed to get address info for: %[1]s: Name or service not known", text(name)))
		}
		if !c.node.on() {
			return c.node.unreachable()
		}
	}
	if !e.proxied {
		return s.answer(s.run(e, c))
	}
	a := s.proxy(c.node, func(worker int) *standin.Answer {
		c.worker = worker
		return s.answer(s.run(e, c))
	})
	a.Header.Set("Connection", "close")
	if a.Status == http.StatusUnauthorized {
		a.Wait = s.opts.Delay401
	}
	return a
}

// proxy hands work to one of the daemon's workers. It does not wait for it
// longer than the proxy does; the work goes on nevertheless.
func (s *Server) proxy(n *node, work func(worker int) *standin.Answer) *standin.Answer {
	limit := time.NewTimer(s.opts.IssuerTimeout)
	defer limit.Stop()
	done := make(chan *standin.Answer, 1)
	s.Go(func() {
		select {
		case worker := <-n.workers:
			defer func() { n.workers <- worker }()
			done <- work(worker)
		case <-s.Context().Done():
		}
	})
	select {
	case a := <-done:
		return a
	case <-limit.C: // the request stays in the daemon's queue
	case <-s.Context().Done():
	}
	return plain(596, "Connection timed out", "")
}

// answer formats what a handler returned (PVE::APIServer::Formatter::Standard).
func (s *Server) answer(data any, err error) *standin.Answer {
	if d, ok := data.(raw); ok {
		a := &standin.Answer{Status: http.StatusOK, Body: []byte(d), Header: http.Header{"Content-Type": {"application/json"}}, Close: true}
		compress(a)
		return a
	}
	a := &standin.Answer{Status: http.StatusOK, Header: http.Header{"Content-Type": {standin.JSON}}}
	body := map[string]any{"data": data}
	if d, ok := data.(total); ok {
		body["data"], body["total"] = d.data, d.total
	}
	if err != nil {
		e, ok := errors.AsType[*apiError](err)
		if !ok {
			e = &apiError{status: 500, msg: err.Error() + "\n"}
		}
		a.Status, a.Reason = e.status, e.msg
		body["data"] = nil
		if e.errs != nil {
			body["errors"] = e.errs
		}
		if s.version.has(sinceMessageInBody) {
			body["message"] = e.msg
		}
	}
	a.Body = standin.Marshal(body)
	return a
}
