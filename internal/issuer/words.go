package issuer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/net/html"

	"proxmox-realm/internal/check"
)

// maxRead is how much of a page is read for its words.
const maxRead = 64 << 10

// fault is an error as an issuer reports it: in JSON (RFC 6749 section 5.2) or in an address (section 4.1.2.1).
type fault struct {
	code string // "error": a code, or a sentence; "": there is no error
	text string // everything that is said about it
}

// String returns "invalid_scope: description hint".
func (f fault) String() string {
	if f.code == "" || f.text == "" {
		return f.code + f.text
	}
	return f.code + ": " + f.text
}

// nothing are values of an error that is none.
var nothing = []string{"", "null", "false", "0", "{}", "[]"}

// faultInJSON reads the error in a JSON body, whatever the status and the content type say.
func faultInJSON(body []byte) fault {
	var object map[string]any
	if json.Unmarshal(body, &object) != nil {
		return fault{}
	}
	found := fault{}
	switch e := object["error"].(type) {
	case string:
		found.code = e
	case map[string]any: // of another API: its values, as in {"code": 403, "message": "forbidden"}
		found.code = strings.Join(memberTexts(e), " ")
	default:
		raw, _ := json.Marshal(e) // came from JSON
		found.code = string(raw)
	}
	if slices.Contains(nothing, found.code) {
		return fault{}
	}
	for _, name := range []string{"error_description", "error_hint", "message"} {
		if said, ok := object[name].(string); ok {
			found.text = strings.TrimSpace(found.text + " " + said)
		}
	}
	return found
}

// memberTexts returns the values of a JSON object, by the order of their names.
func memberTexts(object map[string]any) (all []string) {
	for _, name := range slices.Sorted(maps.Keys(object)) {
		text, isText := object[name].(string)
		if !isText {
			raw, _ := json.Marshal(object[name]) // came from JSON
			text = string(raw)
		}
		all = append(all, text)
	}
	return all
}

// faultInAddress reads the error in the query or the fragment of an address. A parameter whose name ends in "error" counts:
// issuers call it authError or login_error on their own pages.
func faultInAddress(u *url.URL) fault {
	if u == nil {
		return fault{}
	}
	_, inFragment, _ := strings.Cut(u.Fragment, "?") // an address inside a page, such as #/error?error=…
	for _, text := range []string{u.RawQuery, u.Fragment, inFragment} {
		values, _ := url.ParseQuery(text) // what can be read of it
		found := fault{code: values.Get("error")}
		for _, name := range slices.Sorted(maps.Keys(values)) {
			if value := values.Get(name); strings.HasSuffix(strings.ToLower(name), "error") && !slices.Contains(nothing, value) {
				found.code = cmp.Or(found.code, value)
			}
		}
		if found.code != "" {
			found.text = strings.TrimSpace(values.Get("error_description") + " " + values.Get("error_hint"))
			return found
		}
	}
	return fault{}
}

// visible returns the text that a reader of an answer sees, with entities decoded. Of a page it leaves out scripts and markup; a
// body of another type is returned as it is.
func visible(body []byte) string {
	body = body[:min(len(body), maxRead)]
	if !bytes.Contains(body, []byte("<")) {
		return strings.Join(strings.Fields(string(body)), " ")
	}
	var text []string
	hidden := ""
	for page := html.NewTokenizer(bytes.NewReader(body)); ; {
		switch page.Next() {
		case html.ErrorToken:
			return strings.Join(strings.Fields(strings.Join(text, " ")), " ")
		case html.TextToken:
			if hidden == "" {
				text = append(text, string(page.Text()))
			}
		case html.StartTagToken:
			if name, _ := page.TagName(); slices.Contains([]string{"script", "style", "template"}, string(name)) {
				hidden = string(name)
			}
		case html.EndTagToken:
			if name, _ := page.TagName(); string(name) == hidden {
				hidden = ""
			}
		case html.SelfClosingTagToken, html.CommentToken, html.DoctypeToken:
		}
	}
}

// standardCodes are the errors of RFC 6749, OpenID Connect Core 1.0 and RFC 9126.
var standardCodes = check.Pattern(`\b(?:invalid_(?:request|client|grant|scope|redirect_uri|request_uri|request_object|target)|` +
	`unauthorized_client|unsupported_(?:grant_type|response_type|response_mode)|access_denied|redirect_uri_mismatch|` +
	`(?:login|interaction|consent|account_selection)_required)\b`)

// settle replaces the values that a question sent by the declared ones in a text, so that answers can be compared.
func settle(text string, sent, declared values) string {
	var pairs []string
	add := func(from, to string) {
		if from != "" && from != to {
			pairs = append(pairs, from, to, url.QueryEscape(from), url.QueryEscape(to))
		}
	}
	add(sent.redirectURL, declared.redirectURL)
	add(hostOf(sent.redirectURL), hostOf(declared.redirectURL))
	if len(sent.key) >= minKey { // a short one stands in other words by chance
		add(sent.key, declared.key)
	}
	add(sent.client, declared.client)
	return strings.NewReplacer(pairs...).Replace(text)
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

var addresses = check.Pattern(`[A-Za-z][A-Za-z0-9+.-]*://\S*`)

// maxWord is the length from which on a word is taken for an identifier.
const maxWord = 20

// words returns the words of a text that stay the same in two answers to the same question. Addresses go, and words that
// look like identifiers: with a digit, with a capital after a small letter, or long.
func words(text string) string {
	var kept []string
	for word := range strings.FieldsFuncSeq(addresses().ReplaceAllString(text, " "), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-.'’", r)
	}) {
		word = strings.Trim(word, "-.'’")
		if word != "" && len([]rune(word)) <= maxWord && !looksMade(word) {
			kept = append(kept, word)
		}
	}
	return strings.Join(kept, " ")
}

func looksMade(word string) bool {
	small := false
	for _, r := range word {
		if unicode.IsDigit(r) || small && unicode.IsUpper(r) {
			return true
		}
		small = unicode.IsLower(r)
	}
	return false
}

// again returns ", again in 30s", or "" if the issuer named no time.
func again(after time.Duration) string {
	if after <= 0 {
		return ""
	}
	return fmt.Sprintf(", again in %s", after)
}
