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

// row says where the value of a key goes.
func row(k Key, in func(to result) field) Key {
	k.in = in
	return k
}

func proxmoxRows() []Key {
	return []Key{
		row(Key{Path: "proxmox.product", Kind: Enum, group: product, Choices: texts(realm.Products()), Default: "pve", Flag: "product", Doc: "What the endpoints are: Proxmox VE, Proxmox Backup Server or Proxmox Datacenter Manager."},
			func(to result) field { return one(&to.Proxmox.Product, realm.ParseProduct) }),
		row(Key{Path: "proxmox.endpoint", Kind: String, group: endpoints, Doc: "A single node; same as endpoints with one entry."},
			func(to result) field { return alone{many(&to.Proxmox.Endpoints, of(to, ParseEndpoint))} }),
		row(Key{Path: "proxmox.endpoints", Kind: List, group: endpoints, Flag: "endpoint", Doc: "Nodes of one cluster, tried in order, always by https. The default port is that of the product: 8006, 8007 or 8443.", need: "set {proxmox.endpoints}, such as https://pve1.example.com:8006"},
			func(to result) field { return many(&to.Proxmox.Endpoints, of(to, ParseEndpoint)) }),
		row(Key{Path: "proxmox.token", Kind: String, group: credentials, Secret: true, Doc: "The API token: user@realm!id=secret. Backup Server and Datacenter Manager also print it with a colon."},
			func(to result) field { return one(&to.Proxmox.Token, of(to, ParseToken)) }),
		row(Key{Path: "proxmox.token_file", Kind: Path, group: credentials, Flag: "token-file", Doc: "A file with the API token.", need: "print the lines that make a token:\n    {bootstrap}"},
			func(to result) field { return one(&to.Proxmox.TokenFile, text) }),
		row(Key{Path: "proxmox.token_command", Kind: Command, group: credentials, Doc: "A command that prints the API token."},
			func(to result) field { return many(&to.Proxmox.TokenCommand, text) }),
		row(Key{Path: "proxmox.username", Kind: String, group: credentials, Flag: "username", Doc: "A user for a login instead of a token, such as root@pam. A terminal is asked for a missing password."},
			func(to result) field { return one(&to.Proxmox.Username, of(to, parseUsername)) }),
		row(Key{Path: "proxmox.password", Kind: String, group: password, Secret: true, Doc: "The password of username."},
			func(to result) field { return one(&to.Proxmox.Password, secret) }),
		row(Key{Path: "proxmox.password_file", Kind: Path, group: password, Doc: "A file with the password."},
			func(to result) field { return one(&to.Proxmox.PasswordFile, text) }),
		row(Key{Path: "proxmox.password_command", Kind: Command, group: password, Doc: "A command that prints the password."},
			func(to result) field { return many(&to.Proxmox.PasswordCommand, text) }),
		row(Key{Path: "proxmox.otp", Kind: String, group: oneTime, Secret: true, Doc: "The time-based one-time password of username."},
			func(to result) field { return one(&to.Proxmox.OTP, parseOTP) }),
		row(Key{Path: "proxmox.ca_file", Kind: Path, group: trust, Flag: "ca-file", Doc: "Certificate authorities (PEM) of Proxmox. They replace the system's.", pool: func(t *Target) **x509.CertPool { return &t.Proxmox.CA }},
			func(to result) field { return one(&to.Proxmox.CAFile, text) }),
		row(Key{Path: "proxmox.fingerprints", Kind: List, group: trust, Flag: "fingerprint", Doc: "SHA-256 fingerprints of the nodes' certificates, as `pvenode cert info` prints them. They replace all authorities."},
			func(to result) field { return many(&to.Proxmox.Fingerprints, of(to, ParseFingerprint)) }),
		row(Key{Path: "proxmox.insecure", Kind: Bool, group: trust, Default: "false", Flag: "insecure", Doc: "Disables TLS verification of Proxmox; an attacker on the network can steal the token. Every run warns."},
			func(to result) field { return one(&to.Proxmox.Insecure, parseBool) }),
		row(Key{Path: "proxmox.timeout", Kind: Duration, Default: "45s", Doc: "The time limit of one request. Proxmox itself stops after 30s."},
			func(to result) field { return one(&to.Proxmox.Timeout, durationUpTo(10*time.Minute)) }),
	}
}

