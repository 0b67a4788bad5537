package pve

import (
	"maps"
	"net/http"

	"proxmox-realm/internal/lab/standin"
)

// fault is what a rule does to one request.
type fault struct {
	rule   *Rule
	drop   bool
	answer *response
}

// inject does what comes before a request is processed.
func (s *Server) inject(a *standin.Active) *fault {
	f := &fault{}
	if a == nil {
		return f
	}
	f.rule = &a.Rule
	if f.drop = !a.Wait(s.ctx); f.drop {
		return f
	}
	if a.Status != 0 {
		contentType := a.ContentType
		if contentType == "" && a.Body != "" {
			contentType = jsonType
		}
		f.answer = &response{status: a.Status, reason: a.Reason, contentType: contentType, body: []byte(a.Body)}
	}
	return f
}

// adjust applies to an answer what a rule says of its headers.
func (f *fault) adjust(res *response) *response {
	if f.rule == nil {
		return res
	}
	c := *res
	c.header = http.Header{}
	maps.Copy(c.header, f.rule.Header)
	for k, vs := range res.header {
		for _, v := range vs {
			c.header.Add(k, v)
		}
	}
	switch f.rule.ContentType {
	case "":
	case "-":
		c.contentType = ""
	default:
		c.contentType = f.rule.ContentType
	}
	return &c
}
