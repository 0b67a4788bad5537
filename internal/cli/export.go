package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/disk"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

func (a *app) exportCommand() *cobra.Command {
	var keyOut string
	cmd := &cobra.Command{
		Use:   "export REALM",
		Short: "Print a configuration for a realm that exists",
		Long: `Print a configuration that declares a realm as it is now. To adopt an existing
realm, save this output as your configuration: applying it changes nothing. The
client key is not printed; --key-out writes it to a file. The grants of the
realm's groups are printed if the credentials may see them.` + exitHelp(exitUnavailable, exitDenied),
		Example: "  proxmox-realm export authelia --endpoint pve1.example.com --token-file token \\\n" +
			"    --key-out client-key > config.yaml",
		Args: arguments(1, 1, "the name of one realm"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.export(cmd, args[0], keyOut) },
	}
	cmd.Flags().StringVar(&keyOut, "key-out", "", "write the client key to `FILE` with mode 0600; FILE must not exist")
	a.configFlags(cmd)
	return cmd
}

func (a *app) export(cmd *cobra.Command, name, keyOut string) error {
	t, client, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.Product().ValidateName(name); err != nil {
		return usage("a realm's name %v", err)
	}
	current, err := client.Realm(cmd.Context(), name)
	switch {
	case err != nil:
		return err
	case !current.Exists:
		return absent(cmd.Context(), client, name)
	case current.Type != realm.Type:
		return check.Errorf(check.WrongType, "realm %s has the type %s, and export prints OpenID Connect realms only",
			name, current.Type)
	}
	t.Realm = realm.Spec{Product: t.Proxmox.Product, Name: name, Set: current.Values}
	login := t.Realm.Set.Login(name)
	if t.Access, err = a.storedAccess(cmd.Context(), client, login); err != nil {
		return err
	}
	key := login.ClientKey
	switch {
	case keyOut != "" && !key.IsSet():
		return check.Errorf(check.Internal, "realm %s has no client key to write to %s", name, keyOut)
	case keyOut != "":
		keyOut = absolute(keyOut) // the configuration may be moved to another folder
		if err := writeKey(keyOut, key); err != nil {
			return err
		}
	case key.IsSet():
		a.warning("the client key is left out of the configuration, so it is not managed: --key-out FILE exports it")
	}
	secrets := check.NewCleaner(append(t.Secrets(), key)...)
	for _, c := range realm.Whole(realm.Set, current) {
		if c.Property != realm.ClientKey && secrets.Hide(*c.After) != *c.After {
			a.warning("the configuration shows a secret: somebody put it into the realm's " + string(c.Property))
		}
	}
	t.ClientKeyFile, t.ClientKeyCommand = keyOut, nil
	if err := a.printf("%s\n", strings.TrimRight(string(config.Marshal(t)), "\n")); err != nil {
		return err
	}
	if !a.quiet {
		a.sayHint(nextCheck)
	}
	return nil
}

// storedAccess returns what the realm's groups may do. It leaves out what a configuration cannot hold, or what would be
// refused: grants need a groups claim, and a product with groups.
func (a *app) storedAccess(ctx context.Context, client *proxmox.Client, login realm.Login) (realm.Access, error) {
	if !client.Product().HasGroups() {
		return nil, nil
	}
	current, err := client.Access(ctx)
	if err != nil {
		return nil, err
	}
	realms, err := client.Realms(ctx)
	if err != nil {
		return nil, err
	}
	access := current.Stored(login.Realm, realms...)
	for _, group := range access.Groups() {
		for _, g := range access[group] {
			if err := g.Validate(); err != nil {
				a.warning(fmt.Sprintf("the group %s is left out of the configuration: a grant %v", group, err))
				delete(access, group)
				break
			}
		}
	}
	switch {
	case !current.Complete():
		a.warning("groups and grants are left out of the configuration, so they are not managed: " +
			"they are not visible without Sys.Audit on /access")
		return nil, nil
	case login.GroupsClaim == "" && len(access) > 0:
		a.warning("groups and grants are left out of the configuration: without a groups claim no login joins a group")
		return nil, nil
	}
	return access, nil
}

// absent is the error of a realm that does not exist. It names the realms that do, if Proxmox lists them.
func absent(ctx context.Context, client *proxmox.Client, name string) error {
	err := check.Errorf(check.Internal, "realm %s does not exist on %s", name, client.Endpoint())
	names, unlisted := client.Realms(ctx)
	if unlisted != nil || len(names) == 0 {
		return err.Try(client.Product().Host().Run("", client.Product().Host().ListRealms))
	}
	return err.Try(check.Hintf("choose one of the realms there: %s", strings.Join(names, ", ")))
}

func overwrites(path string) error {
	return usage("%s exists and is not overwritten", path).Try("name a new file")
}

// writeKey writes a client key to a new file that its owner alone can read. It never overwrites a file, because that may
// be the only copy of a key in use.
func writeKey(path string, key check.Secret) error {
	err := disk.Create(path, []byte(key.Reveal()))
	switch {
	case errors.Is(err, fs.ErrExist):
		return overwrites(path)
	case err != nil:
		return check.Errorf(check.Internal, "write the client key: %v", err).
			Try(check.Hint("name a file in a folder that exists and that you can write to")).Because(err)
	}
	return nil
}
