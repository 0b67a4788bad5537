package realm

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"proxmox-realm/internal/check"
)

// Product is one of the Proxmox products whose realms this program keeps. The zero value is Proxmox VE. What differs between
// them is a value in the table below, or in the table of package proxmox: no code asks which product it is.
type Product int

// The products.
const (
	VE Product = iota
	BackupServer
	DatacenterManager
)

// product is one row of the table.
type product struct {
	id   string // as proxmox.product names it
	name string
	port string // where its API listens
	// separators may stand between id and secret of an API token. The first is the one that requests use.
	separators string
	tokenID    *pattern // of what follows the user
	host       Host
	tickets    bool // this program logs in with a user and a password

	builtin    []string // its own realms
	realmName  *pattern
	properties map[Property]limits // those that it has
	groups     bool                // has groups, so that `access` can be declared

	// oldest is the version from which on this program supports the product.
	oldest      release
	impliedType string // of a realm whose answer names none; "" if it always names one
	storesEmpty bool   // an empty text is stored as such, not dropped
	// updateClearsDefault: a PUT that does not send default=1 takes the flag from the realm.
	updateClearsDefault bool
	// packaged: the version is that of the package that keeps realms. The version of Proxmox VE is that of another package.
	packaged bool
	// openidconnect4 is the first version with openidconnect-rs 4. Earlier ones have openidconnect-rs 2.
	openidconnect4 release
	// hangsForGood: a silent issuer blocks a thread until the service is restarted.
	hangsForGood bool
}

// limits are what a product takes as the value of a property.
type limits struct {
	since    release
	max      int // characters; 0: no limit
	patterns []*pattern
}

// pattern is what a text must not contain.
type pattern struct {
	wrong func() *regexp.Regexp
	must  string // completes "must …"
}

var (
	oneWord   = &pattern{check.Pattern(`[\s\p{Z}]`), "not contain white space"}
	claimName = &pattern{check.Pattern(`[^A-Za-z0-9._-]`), "consist of letters, digits, '.', '_' and '-'"}
	latin1    = &pattern{check.Pattern(`[^\x{00}-\x{ff}]`), "hold only Latin-1 characters"}
	// Proxmox refuses a space and the delimiters of RFC 3986 appendix C in acr-values and audiences.
	uriWords = &pattern{check.Pattern(`[ <>#"]`), `not contain spaces or any of < > # "`}
	// RFC 6749 section 3.3, scope-token.
	scopeTokens = &pattern{check.Pattern(`[^\x20\x21\x23-\x5B\x5D-\x7E]`), "hold printable ASCII without quotation marks and backslashes"}
	// No issuer calls itself by a URL with a password, and every plan and report shows the URL.
	noUserinfo = &pattern{userinfo, "not hold credentials: remove what stands before the @"}
	// proxmox-schema, PROXMOX_SAFE_ID_REGEX.
	safeID  = &pattern{check.Pattern(`[^A-Za-z0-9._-]|^[.-]`), "consist of letters, digits, '.', '_' and '-', and not begin with '.' or '-'"}
	safeIDs = &pattern{
		check.Pattern(`[^A-Za-z0-9._,; -]|(^|[,; ])[.-]`),
		"hold words of letters, digits, '.', '_' and '-' that do not begin with '.' or '-'",
	}
	words256 = &pattern{check.Pattern(`[^,; ]{257}`), "hold words of at most 256 characters"}
	// PVE::AccessControl, token_subid_regex. Unlike a realm's name, an id has no greatest length.
	veToken = &pattern{check.Pattern(`^[^A-Za-z]|[^A-Za-z0-9._-]|^.?$`), "have two characters or more, a letter first, then letters, digits, '.', '_' or '-'"}
	// PVE::Auth::Plugin, pve_verify_realm. Proxmox itself accepts a line feed at the end, which then breaks its file of realms.
	veRealm   = &pattern{check.Pattern(`^[^A-Za-z]|[^A-Za-z0-9._-]`), "be 2 to 32 characters, a letter first, then letters, digits, '.', '_' or '-'"}
	rustRealm = &pattern{
		check.Pattern(`^[^A-Za-z0-9_]|[^A-Za-z0-9._-]`),
		"be 2 to 32 characters, a letter, digit or '_' first, then letters, digits, '.', '_' or '-'",
	}
)

// userinfo matches a URL up to the end of its credentials (RFC 3986 section 3.2.1); the URL may be broken.
var userinfo = check.Pattern(`^(.*?://)?[^/?#]*@`)

