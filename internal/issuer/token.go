package issuer

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"unicode"
)

// tokenReply classifies an answer of the token or the introspection endpoint. settle makes answers to control questions
// comparable.
func tokenReply(a answer, madeUpKey string, settle func(string) string) reply {
	r := reply{
		evidence: evidenceOf(a), active: a.status == http.StatusOK && hasMember(a.body, "active"),
		echoes: madeUpKey != "" && strings.Contains(string(a.body), madeUpKey),
	}
	r.fault = faultInJSON(a.body)
	said := settle(r.fault.code)
	if r.fault.code == "" {
		r.fault.text = visible(a.body)
		said = words(settle(r.fault.text))
	} else if strings.Contains(said, " ") { // a sentence, which may name this very request
		said = words(said)
	}
	found := aboutOther
	switch {
	case a.troubled(), a.status >= 500, slices.Contains(passing, r.fault.code):
		found = breaks
	case r.fault.isAboutCode(), a.status == http.StatusOK && hasMember(a.body, "access_token"):
		found = aboutCode
	}
	r.Mark = markOf(found, a.status, said, r.active)
	return r
}

// isAboutCode tells whether an error says that the code is wrong. That is invalid_grant, or an error outside RFC 6749 that holds
// the word code or grant, such as "Invalid authorization code".
func (f fault) isAboutCode() bool {
	if f.code == "invalid_grant" {
		return true
	}
	if standardCodes().FindString(f.code) == f.code {
		return false
	}
	said := strings.FieldsFunc(strings.ToLower(f.code), func(r rune) bool { return !unicode.IsLetter(r) })
	return slices.Contains(said, "code") || slices.Contains(said, "grant")
}

// hasMember tells whether a body is a JSON object with this member.
func hasMember(body []byte, name string) bool {
	var object map[string]json.RawMessage
	_ = json.Unmarshal(body, &object) // another type has no members
	_, has := object[name]
	return has
}

// keyRule decides whether the token endpoint accepts a client with its key. It is a function of answers. Each question has a
// made-up code or token, and is asked only if the answers before it do not decide:
//
//	D      the declared key               I   introspection with the declared key
//	K      a made-up key                  IK  introspection with a made-up key
//	C      a made-up client id
//
// These are asked as well if a person wants to know the cause:
//
//	post   the declared key as client_secret_post     none   the client id without a key
//	postK  a made-up key as client_secret_post        plain  Basic without form encoding
type keyRule struct {
	hasKey      bool
	introspects bool // the issuer has an introspection endpoint to which a key may be sent
	special     bool // the key has characters that form encoding changes
	person      bool // somebody wants to know the cause
	free        bool // only what a right key costs nothing
	clientKnown bool // the authorization endpoint accepts or knows the client
	redirectOK  bool // it accepts the redirect URL that was sent with the key
	known       Known
	ask         func(question string) reply
}

// keyRefused are the errors of an issuer that accepts the key and not the client: it does not even look at the code.
var keyRefused = []string{"invalid_client", "unauthorized_client", "unsupported_grant_type", "access_denied"}

func (p keyRule) judge() judgement {
	const noUse = "the token endpoint gave no usable answer"
	if p.free {
		return p.judgeFree()
	}
	d := p.ask("D")
	switch {
	case d.Class == breaks:
		return undecided(noUse, d)
	case !p.hasKey:
		return p.judgePublic(d)
	}
	key := p.known.Key
	if !key.known() || d.Class != aboutCode { // memory serves an acceptance only
		k := p.ask("K")
		if k.Class == breaks {
			return undecided(noUse, k)
		}
		key = k.Mark
	}
	told := d.Mark != key // the issuer tells the key from a made-up one
	switch {
	case told && d.Class != aboutCode && (d.status == http.StatusUnauthorized || slices.Contains(keyRefused, d.fault.code)):
		return rejected(ofNotKey, d)
	case told && d.Class != aboutCode:
		j := accepted("the issuer refuses a made-up key in another way", d)
		j.warns = true
		return j
	}
	i, proven := p.introspect()
	var j judgement
	switch {
	case !told:
		j = p.judgeAlike(d, i, proven)
	case i.status == http.StatusBadRequest:
		j = accepted("the introspection endpoint answers the same key with an error", i)
		j.warns = true
	default:
		j = accepted("a made-up key gets another answer", d)
	}
	j.proven = proven
	return j
}

