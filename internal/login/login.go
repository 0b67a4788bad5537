// Package login rehearses a login through Proxmox as the web interface makes it: Proxmox gives the authorization URL, a
// browser goes there and comes back to a port of this machine, Proxmox takes the code and says who it takes the
// user for (PVE::API2::OpenId). Whatever breaks a login shows here, before somebody is locked out.
//
// The code, the state and the ticket that Proxmox returns are neither shown nor kept. What the rehearsal leaves behind
// is what any login does: an entry in the logs, and where the realm has autocreate, the user.
package login

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/pve"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

const (
	// DefaultWait is how long the user may take where nothing else is said.
	DefaultWait = 5 * time.Minute
	// maxWait is how long Proxmox remembers a login that it began (proxmox-openid, auth_state.rs).
	maxWait = 10 * time.Minute
)

// Options say what is rehearsed, and how it reaches the user.
type Options struct {
	Target config.Target // its realm's name, the authorities of its issuer, and verify.issuer
	Client *pve.Client
	Node   string // one of the client's endpoints, or its host; "": any that answers
	// Listen is host:port on loopback, with a path or without: where the browser comes back to. "" means
	// [RedirectURL], or any free port where that one is taken.
	Listen string
	Wait   time.Duration // for the user to log in; 0: [DefaultWait]; at most 10 minutes, when Proxmox forgets

	Open  func(address string) error // opens a browser; may block while it runs; nil: the address is shown
	Paste io.Reader                  // lines in which the address may stand that the browser was sent to; nil: none
	Note  func(text string)          // says what is going on, one line
	Show  func(address string)       // shows an address to be opened by hand

	UserAgent string
	Log       *slog.Logger
}

// Result is what became of a rehearsal.
type Result struct {
	Target      string
	Endpoint    string // the node that the login went through
	Realm       string
	Issuer      string
	RedirectURL string // that the issuer must know

	User       string              // user@realm; "" where nobody was logged in
	Created    *bool               // whether Proxmox created the user just now; nil: not visible
	Groups     []string            // of Proxmox, sorted; nil: not visible
	Privileges map[string][]string // by path, sorted; nil: not visible
	Hint       string              // what lets a user do something who may do nothing

	Checks   []check.Check // where the login failed: findings that may tell why
	Warnings []string
	Err      error // of [check.LoginFailed] where a login through the realm does not work
	Duration time.Duration
}

// Outcome is the result in one word: changed where Proxmox created the user.
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

// Run rehearses one login. It returns when the user has logged in, when that has failed, when the wait is over, or when ctx
// ends; nothing listens any more then.
func Run(ctx context.Context, o Options) Result {
	began := time.Now()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &rehearsal{Options: o, cleaner: check.NewCleaner()}
	r.result = Result{Target: o.Target.Name, Realm: o.Target.Realm.Name, Endpoint: o.Client.Endpoint()}
	r.result.Err = r.run(ctx)
	r.result.Duration = time.Since(began)
	return r.result
}

// rehearsal is one run.
type rehearsal struct {
	Options
	cleaner *check.Cleaner
	result  Result

	node       *pve.Client // the chosen endpoint, or all of them
	login      realm.Login // as Proxmox holds it, which is what logins use
	inspection *issuer.Inspection
	before     []pve.User // the realm's users
	visible    bool       // whether the credentials see users
}

// run is the whole of it, in order.
func (r *rehearsal) run(ctx context.Context) error {
	if err := r.choose(); err != nil {
		return err
	}
	if err := r.readRealm(ctx); err != nil {
		return err
	}
	back, err := listen(ctx, r.Listen)
	if err != nil {
		return err
	}
	defer back.close(ctx)
	r.result.RedirectURL = back.redirect.String()
	if back.moved {
		r.Note(fmt.Sprintf("port %s is taken on this machine: another one is used, which issuers that compare ports refuse", defaultPort))
	}
	r.Note(fmt.Sprintf("the issuer must know the redirect URL %s for the client %s", r.result.RedirectURL, r.cleaner.Clean(r.login.ClientID)))

	if r.Target.Verify.Issuer {
		client, err := r.issuerClient()
		if err != nil {
			return err
		}
		defer client.Close()
		r.inspection = client.Inspect(ctx, r.login.IssuerURL)
		if err := r.askIssuer(ctx); err != nil {
			return err
		}
	}
	destination, err := r.begin(ctx)
	if err != nil {
		return err
	}
	came, err := r.await(ctx, back, destination)
	if err != nil {
		return err
	}
	session, err := r.complete(ctx, destination, came)
	came.done <- r.outcome(session, err)
	if err != nil {
		return err
	}
	r.describe(ctx, session)
	return nil
}

