package pbs_test

import (
	"compress/zlib"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"proxmox-realm/internal/lab/pbs"
	"proxmox-realm/internal/lab/standin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is a server, and a client that trusts it and follows no redirects.
func start(t *testing.T, o pbs.Options) (*pbs.Server, *http.Client) {
	t.Helper()
	s, err := pbs.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.CertificatePEM()) {
		t.Fatal("no certificate")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return s, &http.Client{
		Transport: transport, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// host is a server with a client that may do everything.
type host struct {
	*pbs.Server
	t      *testing.T
	client *http.Client
	header http.Header
}

func newHost(t *testing.T, o pbs.Options) *host {
	t.Helper()
	h := &host{t: t, header: http.Header{}}
	h.Server, h.client = start(t, o)
	return h.as(pbs.TokenRoot)
}

// as is the same host, asked with another token.
func (h *host) as(token string) *host {
	other := *h
	other.header = http.Header{"Authorization": {strings.ToUpper(h.Product().Name) + "APIToken=" + h.Token(token)}}
	return &other
}

type answer struct {
	status int
	line   string // status and reason
	body   string
	header http.Header
	closes bool
}

func (h *host) try(method, path, body string) (answer, error) {
	r, err := http.NewRequestWithContext(h.t.Context(), method, h.URL()+"/api2/json"+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	r.Header = h.header.Clone()
	if strings.HasPrefix(body, "{") && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/json")
	}
	res, err := h.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Status, string(raw), res.Header, res.Close}, err
}

func (h *host) send(method, path, body string) answer {
	h.t.Helper()
	a, err := h.try(method, path, body)
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

func (h *host) must(method, path, body string) string {
	h.t.Helper()
	a := h.send(method, path, body)
	if a.status != http.StatusOK {
		h.t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
	}
	return a.body
}

func (h *host) refused(status int, text, method, path, body string) {
	h.t.Helper()
	if a := h.send(method, path, body); a.status != status || a.body != text {
		h.t.Errorf("%s %s %s: %d %s, want %d %s", method, path, body, a.status, a.body, status, text)
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

const (
	openID  = "/config/access/openid"
	minimal = "realm=authelia&issuer-url=https%3A%2F%2Fauth.example.com&client-id=proxmox"
)

// TestCredentials: whatever is wrong, the answer is the same, and the journal alone tells.
func TestCredentials(t *testing.T) {
	h := newHost(t, pbs.Options{})
	full := h.Token(pbs.TokenRealmAllocate)
	id, secret, _ := strings.Cut(full, ":")
	token := func(text string) http.Header { return http.Header{"Authorization": {text}} }
	for name, x := range map[string]struct {
		header http.Header
		status int
		log    string
	}{
		"token":            {token("PBSAPIToken=" + full), 200, ""},
		"blank":            {token("PBSAPIToken " + full), 200, ""},
		"escaped secret":   {token("PBSAPIToken=" + id + ":" + strings.ReplaceAll(secret, "-", "%2D")), 200, ""},
		"nothing":          {nil, 401, "no authentication credentials provided."},
		"lower case":       {token("pbsapitoken=" + full), 401, "no authentication credentials provided."},
		"of another":       {token("PVEAPIToken=" + full), 401, "no authentication credentials provided."},
		"prefix alone":     {token("PBSAPIToken"), 401, "no authentication credentials provided."},
		"equals sign":      {token("PBSAPIToken=" + id + "=" + secret), 401, "value does not match the regex pattern"},
		"no secret":        {token("PBSAPIToken=" + id), 401, "failed to split API token header"},
		"upper case":       {token("PBSAPIToken=" + id + ":" + strings.ToUpper(secret) + "X"), 401, "invalid API token value"},
		"expired":          {token("PBSAPIToken=" + h.Token(pbs.TokenExpired)), 401, "user account or token disabled or expired."},
		"disabled":         {token("PBSAPIToken=" + h.Token(pbs.TokenDisabled)), 401, "user account or token disabled or expired."},
		"of a dead user":   {token("PBSAPIToken=" + h.Token(pbs.TokenDisabledUser)), 401, "user account or token disabled or expired."},
		"an empty cookie":  {http.Header{"Authorization": {"PBSAPIToken=" + full}, "Cookie": {"a=b; __Host-PBSAuthCookie="}}, 401, "invalid ticket - signature verification failed"},
		"another's cookie": {http.Header{"Authorization": {"PBSAPIToken=" + full}, "Cookie": {"PVEAuthCookie=x"}}, 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			one := *h
			one.t, one.header = t, x.header
			if a := one.send("GET", "/version", ""); a.status != x.status || a.status == 401 && a.body != "authentication failed" {
				t.Errorf("%d %s", a.status, a.body)
			}
			if journal := h.must("GET", "/nodes/localhost/syslog?limit=1000", ""); x.log != "" && !strings.Contains(journal, " msg="+x.log) {
				t.Errorf("the journal has no %q", x.log)
			}
		})
	}
}

// TestTicket: a ticket needs the CSRF token for writes.
func TestTicket(t *testing.T) {
	h := newHost(t, pbs.Options{})
	var answer struct {
		Data struct{ Ticket, CSRFPreventionToken string }
	}
	if err := json.Unmarshal([]byte(h.must("POST", "/access/ticket", "username=admin%40pbs&password=admin-password")), &answer); err != nil {
		t.Fatal(err)
	}
	h.header = http.Header{"Cookie": {"x=1; __Host-PBSAuthCookie=" + url.QueryEscape(answer.Data.Ticket)}}
	h.must("GET", openID, "")
	h.refused(401, "authentication failed", "POST", openID, minimal)
	h.header.Set("CSRFPreventionToken", answer.Data.CSRFPreventionToken+"x")
	h.refused(401, "authentication failed", "POST", openID, minimal)
	h.header.Set("CSRFPreventionToken", answer.Data.CSRFPreventionToken)
	h.must("POST", openID, minimal)
	h.refused(400, "no password provided", "POST", "/access/ticket", "username=admin%40pbs")
	h.refused(401, "permission check failed.", "POST", "/access/ticket", "username=admin%40pbs&password="+url.QueryEscape(answer.Data.Ticket[:len(answer.Data.Ticket)-2]))
	h.refused(401, "permission check failed.", "POST", "/access/ticket", "username=plain%40pbs&password="+url.QueryEscape(answer.Data.Ticket))
}

// TestCode: a one-time password is good once, and half a login opens nothing.
func TestCode(t *testing.T) {
	clock := newClock()
	h := newHost(t, pbs.Options{Now: clock.Now})
	err := h.Update(func(st *pbs.State) { st.Users["plain@pbs"].TOTP = []pbs.TOTP{{ID: "1", Secret: secretOfTOTP}} })
	if err != nil {
		t.Fatal(err)
	}
	half := func() string {
		var answer struct{ Data struct{ Ticket string } }
		if err := json.Unmarshal([]byte(h.must("POST", "/access/ticket", "username=plain%40pbs&password=plain-password")), &answer); err != nil {
			t.Fatal(err)
		}
		return url.QueryEscape(answer.Data.Ticket)
	}
	second := func(user, password, ticket string) int {
		return h.send("POST", "/access/ticket", "username="+user+"%40pbs&password="+password+"&tfa-challenge="+ticket).status
	}
	first, password := half(), standin.TOTP(secretOfTOTP, clock.Now())
	for _, wrong := range [][2]string{{"plain", password}, {"plain", "totp%3A" + standin.TOTP(secretOfTOTP, clock.Now().Add(time.Hour))}, {"admin", "totp%3A" + password}} {
		if status := second(wrong[0], wrong[1], first); status != 401 {
			t.Errorf("%v: %d", wrong, status)
		}
	}
	other := *h
	other.header = http.Header{"Cookie": {"PBSAuthCookie=" + first}}
	other.refused(401, "authentication failed", "GET", "/version", "")
	if status := second("plain", "totp%3A"+password, first); status != 200 {
		t.Error(status)
	}
	if status := second("plain", "totp%3A"+password, half()); status != 401 {
		t.Errorf("%d: a code is good once", status)
	}
	clock.advance(11 * time.Minute)
	if status := second("plain", "totp%3A"+standin.TOTP(secretOfTOTP, clock.Now()), first); status != 401 {
		t.Errorf("%d: a challenge is good for ten minutes", status)
	}
}

// TestACLCache: each daemon sees a change of ACLs up to five seconds later, unless users or tokens change.
func TestACLCache(t *testing.T) {
	clock := newClock()
	h := newHost(t, pbs.Options{Now: clock.Now, ACLCache: pbs.RealACLCache})
	none := h.as(pbs.TokenNoPrivilege)
	forbidden := func() {
		t.Helper()
		none.refused(403, "permission check failed", "GET", openID, "")
	}
	acl := func(what string) {
		h.must("PUT", "/access/acl", "path=/access/domains&role=Admin&auth-id=realmctl%40pbs%21none"+what)
	}
	forbidden()
	acl("")
	forbidden()
	clock.advance(pbs.RealACLCache)
	none.must("GET", openID, "")
	none.must("POST", openID, minimal) // the privileged daemon reads them for the first time
	acl("&delete=1")
	none.must("GET", openID, "")
	h.must("PUT", "/access/users/realmctl@pbs/token/none", "")
	none.must("GET", "/access/users", "") // the privileged daemon reads them without the right
	acl("")
	none.must("GET", openID, "") // the proxy reads them with it
	none.refused(403, "permission check failed", "DELETE", openID+"/authelia", "")
	clock.advance(pbs.RealACLCache)
	none.must("DELETE", openID+"/authelia", "")
}

// TestDefault: whoever does not say default=1 loses the flag, and whoever says it takes it.
func TestDefault(t *testing.T) {
	h := newHost(t, pbs.Options{})
	flags := func() string {
		var list []string
		for _, realm := range h.State().Realms {
			if realm.Properties["default"] == "true" {
				list = append(list, realm.Name)
			}
		}
		return strings.Join(list, " ")
	}
	for _, x := range []struct{ method, path, body, want string }{
		{"POST", openID, minimal, "pam"},
		{"PUT", openID + "/authelia", "default=1", "authelia"},
		{"PUT", openID + "/authelia", `{"default":true,"delete":["default"]}`, "authelia"},
		{"PUT", openID + "/authelia", "comment=x", ""},
		{"PUT", "/config/access/pam", "default=on", "pam"},
		{"PUT", openID + "/authelia", "", "pam"},
		{"PUT", "/config/access/pam", "comment=x", ""},
		{"POST", openID, strings.Replace(minimal, "authelia", "other", 1) + "&default=YES", "other"},
		{"DELETE", openID + "/pam", "", "other"},
	} {
		h.must(x.method, x.path, x.body)
		if got := flags(); got != x.want {
			t.Errorf("%s %s %s: the default is %q, want %q", x.method, x.path, x.body, got, x.want)
		}
	}
	h.refused(400, "no such pam 'pam'", "PUT", "/config/access/pam", "default=1")
}

// TestStored: what a value becomes on its way into domains.cfg and back.
func TestStored(t *testing.T) {
	h := newHost(t, pbs.Options{})
	h.must("POST", openID, minimal+"&comment=&client-key=%E2%80%83k%20y%22%23%C3%BC%20") // an em space before, a blank after
	realm := h.State().Realms[2].Properties
	if comment, ok := realm["comment"]; !ok || comment != "" || realm["client-key"] != `k y"#ü` {
		t.Errorf("%q", realm)
	}
	h.must("PUT", openID+"/authelia", "scopes=")
	if comment, ok := h.State().Realms[2].Properties["comment"]; !ok || comment != "" {
		t.Error("a PUT without comment removes an empty comment")
	}
	h.must("PUT", openID+"/authelia", "comment=%20")
	if _, ok := h.State().Realms[2].Properties["comment"]; ok {
		t.Error("a blank comment in a PUT is kept")
	}
	before := h.State().Realms[2]
	h.refused(400, `writing "/etc/proxmox-backup/domains.cfg" failed: detected unexpected control character in section 'authelia' key 'client-id'`,
		"PUT", openID+"/authelia", "client-id=a%09b&issuer-url=x")
	if after := h.State().Realms[2]; after.Properties["issuer-url"] != before.Properties["issuer-url"] {
		t.Error("a refused write changes the realm")
	}
}

// TestParameters: the schema's verdicts that the recordings lack.
func TestParameters(t *testing.T) {
	h := newHost(t, pbs.Options{})
	h.must("POST", openID, minimal)
	const one = "parameter verification failed - "
	for _, x := range []struct{ method, path, body, want string }{
		{"PUT", openID + "/authelia?comment=y&_dc=1", "comment=x", one + "'comment': duplicate parameter."},
		{"PUT", openID + "/authelia", "prompt=", one + "'prompt': value does not match the regex pattern"},
		{"PUT", openID + "/authelia", "digest=", one + "'digest': value does not match the regex pattern"},
		{"PUT", openID + "/authelia", "delete%5B%5D=comment", one + "'delete[]': schema does not allow additional properties."},
		{"PUT", openID + "/authelia", `{"scopes":["a"]}`, one + "'scopes': Expected string value."},
		{"PUT", openID + "/authelia", `{"delete":["realm"]}`, one + "'delete': value 'realm' is not defined in the enumeration."},
		{"PUT", openID + "/-x", "", one + "'realm': value does not match the regex pattern"},
		{"POST", openID, minimal + "&digest=" + strings.Repeat("0", 64), one + "'digest': schema does not allow additional properties."},
		{"POST", openID, "{", "EOF while parsing a value at line 1 column 1"},
		{"POST", openID, "{\n\"realm\" 1}", "expected value at line 2 column 9"},
		{"GET", "/nodes/localhost/syslog?limit=-1", "", one + "'limit': value must have a minimum value of 0 (got -1)"},
		{"GET", "/nodes/localhost/syslog?limit=x", "", one + "'limit': invalid digit found in string"},
	} {
		h.refused(400, x.want, x.method, x.path, x.body)
	}
	if got := h.must("PUT", openID+"/authelia?foo=1", `{"comment":"the query is ignored","realm":"other"}`); got != `{"data":null}` {
		t.Error(got)
	}
}

// TestOldVersions know fewer properties.
func TestOldVersions(t *testing.T) {
	const unknown = "parameter verification failed - '%s': schema does not allow additional properties."
	for _, x := range []struct {
		product           *pbs.Product
		version, property string
		known             bool
	}{
		{pbs.BackupServer, "", "audiences", true},
		{pbs.BackupServer, "4.2.1", "audiences", true},
		{pbs.BackupServer, "4.2", "audiences", false},
		{pbs.BackupServer, "3.3.6", "default", false},
		{pbs.BackupServer, "3.10.0", "default", true},
		{pbs.DatacenterManager, "1.0.3", "audiences", false},
	} {
		h := newHost(t, pbs.Options{Product: x.product, Version: x.version})
		if a := h.send("POST", openID, minimal+"&"+x.property+"=1"); (a.status == 200) != x.known || !x.known && a.body != strings.Replace(unknown, "%s", x.property, 1) {
			t.Errorf("%s %s: %d %s", x.product.Name, x.version, a.status, a.body)
		}
	}
}

// TestDatacenterManager: what differs, where the facts have it from a real server.
func TestDatacenterManager(t *testing.T) {
	h := newHost(t, pbs.Options{Product: pbs.DatacenterManager})
	if got := h.must("GET", "/ping", ""); got != `{"data":"pong"}` {
		t.Error(got)
	}
	if got := h.must("GET", "/version", ""); !strings.Contains(got, `"release":"7"`) || !strings.Contains(got, `"version":"1.1"`) {
		t.Error(got)
	}
	h.refused(400, "parameter verification failed - 'acr-values': parameter verification failed - '': schema validation failed: value does not match the regex pattern",
		"POST", openID, minimal+"&acr-values=urn%3Ax")
	h.refused(400, "invalid acl path '/access/domains'.", "PUT", "/access/acl", "path=/access/domains&role=Administrator&auth-id=plain%40pdm")
	h.must("PUT", "/access/acl", "path=/access/realm&role=Administrator&auth-id=plain%40pdm")
	h.refused(400, "parameter verification failed - 'redirect-url': value does not match the regex pattern", "POST", "/access/openid/auth-url", "realm=x1&redirect-url=foo%3Abar")
	if got := h.must("PUT", "/access/users/realmctl@pdm/token/none", "regenerate=1"); !strings.Contains(got, `"tokenid":"realmctl@pdm!none"`) {
		t.Error(got)
	}
	a := h.send("POST", "/access/ticket", "username=admin%40pdm&password=admin-password")
	if !strings.HasPrefix(a.header.Get("Set-Cookie"), "__Host-PDMAuthCookie=PDM:admin@pdm:") || !strings.Contains(a.body, `::ticketinfo"`) || strings.Contains(a.body, `"ticket"`) {
		t.Error(a)
	}
	h.refused(400, "parameter verification failed - 'http-only': schema does not allow additional properties.", "POST", "/access/ticket", "username=admin%40pdm&password=x&http-only=1")
	if list := h.must("GET", "/access/domains", ""); strings.Contains(list, "default") {
		t.Errorf("%s: there is no default at the start", list)
	}
	// Administrator on /access is as good as everything; the others are as on Backup Server.
	for token, status := range map[string]int{
		pbs.TokenRealmAllocate: 200, pbs.TokenNoPropagate: 200, pbs.TokenSysAudit: 403, pbs.TokenUserWithoutACL: 403, pbs.TokenExpired: 401, pbs.TokenLogReader: 403,
	} {
		if a := h.as(token).send("GET", openID, ""); a.status != status || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %d %v", token, a.status, a.header)
		}
	}
	h.must("POST", openID, minimal)
	h.as(pbs.TokenSysAudit).must("GET", openID+"/authelia", "")
	h.as(pbs.TokenRealmAllocate).must("PUT", "/access/acl", "path=/&role=Administrator&auth-id=plain%40pdm")
}

// TestLock: a write waits for the lock, and goes on after its client is gone.
func TestLock(t *testing.T) {
	h := newHost(t, pbs.Options{LockTimeout: time.Millisecond})
	release := h.HoldLock()
	h.refused(400, `Unable to acquire lock "/etc/proxmox-backup/.domains.lck" - Interrupted system call (os error 4)`, "POST", openID, minimal)
	h.refused(400, "parameter verification failed - 'realm': value must be at least 2 characters long", "POST", openID, strings.Replace(minimal, "authelia", "a", 1))
	h.must("GET", openID, "")
	release()
	release()
	h.must("POST", openID, minimal)
	h.must("GET", openID+"/authelia", "")
}

// TestTransport: what the REST server does beside the API.
func TestTransport(t *testing.T) {
	h := newHost(t, pbs.Options{})
	h.refused(404, "Path '/api2/json/access/realm' not found.", "GET", "//access///realm/", "")
	h.refused(404, "Path '/api2/json/version' not found.", "PATCH", "/version", "")
	h.refused(400, "Path contains illegal components.", "GET", "/access/%2e%2e/version", "")
	if a := h.send("GET", "/version?"+strings.Repeat("x", 3072), ""); a.status != 414 || a.body != "" {
		t.Error(a.status, a.body)
	}
	if a := h.send("POST", openID, minimal+"&client-key="+strings.Repeat("x", 512<<10)); a.status != 400 || a.body != "Request body too large" || !a.closes {
		t.Error(a.status, a.body, a.closes)
	}
	if a := h.send("POST", openID, minimal+"&client-key="+strings.Repeat("x", 200_000)); a.status != 200 || a.closes {
		t.Error(a.status, a.body)
	}
	zipped := *h
	zipped.header = h.header.Clone()
	zipped.header.Set("Accept-Encoding", "gzip, deflate")
	a := zipped.send("GET", openID+"/nope", "")
	reader, err := zlib.NewReader(strings.NewReader(a.body))
	if err != nil || a.header.Get("Content-Encoding") != "deflate" {
		t.Fatal(err, a)
	}
	if text, err := io.ReadAll(reader); err != nil || string(text) != "no such openid 'nope'" {
		t.Error(string(text), err)
	}
}
