package masterfsm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

// busyTable returns a table with all kinds of content: dropped, stored, mined, pending and open records, keys,
// submissions of several members, workers in several states, keys of the log, and cosignatures.
func busyTable(t testing.TB) *table {
	t.Helper()
	b := newTable(t, smallSettings())
	for _, id := range []string{"a", "b", "c"} {
		b.node(id, 0)
	}
	b.ok(&Register{Role: RoleMiner, ID: "m", URL: "http://m", MasterToken: "tok", AccessHash: chain.Hash{5},
		Time: startTime})
	b.add(startTime+1, call{project: 1, key: "k1", payloads: payloads(5, "keyed")},
		call{project: 9, payloads: []string{"x"}})
	b.fill(15) // 20 records, 5 blocks
	for range 4 {
		b.ok(b.solved())
	}
	b.ack("a", 3)
	b.ack("b", 3)
	b.ack("c", 1)
	b.ok(&BeginCheck{ID: "c", Version: b.storage("c").Version, Time: startTime + 2})
	b.ok(&EndCheck{
		ID: "c", Version: b.storage("c").Version, Tiles: 3, Time: startTime + 2,
		Findings: []Finding{{Block: 0, What: chain.WrongFrame, Detail: TextCause("a header that was written again")}},
	})
	b.node("d", 1)
	b.ok(&Invalidate{ID: "d", Version: b.storage("d").Version, Cause: TextCause("other chain"), Time: startTime + 2})
	b.ok(&BeginRepair{
		ID: "d", Version: b.storage("d").Version, Sender: "c", SenderVersion: b.storage("c").Version, Ticket: "ticket",
		Keep: 1, Missing: []chain.Range{{From: 0, To: 1}}, Time: startTime + 2,
	})
	b.ok(addKey(1, true))
	b.ok(addKey(2, false))
	b.ok(&RetireLogKey{ID: b.Log().Keys[0].ID, Time: startTime + 2})
	b.ok(cosign(b.Checkpoint(), "w1", "w2"))
	b.ok(&Suspect{ID: "a", Cause: TextCause("it answered wrong"), Time: startTime + 2})
	b.submit(appendOf(t, "m2", 7, 40, startTime+3, call{project: 2, key: "k2", payloads: payloads(3, "other")}))
	b.submit(appendOf(t, "m2", 7, 41, startTime+3, call{project: 2, key: "k2", payloads: payloads(3, "other")}))
	if b.heldFrom() != 1 || b.Stored() != 3 || b.Head().Height != 4 || b.Height() != 5 || len(b.open.ends) != 3 {
		t.Fatalf("held from %d, stored %d, head %d, height %d, %d open records",
			b.heldFrom(), b.Stored(), b.Head().Height, b.Height(), len(b.open.ends))
	}
	return b
}

func TestSnapshotRestores(t *testing.T) {
	waits := witnessed(t, 0)
	shown := waits.stores() // with an earlier quorum, which the state no longer shows
	settings := waits.Settings()
	settings.WitnessQuorum = 2
	waits.ok(&BeginTerm{Term: 2, Member: "m1", URL: "http://m1", Time: startTime, Settings: settings})
	waits.ok(cosign(waits.stores(), "w1"))
	waits.publishes(shown)
	for name, s := range map[string]*State{
		"new":                 New(),
		"founded":             newTable(t, smallSettings()).State,
		"busy":                busyTable(t).State,
		"waits for witnesses": waits.State,
	} {
		t.Run(name, func(t *testing.T) {
			want := snapshotBytes(t, s)
			back := restored(t, s)
			checkInvariants(t, back)
			checkLeaves(t, back)
			if !bytes.Equal(snapshotBytes(t, back), want) {
				t.Error("other bytes when taken again")
			}
			if !reflect.DeepEqual(back.View(), s.View()) {
				t.Errorf("view %+v\nwant %+v", back.View(), s.View())
			}
			if !reflect.DeepEqual(back.Published(), s.Published()) ||
				!reflect.DeepEqual(back.Cosigned(), s.Cosigned()) || back.Checkpoint() != s.Checkpoint() {
				t.Errorf("signed %+v, shown %+v, want %+v, %+v", back.Checkpoint(), back.Published(), s.Checkpoint(),
					s.Published())
			}
			if back.pendingBytes != s.pendingBytes || back.retained != s.retained {
				t.Errorf("%d pending, %d retained", back.pendingBytes, back.retained)
			}
			for number := range s.Height() + 2 {
				for offset := range uint32(6) {
					f1, p1, e1, h1 := s.Record(number, offset)
					f2, p2, e2, h2 := back.Record(number, offset)
					if f1 != f2 || p1 != p2 || !bytes.Equal(e1, e2) || !reflect.DeepEqual(h1, h2) {
						t.Errorf("record %d/%d: %d %+v, want %d %+v", number, offset, f2, p2, f1, p1)
					}
				}
			}
			for index := range s.NextIndex() + 2 {
				f1, p1 := s.Locate(index)
				f2, p2 := back.Locate(index)
				if f1 != f2 || p1 != p2 {
					t.Errorf("index %d: %d %+v, want %d %+v", index, f2, p2, f1, p1)
				}
			}
		})
	}
}

// TestRestoredTableGoesOn checks that a restored table replays retries, forgets keys and continues like the original
// one.
func TestRestoredTableGoesOn(t *testing.T) {
	b := busyTable(t)
	back := &table{t: t, State: restored(t, b.State), seq: b.seq}
	for _, s := range []*table{b, back} {
		if p := s.add(startTime+9, call{project: 1, key: "k1", payloads: payloads(5, "keyed")})[0]; !p.Replay {
			t.Errorf("%+v", p)
		}
		if p := s.submit(appendOf(t, "m2", 7, 40, startTime+9,
			call{project: 2, payloads: []string{"?"}}))[0]; p.Runs[0].Count != 3 {
			t.Errorf("%+v", p)
		}
		s.mine()
		s.fill(9)
		s.mine()
		s.ack("b", s.Head().Height)
		s.ack("a", s.Head().Height)
	}
	if !bytes.Equal(snapshotBytes(t, b.State), snapshotBytes(t, back.State)) {
		t.Error("they parted")
	}
}

