package diagnose

import (
	"slices"
	"time"
)

// Clock tells what the time stamps of a log mean. `journalctl -o short` writes them in the node's own time, without a year
// and without a zone.
type Clock struct {
	Zone  *time.Location // of the node
	Since time.Time      // no line is older, give or take an hour
	Now   time.Time      // on the node's clock, when the log was read

	// Offsets, in seconds east of UTC, take the place of Zone where the zone is not known. There are two where the log
	// spans a change of summer time.
	Offsets []int

	last time.Time // of the line before
}

// future is how much later than Now a line may be: a read takes a while.
const future = 5 * time.Minute

// jitter is how much earlier than the line before a line may be, although no clock was set back.
const jitter = 5 * time.Second

// instant returns when a line with this time stamp was written, of which the year and the zone mean nothing. Lines are in the order of time, so of two meanings the first one that is not
// before the line before counts. A clock that was set back leaves no such meaning; then the last one that has passed counts.
func (c *Clock) instant(stamp time.Time) time.Time {
	all := c.candidates(stamp)
	if len(all) == 0 { // 29 February of no year
		all = []time.Time{c.Since}
	}
	earliest := c.Since.Add(-time.Hour)
	if c.last.After(earliest) {
		earliest = c.last.Add(-jitter)
	}
	latest := c.Now.Add(future)
	chosen := all[0]
	for _, t := range all {
		if t.After(latest) {
			break
		}
		if chosen = t; !t.Before(earliest) {
			break
		}
	}
	c.last = chosen
	return chosen
}

// candidates returns the instants that a stamp may mean, in order. There is one for each year of the log, and two in the hour
// that autumn repeats.
func (c *Clock) candidates(stamp time.Time) []time.Time {
	var all []time.Time
	for year := c.Since.Year() - 1; year <= c.Now.Year()+1; year++ {
		wall := time.Date(year, stamp.Month(), stamp.Day(), stamp.Hour(), stamp.Minute(), stamp.Second(), 0, time.UTC)
		if wall.Day() == stamp.Day() { // not for 29 February
			all = append(all, c.meanings(wall)...)
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	return all
}

// meanings returns the instants at which the node's clocks show this time of day. There are two in the hour that autumn
// repeats. In the one that spring leaves out, it is as if nothing changed.
func (c *Clock) meanings(wall time.Time) []time.Time {
	zone, offsets := c.Zone, c.Offsets
	if zone == nil {
		var all []time.Time
		for _, offset := range offsets {
			all = append(all, wall.Add(-time.Duration(offset)*time.Second).In(time.FixedZone("", offset)))
		}
		return all
	}
	const day = 24 * time.Hour // no zone changes twice in two days
	for _, t := range []time.Time{wall.Add(-day), wall.Add(day)} {
		if _, offset := t.In(zone).Zone(); !slices.Contains(offsets, offset) {
			offsets = append(offsets, offset)
		}
	}
	var all []time.Time
	for _, offset := range offsets {
		t := wall.Add(-time.Duration(offset) * time.Second).In(zone)
		if _, own := t.Zone(); own == offset {
			all = append(all, t)
		}
	}
	if len(all) == 0 {
		all = append(all, wall.Add(-time.Duration(offsets[0])*time.Second).In(zone))
	}
	return all
}
