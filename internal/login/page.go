package login

import (
	_ "embed" // the page
	"html/template"
	"net/http"

	"proxmox-realm/internal/report"
)

// page is what the browser shows when it comes back. It holds no secret and loads nothing.
type page struct {
	Kind    string // success, failure or refused: the class that colours it
	Title   string
	Message string // like an error: lower case, without a full stop
	Next    string // what to do now
}

func successPage(user string) page {
	return page{
		"success", "The login works", "Proxmox takes you for " + user,
		"You can close this window. The terminal shows what this user may do.",
	}
}

func failurePage(message string) page {
	return page{"failure", "The login did not work", message, "You can close this window. The terminal says what to do."}
}

func refusedPage(message string) page {
	return page{
		"refused", "Nothing was done", message,
		"Go back to the window where you began the login, or begin again in the terminal.",
	}
}

var (
	//go:embed page.html
	document string
	//go:embed page.css
	style string

	layout = template.Must(template.New("page").Parse(document))
	marks  = map[string]string{ // SVG paths: a tick, a cross, an exclamation mark
		"success": "M7.5 12.5l3 3 6-7", "failure": "M8.5 8.5l7 7M15.5 8.5l-7 7", "refused": "M12 7v6M12 16.5v.01",
	}
)

// write answers with the page. The browser's address holds a code, so that nothing may keep it or pass it on.
func (p page) write(w http.ResponseWriter, status int) {
	report.PageHeaders(w.Header(), style)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = layout.Execute(w, struct {
		page
		Style template.CSS
		Mark  string
	}{p, template.CSS(style), marks[p.Kind]}) //nolint:gosec // the style is part of the program
}
