package authelia

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
)

// Check tells in what an existing configuration of Authelia differs from what the realm needs: one check for each
// entry of [Catalog], with file and line as evidence. Several files are read as Authelia reads them, a later one
// over an earlier. Only the client with the realm's client id is looked at, and what it refers to. No secret of the files is in
// any check, and what Authelia's file filters (templates, environment variables) fill in is skipped, never guessed.
func Check(want Client, files ...File) []check.Check {
	c := &checker{want: want, clean: check.NewCleaner(want.Login.ClientKey)}
	for _, file := range files {
		doc := parse(file, want.Login.ClientID)
		doc.name = c.clean.Clean(doc.name)
		c.docs = append(c.docs, doc)
		c.clean.Hold(secretsIn(doc)...)
	}
	c.run()
	return c.found
}

type checker struct {
	want   Client
	clean  *check.Cleaner
	docs   []document
	doc    document   // the one with the client
	client *yaml.Node // nil where it was not found
	found  []check.Check
}

func (c *checker) run() {
	c.file()
	c.locate()
	rest := []struct {
		id    check.ID
		check func(id check.ID) check.Check
	}{
		{CheckNames, c.names},
		{CheckPublic, c.public},
		{CheckSecret, c.secret},
		{CheckDigest, c.digest},
		{CheckRedirect, c.redirect},
		{CheckScopes, c.scopes},
		{CheckFlow, c.flow},
		{CheckPKCE, c.pkce},
		{CheckAuthentication, c.authentication},
		{CheckUserinfo, c.userinfo},
		{CheckIDToken, c.idToken},
		{CheckClaims, c.claims},
		{CheckPolicy, c.policy},
		{CheckConsent, c.consent},
	}
	for _, r := range rest {
		if c.client == nil {
			c.add(check.Skipped(r.id, "there is no client to look at"))
			continue
		}
		c.add(r.check(r.id))
	}
}

// add cleans what may quote a file.
func (c *checker) add(f check.Check) {
	f.Summary, f.Evidence, f.Remedy = c.clean.Clean(f.Summary), c.clean.Clean(f.Evidence), check.Advice(c.clean.Clean(f.Remedy.String()))
	c.found = append(c.found, f)
}

func (c *checker) file() {
	for _, doc := range c.docs {
		switch {
		case doc.unreadable != "":
			c.add(check.Skipped(CheckFile, "%s cannot be read: %s", doc.name, doc.unreadable))
		case doc.broken > 0 && doc.filters:
			c.add(check.Skipped(CheckFile, "%s is YAML only after its templates are filled in: the client alone is looked at", doc.name).
				Because("%s:%d: not YAML from here on", doc.name, doc.broken))
		case doc.broken > 0:
			c.add(check.Failed(CheckFile, check.Remedy{check.Advise("run `authelia config validate` and mend the indentation or quoting there")},
				"%s is not YAML: authelia cannot read it", doc.name).Because("%s:%d", doc.name, doc.broken))
		default:
			c.add(check.Passed(CheckFile, "%s can be read", doc.name))
		}
	}
	if len(c.docs) == 0 {
		c.add(check.Skipped(CheckFile, "no file was given"))
	}
}

// maxClients bounds how many clients are searched, and maxSecrets how many values are kept from being shown.
const (
	maxClients = 4096
	maxSecrets = 1024
)

// clients is where Authelia lists its clients.
var clients = []string{"identity_providers", "oidc", "clients"}

// locate finds the client, and says what became of it.
func (c *checker) locate() {
	id, s := c.want.Login.ClientID, c.search()
	switch {
	case len(s.found) > 1:
		c.add(check.Failed(CheckClient, check.Remedy{check.Advise("keep one of them")}, "%d clients have the id %s, and authelia refuses that", len(s.found), id).
			Because("%s", c.where(lines(s.found)...)))
	case len(s.found) == 1:
		c.client = s.found[0]
		c.located()
	case s.replaced != nil:
		c.add(check.Failed(CheckClient, check.Remedy{check.Advise("write all clients into one file")}, "a later file replaces the list that has client %s", id).
			Because("%s", c.where(s.replaced.Line)))
	case s.similar != "":
		c.add(check.Failed(CheckClient, check.Remedy{check.Advise("spell the id alike on both sides")}, "the client is spelled otherwise than %s", id).
			Because("%s", s.similar))
	case s.unseen != "":
		c.add(check.Skipped(CheckClient, "no client %s is written out, and what is filled in elsewhere cannot be seen", id).Because("%s", s.unseen))
	default:
		c.add(check.Failed(CheckClient, check.Remedy{check.Advise("paste the block that `proxmox-realm authelia` prints")}, "there is no client %s", id))
	}
}

