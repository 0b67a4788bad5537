package login

import (
	"crypto/sha256"
	_ "embed" // the page
	"encoding/base64"
	"fmt"
	"html"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// page is what the browser shows when it comes back: success or failure in plain words, without anything secret, in one
// document that loads nothing.
type page struct {
	kind    string // the class that colours it
	mark    string // the path of the sign: a tick, a cross, a stroke and a dot
	title   string
	message string
	next    string // what to do now
}

func successPage(user string) page {
	return page{
		kind: "success", mark: "M7.5 12.5l3 3 6-7", title: "The login works",
		message: "Proxmox takes you for " + user,
		next:    "You can close this window. The terminal shows what this user may do.",
	}
}

// failurePage and refusedPage take a message in the style of errors: lower case, without a full stop.
func failurePage(message string) page {
	return page{
		kind: "failure", mark: "M8.5 8.5l7 7M15.5 8.5l-7 7", title: "The login did not work",
		message: sentence(message),
		next:    "You can close this window. The terminal says what to do.",
	}
}

func refusedPage(message string) page {
	return page{
		kind: "refused", mark: "M12 7v6M12 16.5v.01", title: "Nothing was done",
		message: sentence(message),
		next:    "Go on where the login was begun, or begin again in the terminal.",
	}
}

// sentence makes a message one for a page.
func sentence(message string) string {
	first, size := utf8.DecodeRuneInString(message)
	return string(unicode.ToUpper(first)) + strings.TrimRight(message[size:], ".") + "."
}

//go:embed page.html
var document string

// policy lets the page be as it was written, and nothing else be in it (Content Security Policy Level 3, section 4.2.3).
var policy = sync.OnceValue(func() string {
	_, rest, _ := strings.Cut(document, "<style>")
	style, _, _ := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(style))
	return fmt.Sprintf("default-src 'none'; style-src 'sha256-%s'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		base64.StdEncoding.EncodeToString(sum[:]))
})

// write answers with the page. The address that it has in the browser holds a code, spent or not: nothing keeps or
// passes it on.
func (p page) write(w http.ResponseWriter, status int) {
	text := strings.NewReplacer(
		"{kind}", p.kind, "{mark}", p.mark,
		"{title}", html.EscapeString(p.title), "{message}", html.EscapeString(p.message), "{next}", html.EscapeString(p.next),
	).Replace(document)
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	h.Set("Content-Security-Policy", policy())
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}
