package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// proseNames matches configuration keys and flags, but not the ids of checks.
var proseNames = regexp.MustCompile(`\b(?:realm|verify|policy|agent|notify)\.[a-z]+_?[a-z]*\b|\bproxmox\.(?:endpoint|token|username|password|otp|ca_file|fingerprints|insecure|timeout)|(?:^|\s)--[a-z][a-z-]+|\bstate_dir\b`)

// TestProseNamesNoKeys fails for keys and flags in the words of findings, errors and hints below the command line. They stand in
// braces there, because the Ansible module and probe know them by other names.
func TestProseNamesNoKeys(t *testing.T) {
	words := map[string]bool{"Errorf": true, "Failed": true, "Warned": true, "Passed": true, "Skipped": true, "Because": true}
	for path, text := range texts(t) {
		dir := filepath.ToSlash(filepath.Dir(path))
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || !strings.HasPrefix(dir, "internal/") || isLab(dir) ||
			dir == "internal/cli" || dir == "internal/config" || dir == "internal/house" {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name := ""
			if selector, ok := call.Fun.(*ast.SelectorExpr); ok {
				name = selector.Sel.Name
			}
			for _, arg := range call.Args {
				literal, ok := arg.(*ast.BasicLit)
				if ok && words[name] && literal.Kind == token.STRING {
					if found := proseNames.FindString(literal.Value); found != "" {
						t.Errorf("%s: %s names %s: name it in a hint, in braces", path, literal.Value, strings.TrimSpace(found))
					}
				}
			}
			return true
		})
	}
}

const (
	maxFunction = 80  // lines
	maxFile     = 500 // lines
)

// TestSizes keeps functions and files of the product short enough to be read at once.
func TestSizes(t *testing.T) {
	for path, text := range texts(t) {
		dir := filepath.ToSlash(filepath.Dir(path))
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || isLab(dir) || strings.HasPrefix(path, "cmd/proxmox-realm-lab/") {
			continue
		}
		if lines := strings.Count(string(text), "\n"); lines > maxFile {
			t.Errorf("%s has %d lines, more than %d", path, lines, maxFile)
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			if lines := set.Position(f.End()).Line - set.Position(f.Pos()).Line; lines > maxFunction {
				t.Errorf("%s: %s has %d lines, more than %d", path, f.Name.Name, lines, maxFunction)
			}
		}
	}
}