// search is what looking for the client brought up.
type search struct {
	found    []*yaml.Node
	replaced *yaml.Node // the client, in a list that a later file replaces
	similar  string     // where a client with a similar id stands
	unseen   string     // where something could not be seen that may hold the client
}

// search goes through all files; c.doc becomes the one with the client. A list in a later file replaces the list of an earlier
// one as a whole.
func (c *checker) search() search {
	var s search
	for _, doc := range c.docs {
		if doc.unreadable != "" || doc.templated > 0 || doc.broken > 0 {
			s.unseen = fmt.Sprintf("%s:%d", doc.name, max(doc.templated, doc.broken, 1))
		}
		list := at(doc.root, clients...)
		if list == nil {
			continue
		}
		if len(s.found) > 0 {
			s.replaced = s.found[0]
		}
		s.found = nil
		for _, item := range list.Content[:min(len(list.Content), maxClients)] {
			id, known := clientID(item)
			switch {
			case !known:
				s.unseen = fmt.Sprintf("%s:%d", doc.name, item.Line)
			case id == c.want.Login.ClientID:
				s.found = append(s.found, resolve(item))
				c.doc = doc
			case strings.EqualFold(strings.TrimSpace(id), c.want.Login.ClientID):
				s.similar = fmt.Sprintf("%s:%d", doc.name, item.Line)
			}
		}
	}
	return s
}

func (c *checker) located() {
	id := c.want.Login.ClientID
	if why := badClientID(id); why != "" && !c.want.Version.Less(renamedSince) {
		c.add(check.Failed(CheckClient, check.Remedy{check.Advise("choose another id, here and as realm.client_id")}, "authelia refuses the id of this client: it must %s", why).
			Because("%s", c.where(c.client.Line)))
		return
	}
	c.add(check.Passed(CheckClient, "the client %s is there", id).Because("%s", c.where(c.client.Line)))
}

func clientID(item *yaml.Node) (id string, known bool) {
	e, ok := lookup(item, "client_id")
	if !ok {
		e, ok = lookup(item, "id")
	}
	if !ok {
		return "", resolve(item) != nil && resolve(item).Kind == yaml.MappingNode
	}
	return scalar(e.value)
}

func lines(nodes []*yaml.Node) []int {
	var out []int
	for _, n := range nodes {
		out = append(out, n.Line)
	}
	return out
}

// where names lines of the client's file.
func (c *checker) where(lines ...int) string {
	var out []string
	for _, line := range lines {
		out = append(out, fmt.Sprintf("%s:%d", c.doc.name, line))
	}
	return strings.Join(out, ", ")
}

// get returns a key of the client by its present name or, where that is absent, its former one.
func (c *checker) get(key string) (entry, bool) {
	if e, ok := lookup(c.client, key); ok {
		return e, true
	}
	return lookup(c.client, formerNames[key])
}

// text returns a scalar key of the client: "" where it is absent.
func (c *checker) text(key string) (text string, line int, known bool) {
	e, ok := c.get(key)
	if !ok {
		return "", c.client.Line, true
	}
	text, known = scalar(e.value)
	return text, e.line, known
}

// flag reads a boolean as Authelia does (strconv.ParseBool).
func flag(text string) (value, valid bool) {
	if text == "" {
		return false, true
	}
	value, err := strconv.ParseBool(text)
	return value, err == nil
}

func (c *checker) unknown(id check.ID, key string, line int) check.Check {
	return check.Skipped(id, "%s is filled in from elsewhere and cannot be seen", key).Because("%s", c.where(line))
}

