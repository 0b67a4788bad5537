package reconcile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
)

// Memory is what runs of one target remember. A run works without it, and then asks a little more.
type Memory struct {
	Client  Answers `json:"client,omitzero"`  // of the client.* checks
	Proxmox Answers `json:"proxmox,omitzero"` // of proxmox.discovery
	// HungUntil holds, by node, the time before which the node is not asked to discover an issuer. Each question about a
	// silent issuer blocks one of the node's three workers.
	HungUntil map[string]time.Time `json:"hung_until,omitempty"`
}

// Answers are the findings of a costly question, and when it was asked.
type Answers struct {
	About    string        `json:"about"` // fingerprint of what was asked; answers about something else do not count
	Asked    time.Time     `json:"asked"`
	Limited  bool          `json:"limited,omitempty"` // the issuer limited requests (429): asked again in an hour
	Findings []check.Check `json:"findings"`
}

// failureAgain is how long a scheduled run waits before it asks a failed question again. Authelia does not limit a
// client that fails once an hour.
const failureAgain = time.Hour

// questions are the costly questions that a verification asks.
type questions struct {
	proxmox, client ask
	users           bool // the checks that cost only requests to Proxmox
	unread          bool // the realm could not be read, so its client key is not known
}

// ask says what becomes of one costly question.
type ask int

const (
	notAsked ask = iota
	recalled     // the remembered answers count
	askNow
)

// due decides what a reconciling run asks.
//
//	asked   the run wrote   scheduled run, and the memory says    question
//	------  -------------   ------------------------------------  --------
//	false   –               –                                     notAsked
//	true    yes             –                                     askNow
//	true    no              about something else                  askNow
//	true    no              asked longer ago than its interval    askNow
//	true    no              failed, an hour ago or longer         askNow
//	true    no              answered otherwise                    recalled
//	true    no              nothing, or no scheduled run          notAsked
func (r run) due(plan planned, wrote bool) questions {
	about := r.about(plan)
	return questions{
		proxmox: due(r.Verify.Proxmox, wrote, r.Repeats, r.ProxmoxEvery, r.Memory.Proxmox, about),
		client:  due(r.Verify.Client, wrote, r.Repeats, r.ClientEvery, r.Memory.Client, about),
		users:   wrote,
	}
}

func due(allowed bool, wrote, scheduled bool, every time.Duration, memory Answers, about string) ask {
	ago := time.Since(memory.Asked)
	failed := memory.Limited || len(check.Failures(memory.Findings)) > 0
	switch {
	case !allowed:
		return notAsked
	case wrote:
		return askNow
	case !scheduled:
		return notAsked
	case !memory.Asked.IsZero() && memory.About != about:
		return askNow
	case every > 0 && (ago >= every || ago < 0), failed && (ago >= failureAgain || ago < 0): // ago < 0: the clock was set back
		return askNow
	case !memory.Asked.IsZero():
		return recalled
	}
	return notAsked
}

// recall returns the remembered findings.
func (a Answers) recall() []check.Check {
	findings := slices.Clone(a.Findings)
	for i, c := range findings {
		findings[i].Evidence = strings.TrimPrefix(c.Evidence+"; as of "+a.Asked.Format(time.RFC3339), "; ")
	}
	return findings
}

// about is a fingerprint of what decides the answers to the costly questions. It is short, so that it cannot confirm a
// guess of the client key.
func (r run) about(plan planned) string {
	login := plan.login()
	text, _ := json.Marshal([]any{ // strings always marshal
		login.IssuerURL, login.ClientID, login.ClientKey.Reveal(), login.Scopes, login.Prompt, login.ACRValues,
		r.Verify.RedirectURLs, r.Verify.RedirectsDeclared, r.Verify.IssuerCAFile, r.Verify.Issuer, r.Verify.Ignore,
	})
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:4])
}

// remember returns the answers for the next run. Findings that are all skips were not answered: the former ones stay.
func (a Answers) remember(about string, found []check.Check, limited bool) Answers {
	if limited {
		a.About, a.Asked, a.Limited = about, time.Now(), true
		return a
	}
	answered := slices.DeleteFunc(slices.Clone(found), func(c check.Check) bool { return c.Status == check.Skip })
	if len(answered) == 0 {
		return a
	}
	for i := range answered {
		answered[i].Duration = 0
	}
	return Answers{About: about, Asked: time.Now(), Findings: answered}
}
