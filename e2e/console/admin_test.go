package console

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/fakecluster"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// waitingWorkers are two workers that wait for approval. One says an address that no page may take for HTML.
func waitingWorkers() []wire.WaitingWorker {
	return []wire.WaitingWorker{
		{ID: "s-waits", Role: "storage", URL: "http://10.0.0.8:8001", Since: 1_795_376_212_295},
		{ID: "m-waits", Role: "miner", URL: "http://<img src=x onerror=document.title='evil'>",
			Since: 1_795_376_212_295},
	}
}

// usedTicket is a join ticket that has admitted a master.
func usedTicket() wire.CreatedJoinTicket {
	return wire.CreatedJoinTicket{JoinTicket: wire.JoinTicket{
		ID: 7, Name: "first", By: "anna", Created: 1_795_376_212_295, Expires: 1_795_462_612_295,
		State: wire.TicketUsed, Member: "k3jq5a7wz2m4c6xd",
	}}
}

// auditor gives the browser the token of an auditor as its admin token.
func (f *fakeCluster) auditor(b *browser) {
	b.t.Helper()
	f.Change(func() {
		f.Admins = []wire.CreatedAdmin{{Admin: wire.Admin{ID: 1, Name: "eve", Role: wire.RoleAuditor}, Token: "of-eve"}}
	})
	b.giveTokens(f.tokensOf("default")[""], "of-eve")
}

// focused waits until the element with the focus meets a condition, in which it is e.
func (b *browser) focused(what, condition string) {
	b.t.Helper()
	b.see("the focus on "+what, fmt.Sprintf(`((e) => %s)(document.activeElement)`, condition))
}

// focus moves the focus to the element of a selector.
func (b *browser) focus(selector string) {
	b.t.Helper()
	b.see(selector, fmt.Sprintf(`document.querySelector(%q)?.checkVisibility()`, selector))
	eval[bool](b, fmt.Sprintf(`(document.querySelector(%q).focus(), true)`, selector))
}

// TestConsoleWaitingWorkers checks the approval and refusal of workers, with the keyboard alone.
func TestConsoleWaitingWorkers(t *testing.T) {
	f, b := doors(t)
	waiting := func() (list []wire.WaitingWorker) {
		f.Change(func() { list = slices.Clone(f.Waiting) })
		return list
	}
	b.goTo("admin")
	b.see("both workers", `document.querySelectorAll('#waiting tbody tr').length === 2`)
	if text := b.text("#waiting"); !strings.Contains(text, "s-waits") || !strings.Contains(text, "<img src=x") ||
		eval[bool](b, `document.title === 'evil' || document.querySelector('main img') !== null`) {
		t.Errorf("the workers are shown as %s", text)
	}
	const approve = `[data-keep="approve-s-waits"]`
	b.focus(approve)
	b.keys(kb.Enter)
	b.focused("the dialog", `e.closest('dialog') !== null`)
	b.keys(kb.Escape)
	b.focused("the button again", `e.dataset.keep === 'approve-s-waits' && !document.querySelector('dialog')`)
	if list := waiting(); list[0].Approved {
		t.Error("a worker was approved without a confirmation")
	}
	b.keys(kb.Enter)
	b.focused("the dialog", `e.closest('dialog') !== null`)
	if text := b.text("dialog"); !strings.Contains(text, "s-waits") || !strings.Contains(text, "10.0.0.8:8001") {
		t.Errorf("the dialog does not name the worker: %s", text)
	}
	b.focus("dialog .primary")
	b.keys(kb.Enter)
	b.see("that it is approved", `document.querySelector('#waiting tbody tr .badge')?.innerText === 'approved'`)
	b.focused("the list", `e.id === 'waiting'`)
	if list := waiting(); len(list) != 2 || !list[0].Approved || list[1].Approved {
		t.Errorf("the cluster has %+v", list)
	}
	b.focus(`[data-keep="refuse-m-waits"]`)
	b.keys(kb.Enter)
	b.focus("dialog .danger")
	b.keys(kb.Enter)
	b.see("one worker", `document.querySelectorAll('#waiting tbody tr').length === 1`)
	if list := waiting(); len(list) != 1 || list[0].ID != "s-waits" {
		t.Errorf("the cluster has %+v", list)
	}
	// Somebody else has refused it meanwhile: the page says so.
	f.Change(func() { f.Waiting = nil })
	b.see("none", `document.querySelector('#waiting').innerText.includes('No worker waits.')`)
	f.Change(func() { f.Waiting = waitingWorkers() })
	b.see("new ones without a reload", `document.querySelectorAll('#waiting tbody tr').length === 2`)
}

