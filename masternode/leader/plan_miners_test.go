package leader

import (
	"slices"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
)

// TestPlanOfMiners tests what the leader does with miners that answer, or do not, by rows.
func TestPlanOfMiners(t *testing.T) {
	began := time.UnixMilli(1_700_000_000_000)
	const day = masterfsm.MinerExpiry
	for name, c := range map[string]struct {
		led      time.Duration // the time that this leader has led
		answered time.Duration // ago; -1 for never
		tried    time.Duration // ago
		level    uint64
		change   func(*masterfsm.Miner)
		mining   bool // it has an order
		want     []actionKind
	}{
		"at the start of a term": {led: time.Second, answered: -1, tried: time.Second / 2,
			want: []actionKind{actMine}},
		"one that answers": {led: time.Hour, answered: time.Second / 2, tried: time.Second / 2,
			want: []actionKind{actMine}},
		"a ping is due": {led: time.Hour, answered: time.Second, tried: time.Second,
			want: []actionKind{actMine, actPingMiner}},
		"one that is silent": {led: time.Hour, answered: 10 * time.Second, tried: 9 * time.Second},
		"one that is silent is asked less often": {led: time.Hour, answered: 20 * time.Second, tried: 10 * time.Second,
			want: []actionKind{actPingMiner}},
		"an order is not taken from one that is silent": {led: time.Hour, answered: 10 * time.Second,
			tried: time.Second, mining: true},
		"silent for a minute": {led: time.Hour, answered: time.Minute, tried: time.Second,
			want: []actionKind{actMarkMiners}},
		"silent for a minute, below level 3": {led: time.Hour, answered: time.Minute, tried: time.Second, level: 2},
		"silent, but marked already": {led: time.Hour, answered: time.Minute, tried: time.Second,
			change: func(m *masterfsm.Miner) { m.Dead, m.DeadAge = true, 2*day }},
		"never heard in this term": {led: time.Minute, answered: -1, tried: time.Second,
			want: []actionKind{actMarkMiners}},
		"not by a leader that cannot know yet": {led: 50 * time.Second, answered: -1, tried: time.Second},
		"it answers again": {led: time.Hour, answered: time.Second / 2, tried: time.Second / 2,
			change: func(m *masterfsm.Miner) { m.Dead, m.DeadAge = true, 1 },
			want:   []actionKind{actMine, actMarkMiners}},
		"dead for a day": {led: time.Hour, answered: -1, tried: time.Second,
			change: func(m *masterfsm.Miner) { m.Dead, m.DeadAge = true, day+3_600_000 },
			want:   []actionKind{actDropMiner}},
		"dead for nearly a day": {led: time.Hour, answered: -1, tried: time.Second,
			change: func(m *masterfsm.Miner) { m.Dead, m.DeadAge = true, day+3_600_001 }},
		"registered anew": {led: time.Hour, answered: time.Hour, tried: time.Second,
			change: func(m *masterfsm.Miner) { m.Boot = "2" }, want: []actionKind{actPingMiner}},
	} {
		t.Run(name, func(t *testing.T) {
			now := began.Add(c.led)
			miner := masterfsm.Miner{ID: "m", URL: "http://m", Boot: "1"}
			m := newMemory(began)
			s := m.node("m")
			s.entry, s.entered, s.tried = entryOf(&miner), began, now.Add(-c.tried)
			if c.answered >= 0 {
				s.answered = now.Add(-c.answered)
			}
			if c.change != nil {
				c.change(&miner)
			}
			if c.mining {
				m.inflight[action{kind: actMine, node: "m", share: share{of: 1}}] = func() {}
			}
			view := masterfsm.View{
				Level: masterfsm.ProtocolLevel, Begun: 2 * day, Settings: masterfsm.DefaultSettings(),
				Miners: []masterfsm.Miner{miner}, Waiting: &chain.Header{},
				Log: masterfsm.Log{Keys: make([]masterfsm.LogKey, 1)},
			}
			if c.level > 0 {
				view.Level = c.level
			}
			d := plan(view, m, nil, defaultPace(), now)
			var got []actionKind
			for _, a := range d.start {
				if a.kind != actRaiseLevel {
					got = append(got, a.kind)
				}
			}
			if !slices.Equal(got, c.want) || len(d.cancel) > 0 {
				t.Errorf("%v, want %v; cancelled %v", got, c.want, d.cancel)
			}
		})
	}
}