func (c *checker) names(id check.ID) check.Check {
	var refused, deprecated, strange []string
	hint := ""
	seen := map[string]int{}
	for _, e := range ownEntries(c.client) {
		first, again := seen[e.key]
		seen[e.key] = e.line
		switch where := c.where(e.line); {
		case strings.Contains(e.key, filled):
		case again && !c.doc.filters:
			refused = append(refused, fmt.Sprintf("%s: %s is at line %d already", where, e.key, first))
			hint = "keep one of them"
		}
	}
	for _, e := range entries(c.client) {
		where := c.where(e.line)
		since, known := clientKeys[e.key]
		now, former := newNames[e.key]
		switch {
		case strings.Contains(e.key, filled):
		case known && c.want.Version.Less(since):
			refused = append(refused, fmt.Sprintf("%s: %s is known since %s", where, e.key, since))
			hint = "paste the block that `proxmox-realm authelia --authelia-version " + c.want.Version.String() + "` prints"
		case known, former && c.want.Version.Less(renamedSince):
		case former:
			deprecated = append(deprecated, fmt.Sprintf("%s: %s is %s now", where, e.key, now))
		default:
			near := nearest(e.key)
			text := fmt.Sprintf("%s: %s", where, e.key)
			if near != "" {
				text += " (" + near + "?)"
			}
			// A version that this program does not know yet may know the key.
			if near != "" || c.want.Version != (Version{}) && !Newest.Less(c.want.Version) {
				refused = append(refused, text)
				hint = "correct or remove the key: authelia does not start with one that it does not know"
			} else {
				strange = append(strange, text)
			}
		}
	}
	version := c.want.Version
	switch {
	case len(refused) > 0:
		return check.Failed(id, check.Advice(hint), "authelia %s refuses %s", version, count(len(refused), "key", "keys")).Because("%s", strings.Join(refused, "; "))
	case len(strange) > 0:
		return check.Warned(id, check.Advice("correct or remove it, unless your authelia is newer than "+Newest.String()),
			"authelia %s does not know %s", version, count(len(strange), "key", "keys")).Because("%s", strings.Join(strange, "; "))
	case len(deprecated) > 0:
		return check.Warned(id, check.Remedy{check.Advise("rename as the evidence says; for an authelia before 4.38 give --authelia-version")},
			"%s deprecated since authelia 4.38", count(len(deprecated), "key is", "keys are")).Because("%s", strings.Join(deprecated, "; "))
	}
	return check.Passed(id, "authelia %s knows every key", version)
}

// ownEntries are the keys that a mapping writes itself, the same one as often as it is written.
func ownEntries(n *yaml.Node) []entry {
	var own []entry
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key := n.Content[i]; key.Tag != "!!merge" {
			own = append(own, entry{key: key.Value, line: key.Line})
		}
	}
	return own
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// nearest returns the one known key that at most two edits lead to, "" where there is none.
func nearest(key string) string {
	best, at := "", 3
	for _, known := range slices.Sorted(maps.Keys(clientKeys)) {
		if d := config.Distance(key, known); d < at {
			best, at = known, d
		}
	}
	return best
}

func (c *checker) public(id check.ID) check.Check {
	text, line, known := c.text("public")
	public, valid := flag(text)
	switch {
	case !known:
		return c.unknown(id, "public", line)
	case !valid:
		return check.Failed(id, check.Remedy{check.Advise("write public: false")}, "public is neither true nor false, and authelia refuses that").Because("%s", c.where(line))
	case !public:
		return check.Passed(id, "the client is confidential")
	case !c.want.Login.ClientKey.IsSet():
		return check.Skipped(id, "the client is public, and whether Proxmox sends a key is not declared").Because("%s", c.where(line))
	}
	return check.Failed(id, check.Remedy{check.Advise("write public: false, and the digest of the key as client_secret")},
		"the client is public, but the realm has a client key").Because("%s", c.where(line))
}

// isPublic tells whether the client is certainly public.
func (c *checker) isPublic() bool {
	text, _, known := c.text("public")
	public, _ := flag(text)
	return known && public
}