// TestConsoleJoinTickets checks that join tickets are made, shown once, and revoked.
func TestConsoleJoinTickets(t *testing.T) {
	f, b := doors(t)
	b.goTo("admin")
	b.see("the used ticket, which stays", `document.querySelectorAll('#tickets tbody tr').length === 1 && `+
		`document.querySelector('#tickets tbody').innerText.includes('k3jq5a7wz2m4c6xd') && `+
		`!document.querySelector('#tickets button')`)
	b.fill("ticket-name", "d")
	b.fill("ticket-valid", "hour")
	b.press("Create the ticket")
	ticket := b.text("#new-token")
	var made wire.CreatedJoinTicket
	f.Change(func() { made = f.JoinTickets[len(f.JoinTickets)-1] })
	if ticket != made.Ticket || made.Name != "d" || made.Expires-made.Created != 3_600_000 {
		t.Errorf("the page shows %q, the cluster has %+v", ticket, made)
	}
	b.press("I have saved it")
	b.see("the new ticket in the list", `document.querySelectorAll('#tickets tbody tr').length === 2`)
	b.see("that its text is neither in the page nor in the browser", fmt.Sprintf(
		`!document.documentElement.outerHTML.includes(%q) && ![...Object.values(localStorage), `+
			`...Object.values(sessionStorage)].some((v) => v.includes(%q))`, ticket, ticket))
	b.focus(`button[aria-label="Revoke the ticket d"]`)
	b.keys(kb.Enter)
	b.focus("dialog .danger")
	b.keys(kb.Enter)
	b.see("one ticket", `document.querySelectorAll('#tickets tbody tr').length === 1`)
	b.focused("the list", `e.id === 'tickets'`)
	f.Change(func() {
		if len(f.JoinTickets) != 1 {
			t.Errorf("the cluster has %+v", f.JoinTickets)
		}
	})
}

// TestConsoleLog checks that the keys of the log, what it continues, and the command that closes it are shown. The
// console closes no log.
func TestConsoleLog(t *testing.T) {
	f, b := doors(t)
	b.goTo("admin")
	b.see("the log", `document.querySelector('main').innerText.includes('chainstore/fake')`)
	b.press("After the theft of a key")
	if got := b.text(".command pre"); !strings.HasPrefix(got, "chainstore log close chainstore/fake/2 --reason ") {
		t.Errorf("the command is %s", got)
	}
	f.Change(func() {
		f.TLog = &wire.Log{
			Origin: "chainstore/fake/2",
			Keys:   []wire.LogKey{{ID: "0badcafe", VerifierKey: "chainstore/fake/2+0badcafe+AQAB"}},
			Closed: []wire.ClosedLog{
				{Origin: "chainstore/older", Reason: "recovered", Closed: 1_795_376_212_295},
				{Origin: "chainstore/fake", Size: 5, Root: chain.Hash{0xab}, Reason: "<b>backup stolen</b>",
					Closed: 1_795_376_212_295, Statement: "chainstore-log-closing/v1\nchainstore/fake\n5\n"},
			},
		}
	})
	b.goTo("chain")
	b.goTo("admin")
	b.see("both closed logs", `document.querySelectorAll('.closed-log').length === 2`)
	text := b.text(".closed-log")
	for _, part := range []string{
		"Closed log chainstore/fake", "<b>backup stolen</b>", "chainstore-log-closing/v1\nchainstore",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the closed log is shown as %s, without %s", text, part)
		}
	}
	if text := eval[string](b, `document.querySelectorAll('.closed-log')[1].innerText`); !strings.Contains(text,
		"does not continue it") {
		t.Errorf("the older log is shown as %s", text)
	}
	b.press("After the theft of a key")
	b.see("the next name", `[...document.querySelectorAll('.command pre')].at(-1).innerText.includes(`+
		`'close chainstore/fake/3 ')`)
}

