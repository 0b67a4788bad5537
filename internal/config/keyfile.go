package config

import (
	"context"
	"io"
	"os"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/disk"
	"proxmox-realm/internal/realm"
)

// NewKeySuffix is how the file of a new client key is called, beside the file of the present one.
const NewKeySuffix = ".new"

// Rotating reports whether a new client key lies beside the present one, so that a rotation has begun.
func (t Target) Rotating() bool {
	if t.ClientKeyFile == "" {
		return false
	}
	_, err := os.Lstat(t.ClientKeyFile + NewKeySuffix)
	return err == nil
}

// ReadClientKey reads a file that holds a client key, as realm.client_key_file does; "-" is stdin. Its errors are
// *[check.Error] with [check.Config]; they name the file and never quote it.
func ReadClientKey(ctx context.Context, path string, stdin io.Reader) (check.Secret, error) {
	data, err := disk.Read(ctx, path, stdin, maxSecret)
	if err != nil {
		return check.Secret{}, err
	}
	text := held(data)
	if err = realm.ValidateText(text); err == nil {
		var key check.Secret
		if key, err = parseClientKey(text); err == nil {
			return key, nil
		}
	}
	return check.Secret{}, check.Errorf(check.Config, "%s: the content of the file %v", disk.Called(path), err).Try(check.HintOf(err))
}
