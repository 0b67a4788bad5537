package setup

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"proxmox-realm/internal/authelia"
	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/disk"
)

// KeyFiles are the files that hold the key of one client. They tell where its rotation stands, and nothing else does: so a
// rotation can be interrupted anywhere.
//
//	KEYFILE   KEYFILE.new   KEYFILE.former   the rotation
//	-------   -----------   --------------   -----------------------------------------------------
//	old       -             -                has not begun, or has ended
//	old       new           -                has begun: somebody may have the new key
//	old       new           old              every realm has the new key
//	new       -             old              the file has it too; nothing has been verified yet
//
// A key is removed only when nobody needs it: the former one after the verification, and, when a rotation goes back, the new one
// likewise. If there are several files, each is in one of these states.
type KeyFiles struct {
	Begun bool   // an earlier run made the new key
	From  string // the file that holds the new key, if the rotation has begun
	// Goal is the key that the client gets: the new one or, going back, the former one.
	Goal  check.Secret
	back  bool
	files []*keyFile
}

// The files beside a key file.
const (
	newSuffix    = config.NewKeySuffix
	formerSuffix = ".former"
)

var suffixes = []string{newSuffix, formerSuffix}

// keyFile is one file that holds the key of the client, with those beside it. A key that is not set has no file.
type keyFile struct {
	path   string // links are followed
	key    check.Secret
	beside map[string]check.Secret // by suffix
	goal   check.Secret
}

// LookAtKeys finds out where the rotation of the key in these files stands. If none has begun, the new key is the given one, or one
// that is made here. Its errors are *[check.Error]: [check.KeyRotation] if the files contradict each other.
func LookAtKeys(ctx context.Context, paths []string, given check.Secret) (KeyFiles, error) {
	var k KeyFiles
	seen := map[string]bool{}
	for _, path := range paths {
		f := &keyFile{path: path}
		if followed, err := filepath.EvalSymlinks(path); err == nil {
			f.path = followed
		}
		if seen[f.path] {
			continue
		}
		seen[f.path] = true
		if err := f.read(ctx); err != nil {
			return k, err
		}
		k.files = append(k.files, f)
	}
	if err := k.findGoal(given); err != nil {
		return k, err
	}
	for _, f := range k.files {
		f.goal = k.Goal
	}
	return k, nil
}

// findGoal finds the new key: it stands beside a key file or, beside the former key, in it.
func (k *KeyFiles) findGoal(given check.Secret) error {
	agree := func(key check.Secret, path string) error {
		switch {
		case !k.Begun:
			k.Begun, k.Goal, k.From = true, key, path
		case !key.Equal(k.Goal):
			return check.Errorf(check.KeyRotation, "%s and %s hold different keys, and one of them is to be the new key", k.From, path).
				Try("move the file whose key neither Proxmox nor the issuer has to another place")
		}
		return nil
	}
	for _, f := range k.files {
		var err error
		switch next, former := f.beside[newSuffix], f.beside[formerSuffix]; {
		case next.IsSet():
			err = agree(next, f.path+newSuffix)
		case former.IsSet() && !former.Equal(f.key):
			err = agree(f.key, f.path)
		}
		if err != nil {
			return err
		}
	}
	switch {
	case k.Begun && given.IsSet() && !given.Equal(k.Goal):
		return check.Errorf(check.KeyRotation, "a rotation to another key has begun: it is in %s", k.From).
			Try("to finish it:\n    {rotate}", "to go back to the former key:\n    {rotate --abort}")
	case k.Begun:
	case given.IsSet():
		k.Goal = given
	default:
		k.Goal = authelia.NewKey()
	}
	return nil
}

// read reads the key file and those beside it. An empty one beside it is what an interrupted run left.
func (f *keyFile) read(ctx context.Context) (err error) {
	if f.key, err = config.ReadClientKey(ctx, f.path, nil); err != nil {
		return err
	}
	f.beside = map[string]check.Secret{}
	for _, suffix := range suffixes {
		switch info, err := os.Lstat(f.path + suffix); {
		case errors.Is(err, fs.ErrNotExist), err == nil && info.Size() == 0:
			continue
		case err == nil && !info.Mode().IsRegular():
			return check.Errorf(check.Config, "%s is not a regular file", f.path+suffix)
		}
		if f.beside[suffix], err = config.ReadClientKey(ctx, f.path+suffix, nil); err != nil {
			return err
		}
	}
	return nil
}

