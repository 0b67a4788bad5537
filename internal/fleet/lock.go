package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"proxmox-realm/internal/check"

	"github.com/gofrs/flock"

	"proxmox-realm/internal/config"
)

// lockEach is how often a waiting run looks whether the lock is free.
const lockEach = 200 * time.Millisecond

// lock keeps overlapping runs of one configuration apart, and returns what frees it. It waits for at most
// so long; a zero wait gives up at once.
func lock(ctx context.Context, path string, wait time.Duration, log *slog.Logger) (func(), error) {
	if path == "" {
		return func() {}, nil
	}
	unusable := func(err error) error {
		return check.Errorf(check.Config, "the lock file %s cannot be used: %v", path, err).
			Try(check.Advise("set lock_file to a path that this user can write, or to an empty string for no lock")).Because(err)
	}
	if err := config.MakePrivate(filepath.Dir(path)); err != nil {
		var known *check.Error
		if errors.As(err, &known) {
			return nil, fmt.Errorf("the lock file %s cannot be used: %w", path, err)
		}
		return nil, unusable(err)
	}
	file := flock.New(path, flock.SetPermissions(0o600))
	locked, err := file.TryLock()
	if err == nil && !locked && wait > 0 {
		log.Info("waiting for the lock", "file", path, "at_most", wait)
		waiting, cancel := context.WithTimeout(ctx, wait)
		locked, err = file.TryLockContext(waiting, lockEach)
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
			Try(check.Advise("run again later, or let --wait-lock 60s wait for it"))
	}
	return func() { _ = file.Unlock() }, nil
}
