package masterfsm

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// quotaTable is a table whose project 1 has a quota; at sends an append at an age of the table.
type quotaTable struct{ *table }

func newQuotaTable(t *testing.T, q Quota) quotaTable {
	b := newTable(t, DefaultSettings())
	b.ok(&ChangeProject{
		Project: 1, Quota: QuotaChange{&q.RecordsPerSecond, &q.BytesPerSecond, &q.RecordBytes}, Time: startTime,
	})
	return quotaTable{b}
}

func (b quotaTable) at(elapsed uint64, c call) Placement {
	b.t.Helper()
	b.seq++
	return b.submit(EncodeAppend(startTime, Reign{b.Term().Term, elapsed}, sent(b.t, "m1", 1, b.seq, c)))[0]
}

func records(n, size int) call {
	c := call{project: 1}
	for range n {
		c.payloads = append(c.payloads, strings.Repeat("x", size))
	}
	return c
}

func TestQuotaOfRecords(t *testing.T) {
	b := newQuotaTable(t, Quota{RecordsPerSecond: 10})
	if p := b.at(0, records(10, 1)); p.Err != Accepted {
		t.Fatalf("a second's worth at once: %+v", p)
	}
	for _, row := range []struct {
		elapsed uint64
		n       int
		want    Shortage // zero: accepted
	}{
		{0, 1, Shortage{Limit: 10, Left: 0, Wait: 100}},
		{99, 1, Shortage{Limit: 10, Left: 0, Wait: 1}},
		{100, 1, Shortage{}},
		{100, 10, Shortage{Limit: 10, Left: 0, Wait: 1000}},
		{350, 3, Shortage{Limit: 10, Left: 2, Wait: 50}},
		{350, 2, Shortage{}},
		{99_350, 10, Shortage{}}, // no more than a second's worth is ever saved up
		{99_350, 1, Shortage{Limit: 10, Left: 0, Wait: 100}},
	} {
		p := b.at(row.elapsed, records(row.n, 1))
		switch {
		case row.want == (Shortage{}):
			if p.Err != Accepted || len(p.Runs) == 0 {
				t.Errorf("%d records at %d ms: %+v", row.n, row.elapsed, p)
			}
		case p.Err != RefusedRate || p.Shortage == nil || *p.Shortage != row.want || p.Runs != nil:
			t.Errorf("%d records at %d ms: %+v %+v, want %+v", row.n, row.elapsed, p, p.Shortage, row.want)
		}
	}
	// Another project is not touched, nor is time that a clock makes up.
	if p := b.at(99_350, call{project: 2, payloads: payloads(50, "x")}); p.Err != Accepted {
		t.Errorf("another project: %+v", p)
	}
	b.seq++
	if p := b.submit(EncodeAppend(startTime+1<<40, Reign{b.Term().Term, 99_350},
		sent(t, "m1", 1, b.seq, records(1, 1))))[0]; p.Err != RefusedRate {
		t.Errorf("a wall clock that was set gave more: %+v", p)
	}
}

func TestQuotaOfBytes(t *testing.T) {
	b := newQuotaTable(t, Quota{BytesPerSecond: 1000, RecordBytes: 600})
	for name, c := range map[string]call{"record": records(1, 601), "batch": records(3, 334)} {
		if p := b.at(0, c); p.Err != RefusedSize || p.Shortage != nil {
			t.Errorf("%s that never fits: %+v", name, p)
		}
	}
	if p := b.at(0, records(2, 500)); p.Err != Accepted {
		t.Errorf("a second's worth: %+v", p)
	}
	if p := b.at(100, records(1, 150)); p.Err != RefusedRate ||
		*p.Shortage != (Shortage{Bytes: true, Limit: 1000, Left: 100, Wait: 50}) {
		t.Errorf("%+v %+v", p, p.Shortage)
	}
	if p := b.at(100, records(1, 100)); p.Err != Accepted {
		t.Errorf("what is left: %+v", p)
	}
}

// A refusal takes nothing, a replay costs nothing, and a leader that follows another goes on from what was spent.
func TestQuotaAcrossRefusalReplayAndTerm(t *testing.T) {
	b := newQuotaTable(t, Quota{RecordsPerSecond: 4})
	keyed := records(3, 1)
	keyed.key = "k"
	first := b.at(10, keyed)
	for range 5 {
		if p := b.at(10, records(2, 1)); p.Err != RefusedRate {
			t.Fatalf("%+v", p)
		}
		if p := b.at(10, keyed); !p.Replay || p.Runs[0].Block != first.Runs[0].Block {
			t.Fatalf("replay: %+v", p)
		}
	}
	b.State = restored(t, b.State)
	b.ok(&BeginTerm{Term: 2, Time: startTime, Settings: DefaultSettings()})
	if p := b.at(0, records(2, 1)); p.Err != RefusedRate || p.Shortage.Left != 1 {
		t.Errorf("a new leader: %+v %+v", p, p.Shortage)
	}
	if p := b.at(0, records(1, 1)); p.Err != Accepted {
		t.Errorf("what is left: %+v", p)
	}
	// Another quota begins anew, the same one does not.
	b.ok(&ChangeProject{Project: 1, Quota: QuotaChange{RecordsPerSecond: ptr[uint64](4)}, Time: startTime})
	if p := b.at(0, records(1, 1)); p.Err != RefusedRate {
		t.Errorf("the same quota: %+v", p)
	}
	b.ok(&ChangeProject{Project: 1, Quota: QuotaChange{RecordsPerSecond: ptr[uint64](2)}, Time: startTime})
	if p := b.at(0, records(2, 1)); p.Err != Accepted {
		t.Errorf("another quota: %+v", p)
	}
}

// Whatever is sent when, no more than a second's worth beyond the rate is ever accepted, and who waits as told is
// accepted.
func TestQuotaAgainstTheRate(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 3))
		q := Quota{RecordsPerSecond: 1 + rng.Uint64N(50), BytesPerSecond: 1 + rng.Uint64N(5000)}
		var spent Spent
		var age, taken, bytes uint64
		for range 2000 {
			age += rng.Uint64N(120)
			n := 1 + rng.Uint64N(q.RecordsPerSecond)
			size := rng.Uint64N(q.BytesPerSecond + 1)
			next, short := spent.spend(q, n, size, age)
			if short != nil {
				age += short.Wait
				if next, short = spent.spend(q, n, size, age); short != nil {
					t.Fatalf("seed %d: waited as told, and %+v", seed, short)
				}
			}
			if short == nil {
				spent, taken, bytes = next, taken+n, bytes+size
			}
			if 1000*taken > q.RecordsPerSecond*(age+1000) || 1000*bytes > q.BytesPerSecond*(age+1000) {
				t.Fatalf("seed %d: %d records and %d bytes in %d ms of %+v", seed, taken, bytes, age, q)
			}
		}
	}
}
