package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// Every error of this file says what a value must be and never quotes it.

// surroundings are what values may refer to.
type surroundings struct {
	env map[string]string
	dir string // relative paths begin here
}

// scalar checks the text of a key that is no list and returns the value in the form in which layers hold it: string,
// bool, int or [check.Secret]. Durations, percentages and enumerations stay text.
func (k *key) scalar(text string, at surroundings) (any, error) {
	if text == "" && k.empty {
		return "", nil
	}
	if err := k.plain(text); err != nil {
		return nil, err
	}
	switch k.Kind {
	case Bool:
		switch text {
		case "true", "1":
			return true, nil
		case "false", "0":
			return false, nil
		}
		return nil, errors.New("must be true or false")
	case Int:
		n, err := strconv.Atoi(text)
		if err != nil || n < k.low || n > k.high {
			return nil, fmt.Errorf("must be a whole number from %d to %d", k.low, k.high)
		}
		return n, nil
	case Enum:
		if !slices.Contains(k.Choices, text) {
			return nil, fmt.Errorf("must be one of %s", strings.Join(k.Choices, ", "))
		}
		return text, nil
	case String, Path, Duration, Percent, List, Command:
	}
	if k.normal != nil {
		var err error
		if text, err = k.normal(text); err != nil {
			return nil, err
		}
	}
	if k.Kind == Path {
		expanded, err := at.path(text)
		if err != nil {
			return nil, err
		}
		return expanded, nil
	}
	if k.Secret {
		return check.NewSecret(text), nil
	}
	return text, nil
}

// list checks the words of a list or the arguments of a command. The index is that of the word which is
// wrong, or -1 where it is the list.
func (k *key) list(words []string) (any, int, error) {
	if len(words) == 0 && !k.empty {
		if err := k.plain(""); k.Kind == List && err != nil {
			return nil, -1, err
		}
		return nil, -1, errors.New("must not be empty: remove the key instead")
	}
	out := make([]string, 0, len(words))
	for i, word := range words {
		if k.Kind == Command {
			if err := argument(word, i == 0); err != nil {
				return nil, i, err
			}
			out = append(out, word)
			continue
		}
		if err := k.plain(word); err != nil {
			return nil, i, err
		}
		word, err := k.normal(word)
		if err != nil {
			return nil, i, err
		}
		if slices.Contains(out, word) {
			return nil, i, errors.New("names the same twice")
		}
		out = append(out, word)
	}
	return out, -1, nil
}

// plain refuses what is wrong in every text: Proxmox would rewrite or swallow it.
func (k *key) plain(text string) error {
	name, isRealm := strings.CutPrefix(k.Path, "realm.")
	switch {
	case text == "" && isRealm && removable(strings.TrimSuffix(strings.TrimSuffix(name, "_file"), "_command")):
		return errors.New("must not be empty: to remove the property, name it in realm.unset")
	case text == "":
		return errors.New("must not be empty: remove the key instead")
	case !utf8.ValidString(text):
		return errors.New("must be valid UTF-8")
	case strings.ContainsFunc(text, unicode.IsControl):
		return errors.New("must not contain control characters, such as line feeds")
	case strings.TrimSpace(text) != text:
		return errors.New("must not begin or end with white space")
	}
	return nil
}

func removable(key string) bool {
	d, ok := realm.ByKey(key)
	return ok && !d.Required && !d.CreateOnly
}

func argument(text string, first bool) error {
	switch {
	case first && strings.TrimSpace(text) == "":
		return errors.New("must begin with a program")
	case first && strings.ContainsFunc(text, unicode.IsSpace):
		return errors.New("must be a list of the program and its arguments, each an element of its own: no shell takes it apart")
	case strings.ContainsRune(text, 0):
		return errors.New("must not contain NUL characters")
	}
	return nil
}

