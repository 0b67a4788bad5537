package config

import (
	"context"
	"io"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// ReadClientKey reads a file that holds a client key, as realm.client_key_file does; "-" is stdin. Its errors are
// *[check.Error] with [check.Config]; they name the file and never quote it.
func ReadClientKey(ctx context.Context, path string, stdin io.Reader) (check.Secret, error) {
	data, err := ReadFile(ctx, path, stdin, maxSecret)
	if err != nil {
		return check.Secret{}, err
	}
	text := held(string(data))
	if err = realm.ValidateText(text); err == nil {
		var key check.Secret
		if key, err = parseClientKey(text); err == nil {
			return key, nil
		}
	}
	return check.Secret{}, check.Errorf(check.Config, "%s: the content of the file %v", called(path), err).Try(check.HintOf(err))
}
