package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"proxmox-realm/internal/cli"
	"proxmox-realm/internal/lab/authority"
	"proxmox-realm/internal/lab/issuer"
	"proxmox-realm/internal/lab/pve"
)

// tune changes the issuer, in ways that are correct or mistaken:
//
//	tune name URL                sets the issuer's own name
//	tune keys [ALGORITHM …]      uses and publishes keys of these algorithms
//	tune metadata MEMBER JSON    sets a member of the discovery document; without JSON: removes it
//	tune page PATH               answers with a web page at this path

// tune certificate KIND        uses such a certificate (see internal/lab/authority)
// tune age HOURS LEFT          uses a certificate with this lifetime and this rest of it
// tune clock DURATION          shifts its Date header
// tune redirects [URL …]       the client's redirect URIs
// tune method NAME             the client's token_endpoint_auth_method
// tune scopes NAME …           the client's scopes
// tune policy                  the client's claims policy puts claims into the ID token
func tune(ts *testscript.TestScript, neg bool, args []string) {
	l := theLab(ts)
	if neg || len(args) == 0 {
		ts.Fatalf("usage: tune WHAT …")
	}
	what, args := args[0], args[1:]
	client, _ := l.Issuer.Client(l.ClientID)
	hosts := []string{"127.0.0.1", "::1", "localhost"}
	switch what {
	case "name":
		l.Issuer.SetIssuer(args[0])
	case "keys":
		var keys []issuer.Key
		for _, algorithm := range args {
			key, err := issuer.NewKey(algorithm, algorithm)
			ts.Check(err)
			keys = append(keys, key)
		}
		l.Issuer.SetKeys(keys...)
	case "metadata":
		var value any
		if len(args) > 1 {
			value = json.RawMessage(args[1])
		}
		l.Issuer.SetMetadata(args[0], value)
	case "page":
		l.Issuer.Inject(args[0], issuer.Fault{Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}}, Body: []byte("<html><title>Login - Authelia</title></html>")})
	case "certificate":
		certificate, err := l.Authority.Issue(authority.Kind(args[0]), hosts...)
		ts.Check(err)
		l.Issuer.SetCertificate(certificate)
	case "age":
		whole, err := time.ParseDuration(args[0])
		ts.Check(err)
		left, err := time.ParseDuration(args[1])
		ts.Check(err)
		end := time.Now().Add(left)
		certificate, err := l.Authority.IssueBetween(authority.Valid, end.Add(-whole), end, hosts...)
		ts.Check(err)
		l.Issuer.SetCertificate(certificate)
	case "clock":
		offset, err := time.ParseDuration(args[0])
		ts.Check(err)
		l.Issuer.SetClockOffset(offset)
	case "redirects":
		client.RedirectURIs = args
		l.Issuer.SetClient(client)
	case "method":
		client.AuthMethod = args[0]
		l.Issuer.SetClient(client)
	case "scopes":
		client.Scopes = args
		l.Issuer.SetClient(client)
	case "pushed":
		client.RequirePushed = args[0] == "required"
		l.Issuer.SetClient(client)
	case "habits": // of other providers; none: Authelia's
		h := issuer.Habits{}
		known := map[string]*bool{"off": &h.Off, "code-first": &h.CodeFirst, "blind": &h.BlindIntrospection, "ignores-none": &h.IgnoresNone, "late": &h.JudgesLate}
		for _, name := range args {
			if status, ok := strings.CutPrefix(name, "pages="); ok {
				n, err := strconv.Atoi(status)
				ts.Check(err)
				h.ErrorPages = n
				continue
			}
			*known[name] = true
		}
		l.Issuer.SetHabits(h)
	case "policy":
		client.ClaimsInToken = true
		l.Issuer.SetClient(client)
	default:
		ts.Fatalf("tune %s: unknown", what)
	}
}

