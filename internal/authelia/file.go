package authelia

import (
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"proxmox-realm/internal/check"
)

// ReadFile reads one file of Authelia's configuration. Errors are of type *check.Error: a file that is absent, a
// folder, larger than 1 MiB or no text is nothing that could be checked.
func ReadFile(path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return File{}, cannotRead(path, err)
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing can be lost
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return File{}, check.Errorf(check.Config, "%s is a folder", path).Try(check.Advise("name each file of authelia's configuration, in the order in which authelia reads them"))
	}
	return Read(path, f)
}

// Read is [ReadFile] of what is open already; name stands for it in evidence and errors.
func Read(name string, from io.Reader) (File, error) {
	data, err := io.ReadAll(io.LimitReader(from, maxFile+1))
	if err != nil {
		return File{}, cannotRead(name, err)
	}
	if why := unreadable(data); why != "" {
		return File{}, cannotRead(name, fmt.Errorf("it is %s", why))
	}
	return File{Name: name, Data: data}, nil
}

// unreadable completes "it is …" where a file cannot be looked into, and is "" where it can.
func unreadable(data []byte) string {
	switch {
	case len(data) > maxFile:
		return "larger than 1 MiB"
	case !utf8.Valid(data):
		return "not UTF-8 text"
	}
	return ""
}

func cannotRead(name string, err error) error {
	return check.Errorf(check.Config, "%s cannot be read: %v", name, reason(err)).
		Try(check.Advise("name a YAML file of authelia's configuration that this user can read, or - and pipe it in, as from ssh")).Because(err)
}
