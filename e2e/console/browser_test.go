package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

const (
	// patience is how long a page may take to reach a state: the machine may be busy with other tests.
	patience = time.Minute
	// pollEvery is the interval between two checks of a condition.
	pollEvery = 25 * time.Millisecond
)

// farName is a name of this machine that a browser does not treat as local. Pages from it over plain HTTP are not a
// secure context, so they have no access to WebCrypto or the clipboard.
const farName = "far.test"

// browser is a real browser with one tab, in which a test performs the actions of a user. Errors in the page fail the
// test when it ends.
type browser struct {
	t       *testing.T
	ctx     context.Context
	origins []string // origins that the page may request

	mu     sync.Mutex
	faults []string // faults of the page: exceptions, console errors, requests to other origins
}

// chromium returns the path of a browser, or "".
func chromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// openBrowser starts a browser with an empty profile. Its pages may send requests to the given origins only.
func openBrowser(t *testing.T, origins []string) *browser {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes its time: none runs with -short")
	}
	path := chromium()
	if path == "" {
		const why = "NO CHROMIUM: the console is not tested in a browser (on Debian: apt-get install chromium)"
		fmt.Fprintln(os.Stderr, why)
		t.Skip(why)
	}
	profile, err := os.MkdirTemp("", "chainstore-e2e-browser-")
	if err != nil {
		t.Fatal(err)
	}
	allocator, end := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()),
		append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.NoSandbox, chromedp.DisableGPU,
			chromedp.NoFirstRun,
			chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
			chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
			chromedp.Flag("lang", "en"), chromedp.Flag("host-resolver-rules", "MAP "+farName+" 127.0.0.1"),
		)...)
	ctx, closeTab := chromedp.NewContext(allocator)
	b := &browser{t: t, ctx: ctx, origins: origins}
	t.Cleanup(func() {
		closeTab()
		end()
		if err := os.RemoveAll(profile); err != nil {
			t.Log(err) // a child process of the browser may still write there
		}
		for _, fault := range b.takeFaults() {
			t.Error(fault)
		}
	})
	b.do(chromedp.Steps())
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	b.size(1280, 900)
	return b
}

// in binds the browser to a subtest, until the subtest ends.
func (b *browser) in(t *testing.T) {
	parent := b.t
	b.t = t
	t.Cleanup(func() { b.t = parent })
}

// hear records events that are faults of the page.
func (b *browser) hear(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.fault("exception: %s", asJSON(e.ExceptionDetails))
	case *runtime.EventConsoleAPICalled:
		if e.Type == "error" || e.Type == "warning" || e.Type == "assert" {
			b.fault("console.%s: %s", e.Type, asJSON(e.Args))
		}
	case *log.EventEntryAdded:
		// The page itself reports error responses and unreachable masters where they are errors.
		if e.Entry.Source != "network" && (e.Entry.Level == "error" || e.Entry.Level == "warning") {
			b.fault("%s: %s", e.Entry.Source, e.Entry.Text)
		}
	case *network.EventRequestWillBeSent:
		u, err := url.Parse(e.Request.URL)
		if err != nil || u.Scheme != "blob" && u.Scheme != "data" &&
			!slices.Contains(b.origins, u.Scheme+"://"+u.Host) {
			b.fault("the page asked %s", e.Request.URL)
		}
	}
}

func asJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (b *browser) fault(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = append(b.faults, "in the browser: "+fmt.Sprintf(format, args...))
}

func (b *browser) takeFaults() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	faults := b.faults
	b.faults = nil
	return faults
}

// do runs one action in the tab.
func (b *browser) do(action chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, action); err != nil {
		b.t.Fatal(err)
	}
}

// eval returns the value of an expression. It waits for a promise.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%v: %s", err, expression)
	}
	return value
}

// size sets the size of the window in CSS pixels.
func (b *browser) size(width, height int64) { b.do(chromedp.EmulateViewport(width, height)) }

// prefer emulates a preference for light or dark colours, and for reduced motion, so that the page does not move during
// a check.
func (b *browser) prefer(scheme string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia,
		emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}})
	if err != nil {
		b.t.Fatal(err)
	}
}

// speak sets the browser's preferred languages.
func (b *browser) speak(languages string) {
	b.t.Helper()
	agent := eval[string](b, `navigator.userAgent`)
	_, err := chromedp.Call(b.ctx, emulation.SetUserAgentOverride,
		emulation.SetUserAgentOverrideParams{UserAgent: agent, AcceptLanguage: languages})
	if err != nil {
		b.t.Fatal(err)
	}
}

// keys presses keys in the element that has the focus.
func (b *browser) keys(keys string) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(keys))
}

// open loads the console from a master.
func (b *browser) open(master string) { b.do(chromedp.Navigate(master + "/")) }

// goTo opens a page of the console that is already loaded, and waits for its heading.
func (b *browser) goTo(page string) {
	b.t.Helper()
	eval[bool](b, fmt.Sprintf(`(location.hash = %q, true)`, "#/"+page))
	b.see("the page "+page, fmt.Sprintf(`location.hash === %q && document.querySelector('main h1') && `+
		`!document.querySelector('.loading')`, "#/"+page))
}

// see waits until a condition is true in the page.
func (b *browser) see(what, condition string) {
	b.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !eval[bool](b, "(async () => Boolean("+condition+"))()") {
		select {
		case <-tick.C:
		case <-deadline.C:
			b.t.Fatalf("%s was not seen within %v: %s\n%s\n%s", what, patience, condition,
				eval[string](b, `location.hash + "\n" + document.body.innerText`), strings.Join(b.takeFaults(), "\n"))
		}
	}
}

// text returns the visible text of the element of a selector.
func (b *browser) text(selector string) string {
	b.t.Helper()
	b.see(selector, fmt.Sprintf(`document.querySelector(%q)`, selector))
	return eval[string](b, fmt.Sprintf(`document.querySelector(%q).innerText`, selector))
}

// click clicks the element of a selector, which must exist and be visible.
func (b *browser) click(selector string) {
	b.t.Helper()
	b.see(selector, fmt.Sprintf(`document.querySelector(%q)?.checkVisibility()`, selector))
	b.do(chromedp.Click(chromedp.CSS(selector)))
}

// press clicks the button with a given text.
func (b *browser) press(text string) {
	b.t.Helper()
	find := fmt.Sprintf(`[...document.querySelectorAll('button, a.button, summary')].findLast((e) => `+
		`e.innerText.trim() === %q && e.checkVisibility() && !e.disabled)`, text)
	b.see("the button "+text, find)
	eval[bool](b, fmt.Sprintf(`(%s.click(), true)`, find))
}

// fill enters text into the field with a given name, as if it were typed.
func (b *browser) fill(name, text string) {
	b.t.Helper()
	field := fmt.Sprintf(`[...document.querySelectorAll('[name=%q]')].findLast((e) => e.checkVisibility())`, name)
	b.see("the field "+name, field)
	eval[bool](b, fmt.Sprintf(`((e) => {
		e.focus(); e.value = %s; e.dispatchEvent(new Event('input', {bubbles: true}));
		e.dispatchEvent(new Event('change', {bubbles: true})); return true;
	})(%s)`, asJSON(text), field))
}

// giveTokens enters the tokens into the console's token form.
func (b *browser) giveTokens(project, admin string) {
	b.t.Helper()
	b.click("#token-button")
	b.see("the box for tokens", `document.querySelector('dialog[open]')`)
	b.fill("token-project", project)
	b.fill("token-admin", admin)
	b.click("dialog button[type=submit]")
	b.see("the box gone", `!document.querySelector('dialog')`)
}
