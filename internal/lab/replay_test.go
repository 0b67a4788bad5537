package lab

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/lab/authority"
	"proxmox-realm/internal/lab/issuer"
	"proxmox-realm/internal/lab/pbs"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/lab/standin"
)

// exchange is one recorded request and its answer.
type exchange struct {
	ID, Auth, Method, Path, Save, Node string
	Body                               *string
	ContentType                        string `json:"content_type"`
	Headers                            map[string]string
	Wait                               float64 // seconds before it
	Ordered                            int
	Response                           struct {
		Status      int
		Reason      string
		ContentType *string `json:"content_type"`
		Close       bool    `json:"connection_close"`
		Encoding    string  `json:"content_encoding"`
		SetCookie   string  `json:"set_cookie"`
		Body        any
	}
}

// TestTranscripts replays the recordings of Proxmox VE and Backup Server in order, each on a lab of its own.
func TestTranscripts(t *testing.T) {
	for _, name := range []string{"proxmox-ve-9.2", "proxmox-ve-9.2-access", "proxmox-ve-9.2-users", "proxmox-ve-9.2-init"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newPlayer(t, Options{}).play(name, nil)
		})
	}
	for _, name := range []string{"proxmox-backup-4.2", "proxmox-backup-4.2-setup"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newPlayer(t, Options{PBS: &pbs.Options{ACLCache: pbs.RealACLCache}}).play(name, nil)
		})
	}
	t.Run("proxmox-ve-9.2-syslog", func(t *testing.T) {
		t.Parallel()
		nodes := []pve.Node{{Address: "10.77.0.11"}, {Address: "10.77.0.12"}, {Address: "10.77.0.13"}}
		for i := range nodes {
			nodes[i].Zone = "Europe/Vienna"
		}
		newPlayer(t, Options{PVE: pve.Options{Cluster: "rec", Nodes: nodes, LockTimeout: 50 * time.Millisecond}}).play("proxmox-ve-9.2-syslog", unrecorded)
	})
}

// recordedIssuer is what the recordings call the lab's issuer.
const recordedIssuer = "https://auth.example.test:9291"

// recordedRedirect is the address that the recordings' browser opens.
const recordedRedirect = "https://pve.example.test:8006"

// player sends the requests of a recording to a lab.
type player struct {
	*testing.T
	lab    *Lab
	client *http.Client
	zone   *time.Location
	clock  time.Time         // of the nodes
	mark   time.Time         // when the latest authorization URL was made
	prefix string            // of the product's tokens and cookies
	saved  map[string]secret // what a POST of a ticket or token answered
	digest string            // of the latest realm
	back   url.Values        // state and code of the latest login at the issuer
}

type secret struct{ ticket, csrf, id, value string }

func newPlayer(t *testing.T, options Options) *player {
	t.Helper()
	p := &player{T: t, clock: time.Date(2026, 12, 1, 4, 55, 6, 0, time.UTC), prefix: "PVE", saved: map[string]secret{"bad": {ticket: "PVE:root@pam:4EEC61E2::nonsense"}}}
	options.PVE.Now = func() time.Time { return p.clock }
	if options.PBS != nil {
		p.prefix, p.clock, options.PBS.Now = "PBS", time.Now(), options.PVE.Now
	} else {
		options.Seed = "empty"
	}
	options.PVE.IssuerClient = &http.Client{Transport: onlyLoopback{&http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}}
	users := []issuer.User{{Name: "bob"}, {Name: "space man"}, {Name: "new"}, {Name: "john", Groups: []string{"admins", "dev"}}, {Name: "olga", Groups: []string{"dev", "Team Leads", "ops/eu", "größen"}}}
	for i := range users {
		users[i].Password, users[i].Email = "password", "somebody@example.test"
	}
	var err error
	options.Issuer = issuer.Options{
		Users:   users,
		Clients: []issuer.Client{{ID: "proxmox", Secret: "insecure_secret", RedirectURIs: []string{recordedRedirect}}},
	}
	p.lab, err = Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.lab.Close(); err != nil {
			t.Error(err)
		}
	})
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.lab.Authority.Pool(), InsecureSkipVerify: true}, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	p.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if p.zone, err = time.LoadLocation("Europe/Vienna"); err != nil {
		t.Fatal(err)
	}
	return p
}