const byIntrospection = "the introspection endpoint tells the key from a made-up one"

// introspect asks about the key where introspection is advertised. The key is proven if introspection answers "active" to it,
// and something else to a made-up one.
func (p keyRule) introspect() (i reply, proven bool) {
	if !p.introspects {
		return i, false
	}
	i = p.ask("I")
	made := p.known.Introspection
	if i.active && !made.known() && !p.free {
		made = p.ask("IK").Mark
	}
	return i, i.active && made.known() && made.Class != breaks && made != i.Mark
}

// lost tells whether introspection proved the key before, and now answers it as it answers a made-up one.
func (p keyRule) lost(i reply) bool {
	return p.known.Proven && !i.active && i.known() && i.Mark == p.known.Introspection
}

// judgeFree decides by introspection alone.
func (p keyRule) judgeFree() judgement {
	if !p.introspects {
		return judgement{why: "only the token endpoint can tell"}
	}
	i, proven := p.introspect()
	switch {
	case p.lost(i):
		return rejected(ofKey, i)
	case !proven:
		return undecided("the introspection endpoint alone does not tell", i)
	}
	j := accepted(byIntrospection, i)
	j.proven = true
	return j
}

// judgeAlike is for a key that gets the same answer as a made-up one. Only introspection can tell them apart then.
func (p keyRule) judgeAlike(d, i reply, proven bool) judgement {
	switch {
	case p.lost(i):
		return rejected(ofKey, i)
	case d.Class == aboutCode && proven:
		return accepted(byIntrospection, i)
	case d.Class == aboutCode:
		return p.judgePublic(d)
	case proven:
		return rejected(p.diagnose(d, ofNotKey, true), d)
	}
	c, about := p.ask("C"), ofAny
	if p.clientKnown || c.Class != breaks && c.Mark != d.Mark {
		about = ofKeyOrMethod
	}
	j := rejected(p.diagnose(d, about, false), d)
	j.clientKnown = p.redirectOK
	return j
}

// judgePublic is for a client without a key, or one whose key is not looked at: it must differ from a made-up client.
func (p keyRule) judgePublic(d reply) judgement {
	c := reply{Mark: p.known.Client}
	if !c.known() || d.Class != aboutCode {
		c = p.ask("C")
	}
	told := c.Class != breaks && c.Mark != d.Mark
	switch {
	case d.Class != aboutCode:
		j := rejected(ofNoKey, d)
		j.clientKnown = told
		return j
	case c.limited:
		return undecided("", c)
	case told:
		j := accepted("a made-up client gets another answer, a made-up key the same", d)
		j.cause = ofPublic
		return j
	}
	return undecided("the token endpoint looks at the code first: it answers any key and any client alike", d)
}

// diagnose finds out for a person which of key, method and characters it is. Otherwise, and if it cannot be found out, it
// returns the given cause. A proven key leaves the method.
func (p keyRule) diagnose(d reply, otherwise cause, proven bool) cause {
	switch {
	case p.known.Refused == d.Mark: // somebody asked before
		return p.known.Cause
	case !p.person:
		return otherwise
	}
	takes := func(question string) bool { return p.ask(question).Class == aboutCode }
	post := takes("post")
	postAlone := post && !takes("postK") // the key counts there
	switch {
	case postAlone && (proven || !p.special):
		return ofMethod
	case proven:
		return otherwise
	case !post && takes("none"):
		return ofPublic
	case p.special && takes("plain"):
		return ofChars
	case postAlone:
		return ofMethodOrChars
	}
	return otherwise
}
