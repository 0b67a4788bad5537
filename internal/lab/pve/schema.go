package pve

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// property is what PVE::JSONSchema knows of one parameter.
type property struct {
	kind     string // string, boolean, integer
	optional bool
	format   func(string) error
	list     bool // its format is a list: a JSON array is taken too
	pattern  *regexp.Regexp
	max, min int // length in characters; 0 is no limit
	lowest   int // of an integer, with highest
	highest  int // 0 is no limit
	bounded  bool
	enum     []string
	requires string
}

type schema map[string]*property

// opt is a copy that may be absent.
func (p property) opt() *property { p.optional = true; return &p }

// and is a copy of a schema with more properties.
func (s schema) and(more schema) schema {
	all := schema{}
	for _, m := range []schema{s, more} {
		for k, p := range m {
			all[k] = p
		}
	}
	return all
}

const unknownProperty = "property is not defined in schema and the schema does not allow additional properties"

// check validates parameters, as PVE::JSONSchema::validate does.
func (s schema) check(params map[string]any) error {
	errs := map[string]string{}
	for k, p := range s {
		if e := p.check(params[k]); e != "" {
			errs[k] = e
		}
	}
	for k := range params {
		p := s[k]
		if p == nil {
			addError(errs, k, unknownProperty)
			continue
		}
		if p.requires != "" && params[p.requires] == nil {
			addError(errs, p.requires, "missing property required by '"+k+"'")
		}
	}
	if len(errs) > 0 {
		return badParams(errs)
	}
	return nil
}

func addError(errs map[string]string, k, e string) {
	if old, ok := errs[k]; ok {
		e = old + `\n` + e
	}
	errs[k] = e
}

// check is what is wrong with a value, empty if nothing is.
func (p *property) check(v any) string {
	if v == nil {
		if !p.optional {
			return "property is missing and it is not optional"
		}
		return ""
	}
	if ref := refName(v); ref != "" {
		if _, isBool := v.(bool); isBool && p.kind == "boolean" {
			return ""
		}
		return "type check ('" + p.kind + "') failed - got " + ref
	}
	s := text(v)
	switch {
	case p.kind == "boolean" && s != "0" && s != "1",
		p.kind == "integer" && !integer.MatchString(s):
		return "type check ('" + p.kind + "') failed - got '" + s + "'"
	}
	if p.format != nil {
		if err := p.checkFormat(s); err != nil {
			return "invalid format - " + err.Error() + "\n"
		}
	}
	if p.pattern != nil && !p.pattern.MatchString(s) {
		return "value does not match the regex pattern"
	}
	if n := utf8.RuneCountInString(s); p.max > 0 && n > p.max {
		return fmt.Sprintf("value may only be %d characters long", p.max)
	} else if n < p.min {
		return fmt.Sprintf("value must be at least %d characters long", p.min)
	}
	if p.bounded {
		if n, err := strconv.ParseFloat(s, 64); err == nil {
			if p.highest > 0 && n > float64(p.highest) {
				return fmt.Sprintf("value must have a maximum value of %d", p.highest)
			}
			if n < float64(p.lowest) {
				return fmt.Sprintf("value must have a minimum value of %d", p.lowest)
			}
		}
	}
	if p.enum != nil && !slices.Contains(p.enum, s) {
		return "value '" + s + "' does not have a value in the enumeration '" + strings.Join(p.enum, ", ") + "'"
	}
	return ""
}

func (p *property) checkFormat(s string) error {
	if !p.list {
		return p.format(s)
	}
	for _, e := range splitList(s) {
		if err := p.format(e); err != nil {
			return err
		}
	}
	return nil
}

// normalize joins JSON arrays where a list is expected, as PVE::RESTHandler does.
func (s schema) normalize(params map[string]any) {
	for k, p := range s {
		if list, ok := params[k].([]any); ok && p.list {
			parts := make([]string, len(list))
			for i, e := range list {
				parts[i] = text(e)
			}
			params[k] = strings.Join(parts, ",")
		}
	}
}

// The expressions of PVE::Auth::Plugin and PVE::JSONSchema.
const (
	realmExpr = `[A-Za-z][A-Za-z0-9.\-_]+`
	userExpr  = `[^\s:/]+`
)

var (
	integer      = pattern(`[+-]?\d+`)
	realmPattern = pattern(realmExpr)
	userPattern  = pattern(`(` + userExpr + `)@(` + realmExpr + `)`)
	tokenPattern = pattern(`((?:` + userExpr + `)@(?:` + realmExpr + `))!(` + realmExpr + `)`)
	configID     = pattern(`(?i)[a-z][a-z0-9_-]+`)
	groupPattern = pattern(`[A-Za-z0-9.\-_]+`)
	ldapAttr     = pattern(`[a-zA-Z0-9]+`)
	dnsName      = pattern(`(?:[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?\.)*[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?`)
	mailPattern  = pattern(`[\w+\-~]+(?:\.[\w+\-~]+)*@[a-zA-Z0-9\-]+(?:\.[a-zA-Z0-9\-]+)*`)
)

func verifyRealm(s string) error {
	if !realmPattern.MatchString(s) {
		return dief("value does not look like a valid realm")
	}
	return nil
}