// TestConsoleClosesProjects checks that a project is closed and opened again, and never without a confirmation.
func TestConsoleClosesProjects(t *testing.T) {
	f, b := doors(t)
	closed := func() (at uint64) {
		f.Change(func() { at = f.Projects[0].Closed })
		return at
	}
	b.goTo("projects/1")
	b.focus("#close-project")
	b.keys(kb.Enter)
	b.focused("the dialog", `e.closest('dialog') !== null`)
	b.keys(kb.Escape)
	b.focused("the button", `e.id === 'close-project' && !document.querySelector('dialog')`)
	if closed() != 0 {
		t.Error("the project was closed without a confirmation")
	}
	b.keys(kb.Enter)
	b.press("Close it")
	b.see("that it is closed", `document.querySelector('.facts')?.innerText.includes('closed')`)
	b.focused("the heading", `e.tagName === 'H1'`)
	if closed() == 0 {
		t.Error("the cluster has the project open")
	}
	b.press("Open the project again")
	b.press("Open it")
	b.see("that it is open", `document.querySelector('.facts') && `+
		`!document.querySelector('.facts').innerText.includes('closed')`)
	if closed() != 0 {
		t.Error("the cluster has the project closed")
	}
	f.act(exampleAct())
	f.Change(func() { f.Project(trail.Project).ID = trail.ProjectID })
	b.goTo(fmt.Sprint("projects/", uint32(trail.ProjectID)))
	b.see("the audit trail", `document.querySelector('main h1').innerText.includes('_audit')`)
	if eval[bool](b, `document.getElementById('close-project') !== null`) {
		t.Error("the page offers to close the audit trail")
	}
}

// TestConsoleShowsWhatIsPermitted checks that the page of administration and that of a project offer only what the role
// of the admin token permits.
func TestConsoleShowsWhatIsPermitted(t *testing.T) {
	f, b := doors(t)
	f.auditor(b)
	b.goTo("admin")
	b.see("the role", `document.querySelector('.notice')?.innerText.includes('“auditor”')`)
	b.see("both lists", `document.querySelectorAll('#waiting tbody tr').length === 2 && `+
		`document.querySelectorAll('#tickets tbody tr').length === 1`)
	copies := func(text string) bool { return strings.HasPrefix(text, "Copy") }
	buttons := eval[[]string](b, `[...document.querySelectorAll('main button')].map((e) => e.innerText.trim() || `+
		`e.ariaLabel)`)
	if buttons = slices.DeleteFunc(buttons, copies); len(buttons) > 0 {
		t.Errorf("an auditor is offered %q", buttons)
	}
	b.goTo("projects/1")
	b.see("the project", `document.querySelector('.facts')`)
	if eval[bool](b, `document.getElementById('close-project') !== null`) {
		t.Error("an auditor is offered to close the project")
	}
	for _, tokens := range [][2]string{{f.tokensOf("default")[""], ""}, {"", f.tokensOf("default")[""]}} {
		b.giveTokens(tokens[0], tokens[1])
		b.goTo("admin")
		b.see("that the admin token is needed", `document.querySelector('.problem')?.innerText.includes(`+
			`'This needs the admin token.') && !document.querySelector('#tickets')`)
	}
	b.giveTokens("", fakecluster.AdminToken)
	b.goTo("admin")
	b.see("the buttons", `document.querySelector('[data-keep="approve-s-waits"]')`)
}
