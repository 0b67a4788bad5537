package realm_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"proxmox-realm/internal/check"

	"pgregory.net/rapid"

	"proxmox-realm/internal/realm"
)

// words draws from few enough words that two draws often meet.
var words = rapid.SampledFrom([]string{"openid", "profile", "email", "groups", "sub", "subject", "username", "preferred_username"})

func drawValue(t *rapid.T, d realm.Definition, separators []string) realm.Value {
	switch d.Form {
	case realm.FormBool:
		return realm.Bool(rapid.Bool().Draw(t, "bool"))
	case realm.FormKey:
		return realm.Key(check.NewSecret(rapid.SampledFrom([]string{"key-one-secret", "key-two-secret"}).Draw(t, "key")))
	case realm.FormSet, realm.FormList:
		list := rapid.SliceOfN(words, 1, 4).Draw(t, "words")
		return realm.Text(strings.Join(list, rapid.SampledFrom(separators).Draw(t, "separator")))
	case realm.FormText:
	}
	return realm.Text(words.Draw(t, "text"))
}

// drawSpec draws a Spec that Validate accepts.
func drawSpec(t *rapid.T) realm.Spec {
	s := realm.Spec{Name: "authelia", Set: realm.Values{}}
	for _, d := range realm.Definitions() {
		separators := []string{","}
		if d.Property == realm.Scopes {
			separators = []string{" ", ",", ";"}
		}
		switch choice := rapid.IntRange(0, 2).Draw(t, string(d.Property)); {
		case d.Required || choice == 1:
			s.Set[d.Property] = drawValue(t, d, separators)
		case choice == 2 && !d.CreateOnly:
			s.Unset = append(s.Unset, d.Property)
		}
	}
	return s
}

// drawStored draws what Proxmox may answer, in every form that some version gives it.
func drawStored(t *rapid.T) store {
	s := store{"type": "openid", "digest": "d1", "future": json.Number("7")}
	for _, d := range realm.Definitions() {
		if !d.Required && rapid.Bool().Draw(t, "absent "+string(d.Property)) {
			continue
		}
		v := drawValue(t, d, []string{" ", ",", ";", ", "})
		switch d.Form {
		case realm.FormKey:
			s[string(d.Property)] = realm.Values{d.Property: v}.Login("").ClientKey.Reveal()
		case realm.FormBool:
			forms := map[string][]any{"0": {0, "0", false, "no"}, "1": {1, "1", true, "on"}}
			s[string(d.Property)] = rapid.SampledFrom(forms[v.String()]).Draw(t, "form")
		case realm.FormText, realm.FormList, realm.FormSet:
			s[string(d.Property)] = v.String()
		}
	}
	return s
}

// store is a realm as Proxmox keeps it: the little of its API that one write needs. nil: absent.
type store map[string]any

func (s store) read(t *rapid.T) realm.Current {
	if s == nil {
		return realm.Current{}
	}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	c, err := realm.ParseCurrent(realm.VE, data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// apply carries a plan out as the API would, and fails where the API would.
func (s store) apply(t *rapid.T, p realm.Plan) store {
	params := p.Params().Reveal()
	next := store{}
	switch p.Action {
	case realm.None:
		return s
	case realm.Create, realm.Replace:
		if params["realm"] != "authelia" || params["type"] != "openid" || params["issuer-url"] == nil || params["client-id"] == nil {
			t.Fatalf("POST %v", params)
		}
		if params["digest"] != nil || params["delete"] != nil {
			t.Fatalf("a POST knows neither digest nor delete: %v", params)
		}
		delete(params, "realm")
	case realm.Update:
		if params["digest"] != s["digest"] || params["digest"] == "" {
			t.Fatalf("PUT with digest %v, stored is %v", params["digest"], s["digest"])
		}
		if len(params) == 1 || params["type"] != nil || params["realm"] != nil || params["username-claim"] != nil {
			t.Fatalf("PUT %v", params)
		}
		maps.Copy(next, s)
		if list, ok := params["delete"].(string); ok {
			for name := range strings.SplitSeq(list, ",") {
				if name == "username-claim" || name == "issuer-url" || name == "client-id" || name == "" {
					t.Fatalf("delete=%s", list)
				}
				if _, both := params[name]; both {
					t.Fatalf("%s is set and deleted: the set wins", name)
				}
				delete(next, name)
			}
		}
		delete(params, "delete")
	case realm.Refuse, realm.Delete:
		t.Fatalf("action %s: %v", p.Action, p.Refusal)
	}
	for name, v := range params {
		if v == "" || v == nil {
			t.Fatalf("%s is sent empty: Proxmox swallows or refuses it", name)
		}
		next[name] = v
	}
	next["digest"] = "d2"
	return next
}

func TestARealmDoesNotDifferFromItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have := drawStored(t).read(t)
		if p := realm.Diff(exported(have), have, realm.Facts{}); !p.Empty() {
			t.Fatalf("%s %s", p.Action, list(p.Changes))
		}
	})
}

