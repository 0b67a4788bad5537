package realm

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
)

// Action is what a plan does.
type Action string

// The actions. Only the delete command deletes: a Spec never does.
const (
	None    Action = "none"
	Create  Action = "create"
	Update  Action = "update"
	Replace Action = "replace" // delete and create, the only way to another username-claim
	Refuse  Action = "refuse"
	Delete  Action = "delete"
)

// Op is what a change does with a property.
type Op string

// The operations.
const (
	Set   Op = "set"
	Unset Op = "unset"
)

// Change is one property that differs. Before and After are as Proxmox stores them, nil if the property is absent. A client
// key is masked, and so are credentials in an issuer URL.
type Change struct {
	Property Property
	Op       Op
	Before   *string
	After    *string
}

// Plan turns a stored realm into what a Spec asks for. Build one with [Diff].
type Plan struct {
	Realm   string
	Action  Action
	Changes []Change     // sorted by property
	Refusal *check.Error // why, and what to decide; set if Action is Refuse

	before  Current
	after   Values
	version Version
}

// Facts are what a plan may need to know beyond the realm itself. They cost requests, so a caller first plans without
// them, and asks for those that [Plan.NeedsVersion] and [Plan.NeedsUsers] name.
type Facts struct {
	AllowReplace bool    // the caller agreed to delete and create the realm
	Version      Version // of Proxmox; zero: unknown
	Users        Users   // of the realm
}

// Users counts the users of a realm, as far as the credentials may see them.
type Users struct {
	Asked   bool
	Visible bool
	Count   int
}

// String returns "3 users", "1 user" or "an unknown number of users (…)".
func (u Users) String() string {
	switch {
	case !u.Asked || !u.Visible:
		return "an unknown number of users (not visible to these credentials)"
	case u.Count == 1:
		return "1 user"
	}
	return fmt.Sprintf("%d users", u.Count)
}

// Diff plans what makes the stored realm hold what the Spec asks for.
//
//	stored realm        Spec                                plan
//	------------------  ----------------------------------  -------------------------------------
//	any                 named pam or pve                    refuse
//	absent              any                                 create, with the creation defaults
//	of another type     any                                 refuse
//	openid              same in every managed property      none
//	openid              other username-claim                refuse, or replace if Facts allow it
//	openid              other values                        update
//	any                 sets a property that this product or version lacks   refuse
//
// A property that the Spec neither sets nor unsets never appears in a change.
func Diff(want Spec, have Current, facts Facts) Plan {
	if facts.Version.Product != want.Product {
		facts.Version = Version{Product: want.Product}
	}
	p := Plan{Realm: want.Name, before: have, after: want.created(), version: facts.Version}
	if lacking := want.lacking(); len(lacking) > 0 {
		return p.refuse(LacksProperties(facts.Version, lacking))
	}
	switch {
	case want.Product.Builtin(want.Name):
		return p.refuse(check.Errorf(check.BuiltinRealm, "realm %s is built into %s", want.Name, want.Product.Name()).
			Try("set {realm.name} to another name"))
	case !have.Exists:
		return p.create().refuseLacking(facts)
	case have.Type != Type:
		return p.refuse(check.Errorf(check.WrongType, "realm %s exists and has the type %s, not %s", want.Name, have.Type, Type).
			Try("set {realm.name} to another name: the type of a realm cannot be changed"))
	}

	p.after = maps.Clone(have.Values)
	for _, prop := range want.Set.Properties() {
		if !same(prop, want.Set, have.Values) {
			p.change(Set, prop, want.Set[prop])
		}
	}
	for _, prop := range want.Unset {
		if _, stored := have.Values[prop]; stored && !same(prop, nil, have.Values) {
			p.change(Unset, prop, Value{})
		}
	}
	slices.SortFunc(p.Changes, func(a, b Change) int { return strings.Compare(string(a.Property), string(b.Property)) })

	switch {
	case len(p.Changes) == 0:
		p.Action = None
	case !p.Changed(UsernameClaim):
		p.Action = Update
	case facts.AllowReplace:
		p.Action = Replace
	default:
		return p.refuse(p.refuseClaim(facts.Users))
	}
	return p.refuseLacking(facts)
}

func (p Plan) create() Plan {
	p.Action = Create
	for _, prop := range p.after.Properties() {
		p.change(Set, prop, p.after[prop])
	}
	return p
}