// choose settles which node the login goes through.
func (r *rehearsal) choose() error {
	r.node = r.Client
	if r.Node == "" {
		return nil
	}
	all := r.Client.Endpoints()
	wanted := strings.ToLower(strings.TrimSuffix(r.Node, "/"))
	for _, endpoint := range all {
		if u, err := url.Parse(endpoint); err == nil && slices.Contains([]string{endpoint, u.Host, u.Hostname()}, wanted) {
			r.node, r.result.Endpoint = r.Client.On(endpoint), endpoint
			return nil
		}
	}
	return check.Errorf(check.Usage, "there is no such node among the endpoints").Try(check.Advise("choose one of %s", strings.Join(all, ", ")))
}

// readRealm reads what logins use, and which users there are.
func (r *rehearsal) readRealm(ctx context.Context) error {
	name := r.Target.Realm.Name
	current, err := r.node.Realm(ctx, name)
	if err != nil {
		return err
	}
	r.result.Endpoint = r.node.Endpoint()
	switch {
	case !current.Exists:
		return check.Errorf(check.LoginFailed, "realm %s does not exist on %s", name, r.result.Endpoint).Try(check.Advise("`proxmox-realm apply` creates it"))
	case current.Type != realm.Type:
		return check.Errorf(check.WrongType, "realm %s has the type %s: only a login through OpenID Connect is rehearsed", name, r.cleaner.Clean(current.Type))
	}
	r.login = current.Values.Login(name)
	r.result.Issuer = r.cleaner.Clean(r.login.IssuerURL)
	r.cleaner.Hold(r.login.ClientKey)
	if plan := realm.Diff(r.Target.Realm, current, realm.Facts{}); !plan.Empty() {
		r.warn("realm %s is not as the configuration says: this login is one through the realm as Proxmox holds it; `proxmox-realm plan` shows the difference", name)
	}
	users, list, err := r.node.Users(ctx, name)
	if err != nil {
		r.Log.Debug("listing users", "realm", name, "error", err)
	}
	r.before, r.visible = list, users.Visible
	return nil
}