// products is the table, in the order of the constants. Limits of Proxmox VE were observed on libpve-access-control 9.1.1, those
// of Backup Server on 4.2.3. Those of Datacenter Manager 1.1.7 are read from its source. Versions are from the changelogs.
var products = [...]product{
	VE: {
		id: "pve", name: "Proxmox VE", port: "8006", separators: "=", tokenID: veToken, host: nodeOfVE, tickets: true,
		builtin: []string{"pam", "pve"}, realmName: veRealm, groups: true, oldest: release{7, 1}, openidconnect4: release{9},
		properties: map[Property]limits{
			ACRValues:        {since: release{7, 1}, patterns: []*pattern{uriWords}},
			Audiences:        {since: release{9, 2}, patterns: []*pattern{uriWords}},
			Autocreate:       {since: release{7, 0}},
			ClientID:         {since: release{7, 0}, max: 256},
			ClientKey:        {since: release{7, 0}, max: 256, patterns: []*pattern{latin1}},
			Comment:          {since: release{7, 0}, max: 4096},
			Default:          {since: release{7, 0}},
			GroupsAutocreate: {since: release{8, 4}},
			GroupsClaim:      {since: release{8, 4}, max: 256, patterns: []*pattern{claimName}},
			GroupsOverwrite:  {since: release{8, 4}},
			IssuerURL:        {since: release{7, 0}, max: 256, patterns: []*pattern{noUserinfo}},
			Prompt:           {since: release{7, 1}, patterns: []*pattern{oneWord}},
			QueryUserinfo:    {since: release{8, 4}},
			Scopes:           {since: release{7, 1}, patterns: []*pattern{scopeTokens}},
			UsernameClaim:    {since: release{7, 0}, patterns: []*pattern{oneWord}},
		},
	},
	BackupServer: {
		id: "pbs", name: "Proxmox Backup Server", port: "8007", separators: ":=", tokenID: safeID, host: hostOfBackupServer,
		builtin: []string{"pam", "pbs"}, realmName: rustRealm,
		oldest: release{2, 1}, impliedType: Type, storesEmpty: true, updateClearsDefault: true, packaged: true, openidconnect4: release{4}, hangsForGood: true,
		properties: map[Property]limits{
			ACRValues:     {since: release{2, 1}, patterns: []*pattern{uriWords}},
			Audiences:     {since: release{4, 2, 1}, patterns: []*pattern{uriWords, words256}},
			Autocreate:    {since: release{2, 0, 3}},
			ClientID:      {since: release{2, 0, 3}},
			ClientKey:     {since: release{2, 0, 3}},
			Comment:       {since: release{2, 0, 3}, max: 128},
			Default:       {since: release{3, 3, 7}},
			IssuerURL:     {since: release{2, 0, 3}, patterns: []*pattern{noUserinfo}},
			Prompt:        {since: release{2, 1}, patterns: []*pattern{safeID}},
			Scopes:        {since: release{2, 1}, patterns: []*pattern{safeIDs}},
			UsernameClaim: {since: release{2, 0, 3}, max: 64, patterns: []*pattern{safeID}},
		},
	},
	DatacenterManager: {
		id: "pdm", name: "Proxmox Datacenter Manager", port: "8443", separators: ":=", tokenID: safeID, host: hostOfManager,
		builtin: []string{"pam", "pdm"}, realmName: rustRealm,
		oldest: release{0, 9, 2}, impliedType: Type, storesEmpty: true, updateClearsDefault: true, packaged: true, hangsForGood: true,
		properties: map[Property]limits{
			ACRValues:     {since: release{0, 9, 2}, patterns: []*pattern{safeIDs}},
			Audiences:     {since: release{1, 0, 4}, patterns: []*pattern{uriWords, words256}},
			Autocreate:    {since: release{0, 9, 2}},
			ClientID:      {since: release{0, 9, 2}},
			ClientKey:     {since: release{0, 9, 2}},
			Comment:       {since: release{0, 9, 2}, max: 128},
			Default:       {since: release{0, 9, 2}},
			IssuerURL:     {since: release{0, 9, 2}, patterns: []*pattern{noUserinfo}},
			Prompt:        {since: release{0, 9, 2}, patterns: []*pattern{safeID}},
			Scopes:        {since: release{0, 9, 2}, patterns: []*pattern{safeIDs}},
			UsernameClaim: {since: release{0, 9, 2}, max: 64, patterns: []*pattern{safeID}},
		},
	},
}

func (p Product) row() product {
	if p < 0 || int(p) >= len(products) {
		return products[VE]
	}
	return products[p]
}

// Products returns all products, in the order in which they are shown.
func Products() []Product { return []Product{VE, BackupServer, DatacenterManager} }