// verifyUser is PVE::Auth::Plugin::verify_username.
func verifyUser(s string) error {
	if s == "0" {
		s = ""
	}
	n := utf8.RuneCountInString(s)
	switch {
	case n < 3:
		return dief("user name '%s' is too short", s)
	case n > 64:
		return dief("user name '%s' is too long (%d > 64)", s, n)
	case !userPattern.MatchString(s):
		return dief("value '%s' does not look like a valid user name", s)
	}
	return nil
}

// realmOf is the realm of a user, empty where the name is none.
func realmOf(user string) string {
	if m := userPattern.FindStringSubmatch(user); m != nil {
		return m[2]
	}
	return ""
}

// splitToken splits user@realm!id.
func splitToken(s string) (user, id string, ok bool) {
	m := tokenPattern.FindStringSubmatch(s)
	if m == nil {
		return "", "", false
	}
	return m[1], m[2], true
}

func verifyToken(s string) error {
	if !tokenPattern.MatchString(s) {
		return dief("value '%s' does not look like a valid token ID", s)
	}
	return nil
}

func verifyGroup(s string) error {
	if !groupPattern.MatchString(s) {
		return dief("group name '%s' contains invalid characters", s)
	}
	return nil
}

func verifyRole(s string) error {
	if !groupPattern.MatchString(s) {
		return dief("role name '%s' contains invalid characters", s)
	}
	return nil
}

func verifyConfigID(s string) error {
	if !configID.MatchString(s) {
		return dief("invalid configuration ID '%s'", s)
	}
	return nil
}

func verifyAddress(s string) error {
	if _, err := netip.ParseAddr(s); err != nil && !dnsName.MatchString(s) {
		return dief("value does not look like a valid address: %s", s)
	}
	return nil
}

func verifyLDAPAttribute(s string) error {
	if !ldapAttr.MatchString(s) {
		return dief("value '%s' does not look like a simple ldap attribute name", s)
	}
	return nil
}

func verifyMail(s string) error {
	if s != "" && s != "0" && !mailPattern.MatchString(s) {
		return dief("value does not look like a valid email address")
	}
	return nil
}

// propertyString checks a value of the form key=value,key=value.
func propertyString(path string, keys schema) func(string) error {
	return func(s string) error {
		_, err := parsePropertyString(path, keys, s)
		return err
	}
}

func parsePropertyString(path string, keys schema, s string) (map[string]any, error) {
	res := map[string]any{}
	for _, part := range strings.Split(s, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		k, v, ok := strings.Cut(part, "=")
		switch {
		case !ok:
			return nil, dief("value without key, but schema does not define a default key")
		case k == "" || v == "":
			return nil, dief("missing key in comma-separated list property")
		case res[k] != nil:
			return nil, dief("duplicate key in comma-separated list property: %s", k)
		case keys[k] == nil:
			return nil, dief("invalid key in comma-separated list property: %s", k)
		}
		if keys[k].kind == "boolean" {
			switch strings.ToLower(v) {
			case "1", "on", "yes", "true":
				v = "1"
			case "0", "off", "no", "false":
				v = "0"
			}
		}
		res[k] = v
	}
	var bad []string
	for k, p := range keys {
		if e := p.check(res[k]); e != "" {
			bad = append(bad, path+"."+k+": "+e)
		}
	}
	if len(bad) > 0 {
		slices.Sort(bad)
		return nil, dief("format error\n%s", strings.Join(bad, "\n"))
	}
	return res, nil
}

// Properties that several methods share.
var (
	boolean    = property{kind: "boolean"}
	anyString  = property{kind: "string"}
	realmParam = property{kind: "string", format: verifyRealm, max: 32}
	userParam  = property{kind: "string", format: verifyUser, max: 64}
	groupParam = property{kind: "string", format: verifyGroup}
	roleParam  = property{kind: "string", format: verifyRole}
	claim      = pattern(`[A-Za-z0-9.\-_]+`)
	// What RFC 2396 allows in a URI, without the space: the pattern of acr-values and audiences.
	uriList = pattern("[^\x00-\x1F\x7F <>#\"]*")
)

var tfaKeys = schema{
	"type":   {kind: "string", enum: []string{"yubico", "oath"}},
	"id":     anyString.opt(),
	"key":    anyString.opt(),
	"url":    anyString.opt(),
	"digits": {kind: "integer", bounded: true, lowest: 6, highest: 8, optional: true},
	"step":   {kind: "integer", bounded: true, lowest: 10, optional: true},
}

var syncKeys = schema{
	"scope":           {kind: "string", enum: []string{"users", "groups", "both"}, optional: true},
	"remove-vanished": {kind: "string", pattern: pattern(`(?:(?:(?:acl|properties|entry);)*(?:acl|properties|entry))|none`), optional: true},
	"full":            boolean.opt(),
	"enable-new":      boolean.opt(),
	"purge":           boolean.opt(),
}

// option says how a type of realm uses a property.
type option struct{ required, fixed bool }

// realmSchema is what a node of some version knows of realms.
type realmSchema struct {
	all    schema                       // every property of every type
	types  map[string]map[string]option // by type, by property
	create schema
	update schema
}

