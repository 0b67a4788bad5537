package reconcile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/disk"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/realm"
)

// Reason says why a realm was saved.
type Reason string

// The reasons.
const (
	Deletion    Reason = "delete"  // kept for 30 days; stops nothing
	Replacement Reason = "replace" // kept until the replace has ended; stops runs of the target
)

// Saved is a realm in a file of the state_dir, from which it can be brought back. Only its owner may read the file, because it
// holds the realm's client key.
type Saved struct {
	Path string `json:"-"`

	Version   int             `json:"version"`
	At        time.Time       `json:"saved_at"`
	Reason    Reason          `json:"reason"`
	Product   string          `json:"product"`
	Endpoints []string        `json:"endpoints"` // a file of another installation is never restored into this one
	Realm     string          `json:"realm"`
	Stored    json.RawMessage `json:"stored"` // as Proxmox answered it
}

const (
	savedVersion = 1
	savedPrefix  = "saved-"
	maxSaved     = 1 << 20 // bytes that are read back at most
	// keepDeleted is how long deleted realms are kept: they hold client keys.
	keepDeleted = 30 * 24 * time.Hour
)

// Current returns the realm as it was stored.
func (s Saved) Current() (realm.Current, error) {
	product, err := realm.ParseProduct(s.Product)
	if err != nil {
		return realm.Current{}, err
	}
	return realm.ParseCurrent(product, s.Stored)
}

// Of reports whether the file holds the realm of a target.
func (s Saved) Of(id history.TargetID) bool {
	return s.Product == id.Product && s.Realm == id.Realm &&
		slices.ContainsFunc(s.Endpoints, func(e string) bool { return slices.Contains(id.Endpoints, e) })
}

// ListSaved returns the saved realms in a state_dir, the newest first, and an error for each file that cannot be used. If the
// folder cannot be read, that is the only error, with [check.Config].
func ListSaved(stateDir string) (saved []Saved, problems []error) {
	if stateDir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(stateDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, []error{check.Errorf(check.Config, "saved realms cannot be read: %v", err).At("state_dir").
			Try("set {state_dir} to a folder that this user can write").Because(err)}
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), savedPrefix) {
			continue
		}
		s, err := ReadSaved(filepath.Join(stateDir, e.Name()))
		if err != nil {
			problems = append(problems, err)
			continue
		}
		saved = append(saved, s)
	}
	slices.SortStableFunc(saved, func(a, b Saved) int { return b.At.Compare(a.At) })
	return saved, problems
}

// ReadSaved reads a saved realm. It refuses a file that somebody else could have written.
func ReadSaved(path string) (Saved, error) {
	unusable := func(format string, args ...any) error {
		err := check.Errorf(check.SavedRealm, "the saved realm %s %s", path, fmt.Sprintf(format, args...))
		if !strings.HasPrefix(filepath.Base(path), savedPrefix) { // not a file of this program: moving it may do harm
			return err.Try("to see what can be restored:\n    {restore}")
		}
		return err.Try(putAside(path))
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return Saved{}, check.Errorf(check.SavedRealm, "there is no file %s", path).Try("to see what can be restored:\n    {restore}")
	}
	if err := disk.MakeDir(filepath.Dir(path)); err != nil { // it exists, so this only looks at it
		return Saved{}, unusable("may be another user's: %v", err)
	}
	content, err := disk.ReadOwn(path, maxSaved)
	if err != nil {
		return Saved{}, unusable("cannot be read: %v", err)
	}
	s := Saved{Path: path}
	if err := json.Unmarshal(content, &s); err != nil {
		if !strings.HasPrefix(filepath.Base(path), savedPrefix) {
			return Saved{}, unusable("holds no realm")
		}
		return Saved{}, unusable("is incomplete: the run that wrote it ended before it deleted anything")
	}
	if s.Version != savedVersion {
		return Saved{}, unusable("was written by another release")
	}
	if _, err := s.Current(); err != nil {
		return Saved{}, unusable("holds no realm")
	}
	return s, nil
}

