package main

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

func TestCheck(t *testing.T) {
	f := newFakeCluster(t)
	f.use(t)
	f.steps("s-aaaabbbbcccc", checking, checkedGood)
	f.steps("s-ddddeeeeffff", checking, checkedBad, repairing, repaired)
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
	f := newFakeCluster(t)
	f.use(t)
	f.steps("s-ddddeeeeffff", checkedBad, repaired)
	out, _, err := run(t, nil, "check", "--json", "http://127.0.0.1:8083/", "s-ddddeeeeffff")
	if err != nil || strings.Count(out, "\n") != 1 {
		t.Fatalf("%q, %v", out, err)
	}
	var got checked
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if got.ID != "s-ddddeeeeffff" || got.Result != checkRepaired || got.State != stateValid || got.Blocks != 12 ||
		got.BadBlocks != 2 ||
		len(got.Findings) != 2 || len(got.Bad) != 0 || len(got.Repairs) != 1 || got.Millis != 900 {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(out, `"bad":[]`) {
		t.Errorf("no empty list in %s", out)
	}
}

func TestCheckEndsInLost(t *testing.T) {
	f := newFakeCluster(t)
	f.use(t)
	f.steps("s-aaaabbbbcccc", checkedBad, losing)
	out, errs, err := run(t, nil, "check", "s-aaaabbbbcccc")
	mustFail(t, err, "1 of 1 checked node not valid; lost: 2 blocks: 5, 7")
	for _, want := range []string{
		"s-aaaabbbbcccc  lost    12 ", "\n  - still bad: 2 blocks: 5, 7\n",
		"\nLOST: 2 blocks: 5, 7. No storage node has a good copy.", "\n  chainstore integrity confirm-lost 5\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if !strings.Contains(errs, "has nothing left to repair but lost blocks: 2 blocks: 5, 7\n") {
		t.Errorf("said %q", errs)
	}
}

// A confirmed loss is reported and is not a failure. An unconfirmed loss is a failure.
func TestCheckTellsOfLostBlocks(t *testing.T) {
	f := newFakeCluster(t)
	f.use(t)
	f.Integrity.Lost = []chain.Range{{From: 3, To: 5}}
	f.Integrity.Confirmed = []chain.Range{{From: 3, To: 4}}
	f.steps("s-aaaabbbbcccc", checkedGood)
	out, _, err := run(t, nil, "check", "s-aaaabbbbcccc")
	mustFail(t, err, "lost: 1 block: 4")
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
	f := newFakeCluster(t)
	f.use(t)
	f.Integrity.Nodes[1].Live = false
	out, errs, err := run(t, nil, "check", "s-ddddeeeeffff")
	mustFail(t, err, "1 of 1 checked node not valid")
	if !strings.Contains(out, "s-ddddeeeeffff  not-live  -  ") ||
		!strings.Contains(errs, "is not live; it is checked when it is back\n") {
		t.Errorf("printed %q, said %q", out, errs)
	}
}

func TestCheckNoWait(t *testing.T) {
	f := newFakeCluster(t)
	f.use(t)
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
	f := newFakeCluster(t)
	f.use(t)
	_, _, err := run(t, nil, "check", "s-aaaabbbbcccc", "s-nobody")
	mustFail(t, err, `"s-nobody" is neither the id nor the URL of a storage node; 'chainstore integrity' lists them`)
	if len(f.Checked) > 0 {
		t.Errorf("ordered %q", f.Checked)
	}
	f.Change(func() { f.Integrity.Nodes = nil })
	_, _, err = run(t, nil, "check")
	mustFail(t, err, "the cluster has no storage node")
}

// playing is a cluster that stands otherwise at each look.
type playing struct {
	in    wire.Integrity
	steps []step
	after func() // when the steps are used up
}

func (p *playing) Integrity(ctx context.Context) (wire.Integrity, error) {
	if len(p.steps) > 0 {
		p.steps[0](&p.in, &p.in.Nodes[0])
		p.steps = p.steps[1:]
	} else if p.after != nil {
		p.after()
	}
	in := p.in
	in.Nodes = slices.Clone(p.in.Nodes)
	return in, ctx.Err()
}

func (p *playing) CheckStorage(context.Context, string) (wire.NodeIntegrity, error) {
	p.in.Nodes[0].Due = "asked for"
	return p.in.Nodes[0], nil
}

func repeat(s step, times int) []step { return slices.Repeat([]step{s}, times) }

func TestCheckFollows(t *testing.T) {
	busy := func(in *wire.Integrity, n *wire.NodeIntegrity) { in.Nodes[1].State = stateValidating }
	alone := func(in *wire.Integrity, n *wire.NodeIntegrity) { in.Nodes[1].State = stateInvalid }
	alive := func(in *wire.Integrity, n *wire.NodeIntegrity) { n.Live = true }
	hurt := func(in *wire.Integrity, n *wire.NodeIntegrity) { n.State, n.Cause = stateInvalid, "behind" }
	tests := []struct {
		name   string
		steps  []step
		result string
		note   string // part of what is said, "" for nothing
	}{
		{"good", []step{checking, checking, checkedGood}, checkValid, ""},
		{"a check was under way", []step{checking, func(in *wire.Integrity, n *wire.NodeIntegrity) {
			checkedGood(in, n)
			n.Due = "asked for"
		}, checking, checkedGood}, checkValid, ""},
		{"repair between two looks", []step{func(in *wire.Integrity, n *wire.NodeIntegrity) {
			checkedBad(in, n)
			repaired(in, n)
		}}, checkRepaired, ""},
		{"found bad again", []step{checking, checkedBad, repairing, func(in *wire.Integrity, n *wire.NodeIntegrity) {
			repaired(in, n)
			n.Due = "not all could be checked"
		}, checking, checkedBad, repairing, repaired}, checkRepaired, "was checked; bad: 2 blocks: 5, 7"},
		{"already sending again",
			[]step{checkedGood, same, func(_ *wire.Integrity, n *wire.NodeIntegrity) { n.State = stateSending }},
			checkValid, ""},
		{"waits for another", append(append([]step{busy}, repeat(same, 10)...), checkedGood), checkValid,
			"waits for the check of s-ddddeeeeffff (http://127.0.0.1:8083)"},
		{"the last valid one", append(append([]step{alone}, repeat(same, 10)...), checkedGood), checkValid,
			"it is the only valid storage node now"},
		{"waits for its repair", append(append([]step{hurt}, repeat(same, 10)...), checkedGood), checkValid,
			"waits to be repaired (behind)"},
		{"short silence", slices.Concat([]step{checking}, repeat(dead, maxDead), []step{alive, checkedGood}),
			checkValid, ""},
		{"long silence", slices.Concat([]step{checking}, repeat(dead, maxDead+1)), checkNotLive, "is not live"},
		{"dead at once", []step{dead}, checkNotLive, "is not live"},
		{"lost after all", slices.Concat([]step{checkedBad, losing}, repeat(same, maxStuck)), checkLost,
			"nothing left to repair but lost blocks"},
		{"removed", []step{checking, func(in *wire.Integrity, _ *wire.NodeIntegrity) { in.Nodes = in.Nodes[1:] }},
			checkRemoved, "is no longer in the cluster"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := &playing{in: sampleIntegrity(), steps: test.steps,
				after: func() { t.Fatal("it looks on after the end") }}
			ticks := make(chan time.Time)
			close(ticks) // it looks again at once
			var errs bytes.Buffer
			k := &checker{cluster: p, ticks: ticks, errs: &errs, now: p.in}
			node := p.in.Nodes[0]
			got, err := k.check(t.Context(), &node)
			if err != nil || got.Result != test.result {
				t.Errorf("%+v, %v; want %s", got, err, test.result)
			}
			if said := errs.String(); test.note == "" && said != "" || !strings.Contains(said, test.note) {
				t.Errorf("said %q, want %q", said, test.note)
			}
		})
	}
}

func TestCheckStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := &playing{in: sampleIntegrity(), steps: []step{checkedGood, checking}, after: cancel}
	ticks := make(chan time.Time)
	close(ticks)
	var out, errs bytes.Buffer
	k := &checker{cluster: p, ticks: ticks, errs: &errs, now: p.in}
	node := p.in.Nodes[0]
	err := k.run(ctx, &out, []wire.NodeIntegrity{node, node}, false)
	mustFail(t, err, "stopped; ordered checks continue")
	if !strings.Contains(out.String(), "  valid    12 ") || !strings.Contains(out.String(), "  stopped  12 ") {
		t.Errorf("printed\n%s", out.String())
	}
}

// No line is wider than 80 columns, whatever the nodes say.
func TestCheckFits(t *testing.T) {
	in := sampleIntegrity()
	in.Lost = []chain.Range{{From: 1 << 40, To: 1<<40 + 5}, {From: 1 << 41, To: 1<<42 + 5}}
	r := checked{
		ID: "s-aaaabbbbccccdddd-and-more", URL: "http://127.0.0.1:8082", Result: checkLost, Blocks: 1_234_567_890,
		Bytes: 5 << 40, Millis: 86_400_000,
		BadBlocks: 1_234_567_890, Bad: in.Lost,
		Findings: []wire.Finding{{Block: 7, What: chain.WrongLink, Detail: strings.Repeat("many words ", 30) +
			"\x1b[2J"}},
	}
	out := checkText([]checked{r}, &in, render.StandardWidth)
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > render.StandardWidth {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Errorf("it steers the terminal: %q", out)
	}
}