func (c *checker) secret(id check.ID) check.Check {
	const paste = "paste the digest that `proxmox-realm authelia` prints, and restart authelia"
	held, line, known := c.text("client_secret")
	key := c.want.Login.ClientKey
	switch {
	case !known:
		return c.unknown(id, "client_secret", line)
	case held == "" && c.isPublic():
		return check.Skipped(id, "a public client has no secret")
	case held == "":
		return check.Failed(id, check.Advice(paste), "the client has no secret, and authelia refuses that").Because("%s", c.where(line))
	case key.IsSet() && key.Equal(check.NewSecret(held)) && !isPlaintext(held) && c.want.Version.KnowsDigests():
		return check.Failed(id, check.Remedy{check.Advise("give Proxmox the key itself; a digest alone tells nobody the key: make a new one with `proxmox-realm authelia --new-key FILE`")},
			"the realm's client key is the digest, not the key").Because("%s", c.where(line))
	case !c.want.Version.KnowsDigests():
		return c.compared(id, line, key, key.Equal(check.NewSecret(held)))
	}
	_, err := decode(held)
	ok := false
	if err == nil && key.IsSet() {
		ok, err = Verify(held, key)
	}
	switch {
	case errors.Is(err, ErrCostly):
		return check.Skipped(id, "the digest is too costly to verify here").Because("%s", c.where(line))
	case err != nil:
		return check.Failed(id, check.Advice(paste), "client_secret is no digest that authelia can read").Because("%s", c.where(line))
	}
	return c.compared(id, line, key, ok)
}

func (c *checker) compared(id check.ID, line int, key check.Secret, ok bool) check.Check {
	switch {
	case !key.IsSet():
		return check.Skipped(id, "no client key is declared to compare with").Because("%s", c.where(line))
	case !ok:
		return check.Failed(id, check.Remedy{check.Advise("paste the digest that `proxmox-realm authelia` prints, and restart authelia; or declare the key that this digest is of")},
			"client_secret is of another key than the realm's").Because("%s", c.where(line))
	}
	return check.Passed(id, "client_secret is of the realm's client key").Because("%s", c.where(line))
}

func (c *checker) digest(id check.ID) check.Check {
	held, line, known := c.text("client_secret")
	switch {
	case !known:
		return c.unknown(id, "client_secret", line)
	case held == "":
		return check.Skipped(id, "the client has no secret")
	case !c.want.Version.KnowsDigests():
		return check.Skipped(id, "authelia %s knows no digests", c.want.Version)
	case isPlaintext(held):
		return check.Warned(id, check.Remedy{check.Advise("paste the digest that `proxmox-realm authelia` prints, and treat the key as known to whoever read the file")},
			"client_secret is the key in clear").Because("%s", c.where(line))
	}
	return check.Passed(id, "client_secret is a digest")
}

func (c *checker) redirect(id check.ID) check.Check {
	if len(c.want.RedirectURIs) == 0 {
		return check.Skipped(id, "no redirect URI is known to look for")
	}
	e, there := c.get("redirect_uris")
	if !there {
		return check.Failed(id, check.Advice("add redirect_uris: "+bracketed(c.want.RedirectURIs)), "the client has no redirect URI").Because("%s", c.where(c.client.Line))
	}
	registered, known := words(e.value)
	if e.value.Kind == yaml.ScalarNode { // not a list: Authelia takes it as one URI, commas included
		text, _ := scalar(e.value)
		registered = []word{{text, e.value.Line}}
	}
	var missing, evidence []string
	for _, uri := range c.want.RedirectURIs {
		if slices.ContainsFunc(registered, func(r word) bool { return serves(r.text, uri) }) {
			continue
		}
		missing = append(missing, uri)
		evidence = append(evidence, c.difference(uri, registered, e.line))
	}
	switch {
	case len(missing) == 0:
		return check.Passed(id, "%s registered", count(len(c.want.RedirectURIs), "redirect URI is", "redirect URIs are")).Because("%s", c.where(e.line))
	case !known:
		return c.unknown(id, "redirect_uris", e.line)
	case c.want.Assumed:
		return check.Warned(id, check.Remedy{check.Advise("register what browsers open, and write it down as verify.redirect_urls")},
			"%s of an API endpoint not registered", count(len(missing), "origin is", "origins are")).Because("%s", strings.Join(evidence, "; "))
	}
	return check.Failed(id, check.Advice("add to redirect_uris: "+bracketed(missing)), "%s not registered", count(len(missing), "redirect URI is", "redirect URIs are")).
		Because("%s", strings.Join(evidence, "; "))
}

