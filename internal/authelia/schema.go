package authelia

import (
	"strings"
	"sync"

	"proxmox-realm/internal/check"
)

// The keys that Authelia 4.39 knows (internal/configuration/schema/keys.go), with those of former versions that it still
// maps (internal/configuration/deprecation.go). It does not start with any other key.
var (
	rootKeys = strings.Fields(`access_control authentication_backend certificates_directory default_2fa_method
		default_redirection_url definitions duo_api identity_providers identity_validation log notifier ntp password_policy
		privacy_policy regulation server session storage telemetry theme totp webauthn
		host port tls_key tls_cert jwt_secret log_level log_file_path log_format logs_level logs_file`)

	providerKeys = strings.Fields(`authorization_policies claims_policies clients cors discovery_signed_response_alg
		discovery_signed_response_key_id enable_client_debug_messages enable_jwt_access_token_stateless_introspection
		enable_pkce_plain_challenge enforce_pkce hmac_secret issuer_certificate_chain issuer_private_key jwks lifespans
		minimum_parameter_entropy require_pushed_authorization_requests scopes
		access_token_lifespan authorize_code_lifespan id_token_lifespan refresh_token_lifespan`)

	clientKeys = strings.Fields(`access_token_encrypted_response_alg access_token_encrypted_response_enc
		access_token_encrypted_response_key_id access_token_signed_response_alg access_token_signed_response_key_id
		allow_multiple_auth_methods audience authorization_encrypted_response_alg authorization_encrypted_response_enc
		authorization_encrypted_response_key_id authorization_policy authorization_signed_response_alg
		authorization_signed_response_key_id claims_policy client_id client_name client_secret consent_mode grant_types
		id_token_encrypted_response_alg id_token_encrypted_response_enc id_token_encrypted_response_key_id
		id_token_signed_response_alg id_token_signed_response_key_id introspection_encrypted_response_alg
		introspection_encrypted_response_enc introspection_encrypted_response_key_id introspection_endpoint_auth_method
		introspection_endpoint_auth_signing_alg introspection_signed_response_alg introspection_signed_response_key_id
		jwks jwks_uri lifespan pkce_challenge_method pre_configured_consent_duration public
		pushed_authorization_request_endpoint_auth_method pushed_authorization_request_endpoint_auth_signing_alg
		redirect_uris request_object_encryption_alg request_object_encryption_enc request_object_signing_alg request_uris
		requested_audience_mode require_pkce require_pushed_authorization_requests response_modes response_types
		revocation_endpoint_auth_method revocation_endpoint_auth_signing_alg scopes sector_identifier_uri
		token_endpoint_auth_method token_endpoint_auth_signing_alg userinfo_encrypted_response_alg
		userinfo_encrypted_response_enc userinfo_encrypted_response_key_id userinfo_signed_response_alg
		userinfo_signed_response_key_id
		id description secret sector_identifier userinfo_signing_algorithm`)

	// inner lists the keys of the mappings below identity_providers.oidc, and of the items of its lists. Authelia does not
	// look at the keys of other mappings there.
	inner = map[string][]string{
		"cors": strings.Fields("allowed_origins allowed_origins_from_client_redirect_uris endpoints"),
		"lifespans": strings.Fields(`access_token authorize_code custom device_code id_token jwt_secured_authorization
			refresh_token`),
		"jwks":  strings.Fields("algorithm certificate_chain key key_id use"),
		"rules": strings.Fields("networks policy subject"), // of authorization policies
	}
)

// formerNames maps the properties that Authelia 4.38 renamed to their former names. Later versions still read the former
// names (internal/configuration/deprecation.go).
var formerNames = map[string]string{
	"client_id":                    "id",
	"client_name":                  "description",
	"client_secret":                "secret",
	"sector_identifier_uri":        "sector_identifier",
	"userinfo_signed_response_alg": "userinfo_signing_algorithm",
}

// policyName is the form of the names that Authelia accepts for policies, lifespans and scopes.
var policyName = check.Pattern(`^[a-zA-Z0-9]([a-zA-Z0-9/_.:~-]*[a-zA-Z0-9])?$`)

// The values that Authelia 4.39 accepts, where it accepts only some (internal/configuration/validator). It compares their
// case too. An empty value means the default.
var (
	authMethods = strings.Fields("none client_secret_post client_secret_basic private_key_jwt client_secret_jwt")
	signing     = strings.Fields("none RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 HS256 HS384 HS512")
	truths      = strings.Fields("1 t T TRUE true True 0 f F FALSE false False") // strconv.ParseBool

	accepted = map[string][]string{
		"public":                                            truths,
		"require_pkce":                                      truths,
		"require_pushed_authorization_requests":             truths,
		"allow_multiple_auth_methods":                       truths,
		"pkce_challenge_method":                             {"S256", "plain"},
		"requested_audience_mode":                           {"explicit", "implicit"},
		"consent_mode":                                      {"auto", "explicit", "implicit", "pre-configured"},
		"token_endpoint_auth_method":                        authMethods,
		"revocation_endpoint_auth_method":                   authMethods,
		"introspection_endpoint_auth_method":                authMethods,
		"pushed_authorization_request_endpoint_auth_method": authMethods,
		"access_token_signed_response_alg":                  signing,
		"authorization_signed_response_alg":                 signing,
		"id_token_signed_response_alg":                      signing[1:],
		"introspection_signed_response_alg":                 signing,
		"userinfo_signed_response_alg":                      signing,
		"grant_types": {
			"authorization_code", "implicit", "client_credentials", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code",
		},
	}
)

// ownWords are values that mean the same in every file. A short secret that is one of them is not recognised by its mask.
var ownWords = sync.OnceValue(func() map[string]bool {
	words := map[string]bool{}
	for _, word := range strings.Fields(`one_factor two_factor deny bypass openid profile email groups offline_access code
		id_token token form_post query yes no on off`) {
		words[word] = true
	}
	for _, values := range accepted {
		for _, v := range values {
			words[v] = true
		}
	}
	return words
})
