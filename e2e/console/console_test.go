package console

import (
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/fakecluster"
	"github.com/chainstore/chainstore/internal/signedlog"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// consolePages lists the console's pages with their headings in both languages. 0/0 is a record, 0 is a block.
var consolePages = []struct{ path, en, zh string }{
	{"overview", "Overview", "总览"},
	{"chain", "Chain", "区块链"},
	{"block/0", "Block 0", "区块 0"},
	{"record/0/0", "Record 0/0", "记录 0/0"},
	{"add", "Add", "添加"},
	{"find?by=key&key=door%2F7", "Find", "查找"},
	{"projects", "Projects", "项目"},
	{"projects/1", "Project default", "项目 default"},
	{"audit", "Audit", "审计"},
	{"integrity", "Integrity", "完整性"},
	{"admin", "Administration", "管理"},
}

// doors fills the fake with one record of each kind that the console displays differently. It returns a browser that
// has the tokens.
func doors(t *testing.T) (*fakeCluster, *browser) {
	t.Helper()
	f := startFake(t)
	f.Change(func() {
		p := f.Projects[0]
		f.Append(p, "door/7", "text/plain; charset=utf-8", []byte("door 7 opened by Ada"))
		f.Append(p, "door/7", "application/json", []byte(`{"door":7,"serial":12345678901234567890,"ok":[true,{}]}`))
		f.Append(p, "page", "text/html", []byte(`<h1 id="evil">x</h1><img src=x `+
			`onerror="document.title='evil'"><script>document.title='evil'</script>`))
		f.Append(p, "dump", "", []byte{0, 1, 2, 0xff})
		f.Append(f.AddProject("sealed", false, ""), "door/7", "text/plain", []byte("nobody else's"))
		f.Append(p, "door/7", "text/plain", []byte("door 7 closed"))
		f.Cut()
		f.Waiting = waitingWorkers()
		f.JoinTickets = []wire.CreatedJoinTicket{usedTicket()}
	})
	b := openBrowser(t, f.URLs())
	b.open(f.URLs()[0])
	b.giveTokens(f.tokensOf("default")[""], fakecluster.AdminToken)
	return f, b
}

func TestConsolePages(t *testing.T) {
	f, b := doors(t)
	f.act(exampleAct())
	for _, language := range []string{"en", "zh"} {
		b.click(".choice button[lang=" + language + "]")
		for _, page := range consolePages {
			want := page.en
			if language == "zh" {
				want = page.zh
			}
			b.goTo(page.path)
			b.see(want, fmt.Sprintf(`document.querySelector('main h1').innerText === %q && `+
				`document.title.endsWith('· ChainStore')`, want))
			if text := b.text("body"); strings.Contains(text, "undefined") || strings.Contains(text, "NaN") ||
				strings.Contains(text, "[object") {
				t.Errorf("%s in %s shows what is no text:\n%s", page.path, language, text)
			}
			if eval[bool](b, `document.querySelector('.problem') !== null`) {
				t.Errorf("%s in %s shows a problem: %s", page.path, language, b.text(".problem"))
			}
			if !eval[bool](b, `document.activeElement.tagName === 'H1' || document.activeElement.lang !== ''`) {
				t.Errorf("%s: the focus is not on the heading but on %s", page.path,
					eval[string](b, `document.activeElement.outerHTML.slice(0, 200)`))
			}
		}
	}
	t.Run("on a phone", func(t *testing.T) {
		b.in(t)
		b.size(360, 740)
		for _, page := range consolePages {
			b.goTo(page.path)
			if width := eval[int](b, `document.documentElement.scrollWidth`); width > 360 {
				t.Errorf("%s is %d px wide: %s", page.path, width,
					eval[string](b, `[...document.querySelectorAll('main *')].filter((e) => `+
						`e.getBoundingClientRect().right > 361 && !e.closest('.table, .strip')).map((e) => `+
						`e.className `+
						`|| e.tagName).join(' ')`))
			}
		}
	})
}

func TestConsoleRecords(t *testing.T) {
	f, b := doors(t)
	t.Run("append, find and verify", func(t *testing.T) {
		b.in(t)
		b.goTo("add")
		b.fill("key", "lot/1")
		b.fill("text", "lot 1 left the dock")
		b.press("Append")
		if got := b.text(".receipt"); !strings.Contains(got, "block 2, offset 0") || !strings.Contains(got, "stored") {
			t.Errorf("the receipt: %s", got)
		}
		b.goTo("find?by=position")
		b.fill("position", "2/0")
		b.press("Find")
		b.see("the record", `document.querySelector('.payload pre')?.innerText === 'lot 1 left the dock'`)
		if by := b.verify("good"); by != "native" {
			t.Errorf("verified with %s", by)
		}
	})
	t.Run("a key's history", func(t *testing.T) {
		b.in(t)
		b.goTo("find?by=key")
		b.fill("key", "door/7")
		b.press("Find")
		b.see("two of three", `document.querySelectorAll('tbody tr').length === 2`)
		b.press("Show more")
		b.see("all three", `document.querySelectorAll('tbody tr').length === 3`)
	})
	t.Run("a stretch of time", func(t *testing.T) {
		b.in(t)
		b.goTo("find?by=time")
		b.press("Find")
		b.see("what was appended now", `document.querySelectorAll('tbody tr').length === 2`)
	})
	t.Run("payloads", func(t *testing.T) {
		b.in(t)
		b.goTo("record/0/1")
		if got := b.text(".payload pre"); !strings.Contains(got, "\n  \"serial\": 12345678901234567890,\n") ||
			!strings.Contains(got, "true,\n    {}\n  ]") {
			t.Errorf("JSON is shown as %s", got)
		}
		b.goTo("record/0/2")
		if got := b.text(".payload pre"); !strings.Contains(got, "<h1 id=\"evil\">") ||
			eval[bool](b, `document.getElementById('evil') !== null || document.title === 'evil'`) {
			t.Errorf("HTML in a record was not shown as text: %s", got)
		}
		b.goTo("record/0/3")
		if got := b.text(".payload pre"); !strings.Contains(got, "000000  00 01 02 ff") {
			t.Errorf("bytes are shown as %s", got)
		}
		b.goTo("block/1")
		if got := b.text("tbody"); !strings.Contains(got, "private to another project") ||
			strings.Contains(got, "nobody") {
			t.Errorf("the records of a block of two projects: %s", got)
		}
	})
	t.Run("jump to a hash", func(t *testing.T) {
		b.in(t)
		var hash string
		f.Change(func() { hash = f.Position(&f.Records[5]).Leaf.String() })
		b.goTo("chain")
		b.fill("jump", hash)
		b.press("Go")
		b.see("the record of that leaf",
			`location.hash === '#/record/1/1' && document.querySelector('.payload pre')?.innerText === 'door 7 closed'`)
	})
	t.Run("a receipt", func(t *testing.T) {
		b.in(t)
		b.goTo("record/0/0")
		b.click("#receipt")
		b.see("that it was saved", `document.querySelector('.proof')?.parentElement.innerText.includes('chainstore `+
			`verify receipt')`)
	})
	t.Run("a checkpoint of another key does not verify", func(t *testing.T) {
		b.in(t)
		f.Change(func() {
			_, other := signedlog.Key(f.Log.Origin, 1)
			f.TLog = &wire.Log{Origin: f.Log.Origin, Keys: []wire.LogKey{{VerifierKey: other}}}
		})
		b.goTo("record/0/0")
		b.verify("bad")
		f.Change(func() { f.TLog = nil })
		b.goTo("chain")
	})
	t.Run("without a checkpoint no signature was checked", func(t *testing.T) {
		b.in(t)
		const (
			signed   = "Verified: the record matches what was committed."
			unsigned = "No signature of the log was checked."
		)
		for _, uncovered := range []bool{false, true} {
			f.Change(func() { f.Uncovered = map[bool]int{true: math.MaxInt}[uncovered] })
			b.goTo("record/0/0")
			b.click("#verify")
			b.see("a verdict", `document.querySelector('.verdict.good')`)
			got := b.text(".verdict")
			if strings.Contains(got, signed) == uncovered || strings.Contains(got, unsigned) != uncovered {
				t.Errorf("without a checkpoint is %v: %s", uncovered, got)
			}
			b.goTo("chain")
		}
		f.Change(func() { f.Uncovered = 0 })
	})
	t.Run("an altered payload does not verify", func(t *testing.T) {
		b.in(t)
		f.Change(func() { f.Liar = true })
		b.goTo("record/0/0")
		b.verify("bad")
	})
}

// verify clicks the button and returns the SHA-256 implementation that was used, "native" or "own". The verdict must be
// "good" or "bad" as given.
func (b *browser) verify(verdict string) string {
	b.t.Helper()
	b.click("#verify")
	b.see("a verdict", `document.querySelector('.verdict')`)
	if got := eval[string](b, `document.querySelector('.verdict').className`); got != "verdict "+verdict {
		b.t.Errorf("%s: %s\n%s", got, b.text(".verdict"), b.text(".steps"))
	}
	steps := eval[[]string](b, `[...document.querySelectorAll('.step')].map((e) => e.classList[1])`)
	if good := !slices.Contains(steps, "bad") && len(steps) == 11; good != (verdict == "good") {
		b.t.Errorf("the steps are %v", steps)
	}
	return eval[string](b, `import('/console/js/sha256.js').then((m) => m.hasher.native ? 'native' : 'own')`)
}

// TestConsoleHashes checks that the console's own SHA-256 and its computation of Merkle roots give the same results as
// Go.
func TestConsoleHashes(t *testing.T) {
	f, b := doors(t)
	same := eval[bool](b, `(async () => {
		const { sha256 } = await import('/console/js/sha256.js');
		const { toHex } = await import('/console/js/bytes.js');
		for (const n of [0, 1, 3, 55, 56, 57, 63, 64, 65, 119, 120, 1000, 65537]) {
			const data = Uint8Array.from({ length: n }, (_, i) => (i * 31 + n) % 256);
			if (toHex(sha256(data)) !==
				toHex(new Uint8Array(await crypto.subtle.digest('SHA-256', data)))) return false;
		}
		return true;
	})()`)
	if !same {
		t.Error("the console's own SHA-256 is not the browser's")
	}
	f.Change(func() {
		for i := range 40 {
			f.Append(f.Projects[0], "", "text/plain", fmt.Append(nil, "record ", i))
		}
		f.Cut()
	})
	var proofs []map[string]any
	f.Change(func() {
		for i := range f.Records {
			r := &f.Records[i]
			proofs = append(proofs, map[string]any{
				"record": f.Envelope(r), "proof": f.Log.Proof(r.Block, r.Offset, f.Log.Size()),
			})
		}
	})
	for name, breaks := range map[string]string{
		"":         `0`,
		"work":     `(p.header.difficulty = 64)`,
		"path":     `p.record_path.push(p.root)`,
		"seal":     `(p.seal_path[0] = p.root)`,
		"before":   `(p.header.root = p.root)`,
		"place":    `(r.offset += 1)`,
		"header":   `(p.header.nonce += '1')`,
		"leafData": `(r.project_id += 1)`,
	} {
		wrong := eval[string](b, `(async (all) => {
			const { verify } = await import('/console/js/verify.js');
			const { sha256 } = await import('/console/js/sha256.js');
			const told = [];
			for (const { record: r, proof: p } of all) {
				`+breaks+`;
				const bad = (await verify(r, p, async (d) => sha256(d))).filter((s) => !s.ok).map((s) => s.name);
				if (`+fmt.Sprintf("%q ? !bad.includes(%q) : bad.length", name, name)+`) told.push(r.index + ': ' + bad);
			}
			return told.join('; ');
		})(`+asJSON(proofs)+`)`)
		if wrong != "" {
			t.Errorf("with %s broken: %s", name, wrong)
		}
	}
}

func TestConsoleProjects(t *testing.T) {
	f, b := doors(t)
	b.goTo("projects")
	b.fill("name", "lab")
	b.press("Create a project")
	token := b.text("#new-token")
	if token != f.tokensOf("lab")[""] {
		t.Errorf("the token shown is %q", token)
	}
	b.press("Use it in this tab")
	b.see("the new project in the list", `document.querySelector('tbody')?.innerText.includes('lab')`)
	b.see("that the token is neither in the page nor in the browser", fmt.Sprintf(
		`!document.documentElement.outerHTML.includes(%q) && !Object.values(localStorage).includes(%q)`, token, token))
	if kept := eval[string](b, `sessionStorage.getItem('chainstore.token.project')`); kept != token {
		t.Errorf("the tab uses %q", kept)
	}
	b.fill("name", "lab")
	b.press("Create a project")
	b.see("that the name is taken", `document.querySelector('.problem')?.innerText.includes('A project with `+
		`this name already exists.')`)

	b.goTo("projects/8")
	b.see("its one token", `document.querySelectorAll('tbody tr').length === 1`)
	b.fill("label", "reader")
	b.click(".rights .checkbox:nth-of-type(2) input")
	b.press("Create the token")
	if got := b.text("#new-token"); got != f.tokensOf("lab")["reader"] {
		t.Errorf("the token shown is %q", got)
	}
	b.press("I have saved it")
	b.see("two tokens", `document.querySelectorAll('tbody tr').length === 2`)
	b.fill("records_per_second", "50")
	b.press("Save")
	b.see("the quota", `document.querySelector('.facts')?.innerText.includes('50 records/s')`)
	b.see("the tokens again", `document.querySelectorAll('tbody tr').length === 2`)
	b.click(`button[aria-label="Revoke the token reader"]`)
	b.click("dialog .danger")
	b.see("one token", `document.querySelectorAll('tbody tr').length === 1`)
}

// TestConsoleAudit checks the page of the audit trail. The names in it come from users, and some acts from newer
// programs.
func TestConsoleAudit(t *testing.T) {
	f, b := doors(t)
	renamed, newer, other := exampleAct(), exampleAct(), exampleAct()
	renamed.After[0].Value = `<img src=x onerror="document.title='evil'">`
	newer.Act, newer.Phase, newer.Outcome, newer.Intent = 999, trail.Ended, trail.NotDone, 12
	newer.Actor = trail.Actor{Kind: 99, Name: "stranger"}
	other.Target.ID = "8"
	for _, act := range []trail.Record{exampleAct(), renamed, newer, other} {
		f.act(act)
	}
	f.Change(func() { f.Append(f.Project(trail.Project), "project/7", trail.Type, []byte("CSAU\x02 of the future")) })
	b.goTo("audit")
	b.see("two acts", `document.querySelectorAll('tbody tr').length === 2`)
	for shown := 4; shown <= 5; shown++ {
		b.press("Show more")
		b.see("more acts", fmt.Sprintf(`document.querySelectorAll('tbody tr').length === %d`, shown))
	}
	rows := eval[[]string](b, `[...document.querySelectorAll('tbody tr')].map((e) => e.innerText.replace(/\s+/g, ' '))`)
	for i, parts := range [][]string{
		{"administrator anna", "192.0.2.7", "project changed", "project/7", "name: orders, public: false → true"},
		{`name: orders → <img src=x onerror="document.title='evil'">`},
		{"actor-99 stranger", "act-999 not done"},
		{"project/8"},
		{"A newer ChainStore is needed", "project/7"},
	} {
		for _, part := range parts {
			if !strings.Contains(rows[i], part) {
				t.Errorf("act %d is shown as %q, without %q", i, rows[i], part)
			}
		}
	}
	if eval[bool](b, `document.title === 'evil' || document.querySelector('main img') !== null`) {
		t.Error("a name in the audit trail became HTML")
	}
	b.fill("target", "project/8")
	b.press("Find")
	b.see("the acts on a target", `document.querySelectorAll('tbody tr').length === 1 && `+
		`document.querySelector('[name=target]').value === 'project/8'`)
	b.click("tbody a")
	b.see("all of the act", `document.querySelector('.payload-audit')?.innerText.includes('Through master')`)
	b.verify("good")

	b.giveTokens(f.tokensOf("default")[""], "")
	b.goTo("audit")
	b.see("that the admin token is needed", `document.querySelector('.problem')?.innerText.includes('This needs the `+
		`admin token.')`)
}

func TestConsoleSurvivesMaster(t *testing.T) {
	f, b := doors(t)
	b.goTo("overview")
	b.see("the leader", `document.querySelectorAll('.picture .master.leader').length === 1`)
	f.Kill(0)
	b.see("another master", fmt.Sprintf(`document.querySelector('.connection').title.includes(%q) && `+
		`!document.querySelector('.connection.lost')`, f.URLs()[1]))
	b.see("the new term", `document.querySelector('.stats').innerText.includes('term 4')`)
	b.goTo("add")
	b.fill("text", "after the failover")
	b.press("Append")
	b.text(".receipt")
	b.goTo("record/2/0")
	b.verify("good")
	f.Kill(1)
	f.Kill(2)
	b.see("that no master answers", `document.querySelector('.connection.lost')`)
}

func TestConsoleIntegrity(t *testing.T) {
	f, b := doors(t)
	b.goTo("integrity")
	b.see("three valid nodes", `document.querySelectorAll('.card.state-valid').length === 3`)
	f.Change(func() {
		s := &f.Integrity.Nodes[1]
		s.State, s.Bad = "invalid", []chain.Range{{From: 0, To: 1}}
		s.CauseCoded = damaged(s.Bad...)
		s.Cause = s.CauseCoded.Text()
		s.Due, s.DueCoded = "from a newer master", wire.Message{Code: "of-a-newer-master"}
		f.Integrity.Lost = []chain.Range{{From: 0, To: 1}}
	})
	b.see("the damage", `document.querySelector('.card.state-invalid')?.innerText.includes('damaged: block 0')`)
	b.see("that it is told", `document.querySelector('[aria-live=polite].unseen').innerText.includes('is now invalid')`)
	b.see("the text of a code that the console does not know",
		`document.querySelector('.card.state-invalid').innerText.includes('from a newer master')`)
	b.click(".choice button[lang=zh]")
	b.see("the cause in Chinese", `document.querySelector('.card.state-invalid')?.innerText.includes('损坏：区块 0（共 1 个）')`)
	b.goTo("overview")
	b.see("the notice in Chinese", `document.querySelector('.notice')?.innerText === '存储节点 s-1 无效：损坏：区块 0（共 1 个）'`)
	b.click(".choice button[lang=en]")
	b.see("the notice in English", `document.querySelector('.notice')?.innerText === 'storage node s-1 is invalid: `+
		`damaged: block 0'`)
	b.goTo("integrity")
	b.press("Confirm block 0 as lost")
	b.press("Confirm the loss")
	b.see("that the loss is confirmed", `document.querySelector('.alarm').innerText.includes('Confirmed as lost: 0')
		&& !document.querySelector('.alarm .danger')`)
	b.click(".card.state-invalid .button")
	b.see("three valid nodes", `document.querySelectorAll('.card.state-valid').length === 3`)
}

// TestConsoleFirstVisit checks that the console explains tokens to a visitor without one, in the browser's language,
// and offers registration if it is open.
func TestConsoleFirstVisit(t *testing.T) {
	f := startFake(t)
	b := openBrowser(t, f.URLs())
	b.speak("zh-CN")
	b.open(f.URLs()[0])
	b.see("the welcome in Chinese", `document.querySelector('.welcome h2')?.innerText === '输入令牌以查看集群'`)
	b.click(".choice button[lang=en]")
	b.see("the welcome in English", `document.querySelector('.welcome h2')?.innerText === 'Enter a token to view `+
		`the cluster' && document.documentElement.lang === 'en-GB'`)
	b.open(f.URLs()[0])
	b.see("that the choice was kept",
		`document.querySelector('.welcome h2')?.innerText === 'Enter a token to view the cluster'`)
	b.goTo("record/0/0")
	b.see("that a token is needed", `document.querySelector('.problem')?.innerText.includes("Records are read and `+
		`appended with a project's token.")`)
	b.goTo("projects")
	b.fill("name", "mine")
	b.press("Create a project")
	b.press("Use it in this tab")
	b.goTo("overview")
	b.see("the cluster", `document.querySelector('.picture')`)
	b.giveTokens("of-nobody", "")
	b.see("that the token is unknown",
		`document.querySelector('.welcome')?.innerText.includes('The cluster does not know this token.')`)
}

// TestConsoleKeyboard checks that all main actions work with the keyboard, and that the focus is never lost.
func TestConsoleKeyboard(t *testing.T) {
	_, b := doors(t)
	b.goTo("overview")
	focused := func(what, condition string) {
		t.Helper()
		b.see("the focus on "+what, fmt.Sprintf(`((e) => %s)(document.activeElement)`, condition))
	}
	b.open(eval[string](b, `location.origin`))
	b.see("the page", `document.querySelector('.picture')`)
	b.keys(kb.Tab)
	focused("the way past the navigation", `e.className === 'skip'`)
	b.keys(kb.Enter)
	focused("the heading", `e.tagName === 'H1'`)
	eval[bool](b, `(document.querySelector('nav a[data-page=chain]').focus(), true)`)
	b.keys(kb.Enter)
	focused("the next page's heading", `e.tagName === 'H1' && e.innerText === 'Chain'`)
	eval[bool](b, `(document.getElementById('token-button').focus(), true)`)
	b.keys(kb.Enter)
	focused("the first token", `e.name === 'token-project'`)
	b.keys(kb.Escape)
	focused("the button that opened the box", `e.id === 'token-button' && !document.querySelector('dialog')`)
}

// TestConsoleOldMaster checks that the console reports a master that lacks a route. Masters before 0.1.0 answer an
// unknown route with the problem not-found.
func TestConsoleOldMaster(t *testing.T) {
	for version, noRoute := range map[string]func(http.ResponseWriter){
		"0.1.0": func(w http.ResponseWriter) { fakecluster.Problem(w, wire.ErrNoSuchRoute) },
		"before 0.1.0": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprintf(w, `{"type":"%snot-found","title":"No such route","status":404}`, wire.ProblemBase)
		},
	} {
		t.Run(version, func(t *testing.T) {
			f, b := doors(t)
			f.Change(func() { f.NoRoute = noRoute })
			b.goTo("find?by=key&key=door%2F7")
			b.see("that there are no lists",
				`document.querySelector('.problem')?.innerText.includes('This master does not support this.')`)
			b.goTo("record/0/0")
			b.click("#verify")
			b.see("that there are no proofs",
				`document.querySelector('.proof .problem')?.innerText.includes('This master does not support this.')`)
		})
	}
}

