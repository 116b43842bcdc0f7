package masternode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

func TestAppendStoredReadBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, nil)
		defer r.stop()
		ctx := t.Context()
		var positions []wire.Position
		for i := range 40 { // two full blocks and a partial one
			a, err := r.Append(ctx, r.project,
				[]Entry{{Key: "k", Type: "text/plain", Payload: fmt.Appendf(nil, "record %d", i)}}, "")
			if err != nil {
				t.Fatal(err)
			}
			positions = append(positions, a.Positions...)
		}
		if err := r.WaitStored(ctx, positions[39].Block); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for i, p := range positions {
			if wantBlock, wantOffset := uint64(i/16), uint32(i%16); p.Block != wantBlock || p.Offset != wantOffset ||
				p.Index != uint64(i+i/16) {
				t.Errorf("record %d stands at %+v", i, p)
			}
			want := fmt.Appendf(nil, "record %d", i)
			byPlace, err := r.Record(ctx, r.access, p.Block, p.Offset)
			if err != nil || !bytes.Equal(byPlace.Payload, want) || byPlace.Leaf != p.Leaf {
				t.Fatalf("record %d: %q, %v", i, byPlace.Payload, err)
			}
			byIndex, err := r.RecordByIndex(ctx, r.access, p.Index)
			if err != nil || !bytes.Equal(byIndex.Payload, want) {
				t.Fatalf("record %d by index: %q, %v", i, byIndex.Payload, err)
			}
		}
		if _, err := r.RecordByIndex(ctx, r.access, 16); !errors.Is(err, wire.ErrSealIndex) {
			t.Errorf("index of a seal: %v", err)
		}
		for _, p := range []wire.Place{{Block: 0, Offset: 16}, {Block: 2, Offset: 8}, {Block: 3}, {Block: 1 << 60}} {
			if _, err := r.Record(ctx, r.access, p.Block, p.Offset); !errors.Is(err, wire.ErrNotFound) {
				t.Errorf("%+v: %v", p, err)
			}
		}
		headers, err := r.Blocks(ctx, 1<<63, 2)
		if err != nil || len(headers) != 2 || headers[0].Block != 2 || headers[1].Block != 1 {
			t.Errorf("blocks: %+v, %v", headers, err)
		}
	})
}

func TestReadsAreServedFromTheMastersUntilTheyAreStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, nil) // fewer than replicas: the bodies stay
		defer r.stop()
		a, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte("x")}}, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Block(t.Context(), 0); !errors.Is(err, wire.ErrNotMined) {
			t.Errorf("the open block: %v", err)
		}
		time.Sleep(5 * time.Second) // virtual time to be cut, mined and stored
		if _, err := r.Block(t.Context(), 0); err != nil {
			t.Errorf("the mined block: %v", err)
		}
		got, err := r.Record(t.Context(), r.access, a.Positions[0].Block, 0)
		if err != nil || string(got.Payload) != "x" || got.Stored || !got.Sealed {
			t.Errorf("%+v, %v", got, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.WaitStored(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one node cannot be two: %v", err)
		}
		c := r.Cluster(t.Context())
		if m := r.notice(wire.CodeTooFewStorages); m.Args["count"] != uint64(1) || m.Args["needed"] != uint64(2) ||
			!c.Authoritative {
			t.Errorf("notices: %+v, authoritative: %v", c.NoticesCoded, c.Authoritative)
		}
	})
}