// serves tells whether a registered redirect URI is taken for another: byte for byte, save that the port of a loopback
// address with plain http is free (RFC 8252 section 7.3).
func serves(registered, uri string) bool {
	if registered == uri {
		return true
	}
	asked, err1 := url.Parse(uri)
	known, err2 := url.Parse(registered)
	return err1 == nil && err2 == nil && asked.Scheme == "http" && net.ParseIP(asked.Hostname()).IsLoopback() &&
		known.Hostname() == asked.Hostname() && known.Path == asked.Path && known.RawQuery == asked.RawQuery
}

// difference tells in what the nearest registered URI differs from the wanted one.
func (c *checker) difference(want string, registered []word, line int) string {
	w, err := url.Parse(want)
	if err != nil {
		return fmt.Sprintf("%s: %s is not there", c.where(line), want)
	}
	for _, r := range registered {
		u, err := url.Parse(strings.TrimSpace(r.text))
		if err != nil || !strings.EqualFold(u.Hostname(), w.Hostname()) {
			continue
		}
		var how string
		switch {
		case strings.TrimSpace(r.text) == want:
			how = "surrounding white space"
		case strings.TrimRight(u.String(), "/") == want:
			how = "a slash at the end"
		case u.Scheme != w.Scheme:
			how = "another scheme"
		case u.Port() == "" && w.Port() != "":
			how = "no port"
		case u.Port() != w.Port():
			how = "another port"
		case u.Path != w.Path || u.RawQuery != w.RawQuery || u.Fragment != w.Fragment:
			how = "another path"
		default:
			how = "another spelling"
		}
		return fmt.Sprintf("%s: %s has %s, wanted is %s", c.where(r.line), r.text, how, want)
	}
	return fmt.Sprintf("%s: %s is not there", c.where(line), want)
}

func bracketed(list []string) string { return "['" + strings.Join(list, "', '") + "']" }

// list returns a list key of the client, with Authelia's default where it is absent or empty.
func (c *checker) list(key string, byDefault ...string) (items []string, line int, known bool) {
	e, ok := c.get(key)
	if !ok {
		return byDefault, c.client.Line, true
	}
	found, known := words(e.value)
	for _, w := range found {
		items = append(items, w.text)
	}
	if len(items) == 0 && known {
		items = byDefault
	}
	return items, e.line, known
}

func (c *checker) scopes(id check.ID) check.Check {
	scopes, line, known := c.list("scopes", defaultScopes...)
	if c.want.Version.Less(renamedSince) { // which add it themselves
		scopes = append(slices.Clone(scopes), "openid")
	}
	missing := slices.DeleteFunc(slices.Clone(c.want.Login.Scopes), func(s string) bool { return slices.Contains(scopes, s) })
	switch {
	case len(missing) == 0:
		return check.Passed(id, "the client may ask for %s", strings.Join(c.want.Login.Scopes, ", "))
	case !known:
		return c.unknown(id, "scopes", line)
	}
	return check.Failed(id, check.Advice("add to scopes: "+bracketed(missing)+", or do not ask for it in realm.scopes"),
		"the client may not ask for %s", strings.Join(missing, ", ")).Because("%s: %s", c.where(line), bracketed(scopes))
}