// onlyLoopback is a network in which no other issuer is reached.
type onlyLoopback struct{ http.RoundTripper }

func (o onlyLoopback) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Hostname() != "127.0.0.1" {
		return nil, fmt.Errorf("lookup %s: no such host", r.URL.Hostname())
	}
	return o.RoundTripper.RoundTrip(r)
}

// play sends all requests; unrecorded says what happened before some of them.
func (p *player) play(name string, unrecorded map[string]func(*player)) {
	p.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		p.Fatal(err)
	}
	var recording struct{ Exchanges []exchange }
	if err := json.Unmarshal(data, &recording); err != nil {
		p.Fatal(err)
	}
	if len(recording.Exchanges) < 30 {
		p.Fatalf("%d exchanges", len(recording.Exchanges))
	}
	got, want := mask{}, mask{}
	for _, e := range recording.Exchanges {
		if before := unrecorded[e.ID]; before != nil {
			before(p)
		}
		if e.Path == "/access/openid/auth-url" {
			p.tick()
		}
		res, body := p.send(e)
		r := e.Response
		if have, line := got.text(res.Status), want.text(fmt.Sprintf("%d %s", r.Status, r.Reason)); have != line {
			p.Errorf("%s: status %q, recorded %q", e.ID, have, line)
		}
		contentType := ""
		if r.ContentType != nil {
			contentType = *r.ContentType
		}
		if have := res.Header.Get("Content-Type"); have != contentType || res.Close != r.Close || res.Header.Get("Content-Encoding") != r.Encoding {
			p.Errorf("%s: content type %q, close %v, encoding %q, recorded %q, %v, %q", e.ID, have, res.Close, res.Header.Get("Content-Encoding"), contentType, r.Close, r.Encoding)
		}
		if have, cookie := got.text(res.Header.Get("Set-Cookie")), want.text(r.SetCookie); have != cookie {
			p.Errorf("%s: cookie %q, recorded %q", e.ID, have, cookie)
		}
		var answer any
		if json.Unmarshal(body, &answer) != nil {
			answer = string(body)
		}
		p.keep(e, answer, res)
		if a, b := got.json(answer, e.Ordered == 1), want.json(r.Body, e.Ordered == 1); a != b {
			p.Errorf("%s: %s\nrecorded %s", e.ID, a, b)
		}
	}
}

// tick sets the mark. What was logged before is older than its second.
func (p *player) tick() {
	p.clock = p.clock.Add(2 * time.Second)
	p.mark = p.clock
}

var (
	recordedSince = regexp.MustCompile(`since=2026-12-01%20\d\d%3A\d\d%3A\d\d`)
	placeholder   = regexp.MustCompile(`\{\{(\w+)(?: ([\w-]+))?\}\}`)
	cookieTicket  = regexp.MustCompile(`^__Host-PBSAuthCookie=([^;]+);`)
)

