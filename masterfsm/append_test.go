package masterfsm

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

func payloads(count int, prefix string) []string {
	p := make([]string, count)
	for i := range p {
		p[i] = fmt.Sprintf("%s %d", prefix, i)
	}
	return p
}

func TestAppendGivesPositions(t *testing.T) {
	b := newTable(t, smallSettings()) // 4 records a block
	got := b.add(startTime+1,
		call{project: 1, payloads: payloads(3, "a")},
		call{project: 2, payloads: payloads(1, "b")},
		call{project: 1, payloads: payloads(9, "c")}, // fills blocks 1 and 2, and starts block 3
	)
	want := []Placement{
		{Time: startTime + 1, Runs: []Run{{Block: 0, Offset: 0, Count: 3, Index: 0}}},
		{Time: startTime + 1, Runs: []Run{{Block: 0, Offset: 3, Count: 1, Index: 3}}}, // index 4 is the seal of block 0
		{Time: startTime + 1, Runs: []Run{
			{Block: 1, Offset: 0, Count: 4, Index: 5},
			{Block: 2, Offset: 0, Count: 4, Index: 10},
			{Block: 3, Offset: 0, Count: 1, Index: 15},
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	// A batch that begins within an open block and continues after its end.
	got = b.add(startTime+2, call{project: 2, payloads: payloads(5, "d")})
	want = []Placement{{Time: startTime + 2, Runs: []Run{
		{Block: 3, Offset: 1, Count: 3, Index: 16},
		{Block: 4, Offset: 0, Count: 2, Index: 20},
	}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if b.NextIndex() != 22 || b.Height() != 4 {
		t.Errorf("next index %d, height %d", b.NextIndex(), b.Height())
	}
	one, _ := b.Project(1)
	two, _ := b.Project(2)
	if one.Records != 12 || two.Records != 6 {
		t.Errorf("%d and %d records", one.Records, two.Records)
	}
	checkLeaves(t, b.State)
	b.mine()
	checkHeldChain(t, b.State, zeroHead)
}

func TestAppendKeepsTheBytes(t *testing.T) {
	b := newTable(t, smallSettings())
	c := call{project: 2, key: "k", payloads: payloads(6, "kept")}
	p := b.add(startTime+7, c)
	at := 0
	for _, run := range p[0].Runs {
		for i := range run.Count {
			want := c.record(at)
			want.Time = startTime + 7
			found, position, encoded, _ := b.Record(run.Block, run.Offset+i)
			if found != FoundRecord || position.Index != run.Index+uint64(i) ||
				!bytes.Equal(encoded, want.AppendTo(nil)) {
				t.Errorf("record %d: found %d at %+v", at, found, position)
			}
			at++
		}
	}
	if at != 6 {
		t.Errorf("%d records placed", at)
	}
}

func TestCutByBytes(t *testing.T) {
	settings := smallSettings()
	settings.MaxRecords = 1000
	b := newTable(t, settings) // 2,000 bytes a block
	big := strings.Repeat("x", 700)
	b.add(startTime, call{project: 1, payloads: []string{big + "1", big + "2"}})
	if b.Height() != 0 {
		t.Fatalf("cut at %d bytes", len(b.open.records))
	}
	// The record that reaches the limit belongs to the block that it closes.
	p := b.add(startTime, call{project: 1, payloads: []string{big + "3", "after"}})
	want := []Run{{Block: 0, Offset: 2, Count: 1, Index: 2}, {Block: 1, Offset: 0, Count: 1, Index: 4}}
	if b.Height() != 1 || !reflect.DeepEqual(p[0].Runs, want) {
		t.Errorf("height %d, %+v", b.Height(), p[0].Runs)
	}
	// A record over the limit gets its own block, after the waiting records.
	huge := strings.Repeat("y", 5000)
	p = b.add(startTime, call{project: 1, payloads: []string{huge}})
	if b.Height() != 2 || p[0].Runs[0] != (Run{Block: 1, Offset: 1, Count: 1, Index: 5}) {
		t.Errorf("height %d, %+v", b.Height(), p[0].Runs)
	}
}

// TestCutAtTheVeryByte checks that a block is closed when it reaches the limit, and not one byte earlier.
func TestCutAtTheVeryByte(t *testing.T) {
	overhead := len((&chain.Record{Type: "text/plain"}).AppendTo(nil))
	for _, size := range []int{1999, 2000, 2001} {
		b := newTable(t, smallSettings())
		b.add(startTime, call{project: 1, payloads: []string{strings.Repeat("x", size-overhead)}})
		want := uint64(0)
		if size >= 2000 {
			want = 1
		}
		if b.Height() != want {
			t.Errorf("%d bytes: height %d", size, b.Height())
		}
	}
}

// TestOpenSince checks that the age of a buffer is that of its oldest record.
func TestOpenSince(t *testing.T) {
	b := newTable(t, smallSettings())
	for n := range uint64(6) {
		b.add(startTime+n, call{project: 1, payloads: []string{"x"}})
		want := startTime + n - n%4
		if v := b.View(); v.OpenRecords > 0 && v.OpenSince != want {
			t.Errorf("after record %d: since %d, want %d", n, v.OpenSince, want)
		}
	}
	if v := restored(t, b.State).View(); v.OpenSince != startTime+4 {
		t.Errorf("restored: since %d", v.OpenSince)
	}
}

func TestAppendRefusesProject(t *testing.T) {
	b := newTable(t, smallSettings())
	for _, project := range []uint32{0, 3, math.MaxUint32} {
		before := b.NextIndex()
		p := b.add(startTime, call{project: project, payloads: []string{"x"}},
			call{project: 1, payloads: []string{"y"}})
		if p[0].Err != RefusedProject || p[0].Runs != nil || !errors.Is(p[0].Err.Error(), ErrUnknownProject) {
			t.Errorf("project %d: %+v", project, p[0])
		}
		// The other calls of the submission are not affected.
		if p[1].Err != Accepted || p[1].Err.Error() != nil || b.NextIndex() < before+1 {
			t.Errorf("project %d: %+v", project, p[1])
		}
	}
}

func TestReasons(t *testing.T) {
	for r, want := range map[Reason]error{
		RefusedBacklog: wire.ErrBacklog, RefusedProject: ErrUnknownProject, RefusedKey: wire.ErrKeyReused,
		RefusedRate: wire.ErrQuota, RefusedSize: ErrOversize, RefusedClosed: wire.ErrProjectClosed,
		200: ErrBadCommand,
	} {
		if !errors.Is(r.Error(), want) {
			t.Errorf("reason %d: %v", r, r.Error())
		}
	}
}

func TestBacklog(t *testing.T) {
	settings := smallSettings()
	settings.MaxPendingBytes = 300
	b := newTable(t, settings)
	kept := call{project: 1, key: "kept", payloads: []string{strings.Repeat("k", 100)}}
	first := b.add(startTime, kept)[0]
	// The request that crosses the limit is accepted completely. Later ones are refused, even in the same submission.
	p := b.add(startTime, call{project: 1, payloads: payloads(6, "over")}, call{project: 1, payloads: []string{"no"}})
	if p[0].Err != Accepted || p[1].Err != RefusedBacklog || !errors.Is(p[1].Err.Error(), wire.ErrBacklog) {
		t.Fatalf("%+v", p)
	}
	next := b.NextIndex()
	if p := b.add(startTime, call{project: 1, key: "new", payloads: []string{"no"}}); p[0].Err != RefusedBacklog {
		t.Errorf("%+v", p)
	}
	if b.NextIndex() != next {
		t.Error("a refused append moved the next index")
	}
	// A retry of an acknowledged request succeeds even if the masters are full.
	if p := b.add(startTime, kept); !p[0].Replay || p[0].Runs[0] != first.Runs[0] {
		t.Errorf("%+v", p)
	}
	// A refused key is not remembered: it is new when there is space again.
	b.node("a", 0)
	b.node("b", 0)
	b.ok(&Cut{Block: b.Height(), Time: startTime})
	b.mine()
	b.ack("a", b.Height())
	b.ack("b", b.Height())
	if p := b.add(startTime, call{project: 1, key: "new", payloads: []string{"yes"}}); p[0].Err != Accepted ||
		p[0].Replay {
		t.Errorf("%+v", p)
	}
}

func TestKeys(t *testing.T) {
	b := newTable(t, smallSettings())
	c := call{project: 1, key: "k", payloads: payloads(6, "keyed")}
	b.fill(2)
	first := b.add(startTime+1, c)[0]
	if first.Replay || len(first.Runs) != 2 {
		t.Fatalf("%+v", first)
	}
	next := b.NextIndex()
	again := b.add(startTime+9, c)[0]
	want := Placement{Replay: true, Runs: []Run{{Block: 0, Offset: 2, Count: 6}}}
	if !reflect.DeepEqual(again, want) {
		t.Errorf("replay %+v, want %+v", again, want)
	}
	if other := b.add(startTime+9, call{project: 1, key: "k",
		payloads: []string{"other"}})[0]; other.Err != RefusedKey ||
		other.Runs != nil || !errors.Is(other.Err.Error(), wire.ErrKeyReused) {
		t.Errorf("another body: %+v", other)
	}
	if b.NextIndex() != next {
		t.Errorf("replays appended: next index %d, was %d", b.NextIndex(), next)
	}
	// The key belongs to its project.
	elsewhere := c
	elsewhere.project = 2
	if p := b.add(startTime+9, elsewhere)[0]; p.Replay || p.Err != Accepted {
		t.Errorf("in another project: %+v", p)
	}
	// The same call twice in one submission.
	twin := call{project: 1, key: "twin", payloads: []string{"t"}}
	p := b.add(startTime+9, twin, twin)
	if p[0].Replay || !p[1].Replay || p[1].Runs[0].Block != p[0].Runs[0].Block ||
		p[1].Runs[0].Offset != p[0].Runs[0].Offset {
		t.Errorf("twins: %+v", p)
	}
	// Without a key there is no replay.
	plain := call{project: 1, payloads: []string{"p"}}
	if p := b.add(startTime+9, plain, plain); p[1].Replay || p[1].Runs[0] == p[0].Runs[0] {
		t.Errorf("without keys: %+v", p)
	}
	if n, oldest := b.Keys(Leadership{}); n != 3 || oldest != 8 {
		t.Errorf("%d keys, the oldest of %d ms", n, oldest)
	}
}

func TestKeysAreForgottenByCount(t *testing.T) {
	settings := smallSettings()
	settings.MaxKeys = 3
	b := newTable(t, settings)
	keyed := func(n int) call { return call{project: 1, key: fmt.Sprint("k", n), payloads: []string{fmt.Sprint(n)}} }
	for n := range 4 {
		b.add(startTime, keyed(n))
	}
	// The next append removes old keys. Then the three newest are known.
	if p := b.add(startTime, keyed(1), keyed(2), keyed(3)); !p[0].Replay || !p[1].Replay || !p[2].Replay {
		t.Errorf("%+v", p)
	}
	if p := b.add(startTime, keyed(0)); p[0].Replay || p[0].Err != Accepted {
		t.Errorf("the oldest of 4 is remembered: %+v", p)
	}
	if n, _ := b.Keys(Leadership{}); n > 4 {
		t.Errorf("%d keys", n)
	}
}

func TestKeysAreForgottenByAge(t *testing.T) {
	settings := smallSettings()
	settings.KeyAge = 1000
	b := newTable(t, settings)
	c := call{project: 1, key: "k", payloads: []string{"x"}}
	b.add(startTime, c)
	if p := b.add(startTime+1000, c); !p[0].Replay {
		t.Error("forgotten at its age")
	}
	if p := b.add(startTime+1001, c); p[0].Replay {
		t.Error("remembered beyond its age")
	}
	// The age of the new entry counts from its own time.
	if p := b.add(startTime+2001, c); !p[0].Replay {
		t.Errorf("%+v", p)
	}
	settings.KeyAge = math.MaxUint64 // must not overflow into the past
	b.ok(&BeginTerm{Term: 2, Time: startTime + 2001, Settings: settings})
	if p := b.add(startTime+1_000_000, c); !p[0].Replay {
		t.Error("forgotten although keys are kept for ever")
	}
}

// TestKeyPages checks more keys than a page holds, and removes keys at each position of a page.
func TestKeyPages(t *testing.T) {
	w := newKeyWindow()
	settings := Settings{MaxKeys: keyPage + 10, KeyAge: math.MaxUint64}
	key := func(n int) Digest { return digest(fmt.Sprint(n)) }
	const most = 3*keyPage + 7
	for n := range most {
		w.add(keyEntry{key: key(n), block: uint64(n), age: uint64(n)})
		w.evict(uint64(n), settings)
		if got := w.next - w.first; got != uint64(min(n+1, keyPage+10)) {
			t.Fatalf("%d keys after %d", got, n)
		}
	}
	for n := range most {
		e, ok := w.find(key(n))
		if ok != (n >= most-keyPage-10) || ok && (e.block != uint64(n) || e.key != key(n)) {
			t.Fatalf("key %d: %v, %+v", n, ok, e)
		}
	}
	if len(w.pages) > 3 {
		t.Errorf("%d pages", len(w.pages))
	}
	w.evict(math.MaxUint64, Settings{MaxKeys: 100, KeyAge: 0})
	if w.first != w.next || len(w.slots) != fewestSlots {
		t.Errorf("%d entries are left in %d slots", w.next-w.first, len(w.slots))
	}
	w.add(keyEntry{key: key(0), age: 5})
	if _, ok := w.find(key(0)); !ok {
		t.Error("not found after everything was forgotten")
	}
}

func TestSubmissionSentAgain(t *testing.T) {
	b := newTable(t, smallSettings())
	c := call{project: 1, payloads: payloads(6, "once")}
	data := appendOf(t, "m2", 7, 1, startTime+1, c)
	first := b.submit(data)
	before := snapshotBytes(t, b.State)
	again := appendOf(t, "m2", 7, 1, startTime+500, c) // at another time, perhaps from another leader
	if got := b.submit(again); !reflect.DeepEqual(got, first) {
		t.Errorf("sent again: %+v, want %+v", got, first)
	}
	if !bytes.Equal(before, snapshotBytes(t, b.State)) {
		t.Error("a submission that was known changed the state")
	}
	// The same number with another member or boot is a different submission.
	if got := b.submit(appendOf(t, "m3", 7, 1, startTime, c)); reflect.DeepEqual(got, first) {
		t.Error("taken for that of another member")
	}
	if got := b.submit(appendOf(t, "m2", 8, 1, startTime, c)); reflect.DeepEqual(got, first) {
		t.Error("taken for that of an older boot")
	}
	b.refusedBytes(data, ErrStale) // of the previous boot
	b.refusedBytes(appendOf(t, "m2", 7, 2, startTime, c), ErrStale)
}

// TestAddedRecords checks the number of records that each submission added: those that have a new position, however
// many blocks were cut.
func TestAddedRecords(t *testing.T) {
	b := newTable(t, smallSettings())
	added := func(data ...[]byte) (counts []uint64) {
		result, err := b.Apply(EncodeAppend(startTime, Leadership{}, data...))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range result.([]Outcome) {
			counts = append(counts, o.Added)
		}
		return counts
	}
	many := call{project: 1, key: "k", payloads: payloads(5*int(smallSettings().MaxRecords)+1, "many")}
	first := sent(t, "m2", 1, 1, many, call{project: 1, payloads: []string{"x"}},
		call{project: 9, payloads: []string{"y"}})
	height := b.Height()
	if got := added(first, first); got[0] != uint64(len(many.payloads))+1 || got[1] != 0 {
		t.Errorf("%d records and 1 are added as %d", len(many.payloads), got)
	}
	if b.Height() < height+5 {
		t.Errorf("only %d blocks were cut", b.Height()-height)
	}
	retry, fresh := sent(t, "m3", 1, 1, many), sent(t, "m3", 1, 2, call{project: 1, payloads: payloads(3, "z")})
	if got := added(retry, fresh, first); !reflect.DeepEqual(got, []uint64{0, 3, 0}) {
		t.Errorf("a retry, 3 records and a submission that is sent again are added as %d", got)
	}
}

func TestRefusedRequestStaysRefusedWhenSentAgain(t *testing.T) {
	b := newTable(t, smallSettings())
	data := appendOf(t, "m2", 1, 1, startTime, call{project: 3, payloads: []string{"x"}})
	b.submit(data)
	b.ok(&CreateProject{Name: "three", TokenHash: chain.Hash{3}, Time: startTime})
	if p := b.submit(data); p[0].Err != RefusedProject {
		t.Errorf("%+v", p)
	}
}

func TestSubmissionWindow(t *testing.T) {
	b := newTable(t, smallSettings())
	c := call{project: 1, payloads: []string{"x"}}
	at := func(seq uint64) []byte { return appendOf(t, "m2", 1, seq, startTime, c) }
	first := map[uint64][]Placement{}
	// Out of order, as submissions may arrive over several connections.
	for seq := uint64(100); seq > 100-SubmissionWindow; seq-- {
		first[seq] = b.submit(at(seq))
	}
	b.refusedBytes(at(100-SubmissionWindow), ErrStale)
	b.refusedBytes(at(0), ErrStale)
	for seq, want := range first {
		if got := b.submit(at(seq)); !reflect.DeepEqual(got, want) {
			t.Errorf("seq %d: %+v, want %+v", seq, got, want)
		}
	}
	b.submit(at(103)) // 69, 70 and 71 leave the window
	b.refusedBytes(at(71), ErrStale)
	if got := b.submit(at(72)); !reflect.DeepEqual(got, first[72]) {
		t.Errorf("seq 72: %+v", got)
	}
	b.submit(at(500))
	if got := len(b.members["m2"].Results); got != 1 {
		t.Errorf("%d results are kept", got)
	}
	// The numbers do not wrap around at their maximum.
	b.submit(at(math.MaxUint64))
	b.submit(at(math.MaxUint64 - SubmissionWindow + 1))
	b.refusedBytes(at(math.MaxUint64-SubmissionWindow), ErrStale)
	b.submit(appendOf(t, "m9", 1, math.MaxUint64, startTime, c))
	b.submit(appendOf(t, "m9", 2, 1, startTime, c))
}

func TestSubmissionWithoutRequests(t *testing.T) {
	b := newTable(t, smallSettings())
	if p := b.submit(appendOf(t, "m2", 1, 1, startTime)); len(p) != 0 {
		t.Errorf("%+v", p)
	}
	if got := snapshotBytes(t, restored(t, b.State)); !bytes.Equal(got, snapshotBytes(t, b.State)) {
		t.Error("restored with other bytes")
	}
}

func TestSubmissionBuilder(t *testing.T) {
	c := call{project: 5, key: "k", payloads: payloads(3, "x")}
	data := appendOf(t, "member", 3, 4, startTime, c, c)
	k, body, err := checkCommand(data)
	if err != nil || k != kindAppend {
		t.Fatalf("%d, %v", k, err)
	}
	time, _, all, err := parseAppend(kindAppend, body)
	if err != nil || time != startTime || len(all) != 1 {
		t.Fatalf("time %d, %d submissions, %v", time, len(all), err)
	}
	a := all[0]
	if a.boot != 3 || a.seq != 4 || a.member != "member" || len(a.requests) != 2 {
		t.Fatalf("%+v", a)
	}
	for _, q := range a.requests {
		if q.project != 5 || q.key != digest("k") || q.body != digest(fmt.Sprint(c.payloads)) || len(q.records) != 3 {
			t.Fatalf("%+v", q)
		}
		for i, r := range q.records {
			want := c.record(i)
			if r.commit != want.Commit() || !bytes.Equal(r.record, want.AppendTo(nil)) {
				t.Errorf("record %d differs", i)
			}
		}
	}
	s := NewSubmission(make([]byte, 0, 10), "m", 1, 2)
	s.StartRequest(1, Digest{}, Digest{})
	// The log cannot contain a request without records.
	if err := CheckSubmission(s.Bytes()); !errors.Is(err, ErrBadCommand) {
		t.Errorf("empty request: %v", err)
	}
}

func TestCheckSubmissionErrors(t *testing.T) {
	good := sent(t, "m2", 1, 1, call{project: 1, payloads: payloads(2, "x")})
	if n := SubmissionRequests(good); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
	for n := range good {
		if err := CheckSubmission(bytes.Clone(good[:n])); !errors.Is(err, ErrBadCommand) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
		if got := SubmissionRequests(bytes.Clone(good[:n])); got > 1 {
			t.Fatalf("cut to %d bytes: %d requests", n, got)
		}
	}
	for bit := range 8 * len(good) {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		kept := bytes.Clone(bad)
		if err := CheckSubmission(bad); !errors.Is(err, ErrBadCommand) || !bytes.Equal(bad, kept) {
			t.Fatalf("bit %d: %v", bit, err)
		}
	}
	if err := CheckSubmission(Encode(&Cut{})); !errors.Is(err, ErrBadCommand) {
		t.Errorf("a cut: %v", err)
	}
	// Truncated, but with a correct checksum.
	for n := commandHead; n < len(good); n++ {
		if err := CheckSubmission(seal(bytes.Clone(good[:n]))); !errors.Is(err, ErrBadCommand) {
			t.Fatalf("cut to %d bytes and summed: %v", n, err)
		}
	}
	if err := CheckSubmission(seal(append(bytes.Clone(good), 0))); !errors.Is(err, ErrBadCommand) {
		t.Errorf("a byte behind: %v", err)
	}
	// Well-formed commands that do not produce a valid block.
	of := func(change func(*chain.Record, *chain.Hash)) []byte {
		r := chain.Record{Project: 1, Key: "k", Payload: []byte("x")}
		commit := r.Commit()
		change(&r, &commit)
		s := NewSubmission(nil, "m2", 1, 1)
		s.StartRequest(1, Digest{}, Digest{})
		s.AddEncoded(commit, r.AppendTo(nil))
		return s.Bytes()
	}
	for name, c := range map[string]struct {
		change func(*chain.Record, *chain.Hash)
		good   bool
	}{
		"as it should be":    {func(*chain.Record, *chain.Hash) {}, true},
		"another commitment": {func(_ *chain.Record, h *chain.Hash) { h[0] ^= 1 }, false},
		"another payload":    {func(r *chain.Record, _ *chain.Hash) { r.Payload = []byte("y") }, false},
		"another project":    {func(r *chain.Record, _ *chain.Hash) { r.Project = 2 }, false},
		"a key that is no text": {func(r *chain.Record, h *chain.Hash) {
			r.Key = "\xff"
			*h = r.Commit()
		}, false},
	} {
		if err := CheckSubmission(of(c.change)); (err == nil) != c.good || err != nil &&
			!errors.Is(err, ErrBadCommand) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSeveralSubmissionsInOneAppend checks that the submissions of an append are applied in order, and that a refused
// one does not affect the others.
func TestSeveralSubmissionsInOneAppend(t *testing.T) {
	b := newTable(t, smallSettings())
	c := call{project: 1, payloads: payloads(3, "x")}
	b.submit(appendOf(t, "m2", 5, 100, startTime, c))
	result, err := b.Apply(EncodeAppend(startTime, Leadership{},
		sent(t, "m1", 9, 1, c, c), sent(t, "m2", 5, 3, c), sent(t, "m3", 1, 1, c), sent(t, "m2", 5, 100, c)))
	if err != nil {
		t.Fatal(err)
	}
	checkInvariants(t, b.State)
	outcomes := result.([]Outcome)
	if len(outcomes) != 4 || !errors.Is(outcomes[1].Err, ErrStale) || outcomes[0].Err != nil || outcomes[2].Err != nil {
		t.Fatalf("%+v", outcomes)
	}
	next := uint64(0)
	for _, placements := range [][]Placement{outcomes[3].Placements, outcomes[0].Placements, outcomes[2].Placements} {
		for _, p := range placements {
			for _, run := range p.Runs {
				if run.Index < next {
					t.Errorf("index %d after %d: %+v", run.Index, next, outcomes)
				}
				next = run.Index + uint64(run.Count)
			}
		}
	}
	if result, err := b.Apply(EncodeAppend(startTime, Leadership{})); err != nil || len(result.([]Outcome)) != 0 {
		t.Errorf("an append of nothing: %v, %v", result, err)
	}
}
