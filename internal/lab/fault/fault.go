// Package fault lists the faults of networks, load balancers and dying servers. It injects them into chosen requests to a node
// of a Proxmox stand-in. The node then closes the connection, cuts the answer, or sends another one.
//
// [Faults] lists the faults, so that a test can inject each of them into each request of each operation.
package fault

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"proxmox-realm/internal/lab/standin"
)

// Fault is one way in which a request can fail.
type Fault struct {
	// Name describes the fault. It is unique among [Faults].
	Name string
	// Reaches says whether the request takes effect.
	Reaches bool
	// Answers is the status that the client reads; 0 if it reads no complete HTTP answer.
	Answers int
	// Slow says that the client waits until its own timeout.
	Slow bool

	rule standin.Rule
}

// Lost says whether the client cannot know if the request took effect.
func (f Fault) Lost() bool { return f.Answers == 0 }

// Late says whether the request takes effect only [LateAfter] after the connection was closed.
func (f Fault) Late() bool { return f.rule.Drop && f.rule.Delay > 0 }

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
		{Name: "TLS handshake fails", rule: standin.Rule{Handshake: true}},
		{Name: "closed before the request is processed", rule: standin.Rule{Drop: true}},
		{Name: "reset before the request is processed", rule: standin.Rule{Drop: true, Reset: true}},
		{Name: "closed after the request was processed", Reaches: true, rule: standin.Rule{DropAnswer: true}},
		{Name: "reset after the request was processed", Reaches: true, rule: standin.Rule{DropAnswer: true, Reset: true}},
		{Name: "closed at once, processed later", Reaches: true, rule: standin.Rule{Drop: true, Delay: LateAfter}},
		{Name: "never answered, never processed", Slow: true, rule: standin.Rule{Hang: true}},
		{Name: "never answered, but processed", Reaches: true, Slow: true, rule: standin.Rule{Hang: true, Process: true}},
		{Name: "cut in the head", Reaches: true, rule: standin.Rule{TruncateHead: true}},
		{Name: "cut in the body", Reaches: true, rule: standin.Rule{Truncate: true}},
		{Name: "endless body", Reaches: true, rule: standin.Rule{Endless: true}},
		{Name: "delayed", Reaches: true, Answers: http.StatusOK, rule: standin.Rule{Delay: 20 * time.Millisecond}},
		{Name: "processed twice", Reaches: true, Answers: http.StatusOK, rule: standin.Rule{Twice: true}},
		{Name: "wrong content type, but processed", Reaches: true, Answers: http.StatusOK, rule: standin.Rule{ContentType: "text/plain"}},
	}
	for _, done := range []bool{false, true} {
		add := func(name string, answers int, rule standin.Rule) {
			name += map[bool]string{false: ", not processed", true: ", but processed"}[done]
			rule.Process = done
			list = append(list, Fault{Name: name, Reaches: done, Answers: answers, rule: rule})
		}
		for _, s := range statuses {
			rule := standin.Rule{Status: s.status, Reason: s.reason, ContentType: "text/html", Body: "<html><h1>" + s.reason + "</h1></html>"}
			if s.status/100 == 3 {
				rule.Header = http.Header{"Location": {"https://elsewhere.example.test/"}}
			}
			add(fmt.Sprintf("%d %s", s.status, http.StatusText(s.status)), s.status, rule)
		}
		for _, g := range garbles {
			g.rule.Status = g.answers
			add(g.name, g.answers, g.rule)
		}
		add("no HTTP", 0, standin.Rule{Status: http.StatusOK, Garbage: "SSH-2.0-OpenSSH_9.2\r\n"})
	}
	return list
}

// garbles are answers with a status of success that do not fit the request.
var garbles = []struct {
	name    string
	answers int
	rule    standin.Rule
}{
	{"empty answer", http.StatusOK, standin.Rule{}},
	{"no content", http.StatusNoContent, standin.Rule{}},
	{"page of a portal", http.StatusOK, standin.Rule{ContentType: "text/html; charset=utf-8", Body: "<!doctype html><title>Log in to the network</title>"}},
	{"null", http.StatusOK, standin.Rule{Body: `{"data":null}`}},
	{"half of a JSON document", http.StatusOK, standin.Rule{Body: `{"data":{"type":"openid","issuer-url":"https://`}},
	{"data of another shape", http.StatusOK, standin.Rule{Body: `{"data":[{"type":["openid"]},7]}`}},
	{"null as text", http.StatusOK, standin.Rule{ContentType: "text/plain", Body: `{"data":null}`}},
	{"oversized body", http.StatusOK, standin.Rule{Body: `{"data":null}`, Pad: oversize}},
}

// Rule chooses the requests that a fault hits: by default the first one.
type Rule struct {
	Fault Fault
	// Method and the prefix Path, if set, select requests. The rule ignores all others.
	Method, Path string
	// At is the number of the request to hit, from 1, among the selected ones. 0 means 1.
	At int
	// Lasting hits the later requests, too.
	Lasting bool
}

// Request describes a request that a client sent.
type Request struct {
	Method string
	Path   string // without /api2/json and query
	Hit    bool   // the fault was injected
}

// Server is a stand-in of any product.
type Server interface {
	Inject(rule standin.Rule) (remove func())
	Requests() []standin.Request
	Reset()
}

// Node is a node of a stand-in, into whose requests faults are injected.
type Node struct {
	server Server
	url    string
	calm   func()
}

// At returns the node of a server that has this URL.
func At(server Server, url string) *Node {
	return &Node{server: server, url: url, calm: func() {}}
}

// URL is the origin at which the node answers.
func (n *Node) URL() string { return n.url }

func (n *Node) host() string { return strings.TrimPrefix(n.url, "https://") }

// Begin replaces the rule of this node, and forgets the requests of all nodes so far.
func (n *Node) Begin(rule Rule) {
	n.Calm()
	r := rule.Fault.rule
	r.Host, r.Method, r.Path, r.From = n.host(), rule.Method, rule.Path, rule.At
	if !rule.Lasting {
		r.Count = 1
	}
	n.calm = n.server.Inject(r)
}

// Calm removes the rule, and forgets the requests of all nodes so far.
func (n *Node) Calm() {
	n.calm()
	n.calm = func() {}
	n.server.Reset()
}

// Requests returns the requests to this node since Begin or Calm, in order. A failed handshake is not a request.
func (n *Node) Requests() (list []Request) {
	for _, r := range n.server.Requests() {
		if r.Host == n.host() {
			list = append(list, Request{Method: r.Method, Path: strings.TrimPrefix(r.Path, "/api2/json"), Hit: r.Hit})
		}
	}
	return list
}
