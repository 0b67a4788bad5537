package setup

import (
	"proxmox-realm/internal/authelia"
	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
)

// Files are the contents of a [Place]. What is nil is not written.
type Files struct {
	Token     []byte // of a token that is there already
	Authority []byte // of Proxmox, in PEM
	IssuerCA  []byte
	Key       check.Secret // of the client; not set: none
	Target    *config.Target
}

// NewKey makes a client key.
func NewKey() check.Secret { return authelia.NewKey() }

// Missing returns the steps that write what is not there: the configuration last, because it names the others. The token that a
// setup makes comes later.
func (f Files) Missing(p Place) ([]Step, error) {
	steps := p.folder()
	add := func(name, note string, content []byte) error {
		if content == nil {
			return nil
		}
		more, err := p.file(name, note, content)
		steps = append(steps, more...)
		return err
	}
	var key, document []byte
	if f.Key.IsSet() {
		key = []byte(f.Key.Reveal())
	}
	if f.Target != nil {
		t := *f.Target
		t.Proxmox.TokenFile = TokenFile
		document = config.Marshal(t)
	}
	for _, file := range []struct {
		name, note string
		content    []byte
	}{
		{AuthorityFile, "the authority of the cluster's certificates", f.Authority},
		{IssuerCAFile, "the authority of the issuer's certificate", f.IssuerCA},
		{KeyFile, "the key of the client", key},
		{TokenFile, "the API token", f.Token},
		{ConfigFile, "the configuration", document},
	} {
		if err := add(file.name, file.note, file.content); err != nil {
			return nil, err
		}
	}
	return steps, nil
}
