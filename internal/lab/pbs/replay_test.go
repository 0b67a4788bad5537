package pbs_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"proxmox-realm/internal/lab/pbs"
	"proxmox-realm/internal/lab/standin"
)

// exchange is one request of a recording with what the real server answered.
type exchange struct {
	ID, Auth, Method, Path, Save string
	Body                         *string
	ContentType                  string `json:"content_type"`
	Headers                      map[string]string
	Wait                         float64
	Response                     struct {
		Status      int
		Reason      string
		ContentType *string `json:"content_type"`
		Close       bool    `json:"connection_close"`
		SetCookie   string  `json:"set_cookie"`
		Body        any
	}
}

// secretOfTOTP is the second factor of the recordings.
const secretOfTOTP = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"

// clock is a host's clock that moves only when told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// TestTranscripts replays what was recorded with the real Backup Server, as the recorder sent it.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("../testdata/proxmox-backup-*.json")
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var script struct{ Exchanges []exchange }
			if err := json.Unmarshal(raw, &script); err != nil {
				t.Fatal(err)
			}
			clock := newClock()
			p := &player{clock: clock, saved: map[string]saved{}, digests: map[string]string{}, latest: strings.Repeat("0", 64)}
			p.server, p.client = start(t, pbs.Options{Now: clock.Now, ACLCache: pbs.RealACLCache})
			for _, e := range script.Exchanges {
				p.play(t, e)
			}
		})
	}
}

// saved is what an answer gave for later requests.
type saved struct{ ticket, csrf, id, secret string }

type player struct {
	server  *pbs.Server
	client  *http.Client
	clock   *clock
	saved   map[string]saved
	hide    [][2]string // a secret and its name in the recording, the newest first
	digests map[string]string
	latest  string // digest
}

var placeholder = regexp.MustCompile(`\{\{([^}]*)\}\}`)

func (p *player) fill(text string, form bool) string {
	return placeholder.ReplaceAllStringFunc(text, func(m string) string {
		what, name, _ := strings.Cut(strings.Trim(m, "{}"), " ")
		known := p.saved[name]
		if token := p.server.Token(name); token != "" {
			known.id, known.secret, _ = strings.Cut(token, ":")
		}
		value := map[string]string{
			"digest": p.latest, "stale": strings.Repeat("0", 64), "totp": standin.TOTP(secretOfTOTP, p.clock.Now()),
			"ticket": known.ticket, "id": known.id, "secret": known.secret,
		}[what]
		if form {
			value = url.QueryEscape(value)
		}
		return value
	})
}

func (p *player) request(t *testing.T, e exchange) *http.Request {
	t.Helper()
	var body io.Reader
	if e.Body != nil {
		body = strings.NewReader(p.fill(*e.Body, strings.HasPrefix(e.ContentType, "application/x-www-form")))
	}
	r, err := http.NewRequest(e.Method, p.server.URL()+"/api2/json"+p.fill(e.Path, false), body)
	if err != nil {
		t.Fatal(err)
	}
	switch kind, name, _ := strings.Cut(e.Auth, ":"); kind {
	case "anonymous":
	case "ticket", "ticket-without-csrf":
		r.Header.Set("Cookie", "PBSAuthCookie="+url.QueryEscape(p.saved[name].ticket))
		if kind == "ticket" && e.Method != http.MethodGet {
			r.Header.Set("CSRFPreventionToken", p.saved[name].csrf)
		}
	case "token":
		r.Header.Set("Authorization", "PBSAPIToken="+p.saved[name].id+":"+p.saved[name].secret)
	case "wrong-secret":
		id, _, _ := strings.Cut(p.server.Token(pbs.TokenRoot), ":")
		r.Header.Set("Authorization", "PBSAPIToken="+id+":11111111-1111-4111-8111-111111111111")
	default:
		r.Header.Set("Authorization", "PBSAPIToken="+p.server.Token(e.Auth))
	}
	if e.ContentType != "" {
		r.Header.Set("Content-Type", e.ContentType)
	}
	for name, value := range e.Headers {
		r.Header.Set(name, p.fill(value, false))
	}
	return r
}

