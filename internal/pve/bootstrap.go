package pve

// Bootstrap says what to set up on a node for this program: the least that it needs.
type Bootstrap struct {
	User    string // user@pve; "" means proxmox-realm@pve
	TokenID string // "" means agent
	Audit   bool   // plan and verify alone: Sys.Audit in place of Realm.Allocate
	Users   bool   // may see users as well: Sys.Audit on /access/groups
}

// Lines returns the `pveum` lines, to be run as root on one node; the one that makes the token prints its secret.
func (b Bootstrap) Lines() []string { return nil }

// Grant returns the `pveum` lines that give an identity (user@realm!id or user@realm) privileges at a path. A token with
// privilege separation may do what both it and its user may, so both are granted.
func Grant(identity, path string, privileges ...string) []string { return nil }
