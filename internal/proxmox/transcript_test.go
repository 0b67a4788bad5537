package proxmox_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/check"

	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

// recorded is one exchange with the real handlers.
type recorded struct {
	ID, Auth, Method, Path, Body string
	Response                     struct {
		Status          int
		Reason          string
		ContentType     *string `json:"content_type"`
		ConnectionClose bool    `json:"connection_close"`
		SetCookie       string  `json:"set_cookie"`
		Body            json.RawMessage
	}
}

func transcripts(t *testing.T) []recorded {
	t.Helper()
	return read(t, "proxmox-ve-9.2.json", "proxmox-ve-9.2-users.json", "proxmox-ve-9.2-access.json", "proxmox-ve-9.2-init.json")
}

func read(t *testing.T, names ...string) []recorded {
	t.Helper()
	var all []recorded
	for _, name := range names {
		raw, err := os.ReadFile("../lab/testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		var file struct{ Exchanges []recorded }
		if err := json.Unmarshal(raw, &file); err != nil {
			t.Fatal(err)
		}
		all = append(all, file.Exchanges...)
	}
	if len(all) < 100 {
		t.Fatalf("only %d exchanges", len(all))
	}
	return all
}

func (r recorded) answer() answer {
	a := answer{Status: r.Response.Status, Reason: r.Response.Reason, Open: !r.Response.ConnectionClose, Type: "-"}
	if r.Response.ContentType != nil {
		a.Type = *r.Response.ContentType
	}
	if r.Response.SetCookie != "" {
		a.Header = "Set-Cookie: " + r.Response.SetCookie + "\r\n"
	}
	var asText string
	if json.Unmarshal(r.Response.Body, &asText) == nil {
		a.Body = asText
	} else {
		a.Body = string(r.Response.Body)
	}
	return a
}

// older is the answer of a node before libpve-http-server 5.2.0: without message.
func (r recorded) older() answer {
	a := r.answer()
	var body map[string]json.RawMessage
	if json.Unmarshal([]byte(a.Body), &body) == nil {
		delete(body, "message")
		raw, _ := json.Marshal(body)
		a.Body = string(raw)
	}
	return a
}

// refusals lists the kind and code of every recorded answer outside 2xx.
var refusals = map[string]struct {
	kind proxmox.Kind
	code check.Code
}{
	"version-anonymous":         {proxmox.BadCredentials, check.BadCredentials},
	"version-wrong-secret":      {proxmox.BadCredentials, check.BadCredentials},
	"create-anonymous":          {proxmox.BadCredentials, check.BadCredentials},
	"read-wrong-secret":         {proxmox.BadCredentials, check.BadCredentials},
	"read-malformed-token":      {proxmox.BadCredentials, check.BadCredentials},
	"users-anonymous":           {proxmox.BadCredentials, check.BadCredentials},
	"read-missing":              {proxmox.Absent, check.Conflict},
	"update-missing":            {proxmox.Absent, check.Conflict},
	"delete-missing":            {proxmox.Absent, check.Conflict},
	"auth-url-missing":          {proxmox.NoRealm, check.ProxmoxFailed},
	"read-missing-no-privilege": {proxmox.PermissionDenied, check.PermissionDenied},
	"create-no-privilege":       {proxmox.PermissionDenied, check.PermissionDenied},
	"create-auditor":            {proxmox.PermissionDenied, check.PermissionDenied},
	"read-privsep":              {proxmox.PermissionDenied, check.PermissionDenied},
	"update-auditor":            {proxmox.PermissionDenied, check.PermissionDenied},
	"delete-auditor":            {proxmox.PermissionDenied, check.PermissionDenied},
	"user-as-auditor":           {proxmox.PermissionDenied, check.PermissionDenied},
	"create-without-issuer":     {proxmox.Invalid, check.Config},
	"create-without-client-id":  {proxmox.Invalid, check.Config},
	"create-without-type":       {proxmox.Invalid, check.Config},
	"create-unknown-property":   {proxmox.UnknownProperty, check.UnknownProperty},
	"create-capital-realm":      {proxmox.UnknownProperty, check.UnknownProperty},
	"create-verify":             {proxmox.UnknownProperty, check.UnknownProperty},
	"create-autocreate-yes":     {proxmox.Invalid, check.Config},
	"create-bad-realm":          {proxmox.Invalid, check.Config},
	"create-long-issuer":        {proxmox.Invalid, check.Config},
	"create-bad-groups-claim":   {proxmox.Invalid, check.Config},
	"create-empty-groups-claim": {proxmox.Invalid, check.Config},
	"create-pam":                {proxmox.Exists, check.Conflict},
	"create-type-oidc":          {proxmox.Invalid, check.Config},
	"create-comment-null":       {proxmox.Invalid, check.Config},
	"create-broken-json":        {proxmox.Failed, check.ProxmoxFailed},
	"create-text-plain":         {proxmox.Failed, check.ProxmoxFailed},
	"create-again":              {proxmox.Exists, check.Conflict},
	"update-stale-digest":       {proxmox.StaleDigest, check.Conflict},
	"update-nothing":            {proxmox.Failed, check.ProxmoxFailed},
	"update-only-digest":        {proxmox.Failed, check.ProxmoxFailed},
	"update-username-claim-same": {
		proxmox.UnknownProperty, check.UnknownProperty,
	},
	"update-type":            {proxmox.UnknownProperty, check.UnknownProperty},
	"update-realm-other":     {proxmox.Invalid, check.Config},
	"update-groups":          {proxmox.Invalid, check.Config},
	"delete-option-bad-name": {proxmox.Invalid, check.Config},
	"delete-option-required": {proxmox.Invalid, check.Config},
	"delete-with-body":       {proxmox.Failed, check.ProxmoxFailed},
	"auth-url-pam":           {proxmox.WrongType, check.WrongType},
	"auth-url-long":          {proxmox.Invalid, check.Config},
	"auth-url-unreachable":   {proxmox.IssuerUnreachable, check.ProxmoxFailed},
	"login-bad-state":        {proxmox.LoginRefused, check.Internal},
	"unknown-path":           {proxmox.Failed, check.ProxmoxFailed},
	"head":                   {proxmox.Failed, check.ProxmoxFailed},

	"role-unknown":                   {proxmox.Absent, check.Conflict},
	"create-group-twice":             {proxmox.Exists, check.Conflict},
	"create-group-bad-name":          {proxmox.Invalid, check.Config},
	"create-group-colon":             {proxmox.Invalid, check.Config},
	"create-group-unicode":           {proxmox.Invalid, check.Config},
	"group-absent":                   {proxmox.Absent, check.Conflict},
	"create-group-as-realm-allocate": {proxmox.PermissionDenied, check.PermissionDenied},
	"create-group-as-sys-audit":      {proxmox.PermissionDenied, check.PermissionDenied},
	"grant-bad-path":                 {proxmox.Invalid, check.Config},
	"grant-unknown-role":             {proxmox.UnknownRole, check.Config},
	"grant-unknown-group":            {proxmox.Absent, check.Conflict},
	"grant-unknown-user":             {proxmox.Absent, check.Conflict},
	"grant-one-of-two-unknown":       {proxmox.Absent, check.Conflict},
	"grant-nothing":                  {proxmox.Invalid, check.Config},
	"grant-as-realm-allocate":        {proxmox.PermissionDenied, check.PermissionDenied},
	"grant-as-sys-audit":             {proxmox.PermissionDenied, check.PermissionDenied},
	"revoke-unknown-group":           {proxmox.Absent, check.Conflict},
	"remove-group-again":             {proxmox.Absent, check.Conflict},
	"remove-unicode":                 {proxmox.Invalid, check.Config},

	"login-wrong-password":         {proxmox.BadCredentials, check.BadCredentials},
	"login-unknown-user":           {proxmox.BadCredentials, check.BadCredentials},
	"login-unknown-realm":          {proxmox.BadCredentials, check.BadCredentials},
	"login-no-realm":               {proxmox.BadCredentials, check.BadCredentials},
	"login-no-password":            {proxmox.Invalid, check.Config},
	"login-with-token":             {proxmox.PermissionDenied, check.PermissionDenied},
	"role-create-without-csrf":     {proxmox.BadCredentials, check.BadCredentials},
	"version-bad-cookie":           {proxmox.BadCredentials, check.BadCredentials},
	"role-create-again":            {proxmox.Exists, check.Conflict},
	"role-append-without-privs":    {proxmox.Invalid, check.Config},
	"role-read-missing":            {proxmox.Absent, check.Conflict},
	"role-update-missing":          {proxmox.Absent, check.Conflict},
	"role-bad-privilege":           {proxmox.Invalid, check.Config},
	"role-odd-name":                {proxmox.Invalid, check.Config},
	"role-pve-name":                {proxmox.Invalid, check.Config},
	"role-builtin-update":          {proxmox.Failed, check.ProxmoxFailed},
	"user-create-again":            {proxmox.Exists, check.Conflict},
	"user-read-missing":            {proxmox.Absent, check.Conflict},
	"user-odd-name":                {proxmox.Invalid, check.Config},
	"user-no-realm":                {proxmox.Invalid, check.Config},
	"user-short-password":          {proxmox.Invalid, check.Config},
	"user-unknown-group":           {proxmox.Failed, check.ProxmoxFailed},
	"token-read-missing":           {proxmox.Absent, check.Conflict},
	"token-create-again":           {proxmox.Exists, check.Conflict},
	"token-create-unknown-user":    {proxmox.Absent, check.Conflict},
	"token-odd-name":               {proxmox.Invalid, check.Config},
	"token-short-name":             {proxmox.Invalid, check.Config},
	"token-no-acl":                 {proxmox.PermissionDenied, check.PermissionDenied},
	"acl-unknown-role":             {proxmox.UnknownRole, check.Config},
	"acl-unknown-user":             {proxmox.Absent, check.Conflict},
	"acl-unknown-token":            {proxmox.Absent, check.Conflict},
	"acl-bad-token":                {proxmox.Invalid, check.Config},
	"acl-bad-path":                 {proxmox.Invalid, check.Config},
	"acl-nobody":                   {proxmox.Invalid, check.Config},
	"token-cluster-status":         {proxmox.PermissionDenied, check.PermissionDenied},
	"token-old-secret":             {proxmox.BadCredentials, check.BadCredentials},
	"token-delete-again":           {proxmox.Absent, check.Conflict},
	"token-expired-use":            {proxmox.BadCredentials, check.BadCredentials},
	"admin-half-ticket":            {proxmox.BadCredentials, check.BadCredentials},
	"admin-second-step-wrong":      {proxmox.BadCredentials, check.BadCredentials},
	"admin-second-step-no-type":    {proxmox.BadCredentials, check.BadCredentials},
	"admin-second-step-other-user": {proxmox.BadCredentials, check.BadCredentials},
	"admin-one-step-no-type":       {proxmox.BadCredentials, check.BadCredentials},
	"admin-role-create-again":      {proxmox.Exists, check.Conflict},
	"pveadmin-role":                {proxmox.PermissionDenied, check.PermissionDenied},
	"pveadmin-acl-set":             {proxmox.PermissionDenied, check.PermissionDenied},
	"none-role":                    {proxmox.PermissionDenied, check.PermissionDenied},
	"none-user":                    {proxmox.PermissionDenied, check.PermissionDenied},
	"none-user-read":               {proxmox.PermissionDenied, check.PermissionDenied},
	"none-token":                   {proxmox.PermissionDenied, check.PermissionDenied},
	"none-token-own":               {proxmox.PermissionDenied, check.PermissionDenied},
	"none-token-delete":            {proxmox.PermissionDenied, check.PermissionDenied},
	"none-acl":                     {proxmox.PermissionDenied, check.PermissionDenied},
	"none-permissions":             {proxmox.PermissionDenied, check.PermissionDenied},
	"realm-admin-acl":              {proxmox.PermissionDenied, check.PermissionDenied},
	"token-of-deleted-user":        {proxmox.BadCredentials, check.BadCredentials},
	"role-delete-again":            {proxmox.Absent, check.Conflict},
	"role-delete-builtin":          {proxmox.Failed, check.ProxmoxFailed},
}

// Every recorded answer has the right kind and code, with and without the message in the body.
func TestTranscripts(t *testing.T) {
	all := transcripts(t)
	var current answer
	n := start(t, func(*call) answer { return current })
	c := connect(t, nil, n)
	met := map[string]bool{}
	for _, r := range all {
		for _, a := range []answer{r.answer(), r.older()} {
			if r.Method == http.MethodHead {
				a.Body = "" // the status line suffices for this test
				r.Method = http.MethodGet
			}
			current = a
			err := c.Send(t.Context(), r.Method, r.Path, r.Body)
			if r.Response.Status == http.StatusOK {
				if err != nil {
					t.Errorf("%s: a success is %v", r.ID, err)
				}
				continue
			}
			want, listed := refusals[r.ID]
			met[r.ID] = true
			if !listed {
				t.Errorf("%s: %d %s is not listed here", r.ID, r.Response.Status, r.Response.Reason)
				continue
			}
			var e *proxmox.Error
			if !errors.As(err, &e) {
				t.Errorf("%s: no error of ours: %v", r.ID, err)
				continue
			}
			if e.Kind != want.kind || check.CodeOf(err) != want.code || e.Status != r.Response.Status {
				t.Errorf("%s: kind %s, code %s, status %d, want %s, %s, %d", r.ID, e.Kind, check.CodeOf(err), e.Status, want.kind, want.code, r.Response.Status)
			}
			conflict := want.kind == proxmox.Absent || want.kind == proxmox.StaleDigest || want.kind == proxmox.Exists
			if errors.Is(err, realm.ErrConflict) != conflict {
				t.Errorf("%s: ErrConflict is %v", r.ID, !conflict)
			}
			if errors.Is(err, realm.ErrLost) {
				t.Errorf("%s: a refusal is no lost answer", r.ID)
			}
			if strings.TrimSpace(e.Error()) == "" || strings.HasSuffix(e.Error(), ".") && !strings.HasSuffix(e.Error(), e.Reason) {
				t.Errorf("%s: message %q", r.ID, e.Error())
			}
		}
	}
	for id := range refusals {
		if !met[id] {
			t.Errorf("%s is in no transcript", id)
		}
	}
}

func byID(t *testing.T, id string) recorded {
	t.Helper()
	all := transcripts(t)
	i := slices.IndexFunc(all, func(r recorded) bool { return r.ID == id })
	if i < 0 {
		t.Fatalf("no exchange %s", id)
	}
	return all[i]
}

// Details of the recorded answers reach the caller.
func TestDetailsOfRecordedRefusals(t *testing.T) {
	var current answer
	n := start(t, func(*call) answer { return current })
	c := connect(t, nil, n)
	ask := func(id string) *proxmox.Error {
		t.Helper()
		r := byID(t, id)
		current = r.answer()
		var e *proxmox.Error
		if !errors.As(c.Send(t.Context(), r.Method, r.Path, r.Body), &e) {
			t.Fatalf("%s: no error", id)
		}
		return e
	}

	e := ask("create-no-privilege")
	if e.DeniedPath != "/access/realm" || !slices.Equal(e.Privileges, []string{"Realm.Allocate"}) {
		t.Errorf("privilege: %q %q", e.DeniedPath, e.Privileges)
	}
	var f *check.Error
	if !errors.As(e, &f) || !strings.Contains(f.Hint.For(check.Names{}), "pveum acl modify /access/realm --tokens 'realmadm@pve!agent' --roles RealmAdmin") ||
		!strings.Contains(f.Hint.For(check.Names{}), "--users realmadm@pve") {
		t.Errorf("the hint must name the pveum line for token and user: %q", f.Hint.For(check.Names{}))
	}
	if e := ask("read-missing-no-privilege"); !slices.Equal(e.Privileges, []string{"Realm.Allocate", "Sys.Audit"}) {
		t.Errorf("alternatives: %q", e.Privileges)
	}
	for id, want := range map[string][]realm.Property{
		"create-unknown-property": {"nonsense"}, "create-verify": {"verify"}, "create-capital-realm": {"Realm"},
	} {
		var unknown *realm.UnknownPropertyError
		if !errors.As(ask(id), &unknown) || !slices.Equal(unknown.Properties, want) {
			t.Errorf("%s: %v", id, unknown)
		}
	}
	e = ask("update-groups")
	if len(e.Fields) != 2 || e.Fields["acr-values"] != "value does not match the regex pattern" {
		t.Errorf("fields: %q", e.Fields)
	}
	if !errors.As(e, &f) || !strings.Contains(f.Hint.For(check.Names{}), "set realm.acr_values\nset realm.audiences") || !strings.Contains(f.Message, "acr-values: value does not match") {
		t.Errorf("invalid: %q, %q", f.Message, f.Hint.For(check.Names{}))
	}
}
