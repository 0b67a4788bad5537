package issuer

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"unicode"
)

// This file holds the rule for answers of the token endpoint to a made-up code, and of the introspection endpoint to a
// made-up token, as pure functions over answers. Questions, by the names that this file uses:
//
//	D      the declared key               I   introspection with the declared key
//	K      a made-up key                  IK  introspection with a made-up key
//	C      a made-up client id
//
// and for a person who wants to know which of several causes it is:
//
//	post   the declared key as client_secret_post     none   the client id without a key
//	postK  a made-up key as client_secret_post        plain  Basic without form encoding

// The classes of answers of both endpoints.
const (
	aboutCode  = "code"    // the client is accepted, the code or token is not
	aboutOther = "refused" // anything else below 500
	inTrouble  = "trouble"
)

// kind is an answer of the token or the introspection endpoint as the rule looks at it.
type kind struct {
	evidence
	mark   Mark // by class, status and error; by words if it is no JSON
	active bool // introspection: 200 with "active"
	echoes bool // it holds the made-up key, so it is not remembered
}

// kindOf classifies an answer. settle makes answers to control questions comparable.
func kindOf(a answer, madeUpKey string, settle func(string) string) *kind {
	k := &kind{
		evidence: evidenceOf(a), active: a.status == http.StatusOK && hasMember(a.body, "active"),
		echoes: madeUpKey != "" && strings.Contains(string(a.body), madeUpKey),
	}
	k.fault = faultInJSON(a.body)
	said := settle(k.fault.code)
	if k.fault.code == "" {
		k.fault.text = visible(a.body)
		said = words(settle(k.fault.text))
	}
	class := aboutOther
	switch {
	case a.troubled(), a.status >= 500, slices.Contains(passing, k.fault.code):
		class = inTrouble
	case k.fault.isAboutCode(), a.status == http.StatusOK && hasMember(a.body, "access_token"):
		class = aboutCode
	}
	k.mark = markOf(class, a.status, said, k.active)
	return k
}

// isAboutCode tells whether an error says that the code is wrong: invalid_grant, or an error outside RFC 6749 that holds the
// word code or grant, such as "Invalid authorization code".
func (f fault) isAboutCode() bool {
	if f.code == "invalid_grant" {
		return true
	}
	if standardCodes.FindString(f.code) == f.code {
		return false
	}
	said := strings.FieldsFunc(strings.ToLower(f.code), func(r rune) bool { return !unicode.IsLetter(r) })
	return slices.Contains(said, "code") || slices.Contains(said, "grant")
}

// keyRefused are the errors of an issuer that accepts the key and not the client: it does not even look at the code.
var keyRefused = []string{"invalid_client", "unauthorized_client", "unsupported_grant_type", "access_denied"}

// keyProof holds the answers so far about one client and its key.
type keyProof struct {
	hasKey      bool
	introspects bool // the issuer has an introspection endpoint to which a key may be sent
	special     bool // the key has characters that form encoding changes
	person      bool // somebody wants to know the cause
	free        bool // only what a right key costs nothing
	clientKnown bool // the authorization endpoint accepts or knows the client
	redirectOK  bool // it accepts the redirect URL that was sent with the key

	known Known
	d, k, c, i, ik,
	post, postK, none, plain *kind
}

// judge returns a verdict, or the question that it needs.
func (p keyProof) judge() (j judgement, need string) {
	switch {
	case p.free:
		return p.judgeFree()
	case p.d == nil:
		return j, "D"
	case p.d.limited || p.d.class() == inTrouble:
		return p.troubled(p.d), ""
	case !p.hasKey:
		return p.judgePublic()
	}
	key := p.known.Key
	switch {
	case p.k != nil:
		key = p.k.mark
	case !key.known() || p.d.class() != aboutCode: // memory serves an acceptance only
		return j, "K"
	}
	switch {
	case p.k != nil && p.k.limited, key.Class == inTrouble:
		return p.troubled(p.k), ""
	case p.d.mark != key:
		return p.judgeUnlike()
	}
	return p.judgeAlike()
}