// newRealmSchema follows the properties and options of PVE::Auth::AD, LDAP, OpenId, PAM and PVE.
func newRealmSchema(v version) *realmSchema {
	short := func(length int) *property { return &property{kind: "string", optional: true, max: length} }
	all := schema{
		"realm": &realmParam,
		"type":  {kind: "string", enum: []string{"ad", "ldap", "openid", "pam", "pve"}},

		"server1":    {kind: "string", format: verifyAddress, max: 256, optional: true},
		"server2":    {kind: "string", format: verifyAddress, max: 256, optional: true},
		"secure":     boolean.opt(),
		"sslversion": {kind: "string", enum: []string{"tlsv1", "tlsv1_1", "tlsv1_2", "tlsv1_3"}, optional: true},
		"default":    boolean.opt(),
		"comment":    short(4096),
		"port":       {kind: "integer", bounded: true, lowest: 1, highest: 65535, optional: true},
		"domain":     {kind: "string", pattern: pattern(`\S+`), max: 256, optional: true},
		"tfa":        {kind: "string", format: propertyString("tfa", tfaKeys), max: 128, optional: true},

		"base_dn":               short(256),
		"user_attr":             {kind: "string", pattern: pattern(`\S{2,}`), max: 256, optional: true},
		"bind_dn":               short(256),
		"password":              anyString.opt(),
		"verify":                boolean.opt(),
		"capath":                anyString.opt(),
		"cert":                  anyString.opt(),
		"certkey":               anyString.opt(),
		"filter":                short(2048),
		"sync_attributes":       {kind: "string", pattern: pattern(`\w+=[^,]+(,\s*\w+=[^,]+)*`), optional: true},
		"user_classes":          {kind: "string", format: verifyLDAPAttribute, list: true, optional: true},
		"group_dn":              short(256),
		"group_name_attr":       {kind: "string", format: verifyLDAPAttribute, max: 256, optional: true},
		"group_filter":          short(2048),
		"group_classes":         {kind: "string", format: verifyLDAPAttribute, list: true, optional: true},
		"sync-defaults-options": {kind: "string", format: propertyString("sync-defaults-options", syncKeys), optional: true},
		"mode":                  {kind: "string", enum: []string{"ldap", "ldaps", "ldap+starttls"}, optional: true},
		"case-sensitive":        boolean.opt(),
	}
	builtin := map[string]option{"default": {}, "comment": {}, "tfa": {}}
	directory := map[string]option{"server1": {required: true}}
	for k := range all {
		if k != "realm" && k != "type" && k != "server1" && k != "domain" {
			directory[k] = option{}
		}
	}
	ldap, ad := map[string]option{}, map[string]option{}
	for k, o := range directory {
		ldap[k], ad[k] = o, o
	}
	ldap["base_dn"], ldap["user_attr"] = option{required: true}, option{required: true}
	ad["domain"] = option{required: true}
	types := map[string]map[string]option{"pam": builtin, "pve": builtin, "ldap": ldap, "ad": ad}

	if v.has(sinceOpenID) {
		openid := schema{
			"issuer-url":     short(256),
			"client-id":      short(256),
			"client-key":     short(256),
			"autocreate":     boolean.opt(),
			"username-claim": anyString.opt(),
		}
		if !v.has(sinceFreeClaim) {
			openid["username-claim"] = &property{kind: "string", enum: []string{"subject", "username", "email"}, optional: true}
		}
		if v.has(sinceScopes) {
			openid["scopes"] = anyString.opt()
			openid["prompt"] = &property{kind: "string", pattern: pattern(`(?:none|login|consent|select_account|\S+)`), optional: true}
			openid["acr-values"] = &property{kind: "string", pattern: uriList, optional: true}
		}
		if v.has(sinceGroups) {
			openid["groups-claim"] = &property{kind: "string", pattern: claim, max: 256, optional: true}
			openid["groups-autocreate"] = boolean.opt()
			openid["groups-overwrite"] = boolean.opt()
			openid["query-userinfo"] = boolean.opt()
		}
		if v.has(sinceAudiences) {
			openid["audiences"] = &property{kind: "string", pattern: uriList, optional: true}
		}
		opts := map[string]option{"default": {}, "comment": {}}
		for k := range openid {
			opts[k] = option{required: k == "issuer-url" || k == "client-id", fixed: k == "username-claim"}
		}
		types["openid"] = opts
		all = all.and(openid)
	} else {
		all["type"].enum = []string{"ad", "ldap", "pam", "pve"}
	}

	s := &realmSchema{all: all, types: types, create: all.and(nil), update: schema{}}
	for k, p := range all {
		if k != "type" && k != "username-claim" {
			s.update[k] = p
		}
	}
	s.update["digest"] = &property{kind: "string", max: 64, optional: true}
	s.update["delete"] = &property{kind: "string", format: verifyConfigID, list: true, max: 4096, optional: true}
	if v.has(sinceCheckConnection) {
		s.create["check-connection"] = boolean.opt()
		s.update["check-connection"] = boolean.opt()
	}
	return s
}
