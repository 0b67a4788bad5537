package authelia

import (
	"bytes"
	_ "embed" // the template
	"slices"
	"strings"
	"sync"
	"text/template"

	"proxmox-realm/internal/check"
)

// Options say what a client block holds.
type Options struct {
	Client
	Digest    string // of the client key, see [Digest]
	WithLogin bool   // registers [LoginRedirectURI] as well
	// LoginRequired makes it a difference if that is not registered. Logins of users do not need it.
	LoginRequired bool
	OneFactor     bool // users log in with one factor instead of two
	Whole         bool // Block prints everything from identity_providers down, not the list item alone
}

// Block returns the client for Authelia's configuration. The same options give the same bytes. A list item alone is
// indented as it stands below `clients:` in Authelia's documentation. An error is a *check.Error.
func Block(o Options) ([]byte, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Digest == "" {
		return nil, noKey()
	}
	o.RedirectURIs = union(nil, o.RedirectURIs)
	o.WithLogin = o.WithLogin && !slices.Contains(o.RedirectURIs, LoginRedirectURI)
	return o.execute("client", "")
}

// The commands of Authelia that make what its OpenID part needs beside a client. In a whole block, a text stands in for their
// results.
const (
	commandHMAC = "authelia crypto rand --length 64 --charset alphanumeric"
	commandKey  = "authelia crypto pair rsa generate"
	placeholder = "REPLACE_ME"
)

// digestComment stands behind the digest in a block.
const digestComment = "# the digest of the client key"

// claimsPolicy is the name of the claims policy that the block defines.
const claimsPolicy = "proxmox"

// SecretLine returns the line of the block that holds the digest. During a rotation it replaces the old line, and
// everything else that the client has stays.
func SecretLine(o Options) ([]byte, error) { return o.execute("secret", "        ") }

var (
	//go:embed client.tmpl
	templates string

	blocks = sync.OnceValue(func() *template.Template { // at first use: most commands print no block
		return template.Must(template.New("client").Funcs(template.FuncMap{
			"quote":            func(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" },
			"loginRedirectURI": func() string { return LoginRedirectURI },
			"commandHMAC":      func() string { return commandHMAC },
			"commandKey":       func() string { return commandKey },
			"placeholder":      func() string { return placeholder },
			"comment":          func() string { return digestComment },
		}).Parse(templates))
	})
)

func (o Options) execute(name, indent string) ([]byte, error) {
	out := bytes.NewBufferString(indent)
	if err := blocks().ExecuteTemplate(out, name, o); err != nil {
		return nil, check.Errorf(check.Internal, "write the client block").Because(err)
	}
	return out.Bytes(), nil
}

// clientID is what Authelia accepts as a client id.
var clientID = check.Pattern(`^[A-Za-z0-9._~-]+$`)

func isClientID(id string) bool { return len(id) <= 100 && clientID().MatchString(id) }

// Validate checks the options without the digest, because making a digest takes a moment.
func (o Options) Validate() error {
	if len(o.RedirectURIs) == 0 && !o.LoginRequired {
		return check.Errorf(check.Config, "the client has no redirect URI").Try("set {verify.redirect_urls} to what browsers open")
	}
	if !isClientID(o.Login.ClientID) {
		return check.Errorf(check.Config, "Authelia accepts at most 100 letters, digits and -._~ in a client id").
			Try("set {realm.client_id}")
	}
	return nil
}
