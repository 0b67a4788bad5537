package reconcile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"proxmox-realm/internal/check"

	"proxmox-realm/internal/realm"
)

// Recovery is where the former realm waits while a replace is under way: one file for each target and realm,
// readable by its owner alone, because it holds the realm's client key.
type Recovery struct {
	Dir       string   // created with 0700 where it is absent; "" where there is nowhere to save
	Target    string   // the target's name
	Realm     string   // the realm's name
	Endpoints []string // of the target: a file of another cluster is never restored into this one
	// Private makes Dir, or says why what lies there cannot be trusted: somebody else could have put it there. Nil: it is
	// made with mode 0700, and trusted.
	Private func(dir string) error
}

// savedRealm is the file's content.
type savedRealm struct {
	Version   int             `json:"version"`
	SavedAt   time.Time       `json:"saved_at"`
	Target    string          `json:"target"`
	Endpoints []string        `json:"endpoints"`
	Realm     string          `json:"realm"`
	Stored    json.RawMessage `json:"stored"` // as Proxmox answered it
}

// errNothingSaved: no recovery file is there.
var errNothingSaved = errors.New("no recovery file")

// maxSaved bounds what is read back, in bytes.
const maxSaved = 1 << 20

func (rc Recovery) name() string {
	return "replaced-" + rc.Realm + "@" + url.PathEscape(rc.Target) + ".json" // a realm's name holds no @
}

func (rc Recovery) path() string { return filepath.Join(rc.Dir, rc.name()) }

// refusePending returns why a run must not go on where a recovery file waits for a decision.
func (rc Recovery) refusePending() *check.Error {
	if rc.Dir == "" {
		return nil
	}
	if _, err := os.Lstat(rc.path()); err != nil {
		return nil //nolint:nilerr // absent; or unreadable to this user, who then cannot have begun a replace
	}
	return check.Errorf(check.RecoveryFile, "a replace of realm %s was cut short: the former realm is kept in %s", rc.Realm, rc.path()).
		Try(check.Advise("run apply --recover: it creates that realm where it is absent, and forgets it where it is there"))
}

// save writes the recovery file, or fails without leaving one.
func (rc Recovery) save(stored realm.Current) error {
	return rc.write(rc.name(), stored)
}

// archive keeps a realm that is about to be deleted, for people; it is no recovery file. It returns the file's path.
func (rc Recovery) archive(stored realm.Current, now time.Time) (string, error) {
	name := "deleted-" + rc.Realm + "@" + url.PathEscape(rc.Target) + "-" + now.UTC().Format("20060102T150405.000Z") + ".json"
	if err := rc.write(name, stored); err != nil {
		return "", err
	}
	return filepath.Join(rc.Dir, name), nil
}

func (rc Recovery) write(name string, stored realm.Current) (err error) {
	unsaved := func(err error) error {
		return check.Errorf(check.Internal, "the realm could not be saved, so nothing was deleted: %v", err).
			Try(check.Advise("set state_dir to a directory that this user can write")).Because(err)
	}
	if rc.Dir == "" {
		return unsaved(errors.New("there is no state_dir"))
	}
	content, err := json.MarshalIndent(savedRealm{
		Version: 1, SavedAt: time.Now().UTC().Truncate(time.Second), Target: rc.Target, Endpoints: rc.Endpoints,
		Realm: rc.Realm, Stored: json.RawMessage(stored.Raw.Reveal()),
	}, "", "  ")
	if err != nil {
		return unsaved(err)
	}
	if err := rc.prepare(); err != nil {
		return unsaved(err)
	}
	root, err := os.OpenRoot(rc.Dir)
	if err != nil {
		return unsaved(err)
	}
	defer func() { _ = root.Close() }()
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // O_EXCL follows no symlink
	if err != nil {
		return unsaved(err)
	}
	_, err = file.Write(append(content, '\n'))
	err = errors.Join(err, file.Sync(), file.Close(), syncDir(rc.Dir))
	if err != nil {
		_ = root.Remove(name)
		return unsaved(err)
	}
	return nil
}

func (rc Recovery) prepare() error {
	if rc.Private != nil {
		return rc.Private(rc.Dir)
	}
	return os.MkdirAll(rc.Dir, 0o700)
}

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
		return realm.Current{}, time.Time{}, rc.unusable("is not a file that this program wrote")
	}
	if err := rc.prepare(); err != nil {
		return realm.Current{}, time.Time{}, rc.unusable("may be somebody else's: %v", err)
	}
	content, err := os.ReadFile(rc.path())
	if err != nil {
		return realm.Current{}, time.Time{}, rc.unusable("cannot be read: %v", err)
	}
	var saved savedRealm
	if err := json.Unmarshal(content, &saved); err != nil {
		return realm.Current{}, time.Time{}, rc.unusable("was cut short while it was written, before anything was deleted")
	}
	shared := slices.ContainsFunc(saved.Endpoints, func(e string) bool { return slices.Contains(rc.Endpoints, e) })
	if saved.Version != 1 || saved.Realm != rc.Realm || !shared {
		return realm.Current{}, time.Time{}, rc.unusable("belongs to realm %q of %v", saved.Realm, saved.Endpoints)
	}
	stored, err = realm.ParseCurrent(saved.Stored)
	if err != nil {
		return realm.Current{}, time.Time{}, rc.unusable("holds no realm")
	}
	return stored, saved.SavedAt, nil
}

func (rc Recovery) unusable(format string, args ...any) error {
	return check.Errorf(check.RecoveryFile, "the recovery file %s %s", rc.path(), fmt.Sprintf(format, args...)).
		Try(check.Advise("look at the realm in Proxmox; where it is as you want it, remove the file"))
}

// remove ends the recovery file.
func (rc Recovery) remove() error {
	err := os.Remove(rc.path())
	if err == nil {
		err = syncDir(rc.Dir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return check.Errorf(check.Internal, "the recovery file is no longer needed, but cannot be removed: %v", err).Try(check.Advise("remove it by hand"))
	}
	return nil
}

// syncDir makes a new or removed name in a directory last. Windows has no such thing.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