func (p *player) send(e exchange) (*http.Response, []byte) {
	p.Helper()
	p.clock = p.clock.Add(time.Duration(e.Wait * float64(time.Second)))
	if p.lab.PBS != nil && e.Path == "/access/ticket" { // two tickets of one second would be the same
		p.clock = p.clock.Add(1100 * time.Millisecond)
	}
	path := recordedSince.ReplaceAllString(e.Path, "since="+url.PathEscape(p.mark.In(p.zone).Format("2006-01-02 15:04:05")))
	base := p.lab.origins()[0]
	if e.Node != "" {
		base = p.lab.PVE.NodeURL(e.Node)
	}
	var body io.Reader
	if e.Body != nil {
		body = strings.NewReader(p.fill(*e.Body, strings.HasPrefix(e.ContentType, "application/x-www-form")))
	}
	req, err := http.NewRequestWithContext(p.Context(), e.Method, base+"/api2/json"+p.fill(path, false), body)
	if err != nil {
		p.Fatal(err)
	}
	if e.ContentType != "" {
		req.Header.Set("Content-Type", e.ContentType)
	}
	p.authorize(req, e.Auth)
	for name, value := range e.Headers {
		req.Header.Set(name, p.fill(value, false))
	}
	res, err := p.client.Do(req)
	if err != nil {
		p.Fatalf("%s: %v", e.ID, err)
	}
	defer func() { _ = res.Body.Close() }()
	stream := io.Reader(res.Body)
	if res.Header.Get("Content-Encoding") == "gzip" {
		if stream, err = gzip.NewReader(res.Body); err != nil {
			p.Fatalf("%s: %v", e.ID, err)
		}
	}
	answer, err := io.ReadAll(stream)
	if err != nil {
		p.Fatalf("%s: %v", e.ID, err)
	}
	return res, answer
}

// token returns the id and the secret of a token that the lab has, or that an exchange made.
func (p *player) token(name string) (id, value string) {
	if made := p.saved[name]; made.id != "" {
		return made.id, made.value
	}
	if p.lab.PBS != nil {
		id, value, _ = strings.Cut(p.lab.PBS.Token(name), ":")
	} else {
		id, value, _ = strings.Cut(p.lab.PVE.Token(name), "=")
	}
	return id, value
}

func (p *player) authorize(req *http.Request, auth string) {
	kind, name, _ := strings.Cut(auth, ":")
	between := map[string]string{"PVE": "=", "PBS": ":"}[p.prefix]
	id, value := p.token(cmp.Or(name, kind))
	switch kind {
	case "anonymous":
		return
	case "ticket", "ticket-without-csrf":
		req.Header.Set("Cookie", p.prefix+"AuthCookie="+url.QueryEscape(p.saved[name].ticket))
		if kind == "ticket" && req.Method != http.MethodGet {
			req.Header["CSRFPreventionToken"] = []string{p.saved[name].csrf}
		}
		return
	case "malformed":
		id, value, between = "nonsense", "", ""
	case "wrong-secret":
		id, _ = p.token(pve.TokenRealmAllocate)
		value = "11111111-1111-4111-8111-111111111111"
	}
	req.Header.Set("Authorization", p.prefix+"APIToken="+id+between+value)
}

// fill replaces what stands for a value of this run.
func (p *player) fill(text string, form bool) string {
	text = strings.ReplaceAll(text, recordedIssuer, p.lab.IssuerURL)
	now, zeros := time.Now(), 40
	if p.lab.PBS != nil {
		now, zeros = p.clock, 64
	}
	return placeholder.ReplaceAllStringFunc(text, func(found string) string {
		m := placeholder.FindStringSubmatch(found)
		id, secret := p.token(m[2])
		value := map[string]string{
			"digest": p.digest, "stale": strings.Repeat("0", zeros), "totp": standin.TOTP("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", now),
			"code": p.back.Get("code"), "state": p.back.Get("state"), "ticket": p.saved[m[2]].ticket, "id": id, "secret": secret,
		}[m[1]]
		if form {
			value = url.QueryEscape(value)
		}
		return value
	})
}

// keep saves what later requests need.
func (p *player) keep(e exchange, answer any, res *http.Response) {
	object, _ := answer.(map[string]any)
	data, _ := object["data"].(map[string]any)
	text := func(k string) string { s, _ := data[k].(string); return s }
	beside, _ := object["digest"].(string)
	if digest := cmp.Or(text("digest"), beside); digest != "" && e.Method == http.MethodGet {
		p.digest = digest
	}
	ticket := text("ticket")
	if m := cookieTicket.FindStringSubmatch(res.Header.Get("Set-Cookie")); m != nil {
		ticket = m[1]
	}
	value := text("value") + text("secret")
	if id := text("full-tokenid") + text("tokenid") + text("id"); e.Method != http.MethodGet && ticket+value+id != "" {
		name := cmp.Or(e.Save, e.ID)
		p.saved[name] = secret{ticket, text("CSRFPreventionToken"), cmp.Or(id, p.saved[name].id), value}
	}
}