func (p *Plan) change(op Op, prop Property, to Value) {
	c := Change{Property: prop, Op: op}
	if from, ok := p.before.Values[prop]; ok {
		c.Before = shown(prop, from)
	}
	if op == Set {
		c.After = shown(prop, to)
		p.after[prop] = to
	} else {
		delete(p.after, prop)
	}
	p.Changes = append(p.Changes, c)
}

func shown(p Property, v Value) *string {
	s := v.String()
	if p == IssuerURL {
		s = userinfo().ReplaceAllString(s, "${1}"+check.Mask+"@")
	}
	return &s
}

func (p Plan) refuse(why *check.Error) Plan {
	p.Action, p.Refusal = Refuse, why
	return p
}

func (p Plan) refuseClaim(users Users) *check.Error {
	from, to := p.before.Values.canonical(UsernameClaim), p.after.canonical(UsernameClaim)
	return check.Errorf(check.UsernameClaim,
		"the username-claim of realm %s is %s, and Proxmox cannot change it to %s: recreating the realm would give %s another name",
		p.Realm, from, to, users).
		Try(
			"set {realm.name} to another name, for a second realm beside this one",
			check.Hintf("set {realm.username_claim} to %s", from),
			"to recreate the realm, which keeps unmanaged properties and restores the old realm on failure:\n    {apply --replace}",
		)
}

// refuseLacking refuses a plan that sets properties which this Proxmox certainly does not know.
func (p Plan) refuseLacking(facts Facts) Plan {
	var lacking []Property
	for _, c := range p.Changes {
		if c.Op == Set && facts.Version.Lacks(c.Property) {
			lacking = append(lacking, c.Property)
		}
	}
	if len(lacking) == 0 {
		return p
	}
	return p.refuse(LacksProperties(facts.Version, lacking))
}

// Whole lists the changes of all properties of a realm: [Unset] is its deletion, [Set] brings a saved realm back.
func Whole(op Op, c Current) []Change {
	var changes []Change
	for _, prop := range c.Values.Properties() {
		change := Change{Property: prop, Op: op, After: shown(prop, c.Values[prop])}
		if op == Unset {
			change.Before, change.After = change.After, nil
		}
		changes = append(changes, change)
	}
	return changes
}

// lacking returns the properties that the Spec sets and that no version of its product has.
func (s Spec) lacking() []Property {
	return slices.DeleteFunc(s.Set.Properties(), s.Product.Has)
}

// instead says what a product without a property does.
var instead = map[Property]string{
	GroupsAutocreate: "it has no groups",
	GroupsClaim:      "it has no groups",
	GroupsOverwrite:  "it has no groups",
	QueryUserinfo:    "it always reads the userinfo endpoint",
}

// LacksProperties is the error for properties that a Proxmox product, or this version of it, does not know.
func LacksProperties(v Version, lacking []Property) *check.Error {
	var names []string
	var omit check.Hint
	since := Version{Product: v.Product}
	never := false
	for _, prop := range lacking {
		name := string(prop)
		if why := instead[prop]; why != "" && !v.Product.Has(prop) {
			name, never = name+" ("+why+")", true
		}
		names = append(names, name)
		if d, ok := prop.Definition(); ok {
			omit = check.Hints(omit, check.Hintf("remove {realm.%s} from the configuration", d.Key))
		}
		if first := v.Product.Since(prop); since.Less(first) {
			since = first
		}
	}
	which := v.Named()
	if v.IsZero() && !never {
		which = "this " + which
	}
	message := fmt.Sprintf("%s does not know %s", which, strings.Join(names, ", "))
	switch {
	case never:
		return check.Errorf(check.UnknownProperty, "%s", message).Try(omit)
	case since.IsZero():
		return check.Errorf(check.UnknownProperty, "%s", message).Try(check.Hintf("upgrade %s", v.Product.Name()))
	}
	return check.Errorf(check.UnknownProperty, "%s", message).Try(omit, check.Hintf("upgrade to %s or later", since.Named()))
}

// NeedsVersion reports whether the plan sets properties that not every supported version knows.
func (p Plan) NeedsVersion() bool {
	return slices.ContainsFunc(p.Changes, func(c Change) bool {
		return c.Op == Set && p.version.Product.row().oldest.before(p.version.Product.Since(c.Property).release())
	})
}

