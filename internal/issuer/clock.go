package issuer

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"proxmox-realm/internal/check"
)

// tokenLifetime is how long ID tokens of common issuers live at most by default (Authelia, Entra ID, Google: 1 h).
// Proxmox checks only their end, without leeway.
const tokenLifetime = time.Hour

// checkClock is issuer.clock. If Proxmox's clock is ahead, Proxmox takes ID tokens for expired.
func checkClock(i *Inspection, v View) check.Check {
	theirs, ok := i.discovery.clock()
	if !ok {
		return skip("the issuer's answer has no usable Date")
	}
	if !v.ClockKnown {
		return skip("Proxmox's clock is unknown").Because("issuer: %s against this machine", signed(theirs))
	}
	allowed := v.MaxSkew
	if allowed <= 0 {
		allowed = defaultMaxSkew
	}
	ahead := (v.ClockOffset - theirs).Round(time.Second)
	evidence := fmt.Sprintf("against this machine: issuer %s, Proxmox %s; allowed: %s",
		signed(theirs), signed(v.ClockOffset), allowed)
	remedy := check.Remedy{check.OnNode("chronyc tracking").With("synchronize the clocks of the node and of the issuer by NTP")}
	switch {
	case ahead > allowed && ahead >= tokenLifetime:
		return fail(remedy, "Proxmox's clock is %s ahead of the issuer's: ID tokens are expired when they arrive", ahead).
			Because("%s", evidence)
	case ahead > allowed:
		return warn(remedy, "Proxmox's clock is %s ahead of the issuer's: short-lived ID tokens are expired when they arrive", ahead).
			Because("%s", evidence)
	case -ahead > allowed:
		return warn(remedy, "Proxmox's clock is %s behind the issuer's", -ahead).Because("%s", evidence)
	}
	return pass("the clocks of issuer and Proxmox agree").Because("%s", evidence)
}

// clock returns the issuer's clock minus the local one. Date has whole seconds, so half a second is added. An answer
// from a cache carries its Age (RFC 9111 section 5.1).
func (a answer) clock() (offset time.Duration, ok bool) {
	date, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		return 0, false
	}
	age, _ := strconv.ParseUint(a.header.Get("Age"), 10, 31)
	date = date.Add(time.Duration(age)*time.Second + 500*time.Millisecond)
	return date.Sub(a.received), true
}

// signed returns "+3s", "-2m0s", "+0s".
func signed(d time.Duration) string {
	d = d.Round(time.Second)
	if d < 0 {
		return d.String()
	}
	return "+" + d.String()
}