// unrecorded says what the recorder did before an exchange of proxmox-ve-9.2-syslog.
var unrecorded = map[string]func(*player){
	"certificates-other-node-custom": func(p *player) {
		own, err := p.lab.Authority.Issue(authority.SelfSigned, "pve2.example.test", "pve2")
		if err == nil {
			err = p.lab.PVE.SetCertificate("pve2", &own)
		}
		if err != nil {
			p.Fatal(err)
		}
	},
	"syslog-anonymous": func(p *player) {
		if err := p.lab.PVE.SetCertificate("pve2", nil); err != nil {
			p.Fatal(err)
		}
	},
	"login-rec-key":        logsIn("rec-key", "john"),
	"login-rec-claim":      logsIn("rec-claim", "john"),
	"login-rec-noauto":     logsIn("rec-noauto", "john"),
	"login-ok":             logsIn("rec-ok", "john"),
	"login-odd-user":       logsIn("rec-ok", "space man"),
	"login-disabled":       logsIn("rec-ok", "john"),
	"login-expired":        logsIn("rec-ok", "john"),
	"login-wrong-code":     logsIn("rec-ok", "bob"),
	"login-wrong-redirect": logsIn("rec-ok", "bob"),
	"login-twice": func(p *player) {
		logsIn("rec-ok", "bob")(p)
		body := "state={{state}}&code={{code}}&redirect-url=" + url.QueryEscape(recordedRedirect)
		p.send(exchange{Auth: "anonymous", Method: "POST", Path: "/access/openid/login", Body: &body, ContentType: "application/x-www-form-urlencoded"})
	},
	"login-nonsense-state":   func(p *player) { p.clock = p.clock.Add(time.Second) },
	"login-other-node":       logsIn("rec-ok", "bob"),
	"login-rec-absent":       logsIn("rec-absent", "john"),
	"login-rec-noarray":      logsIn("rec-noarray", "john"),
	"login-rec-none":         logsIn("rec-none", "john"),
	"login-rec-odd":          logsIn("rec-odd", "olga"),
	"login-rec-groups":       logsIn("rec-groups", "john"),
	"login-rec-groups-again": logsIn("rec-groups", "john"),
	"syslog-pveproxy": func(p *player) {
		p.tick()
		p.send(exchange{Auth: "wrong-secret", Method: "GET", Path: "/version"})
	},
	"cluster-status-offline":   turnsOff("pve3"),
	"cluster-status-no-quorum": turnsOff("pve2"),
	"login-no-quorum":          logsIn("rec-ok", "bob"),
	"login-no-quorum-new":      logsIn("rec-ok", "new"),
}

func turnsOff(node string) func(*player) {
	return func(p *player) {
		if err := p.lab.PVE.SetNode(node, false); err != nil {
			p.Fatal(err)
		}
	}
}

// logsIn begins a login at pve and goes to the issuer. The exchange redeems the code.
func logsIn(realm, user string) func(*player) {
	return func(p *player) {
		p.tick()
		browser := p.lab.browser(nil)
		defer browser.CloseIdleConnections()
		var address string
		err := p.lab.ask(p.Context(), browser, "/access/openid/auth-url", url.Values{"realm": {realm}, "redirect-url": {recordedRedirect}}, &address)
		if err != nil {
			p.Fatal(err)
		}
		back, err := p.lab.Authorize(p.Context(), address, user, "password", "accept")
		if err != nil {
			p.Fatal(err)
		}
		p.back = back.Query()
	}
}

