package config

import (
	"crypto/x509"
	"slices"
	"time"

	"proxmox-realm/internal/realm"
)

// rows returns the keys as [table] completes them. A value is read in this order: the product first, because forms of ports and
// tokens depend on it.
func rows() []Key { return slices.Concat(proxmoxRows(), realmRows(), verifyRows(), runRows()) }

// of returns where the value of a key of targets goes.
func of(in func(*Target) field) func(*Config, *Target) field {
	return func(_ *Config, t *Target) field { return in(t) }
}

func proxmoxRows() []Key {
	return []Key{
		{Path: "proxmox.product", Kind: Enum, group: product, Choices: texts(realm.Products()), Default: "pve", Flag: "product", Doc: "What the endpoints are: Proxmox VE, Proxmox Backup Server or Proxmox Datacenter Manager.",
			in: of(func(t *Target) field { return one(&t.Proxmox.Product, realm.ParseProduct) })},
		{Path: "proxmox.endpoint", Kind: String, group: endpoints, Doc: "A single node; same as endpoints with one entry.",
			in: of(func(t *Target) field { return onlyEndpoint{t} })},
		{Path: "proxmox.endpoints", Kind: List, group: endpoints, Flag: "endpoint", Doc: "Nodes of one cluster, tried in order, always by https. The default port is that of the product: 8006, 8007 or 8443.",
			need: "set {proxmox.endpoints}, such as https://pve1.example.com:8006",
			in:   of(func(t *Target) field { return many(&t.Proxmox.Endpoints, t.parseEndpoint) })},
		{Path: "proxmox.token", Kind: String, group: credentials, Secret: true, Doc: "The API token: user@realm!id=secret. Backup Server and Datacenter Manager also print it with a colon.",
			in: of(func(t *Target) field { return one(&t.Proxmox.Token, t.parseToken) })},
		{Path: "proxmox.token_file", Kind: Path, group: credentials, Flag: "token-file", Doc: "A file with the API token.",
			need: "it prints the lines that make a token:\n    {bootstrap}", instead: " (or proxmox.token, proxmox.token_command, or proxmox.username)",
			in: of(func(t *Target) field { return one(&t.Proxmox.TokenFile, text) })},
		{Path: "proxmox.token_command", Kind: Command, group: credentials, Doc: "A command that prints the API token.",
			in: of(func(t *Target) field { return argv{&t.Proxmox.TokenCommand} })},
		{Path: "proxmox.username", Kind: String, group: credentials, Flag: "username", Doc: "A user for a login instead of a token, such as root@pam. A terminal is asked for a missing password.",
			in: of(func(t *Target) field { return one(&t.Proxmox.Username, t.parseUsername) })},
		{Path: "proxmox.password", Kind: String, group: credentials, Secret: true, Doc: "The password of username.",
			in: of(func(t *Target) field { return one(&t.Proxmox.Password, secret) })},
		{Path: "proxmox.password_file", Kind: Path, group: credentials, Doc: "A file with the password.",
			in: of(func(t *Target) field { return one(&t.Proxmox.PasswordFile, text) })},
		{Path: "proxmox.password_command", Kind: Command, group: credentials, Doc: "A command that prints the password.",
			in: of(func(t *Target) field { return argv{&t.Proxmox.PasswordCommand} })},
		{Path: "proxmox.otp", Kind: String, group: credentials, Secret: true, Doc: "The time-based one-time password of username.",
			in: of(func(t *Target) field { return one(&t.Proxmox.OTP, parseOTP) })},
		{Path: "proxmox.ca_file", Kind: Path, group: trust, Flag: "ca-file", Doc: "Certificate authorities (PEM) of Proxmox. They replace the system's.",
			pool: func(t *Target) **x509.CertPool { return &t.Proxmox.CA },
			in:   of(func(t *Target) field { return one(&t.Proxmox.CAFile, text) })},
		{Path: "proxmox.fingerprints", Kind: List, group: trust, Flag: "fingerprint", Doc: "SHA-256 fingerprints of the nodes' certificates, as `pvenode cert info` prints them. They replace all authorities.",
			in: of(func(t *Target) field { return many(&t.Proxmox.Fingerprints, t.parseFingerprint) })},
		{Path: "proxmox.insecure", Kind: Bool, group: trust, Default: "false", Flag: "insecure", Doc: "Disables TLS verification of Proxmox; an attacker on the network can steal the token. Every run warns.",
			in: of(func(t *Target) field { return one(&t.Proxmox.Insecure, parseBool) })},
		{Path: "proxmox.timeout", Kind: Duration, Default: "45s", Doc: "The time limit of one request. Proxmox itself stops after 30s.",
			in: of(func(t *Target) field { return one(&t.Proxmox.Timeout, durationUpTo(10*time.Minute)) })},
	}
}