func (k *kind) class() string { return k.mark.Class }

func (p keyProof) troubled(by *kind) judgement {
	j := judgement{why: "the token endpoint gave no usable answer"}.quoting(by.evidence)
	if by.limited {
		j.decision, j.why = RateLimited, "the issuer limits requests"
	}
	return j
}

// judgeUnlike is for a key that gets another answer than a made-up one: the issuer knows it.
func (p keyProof) judgeUnlike() (j judgement, need string) {
	switch {
	case p.d.class() != aboutCode && (p.d.status == http.StatusUnauthorized || slices.Contains(keyRefused, p.d.fault.code)):
		return judgement{decision: Rejected, cause: ofNotKey}.quoting(p.d.evidence), ""
	case p.d.class() != aboutCode:
		return judgement{decision: Accepted, warns: true, why: "the issuer refuses a made-up key in another way"}.quoting(p.d.evidence), ""
	case p.introspects && p.i == nil:
		return j, "I"
	case p.i != nil && p.i.status == http.StatusBadRequest:
		return judgement{decision: Accepted, warns: true, why: "the introspection endpoint answers the same key with an error"}.quoting(p.i.evidence), ""
	case p.i != nil && p.i.active && p.ik == nil && !p.known.Introspection.known():
		return j, "IK" // for questions that repeat: see Free
	}
	return judgement{decision: Accepted, why: "a made-up key gets another answer"}.quoting(p.d.evidence), ""
}

// judgeAlike is for a key that gets the same answer as a made-up one. Only introspection can tell them apart then.
func (p keyProof) judgeAlike() (j judgement, need string) {
	proven := false
	if p.introspects {
		fixed, need := p.introspect()
		if need != "" || fixed.decision != NoVerdict {
			return fixed, need
		}
		proven = p.proven()
	}
	switch {
	case p.d.class() == aboutCode && proven:
		return judgement{decision: Accepted, why: "the introspection endpoint tells the key from a made-up one"}.quoting(p.i.evidence), ""
	case proven && p.person && !p.anyLimited() && p.known.Refused != p.d.mark:
		return p.diagnoseMethod()
	case proven && p.known.Refused == p.d.mark:
		return judgement{decision: Rejected, cause: cause(p.known.Cause)}.quoting(p.d.evidence), ""
	case proven:
		return judgement{decision: Rejected, cause: ofNotKey}.quoting(p.d.evidence), ""
	case p.d.class() == aboutCode:
		return p.judgePublic()
	case p.c == nil && (p.i == nil || !p.i.limited):
		return j, "C"
	case p.known.Refused == p.d.mark: // somebody asked for the cause before
		j = p.rejected()
		j.cause = cause(p.known.Cause)
		return j, ""
	case p.person && !p.anyLimited():
		return p.diagnose()
	}
	return p.rejected(), ""
}

// introspect returns what is still to be asked of the introspection endpoint, and a verdict if memory decides.
func (p keyProof) introspect() (j judgement, need string) {
	switch {
	case p.i == nil:
		return j, "I"
	case p.i.limited:
		return j, ""
	case p.known.Proven && !p.i.active && p.i.mark == p.known.Introspection:
		return judgement{decision: Rejected, cause: ofKey}.quoting(p.i.evidence), ""
	case p.i.active && p.ik == nil && !p.known.Introspection.known():
		return j, "IK"
	}
	return j, ""
}

// proven tells whether introspection proves the key: it answers "active" to the key, and something else to a made-up one.
func (p keyProof) proven() bool {
	made := p.known.Introspection
	if p.ik != nil {
		made = p.ik.mark
	}
	return p.i != nil && p.i.active && made.known() && made.Class != inTrouble && made != p.i.mark
}