// TestConsoleFromAfar checks the console over plain HTTP from another machine, where a page has no WebCrypto. The
// console uses its own SHA-256 and says so. It also says that it cannot fail over to another master.
func TestConsoleFromAfar(t *testing.T) {
	f, b := doors(t)
	far := strings.Replace(f.URLs()[0], "127.0.0.1", farName, 1)
	b.origins = append(b.origins, far)
	b.open(far)
	b.giveTokens(f.tokensOf("default")[""], "")
	b.see("that the page keeps to its master",
		`document.querySelector('.notice')?.innerText.includes("not a master's own")`)
	b.goTo("record/0/0")
	if by := b.verify("good"); by != "own" {
		t.Errorf("verified with %s", by)
	}
	if got := b.text("main"); !strings.Contains(got, "the console's own SHA-256") {
		t.Errorf("it is not said who hashes: %s", got)
	}
}

// TestConsoleAccessible runs axe-core on every page, light and dark.
func TestConsoleAccessible(t *testing.T) {
	f, b := doors(t)
	f.act(exampleAct())
	axe := axeCore(t)
	for _, scheme := range []string{"light", "dark"} {
		b.prefer(scheme)
		for _, page := range append(slices.Clone(consolePages), struct{ path, en, zh string }{"nowhere", "", ""}) {
			b.goTo(page.path)
			if page.path == "record/0/0" {
				b.verify("good")
				eval[bool](b, `(document.querySelectorAll('.step details').forEach((d) => { d.open = true; }), true)`)
			}
			if page.path == "admin" {
				b.see("all parts", `document.querySelectorAll('#waiting tr, #tickets tr, .command').length > 5`)
				eval[bool](b, `(document.querySelectorAll('main details').forEach((d) => { d.open = true; }), true)`)
			}
			b.accessible(axe, page.path+" "+scheme)
		}
		b.click("#token-button")
		b.see("the box for tokens", `document.querySelector('dialog[open]')`)
		b.accessible(axe, "tokens "+scheme)
		eval[bool](b, `(document.querySelector('dialog').close(), true)`)
	}
}