// mask numbers what differs from run to run, such as digests, in the order in which it comes.
type mask map[string]string

var (
	masked = []struct {
		pattern *regexp.Regexp
		by      string
		counted bool
	}{
		{regexp.MustCompile(`<digest \d+>|\b[0-9a-f]{40}\b|\b[0-9a-f]{64}\b`), "digest", true},
		{regexp.MustCompile(`\b([0-9A-F]{2}:){31}[0-9A-F]{2}\b`), "fingerprint", true},
		{regexp.MustCompile(`(?s)-----BEGIN.*-----\n`), "certificate", false},
		{regexp.MustCompile(` at \S*PVE/\S+\.pm line \w+\.`), " at line N.", false},
		{regexp.MustCompile(`^[A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d `), "TIME ", false},
		{regexp.MustCompile(`^s=[0-9a-f]+;i=\S+$`), "CURSOR", false},
		{regexp.MustCompile(`\[\d{4,}\]:`), "[PID]:", false},
		{regexp.MustCompile(`worker \d+ started`), "worker started", false},
		{regexp.MustCompile(`^\d+:pve$`), "N:pve", false},
		{regexp.MustCompile(`rhost=\S+`), "rhost=ADDRESS", false},
		{regexp.MustCompile(`https://(auth\.example\.test:9291|127\.0\.0\.1:\d+)`), "ISSUER", false},
		{regexp.MustCompile(`(csrf_token%22%3A%22|code_challenge=|nonce=)[\w-]+`), "$1", false},
		{regexp.MustCompile(`^PVE:!tfa!(\{[^}]*\}):.*$`), "PVE:!tfa!$1", false},
		{regexp.MustCompile(`^(PBS:!tfa![^:]*):.*$`), "$1", false},
		{regexp.MustCompile(`:[0-9A-F]{8}::ticketinfo`), ":<time>::ticketinfo", false},
		{regexp.MustCompile(`^(P(VE|BS):[^!]\S*::\S{20,}|<ticket \S+>)$`), "TICKET", false},
		{regexp.MustCompile(`^(__Host-PBSAuthCookie=)[^;]+`), "${1}TICKET", false},
		{regexp.MustCompile(`^([0-9A-F]{8}:[\w+/]{43}|<csrf>)$`), "CSRF", false},
		{regexp.MustCompile(`^([0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|<secret>|<id \w+>)$`), "SECRET", false},
	}
	// varying are members of answers that differ from run to run.
	varying = []string{"time", "localtime", "subject", "issuer", "san", "notbefore", "notafter", "public-key-bits", "public-key-type", "pid", "uid"}
)

func (m mask) text(s string) string {
	for _, r := range masked {
		if !r.counted {
			s = r.pattern.ReplaceAllString(s, r.by)
			continue
		}
		s = r.pattern.ReplaceAllStringFunc(s, func(found string) string {
			if m[found] == "" {
				m[found] = fmt.Sprint(r.by, " ", len(m))
			}
			return m[found]
		})
	}
	return s
}

// json is a text for what an answer holds. Lists that are in no order are sorted.
func (m mask) json(v any, ordered bool) string {
	var walk func(any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			object := map[string]any{}
			for _, k := range slices.Sorted(maps.Keys(v)) {
				if slices.Contains(varying, k) {
					object[k] = "varies"
				} else {
					object[k] = walk(v[k])
				}
			}
			return object
		case []any:
			list := slices.Clone(v)
			if !ordered {
				slices.SortFunc(list, func(a, b any) int {
					x, _ := json.Marshal(a)
					y, _ := json.Marshal(b)
					return bytes.Compare(x, y)
				})
			}
			for i := range list {
				list[i] = walk(list[i])
			}
			return list
		case string:
			return m.text(v)
		}
		return v
	}
	text, _ := json.MarshalIndent(walk(v), "", " ")
	return string(text)
}
