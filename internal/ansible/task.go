package ansible

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"proxmox-realm/internal/check"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// task is a request that makes sense.
type task struct {
	config  *config.Config
	options reconcile.Options
	check   bool
	absent  bool
	verify  string // verifyFail, verifyWarn or verifyNot
}

// task turns a request into a configuration of one target, checked as any other configuration is.
func (r request) task(ctx context.Context, env []string) (task, error) {
	t := task{
		check: r.check, absent: r.arguments.text("state") == "absent",
		verify: cmp.Or(r.arguments.text("verify"), verifyFail),
	}
	t.options.Replace = r.arguments.is("replace", false)
	for _, name := range required() { // an empty one is as good as none
		if r.arguments.text(name) == "" {
			delete(r.arguments, name)
		}
	}
	flags, wrong := r.arguments.settings()
	for _, name := range required() {
		if !r.arguments.has(name) && (name == "realm" || !t.absent) {
			wrong = append(wrong, name+": is required")
		}
	}
	// Partial: what is required was asked for by its name here.
	c, err := config.Load(ctx, config.Options{NoFile: true, Env: env, Flags: flags, Secrets: len(wrong) == 0, Partial: true})
	var problems config.Problems
	switch {
	case errors.As(err, &problems):
		for _, p := range problems {
			wrong = append(wrong, inArguments(p.String()))
		}
	case err != nil:
		return task{}, err
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return task{}, mistakes(wrong)
	}
	for i := range c.Warnings {
		c.Warnings[i] = inArguments(c.Warnings[i])
	}
	t.config = c
	if t.absent {
		c.Targets[0].Realm = realm.Spec{Name: c.Targets[0].Realm.Name}
		c.Targets[0].Verify.Issuer = false
	}
	return t, nil
}

// required lists the arguments that name the realm and what it cannot be without, the former in every state.
func required() []string {
	names := []string{"realm"}
	for _, d := range realm.Definitions() {
		if d.Required {
			names = append(names, nameOf(d))
		}
	}
	return names
}

// inArguments puts what was written for the command line and configuration files into the module's words.
func inArguments(text string) string { return words().Replace(text) }

var words = sync.OnceValue(func() *strings.Replacer {
	names := map[string]string{
		"proxmox.endpoints":                        "api_host",
		"proxmox.username":                         "api_user",
		"proxmox.token":                            "api_token_id and api_token_secret",
		"proxmox.token_file":                       "api_token_id and api_token_secret",
		"proxmox.password_file":                    "api_password",
		"proxmox.timeout":                          "api_timeout",
		"proxmox.ca_file":                          "ca_path",
		"proxmox.insecure":                         "validate_certs",
		"realm.client_key_file":                    "openid_client_key",
		"realm.unset":                              "unset",
		"the secret in proxmox.token":              "the secret in api_token_secret",
		"the client key's file":                    "openid_client_key",
		"run apply --replace":                      "set replace: true",
		"--no-gate writes":                         "gate: false writes",
		"let apply --wait 10m wait for it":         "retry the task until it does",
		", or let --wait-lock 60s wait for it":     "",
		"set state_dir to a":                       "set the environment variable STATE_DIRECTORY to a",
		"set lock_file and state_dir to places":    "set the environment variables RUNTIME_DIRECTORY and STATE_DIRECTORY to places",
		"set lock_file to a path":                  "set the environment variable RUNTIME_DIRECTORY to a folder",
		", or to an empty string for no lock":      "",
		"from the configuration":                   "from the task",
		"`proxmox-realm help config` explains eve": "`ansible-doc proxmox_realm.sso.proxmox_openid_realm` explains eve",
	}
	for name, argument := range table() {
		if argument.key != "" {
			names[argument.key] = name
		}
	}
	for _, k := range config.Keys() {
		if name := names[k.Path]; name != "" && k.Flag != "" {
			names["--"+k.Flag] = name
		}
	}
	var pairs []string
	for _, from := range slices.SortedFunc(maps.Keys(names), func(a, b string) int { // the longest first
		return cmp.Or(len(b)-len(a), strings.Compare(a, b))
	}) {
		pairs = append(pairs, from, names[from])
	}
	return strings.NewReplacer(pairs...)
})

// described is an error in the module's words.
func described(err error) check.Description {
	d := check.Describe(err)
	d.Message = strings.ReplaceAll(d.Message, "\n", "; ")
	d.Remedy = []check.Remedy{check.Advice(inArguments(strings.ReplaceAll(d.Hint(), "\n", "; ")))}
	return d
}
