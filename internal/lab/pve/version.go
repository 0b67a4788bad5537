package pve

import (
	"strconv"
	"strings"
)

// version is the part of a node's version that its behaviour follows.
type version struct{ major, minor int }

func parseVersion(s string) (v version) {
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == '.' || r == '-' })
	if len(parts) > 0 {
		v.major, _ = strconv.Atoi(parts[0])
	}
	if len(parts) > 1 {
		v.minor, _ = strconv.Atoi(parts[1])
	}
	return v
}

func (v version) atLeast(major, minor int) bool {
	return v.major > major || v.major == major && v.minor >= minor
}

// What changed between the generations that this package knows, by the first
// release of Proxmox VE that shipped it.
var (
	sinceScopes           = version{7, 1} // scopes, prompt, acr-values
	sinceLateTypes        = version{8, 1} // PUT looks at the type of a realm before its existence
	sinceGroups           = version{8, 4} // groups-claim, groups-autocreate, groups-overwrite, query-userinfo
	sinceMessageInBody    = version{8, 4} // message in JSON errors
	sinceUndefinedType    = version{9, 0} // "cannot lookup undefined type!"
	sinceGuestAgentRights = version{9, 0} // VM.GuestAgent.*, VM.Replicate in place of VM.Monitor
	sinceRegenerate       = version{9, 1} // regenerate of a token
	sinceAudiences        = version{9, 2} // audiences
	sinceEllipticCurves   = version{9, 0} // ID tokens signed with ES256, ES384, EdDSA
)

func (v version) has(since version) bool { return v.atLeast(since.major, since.minor) }

// versionData is what GET /version answers.
func versionData(full string) map[string]any {
	v := parseVersion(full)
	return map[string]any{"release": strconv.Itoa(v.major) + "." + strconv.Itoa(v.minor), "repoid": "14a22df35955d97d", "version": full}
}
