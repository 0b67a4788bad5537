package realm

import (
	"fmt"
	"strconv"
	"strings"
)

// Version is a Proxmox VE version. The zero value is an unknown one.
type Version struct{ Major, Minor int }

// ParseVersion reads the `version` or `release` of GET /version: "9.2.11", "8.4-1", "7.4-3", "9.2".
func ParseVersion(text string) (Version, error) {
	fields := strings.FieldsFunc(text, func(r rune) bool { return r == '.' || r == '-' || r == '~' || r == '+' })
	if len(fields) < 2 {
		return Version{}, fmt.Errorf("no version: %q", text)
	}
	major, err1 := strconv.ParseUint(fields[0], 10, 16)
	minor, err2 := strconv.ParseUint(fields[1], 10, 16)
	if err1 != nil || err2 != nil || major == 0 {
		return Version{}, fmt.Errorf("no version: %q", text)
	}
	return Version{Major: int(major), Minor: int(minor)}, nil
}

// IsZero reports whether the version is unknown.
func (v Version) IsZero() bool { return v == Version{} }

// String returns "9.2", or "unknown".
func (v Version) String() string {
	if v.IsZero() {
		return "unknown"
	}
	return fmt.Sprintf("%d.%d", v.Major, v.Minor)
}

// Less reports whether v is an earlier version than w.
func (v Version) Less(w Version) bool {
	return v.Major < w.Major || v.Major == w.Major && v.Minor < w.Minor
}

// Lacks reports whether no Proxmox of this version knows the property. Any release of the same major version may have
// the package that knows it. There, only the answer to a write is proof.
func (v Version) Lacks(p Property) bool {
	d, ok := p.Definition()
	return ok && !v.IsZero() && v.Major < d.Since.Major
}
