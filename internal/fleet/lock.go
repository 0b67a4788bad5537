package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
)

// lockEvery is how often a waiting run tries to take the lock.
const lockEvery = 200 * time.Millisecond

// locks keeps runs of one configuration from overlapping, and returns the function that unlocks. Shards may run at the
// same time: they share the lock of the configuration, and each takes a lock of its own.
func locks(ctx context.Context, c *config.Config, wait time.Duration, log *slog.Logger) (func(), error) {
	switch {
	case c.LockFile == "":
		return func() {}, nil
	case c.Shard.Count <= 1:
		return lock(ctx, c.LockFile, false, wait, log)
	}
	unlock, err := lock(ctx, c.LockFile, true, wait, log)
	if err != nil {
		return nil, err
	}
	own := fmt.Sprintf("%s.%d-%d", c.LockFile, c.Shard.Index, c.Shard.Count)
	unlockOwn, err := lock(ctx, own, false, wait, log)
	if err != nil {
		unlock()
		return nil, err
	}
	return func() { unlockOwn(); unlock() }, nil
}

// lock takes one lock. It waits for the lock no longer than wait; 0 means not at all.
func lock(ctx context.Context, path string, shared bool, wait time.Duration, log *slog.Logger) (func(), error) {
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
	try, tryUntil := file.TryLock, file.TryLockContext
	if shared {
		try, tryUntil = file.TryRLock, file.TryRLockContext
	}
	locked, err := try()
	if err == nil && !locked && wait > 0 {
		log.Info("waiting for the lock", "file", path, "at_most", wait)
		waiting, cancel := context.WithTimeout(ctx, wait)
		locked, err = tryUntil(waiting, lockEvery)
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
			Try(check.Hint("run again later"), check.Run("apply --wait-lock 60s").With("it waits for the lock"))
	}
	return func() { _ = file.Unlock() }, nil
}
