package pve

import (
	"fmt"
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
	list     bool // its format is that of each item
	pattern  *regexp.Regexp
	max, min int // length in characters; 0 is no limit
	lowest   int // of an integer
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
			errs[k] = unknownProperty
			continue
		}
		if p.requires != "" && params[p.requires] == nil {
			errs[p.requires] = "missing property required by '" + k + "'"
		}
	}
	if len(errs) > 0 {
		return badParams(errs)
	}
	return nil
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

// realmSchema is what a node of some version knows of realms.
type realmSchema struct {
	all    schema                     // every property of every type
	types  map[string]map[string]bool // by type, by property: whether it is required
	create schema
	update schema
}

// directoryProperties are those of LDAP realms. Their values are not checked: no transcript has such a realm.
const directoryProperties = `server1 server2 secure sslversion port domain tfa base_dn user_attr bind_dn password verify capath cert
	certkey filter sync_attributes user_classes group_dn group_name_attr group_filter group_classes sync-defaults-options mode case-sensitive`

// newRealmSchema follows the properties and options of PVE::Auth::AD, LDAP, OpenId, PAM and PVE.
func newRealmSchema(v version) *realmSchema {
	short := func(length int) *property { return &property{kind: "string", optional: true, max: length} }
	all := schema{
		"realm":   &realmParam,
		"type":    {kind: "string", enum: []string{"ad", "ldap", "openid", "pam", "pve"}},
		"default": boolean.opt(),
		"comment": short(4096),
	}
	directory := map[string]bool{"default": false, "comment": false}
	for k := range strings.FieldsSeq(directoryProperties) {
		all[k] = anyString.opt()
		directory[k] = k == "server1"
	}
	directory["base_dn"], directory["user_attr"] = true, true
	builtin := map[string]bool{"default": false, "comment": false, "tfa": false}
	types := map[string]map[string]bool{"pam": builtin, "pve": builtin, "ldap": directory}

	openid := schema{
		"issuer-url":     short(256),
		"client-id":      short(256),
		"client-key":     short(256),
		"autocreate":     boolean.opt(),
		"username-claim": anyString.opt(),
	}
	if v.has(sinceScopes) {
		openid["scopes"] = anyString.opt()
		openid["prompt"] = &property{kind: "string", pattern: pattern(`(?:none|login|consent|select_account|\S+)`), optional: true}
		openid["acr-values"] = &property{kind: "string", pattern: uriList, optional: true}
	} else {
		openid["username-claim"] = &property{kind: "string", enum: []string{"subject", "username", "email"}, optional: true}
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
	types["openid"] = map[string]bool{"default": false, "comment": false}
	for k := range openid {
		types["openid"][k] = k == "issuer-url" || k == "client-id"
	}
	all = all.and(openid)

	s := &realmSchema{all: all, types: types, create: all.and(nil), update: schema{}}
	for k, p := range all {
		if k != "type" && k != "username-claim" {
			s.update[k] = p
		}
	}
	s.update["digest"] = &property{kind: "string", max: 64, optional: true}
	s.update["delete"] = &property{kind: "string", format: verifyConfigID, list: true, max: 4096, optional: true}
	return s
}