// TestSnapshotIsWrittenWhileTheStateGoesOn checks that a snapshot writes the bytes of the moment at which it was taken,
// while the state changes concurrently. With the race detector it also shows that they share no mutable memory.
func TestSnapshotIsWrittenWhileTheStateGoesOn(t *testing.T) {
	b := busyTable(t)
	want := snapshotBytes(t, b.State)
	snapshot := b.Snapshot()
	var writers sync.WaitGroup
	for range 3 {
		writers.Go(func() {
			for range 20 {
				var got bytes.Buffer
				if err := snapshot.Write(&got); err != nil || !bytes.Equal(got.Bytes(), want) {
					t.Errorf("the snapshot changed: %v", err)
					return
				}
			}
		})
	}
	for n := range 40 {
		b.add(startTime+10, call{project: 1, key: fmt.Sprint("more", n), payloads: payloads(3, "m")})
		b.mine()
		b.ack("a", b.Head().Height)
		b.ack("b", b.Head().Height)
		b.ok(&CreateProject{Name: fmt.Sprint("p", n), TokenHash: chain.Hash{9, byte(n)}, Time: startTime})
		b.ok(&Register{Role: RoleStorage, ID: "b", URL: "http://b", Height: b.Head().Height, Hash: b.Head().Hash,
			Time: startTime})
		b.ok(&Register{Role: RoleMiner, ID: "m", URL: "http://m", Time: startTime})
	}
	b.ok(&BeginTerm{Term: 2, Time: startTime, Settings: Settings{MaxRecords: 1, MaxBytes: 1, MaxPendingBytes: 1,
		Replicas: 1}})
	b.ok(&Register{Role: RoleStorage, ID: "new", URL: "http://a", Time: startTime})
	writers.Wait()
}

// limitedWriter fails after n bytes.
type limitedWriter struct{ n int }

var errFull = errors.New("disk full")

func (w *limitedWriter) Write(b []byte) (int, error) {
	if len(b) > w.n {
		n := w.n
		w.n = 0
		return n, errFull
	}
	w.n -= len(b)
	return len(b), nil
}

func TestSnapshotTellsAFailedWrite(t *testing.T) {
	b := busyTable(t)
	b.add(startTime, call{project: 1, payloads: []string{strings.Repeat("x", 600<<10)}}) // more than one buffer
	size := len(snapshotBytes(t, b.State))
	for _, n := range []int{0, 10, 300 << 10, size - 1} {
		if err := b.Snapshot().Write(&limitedWriter{n}); !errors.Is(err, errFull) {
			t.Errorf("disk of %d bytes: %v", n, err)
		}
	}
	if err := b.Snapshot().Write(&limitedWriter{size}); err != nil {
		t.Error(err)
	}
}

func TestRestoreErrors(t *testing.T) {
	good := snapshotBytes(t, busyTable(t).State)
	for n := 0; n < len(good); n += 13 {
		if _, err := Restore(bytes.NewReader(good[:n])); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(good), err)
		}
	}
	for at := 0; at < len(good); at += 17 {
		bad := bytes.Clone(good)
		bad[at] ^= 1 << (at % 8)
		if s, err := Restore(bytes.NewReader(bad)); !errors.Is(err, ErrSnapshot) || s != nil {
			t.Fatalf("byte %d of %d: %v", at, len(good), err)
		}
	}
	newer := bytes.Clone(good)
	newer[4] = snapshotVersion + 1
	if _, err := Restore(bytes.NewReader(newer)); !errors.Is(err, ErrSnapshot) ||
		!strings.Contains(err.Error(), fmt.Sprintf("version %d,", snapshotVersion+1)) {
		t.Errorf("newer version: %v", err)
	}
	broken := io.MultiReader(bytes.NewReader(good[:100]), brokenReader{})
	if _, err := Restore(broken); !errors.Is(err, ErrSnapshot) || !errors.Is(err, errFull) {
		t.Errorf("a failed read: %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errFull }

func TestPlacementsRoundTrip(t *testing.T) {
	for _, placements := range [][]Placement{
		{},
		{{Err: RefusedBacklog}},
		{{Err: RefusedRate, Shortage: &Shortage{Bytes: true, Limit: 1<<64 - 1, Left: 2, Wait: 3}}, {Err: RefusedSize}},
		{
			{Time: startTime, Runs: []Run{{Block: 1 << 60, Offset: 1<<32 - 1, Count: 2, Index: 1<<64 - 1},
				{Block: 2, Count: 1, Index: 9}}},
			{Err: RefusedKey},
			{Time: 5, Replay: true, Runs: []Run{{Block: 3, Offset: 4, Count: 5, Index: 6}}},
		},
	} {
		data := AppendPlacements([]byte("x"), placements)[1:]
		back, err := ParsePlacements(data)
		if err != nil || !reflect.DeepEqual(back, placements) {
			t.Errorf("got %+v, %v, want %+v", back, err, placements)
		}
		for n := range data {
			if _, err := ParsePlacements(data[:n]); !errors.Is(err, ErrBadCommand) {
				t.Errorf("cut to %d bytes: %v", n, err)
			}
		}
		if _, err := ParsePlacements(append(data, 0)); !errors.Is(err, ErrBadCommand) {
			t.Errorf("a byte behind: %v", err)
		}
	}
}