// Back turns the rotation round: the files get the keys again that they had. It is an error if somebody has removed them.
func (k KeyFiles) Back() (KeyFiles, error) {
	held := func(f *keyFile) check.Secret { // before the rotation; not set: nobody knows
		if kept := f.beside[formerSuffix]; kept.IsSet() || f.key.Equal(k.Goal) {
			return kept
		}
		return f.key
	}
	var former check.Secret
	for _, f := range k.files {
		former = cmp.Or(held(f), former)
	}
	if !former.IsSet() {
		return k, check.Errorf(check.KeyRotation, "the former client key is in no file any more: %s holds the new one", k.files[0].path).
			Try("to finish the rotation:\n    {rotate}")
	}
	out := KeyFiles{Begun: k.Begun, From: k.From, Goal: former, back: true}
	for _, f := range k.files {
		back := *f
		back.goal = cmp.Or(held(f), former)
		out.files = append(out.files, &back)
	}
	return out, nil
}

// KeyOf returns the key that a key file is to hold.
func (k KeyFiles) KeyOf(path string) check.Secret {
	if followed, err := filepath.EvalSymlinks(path); err == nil {
		path = followed
	}
	for _, f := range k.files {
		if f.path == path {
			return f.goal
		}
	}
	return k.Goal
}

// Keys returns all keys in the files.
func (k KeyFiles) Keys() (all []check.Secret) {
	for _, f := range k.files {
		all = append(all, f.key, f.beside[newSuffix], f.beside[formerSuffix], f.goal)
	}
	return all
}

// Changed returns the key files that [KeyFiles.Swap] changes.
func (k KeyFiles) Changed() (paths []string) {
	for _, f := range k.files {
		if !f.key.Equal(f.goal) {
			paths = append(paths, f.path)
		}
	}
	return paths
}

// Aside returns the files with keys that are kept until [KeyFiles.End].
func (k KeyFiles) Aside() (paths []string) {
	for _, f := range k.files {
		for _, suffix := range suffixes {
			if _, err := os.Lstat(f.path + suffix); err == nil {
				paths = append(paths, f.path+suffix)
			}
		}
	}
	return paths
}

// Used returns the files beside key files that [KeyFiles.Swap] puts into their places.
func (k KeyFiles) Used() (paths []string) {
	source, _ := k.sides()
	for _, path := range k.Changed() {
		paths = append(paths, path+source)
	}
	return paths
}

// sides returns the suffix of the file that takes the place of the key file, and that of the file that keeps its key.
func (k KeyFiles) sides() (source, aside string) {
	if k.back {
		return formerSuffix, newSuffix
	}
	return newSuffix, formerSuffix
}

// Begin returns the steps that keep the new key beside each key file that lacks it.
func (k KeyFiles) Begin() (steps []Step) {
	for _, f := range k.files {
		if k.back || f.key.Equal(f.goal) || f.beside[newSuffix].IsSet() {
			continue
		}
		path := f.path + newSuffix
		steps = append(steps, Step{What: path, Note: "the new key", Here: true, Make: func(context.Context) error { return keep(path, []byte(f.goal.Reveal())) }})
	}
	return steps
}

// Swap puts the key into each key file, and keeps what the file held beside it. All realms must have the key.
func (k KeyFiles) Swap(ctx context.Context) error {
	source, aside := k.sides()
	for _, f := range k.files {
		if err := f.read(ctx); err != nil { // somebody may have been here while the rotation waited
			return err
		}
		if f.key.Equal(f.goal) {
			continue
		}
		if err := f.hold(aside, f.key); err != nil {
			return err
		}
		if err := f.hold(source, f.goal); err != nil {
			return err
		}
		if err := disk.MoveOver(f.path+source, f.path); err != nil {
			return unusable(f.path, err)
		}
	}
	return nil
}

// End removes the keys that nobody needs any more.
func (k KeyFiles) End() error {
	var all error
	for _, path := range k.Aside() {
		if err := disk.Remove(path); err != nil {
			all = errors.Join(all, unusable(path, err))
		}
	}
	return all
}

// hold makes sure that a file beside the key file holds a key.
func (f *keyFile) hold(suffix string, key check.Secret) error {
	switch there := f.beside[suffix]; {
	case !there.IsSet():
		return keep(f.path+suffix, []byte(key.Reveal()))
	case !there.Equal(key):
		return check.Errorf(check.KeyRotation, "%s holds an unexpected key and is not overwritten", f.path+suffix).
			Try("if neither Proxmox nor the issuer has its key, move the file to another place, and run the command again")
	}
	return nil
}
