package console

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/oidc"
)

// startIssuer runs a real issuer, the program of e2e/issuer, whose client "console" may send browsers back to some
// URLs. It returns the issuer's URL.
func startIssuer(t *testing.T, redirects []string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "issuer")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	build.Dir = filepath.Join("..", "issuer")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the issuer: %v\n%s", err, out)
	}
	issuer := exec.Command(binary, "-redirects", strings.Join(redirects, ","))
	issuer.Stderr = os.Stderr
	stdin, err := issuer.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := issuer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := issuer.Start(); err != nil {
		t.Fatal(err)
	}
	line, readErr := bufio.NewReader(stdout).ReadString('\n')
	t.Cleanup(func() {
		if err := stdin.Close(); err != nil {
			t.Error(err)
		}
		if err := issuer.Wait(); err != nil {
			t.Errorf("the issuer: %v", err)
		}
	})
	if readErr != nil {
		t.Fatalf("the issuer has not started: %v", readErr)
	}
	return strings.TrimSpace(line)
}

// arrive waits until a condition is true in a page that the browser is going to.
func (b *browser) arrive(what, condition string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(pollEvery) {
		// Between two pages there is none in which to evaluate it.
		there, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("Boolean("+condition+")"))
		if err == nil && there {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s was not seen within %v: %s, %v\n%s", what, patience, condition, err,
				strings.Join(b.takeFaults(), "\n"))
		}
	}
}

// signIn signs a user in at the issuer's page, to which the browser is going.
func (b *browser) signIn(user string) {
	b.t.Helper()
	b.arrive("the issuer's page", `document.querySelector('input[name=username]')`)
	b.fill("username", user)
	b.fill("password", "secret")
	eval[bool](b, `(setTimeout(() => document.querySelector('form').submit()), true)`)
	b.arrive("the console", `document.querySelector('#token-button')`)
}

// TestConsoleSignIn signs in at a real issuer, with the authorization code flow and PKCE.
func TestConsoleSignIn(t *testing.T) {
	b := openBrowser(t, nil) // first: it may skip the test
	var issuer string
	c := startCluster(t, func(topology *devcluster.Topology) {
		var back []string
		for _, master := range topology.MasterURLs() {
			back = append(back, master+"/")
		}
		issuer = startIssuer(t, back)
		topology.OIDC = oidc.Options{
			Issuer: issuer, Audiences: []string{"console"},
			ClaimRoles: "groups", Roles: []string{"admins=admin"},
			ClaimProjects: "groups", Projects: []string{"lab=1:read,append"},
			ConsoleClient: "console", ConsoleScopes: oidc.DefaultScopes(),
		}
	})
	masters := c.File().Masters
	b.origins = append([]string{issuer}, masters...)
	begin := func(page string) {
		b.t.Helper()
		b.goTo(page)
		b.see("that one can sign in", `document.querySelector('#token-button').innerText.includes('Sign in')`)
		b.click("#token-button")
		b.click("dialog .field .primary")
	}
	signedIn := func(user string) string {
		return fmt.Sprintf(`document.querySelector('#token-button').innerText.includes(%q)`, user)
	}
	const kept = `sessionStorage.getItem('chainstore.session')`
	signOut := func() {
		b.t.Helper()
		b.click("#token-button")
		b.press("Sign out")
		b.see("that nobody is signed in",
			`document.querySelector('#token-button').innerText.includes('Sign in') && `+kept+` === null`)
	}
	b.open(masters[0])

	t.Run("with a role and a project", func(t *testing.T) {
		b.in(t)
		begin("find?by=key")
		b.signIn("ada")
		b.see("who is signed in", signedIn("ada"))
		if at := eval[string](b, `location.href`); at != masters[0]+"/#/find?by=key" {
			t.Errorf("the page is %s", at)
		}
		if left := eval[bool](b, `Object.keys(sessionStorage).includes('chainstore.signin') || `+
			`Object.keys(localStorage).length > 0 || document.cookie !== ''`); left {
			t.Error("something of the attempt is left in the browser")
		}
		b.goTo("add")
		b.fill("text", "by ada")
		b.press("Append")
		b.see("the receipt", `document.querySelector('.receipt')?.innerText.includes('block')`)
		b.goTo("projects")
		b.fill("name", "of ada")
		b.press("Create a project")
		b.text("#new-token")
		b.press("I have saved it")
		signOut()
	})
	t.Run("with a project", func(t *testing.T) {
		b.in(t)
		begin("add")
		b.signIn("grace")
		b.see("who is signed in", signedIn("grace"))
		b.fill("text", "by grace")
		b.press("Append")
		b.see("the receipt", `document.querySelector('.receipt')?.innerText.includes('block')`)
		b.goTo("projects/1")
		if eval[bool](b, `document.querySelector('[name=label]') !== null`) {
			t.Error("a user without a role is offered the tokens of the project")
		}
	})
	t.Run("a session that ends", func(t *testing.T) {
		b.in(t)
		b.goTo("add")
		b.fill("text", "typed and not sent")
		// A master that refuses the token has the same effect as its end.
		eval[bool](b, `(async () => {
			const settings = await import('/console/js/settings.js');
			settings.session().token += 'x';
			return true;
		})()`)
		b.see("that nobody is signed in",
			`document.querySelector('#token-button').innerText.includes('Sign in') && `+kept+` === null`)
		if text := eval[string](b, `document.querySelector('[name=text]').value`); text != "typed and not sent" {
			t.Errorf("the page has the text %q", text)
		}
		b.press("Append")
		b.see("the way back",
			`[...document.querySelectorAll('.problem button')].some((e) => e.innerText === 'Sign in')`)
		eval[bool](b, `(setTimeout(() => [...document.querySelectorAll('.problem button')].`+
			`find((e) => e.innerText === 'Sign in').click()), true)`)
		b.signIn("grace")
		b.see("the same page", signedIn("grace")+` && location.hash === '#/add'`)
		signOut()
	})
	t.Run("without rights", func(t *testing.T) {
		b.in(t)
		begin("overview")
		b.signIn("nobody")
		if got := b.text("dialog"); !strings.Contains(got, "no role and no project") {
			t.Errorf("the dialog has %s", got)
		}
		b.press("Close")
		if eval[bool](b, kept+` !== null`) {
			t.Error("a session is kept")
		}
	})
	t.Run("answers that were not asked for", func(t *testing.T) {
		b.in(t)
		for _, query := range []string{"?code=stolen&state=x", "?error=access_denied&state=x"} {
			b.do(chromedp.Navigate(masters[0] + "/" + query))
			if got := b.text("dialog"); !strings.Contains(got, "does not belong to an attempt of this tab") {
				t.Errorf("the dialog has %s", got)
			}
			if at := eval[string](b, `location.search`); at != "" {
				t.Errorf("the address still has %s", at)
			}
		}
		b.press("Close")
		// Another state than that of the attempt of this tab.
		eval[bool](b, `(sessionStorage.setItem('chainstore.signin', `+
			`JSON.stringify({state: 'a', page: '#/chain'})), true)`)
		b.do(chromedp.Navigate(masters[0] + "/?code=stolen&state=b"))
		if got := b.text("dialog"); !strings.Contains(got, "does not belong to an attempt of this tab") {
			t.Errorf("the dialog has %s", got)
		}
	})
}