func (c *checker) flow(id check.ID) check.Check {
	types, typesLine, typesKnown := c.list("response_types", "code")
	grants, grantsLine, grantsKnown := c.list("grant_types", "authorization_code")
	modes, modesLine, modesKnown := c.list("response_modes", "query")
	required, line := c.pushed()
	switch {
	case !slices.Contains(types, "code") && typesKnown:
		return check.Failed(id, check.Remedy{check.Advise("add 'code' to response_types")}, "the client may not use the response type code").
			Because("%s: %s", c.where(typesLine), bracketed(types))
	case !slices.Contains(grants, "authorization_code") && grantsKnown:
		return check.Failed(id, check.Remedy{check.Advise("add 'authorization_code' to grant_types")}, "the client may not redeem an authorization code").
			Because("%s: %s", c.where(grantsLine), bracketed(grants))
	case required:
		return check.Failed(id, check.Remedy{check.Advise("write require_pushed_authorization_requests: false")},
			"authelia demands a pushed authorization request, which Proxmox does not make").Because("%s", line)
	case !typesKnown && !slices.Contains(types, "code"):
		return c.unknown(id, "response_types", typesLine)
	case !grantsKnown && !slices.Contains(grants, "authorization_code"):
		return c.unknown(id, "grant_types", grantsLine)
	case !slices.Contains(modes, "query") && modesKnown:
		return check.Warned(id, check.Remedy{check.Advise("add 'query' to response_modes, or remove it")}, "response_modes lacks query, the mode in which Proxmox gets its answer").
			Because("%s: %s", c.where(modesLine), bracketed(modes))
	}
	return check.Passed(id, "the client may use the code flow")
}

// pushed tells whether the client or the whole provider demands pushed authorization requests (RFC 9126), and where.
func (c *checker) pushed() (required bool, where string) {
	const key = "require_pushed_authorization_requests"
	if text, line, known := c.text(key); known {
		if on, _ := flag(text); on {
			return true, c.where(line)
		}
	}
	for _, doc := range slices.Backward(c.docs) {
		e, ok := lookup(at(doc.root, "identity_providers", "oidc"), key)
		if !ok {
			continue
		}
		text, known := scalar(e.value)
		on, _ := flag(text)
		return known && on, fmt.Sprintf("%s:%d", doc.name, e.line)
	}
	return false, ""
}

func (c *checker) pkce(id check.ID) check.Check {
	method, line, known := c.text("pkce_challenge_method")
	switch {
	case !known:
		return c.unknown(id, "pkce_challenge_method", line)
	case method == "" || method == "S256":
		return check.Passed(id, "S256, which Proxmox always sends, is accepted")
	}
	return check.Failed(id, check.Remedy{check.Advise("write pkce_challenge_method: 'S256'")}, "the client demands another PKCE method than S256, which Proxmox always sends").
		Because("%s: %s", c.where(line), method)
}

func (c *checker) authentication(id check.ID) check.Check {
	method, line, known := c.text("token_endpoint_auth_method")
	several, _, _ := c.text("allow_multiple_auth_methods")
	multiple, _ := flag(several)
	switch {
	case !known:
		return c.unknown(id, "token_endpoint_auth_method", line)
	case c.isPublic():
		return check.Skipped(id, "a public client does not authenticate")
	case method == "" || method == "client_secret_basic":
		return check.Passed(id, "the client authenticates by client_secret_basic")
	case method == "client_secret_post" && multiple:
		return check.Passed(id, "the client may authenticate by client_secret_basic too")
	}
	return check.Failed(id, check.Remedy{check.Advise("write token_endpoint_auth_method: 'client_secret_basic'")},
		"the client must authenticate otherwise than by client_secret_basic, as Proxmox does").Because("%s: %s", c.where(line), method)
}

func (c *checker) userinfo(id check.ID) check.Check {
	if !c.want.Login.QueryUserinfo {
		return check.Passed(id, "the realm does not ask for userinfo")
	}
	for _, key := range []string{"userinfo_signed_response_alg", "userinfo_signed_response_key_id", "userinfo_encrypted_response_alg", "userinfo_encrypted_response_key_id"} {
		text, line, known := c.text(key)
		switch {
		case !known:
			return c.unknown(id, key, line)
		case text != "" && text != "none":
			return check.Failed(id, check.Remedy{check.Advise("write userinfo_signed_response_alg: 'none', and no other userinfo_ key")},
				"userinfo is signed or encrypted, and Proxmox reads it only as plain JSON").Because("%s: %s: %s", c.where(line), key, text)
		}
	}
	return check.Passed(id, "userinfo is plain JSON")
}

