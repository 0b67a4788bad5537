package config

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"proxmox-realm/internal/check"
)

// folder makes a folder of targets, each entry "file=text", and returns a configuration that names it.
func folder(t *testing.T, entries ...string) (config string) {
	t.Helper()
	dir := t.TempDir()
	for _, e := range entries {
		name, text, _ := strings.Cut(e, "=")
		write(t, filepath.Join(dir, name), text)
	}
	return issuer + "targets_from: " + dir + "\n"
}

func names(c *Config) (out []string) {
	for _, t := range c.Targets {
		out = append(out, t.Name)
	}
	return out
}

const reached = "proxmox: {endpoints: [%s], token_file: token}\n"

func TestTargetsFromAFolder(t *testing.T) {
	setenv(t)
	text := folder(t, "paris.yml="+fmt.Sprintf(reached, "paris"), "berlin.yaml="+fmt.Sprintf(reached, "berlin")+"realm: {name: lab}\n",
		".hidden.yaml=[", "notes.txt=[", "rome.yaml~=[")
	dir := strings.TrimSpace(text[strings.LastIndex(text, " "):])
	write(t, filepath.Join(dir, "token"), "realm@pve!agent=secret")
	c := mustLoad(t, text, Options{Secrets: true})
	if got := names(c); !slices.Equal(got, []string{"berlin", "paris"}) {
		t.Fatalf("the targets are %v", got)
	}
	if c.Targets[0].Proxmox.TokenFile != filepath.Join(dir, "token") || c.Targets[0].Realm.Name != "lab" || c.Targets[1].Realm.Name != "authelia" {
		t.Errorf("%+v", c.Targets[0])
	}
	c = mustLoad(t, text+"targets: [{name: oslo, proxmox: {endpoints: [oslo], token: a@pve!bc=d}}]\n", Options{})
	if got := names(c); !slices.Equal(got, []string{"oslo", "berlin", "paris"}) {
		t.Errorf("beside targets: %v", got)
	}
	c = mustLoad(t, text, Options{Targets: []string{"paris"}}, "realm.name=other")
	if c.Targets[0].Name != "paris" || c.Targets[0].Realm.Name != "other" || c.Targets[0].Unnamed {
		t.Errorf("-t: %+v", c.Targets)
	}
	setenv(t, "PROXMOX_REALM_TARGETS_FROM="+dir)
	if c = mustLoad(t, issuer, Options{}); len(c.Targets) != 2 {
		t.Errorf("by variable: %v", names(c))
	}
}