// path expands $VARS and makes the path absolute.
func (at surroundings) path(text string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "$")
		b.WriteString(before)
		if !found {
			break
		}
		braced := strings.HasPrefix(rest, "{")
		if braced {
			rest = rest[1:]
		}
		n := strings.IndexFunc(rest, func(r rune) bool {
			return r != '_' && (r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r))
		})
		if n < 0 {
			n = len(rest)
		}
		name := rest[:n]
		rest = rest[n:]
		if braced && !strings.HasPrefix(rest, "}") || name == "" {
			return "", errors.New("must name a variable after each $, as $NAME or ${NAME}")
		}
		if braced {
			rest = rest[1:]
		}
		value, set := at.env[name]
		switch {
		case set && value != "":
		case name == "CREDENTIALS_DIRECTORY": // the packages' sample names it
			return "", fmt.Errorf("%s is not set: systemd sets it for services; by hand, name the folder of these files, as in CREDENTIALS_DIRECTORY=/etc/proxmox-realm", variable(name))
		default:
			return "", fmt.Errorf("%s is not set", variable(name))
		}
		b.WriteString(value)
		text = rest
	}
	expanded := b.String()
	if strings.HasPrefix(expanded, "~") {
		return "", errors.New("must not begin with ~, which only a shell expands: write $HOME")
	}
	if !filepath.IsAbs(expanded) {
		expanded = filepath.Join(at.dir, expanded)
	}
	return filepath.Clean(expanded), nil
}

// variable returns "$NAME" where that looks like a variable's name, not like a part of a secret with a dollar in it.
func variable(name string) string {
	if len(name) >= 3 && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == "" {
		return "the variable $" + name
	}
	return "a variable that it names"
}

// words takes a list apart as variables and flags give it.
func words(text string) []string {
	var out []string
	for part := range strings.SplitSeq(text, ",") {
		fields := strings.Fields(part)
		if len(fields) == 0 {
			fields = []string{""} // an empty element, refused as any empty value is
		}
		out = append(out, fields...)
	}
	return out
}

func secretPath(text string) (string, error) {
	if _, err := ParseToken(text); err == nil || strings.HasPrefix(text, "PVEAPIToken=") {
		return "", errors.New("must be the path of a file: this is a token")
	}
	return text, nil
}

// normalised returns what keeps the text of a parsed value.
func normalised[T any](parse func(string) (T, error)) func(string) (string, error) {
	return func(text string) (string, error) {
		v, err := parse(text)
		if err != nil {
			return "", err
		}
		return fmt.Sprint(v), nil
	}
}

func tokenText(text string) (string, error) {
	_, err := ParseToken(text)
	return text, err
}

func oneTimePassword(text string) (string, error) {
	if len(text) < 6 || len(text) > 8 || strings.Trim(text, "0123456789") != "" {
		return "", errors.New("must be the 6 to 8 digits of a time-based one-time password")
	}
	return text, nil
}

// hostPort takes an authority apart. The host is fit for a URL, the port is "" where none is given.
func hostPort(text string) (host, port string, err error) {
	switch {
	case strings.Contains(text, "@"):
		return "", "", errors.New("must not hold user information: credentials have keys of their own")
	case strings.ContainsAny(text, "/?#"):
		return "", "", errors.New("must be scheme, host and port alone, without path, query or fragment")
	}
	if address, ok := ipAddress(text); ok {
		return hostOf(address), "", nil
	}
	if inner, after, found := strings.Cut(text, "]"); found && strings.HasPrefix(inner, "[") {
		address, ok := ipAddress(strings.Replace(inner[1:], "%25", "%", 1))
		if !ok || !address.Is6() {
			return "", "", errors.New("must hold an IPv6 address between square brackets")
		}
		host, text = hostOf(address), after
		if text == "" {
			return host, "", nil
		}
		if text[0] != ':' {
			return "", "", errors.New("must have nothing but a port after the square brackets")
		}
		text = text[1:]
	} else {
		name, after, found := strings.Cut(text, ":")
		if strings.Contains(after, ":") {
			return "", "", errors.New("must put an IPv6 address between square brackets, as in [2001:db8::1]:8006")
		}
		if err := hostName(name); err != nil {
			return "", "", err
		}
		host, text = strings.ToLower(name), after
		if !found {
			return host, "", nil
		}
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", "", errors.New("must have a port from 1 to 65535")
	}
	return host, strconv.FormatUint(n, 10), nil
}

// ipAddress reads an address whose zone, if it has one, is the name of an interface.
func ipAddress(text string) (netip.Addr, bool) {
	address, err := netip.ParseAddr(text)
	zone := strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-", r) {
			return '%'
		}
		return r
	}, address.Zone())
	return address, err == nil && !strings.Contains(zone, "%")
}

