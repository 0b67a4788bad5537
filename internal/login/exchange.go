package login

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/proxmox"
)

// begin lets Proxmox begin a login, and checks the authorization URL before a browser opens it.
func (r *rehearsal) begin(ctx context.Context) (proxmox.AuthURL, error) {
	made, err := r.node.AuthURL(ctx, r.held.Realm, r.redirectURL)
	var failure *proxmox.Error
	if errors.As(err, &failure) && breaksLogins(failure.Kind) {
		return proxmox.AuthURL{}, check.Errorf(check.LoginFailed, "%s", check.MessageOf(err)).Because(err)
	}
	if err != nil {
		return proxmox.AuthURL{}, err
	}
	r.cleaner.Hold(check.NewSecret(made.Query.Get("state")))
	wrong := append(misdirected(made, r.inspection), r.node.Unexpected(made, r.held, r.redirectURL)...)
	if len(wrong) > 0 {
		return proxmox.AuthURL{}, check.Errorf(check.LoginFailed,
			"%s makes a wrong authorization URL, and no browser is sent there: %s",
			made.Endpoint, r.cleaner.Clean(strings.Join(wrong, "; "))).
			Try("it asks every node, since this one may see another issuer than this machine:\n    {verify --all-endpoints}")
	}
	return made, nil
}

// breaksLogins tells whether this failure breaks the login of every user.
func breaksLogins(kind proxmox.Kind) bool {
	return slices.Contains([]proxmox.Kind{
		proxmox.IssuerUnreachable, proxmox.IssuerMismatch, proxmox.IssuerDocument, proxmox.IssuerURL, proxmox.IssuerHung, proxmox.TooManyPending,
	}, kind)
}

// await opens the browser and waits until it comes back, or until the user pastes the address.
func (r *rehearsal) await(ctx context.Context, back *callback, to proxmox.AuthURL) (*arrival, error) {
	wait := min(cmp.Or(r.Wait, DefaultWait), maxWait)
	waiting, stop := context.WithTimeout(ctx, wait)
	defer stop()
	back.serve(to.Query.Get("state"))
	pasted := lines(waiting, r.Paste)
	failed := make(chan error, 1)
	if r.Open != nil && r.inspection != nil {
		r.Note("opening the browser: log in as the user to be tested")
		go func() { failed <- r.Open(to.Raw) }()
	} else {
		r.show(to.Raw)
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
				r.show(to.Raw)
			}
		case <-waiting.Done():
			if code := check.CodeOf(context.Cause(ctx)); code == check.Interrupted || code == check.Terminated {
				return nil, context.Cause(ctx)
			}
			return nil, check.Errorf(check.LoginFailed, "nobody logged in within %s", wait).
				Try("it waits longer:\n    {login --timeout 10m}",
					check.Hint("if the browser shows an error, correct that"))
		}
	}
}

// show lets the user open the address.
func (r *rehearsal) show(address string) {
	if r.inspection == nil {
		r.Note("verify.issuer is false, so this address was not compared with the issuer's: check its host before you open it")
	}
	r.Note("open this address in a browser, and log in as the user to be tested:")
	r.Show(address)
	if r.Paste != nil {
		r.Note("if the browser shows an unreachable page, paste its address here: it begins with " + r.redirectURL + "?")
	}
}

// why is what may tell why Proxmox refused a login.
type why struct {
	checks []check.Check // that warn or fail
	cause  diagnose.Cause
}

// complete gives Proxmox what the browser brought. If Proxmox refuses it, the reason is in its answer or in its log; if
// neither can be read, the checks may tell it.
func (r *rehearsal) complete(ctx context.Context, to proxmox.AuthURL, came *arrival, began time.Time) (proxmox.Session, why, error) {
	if came.refusal != nil {
		return proxmox.Session{}, why{}, r.refusedByIssuer(*came.refusal)
	}
	r.cleaner.Hold(came.code)
	session, err := r.Client.On(to.Endpoint).Login(ctx, to.Query.Get("state"), came.code.Reveal(), r.redirectURL)
	var failure *proxmox.Error
	if !errors.As(err, &failure) || failure.Kind != proxmox.LoginRefused {
		return session, why{}, err
	}
	checks := r.suspects(ctx)
	found := findings(checks)
	reason, told, logErr := r.reason(ctx, failure, began, checks)
	if told {
		return proxmox.Session{}, why{found, reason.Cause}, explained(failure, reason)
	}
	return proxmox.Session{}, why{checks: found}, r.refusedByProxmox(failure, check.Failures(found), logErr)
}

