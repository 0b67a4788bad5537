package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
)

// Recovery keeps the former realm in a file while a replace is under way. Each target and realm has one file. Only its
// owner may read it, because it holds the realm's client key.
type Recovery struct {
	Dir       string // the state_dir; created with mode 0700 if it is absent
	Target    string // the target's name
	Realm     string // the realm's name
	Endpoints []config.Origin
}

// savedRealm is the content of a file.
type savedRealm struct {
	Version   int             `json:"version"`
	SavedAt   time.Time       `json:"saved_at"`
	Product   realm.Product   `json:"product"`
	Target    string          `json:"target"`
	Endpoints []config.Origin `json:"endpoints"` // a file of another cluster is never restored into this one
	Realm     string          `json:"realm"`
	Stored    json.RawMessage `json:"stored"` // as Proxmox answered it
}

const (
	maxSaved = 1 << 20 // bytes that are read back at most
	// keepDeleted is how long the copies of deleted realms are kept: they hold client keys.
	keepDeleted = 30 * 24 * time.Hour
	// watchAfresh is the age of a recovery file up to which its DELETE may still be under way.
	watchAfresh = 10 * time.Minute
)

func (rc Recovery) name() string {
	return "replaced-" + rc.Realm + "@" + url.PathEscape(rc.Target) + ".json" // a realm's name holds no @
}

func (rc Recovery) path() string { return filepath.Join(rc.Dir, rc.name()) }

// pending returns an error if there is a recovery file.
func (rc Recovery) pending() *check.Error {
	if rc.Dir == "" {
		return nil
	}
	if _, err := os.Lstat(rc.path()); err != nil {
		return nil //nolint:nilerr // absent, or unreadable to this user, who then cannot have begun a replace
	}
	return check.Errorf(check.RecoveryFile, "a replace of realm %s was interrupted: the former realm is saved in %s", rc.Realm, rc.path()).
		Try(check.Run("apply --recover").With("it creates that realm if there is none, and removes the file if the realm is there"))
}

// settleRecovery returns an error if there is a recovery file and the realm is not as declared. A realm that is as
// declared makes the file obsolete: the replace was interrupted after its create.
func (r run) settleRecovery(current realm.Current, write bool) (note string, err error) {
	pending := r.Recovery.pending()
	if pending == nil {
		return "", nil
	}
	saved, _, err := r.Recovery.load()
	if err != nil {
		return "", err
	}
	if !r.asDeclared(current) || current.SameAs(saved) {
		return "", pending
	}
	if !write {
		return "", nil
	}
	return fmt.Sprintf("an interrupted replace had finished: the recovery file %s was removed", r.Recovery.path()), r.Recovery.remove()
}

func (r run) asDeclared(current realm.Current) bool {
	return current.Exists && realm.Diff(r.Realm, current, realm.Facts{}).Empty()
}

// Recover finishes an interrupted replace. It creates the saved realm if there is none. It removes the file if the
// realm equals the saved one or is as declared, and refuses otherwise.
func Recover(ctx context.Context, t config.Target, d Deps, o Options) Result {
	r := newRun(ctx, t, d, o)
	return r.finish(r.recover(ctx))
}

func (r run) recover(ctx context.Context) (Result, error) {
	res := r.start()
	saved, at, err := r.Recovery.load()
	if errors.Is(err, errNothingSaved) {
		res.Action = realm.None
		res.warn("no replace was interrupted: there is nothing to recover")
		return res, nil
	}
	if err != nil {
		return res, err
	}
	current, err := r.Cluster.Realm(ctx, r.Realm.Name)
	if err == nil && current.Exists && current.SameAs(saved) {
		res.Action = realm.None
		current, err = r.outlast(ctx, current, at)
	}
	if err != nil {
		return res, interruption(ctx, err)
	}
	uninterruptible := context.WithoutCancel(ctx)
	res.Action = realm.None
	if !current.Exists {
		res.Action = realm.Create
		if err := r.recreate(uninterruptible, realm.RestoreParams(r.Realm.Name, saved)); err != nil {
			return res, r.keep(err)
		}
		res.sent = true
		if current, err = r.Cluster.Realm(uninterruptible, r.Realm.Name); err != nil {
			return res, r.keep(fmt.Errorf("read back: %w", err))
		}
	}
	if !current.SameAs(saved) && !r.asDeclared(current) {
		return res, check.Errorf(check.RecoveryFile, "realm %s exists and differs from the one saved in %s", r.Realm.Name, r.Recovery.path()).
			Try(check.Hint("remove the file if the realm is as you want it"))
	}
	return res, r.Recovery.remove()
}

