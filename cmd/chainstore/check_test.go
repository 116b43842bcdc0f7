package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/clitest"
	"github.com/chainstore/chainstore/wire"
)

func TestCheck(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	f.CheckSteps("s-aaaabbbbcccc", clitest.Checking, clitest.CheckedGood)
	f.CheckSteps("s-ddddeeeeffff", clitest.Checking, clitest.CheckedBad, clitest.Repairing, clitest.Repaired)
	out, errs, err := run(t, nil, "check")
	want := `NODE            RESULT    BLOCKS  SIZE     TOOK   FOUND
s-aaaabbbbcccc  valid     12      1.0 MiB  700ms  nothing
s-ddddeeeeffff  repaired  12      1.0 MiB  900ms  2 bad blocks

s-ddddeeeeffff (http://127.0.0.1:8083)
  - block 5: its frame is damaged (frame): segments/0 at 4711
  - block 7: it is missing (missing)
  - repair: 2 blocks, 2.9 KiB from s-ddddeeeeffff in 250ms; 1 bit of block 5 was
    changed
`
	if err != nil || out != want {
		t.Errorf("got\n%s\n%v; want\n%s", out, err, want)
	}
	want = "s-ddddeeeeffff (http://127.0.0.1:8083) was checked; bad: 2 blocks: 5, 7; it is now repaired from " +
		"another storage node\n"
	if errs != want {
		t.Errorf("got %q, want %q", errs, want)
	}
	if !slices.Equal(f.Checked, []string{"s-aaaabbbbcccc", "s-ddddeeeeffff"}) {
		t.Errorf("ordered %q", f.Checked)
	}
}

