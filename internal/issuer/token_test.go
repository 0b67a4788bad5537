package issuer

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// plain settles nothing.
func plainText(text string) string { return text }

func tokenAnswer(status int, code string) answer {
	body := `{"error":"` + code + `","error_description":"trace 4711 of it"}`
	return answer{url: "https://auth.example.test/token", status: status, header: http.Header{}, body: []byte(body)}
}

func introspected(active bool) answer {
	body := `{"active":false}`
	if active {
		body = `{"active":true}`
	}
	return answer{url: "https://auth.example.test/introspect", status: http.StatusOK, header: http.Header{}, body: []byte(body)}
}

// TestKeyRule holds what real issuers and imitations answer about a client's key, and what the rule makes of it.
func TestKeyRule(t *testing.T) {
	type answers = map[string]answer
	grant, client, unauthorized := tokenAnswer(400, "invalid_grant"), tokenAnswer(401, "invalid_client"), tokenAnswer(401, "unauthorized_client")
	right := tokenReply(client, "", plainText).Mark
	for _, tt := range []struct {
		name    string
		rule    keyRule
		answers answers
		want    Decision
		cause   cause
		warns   bool
		asked   string
	}{
		// A key that gets another answer than a made-up one.
		{"Authelia, Dex, Hydra, django: right", keyRule{hasKey: true}, answers{"D": grant, "K": client}, Accepted, "", false, "D K"},
		{"remembered", keyRule{hasKey: true, known: Known{Key: right}}, answers{"D": grant}, Accepted, "", false, "D"},
		{"with introspection", keyRule{hasKey: true, introspects: true}, answers{"D": grant, "K": client, "I": introspected(false), "IK": client}, Accepted, "", false, "D K I IK"},
		{"with introspection, remembered", keyRule{hasKey: true, introspects: true, known: Known{Key: right, Introspection: right}}, answers{"D": grant, "I": introspected(false)}, Accepted, "", false, "D I"},
		{"introspection that takes other methods", keyRule{hasKey: true, introspects: true}, answers{"D": grant, "K": client, "I": client}, Accepted, "", false, "D K I"},
		{"a policy on methods that real codes meet", keyRule{hasKey: true, introspects: true}, answers{"D": grant, "K": client, "I": tokenAnswer(400, "invalid_request")}, Accepted, "", true, "D K I"},
		{"Keycloak: right", keyRule{hasKey: true}, answers{"D": grant, "K": unauthorized}, Accepted, "", false, "D K"},
		{"Pocket ID: right", keyRule{hasKey: true}, answers{"D": tokenAnswer(400, "Invalid authorization code"), "K": tokenAnswer(400, "Invalid client secret")}, Accepted, "", false, "D K"},
		{"glewlwyd: right", keyRule{hasKey: true}, answers{"D": tokenAnswer(403, "invalid_code"), "K": tokenAnswer(403, "unauthorized_client")}, Accepted, "", false, "D K"},
		{"a mock that gives tokens for any code", keyRule{hasKey: true}, answers{"D": with(200, `{"access_token":"x"}`), "K": client}, Accepted, "", false, "D K"},
		{"no code flow", keyRule{hasKey: true}, answers{"D": tokenAnswer(400, "unauthorized_client"), "K": client}, Rejected, ofNotKey, false, "D K"},
		{"Keycloak, standard flow off", keyRule{hasKey: true}, answers{"D": tokenAnswer(400, "unauthorized_client"), "K": unauthorized}, Rejected, ofNotKey, false, "D K"},
		{"node-oidc-provider, no code flow", keyRule{hasKey: true}, answers{"D": tokenAnswer(400, "invalid_request"), "K": client}, Accepted, "", true, "D K"},
		{"a key whose client is refused", keyRule{hasKey: true}, answers{"D": tokenAnswer(400, "invalid_client"), "K": client}, Rejected, ofNotKey, false, "D K"},

		// A key that gets the same answer as a made-up one, about the code.
		{"zitadel/oidc: looks at the code first", keyRule{hasKey: true}, answers{"D": grant, "K": grant, "C": grant}, NoVerdict, "", false, "D K C"},
		{"the same, and introspection proves the key", keyRule{hasKey: true, introspects: true}, answers{"D": grant, "K": grant, "I": introspected(false), "IK": client}, Accepted, "", false, "D K I IK"},
		{"the same, and the key is wrong", keyRule{hasKey: true, introspects: true}, answers{"D": grant, "K": grant, "I": client, "C": grant}, NoVerdict, "", false, "D K I C"},
		{"the same, and introspection answers 200 to all", keyRule{hasKey: true, introspects: true}, answers{"D": grant, "K": grant, "I": introspected(false), "IK": introspected(false), "C": grant}, NoVerdict, "", false, "D K I IK C"},
		{"a public client with a key that is not looked at", keyRule{hasKey: true}, answers{"D": grant, "K": grant, "C": client}, Accepted, ofPublic, false, "D K C"},
		{"the same, remembered", keyRule{hasKey: true, known: Known{Key: tokenReply(grant, "", plainText).Mark, Client: right}}, answers{"D": grant}, Accepted, ofPublic, false, "D"},
		{"a control that has trouble", keyRule{hasKey: true}, answers{"D": grant, "K": grant, "C": with(503, "down")}, NoVerdict, "", false, "D K C"},

		// The same answer, a refusal.
		{"a wrong key", keyRule{hasKey: true}, answers{"D": client, "K": client, "C": client}, Rejected, ofAny, false, "D K C"},
		{"a wrong key of a client that the authorization endpoint accepts", keyRule{hasKey: true, clientKnown: true, redirectOK: true}, answers{"D": client, "K": client, "C": client}, Rejected, ofKeyOrMethod, false, "D K C"},
		{"Keycloak: a wrong key", keyRule{hasKey: true}, answers{"D": unauthorized, "K": unauthorized, "C": client}, Rejected, ofKeyOrMethod, false, "D K C"},
		{"Pocket ID: an unknown client", keyRule{hasKey: true}, answers{"D": tokenAnswer(404, "Client not found"), "K": tokenAnswer(404, "Client not found"), "C": tokenAnswer(404, "Client not found")}, Rejected, ofAny, false, "D K C"},
		{"memory does not serve a refusal", keyRule{hasKey: true, known: Known{Key: right}}, answers{"D": tokenAnswer(400, "invalid_client"), "K": tokenAnswer(400, "invalid_client"), "C": tokenAnswer(400, "invalid_client")}, Rejected, ofAny, false, "D K C"},
		{"the key is proven, and the client refused", keyRule{hasKey: true, introspects: true}, answers{"D": client, "K": client, "I": introspected(false), "IK": client}, Rejected, ofNotKey, false, "D K I IK"},
		{"the key was proven before", keyRule{hasKey: true, introspects: true, known: Known{Proven: true, Introspection: right}}, answers{"D": client, "K": client, "I": client}, Rejected, ofKey, false, "D K I"},
		{"an endpoint that redirects", keyRule{hasKey: true}, answers{"D": with(307, ""), "K": with(307, ""), "C": with(307, "")}, Rejected, ofAny, false, "D K C"},
		{"a page for all", keyRule{hasKey: true}, answers{"D": with(404, loginPage), "K": with(404, loginPage), "C": with(404, loginPage)}, Rejected, ofAny, false, "D K C"},

		{"a gateway that names the request", keyRule{hasKey: true}, answers{"D": with(403, `{"error":{"code":403,"message":"forbidden","request":"a1b2"}}`), "K": with(403, `{"error":{"code":403,"message":"forbidden","request":"c3d4"}}`), "C": with(403, `{"error":{"code":403,"message":"forbidden","request":"e5f6"}}`)}, Rejected, ofAny, false, "D K C"},
		{"a sentence that names the request", keyRule{hasKey: true}, answers{"D": tokenAnswer(400, "Bad Request a1b2"), "K": tokenAnswer(400, "Bad Request c3d4"), "C": tokenAnswer(400, "Bad Request e5f6")}, Rejected, ofAny, false, "D K C"},
		{"an object that names the request: right", keyRule{hasKey: true}, answers{"D": with(400, `{"error":{"message":"Invalid verification code","trace":"a1b2"}}`), "K": with(400, `{"error":{"message":"Wrong client secret","trace":"c3d4"}}`)}, Accepted, "", false, "D K"},

		// Which one, for a person.
		{"another method", keyRule{hasKey: true, person: true}, answers{"D": client, "K": client, "C": client, "post": grant, "postK": client}, Rejected, ofMethod, false, "D K C post postK"},
		{"another method or characters", keyRule{hasKey: true, person: true, special: true}, answers{"D": client, "K": client, "C": client, "post": grant, "postK": client, "plain": client}, Rejected, ofMethodOrChars, false, "D K C post postK plain"},
		{"characters", keyRule{hasKey: true, person: true, special: true}, answers{"D": client, "K": client, "C": client, "post": grant, "postK": client, "plain": grant}, Rejected, ofChars, false, "D K C post postK plain"},
		{"a public client that refuses a key", keyRule{hasKey: true, person: true}, answers{"D": client, "K": client, "C": client, "post": client, "none": grant}, Rejected, ofPublic, false, "D K C post none"},
		{"a wrong key, after all", keyRule{hasKey: true, person: true, special: true}, answers{"D": client, "K": client, "C": client, "post": client, "none": client, "plain": client}, Rejected, ofAny, false, "D K C post none plain"},
		{"the cause was found before", keyRule{hasKey: true, person: true, known: Known{Refused: right, Cause: ofMethod}}, answers{"D": client, "K": client, "C": client}, Rejected, ofMethod, false, "D K C"},
		{"a limit during the diagnosis", keyRule{hasKey: true, person: true}, answers{"D": client, "K": client, "C": client, "post": with(429, "")}, Rejected, ofAny, false, "D K C post"},

		{"Authelia, client_secret_post: introspection proves the key", keyRule{hasKey: true, person: true, introspects: true}, answers{"D": client, "K": client, "I": introspected(false), "IK": client, "post": grant, "postK": client}, Rejected, ofMethod, false, "D K I IK post postK"},
		{"the same, with special characters", keyRule{hasKey: true, person: true, introspects: true, special: true}, answers{"D": client, "K": client, "I": introspected(false), "IK": client, "post": grant, "postK": client}, Rejected, ofMethod, false, "D K I IK post postK"},
		{"a proven key, and neither method", keyRule{hasKey: true, person: true, introspects: true}, answers{"D": client, "K": client, "I": introspected(false), "IK": client, "post": client}, Rejected, ofNotKey, false, "D K I IK post"},

		// Trouble and limits.
		{"no answer", keyRule{hasKey: true}, answers{"D": noAnswer()}, NoVerdict, "", false, "D"},
		{"503", keyRule{hasKey: true}, answers{"D": with(503, "down")}, NoVerdict, "", false, "D"},
		{"500 with an error", keyRule{hasKey: true}, answers{"D": tokenAnswer(500, "invalid_client")}, NoVerdict, "", false, "D"},
		{"the control has no answer", keyRule{hasKey: true}, answers{"D": grant, "K": noAnswer()}, NoVerdict, "", false, "D K"},
		{"a limit", keyRule{hasKey: true}, answers{"D": with(429, "")}, RateLimited, "", false, "D"},
		{"a limit at the control", keyRule{hasKey: true}, answers{"D": grant, "K": with(429, "")}, RateLimited, "", false, "D K"},

		// No key.
		{"a public client", keyRule{}, answers{"D": grant, "C": client}, Accepted, ofPublic, false, "D C"},
		{"a public client, and an endpoint that looks at the code first", keyRule{}, answers{"D": grant, "C": grant}, NoVerdict, "", false, "D C"},
		{"a client that needs a key", keyRule{}, answers{"D": client, "C": client}, Rejected, ofNoKey, false, "D C"},
		{"memory does not serve its refusal", keyRule{known: Known{Client: right}}, answers{"D": client, "C": client}, Rejected, ofNoKey, false, "D C"},

		// What costs a right key nothing.
		{"free: proven as remembered", keyRule{hasKey: true, free: true, introspects: true, known: Known{Introspection: right}}, answers{"I": introspected(false)}, Accepted, "", false, "I"},
		{"free: nothing is remembered", keyRule{hasKey: true, free: true, introspects: true}, answers{"I": introspected(false)}, NoVerdict, "", false, "I"},
		{"free: a wrong key", keyRule{hasKey: true, free: true, introspects: true, known: Known{Introspection: right}}, answers{"I": client}, NoVerdict, "", false, "I"},
		{"free: a key that was proven before", keyRule{hasKey: true, free: true, introspects: true, known: Known{Introspection: right, Proven: true}}, answers{"I": client}, Rejected, ofKey, false, "I"},
		{"free: 200 to all", keyRule{hasKey: true, free: true, introspects: true, known: Known{Introspection: tokenReply(introspected(false), "", plainText).Mark}}, answers{"I": introspected(false)}, NoVerdict, "", false, "I"},
		{"free: a limit", keyRule{hasKey: true, free: true, introspects: true}, answers{"I": with(429, "")}, RateLimited, "", false, "I"},
		{"free: no introspection", keyRule{hasKey: true, free: true}, answers{}, NoVerdict, "", false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			issuer := &table{T: t, answers: tt.answers, read: func(_ string, a answer) reply { return tokenReply(a, "", plainText) }}
			rule := tt.rule
			rule.ask = issuer.ask
			j := rule.judge()
			if asked := strings.Join(issuer.asked, " "); j.decision != tt.want || j.cause != tt.cause || j.warns != tt.warns || asked != tt.asked {
				t.Errorf("%s about %q, warns %t, after %s; want %s about %q, warns %t, after %s\n%+v",
					j.decision, j.cause, j.warns, asked, tt.want, tt.cause, tt.warns, tt.asked, j)
			}
			tokens := len(slices.DeleteFunc(issuer.asked, func(question string) bool { return question[0] == 'I' }))
			if limit := map[bool]int{false: 4, true: 6}[rule.person]; tokens > limit {
				t.Errorf("%d token requests", tokens)
			}
			if j.decision != Rejected && j.why == "" {
				t.Errorf("no reason: %+v", j)
			}
		})
	}
}

