package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/build/constraint"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	module = "proxmox-realm/"
	root   = "../.."
)

// The layers, from the top; a package imports only from layers below its own. What a layer's packages may import
// of each other stands in sideways.
//
// See internal/README.md, which explains them:
// cmd -> cli -> setup -> {agent, login, authelia, report} -> fleet -> reconcile -> {proxmox, issuer, history} -> {config, diagnose} -> {realm, disk} -> check
var layers = [][]string{
	{"cmd/proxmox-realm"},
	{"internal/cli"},
	{"internal/setup"},
	{"internal/agent", "internal/login", "internal/authelia", "internal/report"},
	{"internal/fleet"},
	{"internal/reconcile"},
	{"internal/proxmox", "internal/issuer", "internal/history"},
	{"internal/config", "internal/diagnose"},
	{"internal/realm", "internal/disk"},
	{"internal/check"},
}

// sideways lists the imports within one layer: every way of running shows its results through report.
var sideways = map[string][]string{
	"internal/agent":    {"internal/report"},
	"internal/login":    {"internal/report"},
	"internal/authelia": {"internal/report"},
}

// The lab stands beside the layers: a stand-in that shared the agent's code would share its mistakes. So do the builder of
// packages and the writer of manual pages.
var lab = map[string][]string{
	"deploy/packaging":       {},
	"deploy/packaging/build": {"deploy/packaging"},
	"internal/cli/docs":      {"internal/cli"},
	"cmd/proxmox-realm-lab":  {"internal/lab", "internal/lab/authority", "internal/lab/issuer", "internal/lab/pbs", "internal/lab/pve"},
	"internal/lab":           {"internal/lab/authority", "internal/lab/issuer", "internal/lab/pbs", "internal/lab/pve"},
	"internal/lab/authority": {},
	"internal/lab/fault":     {"internal/lab/standin"},
	"internal/lab/issuer":    {"internal/lab/authority"},
	"internal/lab/openid":    {},
	"internal/lab/pbs":       {"internal/lab/authority", "internal/lab/openid", "internal/lab/standin"},
	"internal/lab/pve":       {"internal/lab/authority", "internal/lab/standin", "internal/lab/openid"},
	"internal/lab/standin":   {},
}

// testOnly lists the packages that hold tests and no other code.
var testOnly = []string{"internal/acceptance", "internal/house", "deploy", "deploy/ansible/tests", "examples"}

// nested is the folder of the module that holds the tests of deploy, and with them the large libraries that only these need.
const nested = "deploy"

// stdOnly lists the packages that import no third-party library at all.
var stdOnly = []string{"internal/realm", "internal/check"}

// pure lists what rooms stay free of: no context, no clock, no input or output.
var pure = map[string][]string{
	"internal/realm":    {"context", "time", "os", "net", "net/http", "log"},
	"internal/diagnose": {"context", "os", "net", "net/http", "log", "log/slog"},
}

// sealed lists the libraries that tests, too, reach through their rooms only.
var sealed = []string{
	"github.com/spf13/viper", "github.com/luthermonson/go-proxmox", "github.com/spf13/cobra", "github.com/spf13/pflag",
}

// topLevel lists what may lie at the top of the repository, dot files aside.
var topLevel = []string{
	"cmd", "internal", "deploy", "examples",
	"go.mod", "go.sum", "README.md", "LICENSE", "Makefile", "CHANGELOG.md",
}

func TestImportsPointDownwards(t *testing.T) {
	for _, p := range packages(t) {
		allowed, known := mayImport(p.name)
		if !known {
			t.Errorf("%s: not in the house: give it a place in layers, lab or testOnly, or move its code to where it belongs", p.name)
			continue
		}
		if slices.Contains(testOnly, p.name) && len(p.code) > 0 {
			t.Errorf("%s: holds more than tests: it imports %s", p.name, strings.Join(p.code, ", "))
		}
		for _, imported := range p.code {
			own, isOwn := strings.CutPrefix(imported, module)
			if isOwn && !slices.Contains(allowed, own) {
				t.Errorf("%s imports %s: allowed are %v", p.name, own, allowed)
			}
			if slices.Contains(pure[p.name], imported) {
				t.Errorf("%s imports %s: it is pure", p.name, imported)
			}
			if imported == "github.com/spf13/cobra/doc" && p.name != "internal/cli/docs" {
				t.Errorf("%s imports %s: manual pages are not made by the program", p.name, imported)
			}
		}
	}
}

