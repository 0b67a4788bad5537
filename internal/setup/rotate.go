package setup

import (
	"context"
	"maps"
	"slices"
	"time"

	"proxmox-realm/internal/authelia"
	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/disk"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// Rotation gives one client a new key: at the issuer, in every realm that uses the client, and in its files. Its methods are the
// steps, in the order in which they are taken. Each looks first, so that a run goes on where another one was interrupted.
type Rotation struct {
	KeyFiles
	forward KeyFiles       // as they are if the rotation does not go back
	config  *config.Config // of all targets that share the client
	open    func(*config.Config) *fleet.Fleet
	fleet   *fleet.Fleet // declares the key that the client is to get
	useless bool         // nobody has the new key, so that a rotation that goes back can end whatever the issuer accepts
}

// NewRotation prepares the rotation of the client that all targets of a configuration share. open makes the fleets that it works
// with. Keys that are not in files, and issuers that may not be asked, are refused with [check.KeyRotation].
func NewRotation(c *config.Config, open func(*config.Config) *fleet.Fleet) (*Rotation, error) {
	asks := false
	for _, t := range c.Targets {
		asks = asks || t.Verify.Issuer && t.Verify.Client
		if t.ClientKeyFrom != "realm.client_key_file" {
			return nil, notInFile(t)
		}
		if t.Proxmox.OTP.IsSet() {
			return nil, check.Errorf(check.Usage, "a rotation logs in more than once, and a one-time code is good for one login").
				Try("set {proxmox.token_file}")
		}
	}
	if !asks {
		return nil, check.Errorf(check.KeyRotation, "a rotation waits until the issuer accepts the new key, and the configuration forbids to ask it").
			Try("remove {verify.issuer} and {verify.client} from the configuration", "or rotate by hand:\n"+manually)
	}
	return &Rotation{config: c, open: open}, nil
}

// manually are the commands that rotate a key without a [Rotation].
const manually = check.Command + "{authelia --new-key FILE}\n    {apply --wait 10m --client-key-file FILE}"

func notInFile(t config.Target) error {
	from := map[string]string{
		"realm.client_key":         "stands in the configuration or in the environment",
		"realm.client_key_command": "comes from a command",
		"":                         "is not managed",
	}[t.ClientKeyFrom]
	return check.Errorf(check.KeyRotation, "the client key of target %s %s, and only a file can be changed", t.Name, from).Try(
		"set {realm.client_key_file} to a file that holds the key",
		"or rotate by hand: make a key, put the printed line into Authelia's configuration, restart Authelia while apply waits, "+
			"and put the key where the configuration takes it from:\n"+manually)
}

// Client returns the login of the client, with the key that it is to get.
func (r *Rotation) Client() realm.Login { return r.declaring(r.KeyOf).Targets[0].Realm.Login() }

// Lock keeps other rotations of the client away. It returns [check.Locked] if there is one. The problem is why there are no locks.
func (r *Rotation) Lock(ctx context.Context) (unlock func(), problem, err error) {
	l, store := r.config.Targets[0].Realm.Login(), r.open(r.config).History()
	unlock, err = store.Lock(ctx, []string{"rotate " + l.IssuerURL + " " + l.ClientID}, 0)
	if err != nil {
		return nil, nil, check.Errorf(check.Locked, "the key of client %s cannot be rotated: %v", l.ClientID, err).
			Try("run the command again when the other one has ended").Because(err)
	}
	return unlock, store.Problem(), nil
}

// Look reads the key files. given is the new key if the issuer made it. back says that the rotation is to go back to the former key.
func (r *Rotation) Look(ctx context.Context, given check.Secret, back bool) (err error) {
	var paths []string
	for _, t := range r.config.Targets {
		if err := t.Realm.Product.Validate(realm.ClientKey, realm.Key(given)); given.IsSet() && err != nil {
			return check.Errorf(check.Config, "the new client key %v", err)
		}
		paths = append(paths, t.ClientKeyFile)
	}
	if r.forward, err = LookAtKeys(ctx, paths, given); err != nil {
		return err
	}
	r.KeyFiles = r.forward
	if back && r.Begun {
		if r.KeyFiles, err = r.forward.Back(); err != nil {
			return err
		}
	}
	r.fleet = r.open(r.declaring(r.KeyOf))
	return nil
}

// declaring returns the configuration with these keys in place of those in the key files.
func (r *Rotation) declaring(key func(path string) check.Secret) *config.Config {
	c := *r.config
	c.Secrets = append(slices.Clone(c.Secrets), r.Keys()...)
	c.Targets = slices.Clone(c.Targets)
	for i, t := range c.Targets {
		c.Targets[i].Realm.Set = maps.Clone(t.Realm.Set)
		c.Targets[i].Realm.Set[realm.ClientKey] = realm.Key(key(t.ClientKeyFile))
	}
	return &c
}

// Foresee asks all realms which of them lack the key, and whether it may be written. ready says that all of them answered so.
func (r *Rotation) Foresee(ctx context.Context) (run fleet.Run, ready bool) {
	run = r.fleet.Rekey(ctx, fleet.Options{}, false)
	return run, run.Outcome == reconcile.Drift || run.Outcome == reconcile.Unchanged
}

// Accepted looks whether the issuer accepts the key already. A rotation that goes back need not wait either if nobody has the new
// key: foreseen tells what the realms have.
func (r *Rotation) Accepted(ctx context.Context, foreseen fleet.Run) (bool, error) {
	accepted, _, err := await(ctx, r.fleet, fleet.Options{})
	if accepted || err != nil || !r.back || foreseen.Outcome != reconcile.Unchanged {
		return accepted, err
	}
	forward := r.open(r.declaring(r.forward.KeyOf))
	_, found, err := await(ctx, forward, fleet.Options{})
	credentials, _ := check.Find(found.Checks, check.ClientCredentials)
	r.useless = err == nil && credentials.Status == check.Fail
	return r.useless, err
}

// Await looks every 10 s whether the issuer accepts the key, until [fleet.Options.Wait] is over. It returns a [check.Held] error
// if the issuer does not.
func (r *Rotation) Await(ctx context.Context, o fleet.Options) error {
	accepted, found, err := await(ctx, r.fleet, o)
	if err == nil && !accepted {
		err = check.Errorf(check.Held, "%s; nothing was changed in Proxmox", check.MessageOf(found.Err)).
			Try(check.HintOf(found.Err)).Because(found.Err)
	}
	return err
}

// await returns an error only for what ends the wait.
func await(ctx context.Context, f *fleet.Fleet, o fleet.Options) (accepted bool, found reconcile.Result, err error) {
	found = f.AwaitKey(ctx, o).Targets[0]
	if found.Outcome == reconcile.Held {
		return false, found, nil
	}
	return found.Err == nil, found, found.Err
}

// Edit finds out what becomes of a file of Authelia's configuration; "" is no file.
func (r *Rotation) Edit(ctx context.Context, path string) (authelia.Edit, error) {
	o := authelia.Options{Client: authelia.Client{Login: r.Client()}}
	file := authelia.File{Name: path}
	if path != "" {
		var err error
		if file.Data, err = disk.Read(ctx, path, nil, authelia.MaxFile); err != nil {
			return authelia.Edit{}, err
		}
	}
	return authelia.NewEdit(file, o, authelia.Rekey)
}

// Write gives all realms the key, and then puts it into the key files. Meanwhile no other run can read a file and a realm that
// differ. written says that this is done; otherwise run tells which realms have the key.
func (r *Rotation) Write(ctx context.Context, wait time.Duration) (run fleet.Run, written bool, err error) {
	unlock, err := r.fleet.Lock(ctx, wait)
	if err != nil {
		return run, false, err
	}
	defer unlock()
	run = r.fleet.Rekey(ctx, fleet.Options{Locked: true}, true)
	if run.Outcome != reconcile.Changed && run.Outcome != reconcile.Unchanged {
		return run, false, nil
	}
	return run, true, r.Swap(context.WithoutCancel(ctx))
}

// Verify runs all checks, and adds what was written before. If the issuer accepts the key, it removes those that nobody needs any
// more. Its error tells that this failed.
func (r *Rotation) Verify(ctx context.Context, written fleet.Run) (run fleet.Run, kept []string, err error) {
	run = r.fleet.Verify(ctx, fleet.Options{})
	run.Command, run.Began, run.Duration = written.Command, written.Began, run.Duration+written.Duration
	ends := true
	for i, t := range run.Targets {
		credentials, _ := check.Find(t.Checks, check.ClientCredentials)
		ends = ends && credentials.Status != check.Fail && t.Outcome != reconcile.Failed
		run.Targets[i] = joined(written.Targets[i], t)
	}
	if run.Outcome = run.Worst(); ends || r.useless {
		err = r.End()
	}
	return run, r.Aside(), err
}

// joined is the result of a target whose realm was written and then verified.
func joined(written, verified reconcile.Result) reconcile.Result {
	out := verified
	out.Action, out.Changes, out.Stage, out.Noted = written.Action, written.Changes, written.Stage, written.Noted
	out.Untold = slices.DeleteFunc(slices.Clone(verified.Untold), func(line string) bool { return slices.Contains(written.Noted, line) })
	out.Requests, out.Duration = written.Requests+verified.Requests, written.Duration+verified.Duration
	if out.Outcome == reconcile.Unchanged {
		out.Outcome = written.Outcome
	}
	return out
}
