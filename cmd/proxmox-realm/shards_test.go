//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Shards run as separate processes while files of targets come and go. Each target that stays is in exactly one shard; one
// that comes or goes is in one shard at most.
func TestShardsWhileTargetsComeAndGo(t *testing.T) {
	const stay, shards, rounds = 40, 4, 3
	l := newLab(t, "empty")
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yaml")
	text, err := os.ReadFile(l.ConfigFile)
	if err == nil {
		err = os.WriteFile(config, append(text, "targets_from: targets\n"...), 0o600)
	}
	if err == nil {
		err = os.Mkdir(filepath.Join(dir, "targets"), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, "targets", name+".yaml") }
	add := func(name string) {
		temporary := filepath.Join(dir, name) // renamed, as a file that is half written would rightly fail its shard
		if os.WriteFile(temporary, []byte("realm: {name: "+name+"}\n"), 0o600) != nil || os.Rename(temporary, file(name)) != nil {
			t.Error("cannot add", name)
		}
	}
	for i := range stay {
		add(fmt.Sprintf("stays%d", i))
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				add(fmt.Sprintf("comes%d", i))
				_ = os.Remove(file(fmt.Sprintf("comes%d", i-20))) // not there at first
				time.Sleep(time.Millisecond)
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	came := 0
	for range rounds {
		var mu sync.Mutex
		seen := map[string]int{}
		var processes sync.WaitGroup
		for shard := range shards {
			processes.Go(func() {
				names := planned(t, config, fmt.Sprintf("%d/%d", shard, shards))
				mu.Lock()
				defer mu.Unlock()
				for _, name := range names {
					seen[name]++
				}
			})
		}
		processes.Wait()
		for name, n := range seen {
			if n != 1 {
				t.Errorf("%s is in %d shards", name, n)
			}
		}
		came += len(seen) - stay
		for i := range stay {
			if name := fmt.Sprintf("stays%d", i); seen[name] != 1 {
				t.Errorf("%s is in %d shards", name, seen[name])
			}
		}
	}
	if came == 0 {
		t.Error("no target came or went")
	}
}

// planned returns the names of the targets that a process plans as a shard.
func planned(t *testing.T, config, shard string) (names []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "proxmox-realm", "plan", "-o", "jsonl", "-c", config, "--shard", shard)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Errorf("shard %s: %v: %s", shard, err, &said)
	}
	for line := range strings.Lines(out.String()) {
		var target struct{ Name, Action string }
		switch err := json.Unmarshal([]byte(line), &target); {
		case err != nil:
			t.Errorf("%s: %v", line, err)
		case target.Name != "" && target.Action != "create":
			t.Errorf("the plan of %s is %s", target.Name, target.Action)
		case target.Name != "":
			names = append(names, target.Name)
		}
	}
	return names
}
