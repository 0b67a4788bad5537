package ansible

import (
	"net"
	"strconv"
	"strings"
	"sync"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
)

// argument is one row of the module's arguments.
type argument struct {
	kind kind
	key  string // the configuration key that takes the value; "" where it takes more than that
}

// table holds the module's arguments by name. Names that community.proxmox has mean what they mean there. A test holds
// the module's own argument specification against it.
var table = sync.OnceValue(func() map[string]argument {
	arguments := map[string]argument{
		"api_host":         {text, ""},
		"api_port":         {number, ""},
		"api_user":         {text, ""},
		"api_password":     {text, "proxmox.password"},
		"api_otp":          {text, "proxmox.otp"},
		"api_token_id":     {text, ""},
		"api_token_secret": {text, ""},
		"api_timeout":      {number, ""},
		"ca_path":          {text, ""},
		"validate_certs":   {truth, ""},
		"fingerprints":     {list, "proxmox.fingerprints"},
		"realm":            {text, "realm.name"},
		"state":            {text, ""},
		"unset":            {list, ""},
		"replace":          {truth, ""},
		"gate":             {truth, "policy.gate"},
		"verify":           {text, ""},
		"redirect_urls":    {list, "verify.redirect_urls"},
		"issuer_ca_path":   {text, "verify.issuer_ca_file"},
	}
	for _, d := range realm.Definitions() {
		k := text
		switch d.Kind {
		case realm.KindBool:
			k = truth
		case realm.KindSet, realm.KindList:
			k = list
		case realm.KindText, realm.KindKey:
		}
		arguments[nameOf(d)] = argument{k, "realm." + d.Key}
	}
	return arguments
})

// nameOf returns the argument that sets a property.
func nameOf(d realm.Definition) string {
	if d.Property == realm.Comment || d.Property == realm.Default { // every type of realm has these
		return d.Key
	}
	return "openid_" + d.Key
}

// property tells whether a configuration key sets a property.
func property(key string) bool {
	name, ok := strings.CutPrefix(key, "realm.")
	if !ok {
		return false
	}
	_, ok = realm.ByKey(name)
	return ok
}

// settings turns arguments into what a command line would say, and lists what is wrong before a configuration can tell.
func (a arguments) settings() (settings []config.FlagValue, wrong []string) {
	say := func(key, value string) { settings = append(settings, config.FlagValue{Key: key, Value: value}) }
	for name, argument := range table() {
		value, given := a[name]
		if !given || argument.key == "" {
			continue
		}
		switch v := value.(type) {
		case string:
			say(argument.key, v)
		case bool:
			say(argument.key, strconv.FormatBool(v))
		case []string:
			if len(v) == 0 && property(argument.key) {
				wrong = append(wrong, name+": must not be empty: to remove the property, name it in unset")
			}
			for _, word := range v {
				for part := range strings.SplitSeq(word, ";") { // which separates words in Proxmox as well
					say(argument.key, part)
				}
			}
		}
	}
	wrong = append(wrong, a.reach(say)...)
	wrong = append(wrong, a.identify(say)...)
	a.trust(say)
	if unset, ok := a["unset"].([]string); ok {
		for _, name := range unset {
			say("realm.unset", strings.TrimPrefix(name, "openid_")) // an argument's name is as good as a property's
		}
	}
	return settings, append(wrong, a.choose(say)...)
}

// reach says where Proxmox is.
func (a arguments) reach(say func(key, value string)) (wrong []string) {
	host, port := a.text("api_host"), 8006
	if p, ok := a["api_port"].(int); ok {
		port = p
	}
	bare := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	switch {
	case host == "":
		wrong = append(wrong, "api_host: is required")
	case strings.Contains(bare, "/") || strings.Contains(bare, ":") && net.ParseIP(bare) == nil:
		wrong = append(wrong, "api_host: must be a host name or an address alone: the port goes to api_port")
	case port < 1 || port > 65535:
		wrong = append(wrong, "api_port: must be a port from 1 to 65535")
	default:
		say("proxmox.endpoints", "https://"+net.JoinHostPort(bare, strconv.Itoa(port)))
	}
	if seconds, ok := a["api_timeout"].(int); ok {
		say("proxmox.timeout", strconv.Itoa(seconds)+"s")
	}
	return wrong
}

// identify says who asks.
func (a arguments) identify(say func(key, value string)) (wrong []string) {
	user, id, value := a.text("api_user"), a.text("api_token_id"), a.text("api_token_secret")
	switch {
	case a.has("api_password") && a.has("api_token_secret"):
		wrong = append(wrong, "api_password: is of no use beside api_token_secret: keep one of them")
	case a.has("api_password") && user == "":
		wrong = append(wrong, "api_user: is required beside api_password")
	case a.has("api_password"):
		say("proxmox.username", user)
	case a.has("api_otp"):
		wrong = append(wrong, "api_otp: needs api_password beside it")
	case value == "" || id == "":
		wrong = append(wrong, "api_token_id and api_token_secret are required, or else api_user and api_password")
	case strings.Contains(value, "!") || strings.Contains(value, "="):
		wrong = append(wrong, "api_token_secret: must be the secret alone, without user@realm!id=")
	default:
		owner, _, full := strings.Cut(id, "!")
		switch {
		case !full && user == "":
			wrong = append(wrong, "api_user: is required, unless api_token_id is of the form user@realm!id")
		case !full:
			say("proxmox.token", user+"!"+id+"="+value)
		case user != "" && user != owner:
			wrong = append(wrong, "api_token_id: belongs to another user than api_user")
		default:
			say("proxmox.token", id+"="+value)
		}
	}
	return wrong
}

// trust says what vouches for Proxmox. Fingerprints go before everything: a certificate whose fingerprint is known needs
// no authority. Without validate_certs a CA counts for nothing, as in community.proxmox.
func (a arguments) trust(say func(key, value string)) {
	pins, _ := a["fingerprints"].([]string)
	switch {
	case len(pins) > 0:
		if a.has("ca_path") {
			say("proxmox.ca_file", a.text("ca_path")) // refused: one of them is enough
		}
	case !a.is("validate_certs", true):
		say("proxmox.insecure", "true")
	case a.has("ca_path"):
		say("proxmox.ca_file", a.text("ca_path"))
	}
}

// The choices of verify.
const (
	verifyFail = "true"  // failed checks fail the task
	verifyWarn = "warn"  // they become warnings
	verifyNot  = "false" // they are in the result alone
)

// choose checks the words that have a choice, and says what verify means.
func (a arguments) choose(say func(key, value string)) (wrong []string) {
	switch a.text("state") {
	case "", "present", "absent":
	default:
		wrong = append(wrong, "state: must be present or absent")
	}
	switch a.text("verify") {
	case "", verifyFail, verifyWarn:
	case verifyNot:
		say("verify.proxmox", "never")
		if !a.is("gate", true) {
			say("verify.issuer", "false") // nobody needs its answers
		}
	default:
		wrong = append(wrong, "verify: must be true, warn or false")
	}
	return wrong
}
