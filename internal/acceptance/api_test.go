//go:build acceptance

package acceptance

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// product is what differs between the products' APIs, as far as the suite uses them.
type product struct {
	id, header, realms string
	typed              bool     // a create names the type of the realm
	absent             string   // what the answer says of a realm that does not exist
	defaults           []string // realms that may have the flag of the default realm
}

var products = []product{
	{"pve", "PVEAPIToken=", "/access/domains", true, "does not exist", []string{"pam", "pve"}},
	{"pbs", "PBSAPIToken=", "/config/access/openid", false, "no such openid", []string{"pam", "pbs"}},
	{"pdm", "PDMAPIToken=", "/config/access/openid", false, "no such openid", []string{"pam", "pdm"}},
}

// api asks the API directly, as root: this is the rest of the world.
type api struct {
	product    product
	version    string // such as "9.2"
	client     *http.Client
	remembered map[string]string // what was stored, by realm
	meddlers   []func()          // end what others keep changing
}

func newAPI() (*api, error) {
	a := &api{product: products[0]}
	if id := os.Getenv("LAB_PRODUCT"); id != "" {
		i := slices.IndexFunc(products, func(p product) bool { return p.id == id })
		if i < 0 {
			return nil, fmt.Errorf("LAB_PRODUCT: no product %s", id)
		}
		a.product = products[i]
	}
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(os.Getenv("LAB_CA_FILE"))
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("LAB_CA_FILE: no certificate: %w", err)
	}
	a.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, IdleConnTimeout: 4 * time.Second, // Proxmox closes idle connections after 5
	}}
	var v struct{ Version string }
	answer, err := a.must(http.MethodGet, "/version", nil)
	if err == nil {
		err = json.Unmarshal(answer, &v)
	}
	a.version = v.Version
	return a, err
}

// ask sends a form and returns the status, the data, and what an error says.
func (a *api) ask(method, path string, form url.Values) (status int, data json.RawMessage, says string, err error) {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	request, err := http.NewRequest(method, os.Getenv("LAB_ENDPOINT")+"/api2/json"+path, body)
	if err != nil {
		return 0, nil, "", err
	}
	request.Header.Set("Authorization", a.product.header+os.Getenv("LAB_TOKEN_ROOT"))
	if body != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := a.client.Do(request)
	if err != nil {
		return 0, nil, "", err
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	var decoded struct{ Data json.RawMessage }
	_ = json.Unmarshal(raw, &decoded) // some errors are plain text
	return response.StatusCode, decoded.Data, response.Status + " " + string(raw), err
}

func (a *api) must(method, path string, form url.Values) (json.RawMessage, error) {
	status, data, says, err := a.ask(method, path, form)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s %s: the API answers %s", method, path, says)
	}
	return data, err
}

// stored reads a realm; values are as text, true and false as 1 and 0.
func (a *api) stored(realm string) (map[string]string, bool, error) {
	status, data, says, err := a.ask(http.MethodGet, a.product.realms+"/"+realm, nil)
	switch {
	case err != nil:
		return nil, false, err
	case status != http.StatusOK && strings.Contains(says, a.product.absent):
		return nil, false, nil
	case status != http.StatusOK:
		return nil, false, errors.New(says)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, false, err
	}
	texts := map[string]string{}
	for name, v := range fields {
		texts[name] = strings.NewReplacer("true", "1", "false", "0").Replace(fmt.Sprint(v))
		if s, ok := v.(string); ok {
			texts[name] = s
		}
	}
	return texts, true, nil
}

func (a *api) remove(realm string) {
	if _, exists, err := a.stored(realm); err == nil && exists {
		_, _, _, _ = a.ask(http.MethodDelete, a.product.realms+"/"+realm, nil)
	}
	if a.product.id != "pve" {
		return
	}
	var groups []struct{ GroupID string }
	if data, err := a.must(http.MethodGet, "/access/groups", nil); err == nil && json.Unmarshal(data, &groups) == nil {
		for _, g := range groups {
			if strings.HasSuffix(g.GroupID, "-"+realm) {
				_, _, _, _ = a.ask(http.MethodDelete, "/access/groups/"+g.GroupID, nil)
			}
		}
	}
}

// keepDefault puts the flag of the default realm back after the script.
func (a *api) keepDefault(e *testscript.Env) error {
	data, err := a.must(http.MethodGet, "/access/domains", nil)
	var realms []struct {
		Realm   string
		Default any
	}
	if err == nil {
		err = json.Unmarshal(data, &realms)
	}
	for _, r := range realms {
		if r.Default == nil || r.Default == false {
			continue
		}
		path := a.product.realms + "/" + r.Realm
		if slices.Contains(a.product.defaults, r.Realm) {
			path = map[string]string{"pve": "/access/domains/"}[a.product.id]
			if path == "" {
				path = "/config/access/"
			}
			path += r.Realm
		}
		e.Defer(func() { _, _, _, _ = a.ask(http.MethodPut, path, url.Values{"default": {"1"}}) })
	}
	return err
}

// content identifies what the API holds of a realm.
func (a *api) content(realm string) (string, error) {
	fields, exists, err := a.stored(realm)
	if err != nil || !exists {
		return "", errors.Join(err, fmt.Errorf("realm %s does not exist", realm))
	}
	delete(fields, "digest") // it is of all realms
	text, err := json.Marshal(fields)
	return string(text), err
}