// judgeFree decides by introspection alone.
func (p keyProof) judgeFree() (j judgement, need string) {
	if !p.hasKey || !p.introspects {
		return judgement{why: "only the token endpoint can tell"}, ""
	}
	if p.i == nil {
		return j, "I"
	}
	if p.i.limited {
		return p.troubled(p.i), ""
	}
	if fixed, need := p.introspect(); need == "" && fixed.decision != NoVerdict {
		return fixed, ""
	}
	if p.proven() {
		return judgement{decision: Accepted, why: "the introspection endpoint tells the key from a made-up one"}.quoting(p.i.evidence), ""
	}
	return judgement{why: "the introspection endpoint alone does not tell"}.quoting(p.i.evidence), ""
}

// judgePublic is for a client without a key, or one whose key is not looked at: it must differ from a made-up client.
func (p keyProof) judgePublic() (j judgement, need string) {
	client := p.known.Client
	switch {
	case p.c != nil:
		client = p.c.mark
	case !client.known() || p.d.class() != aboutCode:
		return j, "C"
	}
	switch {
	case p.d.class() != aboutCode && p.c.class() != inTrouble && p.c.mark != p.d.mark:
		return judgement{decision: Rejected, cause: ofNoKey, clientKnown: true}.quoting(p.d.evidence), ""
	case p.d.class() != aboutCode:
		return judgement{decision: Rejected, cause: ofNoKey}.quoting(p.d.evidence), ""
	case p.c != nil && p.c.limited:
		return p.troubled(p.c), ""
	case client.Class != inTrouble && client != p.d.mark:
		return judgement{decision: Accepted, cause: ofPublic, why: "a made-up client gets another answer, a made-up key the same"}.quoting(p.d.evidence), ""
	}
	return judgement{why: "the token endpoint looks at the code first: it answers any key and any client alike"}.quoting(p.d.evidence), ""
}

// rejected is for a key that is refused as a made-up one is.
func (p keyProof) rejected() judgement {
	j := judgement{decision: Rejected, cause: ofAny, clientKnown: p.redirectOK}.quoting(p.d.evidence)
	if p.clientKnown || p.c != nil && p.c.class() != inTrouble && p.c.mark != p.d.mark {
		j.cause = ofKeyOrMethod
	}
	return j
}

func (p keyProof) anyLimited() bool {
	return slices.ContainsFunc([]*kind{p.c, p.i, p.ik, p.post, p.postK, p.none, p.plain}, func(k *kind) bool {
		return k != nil && k.limited
	})
}

// diagnoseMethod finds out whether a client whose key is right is registered for client_secret_post.
func (p keyProof) diagnoseMethod() (j judgement, need string) {
	j = judgement{decision: Rejected, cause: ofNotKey}.quoting(p.d.evidence)
	switch {
	case p.post == nil:
		return j, "post"
	case p.post.class() == aboutCode && p.postK == nil:
		return j, "postK"
	case p.post.class() == aboutCode && p.postK.class() != aboutCode:
		j.cause = ofMethod
	}
	return j, ""
}

// diagnose finds out which of key, method and characters it is.
func (p keyProof) diagnose() (j judgement, need string) {
	takes := func(k *kind) bool { return k != nil && k.class() == aboutCode }
	j = p.rejected()
	switch {
	case p.post == nil:
		return j, "post"
	case takes(p.post) && p.postK == nil:
		return j, "postK"
	case takes(p.post) && !takes(p.postK) && !p.special:
		j.cause = ofMethod
		return j, ""
	case !takes(p.post) && p.none == nil:
		return j, "none"
	case takes(p.none):
		j.cause = ofPublic
		return j, ""
	case p.special && p.plain == nil:
		return j, "plain"
	case takes(p.plain):
		j.cause = ofChars
	case takes(p.post) && !takes(p.postK):
		j.cause = ofMethodOrChars
	}
	return j, ""
}

// hasMember tells whether a body is a JSON object with this member.
func hasMember(body []byte, name string) bool {
	var object map[string]json.RawMessage
	_ = json.Unmarshal(body, &object) // another type has no members
	_, has := object[name]
	return has
}