func TestAboutTheCode(t *testing.T) {
	for code, want := range map[string]bool{
		"invalid_grant": true, "invalid_code": true, "Invalid authorization code": true, "bad grant": true,
		"invalid_client": false, "unsupported_grant_type": false, "invalid_request": false, "unauthorized_client": false,
		"Invalid client secret": false, "Client not found": false, "decode error": false, "": false,
	} {
		if got := (fault{code: code}).isAboutCode(); got != want {
			t.Errorf("%q: %t", code, got)
		}
	}
}

// A made-up key has the length and the special characters of the declared one, and is another key.
func TestMadeUpValues(t *testing.T) {
	for _, key := range []string{"a", "9", "p+q/r s&t%u:key-0123456789", "--", "ключ", "!", "AbC-123_xyz", strings.Repeat("a", 300)} {
		made := madeUpKey(key)
		if made == key || len([]rune(made)) != len([]rune(key)) {
			t.Errorf("%q of %q", made, key)
		}
		for i, r := range []rune(key) {
			special := !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", r)
			if i > 0 && special && []rune(made)[i] != r {
				t.Errorf("%q of %q: the special characters differ", made, key)
			}
		}
	}
	if madeUpKey("") != "" {
		t.Error("a key from nothing")
	}
	for declared, form := range map[string]func(string) bool{
		"proxmox":                              func(s string) bool { return s == MadeUp },
		MadeUp:                                 func(s string) bool { return s != MadeUp },
		"0f0d8c6e-5b9e-4a53-9f5c-0123456789ab": uuidForm().MatchString,
		"234567890123456789@project":           func(s string) bool { return numberForm().MatchString(s) && strings.HasSuffix(s, "@project") },
		"234567890123456789":                   numberForm().MatchString,
	} {
		if made := madeUpClient(declared); made == declared || !form(made) {
			t.Errorf("%q of %q", made, declared)
		}
	}
	for declared, want := range map[string]string{
		"https://pve.example.test:8006": otherURL, "https://pve.example.test": "https://proxmox-realm-verify.invalid",
		"http://127.0.0.1:8000/callback": "https://proxmox-realm-verify.invalid:8000",
	} {
		if got := madeUpRedirect(declared); got != want {
			t.Errorf("%s of %s", got, declared)
		}
	}
}
