package standin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Load reads a state from a file. It returns false if the file does not exist.
func Load(file string, state any) (bool, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the state: %w", err)
	}
	if err := json.Unmarshal(data, state); err != nil {
		return false, fmt.Errorf("reading the state in %s: %w", file, err)
	}
	return true, nil
}

// Save replaces a file by a state. Its mode is 0600.
func Save(file string, state any) error {
	data, err := json.MarshalIndent(state, "", " ")
	if err != nil {
		return fmt.Errorf("saving the state: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".state-*") // 0600
	if err != nil {
		return fmt.Errorf("saving the state: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("saving the state: %w", err)
	}
	return nil
}
