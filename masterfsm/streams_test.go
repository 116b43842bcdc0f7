package masterfsm

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/chainstore/chainstore/masterfsm/streams"
	"github.com/chainstore/chainstore/wire"
)

// streamingTable returns a busy table at the newest level, with streams.
func streamingTable(t testing.TB) *table {
	t.Helper()
	b := busyTable(t)
	b.raise()
	b.part(1, "s", 1, 3)
	b.part(2, "s", 1, 1)
	b.part(1, "s", 4, 6) // over a block's end
	b.part(1, "other", 1, 2)
	return b
}

// numbered returns count records of a stream from a number on. The number determines the payload.
func numbered(project uint32, stream string, first uint64, count int) call {
	c := call{project: project, stream: stream, first: first}
	for i := range count {
		c.payloads = append(c.payloads, fmt.Sprintf("%d/%s/%d", project, stream, first+uint64(i)))
	}
	return c
}

// part appends a part of a stream in a submission of its own.
func (b *table) part(project uint32, stream string, first uint64, count int) Placement {
	b.t.Helper()
	b.seq++
	return b.submit(EncodeAppend(b.now, Leadership{},
		sentParts(b.t, "m3", 1, b.seq, numbered(project, stream, first, count))))[0]
}

// places lists the block and the offset of each record.
func places(runs []Run) (at [][2]uint64) {
	for _, r := range runs {
		for i := range uint64(r.Count) {
			at = append(at, [2]uint64{r.Block, uint64(r.Offset) + i})
		}
	}
	return at
}

// TestStream checks that records of a stream are appended in the order of their numbers, each once, and that records
// that are sent again get their first positions.
func TestStream(t *testing.T) {
	b := newTable(t, smallSettings()) // 4 records a block
	b.raise()
	var at [][2]uint64
	take := func(b *table, first uint64, count int) {
		t.Helper()
		p := b.part(1, "s", first, count)
		if p.Err != Accepted || p.Replay {
			t.Fatalf("%d records from %d on: %+v", count, first, p)
		}
		at = append(at, places(p.Runs)...)
	}
	take(b, 1, 3)
	b.fill(1) // another's record between them
	take(b, 4, 6)
	take(b, 10, 1)
	next := b.NextIndex()
	for _, b := range []*table{b, {t: t, State: restored(t, b.State), seq: b.seq}} {
		for first := uint64(1); first <= 10; first++ {
			for count := 1; first+uint64(count) <= 11; count++ {
				p := b.part(1, "s", first, count)
				if want := at[first-1 : int(first)-1+count]; !p.Replay || !reflect.DeepEqual(places(p.Runs), want) {
					t.Fatalf("%d records from %d on were sent again: %+v, want %v", count, first, p, want)
				}
			}
		}
		for _, refused := range []struct {
			stream string
			first  uint64
			count  int
			want   Placement
		}{
			{"s", 12, 1, Placement{Err: RefusedGap, Next: 11}},
			{"s", 10, 2, Placement{Err: RefusedGap, Next: 11}}, // one of them was appended
			{"s", 1, 11, Placement{Err: RefusedGap, Next: 11}},
			{"s", 1<<64 - 1, 1, Placement{Err: RefusedGap, Next: 11}},
			{"s", 0, 1, Placement{Err: RefusedPassed, Next: 11}},
			{"unknown", 2, 1, Placement{Err: RefusedStream}},
			{"unknown", 0, 1, Placement{Err: RefusedStream}},
		} {
			if p := b.part(1, refused.stream, refused.first, refused.count); !reflect.DeepEqual(p, refused.want) {
				t.Errorf("%+v: got %+v", refused, p)
			}
		}
		if b.NextIndex() != next {
			t.Error("something was appended")
		}
	}
	if p := b.part(2, "s", 1, 1); p.Err != Accepted || p.Replay {
		t.Errorf("the stream of another project: %+v", p)
	}
	if s, ok := b.Stream(1, digest("s")); s.Last != 10 || s.Oldest != 1 || !ok {
		t.Errorf("the stream is at %d, from %d on, %v", s.Last, s.Oldest, ok)
	}
	if _, ok := b.Stream(3, digest("s")); ok {
		t.Error("a project without streams has one")
	}
}

