package authelia

// clientKeys holds every key of a client with the first version that knows it
// (IdentityProvidersOpenIDConnectClient in Authelia's internal/configuration/schema). Authelia does not start with any other.
var clientKeys = map[string]Version{
	"audience":                        Oldest,
	"authorization_policy":            Oldest,
	"grant_types":                     Oldest,
	"pre_configured_consent_duration": Oldest,
	"public":                          Oldest,
	"redirect_uris":                   Oldest,
	"response_modes":                  Oldest,
	"response_types":                  Oldest,
	"scopes":                          Oldest,

	"consent_mode": {4, 37},

	"access_token_signed_response_alg":      {4, 38},
	"access_token_signed_response_key_id":   {4, 38},
	"authorization_signed_response_alg":     {4, 38},
	"authorization_signed_response_key_id":  {4, 38},
	"client_id":                             {4, 38},
	"client_name":                           {4, 38},
	"client_secret":                         {4, 38},
	"id_token_signed_response_alg":          {4, 38},
	"id_token_signed_response_key_id":       {4, 38},
	"introspection_signed_response_alg":     {4, 38},
	"introspection_signed_response_key_id":  {4, 38},
	"jwks":                                  {4, 38},
	"jwks_uri":                              {4, 38},
	"lifespan":                              {4, 38},
	"pkce_challenge_method":                 {4, 38},
	"request_object_signing_alg":            {4, 38},
	"requested_audience_mode":               {4, 38},
	"require_pkce":                          {4, 38},
	"require_pushed_authorization_requests": {4, 38},
	"sector_identifier_uri":                 {4, 38},
	"token_endpoint_auth_method":            {4, 38},
	"token_endpoint_auth_signing_alg":       {4, 38},
	"userinfo_signed_response_alg":          {4, 38},
	"userinfo_signed_response_key_id":       {4, 38},

	"access_token_encrypted_response_alg":                    {4, 39},
	"access_token_encrypted_response_enc":                    {4, 39},
	"access_token_encrypted_response_key_id":                 {4, 39},
	"allow_multiple_auth_methods":                            {4, 39},
	"authorization_encrypted_response_alg":                   {4, 39},
	"authorization_encrypted_response_enc":                   {4, 39},
	"authorization_encrypted_response_key_id":                {4, 39},
	"claims_policy":                                          {4, 39},
	"id_token_encrypted_response_alg":                        {4, 39},
	"id_token_encrypted_response_enc":                        {4, 39},
	"id_token_encrypted_response_key_id":                     {4, 39},
	"introspection_encrypted_response_alg":                   {4, 39},
	"introspection_encrypted_response_enc":                   {4, 39},
	"introspection_encrypted_response_key_id":                {4, 39},
	"introspection_endpoint_auth_method":                     {4, 39},
	"introspection_endpoint_auth_signing_alg":                {4, 39},
	"pushed_authorization_request_endpoint_auth_method":      {4, 39},
	"pushed_authorization_request_endpoint_auth_signing_alg": {4, 39},
	"request_object_encryption_alg":                          {4, 39},
	"request_object_encryption_enc":                          {4, 39},
	"request_uris":                                           {4, 39},
	"revocation_endpoint_auth_method":                        {4, 39},
	"revocation_endpoint_auth_signing_alg":                   {4, 39},
	"userinfo_encrypted_response_alg":                        {4, 39},
	"userinfo_encrypted_response_enc":                        {4, 39},
	"userinfo_encrypted_response_key_id":                     {4, 39},
}

// formerNames maps the keys that 4.38 renamed to what they were called before. Later versions still read the former
// names, where the new one is absent, and log a warning (internal/configuration/deprecation.go).
var formerNames = map[string]string{
	"client_id":                    "id",
	"client_name":                  "description",
	"client_secret":                "secret",
	"sector_identifier_uri":        "sector_identifier",
	"userinfo_signed_response_alg": "userinfo_signing_algorithm",
}

// newNames is the reverse of formerNames.
var newNames = func() map[string]string {
	names := map[string]string{}
	for now, former := range formerNames {
		names[former] = now
	}
	return names
}()

// standardClaims are the claims that a claims policy may name without defining them (validOIDCClientClaims).
var standardClaims = []string{
	"address", "alt_emails", "birthdate", "email", "email_verified", "family_name", "gender", "given_name",
	"groups", "locale", "middle_name", "name", "nickname", "phone_number", "phone_number_verified", "picture",
	"preferred_username", "profile", "rat", "updated_at", "website", "zoneinfo",
}

// defaultScopes are what a client may ask for that lists no scopes.
var defaultScopes = []string{"openid", "groups", "profile", "email"}
