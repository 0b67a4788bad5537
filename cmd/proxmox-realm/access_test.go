package main

import (
	"regexp"
	"slices"

	"github.com/rogpeppe/go-internal/testscript"

	"proxmox-realm/internal/lab/pve"
)

// granted GROUP PATH ROLE [here] expects an entry of a group in the access control list; "here": it does not propagate.
// ! granted GROUP expects no entry of the group.
func granted(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 || !neg && len(args) < 3 {
		ts.Fatalf("usage: granted GROUP PATH ROLE [here]")
	}
	var held []pve.ACL
	for _, e := range theLab(ts).PVE.State().ACL {
		if e.Type == "group" && e.ID == args[0] {
			held = append(held, e)
		}
	}
	if neg {
		if len(held) > 0 {
			ts.Fatalf("%s holds %v", args[0], held)
		}
		return
	}
	want := pve.ACL{Path: args[1], Type: "group", ID: args[0], Role: args[2], Propagate: len(args) == 3}
	if !slices.Contains(held, want) {
		ts.Fatalf("%s holds %v, not %v", args[0], held, want)
	}
}

// neighbours expects the entries of all but the named groups to be as they were at its first call.
func neighbours(ts *testscript.TestScript, neg bool, args []string) {
	l := theLab(ts)
	now := slices.DeleteFunc(slices.Clone(l.PVE.State().ACL), func(e pve.ACL) bool {
		return e.Type == "group" && slices.Contains(args, e.ID)
	})
	switch {
	case neg:
		ts.Fatalf("usage: neighbours GROUP …")
	case l.neighbours == nil:
		l.neighbours = now
	case !slices.Equal(l.neighbours, now):
		ts.Fatalf("the neighbours are %v, and were %v", now, l.neighbours)
	}
}

// showed PATTERN expects the program of `waits`, which has ended, to have printed this to stdout.
func showed(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || theLab(ts).waiting == nil {
		ts.Fatalf("usage: showed PATTERN, after ends")
	}
	shown := theLab(ts).waiting.shown.String()
	if regexp.MustCompile(args[0]).MatchString(shown) == neg {
		ts.Fatalf("printed:\n%s", shown)
	}
}