func realmRows() []Key {
	return []Key{
		{Path: "realm.name", Kind: String, Default: "authelia", Flag: "realm", Doc: "The name of the realm in Proxmox. Users are called NAME@realm, for good.",
			in: of(func(t *Target) field { return one(&t.Realm.Name, t.parseRealmName) })},
		{Path: "realm.acr_values", Doc: "The authentication context classes to request, the preferred one first."},
		{Path: "realm.audiences", Doc: "Audiences that Proxmox accepts in an ID token besides the client id."},
		{Path: "realm.autocreate", Flag: "autocreate", Doc: "Whether Proxmox creates a user at the first login."},
		{Path: "realm.client_id", Flag: "client-id", Doc: "The client id at the issuer. Required.", need: "set {realm.client_id} to the id by which the issuer knows Proxmox"},
		{Path: "realm.client_key", group: clientKey, Secret: true, Doc: "The client key (client secret)."},
		{Path: "realm.client_key_file", Kind: Path, group: clientKey, Flag: "client-key-file", Doc: "A file with the client key.",
			in: of(func(t *Target) field { return one(&t.ClientKeyFile, text) })},
		{Path: "realm.client_key_command", Kind: Command, group: clientKey, Doc: "A command that prints the client key.",
			in: of(func(t *Target) field { return argv{&t.ClientKeyCommand} })},
		{Path: "realm.comment", Doc: "The text that the login page shows for the realm."},
		{Path: "realm.default", Doc: "Whether the login page preselects the realm. Only one realm can be the default."},
		{Path: "realm.groups_autocreate", Doc: "Whether Proxmox creates the groups in the groups claim."},
		{Path: "realm.groups_claim", Doc: "The claim with the user's groups."},
		{Path: "realm.groups_overwrite", Doc: "Whether each login replaces the user's groups. A login without the claim, or whose claim is no list, changes none."},
		{Path: "realm.issuer_url", Flag: "issuer-url", Doc: "The issuer's URL, exactly as in its discovery document. Required.", need: "set {realm.issuer_url} to the issuer's own name, such as https://auth.example.com"},
		{Path: "realm.prompt", Doc: "The prompt parameter: none, login, consent, select_account, or an extension of the issuer."},
		{Path: "realm.query_userinfo", Doc: "Whether Proxmox also reads claims from the userinfo endpoint. Authelia 4.39 and later need it."},
		{Path: "realm.scopes", Flag: "scopes", Doc: "The scopes to request; openid is implied. A realm created without them gets openid, profile and email."},
		{Path: "realm.username_claim", Flag: "username-claim", Doc: "The claim that names users; fixed once the realm exists. A realm created without it gets preferred_username."},
		{Path: "realm.unset", Kind: List, empty: true, Default: "[]", Doc: "Properties to remove from the realm. A property that is only missing here stays as it is.",
			in: of(func(t *Target) field { return many(&t.Realm.Unset, parseUnset) })},
	}
}