// node VARIABLE [VERSION | untrusting | cut-off | silenced | HOST:PORT | NAME …] starts another node of the cluster. Its
// address is in the variable then. A node with a name listens on port 443 (see streets). An untrusting node does not know
// the issuer's authority. A node that is cut-off cannot connect to the issuer. A silenced one gets no answer from it and
// gives up soon.
func node(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: node VARIABLE [VERSION | untrusting | cut-off | silenced | HOST:PORT | NAME]")
	}
	l := theLab(ts)
	hosts, name := []string{"127.0.0.1", "::1", "localhost"}, ""
	for _, how := range args[1:] {
		if strings.HasSuffix(how, ".com") {
			hosts, name = append(hosts, how), how
		}
	}
	certificate, err := l.Authority.Issue(authority.Valid, hosts...)
	ts.Check(err)
	trust := &tls.Config{RootCAs: l.Authority.Pool(), MinVersion: tls.VersionTLS12}
	options := pve.Options{Certificate: certificate, Seed: l.PVE.State(), LockTimeout: 50 * time.Millisecond}
	transport := &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true}
	if l.town != nil {
		transport.Proxy = func(r *http.Request) (*url.URL, error) {
			if l.town.to(r.URL.Host+":443") == "" {
				return nil, nil
			}
			return l.town.url(), nil
		}
	}
	for _, how := range args[1:] {
		switch {
		case how == "untrusting":
			trust.RootCAs = x509.NewCertPool()
		case how == "cut-off":
			transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: "127.0.0.1:1"})
		case how == "silenced":
			silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections and never answers
			ts.Check(err)
			ts.Defer(func() { _ = silent.Close() })
			transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: silent.Addr().String()})
			options.IssuerTimeout = 100 * time.Millisecond
		case how == name:
		case strings.Contains(how, ":"):
			options.Listen = how
		default:
			options.Version = how
		}
	}
	options.IssuerClient = &http.Client{Transport: transport}
	s, err := pve.Start(options)
	ts.Check(err)
	ts.Defer(func() { _ = s.Close() })
	l.nodes = append(l.nodes, s)
	if name != "" {
		l.streets(ts).lead(name+":443", strings.TrimPrefix(s.URL(), "https://"))
		ts.Setenv(args[0], "https://"+name+":443")
		return
	}
	ts.Setenv(args[0], s.URL())
}

// access METHOD PATH [PARAMETER=VALUE …] sends a request to Proxmox as root.
func access(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: access METHOD PATH [PARAMETER=VALUE …]")
	}
	form := url.Values{}
	for _, pair := range args[2:] {
		name, value, _ := strings.Cut(pair, "=")
		form.Set(name, value)
	}
	atAPI(ts, args[0], args[1], form)
}

func atAPI(ts *testscript.TestScript, method, path string, form url.Values) {
	l := theLab(ts)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: l.Authority.Pool(), MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}}
	request, err := http.NewRequest(method, l.PVE.URL()+"/api2/json"+path, bytes.NewReader([]byte(form.Encode())))
	ts.Check(err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Authorization", "PVEAPIToken="+l.PVE.Token(pve.TokenRoot))
	response, err := client.Do(request)
	ts.Check(err)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		ts.Fatalf("%s %s: %s", method, path, response.Status)
	}
}

// heeded [WORD=VALUE …] runs every pveum line that the last command printed, as an administrator would on a node. It
// replaces each WORD in them.
func heeded(ts *testscript.TestScript, neg bool, args []string) {
	printed := ts.ReadFile("stdout") + ts.ReadFile("stderr")
	lines := pveumLine.FindAllStringSubmatch(printed, -1)
	if neg || len(lines) == 0 {
		ts.Fatalf("no pveum line was printed:\n%s", printed)
	}
	var done []string
	for _, found := range lines {
		line := found[1]
		for _, pair := range args {
			word, value, _ := strings.Cut(pair, "=")
			line = strings.ReplaceAll(line, word, value)
		}
		if !slices.Contains(done, line) {
			pveum(ts, strings.Fields(strings.ReplaceAll(line, "'", "")))
			done = append(done, line)
		}
	}
}

