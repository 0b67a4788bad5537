package report

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
)

// PageHeaders sets the headers of every page of this program. The page may use the given inline style and nothing else. No
// other page may frame it, read it or keep it (Content Security Policy Level 3).
func PageHeaders(h http.Header, style string) {
	sum := sha256.Sum256([]byte(style))
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}
