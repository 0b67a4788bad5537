package fleet

import (
	"context"
	"crypto/x509"
	"log/slog"
	"slices"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// Probe is the inspection of an issuer without any Proxmox.
type Probe struct {
	Login     realm.Login    // with a ClientID, the client is checked as well
	Redirects []string       // redirect URLs to ask about
	Roots     *x509.CertPool // nil: the system's
	Version   realm.Version  // of the Proxmox that would use the issuer; zero: unknown
	Timeout   time.Duration  // for each request; 0: the default
}

// RunProbe inspects an issuer; the run's one target has the issuer's URL as its name.
func RunProbe(ctx context.Context, p Probe, userAgent string, log *slog.Logger) Run {
	began := time.Now()
	target := reconcile.Result{Name: p.Login.IssuerURL}
	target.Checks, target.Err = p.ask(ctx, userAgent, log, &target.IssuerCertificate)
	target.Action, target.Outcome, target.Duration = realm.None, reconcile.Unchanged, time.Since(began)
	switch {
	case target.Err != nil:
		target.Outcome = reconcile.Failed
	case len(check.Failures(target.Checks)) > 0:
		target.Outcome = reconcile.Unverified
	}
	return Run{Command: "probe", Outcome: target.Outcome, Targets: []reconcile.Result{target}, Began: began, Duration: target.Duration}
}

func (p Probe) ask(ctx context.Context, userAgent string, log *slog.Logger, expiry *time.Time) ([]check.Check, error) {
	client := issuer.New(issuer.Options{
		Roots: p.Roots, Timeout: p.Timeout, UserAgent: userAgent, Cleaner: check.NewCleaner(p.Login.ClientKey), Log: log,
	})
	defer client.Close()
	i := client.Inspect(ctx, p.Login.IssuerURL)
	view := issuer.View{Login: p.Login, Version: p.Version}
	if p.Login.ClientID != "" {
		answer := i.Client(ctx, issuer.Question{
			Login: p.Login, RedirectURLs: p.Redirects, RedirectsDeclared: true, KeyUnknown: !p.Login.ClientKey.IsSet(),
			Depth: issuer.Person,
		})
		view.Found = answer.Checks
	}
	checks := slices.Concat(view.Found, i.Checks(view))
	*expiry, _ = i.Certificate()
	check.Sort(checks)
	switch after, limited := i.RateLimited(); {
	case ctx.Err() != nil:
		return checks, context.Cause(ctx)
	case limited && after > 0:
		return checks, check.Errorf(check.RateLimited, "the issuer limits requests").Try(check.Hintf("run again in %s", after))
	case limited:
		return checks, check.Errorf(check.RateLimited, "the issuer limits requests").Try("run again in a few minutes")
	}
	return checks, nil
}