// TestStreamWindow checks that exactly the newest records can be sent again, as many as the window of the level.
func TestStreamWindow(t *testing.T) {
	for level, window := range map[uint64]uint64{LevelWindow - 1: streams.FirstWindow, LevelWindow: streams.Window} {
		settings := smallSettings()
		settings.MaxPendingBytes = 1_000_000
		b := newTable(t, settings)
		b.ok(&RaiseLevel{Level: level, Time: startTime})
		for first := uint64(1); first <= window+10; first += 7 {
			if p := b.part(1, "s", first, 7); p.Err != Accepted {
				t.Fatalf("level %d, from %d on: %+v", level, first, p)
			}
		}
		s, _ := b.Stream(1, digest("s"))
		last, oldest := s.Last, s.Oldest
		if last-oldest+1 != window || b.StreamWindow() != window {
			t.Errorf("level %d: the positions of %d records are known, the window is %d", level, last-oldest+1,
				b.StreamWindow())
		}
		if p := b.part(1, "s", oldest, int(window)); !p.Replay || uint64(len(places(p.Runs))) != window {
			t.Errorf("level %d: the whole window: %+v", level, p)
		}
		if p := b.part(1, "s", oldest-1, 3); p.Err != RefusedPassed || p.Next != last+1 {
			t.Errorf("level %d: beyond the window: %+v", level, p)
		}
	}
}

// TestStreamRefusals checks that a part which the quota or the backlog refuses leaves the stream where it is.
func TestStreamRefusals(t *testing.T) {
	b := newTable(t, smallSettings())
	b.raise()
	rate := uint64(2)
	b.ok(&ChangeProject{Project: 1, Quota: QuotaChange{RecordsPerSecond: &rate}, Time: startTime})
	if p := b.part(1, "s", 1, 2); p.Err != Accepted {
		t.Fatalf("%+v", p)
	}
	for want, count := range map[Reason]int{RefusedRate: 1, RefusedSize: 3} {
		if p := b.part(1, "s", 3, count); p.Err != want {
			t.Errorf("%d records: %+v, want %d", count, p, want)
		}
	}
	if p := b.part(1, "new", 1, 1); p.Err != RefusedRate {
		t.Errorf("a new stream: %+v", p)
	}
	if p := b.part(1, "s", 1, 2); !p.Replay {
		t.Errorf("sent again, which costs nothing: %+v", p)
	}
	if s, _ := b.Stream(1, digest("s")); s.Last != 2 {
		t.Errorf("the stream is at %d", s.Last)
	}
	if _, ok := b.Stream(1, digest("new")); ok {
		t.Error("a refused part began a stream")
	}
}

// TestStreamLevels checks that streams need their protocol level, and that a submission of the other kind is
// distinguished by the streams and numbers of its parts.
func TestStreamLevels(t *testing.T) {
	b := newTable(t, smallSettings())
	b.ok(&RaiseLevel{Level: LevelStreams - 1, Time: startTime})
	before := b.NextIndex()
	if p := b.part(1, "s", 1, 1); p.Err != RefusedLevel || !errors.Is(p.Err.Error(), wire.ErrNoStreams) {
		t.Errorf("below level %d: %+v", LevelStreams, p)
	}
	if b.NextIndex() != before || snapshotBytes(t, b.State)[4] != snapshotVersionOf(LevelStreams, false)-1 {
		t.Error("something was appended, or the snapshot is of the new version")
	}
	b.raise()
	data := EncodeAppend(startTime, Leadership{}, sentParts(t, "m2", 1, 1, numbered(1, "s", 1, 1)))
	first := b.submit(data)
	if again := b.submit(data); !reflect.DeepEqual(again, first) {
		t.Errorf("sent again: %+v, at first %+v", again, first)
	}
	for _, other := range []call{numbered(1, "t", 1, 1), numbered(1, "s", 2, 1)} {
		other.payloads = numbered(1, "s", 1, 1).payloads
		b.refusedBytes(EncodeAppend(startTime, Leadership{}, sentParts(t, "m2", 1, 1, other)), ErrNameReused)
	}
}