func form(pairs []string) url.Values {
	values := url.Values{}
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		values.Add(name, value)
	}
	return values
}

// realm NAME [PROPERTY=VALUE …] expects a realm with these values; an empty value means absent, or false. ! realm NAME expects none.
// realm NAME create|set|delete [PROPERTY=VALUE …] changes it, as somebody else would. realm NAME note remembers what is stored,
// and realm NAME kept expects that.
func realm(ts *testscript.TestScript, neg bool, args []string) {
	a, name := theAPI(ts), args[0]
	path := a.product.realms + "/" + name
	verb := ""
	if len(args) > 1 {
		verb = args[1]
	}
	switch verb {
	case "create":
		values := form(append([]string{
			"realm=" + name, "issuer-url=" + os.Getenv("LAB_ISSUER"), "client-id=" + os.Getenv("LAB_CLIENT_ID"),
		}, args[2:]...))
		if a.product.typed {
			values.Set("type", "openid")
		}
		_, err := a.must(http.MethodPost, a.product.realms, values)
		ts.Check(err)
		return
	case "set":
		_, err := a.must(http.MethodPut, path, form(args[2:]))
		ts.Check(err)
		return
	case "delete":
		_, err := a.must(http.MethodDelete, path, nil)
		ts.Check(err)
		return
	case "note", "kept":
		now, err := a.content(name)
		ts.Check(err)
		if verb == "kept" && a.remembered[name] != now {
			ts.Fatalf("realm %s is not as it was", name)
		}
		a.remembered[name] = now
		return
	}
	have, exists, err := a.stored(name)
	ts.Check(err)
	if exists == neg {
		ts.Fatalf("realm %s exists: %t", name, exists)
	}
	for _, pair := range args[1:] {
		property, want, _ := strings.Cut(pair, "=")
		got := have[property]
		if got == "0" {
			got = ""
		}
		if property == "client-key" && got != want {
			ts.Fatalf("client-key is not the expected one")
		}
		if got != want {
			ts.Fatalf("%s is %q, expected %q", property, got, want)
		}
	}
}

// api METHOD PATH [NAME=VALUE …] asks as root and expects 200.
func direct(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: api METHOD PATH [NAME=VALUE …]")
	}
	var values url.Values
	if len(args) > 2 {
		values = form(args[2:])
	}
	_, err := theAPI(ts).must(args[0], args[1], values)
	ts.Check(err)
}

// granted GROUP [PATH:ROLE[:here] …] expects exactly these grants of a group, in any order; here: not below the path.
func granted(ts *testscript.TestScript, neg bool, args []string) {
	data, err := theAPI(ts).must(http.MethodGet, "/access/acl", nil)
	ts.Check(err)
	var entries []struct {
		Path, Type, UGID, RoleID string
		Propagate                int
	}
	ts.Check(json.Unmarshal(data, &entries))
	var have []string
	for _, e := range entries {
		if e.Type == "group" && e.UGID == args[0] {
			have = append(have, strings.TrimSuffix(e.Path+":"+e.RoleID+":"+map[int]string{0: "here"}[e.Propagate], ":"))
		}
	}
	want := slices.Clone(args[1:])
	slices.Sort(have)
	slices.Sort(want)
	if neg || !slices.Equal(have, want) {
		ts.Fatalf("the grants of %s are %v, expected %v", args[0], have, want)
	}
}

// meddle METHOD PATH NAME=VALUE … sends a request again and again, as root, until "meddle stop" or the end of the script. %d in a
// value counts, and %b is 0 and 1 in turn.
func meddle(ts *testscript.TestScript, neg bool, args []string) {
	a := theAPI(ts)
	if args[0] == "stop" {
		for _, stop := range a.meddlers {
			stop()
		}
		a.meddlers = nil
		return
	}
	ended, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		for i := 0; ; i++ {
			select {
			case <-ended:
				return
			default:
				values := strings.NewReplacer("%d", fmt.Sprint(i), "%b", fmt.Sprint(i%2)).Replace(strings.Join(args[2:], "\n"))
				_, _, _, _ = a.ask(args[0], args[1], form(strings.Split(values, "\n")))
			}
		}
	}()
	stop := sync.OnceFunc(func() { close(ended); <-gone })
	a.meddlers = append(a.meddlers, stop)
	ts.Defer(stop)
}

// failedlogin REALM begins a login and ends it with a code that the issuer never gave. The API refuses it.
func failedLogin(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: failedlogin REALM")
	}
	a, redirect := theAPI(ts), os.Getenv("LAB_REDIRECT_URL")
	data, err := a.must(http.MethodPost, "/access/openid/auth-url", url.Values{"realm": {args[0]}, "redirect-url": {redirect}})
	ts.Check(err)
	var location string
	ts.Check(json.Unmarshal(data, &location))
	begun, err := url.Parse(location)
	ts.Check(err)
	status, _, says, err := a.ask(http.MethodPost, "/access/openid/login", url.Values{
		"state": {begun.Query().Get("state")}, "code": {"made-up"}, "redirect-url": {redirect},
	})
	ts.Check(err)
	if status != http.StatusUnauthorized {
		ts.Fatalf("a login with a made-up code: %s", says)
	}
}

// removed PATH … removes what is at these paths at the end of the script.
func removed(ts *testscript.TestScript, neg bool, args []string) {
	a := theAPI(ts)
	for _, path := range args {
		ts.Defer(func() { _, _, _, _ = a.ask(http.MethodDelete, path, nil) })
	}
}