// accessible reports violations that axe-core rates serious or critical.
func (b *browser) accessible(axe, what string) {
	b.t.Helper()
	found := eval[[]string](b, axe+`;axe.run(document).then((r) => (r.passes.length > 5
		? r.violations : [{id: 'axe-core found nothing to look at', impact: 'critical', nodes: []}])
		.filter((v) => v.impact === 'serious' || v.impact === 'critical')
		.map((v) => v.id + ': ' + v.help + ': ' +
			v.nodes.map((n) => n.target + ' ' + (n.any[0]?.message ?? '')).slice(0, 4).join(' | ')))`)
	for _, one := range found {
		b.t.Errorf("%s: %s", what, one)
	}
}

// axeCore downloads axe-core from npm for this test. The test is skipped, with a message, if npm is missing or cannot
// reach a registry.
func axeCore(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	pack := exec.CommandContext(t.Context(), "npm", "pack", "--silent", "axe-core@4.10.3")
	pack.Dir = dir
	out, err := pack.CombinedOutput()
	if err != nil {
		why := fmt.Sprintf("NO AXE-CORE: accessibility is not tested (npm pack: %v) %s", err, out)
		fmt.Fprintln(os.Stderr, why)
		t.Skip(why)
	}
	unpack := exec.CommandContext(t.Context(), "tar", "-xzf", strings.TrimSpace(string(out)), "package/axe.min.js")
	unpack.Dir = dir
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("unpack axe-core: %v: %s", err, out)
	}
	source, err := os.ReadFile(filepath.Join(dir, "package", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(source)
}