// TestLibrariesStayAtHome holds the libraries against the table in internal/README.md. A library that a room imports is named
// there with that room, and whatever is named there is imported.
func TestLibrariesStayAtHome(t *testing.T) {
	homes := table(t, "Libraries")
	used := map[string]bool{}
	for _, p := range packages(t) {
		if strings.HasPrefix(p.name, "deploy") {
			continue // a module of its own
		}
		for _, imported := range p.code {
			library, rooms := home(homes, imported)
			switch {
			case !isLibrary(imported):
				continue
			case slices.Contains(stdOnly, p.name):
				t.Errorf("%s imports %s: it uses the standard library only", p.name, imported)
			case library == "":
				t.Errorf("%s imports %s: name it in the table of internal/README.md", p.name, imported)
			case !slices.Contains(rooms, room(p.name)):
				t.Errorf("%s imports %s, which internal/README.md gives to %v", p.name, imported, rooms)
			}
			used[library+" "+room(p.name)] = true
		}
		for _, imported := range p.tests {
			if library, rooms := home(homes, imported); slices.Contains(sealed, library) && !slices.Contains(rooms, room(p.name)) {
				t.Errorf("the tests of %s import %s, which lives in %v", p.name, imported, rooms)
			}
		}
	}
	for library, rooms := range homes {
		for _, r := range rooms {
			if !used[library+" "+r] {
				t.Errorf("internal/README.md gives %s to %s, which does not import it", library, r)
			}
		}
	}
}

// TestRoomsAreListed holds the rooms against the table in internal/README.md.
func TestRoomsAreListed(t *testing.T) {
	listed := table(t, "Rooms")
	entries, err := os.ReadDir(filepath.Join(root, "internal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := listed[e.Name()]; e.IsDir() && !ok {
			t.Errorf("internal/README.md does not name the room %s", e.Name())
		}
		delete(listed, e.Name())
	}
	for name := range listed {
		t.Errorf("internal/README.md names the room %s, which does not exist", name)
	}
}

var pathInText = regexp.MustCompile("`((?:internal|cmd|deploy)/[a-zA-Z0-9_./-]+)`")

// TestPathsInTheReadmeExist fails for files that internal/README.md names and that are not there.
func TestPathsInTheReadmeExist(t *testing.T) {
	found := pathInText.FindAllStringSubmatch(readme(t), -1)
	if len(found) == 0 {
		t.Fatal("internal/README.md names no path")
	}
	for _, m := range found {
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			t.Errorf("internal/README.md names %s: %v", m[1], err)
		}
	}
}

var functionInText = regexp.MustCompile(`\b([A-Za-z]+)\.([A-Za-z]+)\b`)

// TestFunctionsInTheReadmeExist fails for functions and types of the picture of a run that are not there: a package's or a
// receiver's.
func TestFunctionsInTheReadmeExist(t *testing.T) {
	defined := map[string]bool{}
	for path, text := range texts(t) {
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			continue
		}
		room := filepath.Base(filepath.Dir(path))
		for _, m := range regexp.MustCompile(`(?m)^(?:func (?:\(\w+ \*?(\w+)\) )?|type )(\w+)`).FindAllStringSubmatch(string(text), -1) {
			defined[m[1]+"."+m[2]], defined[room+"."+m[2]] = true, true
		}
	}
	_, picture, found := strings.Cut(readme(t), "\n## How one run flows\n")
	picture, _, _ = strings.Cut(picture, "\n\n`plan` takes")
	named := functionInText.FindAllString(picture, -1)
	if !found || len(named) < 30 {
		t.Fatalf("internal/README.md names %d functions of a run", len(named))
	}
	for _, name := range named {
		if !defined[name] {
			t.Errorf("internal/README.md names %s, which does not exist", name)
		}
	}
}

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "internal", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var inBackticks = regexp.MustCompile("`([^`]+)`")

// table returns the first column of a table in internal/README.md, each with what its second column names in backticks.
func table(t *testing.T, heading string) map[string][]string {
	t.Helper()
	_, section, found := strings.Cut(readme(t), "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := map[string][]string{}
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		first, second := inBackticks.FindStringSubmatch(cells[1]), inBackticks.FindAllStringSubmatch(cells[2], -1)
		if first == nil {
			continue
		}
		rows[first[1]] = nil
		for _, m := range second {
			rows[first[1]] = append(rows[first[1]], m[1])
		}
	}
	if !found || len(rows) == 0 {
		t.Fatalf("internal/README.md has no table of %s", heading)
	}
	return rows
}