// TestStreamsInSnapshots checks that a snapshot has the streams, with the order in which they were used.
func TestStreamsInSnapshots(t *testing.T) {
	b := newTable(t, smallSettings())
	b.raise()
	name := func(i int) string { return fmt.Sprint("s", i) }
	for i := range streams.Named {
		b.part(1, name(i), 1, 1)
	}
	b.part(1, name(0), 1, 1) // a replay: it is used again
	before := snapshotBytes(t, b.State)
	taken := b.Snapshot()
	back := &table{t: t, State: restored(t, b.State), seq: b.seq}
	for _, b := range []*table{b, back} {
		b.part(1, name(0), 2, 5)
		if p := b.part(1, "more", 1, 1); p.Err != RefusedRoom {
			t.Errorf("one stream more: %+v", p)
		}
		b.idle(streams.NamedIdle - 1)
		b.part(1, name(0), 7, 1)
		if p := b.part(1, "more", 1, 1); p.Err != RefusedRoom {
			t.Errorf("one stream more, too early: %+v", p)
		}
		b.idle(streams.NamedIdle)
		b.part(1, name(0), 8, 1)
		if p := b.part(1, "more", 1, 1); p.Err != Accepted {
			t.Errorf("one stream more, when the others are idle: %+v", p)
		}
		for i, want := range []bool{true, false, true} {
			if _, ok := b.Stream(1, digest(name(i))); ok != want {
				t.Errorf("stream %d is known: %v, want %v", i, ok, want)
			}
		}
		if p := b.part(1, name(1), 2, 1); p.Err != RefusedStream {
			t.Errorf("a forgotten stream: %+v", p)
		}
	}
	if !bytes.Equal(snapshotBytes(t, back.State), snapshotBytes(t, b.State)) {
		t.Error("the states have parted")
	}
	var late bytes.Buffer
	if err := taken.Write(&late); err != nil || !bytes.Equal(late.Bytes(), before) {
		t.Errorf("the snapshot changed after it was taken: %v", err)
	}
}

// idle lets the table's age become so many milliseconds.
func (b *table) idle(age uint64) {
	b.t.Helper()
	b.seq++
	b.submit(EncodeAppend(b.now, Leadership{Term: b.term.Term, Elapsed: age - b.begun},
		sent(b.t, "m3", 1, b.seq, call{project: 3, payloads: []string{"x"}})))
	if b.age != age {
		b.t.Fatalf("the table is %d ms old, want %d", b.age, age)
	}
}

// send appends a part in a submission of its own.
func (b *table) send(c call) Placement {
	b.t.Helper()
	b.seq++
	return b.submit(EncodeAppend(b.now, Leadership{}, sentParts(b.t, "m3", 1, b.seq, c)))[0]
}

// TestRemoveStream checks that a stream that was removed may begin again, and makes room for another.
func TestRemoveStream(t *testing.T) {
	b := newTable(t, smallSettings())
	b.refused(&RemoveStream{Project: 1, Stream: digest("s0"), Time: startTime}, wire.ErrNoStreams)
	b.raise()
	for i := range streams.Named {
		b.part(1, fmt.Sprint("s", i), 1, 1)
	}
	b.refused(&RemoveStream{Project: 2, Stream: digest("s0"), Time: startTime}, wire.ErrUnknownStream)
	b.ok(&RemoveStream{Project: 1, Stream: digest("s0"), Time: startTime})
	b.refused(&RemoveStream{Project: 1, Stream: digest("s0"), Time: startTime}, wire.ErrUnknownStream)
	if p := b.part(1, "s0", 2, 1); p.Err != RefusedStream {
		t.Errorf("it is continued: %+v", p)
	}
	if p := b.part(1, "s0", 1, 1); p.Err != Accepted || p.Replay {
		t.Errorf("it begins again: %+v", p)
	}
	if p := b.part(1, "more", 1, 1); p.Err != RefusedRoom || !errors.Is(p.Err.Error(), wire.ErrTooMany) {
		t.Errorf("one stream more: %+v", p)
	}
}

