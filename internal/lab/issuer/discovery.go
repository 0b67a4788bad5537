package issuer

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"strings"
)

// discoveryDocument is what Authelia 4.39.20 publishes, {{issuer}} standing for its URL.
//
//go:embed discovery.json
var discoveryDocument string

// discovery answers with the metadata (OpenID Connect Discovery 1.0, section 4).
func (s *Server) discovery(w http.ResponseWriter, r *http.Request) {
	text := strings.ReplaceAll(discoveryDocument, "{{issuer}}", s.root(r))
	var document map[string]any
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		writeJSON(w, http.StatusInternalServerError, errServer.body())
		return
	}
	document["issuer"] = s.name(r)
	s.mu.Lock()
	for member, value := range s.metadata {
		if value == nil {
			delete(document, member)
		} else {
			document[member] = value
		}
	}
	s.mu.Unlock()
	writeJSON(w, http.StatusOK, document)
}

// writeJSON answers as Authelia does: with the charset that RFC 8259 has no use for.
func writeJSON(w http.ResponseWriter, status int, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}