// room returns the name of a package's room: the folder below internal, or lab for the lab's command.
func room(name string) string {
	if strings.HasPrefix(name, "cmd/proxmox-realm-lab") {
		return "lab"
	}
	name, _, _ = strings.Cut(strings.TrimPrefix(name, "internal/"), "/")
	return name
}

func TestTopLevel(t *testing.T) {
	for _, path := range files(t) {
		top, _, _ := strings.Cut(path, "/")
		if !strings.HasPrefix(top, ".") && !slices.Contains(topLevel, top) {
			t.Errorf("%s: only dot files and %v lie at the top", path, topLevel)
		}
	}
}

// bans are what no file may contain. The patterns are spelled so that they do not match themselves.
var bans = []struct {
	pattern *regexp.Regexp
	in      string // the end of the file's name
	what    string
}{
	{regexp.MustCompile(`(?m)(?:^|[^\w./-])/wor[k]/`), "", "a path of one machine"},
	{regexp.MustCompile(`/tmp/bash_job[s]`), "", "a path of one machine"},
	{regexp.MustCompile(`\.\./share[d]\b`), "", "a path outside the repository"},
	{regexp.MustCompile(`\b(?:proxy|sum)\.golang\.or[g]\b|\bdeb\.debian\.or[g]\b|\bregistry\.npmjs\.or[g]\b`), "", "the host of a package registry"},
	{regexp.MustCompile(`(?i)\bco-authored-b[y]\b|\bwritten b[y] an? (?:agent|assistant|model)\b|\b(?:agent|helper) sessio[n]s?\b`), "", "a word about who works on it"},
	{regexp.MustCompile(`\b[tbf]\.Ski[p](?:f|Now)?\(`), ".go", "a test that can pass without having run"},
	{regexp.MustCompile(`\b(?:TOD[O]|FIXM[E]|XX[X])\b`), ".go", "a mark of something left undone"},
}

func TestNothingForeignOrUnfinished(t *testing.T) {
	seen := false
	for path, text := range texts(t) {
		seen = seen || strings.HasSuffix(path, ".go")
		for _, b := range bans {
			for _, at := range b.pattern.FindAllIndex(text, -1) {
				if line := 1 + bytes.Count(text[:at[0]], []byte("\n")); strings.HasSuffix(path, b.in) {
					t.Errorf("%s:%d: %q: %s", path, line, bytes.TrimSpace(text[at[0]:at[1]]), b.what)
				}
			}
		}
	}
	if !seen {
		t.Error("no Go file was looked at")
	}
}

// TestSuitesAreKnown holds the build tags of tests against those that `make test` and the linters pass: a suite behind
// another tag would never run.
func TestSuitesAreKnown(t *testing.T) {
	for path, text := range texts(t) {
		if !strings.HasSuffix(path, "_test.go") {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "package ") {
				break
			}
			expression, err := constraint.Parse(strings.TrimSpace(line))
			if err != nil {
				continue // an ordinary comment
			}
			expression.Eval(func(tag string) bool {
				if !slices.Contains(suites, tag) && !slices.Contains(platforms, tag) {
					t.Errorf("%s: build tag %s: known are %v", path, tag, suites)
				}
				return true
			})
		}
	}
	for _, path := range []string{"Makefile", ".golangci.yml"} {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		for _, suite := range suites {
			if !bytes.Contains(text, []byte(suite)) {
				t.Errorf("%s does not name the build tag %s", path, suite)
			}
		}
	}
}

// TestNestedModuleIsTested holds that `make test` and `make lint` know the nested module, which the go command leaves out of ./...
func TestNestedModuleIsTested(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"test", "vet", "mod tidy"} {
		if want := "$(GO) " + command + " -C " + nested; !bytes.Contains(text, []byte(want)) {
			t.Errorf("the Makefile lacks %q", want)
		}
	}
}

// suites lists the build tags that tests stand behind. acceptance needs a lab, release needs goreleaser, and the others need
// tools that .ci/need installs.
var suites = []string{"acceptance", "ansible", "browser", "packaging", "prometheus", "release", "systemd"}

