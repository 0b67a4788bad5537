package issuer

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"sync"
)

// discoveryDocument is what Authelia 4.39.20 publishes, {{issuer}} standing for its URL.
//
//go:embed discovery.json
var discoveryDocument []byte

// compactDiscovery is the document as it goes over the wire.
var compactDiscovery = sync.OnceValue(func() string {
	var buffer bytes.Buffer
	if err := json.Compact(&buffer, discoveryDocument); err != nil {
		return string(discoveryDocument) // valid or not, a test reads it
	}
	return buffer.String()
})

// discovery answers with the metadata (OpenID Connect Discovery 1.0, section 4).
func (s *Server) discovery(w http.ResponseWriter, r *http.Request) {
	root := s.root(r)
	text := strings.ReplaceAll(compactDiscovery(), "{{issuer}}", root)
	s.mu.Lock()
	changes := maps.Clone(s.metadata)
	s.mu.Unlock()
	if name := s.name(r); name != root {
		if _, set := changes["issuer"]; !set {
			changes["issuer"] = name
		}
	}
	if len(changes) == 0 {
		writeJSON(w, http.StatusOK, json.RawMessage(text))
		return
	}

	var document map[string]any
	if err := json.Unmarshal([]byte(text), &document); err != nil {
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