func (c *checker) idToken(id check.ID) check.Check {
	if text, line, known := c.text("id_token_encrypted_response_alg"); known && text != "" && text != "none" {
		return check.Failed(id, check.Remedy{check.Advise("remove id_token_encrypted_response_alg")}, "the ID token is encrypted, and Proxmox cannot read it").
			Because("%s: %s", c.where(line), text)
	}
	alg, line, known := c.text("id_token_signed_response_alg")
	switch {
	case !known:
		return c.unknown(id, "id_token_signed_response_alg", line)
	case alg == "":
		return check.Passed(id, "the ID token is signed with authelia's default, RS256")
	case slices.Contains([]string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "HS256", "HS384", "HS512"}, alg):
		return check.Passed(id, "the ID token is signed with %s", alg)
	case alg == "ES256" || alg == "ES384":
		return check.Passed(id, "the ID token is signed with %s, which Proxmox VE 9 and later verify", alg)
	}
	return check.Failed(id, check.Remedy{check.Advise("write id_token_signed_response_alg: 'RS256'")}, "Proxmox does not verify ID tokens signed this way").
		Because("%s: %s", c.where(line), alg)
}

func (c *checker) claims(id check.ID) check.Check {
	name, line, known := c.text("claims_policy")
	needed := c.want.needsClaimsPolicy()
	if !known {
		return c.unknown(id, "claims_policy", line)
	}
	var policy *yaml.Node
	var doc document
	if name != "" {
		var defined bool
		if policy, doc, defined = c.definition("claims_policies", name); policy == nil {
			return c.undefined(id, "claims policy", name, line, defined)
		}
	}
	if len(needed) == 0 {
		return check.Passed(id, "the realm's claims need no claims policy")
	}
	hint := "add a claims policy with id_token: " + bracketed(needed) + ", or leave realm.query_userinfo on"
	if policy == nil {
		return c.lacking(id, hint, needed).Because("%s: no claims_policy", c.where(c.client.Line))
	}
	in, known := words(at(policy, "id_token"))
	missing := slices.DeleteFunc(slices.Clone(needed), func(claim string) bool {
		return slices.ContainsFunc(in, func(w word) bool { return w.text == claim })
	})
	switch {
	case len(missing) == 0:
		return check.Passed(id, "the claims policy puts %s into the ID token", strings.Join(needed, ", "))
	case !known:
		return c.unknown(id, "claims policy "+name, line)
	}
	return c.lacking(id, hint, missing).Because("%s:%d: claims policy %s", doc.name, policy.Line, name)
}

// lacking is the verdict on claims that the ID token does not carry: no login without the username, a login
// without groups without those.
func (c *checker) lacking(id check.ID, hint string, claims []string) check.Check {
	const text = "query_userinfo is off, and the ID token does not carry %s"
	if slices.Contains(claims, c.want.Login.UsernameClaim) && c.want.Version != (Version{}) {
		return check.Failed(id, check.Advice(hint), text, strings.Join(claims, ", "))
	}
	return check.Warned(id, check.Advice(hint), text+" since authelia 4.39", strings.Join(claims, ", "))
}

// definition finds what the client names in a map beside the clients. Maps of several files are merged. The third
// result tells whether any file has the map at all.
func (c *checker) definition(kind, name string) (node *yaml.Node, in document, exists bool) {
	for _, doc := range slices.Backward(c.docs) {
		m := at(doc.root, "identity_providers", "oidc", kind)
		if m == nil {
			continue
		}
		exists = true
		if n := at(m, name); n != nil {
			return n, doc, true
		}
	}
	return nil, document{}, exists
}

