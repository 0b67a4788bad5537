// Package login rehearses a login through Proxmox, like its web interface (PVE::API2::OpenId). Proxmox gives the
// authorization URL. A browser goes there, and the issuer sends it back to a port of this machine. Proxmox exchanges the
// code for a ticket. The rehearsal shows which user Proxmox logged in, and what that user may do.
//
// The code, the state and the ticket are neither shown nor kept. Like any login, a rehearsal leaves an entry in the logs
// and, with autocreate, the user.
package login

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

const (
	// DefaultWait is how long the user has to log in, unless [Options].Wait says otherwise.
	DefaultWait = 5 * time.Minute
	// maxWait is how long Proxmox remembers a login that it began (proxmox-openid, auth_state.rs).
	maxWait = 10 * time.Minute
)

// Options say what is rehearsed, and how it reaches the user.
type Options struct {
	Target config.Target
	Client *proxmox.Client
	Node   string        // one of the client's endpoints, or its host; "": the first that answers
	Listen string        // the host:port on loopback that the browser comes back to; "": that of [RedirectURL]
	Wait   time.Duration // for the user to log in; 0: [DefaultWait]; at most 10 minutes, when Proxmox forgets

	Open  func(address string) error // opens a browser; may block while it runs; nil: the address is shown
	Paste io.Reader                  // lines that may hold the address that the browser was sent to; nil: none
	Note  func(text string)          // tells the user what happens, one line
	Show  func(address string)       // shows an address that the user opens

	UserAgent string
	Log       *slog.Logger
}

// Result is what became of a rehearsal. [JSON] adds what has no form there.
type Result struct {
	Target      string `json:"target"`
	Endpoint    string `json:"endpoint"` // the node that the login went through
	Realm       string `json:"realm"`
	Issuer      string `json:"issuer"`
	RedirectURL string `json:"redirect_url"` // the issuer must know it

	Cause diagnose.Cause `json:"-"` // why the login failed, or set no groups; "": not known, or nothing is wrong

	Identity

	Checks   []check.Check `json:"-"` // that warn or fail, if the login failed
	Warnings []string      `json:"-"`
	Err      error         `json:"-"` // with [check.LoginFailed] if the login failed, or if nobody logged in
	Duration time.Duration `json:"-"`
}

// Outcome returns changed if Proxmox created the user, and unverified if the login failed.
func (r Result) Outcome() reconcile.Outcome {
	switch {
	case check.CodeOf(r.Err) == check.LoginFailed:
		return reconcile.Unverified
	case r.Err != nil:
		return reconcile.Failed
	case r.Created != nil && *r.Created:
		return reconcile.Changed
	}
	return reconcile.Unchanged
}

// Run rehearses one login. It returns after the login, or when nobody logs in within the wait, or when ctx ends. Nothing
// listens afterwards.
func Run(ctx context.Context, o Options) Result {
	began := time.Now()
	result := Result{Target: o.Target.Name, Realm: o.Target.Realm.Name, Endpoint: string(o.Client.Endpoint())}
	result.Err = run(ctx, o, &result)
	result.Duration = time.Since(began)
	return result
}

// run makes the steps of a rehearsal and fills the result.
func run(ctx context.Context, o Options, result *Result) error {
	node, err := choose(o.Client, o.Node)
	if err != nil {
		return err
	}
	current, err := node.Realm(ctx, o.Target.Realm.Name)
	result.Endpoint = string(node.Endpoint())
	switch {
	case err != nil:
		return err
	case !current.Exists:
		return check.Errorf(check.LoginFailed, "realm %s does not exist on %s", o.Target.Realm.Name, result.Endpoint).
			Try("it creates the realm:\n    {apply}")
	case current.Type != realm.Type:
		return check.Errorf(check.WrongType,
			"realm %s has the type %s, and only a login through OpenID Connect can be rehearsed",
			o.Target.Realm.Name, check.NewCleaner().Clean(current.Type))
	}
	if !realm.Diff(o.Target.Realm, current, realm.Facts{}).Empty() {
		result.Warnings = append(result.Warnings,
			"the realm differs from the configuration, and this login uses the realm as it is")
	}
	held := current.Values.Login(o.Target.Realm.Name)
	before := listUsers(ctx, node, held.Realm, o.Log)
	r := &rehearsal{Options: o, cleaner: check.NewCleaner(held.ClientKey), node: node, held: held}
	result.Issuer = r.cleaner.Clean(held.IssuerURL)
	back, err := listen(ctx, o.Listen, o.Log)
	if err != nil {
		return err
	}
	defer back.close(ctx)
	r.redirectURL = back.redirect.String()
	result.RedirectURL = r.redirectURL
	o.Note(fmt.Sprintf("the issuer must know the redirect URL %s for the client %s", r.redirectURL, r.cleaner.Clean(held.ClientID)))

	if o.Target.Verify.Issuer {
		client := issuer.New(issuer.Options{
			Roots: o.Target.Verify.IssuerCA, UserAgent: o.UserAgent, Cleaner: r.cleaner, Log: o.Log,
		})
		defer client.Close()
		r.inspection = client.Inspect(ctx, held.IssuerURL)
		if result.Checks, err = r.askIssuer(ctx); err != nil {
			return err
		}
	}
	to, err := r.begin(ctx)
	if err != nil {
		return err
	}
	result.Endpoint = string(to.Endpoint)
	came, err := r.await(ctx, back, to)
	if err != nil {
		return err
	}
	began := time.Now()
	session, why, err := r.complete(ctx, to, came, began)
	if err != nil {
		result.Checks, result.Cause = why.checks, why.cause
		came.done <- failure.saying(check.MessageOf(err))
		return err
	}
	came.done <- success.saying("Proxmox takes you for " + session.Username)
	result.Identity, err = r.describe(ctx, session, before, began)
	if err != nil {
		result.Warnings = append(result.Warnings, fmt.Sprintf("the privileges of %s cannot be read: %v", session.Username, err))
	}
	return nil
}

// rehearsal is what the steps share. Nothing in it changes after the browser was sent to the issuer.
type rehearsal struct {
	Options
	cleaner     *check.Cleaner
	node        *proxmox.Client    // the chosen endpoint, or all of them
	held        realm.Login        // what logins use of the realm as it is
	redirectURL string             // where the browser comes back to
	inspection  *issuer.Inspection // nil if this machine cannot reach the issuer, so nothing vouches for the address
}

// choose returns a client of the wanted node, or the client itself if any node will do.
func choose(client *proxmox.Client, wanted string) (*proxmox.Client, error) {
	if wanted == "" {
		return client, nil
	}
	wanted = strings.ToLower(strings.TrimSuffix(wanted, "/"))
	var all []string
	for _, endpoint := range client.Endpoints() {
		u, err := url.Parse(string(endpoint))
		if err == nil && slices.Contains([]string{u.String(), u.Host, u.Hostname()}, wanted) {
			return client.On(endpoint), nil
		}
		all = append(all, string(endpoint))
	}
	return nil, check.Errorf(check.Usage, "no endpoint has this name").
		Try(check.Hintf("choose one of %s", strings.Join(all, ", ")))
}