// TestUnnamedStreams checks that streams whose ids no client has chosen leave the room of the others, make room for
// each other when they are idle, and begin only with a part that may do so.
func TestUnnamedStreams(t *testing.T) {
	b := newTable(t, smallSettings())
	b.raise()
	send := func(i int, first uint64, without PartFlags) Reason {
		c := numbered(1, fmt.Sprint("u", i), first, 1)
		c.without = without | PartNamed
		return b.send(c).Err
	}
	for i := range streams.Unnamed {
		if err := send(i, 1, 0); err != Accepted {
			t.Fatalf("stream %d: %d", i, err)
		}
	}
	if p := b.part(1, "named", 1, 1); p.Err != Accepted {
		t.Errorf("a named stream: %+v", p)
	}
	if err := send(streams.Unnamed, 1, 0); err != RefusedRoom {
		t.Errorf("one stream more: %d", err)
	}
	b.idle(streams.UnnamedIdle)
	if err := send(streams.Unnamed, 1, PartBegins); err != RefusedStream {
		t.Errorf("one stream more, which may not begin: %d", err)
	}
	if err := send(streams.Unnamed, 1, 0); err != Accepted {
		t.Errorf("one stream more, when the others are idle: %d", err)
	}
	if err := send(0, 1, PartBegins); err != RefusedStream {
		t.Errorf("a stream that was forgotten, from its beginning: %d", err)
	}
	if err := send(1, 2, PartBegins); err != Accepted {
		t.Errorf("a stream that is known is continued: %d", err)
	}
}

// TestOpenStream checks a stream that is opened before its first record: that record is appended once, however often it
// is sent and whatever flags its part has, and never after the stream was forgotten.
func TestOpenStream(t *testing.T) {
	b := newTable(t, smallSettings())
	open := func(project uint32, id string, age uint64) *OpenStream {
		return &OpenStream{Project: project, ID: id, Time: startTime, Age: age}
	}
	b.ok(&RaiseLevel{Level: LevelStreamIDs - 1, Time: startTime})
	b.refused(open(1, "_0", 0), wire.ErrNoStreams)
	b.raise()
	b.refused(open(9, "_0", 0), ErrUnknownProject)
	for i := range streams.Unnamed {
		b.ok(open(1, fmt.Sprint("_", i), 0))
	}
	b.refused(open(1, "_0", 0), ErrBadCommand)
	b.refused(open(1, "_more", streams.UnnamedIdle-1), wire.ErrTooMany)
	b.ok(open(2, "_0", 0)) // of another project
	send := func(b *table, id string, first uint64, count int) Placement {
		c := numbered(1, id, first, count)
		c.without = PartBegins | PartNamed
		return b.send(c)
	}
	for _, b := range []*table{b, {t: t, State: restored(t, b.State), seq: b.seq}} {
		if s, ok := b.Stream(1, digest("_0")); !ok || s.Last != 0 || s.Oldest != 1 || s.ID != "_0" || s.Named {
			t.Fatalf("%+v, %v", s, ok)
		}
		if p := send(b, "_0", 2, 1); p.Err != RefusedGap || p.Next != 1 {
			t.Errorf("it begins with number 2: %+v", p)
		}
		first := send(b, "_0", 1, 3)
		if first.Err != Accepted || first.Replay {
			t.Fatalf("%+v", first)
		}
		for range 3 {
			if p := send(b, "_0", 1, 3); !p.Replay || !reflect.DeepEqual(places(p.Runs), places(first.Runs)) {
				t.Errorf("sent again: %+v, at first %+v", p, first)
			}
		}
		b.ok(open(1, "_more", streams.UnnamedIdle)) // in the place of _1, which was not used since it was opened
		if p := send(b, "_1", 1, 1); p.Err != RefusedStream {
			t.Errorf("it was forgotten, and begins: %+v", p)
		}
		if p := send(b, "_more", 1, 1); p.Err != Accepted {
			t.Errorf("%+v", p)
		}
	}
	b.Apply(Encode(open(1, "_absurd", 1<<63)))
	if b.Age() != streams.UnnamedIdle {
		t.Errorf("an absurd age moves that of the table to %d", b.Age())
	}
}

// TestStreamsListed checks the pages of a project's streams.
func TestStreamsListed(t *testing.T) {
	b := newTable(t, smallSettings())
	b.raise()
	for _, id := range []string{"c", "a", "b"} {
		b.part(1, id, 1, 2)
	}
	b.part(2, "z", 1, 1)
	b.ok(&OpenStream{Project: 1, ID: "_x", Time: startTime + 5})
	ids := func(after string, limit int) (list []string) {
		for _, s := range b.Streams(1, after, limit) {
			list = append(list, s.ID)
		}
		return list
	}
	for _, c := range []struct {
		after string
		limit int
		want  []string
	}{
		{"", 9, []string{"_x", "a", "b", "c"}}, {"", 2, []string{"_x", "a"}}, {"a", 2, []string{"b", "c"}},
		{"aa", 1, []string{"b"}}, {"c", 1, nil},
	} {
		if got := ids(c.after, c.limit); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%d after %q: %q, want %q", c.limit, c.after, got, c.want)
		}
	}
	if s := b.Streams(1, "", 2); s[0].Named || s[0].Time != startTime+5 || !s[1].Named || s[1].Last != 2 {
		t.Errorf("%+v", s)
	}
}