func TestLyingStorageNodeIsPassedOver(t *testing.T) {
	other := func(s *masterstest.Storage, a *wire.ProvenRecord, offset uint32, size uint64) {
		b := s.Blocks[0]
		a.Record = append([]byte(nil), b.Encoded(offset)...)
		a.Path = s.Path(size, b.Header.First+uint64(offset))
	}
	lies := map[string]func(*masterstest.Storage, *wire.ProvenRecord){
		"another record and its valid proof": func(s *masterstest.Storage,
			a *wire.ProvenRecord) {
			other(s, a, 3, s.Blocks[0].Header.Seal())
		},
		"the proof of an older root": func(s *masterstest.Storage, a *wire.ProvenRecord) {
			a.Path = s.Path(5, 2)
		},
		"the proof of a newer root": func(s *masterstest.Storage, a *wire.ProvenRecord) {
			a.Path = s.Path(s.Size(), 2)
		},
		"another payload":  func(_ *masterstest.Storage, a *wire.ProvenRecord) { a.Record[len(a.Record)-1] ^= 1 },
		"another time":     func(_ *masterstest.Storage, a *wire.ProvenRecord) { chain.SetEncodedTime(a.Record, 7) },
		"a truncated path": func(_ *masterstest.Storage, a *wire.ProvenRecord) { a.Path = a.Path[:len(a.Path)-1] },
		"a truncated record": func(_ *masterstest.Storage,
			a *wire.ProvenRecord) {
			a.Record = a.Record[:len(a.Record)-1]
		},
		"bad": func(_ *masterstest.Storage,
			a *wire.ProvenRecord) {
			*a = wire.ProvenRecord{Status: wire.ReadBad}
		},
		"not there": func(_ *masterstest.Storage,
			a *wire.ProvenRecord) {
			*a = wire.ProvenRecord{Status: wire.ReadBeyond}
		},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 3, nil)
				defer r.stop()
				var entries []Entry
				for i := range 16 {
					entries = append(entries, Entry{Payload: []byte{byte(i), 1, 2, 3}})
				}
				if _, err := r.Append(t.Context(), r.project, entries, ""); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Second)
				// The first two nodes in the order of reads lie; one honest node is enough.
				for _, n := range r.asked()[:2] {
					r.on(n.URL, func(s *masterstest.Storage) { s.Lie = func(a *wire.ProvenRecord) { lie(s, a) } })
				}
				for i := range 16 {
					got, err := r.Record(t.Context(), r.access, 0, uint32(i))
					if err != nil || !bytes.Equal(got.Payload, entries[i].Payload) {
						t.Fatalf("record %d: %v, %v", i, got.Payload, err)
					}
				}
				// A node that lied is checked at once. Only its responses are wrong here, not its disk, so the check
				// finds no damage.
				time.Sleep(time.Second)
				if i := r.Integrity(t.Context()); !hasEvent(i, "suspect") || i.Totals.Checks == 0 {
					t.Errorf("nobody was suspect: %+v", i)
				}
			})
		})
	}
}

// TestLyingAboutHeadersAndPlaces checks that false headers and places of a node are skipped as well.
func TestLyingAboutHeadersAndPlaces(t *testing.T) {
	for name, lie := range map[string]func(*masterstest.Storage){
		"another header": func(s *masterstest.Storage) {
			s.LieHeaders = func(h []wire.ProvenHeader) []wire.ProvenHeader { h[0].Header.Time++; return h }
		},
		"another root": func(s *masterstest.Storage) {
			s.LieHeaders = func(h []wire.ProvenHeader) []wire.ProvenHeader { h[0].Header.Root[0] ^= 1; return h }
		},
		"the header of another block": func(s *masterstest.Storage) {
			s.LieHeaders = func(h []wire.ProvenHeader) []wire.ProvenHeader { h[0] = h[len(h)-1]; return h }
		},
		"no header": func(s *masterstest.Storage) {
			s.LieHeaders = func(h []wire.ProvenHeader) []wire.ProvenHeader { return nil }
		},
		"another block for a leaf": func(s *masterstest.Storage) {
			s.LiePlace = func(block uint64) uint64 { return (block + 1) % 4 }
		},
		"a block that is far away": func(s *masterstest.Storage) {
			s.LiePlace = func(uint64) uint64 { return 1 << 60 }
		},
		"the last number of a block": func(s *masterstest.Storage) {
			s.LiePlace = func(uint64) uint64 { return math.MaxUint64 }
		},
		"no place": func(s *masterstest.Storage) {
			s.LiePlace = func(uint64) uint64 { return math.MaxUint64 - 63 }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 3, func(c *Config, _ *rig) { c.Settings.RetainBytes = 0 })
				defer r.stop()
				for i := range 64 {
					if _, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte{byte(i)}}}, ""); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(10 * time.Second)
				for _, n := range r.asked()[:2] {
					r.on(n.URL, lie)
				}
				for i := range 64 {
					got, err := r.RecordByIndex(t.Context(), r.access, uint64(i+i/16))
					if err != nil || got.Payload[0] != byte(i) {
						t.Fatalf("record %d: %v, %v", i, got.Payload, err)
					}
				}
				for _, n := range r.asked()[:1] { // the one that did not lie
					if !n.Due.IsZero() {
						t.Errorf("%s, which answered right, is suspect: %s", n.ID, n.Due.Text())
					}
				}
			})
		})
	}
}

func TestIdempotencyKeyAcrossBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, nil)
		defer r.stop()
		var entries []Entry
		for i := range 40 {
			entries = append(entries, Entry{Payload: fmt.Appendf(nil, "%d", i)})
		}
		if _, err := r.Append(t.Context(), r.project, entries[:5], ""); err != nil {
			t.Fatal(err)
		}
		first, err := r.Append(t.Context(), r.project, entries, "key")
		if err != nil {
			t.Fatal(err)
		}
		for _, after := range []time.Duration{0, 10 * time.Second} { // from the masters, then from storage nodes
			time.Sleep(after)
			again, err := r.Append(t.Context(), r.project, entries, "key")
			if err != nil || !again.Replay {
				t.Fatalf("replay: %+v, %v", again.Replay, err)
			}
			for i := range first.Positions {
				a, b := first.Positions[i], again.Positions[i]
				a.State, b.State = "", ""
				if a != b {
					t.Fatalf("record %d: first %+v, again %+v", i, a, b)
				}
			}
		}
		if _, err := r.Append(t.Context(), r.project, entries[:1], "key"); !errors.Is(err, wire.ErrKeyReused) {
			t.Errorf("another body under the same key: %v", err)
		}
	})
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3,
			func(c *Config, _ *rig) { c.Limits = Limits{RecordBytes: 10, BatchRecords: 3, BatchBytes: 20} })
		defer r.stop()
		of := func(sizes ...int) (entries []Entry) {
			for _, n := range sizes {
				entries = append(entries, Entry{Payload: make([]byte, n)})
			}
			return entries
		}
		for name, c := range map[string]struct {
			entries []Entry
			want    error
		}{
			"fits":                {of(10), nil},
			"batch fits":          {of(10, 5, 5), nil},
			"empty":               {of(0), wire.ErrEmptyBody},
			"none":                {nil, wire.ErrEmptyBody},
			"one of them empty":   {of(1, 0), wire.ErrEmptyBody},
			"record too large":    {of(11), wire.ErrTooLarge},
			"too many":            {of(1, 1, 1, 1), wire.ErrTooLarge},
			"too many bytes":      {of(10, 10, 1), wire.ErrTooLarge},
			"key too long":        {[]Entry{{Key: strings.Repeat("k", 256), Payload: []byte("x")}}, wire.ErrBadRequest},
			"key that is no text": {[]Entry{{Key: "\xff", Payload: []byte("x")}}, wire.ErrBadRequest},
			"NUL in a key":        {[]Entry{{Key: "a\x00b", Payload: []byte("x")}}, wire.ErrBadRequest},
			"DEL in a type": {[]Entry{{Payload: []byte("x")}, {Type: "text/\x7f", Payload: []byte("x")}},
				wire.ErrBadRequest},
		} {
			before := r.ledger.Entries
			_, err := r.Append(t.Context(), r.project, c.entries, "")
			if !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
			if err != nil && r.ledger.Entries != before {
				t.Errorf("%s: refused, and yet something was committed", name)
			}
		}
	})
}

func TestNoLeaderEndsIn503NotInLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, nil)
		r.ledger.Mu.Lock()
		r.ledger.Leads = false
		r.ledger.Mu.Unlock()
		start := time.Now()
		_, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte("x")}}, "")
		if !errors.Is(err, wire.ErrNoLeader) || errors.Is(err, wire.ErrUnknownOutcome) {
			t.Errorf("append: %v", err)
		}
		if waited := time.Since(start); waited < 4*time.Second || waited > 6*time.Second {
			t.Errorf("it waited for %v", waited)
		}
		if _, err := r.Record(t.Context(), r.access, 9, 9); !errors.Is(err, wire.ErrNoLeader) {
			t.Errorf("a read of nothing without a leader: %v", err)
		}
		r.stop()
	})
}