func hostOf(address netip.Addr) string {
	if address.Is4() {
		return address.String()
	}
	return "[" + strings.Replace(address.String(), "%", "%25", 1) + "]"
}

// hostName checks a DNS name (RFC 1123 section 2.1), with the underscores that some networks have.
func hostName(name string) error {
	if name == "" {
		return errors.New("must name a host")
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return nil
	}
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || len(name) > 254 {
			return errors.New("must name a host, such as pve1.example.com")
		}
		for _, r := range label {
			if r > unicode.MaxASCII {
				return errors.New("must name a host in ASCII: write an international name in its xn-- form")
			}
			if !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' && r != '_' {
				return errors.New("must name a host, such as pve1.example.com")
			}
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return errors.New("must name a host: this is neither a name nor a valid IP address")
	}
	return nil
}

func listenAddress(text string) (string, error) {
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", errors.New("must be host:port, such as 127.0.0.1:9746")
	}
	return text, nil
}

func durationWithin(low, high string) func(string) (string, error) {
	return func(text string) (string, error) {
		d, err := time.ParseDuration(text)
		if err != nil {
			return "", errors.New("must be a duration with its unit, such as 45s or 1h30m")
		}
		least, _ := time.ParseDuration(low)
		most, _ := time.ParseDuration(high)
		if d < least || d > most {
			return "", fmt.Errorf("must be a duration from %s to %s", low, high)
		}
		return text, nil
	}
}

func percent(text string) (string, error) {
	if _, err := share(text); err != nil {
		return "", err
	}
	return text, nil
}

// share returns 0.1 for "10%".
func share(text string) (float64, error) {
	number, found := strings.CutSuffix(text, "%")
	n, err := strconv.ParseFloat(number, 64)
	if !found || err != nil || !(n >= 0 && n <= 100) || strings.Trim(number, "0123456789.") != "" {
		return 0, errors.New("must be a percentage from 0% to 100%")
	}
	return n / 100, nil
}

func realmName(text string) (string, error) { return text, realm.ValidateName(text) }

func propertyText(d realm.Definition) func(string) (string, error) {
	return func(text string) (string, error) { return text, d.Validate(realm.Text(text)) }
}

func clientKeyText(text string) (string, error) {
	d, _ := realm.ClientKey.Definition()
	return text, d.Validate(realm.Key(check.NewSecret(text)))
}

// propertyWord checks one word of a property that Proxmox keeps as one text: what it takes for separators cannot be
// in a word (PVE::Tools::split_list).
func propertyWord(d realm.Definition) func(string) (string, error) {
	return func(word string) (string, error) {
		if strings.ContainsAny(word, ",; \t") {
			return "", errors.New("must be a list of single words: no word may contain a comma, a semicolon or white space")
		}
		return word, d.Validate(realm.Words(d.Property, word))
	}
}

// unsetProperty returns a property in the spelling of Proxmox.
func unsetProperty(text string) (string, error) {
	d, ok := realm.ByKey(text)
	if !ok {
		d, ok = realm.Property(text).Definition()
	}
	switch {
	case !ok:
		var names []string
		for _, d := range realm.Definitions() {
			if !d.Required && !d.CreateOnly {
				names = append(names, string(d.Property))
			}
		}
		return "", errors.New("must name a property of an OpenID Connect realm" + suggest(text, names, ""))
	case d.Required:
		return "", fmt.Errorf("must not name %s: a realm cannot be without it", d.Property)
	case d.CreateOnly:
		return "", fmt.Errorf("must not name %s: its removal would silently give every user another name", d.Property)
	}
	return string(d.Property), nil
}

func checkID(text string) (string, error) {
	var ids []string
	for _, e := range check.Catalog() {
		if ids = append(ids, string(e.ID)); string(e.ID) == text {
			return text, nil
		}
	}
	return "", errors.New("must name a check, see `proxmox-realm help checks`" + suggest(text, ids, "."))
}

// suggest returns ": the nearest is …", or "" where nothing is near.
func suggest(written string, candidates []string, separator string) string {
	return suggestion(nearest(written, candidates, separator))
}

func suggestion(near string) string {
	if near == "" {
		return ""
	}
	return ": the nearest is " + near
}