// TestStreamIDsFromTheirLevel checks that a stream has no id below the level of ids, that masters which were restored
// below it get the same state above it, and that the stream has its id when it is used again.
func TestStreamIDsFromTheirLevel(t *testing.T) {
	a := newTable(t, smallSettings())
	a.ok(&RaiseLevel{Level: LevelStreamIDs - 1, Time: startTime})
	a.part(1, "s", 1, 2)
	b := &table{t: t, State: restored(t, a.State), seq: a.seq}
	for _, x := range []*table{a, b} {
		x.raise()
		if s, _ := x.Stream(1, digest("s")); s.ID != "" || s.Time != 0 || len(x.Streams(1, "", 9)) != 0 {
			t.Errorf("%+v", s)
		}
		x.part(1, "s", 2, 1) // sent again
		if s := x.Streams(1, "", 9); len(s) != 1 || s[0].ID != "s" || !s[0].Named || s[0].Time != x.Now() {
			t.Errorf("%+v", s)
		}
	}
	if !bytes.Equal(snapshotBytes(t, a.State), snapshotBytes(t, b.State)) {
		t.Error("the states have parted")
	}
}

// TestForeignRecords checks that records are compared only for the token that has sent them, or one that may read.
func TestForeignRecords(t *testing.T) {
	b := newTable(t, smallSettings())
	b.raise()
	send := func(token uint32, first uint64, count int, reads bool) Placement {
		c := numbered(1, "s", first, count)
		if c.token = token; !reads {
			c.without = PartReader
		}
		return b.send(c)
	}
	send(5, 1, 3, false)
	send(6, 4, 2, false)
	send(6, 6, 1, false)
	for _, b := range []*table{b, {t: t, State: restored(t, b.State), seq: b.seq}} {
		for token, own := range map[uint32]uint64{5: 7, 6: 4, 7: 7} {
			for first := uint64(1); first <= 6; first++ {
				for count := 1; first+uint64(count) <= 7; count++ {
					c := numbered(1, "s", first, count)
					c.token, c.without = token, PartReader
					p := b.send(c)
					foreign := Placement{Err: RefusedForeign, Next: 7}
					if first < own && !reflect.DeepEqual(p, foreign) || first >= own && !p.Replay {
						t.Errorf("%d records from %d on with token %d: %+v", count, first, token, p)
					}
					if c.without = 0; !b.send(c).Replay {
						t.Errorf("%d records from %d on with token %d, which may read: no replay", count, first, token)
					}
				}
			}
		}
	}
	if p := send(7, 7, 1, false); p.Err != Accepted {
		t.Errorf("another token continues the stream: %+v", p)
	}
}

// TestStreamsAfterRecovery checks that a recovery forgets a stream if the chain has other records in the place of its
// own, and all streams if blocks were adopted, which may have records that no stream counts.
func TestStreamsAfterRecovery(t *testing.T) {
	b := newTable(t, smallSettings())
	b.raise()
	b.part(1, "old", 1, 4)
	r := restored(t, b.State).Recover(Group{ID: "g", Epoch: 2})
	done, err := r.Finish(0, nil)
	if s, ok := r.s.Stream(1, digest("old")); err != nil || done.Streams != 0 || s.Last != 4 || !ok {
		t.Errorf("nothing was adopted: %+v, %v, the stream is at %d, %v", done, err, s.Last, ok)
	}
	b.ok(&OpenStream{Project: 1, ID: "_opened", Time: startTime})
	older := restored(t, b.State)
	b.part(1, "old", 5, 4)
	b.mine()
	r = older.Recover(Group{ID: "g", Epoch: 2})
	for number := range b.Head().Height {
		block, _ := b.Block(number)
		if err := r.Adopt(block); err != nil {
			t.Fatal(err)
		}
	}
	done, err = r.Finish(0, nil)
	if _, ok := older.Stream(1, digest("old")); err != nil || done.Streams != 2 || ok || done.Blocks == 0 {
		t.Errorf("blocks were adopted: %+v, %v, the stream is known: %v", done, err, ok)
	}
}
