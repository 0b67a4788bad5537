package check

import (
	"fmt"
	"strings"
)

// Remedy says how to repair what a finding or an error is about, as data. Its steps are alternatives, the best one first.
// A [Wording] turns it into words for one kind of reader.
type Remedy []Step

// Action is the kind of a [Step].
type Action string

// The actions.
const (
	SetKey   Action = "set"    // give a configuration key a value
	UnsetKey Action = "unset"  // list a realm property in realm.unset
	OmitKey  Action = "omit"   // remove a key from the configuration
	RunThis  Action = "run"    // run a command of this program
	RunThere Action = "node"   // run a command on a Proxmox node
	ReadLog  Action = "log"    // read a log
	Other    Action = "advice" // anything else
)

// Step is one way to repair something.
type Step struct {
	Action Action `json:"action"`
	// Subject is the key (SetKey, UnsetKey, OmitKey), the command line (RunThis without the program's name, RunThere), the log
	// (ReadLog), or the whole advice (Other).
	Subject string `json:"subject"`
	Value   string `json:"value"` // SetKey: the value; "" if the reader must choose it
	Note    string `json:"note"`  // what the step is for, or when it applies; shown in brackets
}

// Set advises to set a configuration key to a value; with "" the reader chooses the value.
func Set(key, value string) Step { return Step{Action: SetKey, Subject: key, Value: value} }

// Unset advises to list a property in realm.unset. The key is the property's configuration key, such as realm.prompt.
func Unset(key string) Step { return Step{Action: UnsetKey, Subject: key} }

// Omit advises to remove a key from the configuration.
func Omit(key string) Step { return Step{Action: OmitKey, Subject: key} }

// Run advises to run a command of this program, such as "apply --recover".
func Run(format string, args ...any) Step {
	return Step{Action: RunThis, Subject: fmt.Sprintf(format, args...)}
}

// OnNode advises to run a command on a Proxmox node, such as a pveum line.
func OnNode(format string, args ...any) Step {
	return Step{Action: RunThere, Subject: fmt.Sprintf(format, args...)}
}

// SeeLog advises to read a log, such as "the issuer's log".
func SeeLog(log string) Step { return Step{Action: ReadLog, Subject: log} }

// Advise gives advice in words. It names no configuration key, flag or command of this program: those are steps of
// their own, because some readers know them by other names.
func Advise(format string, args ...any) Step {
	return Step{Action: Other, Subject: fmt.Sprintf(format, args...)}
}

// With returns a copy of the step with a note.
func (s Step) With(format string, args ...any) Step {
	s.Note = fmt.Sprintf(format, args...)
	return s
}

// Wording words remedies for one kind of reader. The zero value is for readers of a configuration file.
type Wording struct {
	Key     func(path string) string // how the reader sets a configuration key; nil: by its path
	Command func(line string) string // how the reader runs a command of this program; nil: "proxmox-realm " before it
}

// String words the remedy for a reader of a configuration file.
func (r Remedy) String() string { return r.In(Wording{}) }

// In words the remedy. It returns "" for an empty one.
func (r Remedy) In(w Wording) string {
	steps := make([]string, 0, len(r))
	for _, s := range r {
		steps = append(steps, s.in(w))
	}
	return strings.Join(steps, ", or ")
}

func (s Step) in(w Wording) string {
	text := s.Subject
	switch s.Action {
	case SetKey:
		text = "set " + w.key(s.Subject)
		if s.Value != "" {
			text += " to " + s.Value
		}
	case UnsetKey:
		text = "add " + strings.TrimPrefix(s.Subject, "realm.") + " to " + w.key("realm.unset")
	case OmitKey:
		text = "remove " + w.key(s.Subject) + " from the configuration"
	case RunThis:
		text = "run " + w.command(s.Subject)
	case RunThere:
		text = "run on a node: " + s.Subject
	case ReadLog:
		text = "read " + s.Subject
	case Other:
	}
	if s.Note != "" {
		text += " (" + s.Note + ")"
	}
	return text
}

func (w Wording) key(path string) string {
	if w.Key == nil {
		return path
	}
	return w.Key(path)
}

func (w Wording) command(line string) string {
	if w.Command == nil {
		return "proxmox-realm " + line
	}
	return w.Command(line)
}
