//go:build packaging || release

package deploy

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// committed is the time of the commit that the tests build. Every file in a package must have this time.
var committed = time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)

// scratch holds the folders of what is built once for all tests. They outlive the test that asked first.
var scratch []string

func TestMain(m *testing.M) {
	m.Run() // sets the exit code
	for _, dir := range scratch {
		_ = os.RemoveAll(dir)
	}
}

func run(dir string, env []string, program string, arguments ...string) (string, error) {
	command := exec.Command(program, arguments...)
	command.Dir = dir
	command.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return "", errors.Join(err, errors.New(program+" "+strings.Join(arguments, " ")+"\n"+stdout.String()+stderr.String()))
	}
	return stdout.String(), nil
}

func must(t *testing.T, dir string, env []string, program string, arguments ...string) string {
	t.Helper()
	output, err := run(dir, env, program, arguments...)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// entries returns the headers of a tar archive by name. It checks that each file has the commit's time and belongs to root.
func entries(t *testing.T, archive io.Reader) map[string]*tar.Header {
	t.Helper()
	found := map[string]*tar.Header{}
	for reader := tar.NewReader(archive); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		if !header.ModTime.Equal(committed) {
			t.Errorf("%s is of %s, not of the commit's %s", header.Name, header.ModTime.UTC(), committed)
		}
		if header.Uname != "root" && header.Uid != 0 {
			t.Errorf("%s belongs to %q, %d", header.Name, header.Uname, header.Uid)
		}
		found[strings.TrimPrefix(header.Name, ".")] = header
	}
}
