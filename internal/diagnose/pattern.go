package diagnose

import (
	"strings"

	"proxmox-realm/internal/check"
)

// pattern is the fixed parts of a text, with % for what differs: "no such user ('%')". A text must begin with the first
// part and end with the last one. So nobody forges another cause through a name that Proxmox repeats.
type pattern string

// ending is what may follow the last part: Perl adds the place in its source, Backup Server a full stop.
var ending = check.Pattern(`^\.?( at /\S+ line \d+\.?)?$`)

// match returns what stands in place of each %. The last part counts where it occurs last, because a name before it may
// hold the same words.
func (p pattern) match(text string) (values []string, ok bool) {
	parts := strings.Split(string(p), "%")
	rest, found := strings.CutPrefix(text, parts[0])
	if !found {
		return nil, false
	}
	for i, part := range parts[1:] {
		at := strings.Index(rest, part)
		switch last := i == len(parts)-2; {
		case part == "":
			at = len(rest)
		case last:
			at = strings.LastIndex(rest, part)
		}
		if at < 0 {
			return nil, false
		}
		values = append(values, rest[:at])
		rest = rest[at+len(part):]
	}
	return values, ending().MatchString(rest)
}
