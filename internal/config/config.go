// Package config turns a file, the environment and flags into the targets of a run. It holds the one list of keys
// ([Keys]). What a file may contain, the names of variables and flags, the JSON Schema and the help text follow from it.
//
// A file is checked before it is merged. Load reports all mistakes at once, each with its place. No message quotes a
// value, because a value under a wrong key may be a secret.
package config

import (
	"crypto/x509"
	"io"
	"slices"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// FlagValue is a key given on the command line: the key's path and its text. A list takes several values of one key,
// and each of them may hold several words.
type FlagValue struct{ Key, Value string }

// Options say where a configuration comes from and which parts of it the caller needs. The environment is that of the
// process.
type Options struct {
	// File is the path given by -c; "-" is Stdin. Empty: the first that exists of $PROXMOX_REALM_CONFIG,
	// $XDG_CONFIG_HOME/proxmox-realm/config.yaml and /etc/proxmox-realm/config.yaml. If none exists, flags and
	// environment must say enough.
	File    string
	Stdin   io.Reader
	Flags   []FlagValue // in the order of the command line
	Targets []string    // names; empty: all
	// Shard is INDEX/COUNT as --shard gives it. Sharded lets the variables of a Kubernetes Job say it if Shard is empty.
	Shard   string
	Sharded bool
	// Secrets reads the files and runs the commands that hold tokens, passwords, client keys and certificate authorities of
	// the selected targets, each once. Without it, only secrets in the configuration itself are set.
	Secrets bool
	// ClientKey reads only client keys, and IssuerCA only the certificate authorities of issuers.
	ClientKey, IssuerCA bool
	// Partial accepts a configuration without required keys, endpoints and credentials.
	Partial bool
	// Strict refuses what a plan would refuse whatever Proxmox holds, and what it would refuse unless Proxmox holds what the
	// configuration leaves out.
	Strict bool
	Show   bool // fills Config.Settings
}

// Config is an effective configuration.
type Config struct {
	File        string   // absolute; "" without a file
	Targets     []Target // those selected, in the order of the file and then of the folder of targets_from
	Shard       Shard    // the part of all targets that Targets are
	StateDir    string   // may not exist yet: see [disk.MakeDir]
	TargetsFrom string   // the folder of targets; "" if there is none
	Digest      string   // of the files that the configuration itself is in
	Concurrency int      // targets at work at once, at least 1
	Agent       Agent
	Notify      Notify
	Warnings    []string  // about risks, each once
	Settings    []Setting // the effective settings, if Options.Show is set
	// Secrets are those that stand in the file and the environment themselves, also of targets that are not selected and of
	// layers that are replaced. Nothing shows them, wherever they turn up.
	Secrets []check.Secret
}

// Agent is the schedule and the listener of the agent command.
type Agent struct {
	Interval time.Duration
	Jitter   float64 // share of the interval, 0 to 1
	Listen   string  // host:port
}

// Notify says which command hears of a changed outcome.
type Notify struct {
	// Command runs without a shell and gets the JSON report on its standard input. Empty: no command. A relative path of the
	// program is that in the folder of the configuration.
	Command []string
}

// Target is one Proxmox cluster and the realm that it should have.
type Target struct {
	Name    string // "default" if the configuration has no targets; safe as part of a file name
	Proxmox Proxmox
	Realm   realm.Spec
	Unnamed bool // nobody chose the realm's name: it is the default
	// ClientKeyFrom is the key that gives the client key: realm.client_key, realm.client_key_file or realm.client_key_command;
	// "" if the client key is not managed.
	ClientKeyFrom    string
	ClientKeyFile    string
	ClientKeyCommand []string
	Verify           Verify
	Gate             bool // policy.gate
	// Access is what the issuer's groups may do; nil: not managed.
	Access realm.Access
}

// Secrets returns the target's secrets, as far as they were read.
func (t Target) Secrets() []check.Secret {
	p := t.Proxmox
	return []check.Secret{t.Realm.Login().ClientKey, p.Token.Full(), p.Token.Secret, p.Password, p.OTP}
}

// SameSecrets reports whether the targets of two configurations with the same [Config.Digest] have the same secrets and trust the
// same authorities.
func (c *Config) SameSecrets(other *Config) bool {
	return slices.EqualFunc(c.Targets, other.Targets, func(a, b Target) bool {
		return slices.EqualFunc(a.Secrets(), b.Secrets(), check.Secret.Equal) &&
			samePool(a.Proxmox.CA, b.Proxmox.CA) && samePool(a.Verify.IssuerCA, b.Verify.IssuerCA)
	})
}

func samePool(a, b *x509.CertPool) bool { return a == b || a != nil && b != nil && a.Equal(b) }

// Proxmox is how a cluster is reached.
type Proxmox struct {
	Product   realm.Product
	Endpoints []Origin // of one cluster, in the order in which they are tried

	// Either Token or Username is set. The caller asks for a missing Password of a Username.
	Token           Token
	TokenFile       string // where Token came from, if it was a file
	TokenCommand    []string
	Username        UserID
	Password        check.Secret
	PasswordFile    string
	PasswordCommand []string
	OTP             check.Secret // time-based one-time password

	// At most one of CA, Fingerprints and Insecure is set; none: the system's certificate authorities.
	CAFile       string         // where CA came from
	CA           *x509.CertPool // set only with Options.Secrets
	Fingerprints []Fingerprint
	Insecure     bool

	Timeout time.Duration // per request
}

// Verify is what is checked.
type Verify struct {
	RedirectURLs      []Origin       // what browsers open
	RedirectsDeclared bool           // false: RedirectURLs are the origins of the endpoints
	IssuerCAFile      string         // where IssuerCA came from
	IssuerCA          *x509.CertPool // nil: the system's authorities; set only with Options.Secrets or IssuerCA
	Issuer            bool           // false: this machine cannot reach the issuer
	Proxmox           bool           // false: Proxmox is never asked to discover the issuer
	Client            bool           // false: the issuer is never asked about the client
	Ignore            []check.ID
	MaxClockSkew      time.Duration
}
