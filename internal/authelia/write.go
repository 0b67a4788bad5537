package authelia

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
)

// MaxFile bounds a file of Authelia's configuration, in bytes. Authelia's annotated template has 80 KiB.
const MaxFile = 1 << 20

// WriteFile changes a file of Authelia's configuration, as [Append] and [ReplaceSecret] do. It replaces the file as a whole
// and keeps owner and mode, and a link to the file. The former content is kept beside it in a file whose name ends in
// `.bak`: Authelia may load every *.yml of a folder. Nothing is written if change fails or changes nothing; backup is "" then.
// Errors of change are returned as they are, others as a *check.Error. With a backup, the error is that the disk may not hold
// the new file yet.
func WriteFile(path string, change func([]byte) ([]byte, error)) (backup string, err error) {
	file, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", unwritten(path, err)
	}
	before, info, err := readRegular(file)
	if err != nil {
		return "", unwritten(path, err)
	}
	after, err := change(bytes.Clone(before))
	if err != nil || bytes.Equal(before, after) {
		return "", err
	}
	if backup, err = keep(file, before, info); err != nil {
		return "", unwritten(path, err)
	}
	if err := replace(file, after, info); err != nil {
		_ = os.Remove(backup)
		return "", unwritten(path, err)
	}
	if err := syncFolder(filepath.Dir(file)); err != nil {
		return backup, check.Errorf(check.Internal, "%s is written, but the disk may not hold it yet: %v", path, err).Because(err)
	}
	return backup, nil
}

func unwritten(path string, err error) error {
	var cause *fs.PathError
	if errors.As(err, &cause) {
		err = cause.Err // without the name of a temporary file
	}
	return check.Errorf(check.Internal, "%s is not changed: %v", path, err).Because(err)
}

// readRegular reads a file that can be replaced.
func readRegular(path string) ([]byte, fs.FileInfo, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return nil, nil, errors.New("it is not a regular file")
	case info.Size() > MaxFile:
		return nil, nil, fmt.Errorf("it is larger than %d KiB", MaxFile>>10)
	}
	data, err := os.ReadFile(path)
	return data, info, err
}

// keep writes the former content to a new file beside the file.
func keep(file string, before []byte, info fs.FileInfo) (backup string, err error) {
	for n := 1; n < 1000; n++ {
		backup = file + ".bak"
		if n > 1 {
			backup = fmt.Sprintf("%s.%d.bak", file, n)
		}
		copied, err := os.OpenFile(backup, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		return backup, fill(copied, before, info)
	}
	return "", fmt.Errorf("%s and 998 more backups exist", filepath.Base(file)+".bak")
}

// replace puts new content in the place of the file.
func replace(file string, after []byte, info fs.FileInfo) error {
	made, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*.tmp") // no name that Authelia loads
	if err != nil {
		return err
	}
	if err := fill(made, after, info); err != nil {
		return err
	}
	if err := os.Rename(made.Name(), file); err != nil {
		_ = os.Remove(made.Name())
		return err
	}
	return nil
}

// fill gives a new file content, owner and mode. After an error the file is gone.
func fill(file *os.File, content []byte, like fs.FileInfo) error {
	_, err := io.Copy(file, bytes.NewReader(content))
	if err = errors.Join(err, config.Own(file, like), file.Chmod(like.Mode().Perm()), file.Sync(), file.Close()); err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}

func syncFolder(dir string) error {
	if runtime.GOOS == "windows" { // has no such operation
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// secretLine matches a line with a digest in quotes.
var secretLine = regexp.MustCompile(`^(.*'\$pbkdf2[^']*')\s*(.*)$`)

// foreignComment splits a line behind its digest. What follows there may be a comment that tells the former secret; the
// comment of a block is none.
func foreignComment(line string) (head string, ok bool) {
	m := secretLine.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
	if len(m) == 3 && m[2] != "" && m[2] != digestComment {
		return m[1], true
	}
	return "", false
}

// Diff returns the lines in which two versions of a configuration differ. They differ in one place, as the results of [Append]
// and [ReplaceSecret] do. It shows nothing of what was removed but the key, because that may be a secret.
func Diff(name string, before, after []byte) string {
	a, b := splitLines(string(before)), splitLines(string(after))
	head := 0
	for head < min(len(a), len(b)) && a[head] == b[head] {
		head++
	}
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
	a, b := splitLines(string(before)), splitLines(string(after))
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			if _, ok := foreignComment(b[i]); ok && strings.Contains(b[i], "#") {
				return i + 1
			}
			return 0
		}
	}
	return 0
}

// FormerKeys tells whether all clients in a configuration have only the keys of Authelia 4.37 and before. Such an Authelia
// does not start with the client that [Append] adds.
func FormerKeys(file []byte) bool {
	root, _, err := readYAML(file)
	if err != nil || root == nil {
		return false
	}
	list := get((&source{root: root}).oidc(), "clients").value
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
