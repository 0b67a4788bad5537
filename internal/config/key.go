package config

// Kind says how a key is written.
type Kind string

// The kinds.
const (
	String   Kind = "string"
	Path     Kind = "path"     // of a file or folder; $VARS are expanded; relative to the configuration file's folder
	Bool     Kind = "bool"     // true, false
	Int      Kind = "int"      // a whole number
	Duration Kind = "duration" // with a unit, such as 45s or 1h30m
	Percent  Kind = "percent"  // 0% to 100%
	Enum     Kind = "enum"     // one of Key.Choices
	List     Kind = "list"     // of words; in variables and flags separated by commas or spaces
	Command  Kind = "command"  // a program and its arguments, run without a shell; only in files
)

// Key is one row of the list of keys.
type Key struct {
	Path    string // such as realm.issuer_url
	Kind    Kind
	Choices []string // of an Enum
	Default string   // as it would be written in a file; "" where there is none
	Doc     string   // what it means, in one or two lines
	Secret  bool     // its value is never shown
	Flag    string   // without dashes; "" where there is none
	Env     string   // "" for commands, which only a file may name
	Target  bool     // a target may overlay it
	Since   string   // first Proxmox VE version that knows the property; "" for keys that are none
}

// Keys returns the list of keys, in the order in which they are shown.
func Keys() []Key { return nil }
