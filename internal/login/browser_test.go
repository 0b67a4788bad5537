//go:build browser

package login_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/login"
)

// chromium starts a browser that trusts the lab.
func chromium(t *testing.T) context.Context {
	t.Helper()
	var program string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if found, err := exec.LookPath(name); err == nil {
			program = found
			break
		}
	}
	if program == "" {
		t.Fatal("no chromium: the browser suite needs one")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.IgnoreCertErrors, chromedp.WindowSize(1000, 700),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("no-proxy-server", true),
	)
	ctx, stop := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...) // it is closed in the end
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // the browser lives as long as the context of the first call
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Error(err)
		}
	})
	patient, cancel := context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	return patient
}

// A person with a browser logs in: login page, consent, and the page at which the rehearsal ends, in both colour schemes.
// SCREENSHOTS names a folder in which to look at them.
func TestInABrowser(t *testing.T) {
	for _, scheme := range []string{"light", "dark"} {
		for _, decision := range []string{"accept", "deny"} {
			t.Run(scheme+"/"+decision, func(t *testing.T) {
				s := set(t, lab.Options{})
				ctx := chromium(t)
				var title, text, background, href string
				var wide bool
				visit := func(address string) error {
					err := chromedp.Do(ctx,
						prefer(scheme),
						chromedp.Navigate(address),
						chromedp.WaitVisible(chromedp.ID("username-textfield")),
						screenshot(scheme+"-login"),
						chromedp.SendKeys(chromedp.ID("username-textfield"), s.Username),
						chromedp.SendKeys(chromedp.ID("password-textfield"), s.Password),
						chromedp.Click(chromedp.ID("sign-in-button")),
						chromedp.WaitVisible(chromedp.ID("openid-consent-"+decision)),
						screenshot(scheme+"-consent"),
						chromedp.Click(chromedp.ID("openid-consent-"+decision)),
						chromedp.WaitVisible(chromedp.CSS("main.success, main.failure")),
						screenshot(scheme+"-"+decision),
					)
					if err != nil {
						return err
					}
					return errors.Join(
						ask(ctx, &title, chromedp.Title()), ask(ctx, &text, chromedp.Text(chromedp.CSS("main"))), ask(ctx, &href, chromedp.Location()),
						ask(ctx, &background, chromedp.Evaluate[string](`getComputedStyle(document.body).backgroundColor`)),
						chromedp.Do(ctx, chromedp.EmulateViewport(360, 640), screenshot(scheme+"-"+decision+"-narrow")),
						ask(ctx, &wide, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > 360`)),
					)
				}
				done := make(chan error, 1)
				r := s.rehearse(func(address string) error {
					err := visit(address)
					done <- err
					return err
				}, func(o *login.Options) { o.Wait = time.Minute })
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(href, r.RedirectURL+"?") {
					t.Error("the browser ended somewhere else")
				}
				if wide {
					t.Error("a telephone has to scroll sideways")
				}
				if want := map[string]string{"light": "rgb(243, 244, 246)", "dark": "rgb(17, 20, 24)"}[scheme]; background != want {
					t.Errorf("the background is %s, want %s: the style did not pass the page's own policy", background, want)
				}
				if decision == "accept" {
					if r.Err != nil || r.User != "john@authelia" || !strings.Contains(title, "The login works") || !strings.Contains(text, "john@authelia") {
						t.Errorf("error %v, user %q, title %q, page %q", r.Err, r.User, title, text)
					}
				} else if r.Err == nil || !strings.Contains(title, "The login did not work") || !strings.Contains(text, "access_denied") {
					t.Errorf("error %v, title %q, page %q", r.Err, title, text)
				}
			})
		}
	}
}

// ask runs an action for its value.
func ask[T any](ctx context.Context, into *T, action chromedp.Action[T]) error {
	value, err := chromedp.Run(ctx, action)
	*into = value
	return err
}

// prefer is the user's choice of light or dark.
func prefer(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	})
}

// screenshot writes what the browser shows.
func screenshot(name string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		folder := os.Getenv("SCREENSHOTS")
		if folder == "" {
			return nil
		}
		image, err := chromedp.CaptureScreenshot()(ctx, target)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(folder, name+".png"), image, 0o600)
	})
}