func (r *rehearsal) issuerClient() (*issuer.Client, error) {
	var roots *x509.CertPool
	if file := r.Target.Verify.IssuerCAFile; file != "" {
		ca, err := os.ReadFile(file)
		if err != nil {
			return nil, check.Errorf(check.Config, "verify.issuer_ca_file: %v", err).Try(check.Advise("give a PEM file that this user can read")).Because(err)
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(ca) {
			return nil, check.Errorf(check.Config, "verify.issuer_ca_file: no certificate in PEM form").Try(check.Advise("give a PEM file of the issuer's certificate authority"))
		}
	}
	return issuer.New(issuer.Options{Roots: roots, UserAgent: r.UserAgent, Cleaner: r.cleaner, Log: r.Log}), nil
}

// askIssuer finds out, before a user is troubled, whether the issuer can be used and would send a browser back here.
func (r *rehearsal) askIssuer(ctx context.Context) error {
	if r.inspection.Wait(ctx) != nil {
		return context.Cause(ctx)
	}
	if _, ok := r.inspection.AuthorizationEndpoint(); !ok || !r.inspection.Quick() {
		checks := r.inspection.Checks(r.view(ctx))
		if failed := check.Failures(checks); len(failed) > 0 {
			r.result.Checks = findings(checks)
			return check.Errorf(check.LoginFailed, "the issuer is not fit for a login: %s: %s", failed[0].ID, failed[0].Summary).Try(failed[0].Remedy...)
		}
		return check.Errorf(check.LoginFailed, "the issuer took too long to answer this machine, and a silent one would block a worker of the Proxmox node").
			Try(check.Advise("`proxmox-realm probe` shows how it answers; try again when it is quicker"))
	}
	answer := r.inspection.Client(ctx, r.question(true))
	switch answer.Redirect.Decision {
	case issuer.Rejected:
		found, _ := check.Find(answer.Checks, check.ClientRedirect)
		return check.Errorf(check.LoginFailed, "%s: %s", found.Summary, answer.Redirect.Reason).
			Try(check.Advise("%s\n%s", found.Remedy, r.registering()))
	case issuer.RateLimited, issuer.NoVerdict:
		r.Note("whether the issuer knows the redirect URL cannot be told beforehand: " + answer.Redirect.Reason)
	case issuer.Accepted:
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// registering says how the redirect URL comes into Authelia's configuration.
func (r *rehearsal) registering() string {
	const restart = "restart Authelia after a change"
	if u, err := url.Parse(r.result.RedirectURL); err != nil || u.Hostname() != loopback || u.Path != defaultPath {
		return restart // --with-login registers the usual address, of which the port alone is free
	}
	return "`proxmox-realm authelia --with-login` prints the whole client for Authelia; " + restart
}

func (r *rehearsal) question(keyUnknown bool) issuer.Question {
	return issuer.Question{Login: r.login, KeyUnknown: keyUnknown, RedirectURLs: []string{r.result.RedirectURL}, RedirectsDeclared: true}
}

func (r *rehearsal) view(ctx context.Context) issuer.View {
	server, local, known := r.node.Date()
	view := issuer.View{Login: r.login, ClockOffset: server.Sub(local), ClockKnown: known, MaxSkew: r.Target.Verify.MaxClockSkew}
	if r.inspection.NeedsVersion() {
		var err error
		if view.Version, err = r.node.Version(ctx); err != nil {
			r.Log.Debug("asking for the version", "error", err)
		}
	}
	return view
}

// begin makes Proxmox begin a login, and looks at where it would send a browser before one goes there.
func (r *rehearsal) begin(ctx context.Context) (destination, error) {
	made, err := r.node.AuthURL(ctx, r.login.Realm, r.result.RedirectURL)
	var failure *pve.Error
	if errors.As(err, &failure) && breaksLogins(failure.Kind) {
		described := check.Describe(err)
		return destination{}, check.Errorf(check.LoginFailed, "%s", described.Message).Try(check.Advise("%s", described.Hint())).Because(err)
	}
	if err != nil {
		return destination{}, err
	}
	r.result.Endpoint = made.Endpoint
	r.cleaner.Hold(check.NewSecret(made.State))
	endpoint := ""
	if r.inspection != nil {
		endpoint, _ = r.inspection.AuthorizationEndpoint()
	}
	if wrong := examine(made.Raw, endpoint, r.login, r.result.RedirectURL); len(wrong) > 0 {
		return destination{}, check.Errorf(check.LoginFailed, "the authorization URL of %s is not the one that the realm should produce, so that no browser is sent there: %s",
			made.Endpoint, r.cleaner.Clean(strings.Join(wrong, "; "))).
			Try(check.Advise("the node may see another issuer than this machine, or another configuration: run `proxmox-realm verify --all-endpoints`"))
	}
	return destination{endpoint: made.Endpoint, address: made.Raw, state: made.State, trusted: endpoint != ""}, nil
}

// destination is where the browser is sent.
type destination struct {
	endpoint string // the node that began the login
	address  string
	state    string
	trusted  bool // it lies on the authorization endpoint that the issuer names to this machine
}

// breaksLogins tells that a user would meet the same.
func breaksLogins(kind pve.Kind) bool {
	return slices.Contains([]pve.Kind{
		pve.IssuerUnreachable, pve.IssuerMismatch, pve.IssuerDocument, pve.IssuerURL, pve.IssuerHung, pve.TooManyPending,
	}, kind)
}

// await sends the browser off and waits until it comes back, here or as an address that somebody pastes.
func (r *rehearsal) await(ctx context.Context, back *callback, to destination) (*arrival, error) {
	wait := min(cmp.Or(r.Wait, DefaultWait), maxWait)
	waiting, stop := context.WithTimeout(ctx, wait)
	defer stop()
	back.serve(to.state, r.Log)
	pasted, stopPasting := lines(r.Paste)
	defer stopPasting()

	failed := make(chan error, 1)
	if r.Open != nil && to.trusted {
		r.Note("opening the browser: log in there as the user to be tested")
		go func() { failed <- r.Open(to.address) }()
	} else {
		r.show(to)
	}
	for {
		select {
		case came := <-back.arrivals:
			return came, nil
		case line := <-pasted:
			switch came, err := back.paste(line); {
			case err != nil:
				r.Note(err.Error())
			case came != nil:
				return came, nil
			}
		case err := <-failed:
			if err != nil {
				r.Log.Debug("opening the browser", "error", err)
				r.show(to)
			}
		case why := <-back.refusals:
			r.Note("a browser came back and was refused, and the wait goes on: " + why.Error())
		case err := <-back.broken:
			return nil, check.Errorf(check.Internal, "the port %s cannot be listened on any longer: %v", back.redirect.Host, err).Because(err)
		case <-waiting.Done():
			if code := check.CodeOf(context.Cause(ctx)); code == check.Interrupted || code == check.Terminated {
				return nil, context.Cause(ctx)
			}
			return nil, check.Errorf(check.Internal, "nobody logged in within %s", wait).
				Try(check.Advise("--timeout sets how long to wait, 10 minutes at most; where the issuer showed an error in the browser, that is the reason"))
		}
	}
}

func (r *rehearsal) show(to destination) {
	if !to.trusted {
		r.Note("verify.issuer is false, so that nobody compared this address with the issuer's: look at its host before you open it")
	}
	r.Note("open this address in a browser, and log in as the user to be tested:")
	r.Show(to.address)
	if r.Paste != nil {
		r.Note(fmt.Sprintf("a browser on another machine ends at an address that it cannot open, which begins with %s?: paste that one here", r.result.RedirectURL))
	}
}

// complete hands Proxmox what the browser brought, on the node that began the login: no other remembers it.
func (r *rehearsal) complete(ctx context.Context, to destination, came *arrival) (pve.Session, error) {
	if came.refusal != nil {
		return pve.Session{}, r.refusedByIssuer(*came.refusal)
	}
	r.cleaner.Hold(came.code)
	session, err := r.Client.On(to.endpoint).Login(ctx, to.state, came.code.Reveal(), r.result.RedirectURL)
	var failure *pve.Error
	if errors.As(err, &failure) && failure.Kind == pve.LoginRefused {
		return pve.Session{}, r.refusedByProxmox(ctx, failure)
	}
	return session, err
}

// refusals says what to do about the errors with which an issuer may end a login (RFC 6749 section 4.1.2.1, OpenID Connect
// Core 1.0 section 3.1.2.6).
var refusals = map[string]string{
	"access_denied":              "the user, or the issuer's policy for this client, said no: look at the client's policy (Authelia: authorization_policy), and at the issuer's log",
	"invalid_scope":              "allow the client the realm's scopes in the issuer (Authelia: scopes)",
	"unauthorized_client":        "allow the client the authorization code flow in the issuer (Authelia: grant_types, response_types)",
	"login_required":             "the realm's prompt is none, which lets in only who is logged in at the issuer already: unset realm.prompt",
	"interaction_required":       "the realm's prompt is none, which lets in only who is logged in at the issuer already: unset realm.prompt",
	"consent_required":           "the realm's prompt is none, and the user never agreed: unset realm.prompt, or give the client implicit consent in the issuer",
	"account_selection_required": "the realm's prompt is none, and the user has several accounts: unset realm.prompt",
	"server_error":               "the issuer's log says why",
	"temporarily_unavailable":    "try again later; the issuer's log says why",
}

func (r *rehearsal) refusedByIssuer(refusal refusal) error {
	text := r.cleaner.Clean(refusal.code)
	if refusal.description != "" {
		text += ": " + r.cleaner.Clean(refusal.description)
	}
	return check.Errorf(check.LoginFailed, "the issuer sent the browser back with an error: %s", text).
		Try(check.Advise("%s", cmp.Or(refusals[refusal.code], "the issuer's log says more")))
}

// refusedByProxmox looks for the reason that Proxmox keeps to its syslog.
func (r *rehearsal) refusedByProxmox(ctx context.Context, failure *pve.Error) error {
	host := strings.TrimPrefix(failure.Endpoint, "https://")
	said := check.Errorf(check.LoginFailed, "%s refuses the login: %s", host, failure.Reason).Because(failure)
	hint := "the reason is in that node's syslog alone: `journalctl -u pvedaemon --since -5min`"
	checks := []check.Check{r.node.CheckUsers(ctx, r.login)}
	if r.inspection != nil {
		checks = append(checks, r.inspection.Checks(r.view(ctx))...)
		checks = append(checks, r.inspection.Client(ctx, r.question(false)).Checks...)
		check.Sort(checks)
	}
	r.result.Checks = findings(checks)
	failed := check.Failures(checks)
	switch {
	case len(failed) > 0:
		return said.Try(check.Advise("%s: %s; %s", failed[0].ID, failed[0].Summary, failed[0].Remedy))
	case !r.login.Autocreate:
		return said.Try(check.Advise("%s; autocreate is off, so that a user must exist and be enabled: `pveum user add NAME@%s`", hint, r.login.Realm))
	}
	return said.Try(check.Advise("%s", hint))
}

// outcome is what the browser shows in the end.
func (r *rehearsal) outcome(session pve.Session, err error) page {
	if err != nil {
		return failurePage(check.Describe(err).Message)
	}
	return successPage(session.Username)
}

// describe finds out whom Proxmox takes the user for: as the user itself, and as who runs this where that shows more.
func (r *rehearsal) describe(ctx context.Context, session pve.Session) {
	r.result.User = session.Username
	user := r.Client.On(session.Endpoint).As(session)

	privileges, err := user.UserPermissions(ctx, "")
	if err != nil {
		r.warn("the privileges of %s cannot be read: %v", session.Username, err)
	} else {
		r.result.Privileges = map[string][]string{}
		for path, held := range privileges {
			if names := named(held); len(names) > 0 {
				r.result.Privileges[path] = names
			}
		}
	}
	known, found, err := user.Self(ctx)
	if err == nil && found {
		r.result.Groups = append([]string{}, known.Groups...)
		slices.Sort(r.result.Groups)
	} else {
		r.Log.Debug("reading the user's groups", "found", found, "error", err)
	}
	switch {
	case r.visible:
		created := !slices.ContainsFunc(r.before, func(u pve.User) bool { return u.ID == session.Username })
		r.result.Created = &created
	case !r.login.Autocreate:
		r.result.Created = new(bool)
	}
	if r.result.Privileges != nil && len(r.result.Privileges) == 0 {
		r.result.Hint = r.grant()
	}
}

func named(held map[string]bool) []string {
	var names []string
	for name, has := range held {
		if has {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// grant says what gives the user a role.
func (r *rehearsal) grant() string {
	line := func(who, name string) string {
		return fmt.Sprintf("`pveum acl modify / --%s %s --roles PVEAuditor`", who, pve.Quote(name))
	}
	hint := "as root on a node: " + line("users", r.result.User)
	if len(r.result.Groups) > 0 {
		hint += ", or for a whole group: " + line("groups", r.result.Groups[0])
	}
	hint += "; `pveum role list` shows roles that may do more"
	if r.login.GroupsClaim != "" && r.result.Groups != nil && len(r.result.Groups) == 0 {
		hint += fmt.Sprintf("; the claim %s brought no group that Proxmox knows: there they are called NAME-%s, and unknown ones are ignored unless realm.groups_autocreate is set",
			r.cleaner.Clean(r.login.GroupsClaim), r.login.Realm)
	}
	return hint
}

func (r *rehearsal) warn(format string, args ...any) {
	r.result.Warnings = append(r.result.Warnings, fmt.Sprintf(format, args...))
}

// findings returns the checks that ask for attention.
func findings(checks []check.Check) []check.Check {
	return slices.DeleteFunc(slices.Clone(checks), func(c check.Check) bool { return c.Status != check.Fail && c.Status != check.Warn })
}
