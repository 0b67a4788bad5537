package login

import (
	_ "embed" // the page
	"html/template"
	"net/http"
	"sync"

	"proxmox-realm/internal/report"
)

// page is what the browser shows when it comes back. It holds no secret and loads nothing.
type page struct {
	Class   string // the class that colours it
	Title   string
	Message string // like an error: lower case, without a full stop
	Next    string // what to do now
	Mark    string // an SVG path: a tick, a cross, an exclamation mark
}

var (
	success = page{
		Class: "success", Title: "The login works", Mark: "M7.5 12.5l3 3 6-7",
		Next: "You can close this window. The terminal shows what this user may do.",
	}
	failure = page{
		Class: "failure", Title: "The login did not work", Mark: "M8.5 8.5l7 7M15.5 8.5l-7 7",
		Next: "You can close this window. The terminal says what to do.",
	}
	refused = page{
		Class: "refused", Title: "Nothing was done", Mark: "M12 7v6M12 16.5v.01",
		Next: "Go back to the window where you began the login, or begin again in the terminal.",
	}

	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string

	layout = sync.OnceValue(func() *template.Template { // at first use: most commands need no page
		return template.Must(template.New("page").Funcs(template.FuncMap{
			"style": func() template.CSS { return template.CSS(pageCSS) }, //nolint:gosec // the style is part of the program
		}).Parse(pageHTML))
	})
)

func (p page) saying(message string) page {
	p.Message = message
	return p
}

// write answers with the page. The browser's address holds a code, so that nothing may keep it or pass it on.
func (p page) write(w http.ResponseWriter, status int) {
	report.PageHeaders(w.Header(), pageCSS)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = layout().Execute(w, p)
}