// pveumLine matches a pveum line up to the end of the command or of the line, in text or JSON.
var pveumLine = regexp.MustCompile(`(pveum (?:role|acl|user|group) .+?)(?:;|\\n|"|\n)`)

// pveum runs one line through the API, as the pveum command does (PVE::CLI::pveum).
func pveum(ts *testscript.TestScript, words []string) {
	form, arguments := url.Values{}, []string{}
	for i := 3; i < len(words); i++ {
		if name, isOption := strings.CutPrefix(words[i], "--"); isOption && i+1 < len(words) {
			i++
			form.Set(name, words[i])
		} else {
			arguments = append(arguments, words[i])
		}
	}
	switch command := words[1] + " " + words[2]; command {
	case "role add":
		form.Set("roleid", arguments[0])
		atAPI(ts, http.MethodPost, "/access/roles", form)
	case "acl modify":
		form.Set("path", arguments[0])
		atAPI(ts, http.MethodPut, "/access/acl", form)
	case "user add":
		form.Set("userid", arguments[0])
		atAPI(ts, http.MethodPost, "/access/users", form)
	case "user token": // the script has a token already
	case "user modify":
		atAPI(ts, http.MethodPut, "/access/users/"+arguments[0], form)
	case "group add":
		form.Set("groupid", arguments[0])
		atAPI(ts, http.MethodPost, "/access/groups", form)
	default:
		ts.Fatalf("pveum %s: unknown", command)
	}
}

// found ID STATUS SUMMARY [HINT] expects a check in the last command's JSON report whose summary and hint match.
// found only STATUS … expects no check of another status.
func found(ts *testscript.TestScript, neg bool, args []string) {
	var report struct {
		Targets []struct {
			Checks []struct{ ID, Status, Summary, Evidence, Hint string }
		}
	}
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &report); err != nil || len(report.Targets) == 0 {
		ts.Fatalf("no report: %v", err)
	}
	instance, err := jsonschema.UnmarshalJSON(strings.NewReader(ts.ReadFile("stdout")))
	if err == nil {
		err = reportSchema().Validate(instance)
	}
	ts.Check(err)
	matches := func(what, pattern, text string) {
		if !regexp.MustCompile(pattern).MatchString(text) {
			ts.Fatalf("%s of %s is %q, which does not match %q", what, args[0], text, pattern)
		}
	}
	seen := false
	for _, c := range report.Targets[0].Checks {
		switch {
		case args[0] == "only" && !slices.Contains(args[1:], c.Status):
			ts.Fatalf("%s: %s: %s (%s; %s)", c.ID, c.Status, c.Summary, c.Evidence, c.Hint)
		case args[0] == c.ID:
			seen = true
			if c.Status != args[1] {
				ts.Fatalf("%s is %s: %s (%s)", c.ID, c.Status, c.Summary, c.Evidence)
			}
			for i, text := range []string{c.Summary, c.Hint, c.Evidence} {
				if len(args) > 2+i {
					matches([]string{"summary", "hint", "evidence"}[i], args[2+i], text)
				}
			}
		}
	}
	if args[0] != "only" && seen == neg {
		ts.Fatalf("%s was found: %v", args[0], seen)
	}
}

// reportSchema is what `config schema --report` prints.
var reportSchema = sync.OnceValue(func() *jsonschema.Schema {
	var text bytes.Buffer
	if code := cli.Main([]string{"config", "schema", "--report"}, nil, &text, io.Discard); code != 0 {
		panic(code)
	}
	document, err := jsonschema.UnmarshalJSON(&text)
	if err != nil {
		panic(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("schema.json", document); err != nil {
		panic(err)
	}
	return compiler.MustCompile("schema.json")
})

// expand FILE … replaces variables in configurations and makes the files private.
func expand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: expand FILE …")
	}
	for _, file := range args {
		text := os.Expand(ts.ReadFile(file), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o600))
		ts.Check(os.Chmod(ts.MkAbs(file), 0o600))
	}
}