func TestApplyingAPlanMakesTheNextOneEmpty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var before store
		if rapid.Bool().Draw(t, "exists") {
			before = drawStored(t)
		}
		want := drawSpec(t)
		have := before.read(t)
		facts := realm.Facts{AllowReplace: true}
		plan := realm.Diff(want, have, facts)
		after := before.apply(t, plan).read(t)
		if next := realm.Diff(want, after, facts); !next.Empty() {
			t.Fatalf("after %s (%s) there is still %s (%s)", plan.Action, list(plan.Changes), next.Action, list(next.Changes))
		}
		foreseen := realm.Spec{Name: want.Name, Set: plan.After().Values}
		if p := realm.Diff(foreseen, after, facts); !p.Empty() {
			t.Fatalf("After foresaw something else: %s", list(p.Changes))
		}
	})
}

func TestAPropertyThatIsNotManagedNeverChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := drawStored(t)
		want := drawSpec(t)
		have := before.read(t)
		plan := realm.Diff(want, have, realm.Facts{AllowReplace: true})
		after := before.apply(t, plan).read(t)
		managed := map[realm.Property]bool{}
		for p := range want.Set {
			managed[p] = true
		}
		for _, p := range want.Unset {
			managed[p] = true
		}
		for _, d := range realm.Definitions() {
			if managed[d.Property] {
				continue
			}
			if plan.Changed(d.Property) {
				t.Fatalf("%s is not managed, and changes", d.Property)
			}
			was, stored := have.Values[d.Property]
			is, still := after.Values[d.Property]
			if stored != still || was.String() != is.String() || have.Values.Login("").ClientKey.Reveal() != after.Values.Login("").ClientKey.Reveal() && d.Property == realm.ClientKey {
				t.Fatalf("%s is not managed: was %v, is %v", d.Property, was, is)
			}
		}
		if !strings.Contains(after.Raw.Reveal(), `"future":7`) {
			t.Fatal("an unknown property got lost")
		}
	})
}

func TestOrderAndSeparatorsOfSetsDoNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(words, 1, 5).Draw(t, "words")
		shuffled := rapid.Permutation(list).Draw(t, "shuffled")
		separator := rapid.SampledFrom([]string{" ", ",", ";", ", ", " ; "}).Draw(t, "separator")
		diff := func(p realm.Property, want, have realm.Value) bool {
			base := spec()
			stored := maps.Clone(base.Set)
			base.Set[p], stored[p] = want, have
			return !realm.Diff(base, realm.Current{Exists: true, Type: realm.Type, Values: stored}, realm.Facts{}).Empty()
		}
		for _, p := range []realm.Property{realm.Scopes, realm.Audiences} {
			if diff(p, realm.Words(p, list...), realm.Text(strings.Join(shuffled, separator))) {
				t.Fatalf("%s: %q differs from %q", p, list, shuffled)
			}
		}
		ordered := strings.Join(list, "|") == strings.Join(shuffled, "|")
		if diff(realm.ACRValues, realm.Words(realm.ACRValues, list...), realm.Text(strings.Join(shuffled, separator))) == ordered {
			t.Fatalf("acr-values: %q against %q", list, shuffled)
		}
	})
}

// hidden wraps values as other packages do: printers that reach unexported fields skip the values' own methods.
type hidden struct {
	Shown  any
	plan   realm.Plan
	params realm.Params
	have   realm.Current
	values realm.Values
	login  realm.Login
}

func TestNoRenderingShowsAClientKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.StringMatching(`[A-Za-z0-9]{12,24}`).Draw(t, "key")
		other := rapid.StringMatching(`[A-Za-z0-9]{12,24}`).Draw(t, "other")
		stored := drawStored(t)
		stored["client-key"] = key
		have := stored.read(t)
		want := drawSpec(t)
		want.Set[realm.ClientKey] = realm.Key(check.NewSecret(other))
		want.Unset = nil
		plan := realm.Diff(want, have, realm.Facts{AllowReplace: rapid.Bool().Draw(t, "allowed")})
		login := plan.After().Values.Login("authelia")

		var out bytes.Buffer
		for _, v := range []any{
			plan, &plan, plan.Changes, plan.Params(), realm.RestoreParams("authelia", have), have, &have, have.Values, want, login, plan.After(), plan.Before(),
			realm.Whole(realm.Unset, have), have.Values[realm.ClientKey], plan.Refusal,
			hidden{plan: plan, params: plan.Params(), have: have, values: have.Values, login: login},
			&hidden{Shown: plan.Params(), params: realm.RestoreParams("authelia", have)},
			map[string]any{"p": plan.Params(), "h": have},
		} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X"} {
				_, _ = fmt.Fprintf(&out, verb+"\n", v)
			}
			data, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			out.Write(data)
			slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
			slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		}
		for _, s := range []string{key, other} {
			for _, form := range []string{s, fmt.Sprintf("%x", s), fmt.Sprintf("%X", s), base64.StdEncoding.EncodeToString([]byte(s))} {
				if i := strings.Index(out.String(), form); i >= 0 {
					t.Fatalf("shown: …%s…", out.String()[max(0, i-80):min(out.Len(), i+80)])
				}
			}
		}
		if !strings.Contains(out.String(), check.Mask) {
			t.Fatal("the key is not even masked: the test looks at nothing")
		}
	})
}
