package diagnose_test

import (
	"testing"
	"time"

	"proxmox-realm/internal/diagnose"
)

// TestTimes reads time stamps in zones with half hours, over changes of summer time and over new year.
func TestTimes(t *testing.T) {
	const at = time.RFC3339
	for name, c := range map[string]struct {
		zone       string
		since, now string
		stamps     []string
		want       []string
	}{
		"half an hour": {
			"Asia/Kolkata", "2026-12-01T00:00:00Z", "2026-12-01T12:00:00Z",
			[]string{"Dec 01 05:31:00"},
			[]string{"2026-12-01T05:31:00+05:30"},
		},
		"three quarters": {
			"Asia/Kathmandu", "2026-12-01T00:00:00Z", "2026-12-01T12:00:00Z",
			[]string{"Dec 01 05:46:00"},
			[]string{"2026-12-01T05:46:00+05:45"},
		},
		"summer time ends: an hour comes twice": {
			"Europe/Vienna", "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z",
			[]string{"Oct 25 01:59:00", "Oct 25 02:10:00", "Oct 25 02:50:00", "Oct 25 02:05:00", "Oct 25 02:55:00", "Oct 25 03:01:00"},
			[]string{
				"2026-10-25T01:59:00+02:00", "2026-10-25T02:10:00+02:00", "2026-10-25T02:50:00+02:00",
				"2026-10-25T02:05:00+01:00", "2026-10-25T02:55:00+01:00", "2026-10-25T03:01:00+01:00",
			},
		},
		"summer time begins: an hour is left out": {
			"Europe/Vienna", "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z",
			[]string{"Mar 29 01:59:00", "Mar 29 03:01:00"},
			[]string{"2026-03-29T01:59:00+01:00", "2026-03-29T03:01:00+02:00"},
		},
		"half an hour of summer time": {
			"Australia/Lord_Howe", "2026-04-04T00:00:00Z", "2026-04-05T00:00:00Z",
			[]string{"Apr 05 01:50:00", "Apr 05 01:40:00"},
			[]string{"2026-04-05T01:50:00+11:00", "2026-04-05T01:40:00+10:30"},
		},
		"new year": {
			"Europe/Vienna", "2026-12-31T12:00:00Z", "2027-01-01T01:00:00Z",
			[]string{"Dec 31 23:59:59", "Jan 01 00:00:01"},
			[]string{"2026-12-31T23:59:59+01:00", "2027-01-01T00:00:01+01:00"},
		},
		"a new year that has not come to Greenwich": {
			"Pacific/Auckland", "2026-12-31T10:00:00Z", "2026-12-31T12:00:00Z", []string{"Jan 01 00:30:00"}, []string{"2027-01-01T00:30:00+13:00"},
		},
		"a year that has ended in Greenwich": {
			"Pacific/Honolulu", "2027-01-01T01:00:00Z", "2027-01-01T08:00:00Z", []string{"Dec 31 20:00:00"}, []string{"2026-12-31T20:00:00-10:00"},
		},
		"a log that begins before it was asked to": {
			"UTC", "2026-12-01T12:00:00Z", "2027-12-01T11:50:00Z", []string{"Dec 01 11:55:00"}, []string{"2026-12-01T11:55:00Z"},
		},
		"many years": {
			"UTC", "2023-06-01T00:00:00Z", "2026-12-01T00:00:00Z",
			[]string{"Jun 02 00:00:00", "Jan 01 00:00:00", "Feb 29 00:00:00", "Jan 01 00:00:00", "Dec 31 00:00:00", "Jan 01 00:00:00"},
			[]string{
				"2023-06-02T00:00:00Z", "2024-01-01T00:00:00Z", "2024-02-29T00:00:00Z", "2025-01-01T00:00:00Z", "2025-12-31T00:00:00Z",
				"2026-01-01T00:00:00Z",
			},
		},
		"a clock that was set back": {
			"Europe/Vienna", "2026-12-01T00:00:00Z", "2026-12-01T12:00:00Z",
			[]string{"Dec 01 06:00:00", "Dec 01 03:00:00", "Dec 01 03:00:01"},
			[]string{"2026-12-01T06:00:00+01:00", "2026-12-01T03:00:00+01:00", "2026-12-01T03:00:01+01:00"},
		},
		"lines that are out of order by a second, in an hour that comes twice": {
			"Europe/Vienna", "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z",
			[]string{"Oct 25 02:10:01", "Oct 25 02:10:00"},
			[]string{"2026-10-25T02:10:01+02:00", "2026-10-25T02:10:00+02:00"},
		},
		"29 February of no year": {
			"UTC", "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z", []string{"Feb 29 02:30:00"}, []string{"2026-03-28T12:00:00Z"},
		},
		"a time that no clock shows": {
			"Europe/Vienna", "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z",
			[]string{"Mar 29 02:30:00", "Mar 29 03:31:00"},
			[]string{"2026-03-29T03:30:00+02:00", "2026-03-29T03:31:00+02:00"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			since, err1 := time.Parse(at, c.since)
			now, err2 := time.Parse(at, c.now)
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			var lines []string
			for _, s := range c.stamps {
				lines = append(lines, s+" pve pvedaemon[1]: openid authentication failure; rhost=::1 msg=Request failed")
			}
			got := read(virtualEnvironment(), &diagnose.Clock{Zone: zone(t, c.zone), Since: since, Now: now}, lines...)
			if len(got) != len(c.want) {
				t.Fatalf("%d logins", len(got))
			}
			for i, l := range got {
				if text := l.Time.Format(at); text != c.want[i] {
					t.Errorf("%s is %s, expected %s", c.stamps[i], text, c.want[i])
				}
			}
		})
	}
}

// TestOffsetsInPlaceOfAZone reads a log whose zone is not known.
func TestOffsetsInPlaceOfAZone(t *testing.T) {
	since := time.Date(2026, 10, 25, 0, 0, 0, 0, time.UTC)
	clock := &diagnose.Clock{Offsets: []int{7200, 3600}, Since: since, Now: since.Add(3 * time.Hour)}
	got := read(virtualEnvironment(), clock,
		"Oct 25 02:50:00 pve pvedaemon[1]: openid authentication failure; rhost=::1 msg=Request failed",
		"Oct 25 02:05:00 pve pvedaemon[1]: openid authentication failure; rhost=::1 msg=Request failed")
	if !got[0].Time.Equal(since.Add(50*time.Minute)) || !got[1].Time.Equal(since.Add(65*time.Minute)) {
		t.Error(got[0].Time, got[1].Time)
	}
}
