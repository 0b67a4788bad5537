// Package fault is a proxy between a client and a Proxmox API, the lab's or a real one. It injects the faults of
// networks, load balancers and dying servers into chosen requests: it closes the connection, cuts the answer, or sends
// another one.
//
// [Faults] lists the faults, so that a test can inject each of them into each request of each operation. A TCP proxy
// such as toxiproxy cannot choose a request, because TLS hides the requests from it.
package fault

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Fault is one way in which a request can fail.
type Fault struct {
	// Name describes the fault. It is unique among [Faults].
	Name string
	// Reaches says whether the request takes effect upstream.
	Reaches bool
	// Answers is the status that the client reads; 0 if it reads no complete HTTP answer.
	Answers int
	// Slow says that the client waits until its own timeout.
	Slow bool

	broken breaking
	reply  func(upstream *response) *response // nil: the upstream's answer, unchanged
	times  int                                // how often the request is forwarded; 0 means once
	wait   time.Duration                      // delays the forwarding
}

// breaking says how a connection ends.
type breaking int

const (
	unbroken  breaking = iota
	closed             // in order, without an answer
	reset              // with a TCP reset, without an answer
	handshake          // the TLS handshake of the next connection fails
	inHead             // in the middle of the answer's head
	inBody             // in the middle of the answer's body
	hanging            // not at all, until the client closes it
	endless            // the answer's body has no end
)

// Lost says whether the client cannot know if the request took effect.
func (f Fault) Lost() bool { return f.Answers == 0 }

// Late says whether the request takes effect only [LateAfter] after the connection was closed.
func (f Fault) Late() bool { return f.Reaches && f.wait > 0 && f.broken == closed }

// statuses are error answers of Proxmox itself, and of proxies and load balancers in front of it.
var statuses = []struct {
	status int
	reason string
}{
	{http.StatusMovedPermanently, "Moved Permanently"},
	{http.StatusFound, "Found"},
	{http.StatusTemporaryRedirect, "Temporary Redirect"},
	{http.StatusBadRequest, "Bad Request"},
	{http.StatusUnauthorized, "authentication failure"},
	{http.StatusForbidden, "Forbidden"},
	{http.StatusNotFound, "Not Found"},
	{http.StatusRequestTimeout, "Request Timeout"},
	{http.StatusConflict, "Conflict"},
	{http.StatusRequestEntityTooLarge, "Request Entity Too Large"},
	{http.StatusTooManyRequests, "Too Many Requests"},
	{http.StatusInternalServerError, "Internal Server Error"},
	{http.StatusNotImplemented, "Not Implemented"},
	{http.StatusBadGateway, "Bad Gateway"},
	{http.StatusServiceUnavailable, "Service Unavailable"},
	{http.StatusGatewayTimeout, "Gateway Timeout"},
	{595, "Errors during connection establishment, proxy handshake: Connection refused"},
	{596, "Errors during TLS negotiation, request sending and header processing: Connection timed out"},
	{599, "Too many redirections"},
}

// LateAfter is the delay of a late request.
const LateAfter = 300 * time.Millisecond

// oversize is more than a client should read of one answer, in bytes.
const oversize = 4 << 20

// Faults returns every fault, in a fixed order.
func Faults() []Fault {
	list := []Fault{
		{Name: "TLS handshake fails", broken: handshake},
		{Name: "closed before the request is forwarded", broken: closed},
		{Name: "reset before the request is forwarded", broken: reset},
		{Name: "closed after the request was forwarded", Reaches: true, broken: closed},
		{Name: "reset after the request was forwarded", Reaches: true, broken: reset},
		{Name: "closed at once, forwarded later", Reaches: true, broken: closed, wait: LateAfter},
		{Name: "never answered, never forwarded", broken: hanging, Slow: true},
		{Name: "never answered, but forwarded", Reaches: true, broken: hanging, Slow: true},
		{Name: "cut in the head", Reaches: true, broken: inHead},
		{Name: "cut in the body", Reaches: true, broken: inBody},
		{Name: "endless body", Reaches: true, broken: endless},
		{Name: "delayed", Reaches: true, Answers: http.StatusOK, wait: 20 * time.Millisecond},
		{Name: "forwarded twice", Reaches: true, Answers: http.StatusOK, times: 2},
	}
	for _, done := range []bool{false, true} {
		suffix := map[bool]string{false: ", not forwarded", true: ", but forwarded"}[done]
		for _, s := range statuses {
			list = append(list, Fault{
				Name: fmt.Sprintf("%d %s%s", s.status, http.StatusText(s.status), suffix), Reaches: done, Answers: s.status, reply: page(s.status, s.reason),
			})
		}
		for _, garbled := range garbles {
			garbled.Name += suffix
			garbled.Reaches = done
			list = append(list, garbled)
		}
	}
	return list
}

// garbles are answers with a status of success that do not fit the request.
var garbles = []Fault{
	{Name: "empty answer", Answers: http.StatusOK, reply: func(*response) *response {
		return &response{status: "200 OK", header: http.Header{}}
	}},
	{Name: "no content", Answers: http.StatusNoContent, reply: func(*response) *response {
		return &response{status: "204 No Content", header: http.Header{}}
	}},
	{Name: "page of a portal", Answers: http.StatusOK, reply: func(*response) *response {
		return text("200 OK", "text/html; charset=utf-8", "<!doctype html><title>Log in to the network</title>")
	}},
	{Name: "null", Answers: http.StatusOK, reply: func(*response) *response {
		return text("200 OK", "application/json;charset=UTF-8", `{"data":null}`)
	}},
	{Name: "half of a JSON document", Answers: http.StatusOK, reply: func(*response) *response {
		return text("200 OK", "application/json;charset=UTF-8", `{"data":{"type":"openid","issuer-url":"https://`)
	}},
	{Name: "data of another shape", Answers: http.StatusOK, reply: func(*response) *response {
		return text("200 OK", "application/json;charset=UTF-8", `{"data":[{"type":["openid"]},7]}`)
	}},
	{Name: "no HTTP", reply: func(*response) *response { return &response{raw: "SSH-2.0-OpenSSH_9.2\r\n"} }},
	{Name: "wrong content type", Answers: http.StatusOK, reply: func(upstream *response) *response {
		if upstream == nil {
			return text("200 OK", "text/plain", `{"data":null}`)
		}
		upstream.header.Set("Content-Type", "text/plain")
		return upstream
	}},
	{Name: "oversized body", Answers: http.StatusOK, reply: func(*response) *response {
		return text("200 OK", "application/json;charset=UTF-8", `{"data":null}`+strings.Repeat(" ", oversize))
	}},
}

// page returns an error page of a proxy in front of Proxmox.
func page(status int, reason string) func(*response) *response {
	return func(*response) *response {
		res := text(fmt.Sprintf("%d %s", status, reason), "text/html", "<html><h1>"+reason+"</h1></html>")
		if status/100 == 3 {
			res.header.Set("Location", "https://elsewhere.example.test/")
		}
		return res
	}
}

func text(status, contentType, body string) *response {
	return &response{status: status, header: http.Header{"Content-Type": {contentType}}, body: []byte(body)}
}
