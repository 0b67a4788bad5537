package issuer

import (
	"cmp"
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
	ours := v.ClockOffset.Round(time.Second)
	if !ok {
		return skip("the issuer's answer has no usable Date")
	}
	if !v.ClockKnown {
		return skip("Proxmox's clock is unknown").Because("issuer: %+.0fs against this machine", theirs.Seconds())
	}
	allowed := cmp.Or(v.MaxSkew, defaultMaxSkew)
	ahead := ours - theirs
	remedy := check.Hint("synchronize the clocks of the node and of the issuer by NTP; on the node:\n    chronyc tracking")
	c := pass("the clocks of issuer and Proxmox agree")
	switch {
	case ahead > allowed && ahead >= tokenLifetime:
		c = fail(remedy, "Proxmox's clock is %s ahead of the issuer's: ID tokens are expired when they arrive", ahead)
	case ahead > allowed:
		c = warn(remedy, "Proxmox's clock is %s ahead of the issuer's: short-lived ID tokens are expired when they arrive", ahead)
	case -ahead > allowed:
		c = warn(remedy, "Proxmox's clock is %s behind the issuer's", -ahead)
	}
	return c.Because("against this machine: issuer %+.0fs, Proxmox %+.0fs; allowed: %s",
		theirs.Seconds(), ours.Seconds(), allowed)
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
	return date.Sub(a.received).Round(time.Second), true
}