// undefined is the verdict on a name that is not defined where it could be seen.
func (c *checker) undefined(id check.ID, what, name string, line int, exists bool) check.Check {
	hint := "define it, or name one that exists"
	for _, doc := range c.docs {
		if doc.templated > 0 || doc.broken > 0 || doc.unreadable != "" {
			return check.Skipped(id, "the %s %s is not defined where it can be seen", what, name).Because("%s", c.where(line))
		}
	}
	if !exists { // another file of the configuration may have it
		return check.Warned(id, check.Advice(hint+"; where another file defines it, give that file too"), "the %s %s is not defined", what, name).
			Because("%s", c.where(line))
	}
	return check.Failed(id, check.Advice(hint), "the %s %s is not defined, and authelia refuses that", what, name).Because("%s", c.where(line))
}

func (c *checker) policy(id check.ID) check.Check {
	name, line, known := c.text("authorization_policy")
	switch {
	case !known:
		return c.unknown(id, "authorization_policy", line)
	case name == "":
		return check.Passed(id, "the authorization policy is authelia's default, %s", DefaultPolicy)
	case name == "one_factor" || name == "two_factor":
		return check.Passed(id, "the authorization policy is %s", name)
	case name == "deny" || c.want.Version.Less(policiesSince):
		return check.Failed(id, check.Remedy{check.Advise("write authorization_policy: 'two_factor' or 'one_factor'")}, "authelia %s refuses this authorization policy", c.want.Version).
			Because("%s: %s", c.where(line), name)
	}
	if policy, _, exists := c.definition("authorization_policies", name); policy == nil {
		return c.undefined(id, "authorization policy", name, line, exists)
	}
	return check.Passed(id, "the authorization policy %s is defined", name)
}

func (c *checker) consent(id check.ID) check.Check {
	mode, line, known := c.text("consent_mode")
	_, remembered := c.get("pre_configured_consent_duration")
	prompts := strings.Fields(c.want.Login.Prompt)
	if mode == "" || mode == "auto" {
		mode = "explicit"
		if remembered {
			mode = "pre-configured"
		}
	}
	switch {
	case !known:
		return c.unknown(id, "consent_mode", line)
	case !slices.Contains([]string{"explicit", "implicit", "pre-configured"}, mode):
		return check.Failed(id, check.Remedy{check.Advise("write 'auto', 'explicit', 'implicit' or 'pre-configured'")}, "authelia refuses this consent mode").
			Because("%s: %s", c.where(line), mode)
	case mode == "implicit" && slices.Contains(prompts, "consent"):
		return check.Warned(id, check.Remedy{check.Advise("remove realm.prompt (realm.unset), or write another consent_mode")},
			"the realm asks for consent, which the consent mode implicit does not know").Because("%s", c.where(line))
	case mode == "explicit" && slices.Contains(prompts, "none"):
		return check.Warned(id, check.Remedy{check.Advise("remove realm.prompt (realm.unset), or write consent_mode: 'implicit' or 'pre-configured'")},
			"the realm forbids any page, and the consent mode explicit needs one at each login").Because("%s", c.where(line))
	}
	return check.Passed(id, "the consent mode is %s", mode)
}

// secretsIn returns the values of a file that must not be shown, wherever they turn up again.
func secretsIn(doc document) []check.Secret {
	var out []check.Secret
	hold := func(key, value string) {
		if sensitive(key) && len(value) >= 8 && len(out) < maxSecrets {
			out = append(out, check.NewSecret(value), check.NewSecret(strings.TrimPrefix(value, plaintextPrefix)))
		}
	}
	walk(doc.root, 0, func(key string, value *yaml.Node) {
		if value.Kind == yaml.ScalarNode {
			hold(key, value.Value)
		}
	})
	for _, pair := range doc.pairs {
		hold(pair[0], pair[1])
	}
	return out
}

func sensitive(key string) bool {
	for _, ending := range []string{"secret", "password", "key", "token", "passphrase"} {
		if strings.HasSuffix(key, ending) {
			return true
		}
	}
	return false
}

// walk calls visit for every key and value of a document, aliases aside: their anchors are visited where they stand.
func walk(n *yaml.Node, depth int, visit func(key string, value *yaml.Node)) {
	if n == nil || depth > 100 {
		return
	}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 {
			visit(n.Content[i-1].Value, child)
		}
		walk(child, depth+1, visit)
	}
}
