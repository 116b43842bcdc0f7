package leader

import (
	"reflect"
	"testing"
	"time"
)

// TestCompareClocks tests the comparison by rows: the clocks of m1, which leads, of the voters m2 to m8, and of m9,
// which has no vote, in seconds.
func TestCompareClocks(t *testing.T) {
	const day = 24 * 3600
	type clocks map[string]int
	type wrongBy map[string]time.Duration
	for name, c := range map[string]struct {
		clocks             clocks
		majority, agrees   bool
		better             string
		wrong              wrongBy
		disagree, unjudged bool
	}{
		"alone":               {clocks: clocks{"m1": 0}, unjudged: true},
		"two":                 {clocks: clocks{"m1": 0, "m2": 0}, unjudged: true},
		"two that differ":     {clocks: clocks{"m1": 0, "m2": day}, unjudged: true},
		"three":               {clocks: clocks{"m1": 0, "m2": 0, "m3": 0}, majority: true, agrees: true},
		"three, nearly equal": {clocks: clocks{"m1": 0, "m2": 10, "m3": -10}, majority: true, agrees: true},
		"three that differ":   {clocks: clocks{"m1": 0, "m2": day, "m3": -day}, disagree: true},
		"a follower is ahead": {clocks: clocks{"m1": 0, "m2": 5, "m3": day}, majority: true, agrees: true,
			wrong: wrongBy{"m3": (day - 5) * time.Second}},
		"a follower is behind": {clocks: clocks{"m1": 0, "m2": -5, "m3": -day}, majority: true, agrees: true,
			wrong: wrongBy{"m3": -(day - 5) * time.Second}},
		"the leader is ahead": {clocks: clocks{"m1": day, "m2": 0, "m3": 0}, majority: true, better: "m2",
			wrong: wrongBy{"m1": day * time.Second}},
		"the leader is behind": {clocks: clocks{"m1": -11, "m2": 0, "m3": 0}, majority: true, better: "m2",
			wrong: wrongBy{"m1": -11 * time.Second}},
		"the first other is wrong, too": {
			clocks: clocks{"m1": day, "m2": -day, "m3": 0, "m4": 1, "m5": 2}, majority: true, better: "m3",
			wrong: wrongBy{"m1": (day - 2) * time.Second, "m2": -day * time.Second},
		},
		"only one without a vote is right beside it": {
			clocks: clocks{"m1": 0, "m2": day, "m9": 0}, majority: true, agrees: true,
			wrong: wrongBy{"m2": day * time.Second},
		},
		"one without a vote cannot lead": {
			clocks: clocks{"m1": day, "m2": 0, "m9": 0}, majority: true, better: "m2",
			wrong: wrongBy{"m1": day * time.Second},
		},
		"two against two": {clocks: clocks{"m1": 0, "m2": 0, "m3": day, "m4": day}, disagree: true},
		"a chain":         {clocks: clocks{"m1": 0, "m2": 9, "m3": 18}, majority: true, agrees: true},
	} {
		t.Run(name, func(t *testing.T) {
			const now = 1_700_000_000
			var own reading
			var others []reading
			for id, at := range c.clocks {
				r := reading{id, id != "m9", uint64(now+at) * 1000}
				if id == "m1" {
					own = r
				} else {
					others = append(others, r)
				}
			}
			got := compareClocks(own, others)
			wrong, better := wrongBy{}, ""
			if len(got.better) > 0 {
				better = got.better[0]
			}
			for _, w := range got.Wrong {
				wrong[w.Master] = w.By
			}
			if c.wrong == nil {
				c.wrong = wrongBy{}
			}
			if got.Majority != c.majority || got.Agrees != c.agrees || better != c.better ||
				got.Compared != len(c.clocks) || got.Disagree() != c.disagree || !reflect.DeepEqual(wrong, c.wrong) ||
				(c.unjudged && (got.Majority || got.Agrees || got.Disagree())) {
				t.Errorf("%+v, want %+v", got, c)
			}
		})
	}
}

// TestHandOverInTurn checks that the masters with right clocks are tried in turn, and not one right after the other.
func TestHandOverInTurn(t *testing.T) {
	var h lastHandOver
	now := time.Now()
	if h.rests(now) {
		t.Error("it rests before the first time")
	}
	for _, want := range []string{"m2", "m3", "m5", "m2"} {
		if to := h.next([]string{"m2", "m3", "m5"}, now); to != want {
			t.Errorf("handed to %s, want %s", to, want)
		}
		if !h.rests(now.Add(handOverRest-1)) || h.rests(now.Add(handOverRest)) {
			t.Error("the rest has another length")
		}
	}
	if to := h.next([]string{"m2"}, now); to != "m2" {
		t.Errorf("handed to %s, the only one", to)
	}
}