// NeedsUsers reports whether the plan rebinds users, or is refused because it would.
func (p Plan) NeedsUsers() bool { return p.before.Exists && p.Changed(UsernameClaim) }

// MaybeUnknown returns the properties that the plan sets and that the version in its Facts may not know; none if the version
// is unknown.
func (p Plan) MaybeUnknown() []Property {
	var unknown []Property
	for _, c := range p.Changes {
		if c.Op == Set && !p.version.IsZero() && p.version.Less(p.version.Product.Since(c.Property)) {
			unknown = append(unknown, c.Property)
		}
	}
	return unknown
}

// Names returns the names of the properties that the plan changes.
func (p Plan) Names() []string {
	names := make([]string, 0, len(p.Changes))
	for _, c := range p.Changes {
		names = append(names, string(c.Property))
	}
	return names
}

// Changed reports whether the plan changes the property.
func (p Plan) Changed(prop Property) bool {
	return slices.ContainsFunc(p.Changes, func(c Change) bool { return c.Property == prop })
}

// Empty reports whether there is nothing to do.
func (p Plan) Empty() bool { return p.Action == None }

// Gated reports whether the plan may break logins that work. A replace may, and so may an update of a property that
// decides whether issuer and client accept a login.
func (p Plan) Gated() bool {
	return p.Action == Replace || p.Action == Update && slices.ContainsFunc(p.Changes, func(c Change) bool {
		d, _ := c.Property.Definition()
		return d.Gated
	})
}

// Before returns the realm that the plan was made from.
func (p Plan) Before() Current { return p.before }

// After returns the realm as it will be once the plan is carried out, without digest and raw answer. For a refused plan
// it is the realm that was asked for, as far as that is known.
func (p Plan) After() Current {
	return Current{Product: p.version.Product, Exists: true, Type: Type, Values: p.after}
}

// Params returns the parameters of the plan's one write: those of the POST for Create and Replace, those of the PUT,
// digest included, for Update. Other plans have none.
func (p Plan) Params() Params {
	fields := map[string]any{}
	switch p.Action {
	case Create:
		for prop, v := range p.after {
			fields[string(prop)] = v.parameter(prop)
		}
		fields["realm"], fields["type"] = p.Realm, Type
	case Replace:
		maps.Copy(fields, p.before.carried())
		for _, c := range p.Changes {
			delete(fields, string(c.Property))
		}
		for prop, v := range p.after {
			fields[string(prop)] = v.parameter(prop)
		}
		fields["realm"], fields["type"] = p.Realm, Type
	case Update:
		var remove []string
		for _, c := range p.Changes {
			if c.Op == Unset {
				remove = append(remove, string(c.Property))
				continue
			}
			fields[string(c.Property)] = p.after[c.Property].parameter(c.Property)
		}
		if len(remove) > 0 {
			fields["delete"] = strings.Join(remove, ",")
		}
		if p.before.Product.row().updateClearsDefault && p.before.Values.bool(Default) && !p.Changed(Default) {
			fields[string(Default)] = Bool(true).parameter(Default)
		}
		fields["digest"] = p.before.Digest
	case None, Refuse, Delete:
	}
	return Params{func() map[string]any { return fields }}
}

// RestoreParams returns the parameters of the POST that creates a realm as it was stored.
func RestoreParams(name string, stored Current) Params {
	fields := stored.carried()
	if fields == nil {
		fields = map[string]any{}
	}
	fields["realm"], fields["type"] = name, stored.Type
	return Params{func() map[string]any { return fields }}
}

// Params are the parameters of one write. They may hold a client key, so they are behind a function: printers show its
// address.
type Params struct{ reveal func() map[string]any }

// Reveal returns the parameters as the API takes them, secrets included.
func (p Params) Reveal() map[string]any {
	if p.reveal == nil {
		return nil
	}
	return maps.Clone(p.reveal())
}

// Errors of a write after which the caller must read the realm again.
var (
	// ErrConflict: the realm is not as it was read: the digest is stale, or the realm was created or deleted.
	ErrConflict = errors.New("the realm changed meanwhile")
	// ErrLost: the request was sent and no answer came. It may have taken effect, or may still do so.
	ErrLost = errors.New("the answer to a write was lost")
)