// unprompted is what to do about an issuer that may not show a page, but has to.
var unprompted = check.Hints(
	"add prompt to {realm.unset} (with prompt none, only users with a session at the issuer can log in)")

// refusals says what to do about the errors of an authorization endpoint (RFC 6749 section 4.1.2.1, OpenID Connect Core 1.0
// section 3.1.2.6). The topic is that of the advice on the software behind the issuer.
var refusals = map[string]struct {
	hint  check.Hint
	topic issuer.Topic
}{
	"access_denied":              {"let the issuer's policy for this client admit the user, and read the issuer's log", issuer.OnPolicy},
	"invalid_scope":              {"allow the client the realm's scopes in the issuer", issuer.OnScope},
	"unauthorized_client":        {"allow the client the authorization code flow in the issuer", issuer.OnFlow},
	"login_required":             {unprompted, ""},
	"interaction_required":       {unprompted, ""},
	"consent_required":           {unprompted, ""},
	"account_selection_required": {unprompted, ""},
	"temporarily_unavailable":    {"try again later, and read the issuer's log", ""},
}

func (r *rehearsal) refusedByIssuer(refusal refusal) error {
	text := r.cleaner.Clean(refusal.code)
	if refusal.description != "" {
		text += ": " + r.cleaner.Clean(refusal.description)
	}
	advice := refusals[refusal.code]
	return check.Errorf(check.LoginFailed, "the issuer sent the browser back with an error: %s", text).
		Try(cmp.Or(advice.hint, "read the issuer's log"), r.advice(advice.topic))
}

// advice returns what an administrator of the software behind the issuer must know about a topic, or "".
func (r *rehearsal) advice(topic issuer.Topic) check.Hint {
	if r.inspection == nil {
		return ""
	}
	return r.inspection.Advice(topic)
}

// suspects makes the checks that may tell why Proxmox refuses a login. Proxmox writes the reason to its syslog only.
func (r *rehearsal) suspects(ctx context.Context) []check.Check {
	checks, _ := r.node.CheckUsers(ctx, r.held, false) // the check says why Proxmox could not be asked
	if r.inspection != nil {
		answer, view := r.inspection.Client(ctx, r.question(false)), r.view(ctx)
		view.Found = answer.Checks
		checks = append(append(checks, r.inspection.Checks(view)...), answer.Checks...)
		check.Sort(checks)
	}
	return checks
}

// explained is the error of a login whose reason is known.
func explained(failure *proxmox.Error, l diagnose.Login) error {
	said := check.Errorf(check.LoginFailed, "%s refuses the login: %s", failure.Endpoint.Host(), l.Summary).Try(l.Hint).Because(failure)
	if l.Cause == diagnose.Unknown {
		said.Message = fmt.Sprintf("%s refuses the login", failure.Endpoint.Host())
	}
	said.Message += fmt.Sprintf(" (Proxmox says: %s)", l.Text)
	return said
}

// refusedByProxmox is the error of a login whose reason cannot be read.
func (r *rehearsal) refusedByProxmox(failure *proxmox.Error, failed []check.Check, logErr error) error {
	said := check.Errorf(check.LoginFailed, "%s refuses the login: %s", failure.Endpoint.Host(), failure.Reason).Because(failure)
	var absent, signed, log check.Hint
	if check.CodeOf(logErr) == check.PermissionDenied {
		log = r.seeLog()
	}
	if len(failed) > 0 {
		said.Message += fmt.Sprintf("; %s: %s", failed[0].ID, failed[0].Summary)
		return said.Try(failed[0].Hint, log)
	}
	if r.held.QueryUserinfo {
		signed = r.advice(issuer.OnUserinfo)
	}
	if host := r.Client.Product().Host(); !r.held.Autocreate {
		absent = host.Run("autocreate is off, so the user must exist and be enabled", host.AddUser.With("user", "NAME@"+r.held.Realm))
	}
	return said.Try(check.HintOf(failure), signed, absent, log)
}
