//go:build acceptance

package acceptance

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fleet is a folder of targets, all of them realms of the one cluster.
type fleet struct {
	*world
	folder, config string
	realms         []string
}

func beginFleet(t *testing.T, realms int) *fleet {
	t.Helper()
	f := &fleet{world: begin(t)}
	f.folder = filepath.Join(f.dir, "targets")
	if err := os.Mkdir(f.folder, 0o700); err != nil {
		t.Fatal(err)
	}
	f.config = f.world.config(setting{more: object{"targets_from": "targets"}})
	for range realms {
		realm := name()
		f.target(realm, object{"realm": object{"name": realm}})
		f.realms = append(f.realms, realm)
		t.Cleanup(func() { f.forget(realm) })
	}
	return f
}

// target writes the file of a target.
func (f *fleet) target(name string, content object) (file string) {
	f.Helper()
	encoded, err := json.Marshal(content)
	if err == nil {
		file = filepath.Join(f.folder, name+".yaml")
		err = os.WriteFile(file, encoded, 0o600)
	}
	if err != nil {
		f.Fatal(err)
	}
	return file
}

// lines runs the program with -o jsonl and returns the outcome of each target, and the last line.
func (f *fleet) lines(code int, args ...string) (outcomes map[string]string, last object) {
	f.Helper()
	outcomes = map[string]string{}
	for line := range strings.Lines(f.plainly(code, append([]string{"-c", f.config, "-o", "jsonl"}, args...)...).stdout) {
		last = nil
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			f.Fatalf("%s: %v", line, err)
		}
		if name, ok := last["name"].(string); ok {
			if outcomes[name] != "" {
				f.Errorf("%s has two lines", name)
			}
			outcomes[name] = fmt.Sprint(last["outcome"])
		}
	}
	return outcomes, last
}

func TestShardsCoverEveryTargetOnce(t *testing.T) {
	f := beginFleet(t, 5)
	seen := map[string]int{}
	for shard := range 3 {
		outcomes, last := f.lines(0, "apply", "--shard", fmt.Sprintf("%d/3", shard))
		for name, outcome := range outcomes {
			if seen[name]++; outcome != "changed" {
				t.Errorf("%s is %s", name, outcome)
			}
		}
		if last["counts"] == nil {
			t.Errorf("shard %d ends with %v", shard, last)
		}
	}
	for _, realm := range f.realms {
		if seen[realm] != 1 {
			t.Errorf("%s was in %d shards", realm, seen[realm])
		}
		f.holds(realm, object{"client-id": env(t, "LAB_CLIENT_ID")})
	}
	outcomes, last := f.lines(0, "plan", "--exit-code")
	if len(outcomes) != 5 || fmt.Sprint(last["counts"]) != "map[unchanged:5]" {
		t.Errorf("then %v, %v", outcomes, last)
	}
}

func TestAFileThatIsHalfWritten(t *testing.T) {
	f := beginFleet(t, 2)
	half := f.target("half", nil)
	if err := os.WriteFile(half, []byte(`{"realm": {"name": `), 0o600); err != nil {
		t.Fatal(err)
	}
	o := f.run(78, f.config, "apply")
	if o.report.Error == nil || !strings.Contains(o.report.Error.Message, "half.yaml") {
		t.Errorf("the error is %+v", o.report.Error)
	}
	if _, exists := f.stored(f.realms[0]); exists {
		t.Error("a target was applied all the same")
	}
	f.run(0, f.config, "apply", "-t", f.realms[0])
	if _, exists := f.stored(f.realms[0]); !exists {
		t.Error("-t reads the files of other targets")
	}
}

func TestAClusterThatIsOff(t *testing.T) {
	f := beginFleet(t, 3)
	f.target("off", object{"proxmox": object{
		"endpoints": []string{"https://127.0.0.1:1"}, "token_file": f.secretFile("root@pam!off=secret"), "ca_file": env(t, "LAB_CA_FILE"),
	}})
	outcomes, _ := f.lines(69, "apply")
	if outcomes["off"] != "failed" || len(outcomes) != 4 {
		t.Errorf("%v", outcomes)
	}
	for _, realm := range f.realms {
		if outcomes[realm] != "changed" {
			t.Errorf("%s is %s", realm, outcomes[realm])
		}
	}
}