func verifyRows() []Key {
	return []Key{
		{Path: "verify.redirect_urls", Kind: List, group: redirects, Flag: "redirect-url", derived: true, Doc: "The addresses that browsers open: scheme, host and port, without a slash. The default is the origin of each endpoint; client.redirect then warns instead of failing.",
			in: of(func(t *Target) field { return many(&t.Verify.RedirectURLs, ParseOrigin) })},
		{Path: "verify.issuer_ca_file", Kind: Path, Flag: "issuer-ca-file", Doc: "Certificate authorities (PEM) of the issuer. They replace the system's.",
			pool: func(t *Target) **x509.CertPool { return &t.Verify.IssuerCA },
			in:   of(func(t *Target) field { return one(&t.Verify.IssuerCAFile, text) })},
		{Path: "verify.issuer", Kind: Bool, Default: "true", Doc: "Set it to false if this machine cannot reach the issuer. Then only Proxmox checks the issuer, and no gate runs.",
			in: of(func(t *Target) field { return one(&t.Verify.Issuer, parseBool) })},
		{Path: "verify.proxmox", Kind: Bool, Default: "true", Doc: "Set it to false to never let Proxmox discover the issuer.",
			in: of(func(t *Target) field { return one(&t.Verify.Proxmox, parseBool) })},
		{Path: "verify.client", Kind: Bool, Default: "true", Doc: "Set it to false to never ask the issuer about the client.",
			in: of(func(t *Target) field { return one(&t.Verify.Client, parseBool) })},
		{Path: "verify.ignore", Kind: List, empty: true, Default: "[]", Doc: "Ids of checks that never fail or warn; `proxmox-realm help checks` lists them.",
			in: of(func(t *Target) field { return many(&t.Verify.Ignore, parseCheckID) })},
		{Path: "verify.max_clock_skew", Kind: Duration, Default: "5m", Doc: "The greatest difference between the clocks of issuer and Proxmox.",
			in: of(func(t *Target) field { return one(&t.Verify.MaxClockSkew, durationUpTo(24*time.Hour)) })},
		{Path: "policy.gate", Kind: Bool, Default: "true", Doc: "Do not change an existing realm while issuer or client checks fail.",
			in: of(func(t *Target) field { return one(&t.Gate, parseBool) })},
		{Path: "access", Kind: Grants, Doc: "What the issuer's groups may do in Proxmox VE: for each group, as the issuer calls it, a list of path, role and propagate. These groups get exactly these grants; [] means none. Other groups are not touched.",
			in: of(func(t *Target) field { return grants{&t.Access} })},
	}
}

func runRows() []Key {
	return []Key{
		{Path: "state_dir", Kind: Path, derived: true, Doc: "The directory of history, locks and saved realms. The default is $STATE_DIRECTORY, else /var/lib/proxmox-realm for root, else $XDG_STATE_HOME/proxmox-realm.",
			in: func(c *Config, _ *Target) field { return one(&c.StateDir, text) }},
		{Path: "targets_from", Kind: Path, Doc: "A folder with one target in each file that ends with .yaml or .yml. The file's name is the target's name; relative paths in it begin in the folder. Beside or in place of targets.",
			in: func(c *Config, _ *Target) field { return one(&c.TargetsFrom, text) }},
		{Path: "concurrency", Kind: Int, Default: "32", Doc: "The number of targets at once.",
			in: func(c *Config, _ *Target) field { return one(&c.Concurrency, parseConcurrency) }},
		{Path: "agent.interval", Kind: Duration, Default: "15m", Doc: "The time between two runs of the agent.",
			in: func(c *Config, _ *Target) field { return one(&c.Agent.Interval, durationUpTo(365*24*time.Hour)) }},
		{Path: "agent.jitter", Kind: Percent, Default: "10%", Doc: "The share of the interval by which the agent varies it.",
			in: func(c *Config, _ *Target) field { return one(&c.Agent.Jitter, parsePercent) }},
		{Path: "agent.listen", Kind: String, Default: "127.0.0.1:9746", Doc: "The host:port where the agent serves metrics, health and its status page. A new value needs a restart.",
			in: func(c *Config, _ *Target) field { return one(&c.Agent.Listen, parseListen) }},
		{Path: "notify.command", Kind: Command, Doc: "A command that gets the JSON report on its standard input: after each write, and when the outcome changes. A quiet apply and the agent run it.",
			in: func(c *Config, _ *Target) field { return argv{&c.Notify.Command} }},
	}
}
