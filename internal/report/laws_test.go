package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

// hostile is text as it might come from anywhere: controls, escapes, direction overrides, broken UTF-8.
var hostile = rapid.Custom(func(t *rapid.T) string {
	pieces := rapid.SliceOfN(rapid.OneOf(
		rapid.String(),
		rapid.SampledFrom([]string{
			"\x1b[31m", "\x1b]0;title\x07", "\u009b2J", "\x00", "\r\n", "\xff\xfe", "\u202e", "\u2066", "\u2028", "\U000e0041",
			"]]>", "<x>&", `"\`, "é", "日本", "https://auth.example.com", "\ufffe", "\x7f", "\x85",
		}),
	), 0, 4).Draw(t, "pieces")
	return strings.Join(pieces, "")
})

// anyRun is a run of every shape, whose changes are those of a real plan that rotates the client key.
func anyRun(t *rapid.T, oldKey, newKey string) fleet.Run {
	outcome := rapid.SampledFrom(reconcile.Outcomes())
	failure := rapid.Custom(func(t *rapid.T) error {
		f := check.Errorf(check.PermissionDenied, "%s", hostile.Draw(t, "message")).Try(check.Hintf("%s", hostile.Draw(t, "hint")))
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			return f
		case 1:
			return fmt.Errorf("read realm: %w", f)
		case 2:
			return errors.Join(f, check.Errorf(check.Config, "second"))
		case 3:
			return errors.New(hostile.Draw(t, "plain"))
		}
		return nil
	})
	values := func(name string) *rapid.Generator[realm.Values] {
		return rapid.Custom(func(t *rapid.T) realm.Values {
			vs := realm.Values{realm.IssuerURL: realm.Text(hostile.Draw(t, name))}
			for _, p := range []realm.Property{realm.Comment, realm.Scopes, realm.Prompt} {
				if rapid.Bool().Draw(t, string(p)) {
					vs[p] = realm.Text(hostile.Draw(t, name))
				}
			}
			return vs
		})
	}
	finding := rapid.Custom(func(t *rapid.T) check.Check {
		return check.Check{
			ID:       rapid.SampledFrom(check.Catalog()).Draw(t, "entry").ID,
			Status:   rapid.SampledFrom([]check.Status{check.Pass, check.Warn, check.Fail, check.Skip}).Draw(t, "status"),
			Summary:  hostile.Draw(t, "summary"),
			Evidence: hostile.Draw(t, "evidence"),
			Hint:     check.Hints(check.Hintf("%s", hostile.Draw(t, "hint"))),
			Duration: time.Duration(rapid.Int64Range(0, 1e11).Draw(t, "duration")),
		}
	})
	run := fleet.Run{
		Command: rapid.SampledFrom([]string{"plan", "apply", "verify", "delete", "probe"}).Draw(t, "command"),
		Outcome: outcome.Draw(t, "outcome"), Err: failure.Draw(t, "error"),
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "targets") {
		have := realm.Current{Exists: true, Type: realm.Type, Values: values("have").Draw(t, "have")}
		have.Values[realm.ClientKey] = realm.Key(check.NewSecret(oldKey))
		want := realm.Spec{Name: "authelia", Set: values("want").Draw(t, "want"), Unset: []realm.Property{realm.Autocreate}}
		want.Set[realm.ClientKey] = realm.Key(check.NewSecret(newKey))
		plan := realm.Diff(want, have, realm.Facts{})
		target := reconcile.Result{
			Name: fmt.Sprintf("t%d", i), Endpoint: hostile.Draw(t, "endpoint"), Realm: rapid.SampledFrom([]string{"", "authelia"}).Draw(t, "realm"),
		}
		target.Outcome, target.Action, target.Changes = outcome.Draw(t, "outcome"), plan.Action, plan.Changes
		target.Checks = rapid.SliceOfN(finding, 0, 5).Draw(t, "checks")
		target.Warnings = rapid.SliceOfN(hostile, 0, 2).Draw(t, "warnings")
		target.Err = failure.Draw(t, "error")
		run.Targets = append(run.Targets, target)
	}
	return run
}

// news says the same of every target of a run.
func news(run fleet.Run, text string) []report.News {
	out := []report.News{{Text: text}}
	for range run.Targets {
		out = append(out, report.News{Text: text})
	}
	return out
}

func TestEveryRenderingIsSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.StringMatching(`[A-Za-z0-9]{16,24}`)
		oldKey, newKey := key.Draw(t, "old key"), key.Draw(t, "new key")
		run := anyRun(t, oldKey, newKey)
		style := report.Style{
			ASCII: rapid.Bool().Draw(t, "ascii"), Width: rapid.IntRange(0, 120).Draw(t, "width"),
			Quiet: rapid.Bool().Draw(t, "quiet"), Verbose: rapid.Bool().Draw(t, "verbose"), OmitErrors: rapid.Bool().Draw(t, "omit errors"),
		}
		var text, block, jsonOut, lines bytes.Buffer
		for _, err := range []error{
			report.Text(&text, run, style), report.Block(&block, run, news(run, "failed"), style), report.JSON(&jsonOut, run, by),
			report.JSONLines(&lines, run, by),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		metrics := exposition(run, success)
		for name, out := range map[string][]byte{
			"text": text.Bytes(), "block": block.Bytes(), "json": jsonOut.Bytes(), "jsonl": lines.Bytes(), "metrics": metrics,
		} {
			if !utf8.Valid(out) {
				t.Fatalf("%s: not UTF-8: %q", name, out)
			}
			if i := bytes.IndexFunc(out, func(r rune) bool { return r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) }); i >= 0 {
				t.Fatalf("%s: a character that steers the terminal: %q", name, out[i:])
			}
			if bytes.Contains(out, []byte(oldKey)) || bytes.Contains(out, []byte(newKey)) {
				t.Fatalf("%s shows a client key: %q", name, out)
			}
		}
		if style.ASCII {
			if i := bytes.IndexFunc(text.Bytes(), func(r rune) bool { return r >= utf8.RuneSelf }); i >= 0 {
				t.Fatalf("not ASCII: %q", text.Bytes()[i:])
			}
		}
		if n := bytes.Count(jsonOut.Bytes(), []byte("\n")); n != 1 {
			t.Fatalf("the JSON report is %d lines", n)
		}
		if _, err := parseMetrics(metrics); err != nil {
			t.Fatalf("%v\n%s", err, metrics)
		}
		var decoded struct {
			Targets []struct {
				Checks  []struct{ Summary string }
				Changes []struct{ Before, After *string }
				Error   *struct{ Message string }
			}
		}
		if err := json.Unmarshal(jsonOut.Bytes(), &decoded); err != nil {
			t.Fatalf("%v\n%s", err, jsonOut.Bytes())
		}
		for i, target := range run.Targets {
			for j, c := range target.Checks {
				if got, want := decoded.Targets[i].Checks[j].Summary, strings.ToValidUTF8(c.Summary, "\uFFFD"); !sameText(got, want) {
					t.Fatalf("summary came back as %q, was %q", got, want)
				}
			}
			for j, c := range target.Changes {
				got := decoded.Targets[i].Changes[j]
				if (got.Before == nil) != (c.Before == nil) || (got.After == nil) != (c.After == nil) {
					t.Fatalf("null where a value was, or the reverse: %+v, was %+v", got, c)
				}
			}
			if (decoded.Targets[i].Error == nil) != (target.Err == nil) {
				t.Fatalf("error: %+v, was %v", decoded.Targets[i].Error, target.Err)
			}
		}
	})
}

// sameText compares up to how many replacement characters stand for broken bytes, on which decoders differ.
func sameText(a, b string) bool {
	squeeze := func(s string) string {
		for strings.Contains(s, "\uFFFD\uFFFD") {
			s = strings.ReplaceAll(s, "\uFFFD\uFFFD", "\uFFFD")
		}
		return s
	}
	return squeeze(a) == squeeze(b)
}