func TestCheckJSON(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	f.CheckSteps("s-ddddeeeeffff", clitest.CheckedBad, clitest.Repaired)
	out, _, err := run(t, nil, "check", "--json", "http://127.0.0.1:8083/", "s-ddddeeeeffff")
	if err != nil || strings.Count(out, "\n") != 1 {
		t.Fatalf("%q, %v", out, err)
	}
	var got checkResult
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if got.ID != "s-ddddeeeeffff" || got.Result != "repaired" || got.State != "valid" || got.Blocks != 12 ||
		got.BadBlocks != 2 ||
		len(got.Findings) != 2 || len(got.Bad) != 0 || len(got.Repairs) != 1 || got.Millis != 900 {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(out, `"bad":[]`) {
		t.Errorf("no empty list in %s", out)
	}
}

func TestCheckEndsInLost(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	f.CheckSteps("s-aaaabbbbcccc", clitest.CheckedBad, clitest.Losing)
	out, errs, err := run(t, nil, "check", "s-aaaabbbbcccc")
	clitest.MustFail(t, err, "1 of 1 checked node not valid; lost: 2 blocks: 5, 7")
	for _, want := range []string{
		"s-aaaabbbbcccc  lost    12 ", "\n  - still bad: 2 blocks: 5, 7\n",
		"\nLOST: 2 blocks: 5, 7. No storage node has a good copy.", "\n  chainstore integrity confirm-lost 5\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if !strings.Contains(errs, "has nothing left to repair but lost blocks: 2 blocks: 5, 7; it is checked once ") {
		t.Errorf("said %q", errs)
	}
}

// TestCheckTellsOfLostBlocks checks that a confirmed loss is reported without a failure, and that an unconfirmed loss
// is a failure.
func TestCheckTellsOfLostBlocks(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	f.Integrity.Lost = []chain.Range{{From: 3, To: 5}}
	f.Integrity.Confirmed = []chain.Range{{From: 3, To: 4}}
	f.CheckSteps("s-aaaabbbbcccc", clitest.CheckedGood)
	out, _, err := run(t, nil, "check", "s-aaaabbbbcccc")
	clitest.MustFail(t, err, "lost: 1 block: 4")
	if !strings.Contains(out, "\nLOST: 1 block: 4. ") ||
		!strings.Contains(out, "\nLost, and confirmed: 1 block: 3.\n") {
		t.Errorf("printed\n%s", out)
	}
	f.Change(func() { f.Integrity.Confirmed = f.Integrity.Lost })
	out, _, err = run(t, nil, "check", "s-aaaabbbbcccc")
	if err != nil || !strings.HasSuffix(out, "\nLost, and confirmed: 2 blocks: 3-4.\n") {
		t.Errorf("%v, printed\n%s", err, out)
	}
}

func TestCheckOfADeadNodeEndsAtOnce(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	f.Integrity.Nodes[1].Live = false
	out, errs, err := run(t, nil, "check", "s-ddddeeeeffff")
	clitest.MustFail(t, err, "1 of 1 checked node not valid")
	if !strings.Contains(out, "s-ddddeeeeffff  not-live  -  ") ||
		!strings.Contains(errs, "is not live; it is checked when it is back\n") {
		t.Errorf("printed %q, said %q", out, errs)
	}
}

func TestCheckNoWait(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	f.Integrity.Nodes[1].Live = false
	out, _, err := run(t, nil, "check", "--no-wait")
	want := "the check of s-aaaabbbbcccc (http://127.0.0.1:8082) is due\n" +
		"s-ddddeeeeffff (http://127.0.0.1:8083) is not live; it is checked when it is back\n"
	if err != nil || out != want {
		t.Errorf("got %q, %v; want %q", out, err, want)
	}
	out, _, err = run(t, nil, "check", "--no-wait", "--json", "s-aaaabbbbcccc")
	var n wire.NodeIntegrity
	if err != nil || json.Unmarshal([]byte(out), &n) != nil || n.Due != "asked for" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestCheckRefused(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	_, _, err := run(t, nil, "check", "s-aaaabbbbcccc", "s-nobody")
	clitest.MustFail(t, err, `"s-nobody" is neither the id nor the URL of a storage node; `+
		"'chainstore integrity' lists them")
	if len(f.Checked) > 0 {
		t.Errorf("ordered %q", f.Checked)
	}
	f.Change(func() { f.Integrity.Nodes = nil })
	_, _, err = run(t, nil, "check")
	clitest.MustFail(t, err, "the cluster has no storage node")
}

func TestCheckFlags(t *testing.T) {
	for _, test := range []struct{ flag, want string }{
		{"--check-interval=-1s", "--check-interval -1s is negative"},
		{"--check-rate=-1", "--check-rate -1 is not within 0 and 1048576 MiB a second"},
		{"--check-rate=1048577", "--check-rate 1048577 is not within"},
	} {
		for _, role := range []string{"master", "dev"} {
			_, _, err := run(t, nil, role, "--data", t.TempDir(), test.flag)
			clitest.MustFail(t, err, test.want)
		}
	}
}

// aborted returns a step in which the check ends early for the given number of times in a row.
func aborted(count int) clitest.Step {
	return func(_ *wire.Integrity, n *wire.NodeIntegrity) {
		n.State, n.Task, n.Due = "valid", nil, "asked for"
		n.Aborted = &wire.Aborted{Error: "read index: input/output error", Blocks: 3, Height: 12, Time: clitest.Time +
			uint64(count), Count: count}
	}
}

// TestCheckThatEndedEarly checks that an incomplete check is never reported as valid.
func TestCheckThatEndedEarly(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	f.CheckSteps("s-aaaabbbbcccc", clitest.Checking, aborted(1))
	f.CheckSteps("s-ddddeeeeffff", clitest.CheckedGood)
	out, errs, err := run(t, nil, "check")
	clitest.MustFail(t, err, "1 of 2 nodes could not be checked to the end; the check stays due")
	want := `NODE            RESULT   BLOCKS  SIZE     TOOK   FOUND
s-aaaabbbbcccc  aborted  3       -        700ms  ended early
`
	if !strings.HasPrefix(out, want) || !strings.Contains(out, "it ended after 3 of 12 blocks") {
		t.Errorf("printed\n%s", out)
	}
	if !strings.Contains(errs, "ended after 3 of 12 blocks: read index: input/output error; the check stays due and "+
		"is tried again\n") {
		t.Errorf("said %q", errs)
	}

	// The next one ends early as well: earlier ends are not reported again.
	f.CheckSteps("s-aaaabbbbcccc", clitest.Same, clitest.Checking, aborted(2))
	out, _, err = run(t, nil, "check", "--json", "s-aaaabbbbcccc")
	clitest.MustFail(t, err, "1 of 1 node could not be checked to the end")
	var got checkResult
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if got.Result != "aborted" || got.Aborted == nil || got.Aborted.Count != 2 ||
		got.Aborted.Error != "read index: input/output error" {
		t.Errorf("%+v", got)
	}

	out, _, err = run(t, nil, "integrity")
	if err != nil || !strings.Contains(out, "could not be checked to the end") {
		t.Errorf("%v, printed\n%s", err, out)
	}

	f.Change(func() { f.Integrity.Nodes[0].Aborted = nil })
	f.CheckSteps("s-aaaabbbbcccc", clitest.Checking, clitest.CheckedGood)
	if _, _, err = run(t, nil, "check", "s-aaaabbbbcccc"); err != nil {
		t.Error(err)
	}
}

// TestCheckNamesWhatWasMovedAside checks that a misplaced file is reported as a finding, even if no block is bad.
func TestCheckNamesWhatWasMovedAside(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	f.CheckSteps("s-aaaabbbbcccc", func(in *wire.Integrity, n *wire.NodeIntegrity) {
		clitest.CheckedGood(in, n)
		clitest.AddEvent(in, wire.Event{Kind: wire.EventFinding, Node: n.ID, URL: n.URL, Findings: []wire.Finding{
			{What: chain.WrongFile, Detail: "index: a folder stood in the place of a file, and was moved to " +
				"quarantine/index.0"},
		}})
	})
	out, _, err := run(t, nil, "check", "s-aaaabbbbcccc")
	if err != nil || !strings.Contains(out, "s-aaaabbbbcccc  repaired") || !strings.Contains(out, "1 finding\n") ||
		!strings.Contains(out, "  - something else stood in the place of a file (file): index: a folder stood in") {
		t.Errorf("%v, printed\n%s", err, out)
	}
}

// checkResult is the JSON output of check for one node.
type checkResult struct {
	ID, Result, State string
	Blocks, Millis    uint64
	BadBlocks         uint64 `json:"bad_blocks"`
	Findings          []wire.Finding
	Bad               []chain.Range
	Repairs           []wire.Event
	Aborted           *wire.Aborted
}
