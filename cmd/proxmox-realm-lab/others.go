package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// api is how to reach the realms of a product.
type api struct {
	item          string // path of one realm
	authorization string // before the token
	repeats       bool   // whether each property to delete is a parameter of its own
}

var apis = map[string]api{
	"pve": {"/access/domains/", "PVEAPIToken=", false},
	"pbs": {"/config/access/openid/", "PBSAPIToken=", true},
	"pdm": {"/config/access/openid/", "PDMAPIToken=", true},
}

// current is the product of the lab that runs this command.
func current() api { return apis[cmp.Or(os.Getenv("LAB_PRODUCT"), "pve")] }

// show prints a realm, or the names of all, the client key masked.
func show(arguments []string, stdout io.Writer) error {
	names, err := parse(quiet("show"), arguments)
	if err != nil {
		return err
	}
	switch len(names) {
	case 0:
		return showAll(stdout)
	case 1:
	default:
		return usage("show takes one realm")
	}
	var properties map[string]any
	if err := call(http.MethodGet, current().item+url.PathEscape(names[0]), nil, &properties); err != nil {
		return err
	}
	keys := make([]string, 0, len(properties))
	for key := range properties {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		value := fmt.Sprint(properties[key])
		if key == "client-key" {
			value = "(sensitive)"
		}
		if _, err := fmt.Fprintf(stdout, "%s: %s\n", key, value); err != nil {
			return err
		}
	}
	return nil
}

func showAll(stdout io.Writer) error {
	var realms []struct{ Realm, Type, Comment string }
	if err := call(http.MethodGet, "/access/domains", nil, &realms); err != nil {
		return err
	}
	for _, realm := range realms {
		if _, err := fmt.Fprintf(stdout, "%-16s %-8s %s\n", realm.Realm, realm.Type, realm.Comment); err != nil {
			return err
		}
	}
	return nil
}

// set changes a realm, without the digest that a careful client would send.
func set(arguments []string, _ io.Writer) error {
	flags := quiet("set")
	removed := flags.String("delete", "", "")
	rest, err := parse(flags, arguments)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return usage("set takes a realm")
	}
	form := url.Values{}
	for _, pair := range rest[1:] {
		property, value, ok := strings.Cut(pair, "=")
		if !ok || property == "" {
			return usage("%q is not PROPERTY=VALUE", property)
		}
		form.Set(property, value)
	}
	switch {
	case *removed != "" && current().repeats:
		form["delete"] = strings.Split(*removed, ",")
	case *removed != "":
		form.Set("delete", *removed)
	}
	if len(form) == 0 {
		return usage("nothing to set")
	}
	return call(http.MethodPut, current().item+url.PathEscape(rest[0]), form, nil)
}

// remove removes a realm.
func remove(arguments []string, _ io.Writer) error {
	names, err := parse(quiet("remove"), arguments)
	if err != nil {
		return err
	}
	if len(names) != 1 {
		return usage("remove takes one realm")
	}
	return call(http.MethodDelete, current().item+url.PathEscape(names[0]), nil, nil)
}

// call asks the lab's Proxmox as root. An error carries the reason phrase, where Proxmox VE puts its messages, or the
// text of the body, as the other products do.
func call(method, path string, form url.Values, data any) error {
	endpoint, token := os.Getenv("LAB_ENDPOINT"), os.Getenv("LAB_TOKEN_ROOT")
	if endpoint == "" || token == "" {
		return fmt.Errorf("LAB_ENDPOINT and LAB_TOKEN_ROOT are not set: run this in a lab")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if file := os.Getenv("LAB_CA_FILE"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s holds no certificate", file)
		}
	}
	client := &http.Client{
		Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true},
		Timeout:   45 * time.Second,
	}

	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	request, err := http.NewRequest(method, strings.TrimSuffix(endpoint, "/")+"/api2/json"+path, body)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", current().authorization+token)
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	var answer struct {
		Data   json.RawMessage   `json:"data"`
		Errors map[string]string `json:"errors"`
	}
	unreadable := json.Unmarshal(text, &answer)
	if response.StatusCode/100 != 2 {
		refused := fmt.Errorf("%s %s: %s", method, path, response.Status)
		if unreadable != nil {
			refused = fmt.Errorf("%s %s: %s: %s", method, path, response.Status, text)
		}
		for property, reason := range answer.Errors {
			refused = errors.Join(refused, fmt.Errorf("%s: %s", property, reason))
		}
		return refused
	}
	if unreadable != nil || data == nil {
		return unreadable
	}
	return json.Unmarshal(answer.Data, data)
}
