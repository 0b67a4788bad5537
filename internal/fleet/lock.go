package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"proxmox-realm/internal/check"

	"github.com/gofrs/flock"

	"proxmox-realm/internal/config"
)

// lockEvery is how often a waiting run tries to take the lock.
const lockEvery = 200 * time.Millisecond

// lock keeps overlapping runs of one configuration apart, and returns the function that frees it. It waits for the lock
// no longer than wait; 0 means not at all.
func lock(ctx context.Context, path string, wait time.Duration, log *slog.Logger) (func(), error) {
	if path == "" {
		return func() {}, nil
	}
	unusable := func(err error) error {
		return check.Errorf(check.Config, "the lock file %s cannot be used: %v", path, err).
			Try(check.Set("lock_file", "").With("a path that this user can write, or an empty string for no lock")).Because(err)
	}
	if err := config.MakePrivate(filepath.Dir(path)); err != nil {
		var known *check.Error
		if errors.As(err, &known) {
			return nil, fmt.Errorf("the lock file %s cannot be used: %w", path, err)
		}
		return nil, unusable(err)
	}
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return nil, unusable(errors.New("it is not a regular file"))
	}
	file := flock.New(path, flock.SetPermissions(0o600))
	locked, err := file.TryLock()
	if err == nil && !locked && wait > 0 {
		log.Info("waiting for the lock", "file", path, "at_most", wait)
		waiting, cancel := context.WithTimeout(ctx, wait)
		locked, err = file.TryLockContext(waiting, lockEvery)
		cancel()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = nil
		}
	}
	switch {
	case err != nil:
		return nil, unusable(err)
	case !locked:
		return nil, check.Errorf(check.Locked, "another run holds the lock %s", path).
			Try(check.Advise("run again later"), check.Run("apply --wait-lock 60s").With("it waits for the lock"))
	}
	return func() { _ = file.Unlock() }, nil
}
