package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/report"
)

// Memory is the file that keeps what runs last reported, so that the next one reports only news.
type Memory struct{ path string }

// MemoryOf returns the memory of runs of a command on these targets. It depends on their endpoints and realms alone,
// not on the file or flags that name them.
func MemoryOf(command string, c *config.Config) Memory {
	parts := []string{}
	for _, t := range c.Targets {
		parts = append(parts, fmt.Sprint(t.Realm.Name, t.Proxmox.Endpoints))
	}
	slices.Sort(parts)
	return memory(c.StateDir, command, strings.Join(parts, "\n"))
}

// UnusableMemory returns the memory of runs whose configuration had mistakes, so that neither their targets nor their
// state_dir are known.
func UnusableMemory(command, configFile string) Memory {
	return memory(config.StateDir(), "unusable "+command, configFile)
}

func memory(dir, kind, subject string) Memory {
	if dir == "" {
		return Memory{}
	}
	sum := sha256.Sum256([]byte(kind + "\n" + subject))
	return Memory{filepath.Join(dir, "said-"+hex.EncodeToString(sum[:8])+".json")}
}

// Load returns what was kept. For an absent or damaged file it returns the zero value, as before the first run.
func (m Memory) Load() (last report.Last) {
	if content, err := config.ReadPrivate(m.path, maxMemory); err != nil || json.Unmarshal(content, &last) != nil {
		return report.Last{}
	}
	return last
}

// maxMemory is the number of bytes that are read at most: a thousand troubles need some 100 KiB.
const maxMemory = 16 << 20

// forgotten is the age at which the memory of targets that are gone is removed.
const forgotten = 90 * 24 * time.Hour

// Save replaces what was kept, and removes other memories that no run has written for 90 days.
func (m Memory) Save(last report.Last) error {
	if m.path == "" {
		return nil
	}
	content, err := json.Marshal(last)
	if err != nil {
		return err
	}
	dir := filepath.Dir(m.path)
	if err := config.MakePrivate(dir); err != nil {
		return err
	}
	entries, _ := os.ReadDir(dir) // what cannot be removed now is tried again next time
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), "said-") && time.Since(info.ModTime()) > forgotten {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	return config.ReplaceFile(m.path, content, 0o600)
}

// Forget removes what was kept.
func (m Memory) Forget() { _ = os.Remove(m.path) }