// ParseProduct reads pve, pbs or pdm. Its error completes "must …".
func ParseProduct(text string) (Product, error) {
	for _, p := range Products() {
		if p.row().id == text {
			return p, nil
		}
	}
	return VE, errors.New("must be pve, pbs or pdm")
}

// ProductAt returns the product whose API listens on a port, and whether there is one.
func ProductAt(port string) (Product, bool) {
	i := slices.IndexFunc(products[:], func(r product) bool { return r.port == port })
	return Product(max(i, 0)), i >= 0
}

// String returns "pve", "pbs" or "pdm", as proxmox.product names it.
func (p Product) String() string { return p.row().id }

// MarshalText returns what String returns.
func (p Product) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText returns.
func (p *Product) UnmarshalText(text []byte) (err error) {
	*p, err = ParseProduct(string(text))
	return err
}

// Name returns "Proxmox VE", "Proxmox Backup Server" or "Proxmox Datacenter Manager".
func (p Product) Name() string { return p.row().name }

// Port returns the port on which the product's API listens.
func (p Product) Port() string { return p.row().port }

// TokenSeparators returns the characters of which one stands between id and secret of an API token. Requests use the first.
// Backup Server and Datacenter Manager print id and secret apart, and their documentation joins them by a colon.
func (p Product) TokenSeparators() string { return p.row().separators }

// ValidateTokenID returns what is wrong with the id of an API token. Its error completes "must …".
func (p Product) ValidateTokenID(id string) error {
	if r := p.row().tokenID; id == "" || r.wrong().MatchString(id) {
		return errors.New("must " + r.must)
	}
	return nil
}

// Host returns what an administrator does on a host of the product.
func (p Product) Host() Host { return p.row().host }

// TicketLogin reports whether this program can log in with a user and a password in place of an API token.
func (p Product) TicketLogin() bool { return p.row().tickets }

// HasGroups reports whether the product has groups. Without groups, the configuration cannot declare `access`.
func (p Product) HasGroups() bool { return p.row().groups }

// HangsForGood reports whether an issuer that does not answer blocks a thread of the product until its service is restarted.
// Otherwise it blocks one of a node's workers.
func (p Product) HangsForGood() bool { return p.row().hangsForGood }

// Has reports whether some version of the product has the property.
func (p Product) Has(prop Property) bool {
	_, ok := p.row().properties[prop]
	return ok
}

// Since returns the first version that has the property; the zero Version if none has.
func (p Product) Since(prop Property) Version { return p.version(p.row().properties[prop].since) }

// Needs says which versions have a property, such as "Proxmox VE 8.4 or later", where not all supported versions of all products
// have it. It returns "" otherwise.
func (p Property) Needs() string {
	var needs []string
	everywhere := true
	for _, product := range Products() {
		switch limits, has := product.row().properties[p]; {
		case !has:
			everywhere = false
		case product.row().oldest.before(limits.since):
			needs, everywhere = append(needs, product.version(limits.since).Named()+" or later"), false
		default:
			needs = append(needs, product.Name())
		}
	}
	if everywhere {
		return ""
	}
	return strings.Join(needs, ", ")
}

func (p Product) version(r release) Version {
	return Version{Product: p, Major: r[0], Minor: r[1], Patch: r[2]}
}

// Builtin reports whether the name is one of the product's own realms, which cannot be created or removed.
func (p Product) Builtin(name string) bool { return slices.Contains(p.row().builtin, name) }

// ValidateName returns what is wrong with the name of a realm. Its error completes "must …".
func (p Product) ValidateName(name string) error {
	if r := p.row().realmName; len(name) < 2 || len(name) > 32 || r.wrong().MatchString(name) {
		return fmt.Errorf("must %s", r.must)
	}
	return nil
}

// Validate returns what the product would refuse, rewrite or swallow about the value of a property. What the product lacks is
// not looked at closely: a plan refuses it. The error completes "must …" and never quotes the value.
func (p Product) Validate(prop Property, v Value) error {
	d, _ := prop.Definition()
	text := v.reveal()
	if err := ValidateText(text); err != nil {
		return err
	}
	limits := p.row().properties[prop]
	switch {
	case limits.max > 0 && utf8.RuneCountInString(text) > limits.max:
		return fmt.Errorf("must be at most %d characters long", limits.max)
	case d.Form == FormBool && text != "0" && text != "1":
		return errors.New("must be true or false")
	case (d.Form == FormSet || d.Form == FormList) && len(v.Words()) == 0:
		return errors.New("must hold a word")
	}
	for _, r := range limits.patterns {
		if r.wrong().MatchString(text) {
			return fmt.Errorf("must %s", r.must)
		}
	}
	return nil
}
