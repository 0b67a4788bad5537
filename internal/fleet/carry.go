package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/reconcile"
)

// The costly questions: those that not every run asks.
var (
	ofProxmox = []check.ID{check.ProxmoxDiscovery}
	ofClient  = []check.ID{check.ClientCredentials, check.ClientRedirect}
)

// againAfterFailure is how long a run that repeats waits before it asks again what failed. The issuer counts refused
// keys: one an hour is what Authelia forgives for ever.
const againAfterFailure = time.Hour

// due makes an automatic question a certain one where it was last asked long enough ago.
func (s *session) due(mode config.Mode, each time.Duration, last time.Time, failed bool) reconcile.Mode {
	if s.options.Carry && failed && (each == 0 || each > againAfterFailure) {
		each = againAfterFailure
	}
	ago := time.Since(last)
	if mode == config.Auto && each > 0 && (ago >= each || ago < 0) { // less than 0: the clock was set back
		return reconcile.Always
	}
	return reconcile.Mode(mode)
}

// remember keeps what the costly questions found, and lets what earlier runs found count in this one.
func (s *session) remember(t config.Target, result *reconcile.Result) {
	costly := func(c check.Check) bool { return slices.Contains(ofProxmox, c.ID) || slices.Contains(ofClient, c.ID) }
	if !s.options.Carry && !slices.ContainsFunc(result.Checks, costly) {
		return // nothing was asked, and nobody wants to know what was
	}
	s.state.update(memoryKey(t), func(m *Memory) {
		known := m.about(t)
		known.Subject = subject(t)
		for _, c := range slices.Concat(ofProxmox, ofClient) {
			found, asked := check.Find(result.Checks, c)
			if asked && found.Status != check.Skip {
				found.Duration = 0
				known.Findings = append(known.without(c), found)
			}
		}
		*m = known
	})
	if !s.options.Carry {
		return
	}
	for _, c := range s.state.get(memoryKey(t)).Findings {
		mode := t.Verify.Client
		if slices.Contains(ofProxmox, c.ID) {
			mode = t.Verify.Proxmox
		}
		found, asked := check.Find(result.Checks, c.ID)
		if mode == config.Never || asked && (found.Status != check.Skip || c.Status != check.Fail) {
			continue
		}
		result.Checks = slices.DeleteFunc(slices.Clone(result.Checks), func(other check.Check) bool { return other.ID == c.ID })
		result.Checks = append(result.Checks, c)
	}
	check.Sort(result.Checks)
	settled := result.Outcome == reconcile.Unchanged || result.Outcome == reconcile.Changed
	if settled && len(check.Failures(result.Checks)) > 0 {
		result.Outcome = reconcile.Unverified
	}
}

// about returns the memory without what was found about the target when its configuration was another.
func (m Memory) about(t config.Target) Memory {
	if m.Subject != "" && m.Subject != subject(t) {
		m.Findings, m.Proxmox, m.Client = nil, time.Time{}, time.Time{}
	}
	return m
}

func (m Memory) without(id check.ID) []check.Check {
	return slices.DeleteFunc(slices.Clone(m.Findings), func(c check.Check) bool { return c.ID == id })
}

func (m Memory) failing(ids []check.ID) bool {
	return slices.ContainsFunc(check.Failures(m.Findings), func(c check.Check) bool { return slices.Contains(ids, c.ID) })
}

// subject is a fingerprint of what decides the answers to the costly questions. The client key is not in it: a fingerprint of
// a weak one could be guessed, and another key is a write, after which everything is asked anew.
func subject(t config.Target) string {
	login := t.Realm.Set.Login(t.Realm.Name)
	text, _ := json.Marshal([]any{ // strings always marshal
		login.IssuerURL, login.ClientID, login.Scopes, login.Prompt, login.ACRValues,
		t.Verify.RedirectURLs, t.Verify.RedirectsDeclared, t.Verify.IssuerCAFile, t.Verify.Issuer, t.Verify.Ignore,
	})
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
