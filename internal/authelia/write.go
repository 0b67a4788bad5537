package authelia

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/disk"
)

// MaxFile bounds a file of Authelia's configuration, in bytes. Authelia's annotated template has 80 KiB.
const MaxFile = 1 << 20

// Edit is what becomes of a file of Authelia's configuration.
type Edit struct {
	Options       Options // of the client; [NewEdit] adds the digest of its key
	Path          string  // "": somebody edits the file by hand
	Before, After []byte
	Refused       *RefusedError // why the file cannot be edited; nil: it can
}

// NewEdit makes the digest of the client's key, and finds out what [Put] or [Rekey] make of a file. Other errors than a
// *[RefusedError] are *check.Error.
func NewEdit(file File, o Options, change func([]byte, Options) ([]byte, error)) (e Edit, err error) {
	e = Edit{Options: o, Path: file.Name, Before: file.Data}
	if e.Options.Digest, err = Digest(o.Login.ClientKey); err != nil || file.Name == "" {
		return e, err
	}
	if e.After, err = change(e.Before, e.Options); errors.As(err, &e.Refused) {
		err = nil
	}
	return e, err
}

// Changes reports whether [Edit.Write] changes the file.
func (e Edit) Changes() bool { return e.Refused == nil && !bytes.Equal(e.Before, e.After) }

// Write replaces the file as a whole and keeps owner and mode, and a link to the file. The former content is kept beside it in a
// file whose name ends in `.bak`: Authelia may load every *.yml of a folder. An error is a *check.Error: [check.Conflict] if the
// file is not as it was, otherwise [check.Internal]. If backup is not "", the error is that the disk may not hold the new file
// yet; otherwise nothing is written.
func (e Edit) Write() (backup string, err error) {
	if !e.Changes() {
		return "", nil
	}
	file, info, err := e.writable()
	if err != nil {
		return "", unwritten(e.Path, err)
	}
	if backup, err = keep(file, e.Before, info); err != nil {
		return "", unwritten(e.Path, err)
	}
	made := filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+"."+rand.Text()+".tmp") // no name that Authelia loads
	if err = disk.Create(made, e.After); err == nil {
		if err = disk.MoveOver(made, file); err == nil {
			return backup, nil
		}
		if os.Remove(made) != nil { // it is in its place
			return backup, check.Errorf(check.Internal, "%s is written, but the disk may not hold it yet: %v", e.Path, err).Because(err)
		}
	}
	_ = os.Remove(backup)
	return "", unwritten(e.Path, err)
}

func unwritten(path string, err error) error {
	var known *check.Error
	if errors.As(err, &known) {
		return known
	}
	var cause *fs.PathError
	if errors.As(err, &cause) {
		err = cause.Err // without the name of a temporary file
	}
	return check.Errorf(check.Internal, "%s is not changed: %v", path, err).Because(err)
}

// writable returns the file behind a link, which can be replaced and is as it was.
func (e Edit) writable() (path string, info fs.FileInfo, err error) {
	if path, err = filepath.EvalSymlinks(e.Path); err != nil {
		return "", nil, err
	}
	info, err = os.Stat(path)
	switch {
	case err != nil:
		return "", nil, err
	case !info.Mode().IsRegular():
		return "", nil, errors.New("it is not a regular file")
	case info.Size() > MaxFile:
		return "", nil, fmt.Errorf("it is larger than %d KiB", MaxFile>>10)
	}
	now, err := os.ReadFile(path)
	if err == nil && !bytes.Equal(now, e.Before) {
		err = check.Errorf(check.Conflict, "%s has changed meanwhile: it is not written", e.Path).Try("run the command again")
	}
	return path, info, err
}

// keep writes the former content to a new file beside the file.
func keep(file string, before []byte, info fs.FileInfo) (backup string, err error) {
	for n := 1; n < 1000; n++ {
		backup = file + ".bak"
		if n > 1 {
			backup = fmt.Sprintf("%s.%d.bak", file, n)
		}
		if err = disk.CreateLike(backup, before, info); !errors.Is(err, fs.ErrExist) {
			return backup, err
		}
	}
	return "", fmt.Errorf("%s and 998 more backups exist", filepath.Base(file)+".bak")
}

// secretLine matches a line with a digest in quotes.
var secretLine = check.Pattern(`^(.*'\$pbkdf2[^']*')\s*(.*)$`)

// foreignComment splits a line behind its digest. What follows there may be a comment that tells the former secret; the
// comment of a block is none.
func foreignComment(line string) (head string, ok bool) {
	m := secretLine().FindStringSubmatch(strings.TrimRight(line, "\r\n"))
	if len(m) == 3 && m[2] != "" && m[2] != digestComment {
		return m[1], true
	}
	return "", false
}

// Diff returns the lines in which two versions of a configuration differ. They differ in one place, as the results of [Put] and
// [Rekey] do. It shows nothing of what was removed but the key, because that may be a secret.
func Diff(name string, before, after []byte) string {
	a, b := splitLines(string(before)), splitLines(string(after))
	head := common(a, b)
	tail := 0
	for tail < min(len(a), len(b))-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	removed, added := a[head:len(a)-tail], b[head:len(b)-tail]
	if len(removed)+len(added) == 0 {
		return ""
	}
	var out strings.Builder
	first := head + min(1, len(removed)) // as diff counts where nothing is removed
	fmt.Fprintf(&out, "--- %s\n+++ %s\n@@ -%d,%d +%d,%d @@\n", name, name, first, len(removed), head+1, len(added))
	for _, line := range removed {
		key, _, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		if strings.TrimSpace(key) != "" {
			key += ": " + check.Mask
		}
		out.WriteString("-" + check.Printable(key) + "\n")
	}
	for _, line := range added {
		line = strings.TrimRight(line, "\r\n")
		if head, ok := foreignComment(line); ok {
			line = head + " …"
		}
		out.WriteString("+" + check.Printable(line) + "\n")
	}
	return out.String()
}

// CommentBehind returns the line of the first difference between two versions if a comment stands behind the value there.
// After another digest it may no longer be true.
func CommentBehind(before, after []byte) (line int) {
	b := splitLines(string(after))
	i := common(splitLines(string(before)), b)
	if i == len(b) {
		return 0
	}
	if _, ok := foreignComment(b[i]); ok && strings.Contains(b[i], "#") {
		return i + 1
	}
	return 0
}

// common returns how many elements at the beginning two lists share.
func common[T comparable](a, b []T) (n int) {
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// FormerKeys tells whether all clients in a configuration have only the keys of Authelia 4.37 and before. Such an Authelia
// does not start with the client that [Put] adds.
func FormerKeys(file []byte) bool {
	roots, _, err := readYAML(file)
	if err != nil {
		return false
	}
	list := get((&source{root: roots[0]}).oidc(), "clients").value
	former := false
	for _, client := range candidates(list) {
		for _, f := range fields(client) {
			if _, renamed := formerNames[f.name]; renamed {
				return false
			}
			former = former || today(f.name) != f.name
		}
	}
	return former
}
