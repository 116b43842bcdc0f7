package masterfsm

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
)

// TestKeysOutliveAClockJump checks that a jump of the wall clock removes no key. The age of keys is measured by the
// elapsed time that leaders report.
func TestKeysOutliveAClockJump(t *testing.T) {
	settings := smallSettings()
	settings.KeyAge = 1000
	b := newTable(t, settings)
	c := call{project: 1, key: "k", payloads: []string{"x"}}
	send := func(time, elapsed uint64) Placement {
		b.seq++
		result, err := b.Apply(EncodeAppend(time, Leadership{b.Term().Term, elapsed}, sent(t, "m1", 1, b.seq, c)))
		if err != nil {
			t.Fatal(err)
		}
		return result.([]Outcome)[0].Placements[0]
	}
	send(startTime, 10)
	const year = 365 * 24 * 3600 * 1000
	if p := send(startTime+year, 20); !p.Replay {
		t.Fatal("a clock that jumped by a year made it forget")
	}
	// No time passes between two leaders. The time that a leader reports is added to that of its predecessors.
	b.ok(&BeginTerm{Term: 2, Time: startTime + 2*year, Settings: settings})
	if p := send(startTime+2*year, 990); !p.Replay {
		t.Error("forgotten before its age")
	}
	b.ok(&BeginTerm{Term: 3, Time: startTime, Settings: settings})
	if p := send(startTime, 1); p.Replay {
		t.Error("remembered beyond its age")
	}
	if n, oldest := b.Keys(Leadership{}); n != 1 || oldest != 0 {
		t.Errorf("%d keys, the oldest of %d ms", n, oldest)
	}
	// Absurd times of a leader do no harm.
	send(startTime, math.MaxUint64)
	b.ok(&BeginTerm{Term: 4, Time: startTime, Settings: settings})
	send(startTime, math.MaxUint64)
	if b.age < b.begun {
		t.Error("the clock ran over")
	}
}

// TestKeysOfAnotherTerm checks that the elapsed time of one term has no effect in another. A command that was in flight
// while the leader lost and regained the leadership may contain the elapsed time of the earlier term.
func TestKeysOfAnotherTerm(t *testing.T) {
	settings := smallSettings()
	settings.KeyAge = 1000
	b := newTable(t, settings)
	c := call{project: 1, key: "k", payloads: []string{"x"}}
	send := func(leadership Leadership) Placement {
		b.seq++
		result, err := b.Apply(EncodeAppend(startTime, leadership, sent(t, "m1", 1, b.seq, c)))
		if err != nil {
			t.Fatal(err)
		}
		return result.([]Outcome)[0].Placements[0]
	}
	send(Leadership{Term: 1, Elapsed: 10})
	b.ok(&BeginTerm{Term: 2, Time: startTime, Settings: settings})
	const long = 5000
	for _, other := range []Leadership{{Term: 1, Elapsed: long}, {Term: 3, Elapsed: long}, {Elapsed: long}} {
		if p := send(other); !p.Replay {
			t.Fatalf("%+v made it forget in term 2", other)
		}
		if _, oldest := b.Keys(other); oldest != 0 {
			t.Errorf("%+v: the oldest is of %d ms", other, oldest)
		}
	}
	if _, oldest := b.Keys(Leadership{Term: 2, Elapsed: 7}); oldest != 7 {
		t.Errorf("the oldest is of %d ms", oldest)
	}
	if p := send(Leadership{Term: 2, Elapsed: long}); p.Replay {
		t.Error("remembered beyond its age")
	}
}

func randomKey(random *rand.Rand) (d Digest) {
	binary.BigEndian.PutUint64(d[:], random.Uint64())
	binary.BigEndian.PutUint64(d[8:], random.Uint64())
	return d
}

// TestKeysAreSmall checks that a million keys use less than 64 bytes each in total.
func TestKeysAreSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("a million keys")
	}
	const keys = 1_000_000
	random := rand.New(rand.NewPCG(1, 1))
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	w := newKeyWindow()
	// Twice as many keys arrive as are remembered, as in practice.
	settings := Settings{MaxKeys: keys, KeyAge: math.MaxUint64}
	for range 2 * keys {
		w.add(keyEntry{key: randomKey(random)})
		w.evict(0, settings)
	}
	each := float64(heap()-before) / keys
	t.Logf("%.1f bytes a key", each)
	if each >= 64 || w.count() != keys {
		t.Errorf("%d keys cost %.1f bytes each", w.count(), each)
	}
	runtime.KeepAlive(w)
}

// TestKeyTableAgainstMap compares the table with a map under random insertions and removals.
func TestKeyTableAgainstMap(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 2))
		w, want := newKeyWindow(), map[Digest]uint64{}
		w.base, w.first, w.next = math.MaxUint32-50, math.MaxUint32-50, math.MaxUint32-50 // slots soon wrap around
		var order []Digest
		most := 1 + random.IntN(300)
		for range 3000 {
			k := randomKey(random)
			want[k] = w.next
			order = append(order, k)
			w.add(keyEntry{key: k, block: w.next})
			if random.IntN(500) == 0 {
				most = 1 + random.IntN(300)
			}
			w.evict(0, Settings{MaxKeys: uint32(most), KeyAge: math.MaxUint64})
			for len(order) > most {
				delete(want, order[0])
				order = order[1:]
			}
			for _, k := range []Digest{order[random.IntN(len(order))], k, randomKey(random)} {
				e, ok := w.find(k)
				if n, known := want[k]; ok != known || ok && e.block != n {
					t.Fatalf("seed %d: found %v, want %v", seed, ok, known)
				}
			}
		}
		if int(w.count()) != len(want) {
			t.Fatalf("seed %d: %d keys, want %d", seed, w.count(), len(want))
		}
	}
}