// A target of a large fleet needs little memory: what parsing needs is dropped.
func TestTheMemoryOfAFleet(t *testing.T) {
	setenv(t)
	const targets = 2000
	var entries []string
	for i := range targets {
		entries = append(entries, fmt.Sprintf("cluster-%d.yaml=", i)+fmt.Sprintf(reached, fmt.Sprintf("pve%d.example.com", i))+
			"realm: {username_claim: email, scopes: [openid, email]}\n")
	}
	text := folder(t, entries...)
	dir := strings.TrimSpace(text[strings.LastIndex(text, " "):])
	write(t, filepath.Join(dir, "token"), "realm@pve!agent=secret")
	live := func() int64 {
		var m runtime.MemStats
		runtime.GC() // what pools hold goes with the second
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := live()
	c := mustLoad(t, text, Options{Secrets: true})
	each := (live() - before) / targets
	if each > 2048 {
		t.Errorf("a target needs %d bytes", each)
	}
	t.Logf("%d targets, each %d bytes", len(c.Targets), each)
}

// Whatever is wrong with a file is said with the file, and fails the load: no target disappears.
func TestMistakesInAFolderOfTargets(t *testing.T) {
	good := "berlin.yaml=" + fmt.Sprintf(reached, "berlin")
	for name, tt := range map[string]struct {
		entries []string
		more    string
		want    string
	}{
		"half written":     {[]string{good, "paris.yaml=proxmox:\n  endpoints: ['par"}, "", "paris.yaml:2: found unexpected end of stream"},
		"empty":            {[]string{good, "paris.yaml="}, "", "paris.yaml: is empty: a target needs the keys in which it differs"},
		"a key is missing": {[]string{good, "paris.yaml=proxmox: {endpoints: [paris]}\n"}, "", "paris.yaml: proxmox.token_file: is required (or proxmox.token, proxmox.token_command, or proxmox.username)"},
		"an unknown key":   {[]string{good, "paris.yaml=" + fmt.Sprintf(reached, "paris") + "realm:\n  scope: a\n"}, "", "paris.yaml:3: realm.scope: is not a key; did you mean realm.scopes?"},
		"a wrong value":    {[]string{good, "paris.yaml=\n" + fmt.Sprintf(reached, "http://paris")}, "", "paris.yaml:2: proxmox.endpoints: must begin with https://: this program connects to Proxmox only over TLS"},
		"a key of the run": {[]string{good, "paris.yaml=" + fmt.Sprintf(reached, "paris") + "concurrency: 3\n"}, "", "paris.yaml:2: concurrency: belongs to the whole run, not to a target"},
		"a name inside":    {[]string{good, "paris.yaml=name: paris\n" + fmt.Sprintf(reached, "paris")}, "", "paris.yaml:1: name: is the name of the file already: remove the key"},
		"targets inside":   {[]string{good, "paris.yaml=targets: []\n" + fmt.Sprintf(reached, "paris")}, "", "paris.yaml:1: targets: cannot be in a target"},
		"two endings":      {[]string{good, "Berlin.yml=" + fmt.Sprintf(reached, "paris")}, "", "berlin.yaml: has the name of the target in Berlin.yml as well"},
		"a target as well": {[]string{good}, "targets: [{name: berlin, proxmox: {endpoints: [x], token: a@pve!bc=d}}]\n", "berlin.yaml: has the name of the target in config.yaml:3 as well"},
		"a strange name":   {[]string{good, "a b.yaml="}, "", "a b.yaml: names a target, so its name must be " + nameForm},
		"one realm": {
			[]string{good, "paris.yaml=" + fmt.Sprintf(reached, "berlin")},
			"",
			"paris.yaml: shares an endpoint and a realm with the target berlin: only one target can keep a realm",
		},
		"a name with a line feed": {[]string{good, "a\nb.yaml="}, "", "a b.yaml: names a target, so its name must be " + nameForm},
		"no target":               {[]string{"notes.txt="}, "", "config.yaml:2: targets_from: the folder has no file that ends with .yaml or .yml: there is no target"},
		"too large":               {[]string{"berlin.yaml=#" + strings.Repeat("-", maxTargetFile)}, "", "berlin.yaml: is larger than 256 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			setenv(t)
			text := folder(t, tt.entries...)
			_, err := load(t, text+tt.more, Options{})
			got := regexp.MustCompile(` /\S*/`).ReplaceAllString(problemsOf(t, err), " ")
			if got != tt.want {
				t.Errorf("says\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestAFolderOfTargetsIsReadLikeTheConfigurationFile(t *testing.T) {
	setenv(t)
	text := folder(t, "berlin.yaml="+cluster)
	dir := strings.TrimSpace(text[strings.LastIndex(text, " "):])
	path := filepath.Join(dir, "berlin.yaml")
	if err := os.Chmod(path, 0o622); err != nil {
		t.Fatal(err)
	}
	_, err := load(t, text, Options{})
	if got := problemsOf(t, err); !strings.Contains(got, "berlin.yaml: can be written by other users") {
		t.Errorf("writable by others: %s", got)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if c := mustLoad(t, text, Options{}); len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "berlin.yaml: holds a secret") {
		t.Errorf("a secret that everyone can read: %q", c.Warnings)
	}
	write(t, filepath.Join(dir, "oslo.yaml"), strings.Replace(cluster, "pve1", "oslo", 1))
	if c := mustLoad(t, text, Options{Targets: []string{"oslo"}}); len(c.Warnings) > 0 {
		t.Errorf("a target that the run does not take: %q", c.Warnings)
	}
	if _, err = load(t, issuer+"targets_from: $NOT_SET/x\n", Options{}); problemsOf(t, err) !=
		"config.yaml:2: targets_from: the variable $NOT_SET is not set" {
		t.Errorf("an unset variable: %v", err)
	}
	if _, err = load(t, issuer+"targets_from: /nonexistent\n", Options{Targets: []string{"berlin"}}); problemsOf(t, err) !=
		"config.yaml:2: targets_from: the folder cannot be read: no such file or directory" {
		t.Errorf("no folder: %v", err)
	}
}

func TestShardMistakes(t *testing.T) {
	const form = ": must be an index from 0 and a greater number of shards (at most 1000), such as 0/4"
	text := issuer + cluster
	for _, shard := range []string{"3/3", "-1/3", "+1/3", "1", "/", "1/", "/3", "1/3/4", "0/0", "0/1001", "a/b", "1 / 3"} {
		setenv(t)
		_, err := load(t, text, Options{Shard: shard})
		if got := problemsOf(t, err); got != "--shard"+form {
			t.Errorf("%q: %s", shard, got)
		}
	}
	for _, env := range [][]string{{"PROXMOX_REALM_SHARDS=3"}, {"PROXMOX_REALM_SHARDS=", "JOB_COMPLETION_INDEX=0"}, {"PROXMOX_REALM_SHARDS=3", "JOB_COMPLETION_INDEX=3"}} {
		t.Run("", func(t *testing.T) {
			setenv(t, env...)
			_, err := load(t, text, Options{Sharded: true})
			if got := problemsOf(t, err); got != "JOB_COMPLETION_INDEX and PROXMOX_REALM_SHARDS"+form {
				t.Errorf("%v: %s", env, got)
			}
		})
	}
	setenv(t)
	if _, err := load(t, text, Options{Shard: "0/3", Targets: []string{"default"}}); check.CodeOf(err) != check.Config || problemsOf(t, err) != "--shard: cannot be combined with -t: keep one of them" {
		t.Errorf("with -t: %v", err)
	}
}

// Each target is in exactly one shard, whatever it is called, and a further shard only takes targets to itself.
func TestEachTargetIsInOneShard(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.IntRange(1, 20).Draw(t, "count")
		for _, name := range rapid.SliceOfDistinct(rapid.StringMatching(targetName().String()), rapid.ID).Draw(t, "names") {
			var before, after []int
			for i := range count {
				if (Shard{i, count}).Holds(name) {
					before = append(before, i)
				}
			}
			for i := range count + 1 {
				if (Shard{i, count + 1}).Holds(name) {
					after = append(after, i)
				}
			}
			if len(before) != 1 || len(after) != 1 || after[0] != before[0] && after[0] != count {
				t.Fatalf("%s is in %v of %d shards and in %v of %d", name, before, count, after, count+1)
			}
		}
	})
}

// 10,000 targets are spread evenly, and about 1/COUNT of them move when a shard is added. Another version must not move them.
func TestShardsAreBalanced(t *testing.T) {
	const targets = 10000
	shardOf := func(name string, count int) int {
		for i := range count {
			if (Shard{i, count}).Holds(name) {
				return i
			}
		}
		return -1
	}
	for _, count := range []int{2, 4, 10} {
		sizes, moved := make([]int, count), 0
		for i := range targets {
			name := fmt.Sprintf("cluster-%d", i)
			shard := shardOf(name, count)
			sizes[shard]++
			if shardOf(name, count+1) != shard {
				moved++
			}
		}
		fair := float64(targets) / float64(count)
		for i, n := range sizes {
			if math.Abs(float64(n)-fair) > 4*math.Sqrt(fair) { // four times the deviation of chance
				t.Errorf("shard %d/%d has %d targets, not about %.0f", i, count, n, fair)
			}
		}
		if want := float64(targets) / float64(count+1); math.Abs(float64(moved)-want) > 4*math.Sqrt(want) {
			t.Errorf("from %d to %d shards %d targets move, not about %.0f", count, count+1, moved, want)
		}
	}
	if got := []int{shardOf("berlin", 5), shardOf("paris", 5), shardOf("rome", 5)}; !slices.Equal(got, []int{4, 0, 4}) {
		t.Errorf("berlin, paris and rome are in the shards %v of 5", got)
	}
}