// platforms lists the tags that the go command sets by itself.
var platforms = []string{"linux", "darwin", "windows", "unix", "race", "cgo"}

// mayImport returns the packages of this module that a package's code may import, and whether it has a place at all.
func mayImport(name string) (allowed []string, known bool) {
	if slices.Contains(testOnly, name) {
		return nil, true
	}
	if allowed, known = lab[name]; known {
		return allowed, true
	}
	for i, layer := range layers {
		if slices.Contains(layer, name) {
			return slices.Concat(append([][]string{sideways[name]}, layers[i+1:]...)...), true
		}
	}
	return nil, false
}

func isLab(name string) bool {
	return name == "internal/lab" || strings.HasPrefix(name, "internal/lab/")
}

// isLibrary tells third-party packages from this module's and the standard library's, whose first element has no dot.
func isLibrary(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return strings.Contains(first, ".")
}

// home returns the library that an import belongs to, and its rooms; "" if no row names it.
func home(homes map[string][]string, imported string) (library string, rooms []string) {
	for library, rooms := range homes {
		if imported == library || strings.HasPrefix(imported, library+"/") {
			return library, rooms
		}
	}
	return "", nil
}

// A source is one package with the imports of its code and of its tests, on every platform and behind every build tag.
type source struct {
	name        string
	code, tests []string
}

func packages(t *testing.T) []source {
	t.Helper()
	found := map[string]source{}
	for _, in := range []struct{ goos, dir string }{{"linux", "."}, {"darwin", "."}, {"windows", "."}, {"linux", nested}} {
		command := exec.CommandContext(t.Context(), "go", "list", "-e", "-json", "-tags="+strings.Join(suites, ","), "./...")
		command.Dir = filepath.Join(root, in.dir)
		command.Env = append(os.Environ(), "GOOS="+in.goos, "CGO_ENABLED=0")
		var complaints bytes.Buffer
		command.Stderr = &complaints
		output, err := command.Output()
		if err != nil {
			t.Fatalf("go list: %v\n%s", err, complaints.Bytes())
		}
		for decoder := json.NewDecoder(bytes.NewReader(output)); ; {
			var p struct {
				ImportPath                         string
				Imports, TestImports, XTestImports []string
			}
			if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("go list: %v", err)
			}
			name := strings.TrimPrefix(p.ImportPath, module)
			s := found[name]
			s.name = name
			s.code = union(s.code, p.Imports)
			s.tests = union(s.tests, p.TestImports, p.XTestImports)
			found[name] = s
		}
	}
	if len(found) == 0 {
		t.Fatal("go list found no package")
	}
	return slices.SortedFunc(maps.Values(found), func(a, b source) int { return strings.Compare(a.name, b.name) })
}

func union(lists ...[]string) []string {
	all := slices.Concat(lists...)
	slices.Sort(all)
	return slices.Compact(all)
}

// files returns the paths of all tracked files, from the top of the repository; in an unpacked archive, where nothing
// is tracked, all files.
func files(t *testing.T) []string {
	t.Helper()
	// The tree is walked in any case: the test cache notices what a test opens, not what git or go read for it.
	var walked []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch name := filepath.ToSlash(relative); {
		case entry.IsDir() && slices.Contains([]string{".git", ".cache", "bin", "dist"}, name):
			return filepath.SkipDir
		case !entry.IsDir():
			walked = append(walked, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// The clone may belong to someone else, to whom git would otherwise not answer.
	command := exec.CommandContext(t.Context(), "git", "-c", "safe.directory=*", "ls-files", "-z")
	command.Dir = root
	output, err := command.Output()
	if err != nil || len(output) == 0 {
		return walked
	}
	tracked := strings.Split(strings.TrimSuffix(string(output), "\x00"), "\x00")
	return slices.DeleteFunc(tracked, func(path string) bool { return !slices.Contains(walked, path) }) // deleted, not committed
}

// texts returns the contents of all files that are text.
func texts(t *testing.T) map[string][]byte {
	t.Helper()
	contents := map[string][]byte{}
	for _, path := range files(t) {
		full := filepath.Join(root, path)
		if info, err := os.Lstat(full); err != nil {
			t.Fatal(err)
		} else if !info.Mode().IsRegular() {
			continue
		}
		text, err := os.ReadFile(full)
		if err != nil {
			t.Fatal(err)
		}
		if utf8.Valid(text) {
			contents[path] = text
		}
	}
	return contents
}