// outlast watches a realm while the DELETE of its interrupted replace may still take effect, and returns the realm as
// it is then. The file stays until then, because it may become the only copy.
func (r run) outlast(ctx context.Context, current realm.Current, savedAt time.Time) (_ realm.Current, err error) {
	age := time.Since(savedAt)
	if age > watchAfresh {
		return current, nil
	}
	watch := lateDelete + min(max(lateDelete-age, 0), lateDelete) // longer if the run was killed soon after its DELETE
	r.Log.Warn("watching the realm, because a DELETE may still be under way", "realm", r.Realm.Name, "for", watch)
	for deadline := time.Now().Add(watch); current.Exists && time.Now().Before(deadline); {
		if err := sleep(ctx, watchEvery); err != nil {
			return current, err
		}
		if current, err = r.Cluster.Realm(context.WithoutCancel(ctx), r.Realm.Name); err != nil {
			return current, err
		}
	}
	return current, nil
}

// save writes the recovery file, or fails without leaving one.
func (rc Recovery) save(stored realm.Current) error { return rc.write(rc.path(), stored) }

// archive saves a realm before it is deleted, and returns the path of the file. No run restores it.
func (rc Recovery) archive(stored realm.Current, now time.Time) (string, error) {
	name := "deleted-" + rc.Realm + "@" + url.PathEscape(rc.Target) + "-" + now.UTC().Format("20060102T150405.000Z") + ".json"
	path := filepath.Join(rc.Dir, name)
	if err := rc.write(path, stored); err != nil {
		return "", err
	}
	return path, nil
}

// PruneDeleted removes copies of deleted realms from a state_dir once they are 30 days old. A copy that cannot be removed
// is tried again next time.
func PruneDeleted(stateDir string, now time.Time) {
	entries, _ := os.ReadDir(stateDir)
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && strings.HasPrefix(e.Name(), "deleted-") && now.Sub(info.ModTime()) > keepDeleted {
			_ = os.Remove(filepath.Join(stateDir, e.Name()))
		}
	}
}

func (rc Recovery) write(path string, stored realm.Current) error {
	unsaved := func(err error) error {
		return check.Errorf(check.Config, "the realm could not be saved, so nothing was deleted: %v", err).
			Try(check.Set("state_dir", "").With("a directory that this user can write")).Because(err)
	}
	if rc.Dir == "" {
		return unsaved(errors.New("there is no state directory"))
	}
	content, err := json.MarshalIndent(savedRealm{
		Version: 1, SavedAt: time.Now().UTC().Truncate(time.Second), Product: stored.Product, Target: rc.Target, Endpoints: rc.Endpoints,
		Realm: rc.Realm, Stored: json.RawMessage(stored.Raw.Reveal()),
	}, "", "  ")
	if err == nil {
		err = config.MakePrivate(rc.Dir)
	}
	if err == nil {
		err = config.CreatePrivate(path, append(content, '\n'))
	}
	if err != nil {
		return unsaved(err)
	}
	return nil
}

// errNothingSaved: there is no recovery file.
var errNothingSaved = errors.New("no recovery file")

// load reads the recovery file of this target and realm, and when it was written.
func (rc Recovery) load() (stored realm.Current, at time.Time, err error) {
	if rc.Dir == "" {
		return realm.Current{}, time.Time{}, errNothingSaved
	}
	info, err := os.Lstat(rc.path())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return realm.Current{}, time.Time{}, errNothingSaved
	case err != nil:
		return realm.Current{}, time.Time{}, rc.unusable("cannot be read: %v", err)
	case !info.Mode().IsRegular() || info.Size() > maxSaved:
		return realm.Current{}, time.Time{}, rc.unusable("was not written by this program")
	}
	if err := config.MakePrivate(rc.Dir); err != nil {
		return realm.Current{}, time.Time{}, rc.unusable("may be another user's: %v", err)
	}
	content, err := os.ReadFile(rc.path())
	if err != nil {
		return realm.Current{}, time.Time{}, rc.unusable("cannot be read: %v", err)
	}
	var saved savedRealm
	if err := json.Unmarshal(content, &saved); err != nil {
		return realm.Current{}, time.Time{}, rc.unusable("is incomplete: the run that wrote it ended before it deleted anything")
	}
	shared := slices.ContainsFunc(saved.Endpoints, func(e config.Origin) bool { return slices.Contains(rc.Endpoints, e) })
	if saved.Version != 1 || saved.Realm != rc.Realm || !shared {
		return realm.Current{}, time.Time{}, rc.unusable("belongs to realm %q of %v", saved.Realm, saved.Endpoints)
	}
	stored, err = realm.ParseCurrent(saved.Product, saved.Stored)
	if err != nil {
		return realm.Current{}, time.Time{}, rc.unusable("holds no realm")
	}
	return stored, saved.SavedAt, nil
}

func (rc Recovery) unusable(format string, args ...any) error {
	return check.Errorf(check.RecoveryFile, "the recovery file %s %s", rc.path(), fmt.Sprintf(format, args...)).
		Try(check.Hint("remove the file if the realm in Proxmox is as you want it"))
}

// remove removes the recovery file.
func (rc Recovery) remove() error {
	if err := config.RemovePrivate(rc.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return check.Errorf(check.Internal, "the recovery file is obsolete, but cannot be removed: %v", err).Try(check.Hint("remove it by hand"))
	}
	return nil
}