func TestCheckFlags(t *testing.T) {
	for _, test := range []struct{ flag, want string }{
		{"--check-interval=-1s", "--check-interval -1s is negative"},
		{"--check-rate=-1", "--check-rate -1 is not within 0 and 1048576 MiB a second"},
		{"--check-rate=1048577", "--check-rate 1048577 is not within"},
	} {
		for _, role := range []string{"master", "dev"} {
			_, _, err := run(t, nil, role, "--data", t.TempDir(), test.flag)
			mustFail(t, err, test.want)
		}
	}
}

// aborted is a step: the check has ended early, for the nth time in a row.
func aborted(count int) step {
	return func(_ *wire.Integrity, n *wire.NodeIntegrity) {
		n.State, n.Task, n.Due = stateValid, nil, "asked for"
		n.Aborted = &wire.Aborted{Error: "read index: input/output error", Blocks: 3, Height: 12, Time: fakeTime +
			uint64(count), Count: count}
	}
}

// TestCheckThatEndedEarly: an incomplete check is never reported as valid.
func TestCheckThatEndedEarly(t *testing.T) {
	f := newFakeCluster(t)
	f.use(t)
	f.steps("s-aaaabbbbcccc", checking, aborted(1))
	f.steps("s-ddddeeeeffff", checkedGood)
	out, errs, err := run(t, nil, "check")
	mustFail(t, err, "1 of 2 nodes could not be checked to the end; the check stays due")
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

	// The next one ends early as well: that it did before is no news.
	f.steps("s-aaaabbbbcccc", same, checking, aborted(2))
	out, _, err = run(t, nil, "check", "--json", "s-aaaabbbbcccc")
	mustFail(t, err, "1 of 1 node could not be checked to the end")
	var got checked
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
	f.steps("s-aaaabbbbcccc", checking, checkedGood)
	if _, _, err = run(t, nil, "check", "s-aaaabbbbcccc"); err != nil {
		t.Error(err)
	}
}

// TestCheckNamesWhatWasMovedAside: it is something that was found, though no block is bad.
func TestCheckNamesWhatWasMovedAside(t *testing.T) {
	f := newFakeCluster(t)
	f.use(t)
	f.steps("s-aaaabbbbcccc", func(in *wire.Integrity, n *wire.NodeIntegrity) {
		checkedGood(in, n)
		tell(in, wire.Event{Kind: wire.EventFinding, Node: n.ID, URL: n.URL, Findings: []wire.Finding{
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