func (p *player) play(t *testing.T, e exchange) {
	t.Helper()
	p.clock.advance(time.Duration(e.Wait * float64(time.Second)))
	if e.Path == "/access/ticket" { // two tickets of one second would be the same
		p.clock.advance(1100 * time.Millisecond)
	}
	res, err := p.client.Do(p.request(t, e))
	if err != nil {
		t.Fatalf("%s: %v", e.ID, err)
	}
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s: %v", e.ID, err)
	}
	_ = res.Body.Close()
	var body any = string(raw)
	var parsed map[string]any
	if json.Unmarshal(raw, &parsed) == nil {
		if digest, ok := parsed["digest"].(string); ok {
			p.latest = digest
		}
		p.keep(e, parsed["data"], res.Header.Get("Set-Cookie"))
		body = parsed
	}
	want := e.Response
	if got := fmt.Sprintf("%d %s", want.Status, want.Reason); res.Status != got {
		t.Errorf("%s: status %q, want %q", e.ID, res.Status, got)
	}
	contentType := ""
	if want.ContentType != nil {
		contentType = *want.ContentType
	}
	if got := res.Header.Get("Content-Type"); got != contentType {
		t.Errorf("%s: content type %q, want %q", e.ID, got, contentType)
	}
	if res.Close != want.Close {
		t.Errorf("%s: the connection closes: %v, want %v", e.ID, res.Close, want.Close)
	}
	if got := p.clean(res.Header.Get("Set-Cookie")); got != want.SetCookie {
		t.Errorf("%s: cookie %q, want %q", e.ID, got, want.SetCookie)
	}
	if got, want := p.walk(body), ordered(want.Body); !reflect.DeepEqual(got, want) {
		t.Errorf("%s: body\n%v, want\n%v", e.ID, got, want)
	}
}

var (
	cookieTicket = regexp.MustCompile(`^__Host-PBSAuthCookie=([^;]+);`)
	halfTicket   = regexp.MustCompile(`^PBS:!tfa![^:]*:`)
)

// keep notes tickets and secrets of an answer for later, and hides them.
func (p *player) keep(e exchange, data any, cookie string) {
	d, _ := data.(map[string]any)
	name := e.Save
	if name == "" {
		name = e.ID
	}
	text := func(key string) string { s, _ := d[key].(string); return s }
	hide := func(secret, as string) { p.hide = append([][2]string{{secret, as}}, p.hide...) }
	ticket := text("ticket")
	if m := cookieTicket.FindStringSubmatch(cookie); m != nil {
		ticket = m[1]
	}
	if ticket != "" && text("CSRFPreventionToken") != "" {
		p.saved[name] = saved{ticket: ticket, csrf: text("CSRFPreventionToken")}
		half := halfTicket.FindString(ticket)
		hide(ticket, half+"<ticket "+name+">")
		if half == "" {
			hide(text("CSRFPreventionToken"), "<csrf>")
		}
	}
	if e.Method != http.MethodPost && e.Method != http.MethodPut {
		return
	}
	if secret := text("value") + text("secret"); secret != "" {
		was := p.saved[name]
		was.secret = secret
		if text("tokenid") != "" {
			was.id = text("tokenid")
		}
		p.saved[name] = was
		hide(secret, "<secret>")
	}
	if id := text("id"); id != "" {
		p.saved[name] = saved{id: id}
		hide(id, "<id "+name+">")
	}
}

var (
	infoTime  = regexp.MustCompile(`:[0-9A-F]{8}::ticketinfo`)
	hexDigest = regexp.MustCompile(`\b[0-9a-f]{64}\b`)
)

func (p *player) clean(text string) string {
	for _, pair := range p.hide {
		text = strings.ReplaceAll(text, pair[0], pair[1])
	}
	text = infoTime.ReplaceAllString(text, ":<time>::ticketinfo")
	return hexDigest.ReplaceAllStringFunc(text, func(digest string) string {
		if p.digests[digest] == "" {
			p.digests[digest] = fmt.Sprintf("<digest %d>", len(p.digests)+1)
		}
		return p.digests[digest]
	})
}

// walk cleans every text, in the order of the keys, and orders lists.
func (p *player) walk(v any) any {
	switch v := v.(type) {
	case string:
		return p.clean(v)
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = p.walk(item)
		}
		return ordered(list)
	case map[string]any:
		m := map[string]any{}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			m[key] = p.walk(v[key])
		}
		return m
	}
	return v
}

// ordered sorts lists, whose order is random in the real server.
func ordered(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for key, item := range v {
			m[key] = ordered(item)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = ordered(item)
		}
		slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		return list
	}
	return v
}
