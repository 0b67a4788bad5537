package issuer

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"maps"
	"net/http"
)

// discoveryDocument is what Authelia 4.39.20 publishes, {{issuer}} standing for its URL.
//
//go:embed discovery.json
var discoveryDocument []byte

// discovery answers with the metadata (OpenID Connect Discovery 1.0, section 4).
func (s *Server) discovery(w http.ResponseWriter, r *http.Request) {
	root := s.root(r)
	text := bytes.ReplaceAll(discoveryDocument, []byte("{{issuer}}"), []byte(root))
	s.mu.Lock()
	changes := maps.Clone(s.metadata)
	s.mu.Unlock()
	if name := s.name(r); name != root {
		if _, set := changes["issuer"]; !set {
			changes["issuer"] = name
		}
	}
	var document map[string]any
	if err := json.Unmarshal(text, &document); err != nil {
		errServer.write(w)
		return
	}
	for member, value := range changes {
		if value == nil {
			delete(document, member)
		} else {
			document[member] = value
		}
	}
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