func realmRows() []Key {
	return []Key{
		row(Key{Path: "realm.name", Kind: String, Default: "authelia", Flag: "realm", Doc: "The name of the realm in Proxmox. Users are called NAME@realm, for good."},
			func(to result) field { return one(&to.Realm.Name, of(to, parseRealmName)) }),
		{Path: "realm.acr_values", Doc: "The authentication context classes to request, the preferred one first."},
		{Path: "realm.audiences", Doc: "Audiences that Proxmox accepts in an ID token besides the client id."},
		{Path: "realm.autocreate", Flag: "autocreate", Doc: "Whether Proxmox creates a user at the first login."},
		{Path: "realm.client_id", Flag: "client-id", Doc: "The client id at the issuer. Required.", need: "set {realm.client_id} to the id by which the issuer knows Proxmox"},
		{Path: "realm.client_key", group: clientKey, Secret: true, Doc: "The client key (client secret)."},
		row(Key{Path: "realm.client_key_file", Kind: Path, group: clientKey, Flag: "client-key-file", Doc: "A file with the client key."},
			func(to result) field { return one(&to.ClientKeyFile, text) }),
		row(Key{Path: "realm.client_key_command", Kind: Command, group: clientKey, Doc: "A command that prints the client key."},
			func(to result) field { return many(&to.ClientKeyCommand, text) }),
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
		row(Key{Path: "realm.unset", Kind: List, Default: "[]", Doc: "Properties to remove from the realm. A property that is only missing here stays as it is."},
			func(to result) field { return many(&to.Realm.Unset, parseUnset) }),
	}
}

func verifyRows() []Key {
	return []Key{
		row(Key{Path: "verify.redirect_urls", Kind: List, group: redirects, Flag: "redirect-url", derived: true, Doc: "The addresses that browsers open: scheme, host and port, without a slash. The default is the origin of each endpoint; client.redirect then warns instead of failing."},
			func(to result) field { return many(&to.Verify.RedirectURLs, parseOrigin) }),
		row(Key{Path: "verify.issuer_ca_file", Kind: Path, Flag: "issuer-ca-file", Doc: "Certificate authorities (PEM) of the issuer. They replace the system's.", pool: func(t *Target) **x509.CertPool { return &t.Verify.IssuerCA }},
			func(to result) field { return one(&to.Verify.IssuerCAFile, text) }),
		row(Key{Path: "verify.issuer", Kind: Bool, Default: "true", Doc: "Set it to false if this machine cannot reach the issuer. Then only Proxmox checks the issuer, and no gate runs."},
			func(to result) field { return one(&to.Verify.Issuer, parseBool) }),
		row(Key{Path: "verify.proxmox", Kind: Bool, Default: "true", Doc: "Set it to false to never let Proxmox discover the issuer."},
			func(to result) field { return one(&to.Verify.Proxmox, parseBool) }),
		row(Key{Path: "verify.client", Kind: Bool, Default: "true", Doc: "Set it to false to never ask the issuer about the client."},
			func(to result) field { return one(&to.Verify.Client, parseBool) }),
		row(Key{Path: "verify.ignore", Kind: List, Default: "[]", Doc: "Ids of checks that never fail or warn; `proxmox-realm help checks` lists them."},
			func(to result) field { return many(&to.Verify.Ignore, parseCheckID) }),
		row(Key{Path: "verify.max_clock_skew", Kind: Duration, Default: "5m", Doc: "The greatest difference between the clocks of issuer and Proxmox."},
			func(to result) field { return one(&to.Verify.MaxClockSkew, durationUpTo(24*time.Hour)) }),
		row(Key{Path: "policy.gate", Kind: Bool, Default: "true", Doc: "Do not change an existing realm while issuer or client checks fail."},
			func(to result) field { return one(&to.Gate, parseBool) }),
		row(Key{Path: "access", Kind: Grants, Doc: "What the issuer's groups may do in Proxmox VE: for each group, as the issuer calls it, a list of path, role and propagate. These groups get exactly these grants; [] means none. Other groups are not touched."},
			func(to result) field { return grants{&to.Access} }),
	}
}

func runRows() []Key {
	return []Key{
		row(Key{Path: "state_dir", Kind: Path, derived: true, Doc: "The directory of history, locks and saved realms. The default is $STATE_DIRECTORY, else /var/lib/proxmox-realm for root, else $XDG_STATE_HOME/proxmox-realm."},
			func(to result) field { return one(&to.StateDir, text) }),
		row(Key{Path: "targets_from", Kind: Path, Doc: "A folder with one target in each file that ends with .yaml or .yml. The file's name is the target's name; relative paths in it begin in the folder. Beside or in place of targets."},
			func(to result) field { return one(&to.TargetsFrom, text) }),
		row(Key{Path: "concurrency", Kind: Int, Default: "32", Doc: "The number of targets at once."},
			func(to result) field { return one(&to.Concurrency, parseConcurrency) }),
		row(Key{Path: "agent.interval", Kind: Duration, Default: "15m", Doc: "The time between two runs of the agent."},
			func(to result) field { return one(&to.Agent.Interval, durationUpTo(365*24*time.Hour)) }),
		row(Key{Path: "agent.jitter", Kind: Percent, Default: "10%", Doc: "The share of the interval by which the agent varies it."},
			func(to result) field { return one(&to.Agent.Jitter, parsePercent) }),
		row(Key{Path: "agent.listen", Kind: String, Default: "127.0.0.1:9746", Doc: "The host:port where the agent serves metrics, health and its status page. A new value needs a restart."},
			func(to result) field { return one(&to.Agent.Listen, parseListen) }),
		row(Key{Path: "notify.command", Kind: Command, Doc: "A command that gets the JSON report on its standard input: after each write, and when the outcome changes. A quiet apply and the agent run it."},
			func(to result) field { return many(&to.Notify.Command, text) }),
	}
}
