package lab

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"proxmox-realm/internal/lab/issuer"
)

// OtherClient is the client at the lab's issuer that has nothing to do with Proxmox. With the seed "bare" it is the only one.
const OtherClient = "grafana"

// RestartIssuer makes the issuer read LAB_AUTHELIA_CONFIG again, as a restart of Authelia would. It returns an error, and
// changes nothing, if Authelia would not start.
func (l *Lab) RestartIssuer() error {
	if l.Issuer == nil {
		return errors.New("the issuer is not the lab's")
	}
	data, err := os.ReadFile(l.AutheliaConfig)
	if err != nil {
		return err
	}
	clients, err := issuer.ParseConfiguration(data)
	if err != nil {
		return fmt.Errorf("authelia would not start with %s:\n%w", l.AutheliaConfig, err)
	}
	l.Issuer.Restart(clients)
	return nil
}

// autheliaHead is a configuration of Authelia 4.39, as its documentation begins. The lab uses its clients only.
const autheliaHead = `---
# The lab's issuer takes its clients from this file. After a change:
#   proxmox-realm-lab restart-issuer
server:
  address: 'tcp://:9091/'

log:
  level: 'info'

authentication_backend:
  file:
    path: '/config/users_database.yml'

access_control:
  default_policy: 'one_factor'

session:
  cookies:
    - domain: 'example.test'
      authelia_url: 'https://auth.example.test'

storage:
  local:
    path: '/config/db.sqlite3'

notifier:
  filesystem:
    filename: '/config/notification.txt'

identity_providers:
  oidc:
    hmac_secret: '%s'
    jwks:
      - key_id: 'rs'
        algorithm: 'RS256'
        key: |
%s
    clients:
`

// writeClients writes LAB_AUTHELIA_CONFIG: the caller's clients, one that follows Authelia's guide for Proxmox, and another
// one. With the seed "bare" it is only the last.
func (l *Lab) writeClients() error {
	other := issuer.Client{ID: OtherClient, Name: "Grafana", Secret: rand.Text(), RedirectURIs: []string{"https://grafana.example.test/login/generic_oauth"}}
	var clients []issuer.Client
	if !l.bare() {
		clients = slices.Clone(l.clients)
		if !slices.ContainsFunc(clients, func(c issuer.Client) bool { return c.ID == l.ClientID }) {
			redirects := append(l.redirectURLs(), LoginRedirectURL)
			for i, cluster := range l.Clusters {
				if i > 0 {
					redirects = append(redirects, cluster.URLs()...)
				}
			}
			clients = append(clients, issuer.Client{ID: l.ClientID, Name: "Proxmox", Secret: l.ClientKey, RedirectURIs: redirects, RequirePKCE: true})
		}
	}
	key, err := l.signingKey()
	if err != nil {
		return err
	}
	const indent = "          "
	var text strings.Builder
	fmt.Fprintf(&text, autheliaHead, rand.Text()+rand.Text(), indent+strings.ReplaceAll(key, "\n", "\n"+indent))
	for _, client := range append(clients, other) {
		block, err := autheliaClient(client)
		if err != nil {
			return err
		}
		text.WriteString(block)
	}
	return os.WriteFile(l.AutheliaConfig, []byte(text.String()), 0o600)
}

// signingKey is the issuer's RSA key, or another one if it has none, in PEM.
func (l *Lab) signingKey() (string, error) {
	defaults, err := issuer.DefaultKeys()
	if err != nil {
		return "", err
	}
	keys := append(slices.Clone(l.keys), defaults...)
	i := slices.IndexFunc(keys, func(k issuer.Key) bool { return k.Algorithm == "RS256" })
	der, err := x509.MarshalPKCS8PrivateKey(keys[i].Key)
	return strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))), err
}

// digestIterations is far less than Authelia's 310,000, so that a lab starts at once.
const digestIterations = 1000

// autheliaClient writes a client as Authelia's guide for Proxmox does.
func autheliaClient(c issuer.Client) (string, error) {
	list := func(values []string, otherwise ...string) string {
		if values == nil {
			values = otherwise
		}
		return "['" + strings.Join(values, "', '") + "']"
	}
	lines := [][2]string{{"client_id", "'" + c.ID + "'"}}
	if c.Name != "" {
		lines = append(lines, [2]string{"client_name", "'" + c.Name + "'"})
	}
	if c.Secret != "" {
		digest, err := digest(c.Secret)
		if err != nil {
			return "", err
		}
		lines = append(lines, [2]string{"client_secret", "'" + digest + "'"})
	}
	method := c.AuthMethod
	if method == "" {
		method = "client_secret_basic"
	}
	lines = append(lines, [][2]string{
		{"public", fmt.Sprint(method == "none")},
		{"authorization_policy", "'two_factor'"},
		{"require_pkce", fmt.Sprint(c.RequirePKCE)},
		{"pkce_challenge_method", "'S256'"},
		{"redirect_uris", list(c.RedirectURIs)},
		{"scopes", list(c.Scopes, "openid", "profile", "email", "groups")},
		{"response_types", list(c.ResponseTypes, "code")},
		{"grant_types", list(c.GrantTypes, "authorization_code")},
		{"access_token_signed_response_alg", "'none'"},
		{"userinfo_signed_response_alg", "'none'"},
		{"token_endpoint_auth_method", "'" + method + "'"},
	}...)
	var text strings.Builder
	mark := "      - "
	for _, line := range lines {
		text.WriteString(mark + line[0] + ": " + line[1] + "\n")
		mark = "        "
	}
	return text.String(), nil
}

// digest is a client secret as Authelia stores it, with Base64 of its own.
func digest(secret string) (string, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	key, err := pbkdf2.Key(sha512.New, secret, salt, digestIterations, sha512.Size)
	if err != nil {
		return "", err
	}
	encoding := base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789./").WithPadding(base64.NoPadding)
	return fmt.Sprintf("$pbkdf2-sha512$%d$%s$%s", digestIterations, encoding.EncodeToString(salt), encoding.EncodeToString(key)), nil
}
