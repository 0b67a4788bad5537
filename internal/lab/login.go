package lab

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
)

// LogIn logs a user of the lab's issuer in to Proxmox, as the web interface does: authorization URL, login page,
// consent, code. It returns the user id of Proxmox. The issuer sends the browser back to redirectURL; empty means
// l.RedirectURL.
func (l *Lab) LogIn(ctx context.Context, username, password, redirectURL string) (user string, err error) {
	if redirectURL == "" {
		redirectURL = l.RedirectURL
	}
	browser := l.browser(nil)
	defer browser.CloseIdleConnections()
	var address string
	err = l.ask(ctx, browser, "/access/openid/auth-url", url.Values{"realm": {RealmName}, "redirect-url": {redirectURL}}, &address)
	if err != nil {
		return "", err
	}
	back, err := l.Authorize(ctx, address, username, password, "accept")
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(back.String(), redirectURL) {
		return "", fmt.Errorf("the issuer sent the browser to %s", back.Redacted())
	}
	var session struct{ Username string }
	query := back.Query()
	err = l.ask(ctx, browser, "/access/openid/login", url.Values{
		"state": {query.Get("state")}, "code": {query.Get("code")}, "redirect-url": {redirectURL},
	}, &session)
	return session.Username, err
}

// browser returns a client that trusts the lab's authority, and follows redirects to the issuer only.
func (l *Lab) browser(jar http.CookieJar) *http.Client {
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: l.Authority.Pool(), MinVersion: tls.VersionTLS12}},
		Jar:       jar,
		CheckRedirect: func(request *http.Request, _ []*http.Request) error {
			if !strings.HasPrefix(request.URL.String(), l.IssuerURL+"/") {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
}

// ask posts a form to Proxmox, without credentials, and decodes the data of the answer.
func (l *Lab) ask(ctx context.Context, client *http.Client, path string, form url.Values, data any) error {
	request, err := formRequest(ctx, l.origins()[0]+"/api2/json"+path, form)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		reason, err := io.ReadAll(response.Body) // Proxmox VE puts the reason into the status
		return errors.Join(fmt.Errorf("%s: %s %s", request.URL.Path, response.Status, reason), err)
	}
	return json.NewDecoder(response.Body).Decode(&struct {
		Data any `json:"data"`
	}{data})
}

func formRequest(ctx context.Context, target string, form url.Values) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return request, nil
}

var flowID = regexp.MustCompile(`name="flow_id" value="([^"]+)"`)

// Authorize opens an address of the issuer as a browser does, and fills in its pages: the login, and the decision, which is accept
// or deny. It returns the address to which the issuer sends the browser back.
func (l *Lab) Authorize(ctx context.Context, address, username, password, decision string) (*url.URL, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	browser := l.browser(jar)
	defer browser.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	// Login page and consent page post to themselves.
	for _, form := range []url.Values{{"username": {username}, "password": {password}}, {"decision": {decision}}} {
		page, body, err := read(browser, request) //nolint:bodyclose // read closes it
		if err != nil {
			return nil, err
		}
		flow := flowID.FindStringSubmatch(body)
		if flow == nil || page.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("the issuer refuses the login: %s at %s", page.Status, page.Request.URL.Redacted())
		}
		form.Set("flow_id", flow[1])
		if request, err = formRequest(ctx, page.Request.URL.String(), form); err != nil {
			return nil, err
		}
	}
	page, _, err := read(browser, request) //nolint:bodyclose // read closes it
	if err != nil {
		return nil, err
	}
	back, err := page.Location()
	if errors.Is(err, http.ErrNoLocation) {
		return nil, fmt.Errorf("the issuer does not send the browser back: %s at %s", page.Status, page.Request.URL.Redacted())
	}
	return back, err
}

func read(client *http.Client, request *http.Request) (*http.Response, string, error) {
	response, err := client.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return response, string(body), err
}