// putAside is for the file of a saved realm that nobody needs. It is kept under a name that runs do not look for.
func putAside(path string) check.Hint {
	return check.Hintf("if the realm in Proxmox is as you want it, put the file aside:\n    mv %s %s",
		check.Quote(path), check.Quote(filepath.Join(filepath.Dir(path), "unused-"+filepath.Base(path))))
}

// save writes a realm to a new file, or fails without leaving one. On return it is on disk.
func (r run) save(stored realm.Current, why Reason) (path string, err error) {
	s := Saved{
		Version: savedVersion, At: time.Now().UTC().Truncate(time.Second), Reason: why,
		Product: r.id.Product, Endpoints: r.id.Endpoints, Realm: r.Realm.Name, Stored: json.RawMessage(stored.Raw.Reveal()),
	}
	path = filepath.Join(r.History.Dir(), r.savedName(why))
	content, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		if err = r.History.Usable(); err != nil {
			_ = r.History.Problem() // the error below says it
		}
	}
	if err == nil {
		err = disk.Create(path, append(content, '\n'))
	}
	if err != nil {
		return "", check.Errorf(check.Config, "the realm could not be saved, so nothing was deleted: %v", err).
			Try("set {state_dir} to a folder that this user can write").Because(err)
	}
	return path, nil
}

// savedName names the file. A target has one file of a replace, and one for each deletion. A realm's name holds no @.
func (r run) savedName(why Reason) string {
	installation := sha256.Sum256([]byte(strings.Join(slices.Sorted(slices.Values(r.id.Endpoints)), " ") + r.id.Product))
	name := savedPrefix + r.Realm.Name + "@" + hex.EncodeToString(installation[:4]) + "-" + string(why)
	if why == Deletion {
		name += "-" + time.Now().UTC().Format("20060102T150405.000Z")
	}
	return name + ".json"
}

// pending returns the saved realm of an interrupted replace of this target; false if there is none.
func (r run) pending() (s Saved, found bool, err error) {
	all, problems := ListSaved(r.History.Dir())
	for _, s := range all {
		if s.Reason == Replacement && s.Of(r.id) {
			return s, true, nil
		}
	}
	own := filepath.Join(r.History.Dir(), r.savedName(Replacement))
	for _, err := range problems {
		if strings.Contains(err.Error(), own) {
			return Saved{Path: own}, true, err
		}
	}
	return Saved{}, false, nil
}

// settleSaved looks for the saved realm of an interrupted replace. It stops runs of its target, until the realm is as declared.
// Then the replace was interrupted after its create, and the file is obsolete.
func (r run) settleSaved(res Result, current realm.Current, steps steps) (Result, error) {
	s, found, err := r.pending()
	if !found {
		return res, nil
	}
	waits := check.Errorf(check.SavedRealm, "a replace of realm %s was interrupted: the former realm is saved in %s", r.Realm.Name, s.Path).
		Try(check.Hintf("to bring it back, or to remove the file if the realm is there:\n    {restore %s}", r.Realm.Name))
	if !steps.gate { // verify shows what there is
		return res.warn(waits.Message), nil
	}
	if err != nil {
		return res, err
	}
	saved, _ := s.Current() // ReadSaved has parsed it
	switch {
	case steps.key || !r.asDeclared(current) || current.SameAs(saved):
		return res, waits
	case !steps.write:
		return res, nil
	}
	return res.warn("an interrupted replace had finished: the saved realm " + s.Path + " was removed"), removeSaved(s.Path)
}

func (r run) asDeclared(current realm.Current) bool {
	return current.Exists && realm.Diff(r.Realm, current, realm.Facts{}).Empty()
}

func removeSaved(path string) error {
	if err := disk.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return check.Errorf(check.Internal, "the saved realm %s is obsolete, but cannot be removed: %v", path, err).Try("remove the file")
	}
	return nil
}

// PruneSaved removes deleted realms from a state_dir once they are 30 days old. One that cannot be removed is tried again next
// time.
func PruneSaved(stateDir string, now time.Time) {
	all, _ := ListSaved(stateDir)
	for _, s := range all {
		if s.Reason == Deletion && now.Sub(s.At) > keepDeleted {
			_ = os.Remove(s.Path)
		}
	}
}
