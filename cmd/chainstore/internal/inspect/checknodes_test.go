package inspect

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/clitest"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

type step = clitest.Step

var (
	checking, checkedGood, checkedBad = clitest.Checking, clitest.CheckedGood, clitest.CheckedBad
	repairing, repaired, losing       = clitest.Repairing, clitest.Repaired, clitest.Losing
	same, dead                        = clitest.Same, clitest.Dead
)

// playing is a cluster whose state changes with each request.
type playing struct {
	in    wire.Integrity
	steps []step
	after func() // runs when no steps are left
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
	busy := func(in *wire.Integrity, n *wire.NodeIntegrity) { in.Nodes[1].State = "validating" }
	alone := func(in *wire.Integrity, n *wire.NodeIntegrity) { in.Nodes[1].State = "invalid" }
	alive := func(in *wire.Integrity, n *wire.NodeIntegrity) { n.Live = true }
	hurt := func(in *wire.Integrity, n *wire.NodeIntegrity) { n.State, n.Cause = "invalid", "behind" }
	tests := []struct {
		name   string
		steps  []step
		result string
		note   string // part of the message, "" for none
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
			[]step{checkedGood, same, func(_ *wire.Integrity, n *wire.NodeIntegrity) { n.State = "sending" }},
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
			p := &playing{in: clitest.SampleIntegrity(), steps: test.steps,
				after: func() { t.Fatal("it looks on after the end") }}
			ticks := make(chan time.Time)
			close(ticks) // the next poll follows at once
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
	p := &playing{in: clitest.SampleIntegrity(), steps: []step{checkedGood, checking}, after: cancel}
	ticks := make(chan time.Time)
	close(ticks)
	var out, errs bytes.Buffer
	k := &checker{cluster: p, ticks: ticks, errs: &errs, now: p.in}
	node := p.in.Nodes[0]
	err := k.run(ctx, &out, []wire.NodeIntegrity{node, node}, false)
	clitest.MustFail(t, err, "stopped; ordered checks continue")
	if !strings.Contains(out.String(), "  valid    12 ") || !strings.Contains(out.String(), "  stopped  12 ") {
		t.Errorf("printed\n%s", out.String())
	}
}

// TestCheckFits checks that no line is wider than 80 columns, whatever the nodes report.
func TestCheckFits(t *testing.T) {
	in := clitest.SampleIntegrity()
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

// failing is a cluster that answers a number of times and then no more.
type failing struct {
	playing
	answers int
}

var errSilent = errors.New("no answer")

func (f *failing) Integrity(ctx context.Context) (wire.Integrity, error) {
	if f.answers--; f.answers < 0 {
		return wire.Integrity{}, errSilent
	}
	return f.playing.Integrity(ctx)
}

func (f *failing) CheckStorage(ctx context.Context, id string) (wire.NodeIntegrity, error) {
	if f.answers--; f.answers < 0 {
		return wire.NodeIntegrity{}, errSilent
	}
	return f.playing.CheckStorage(ctx, id)
}

// TestCheckWithoutAnswer checks that a check fails if the cluster stops answering, whichever answer is the first that
// does not come, and that it shows the result so far.
func TestCheckWithoutAnswer(t *testing.T) {
	for answers := range 4 {
		p := &failing{playing{in: clitest.SampleIntegrity(), steps: []step{checking, same, same, same}}, answers}
		ticks := make(chan time.Time)
		close(ticks)
		k := &checker{cluster: p, ticks: ticks, errs: io.Discard, now: p.in}
		var out bytes.Buffer
		err := k.run(t.Context(), &out, p.in.Nodes[:1], false)
		if !errors.Is(err, errSilent) || !strings.Contains(out.String(), checkStopped) {
			t.Errorf("after %d answers: %v, printed %q", answers, err, out.String())
		}
	}
}
