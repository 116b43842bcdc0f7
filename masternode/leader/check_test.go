package leader

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// TestDetailOfFinding checks that the code of a node's finding goes into the table if the table accepts both of its
// forms.
func TestDetailOfFinding(t *testing.T) {
	missing := wire.Message{Code: wire.CodeFileMissing, Args: wire.Args{"file": "0.seg"}}
	long := strings.Repeat("x", 2000)
	for name, c := range map[string]struct {
		finding wire.Finding
		want    masterfsm.Cause
	}{
		"a code":           {wire.NewFinding(1, "missing", missing), masterfsm.Cause(missing)},
		"of an older node": {wire.Finding{Detail: "0.seg is away"}, masterfsm.TextCause("0.seg is away")},
		"of a newer node": {wire.Finding{Detail: "new words", DetailCoded: wire.Message{Code: "of-a-newer-node"}},
			masterfsm.TextCause("new words")},
		"a long argument": {wire.Finding{Detail: "words",
			DetailCoded: wire.Message{Code: wire.CodeFileMissing, Args: wire.Args{"file": long}}},
			masterfsm.TextCause("words")},
		"an argument of no use": {wire.Finding{Detail: "words",
			DetailCoded: wire.Message{Code: wire.CodeFileMissing,
				Args: wire.Args{"file": "", "other": strings.Repeat(long, 5)}}}, masterfsm.TextCause("words")},
		"a long sentence": {wire.Finding{Detail: long}, masterfsm.TextCause(long[:maxDetail] + "…")},
		"none":            {wire.Finding{}, masterfsm.Cause{}},
	} {
		report := &wire.Report{Findings: []wire.Finding{c.finding}}
		if got := findingsOf(report)[0].Detail; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// TestTurnOfRepairs checks when a repair must end because other nodes wait.
func TestTurnOfRepairs(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	l := &leadership{Leader: &Leader{cfg: Config{Clock: func() time.Time { return now }}, pace: defaultPace()}}
	l.pace.check = time.Minute
	for name, c := range map[string]struct {
		states string // of the other nodes
		cut    int
		change func(*memory)
		want   time.Duration
	}{
		"nobody else":                   {states: "", want: math.MaxInt64},
		"another needs a repair":        {states: "IV", want: time.Hour},
		"and it was cut twice":          {states: "IV", cut: 2, want: 16 * time.Hour},
		"the last valid one is due":     {states: "SV", want: time.Hour},
		"the sender is due":             {states: "SVV", want: time.Hour},
		"two valid ones can be checked": {states: "VV", want: math.MaxInt64},
		"no check is due": {states: "SV", want: math.MaxInt64, change: func(m *memory) {
			for _, s := range m.nodes {
				s.checkedAt = now
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory(now.Add(-time.Hour))
			var view masterfsm.View
			for i, state := range "R" + c.states {
				n := masterfsm.Storage{ID: string(rune('a' + i)), Height: 1, State: map[rune]masterfsm.NodeState{
					'R': masterfsm.Receiving, 'I': masterfsm.Invalid, 'S': masterfsm.Sending, 'V': masterfsm.Valid,
				}[state]}
				view.Storages = append(view.Storages, n)
				s := m.node(n.ID)
				s.answered, s.checkedAt = now, now.Add(-time.Hour)
			}
			m.node("a").repairsCut = c.cut
			if c.change != nil {
				c.change(m)
			}
			if got := l.turn(&view.Storages[0], view, m); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// TestReportsSayThatTheyAreComplete checks that an empty report counts only if it says that it is complete. Older
// storage nodes do not send that.
func TestReportsSayThatTheyAreComplete(t *testing.T) {
	for _, row := range []struct {
		level    uint64
		complete bool
		early    bool
	}{
		{masterfsm.LevelReports, true, false}, {masterfsm.LevelReports, false, true},
		{masterfsm.LevelReports - 1, false, false},
	} {
		n := masterfsm.Storage{Level: row.level}
		status := wire.CheckStatus{Blocks: 20, Report: &wire.Report{Unchecked: 20, Complete: row.complete}}
		early := endedEarly(&n, status, 20)
		if (early != nil) != row.early || early != nil && early.Error == "" {
			t.Errorf("%+v: %+v", row, early)
		}
	}
}

// TestUnreadHistory checks that a block counts as bad only after three checks in a row could not read it, whatever else
// ended checks early, and that a node that can read no block is repaired only if there are other copies.
func TestUnreadHistory(t *testing.T) {
	n := masterfsm.Storage{Level: masterfsm.LevelReports}
	const height = 8
	check := func(unread ...chain.Range) wire.CheckStatus {
		status := wire.CheckStatus{Error: "input/output error"}
		if len(unread) > 0 {
			status.Unread = &wire.Report{Bad: unread, Unchecked: height}
			for _, r := range unread {
				status.Unread.Findings = append(status.Unread.Findings, wire.Finding{Block: r.From})
			}
		}
		return status
	}
	sectors := func(unread chain.Range) wire.CheckStatus {
		status := check(unread)
		status.DeviceReads = true
		return status
	}
	one, two := chain.Range{From: 2, To: 3}, chain.Range{From: 5, To: 6}
	all := chain.Range{To: height}
	good := wire.CheckStatus{Blocks: height, Report: &wire.Report{Unchecked: height, Complete: true}}
	for name, c := range map[string]struct {
		checks []wire.CheckStatus
		alone  bool
		want   []chain.Range
	}{
		"three times": {
			checks: []wire.CheckStatus{check(one), check(one, two), check(one)}, want: []chain.Range{one},
		},
		"twice":              {checks: []wire.CheckStatus{check(), check(), check(one), check(one)}},
		"each time another":  {checks: []wire.CheckStatus{check(one), check(two), check(one), check(two)}},
		"a good one between": {checks: []wire.CheckStatus{check(one), check(one), good, check(one)}},
		"one that did not look between": {
			checks: []wire.CheckStatus{check(one), check(one), check(), check(one)}, want: []chain.Range{one},
		},
		"everything":        {checks: []wire.CheckStatus{check(all), check(all), check(all)}, want: []chain.Range{all}},
		"everything, alone": {checks: []wire.CheckStatus{check(all), check(all), check(all)}, alone: true},
		"everything, alone, on bad sectors": {
			checks: []wire.CheckStatus{sectors(all), sectors(all), sectors(all)}, alone: true, want: []chain.Range{all},
		},
		"everything, alone, and then the device is gone": {
			checks: []wire.CheckStatus{sectors(all), sectors(all), check(all)}, alone: true,
		},
		"one block, alone": {
			checks: []wire.CheckStatus{check(one), check(one), check(one)}, alone: true, want: []chain.Range{one},
		},
	} {
		var h unreadHistory
		for i, status := range c.checks {
			_, h = tries{unread: h}.judge(&n, &status, height, !c.alone)
			var got []chain.Range
			if status.Report != nil {
				got = status.Report.Bad
			}
			if last := i == len(c.checks)-1; !last && len(got) > 0 || last && !slices.Equal(got, c.want) {
				t.Errorf("%s: check %d: %v", name, i, got)
			} else if last && len(c.want) > 0 && len(status.Report.Findings) != 1 {
				t.Errorf("%s: %+v", name, status.Report)
			}
		}
	}
}
