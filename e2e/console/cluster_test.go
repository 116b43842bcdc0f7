package console

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/devcluster/freeports"
)

// startCluster runs a whole cluster in this process.
func startCluster(t *testing.T, change ...func(*devcluster.Topology)) *devcluster.Cluster {
	t.Helper()
	topology := devcluster.NewTopology(t.TempDir(), freePort(t))
	topology.LogLevel = "error"
	topology.Timeout = time.Second // the browser and the race detector slow the cluster down
	topology.MaxAge = 50 * time.Millisecond
	topology.Settings.Difficulty = 4
	for _, f := range change {
		f(&topology)
	}
	c, err := devcluster.Start(t.Context(), topology, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// freePort returns the first port of a range for a cluster.
func freePort(t *testing.T) int {
	t.Helper()
	base, release, err := freeports.Claim(99) // the claim is held on the last port of the range
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	})
	return base
}

// leaderOf returns the index of the leader among the masters.
func leaderOf(t *testing.T, c *devcluster.Cluster) int {
	t.Helper()
	status, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range status.Masters {
		if m.ID == status.Leader {
			return slices.Index(c.File().Masters, m.URL)
		}
	}
	t.Fatalf("no leader: %+v", status)
	return 0
}

// TestConsoleOnCluster runs the actions of the other tests on a real cluster instead of the fake: append, find, verify,
// create a project, and damage and repair a disk. Then it stops the leader, which served the page.
func TestConsoleOnCluster(t *testing.T) {
	b := openBrowser(t, nil) // first: it may skip the test
	c := startCluster(t)
	file := c.File()
	b.origins = file.Masters
	leader := leaderOf(t, c)
	b.open(file.Masters[leader])
	b.giveTokens(file.Tokens.Project, file.Tokens.Admin)

	b.goTo("overview")
	b.see("three valid nodes", `document.querySelectorAll('.picture .storage.state-valid').length === 3 && `+
		`document.querySelectorAll('.picture .master.leader').length === 1`)
	if eval[bool](b, `document.querySelector('.notice') !== null`) {
		t.Errorf("a sound cluster has something to tell: %s", b.text(".notices"))
	}
	b.goTo("add")
	b.fill("key", "door/7")
	b.fill("text", "door 7 opened by Ada")
	b.press("Append")
	b.see("the receipt", `document.querySelector('.receipt')?.innerText.includes('stored')`)
	b.click(".receipt a")
	b.see("the payload", `document.querySelector('.payload pre')?.innerText === 'door 7 opened by Ada'`)
	record := strings.TrimPrefix(eval[string](b, `location.hash`), "#/") // the audit trail has records before
	b.goTo("chain")
	b.see("a block", `document.querySelectorAll('tbody tr').length >= 1`)
	b.goTo(record)
	b.see("the payload again", `document.querySelector('.payload pre')?.innerText === 'door 7 opened by Ada'`)

	t.Run("verify", func(t *testing.T) {
		b.in(t)
		b.verify("good")
	})
	t.Run("find", func(t *testing.T) {
		b.in(t)
		b.goTo("find?by=key")
		b.fill("key", "door/7")
		b.press("Find")
		b.see("the record", `document.querySelector('tbody')?.innerText.includes('door 7 opened by Ada')`)
		b.goTo(strings.Replace(path.Dir(record), "record", "block", 1))
		b.see("the record of the block", `document.querySelector('tbody')?.innerText.includes('door 7 opened by Ada')`)
	})
	t.Run("a project", func(t *testing.T) {
		b.in(t)
		b.goTo("projects")
		b.fill("name", "lab")
		b.press("Create a project")
		b.text("#new-token")
		b.press("I have saved it")
		b.see("the new project", `[...document.querySelectorAll('tbody a')].some((a) => a.innerText === 'lab')`)
		eval[bool](b, `([...document.querySelectorAll('tbody a')].find((a) => a.innerText === 'lab').click(), true)`)
		b.fill("label", "reader")
		b.press("Create the token")
		b.text("#new-token")
		b.press("I have saved it")
		b.see("two tokens", `document.querySelectorAll('tbody tr').length === 2`)
		b.fill("records_per_second", "50")
		b.press("Save")
		b.see("the quota", `document.querySelector('.facts')?.innerText.includes('50 records/s')`)
		b.click(`button[aria-label="Revoke the token reader"]`)
		b.click("dialog .danger")
		b.see("one token", `document.querySelectorAll('tbody tr').length === 1`)
	})
	t.Run("the audit trail", func(t *testing.T) {
		b.in(t)
		b.goTo("audit?target=project%2F2")
		b.see("what was done to the project", `(() => {
			const text = document.querySelector('tbody')?.innerText ?? '';
			return ['project created', 'token created', 'project changed', 'token revoked', '127.0.0.1'].every((one) =>
				text.includes(one));
		})()`)
		b.click("tbody a")
		b.see("the act", `document.querySelector('.payload-audit')?.innerText.includes('project created')`)
		b.verify("good")
	})
	t.Run("a damaged disk", func(t *testing.T) {
		b.in(t)
		damage(t, file.Storages[0].Data)
		b.goTo("integrity")
		b.click(fmt.Sprintf(`button[aria-label="Check %s now"]`, file.Storages[0].URL[len("http://"):]))
		b.see("what was found", `document.querySelector('.event-finding')`)
		b.see("that it was healed", `document.querySelector('.event-repair') && `+
			`document.querySelectorAll('.card.state-valid').length === 3`)
	})
	t.Run("the end of the master", func(t *testing.T) {
		b.in(t)
		b.goTo("overview")
		if err := c.StopRole(fmt.Sprintf("master-%d", leader+1)); err != nil {
			t.Fatal(err)
		}
		b.see("another master", fmt.Sprintf(`!document.querySelector('.connection').title.includes(%q) && `+
			`!document.querySelector('.connection.lost')`, file.Masters[leader]))
		b.see("two of three", `document.querySelectorAll('.picture .master.unreachable').length === 1 && `+
			`document.querySelectorAll('.picture .master.leader').length === 1`)
		b.goTo("add")
		b.fill("text", "door 7 closed")
		b.press("Append")
		b.click(".receipt a")
		b.see("the payload", `document.querySelector('.payload pre')?.innerText === 'door 7 closed'`)
	})
}

// damage flips a bit of the first record's payload in a storage node's files.
func damage(t *testing.T, data string) {
	t.Helper()
	path := filepath.Join(data, "segments", fmt.Sprintf("%020d.seg", 0))
	segment, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := len(segment) - 1
	if _, err := f.WriteAt([]byte{segment[at] ^ 1}, int64(at)); err != nil {
		t.Fatal(err)
	}
}
