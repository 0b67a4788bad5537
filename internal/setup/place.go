package setup

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/disk"
)

// Place is the folder of a configuration and of the files that it names.
type Place string

// The files of a [Place]. The configuration names them by these names, so the folder may move.
const (
	ConfigFile    = "config.yaml"
	TokenFile     = "token"
	KeyFile       = "client-key"
	AuthorityFile = "pve-root-ca.pem"
	IssuerCAFile  = "issuer-ca.pem"

	undoFile    = "undo"       // how to remove what a setup made
	pendingFile = ".token.new" // a token that is being made
)

// Path returns the path of a file.
func (p Place) Path(name string) string { return filepath.Join(string(p), name) }

// Has reports whether a file is there, other than one that an interrupted setup left empty.
func (p Place) Has(name string) bool {
	info, err := os.Lstat(p.Path(name))
	return err == nil && !isEmpty(info)
}

// Check returns an error if the folder is there and other users could change its files. It gives its name to a token that an
// interrupted setup stored, and did not name yet.
func (p Place) Check() error {
	if _, err := os.Lstat(string(p)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := disk.MakeDir(string(p)); err != nil {
		return check.Errorf(check.Config, "%s", check.MessageOf(err)).Try("name a folder that only this user can write to:\n    {init --dir DIR}")
	}
	return p.finish()
}

// limit bounds a file of a [Place], in bytes.
const limit = 4 << 20

// Read returns the content of a file, without its last line end; "" if there is none.
func (p Place) Read(name string) (string, error) {
	data, err := disk.ReadOwn(p.Path(name), limit)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", unusable(p.Path(name), err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r"), nil
}

// File is what a file of a [Place] is to hold. One without content is not written.
type File struct {
	Name, Note string
	Content    []byte
}

// Missing returns the steps that make the folder, for its owner alone, and then the files that are not there, in this order. A file
// with another content is an error, because it may be the only copy. An empty one is what an interrupted setup left.
func (p Place) Missing(files ...File) (steps []Step, err error) {
	if _, err := os.Stat(string(p)); err != nil {
		steps = append(steps, Step{
			What: "folder " + string(p), Here: true, Undo: []string{p.remove()},
			Make: func(context.Context) error { return disk.MakeDir(string(p)) },
		})
	}
	for _, f := range files {
		path := p.Path(f.Name)
		if len(f.Content) == 0 {
			continue
		}
		switch there, err := os.ReadFile(path); {
		case err == nil && bytes.Equal(bytes.TrimSpace(there), bytes.TrimSpace(f.Content)):
			continue
		case err == nil && len(there) == 0:
		case err == nil:
			return nil, check.Errorf(check.Usage, "%s exists with another content and is not overwritten", path).
				Try(check.Hintf("move it to another place:\n    mv %s %s", check.Quote(path), check.Quote(path+".old")))
		case !errors.Is(err, fs.ErrNotExist):
			return nil, unusable(path, err)
		}
		steps = append(steps, Step{
			What: f.Name, Note: f.Note, Here: true, Undo: []string{p.removal(f.Name)},
			Make: func(context.Context) error { return keep(path, f.Content) },
		})
	}
	return steps, nil
}

// keep writes a new file for its owner alone. An empty one is what an interrupted run left.
func keep(path string, content []byte) error {
	if info, err := os.Lstat(path); err == nil && isEmpty(info) {
		if err := os.Remove(path); err != nil {
			return unusable(path, err)
		}
	}
	if err := disk.Create(path, content); err != nil {
		return unusable(path, err)
	}
	return nil
}

func isEmpty(file fs.FileInfo) bool { return file.Mode().IsRegular() && file.Size() == 0 }

// unusable is the error of a file that cannot be read or written.
func unusable(path string, err error) error {
	var cause *fs.PathError
	if errors.As(err, &cause) {
		err = cause.Err
	}
	return check.Errorf(check.Internal, "%s: %v", path, err).
		Try(check.Hintf("see that this user can write to %s, and that there is space left", filepath.Dir(path))).Because(err)
}

// Note keeps commands that undo what was made.
func (p Place) Note(undo ...string) (err error) {
	if len(undo) == 0 {
		return nil
	}
	path := p.Path(undoFile)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		_, err = file.WriteString(strings.Join(undo, "\n") + "\n")
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		return unusable(path, err)
	}
	return nil
}

// Undo returns the commands that remove what setups of this folder made: the last one first, and at the end one for all files.
func (p Place) Undo() []string {
	data, err := disk.ReadOwn(p.Path(undoFile), limit)
	if err != nil {
		return nil // nothing was made
	}
	noted := strings.Split(strings.TrimSpace(string(data)), "\n")
	slices.Reverse(noted)
	var lines []string
	files := "rm"
	for i, line := range noted {
		file, isFile := strings.CutPrefix(line, "rm ")
		switch {
		case slices.Contains(noted[:i], line), goesWithUser(line, noted):
		case isFile:
			files += " " + file
		case strings.HasPrefix(line, "rmdir "):
		default:
			lines = append(lines, line)
		}
	}
	lines = append(lines, files+" "+check.Quote(p.Path(undoFile)))
	if slices.Contains(noted, p.remove()) {
		lines = append(lines, p.remove())
	}
	return lines
}

// goesWithUser tells whether a command removes a token or a grant of a user who is removed as well.
func goesWithUser(line string, noted []string) bool {
	return slices.ContainsFunc(noted, func(other string) bool {
		user, removed := strings.CutPrefix(other, "pveum user delete ")
		return removed && other != line && strings.HasPrefix(line, "pveum ") && strings.Contains(line+" ", " "+user+" ")
	})
}

func (p Place) removal(name string) string { return "rm " + check.Quote(p.Path(name)) }

func (p Place) remove() string { return "rmdir " + check.Quote(string(p)) }
