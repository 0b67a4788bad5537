package cli

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"proxmox-realm/internal/check"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
)

func (a *app) exportCommand() *cobra.Command {
	var keyOut string
	cmd := &cobra.Command{
		Use:   "export REALM",
		Short: "Print a configuration for a realm that exists",
		Long: `Print a configuration that declares a realm as it is now: the way to adopt one that was made by hand. To apply
it changes nothing. The client key is not printed; --key-out writes it to a file.` + exitHelp(exitUnavailable, exitDenied),
		Example: "  proxmox-realm export authelia --endpoint pve1.example.com --token-file token --key-out client-key > config.yaml",
		Args:    exactly(1, "the name of one realm"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.export(cmd, args[0], keyOut) },
	}
	cmd.Flags().StringVar(&keyOut, "key-out", "", "write the client key to `FILE`, which must not exist, with mode 0600")
	configFlags(cmd)
	return cmd
}

func (a *app) export(cmd *cobra.Command, name, keyOut string) error {
	if err := realm.ValidateName(name); err != nil {
		return usage("a realm's name %v", err)
	}
	if a.output != "text" {
		return usage("export prints YAML, which --output does not change")
	}
	t, f, err := a.oneTarget(cmd)
	if err != nil {
		return err
	}
	client, err := f.Connect(t)
	if err != nil {
		return err
	}
	defer client.Close()
	current, err := client.Realm(cmd.Context(), name)
	switch {
	case err != nil:
		return err
	case !current.Exists:
		return check.Errorf(check.Internal, "realm %s does not exist on %s", name, client.Endpoint()).Try(check.Advise("`pveum realm list` shows those that do"))
	case current.Type != realm.Type:
		return check.Errorf(check.WrongType, "realm %s has the type %s: only OpenID Connect realms are exported", name, current.Type)
	}
	spec := realm.Spec{Name: name, Set: current.Values}
	key := spec.Set.Login(name).ClientKey
	if keyOut != "" {
		if keyOut, err = filepath.Abs(keyOut); err != nil { // the configuration may come to stand elsewhere
			return err
		}
		if !key.IsSet() {
			return check.Errorf(check.Internal, "realm %s has no client key to write to %s", name, keyOut)
		}
		if err := create(keyOut, []byte(key.Reveal()+"\n")); err != nil {
			if errors.Is(err, fs.ErrExist) {
				return check.Errorf(check.Internal, "%s exists, and is not overwritten", keyOut).Try(check.Advise("choose another file for --key-out"))
			}
			return check.Errorf(check.Internal, "the client key cannot be written: %v", err).Because(err)
		}
	}
	document, err := config.Document(spec, t, keyOut)
	if err != nil {
		return err
	}
	if key.IsSet() && keyOut == "" {
		a.warning("the client key is left out, and so not managed: --key-out FILE writes it to a file that the configuration names")
	}
	return a.printf("%s\n", strings.TrimRight(string(document), "\n"))
}
