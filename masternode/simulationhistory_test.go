package masternode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// write is one append, and its result for the writer.
type write struct {
	key     string
	entries []Entry
	// The beginning of the first attempt and the end of the first success, as simulation.instants counts them.
	began, ended int64
	positions    []wire.Position // nil if it was not acknowledged
	unknown      bool            // not acknowledged, but may have taken effect
}

// write makes the appends of one writer. No two records of a simulation have the same payload.
func (s *simulation) write(who string) {
	d := s.dice
	for i := range 6 + d.draw(who, 6) {
		w := &write{}
		for j := range 1 + d.draw(who, 5) {
			w.entries = append(w.entries,
				Entry{Key: who, Type: "text/plain", Payload: fmt.Appendf(nil, "%s %d.%d", who, i, j)})
		}
		if !d.once(who, 5) {
			w.key = fmt.Sprint(who, i)
		}
		s.mu.Lock()
		s.writes = append(s.writes, w)
		s.mu.Unlock()
		w.began = s.instants.Add(1)
		if w.key == "" {
			s.appendOnce(who, w)
		} else {
			s.appendSurely(who, w)
		}
		w.ended = s.instants.Add(1)
		if w.positions != nil {
			s.readBack(who, w)
		}
		time.Sleep(d.within(who, 150*time.Millisecond))
	}
}

// anyMaster returns one of the two masters.
func (s *simulation) anyMaster(who string) *Node {
	if s.dice.once(who, 2) {
		return s.other
	}
	return s.Node
}

// appendOnce makes an append without a key, which cannot be retried. Some clients give up early.
func (s *simulation) appendOnce(who string, w *write) {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if s.dice.once(who, 3) {
		ctx, cancel = context.WithTimeout(ctx, s.dice.within(who, 20*time.Millisecond))
		defer cancel()
	}
	a, err := s.anyMaster(who).Append(ctx, s.project, w.entries, "")
	switch {
	case err == nil:
		w.positions = a.Positions
	case unknownOutcome(err):
		w.unknown = true
	case !mayTryAgain(err):
		s.t.Errorf("append %q: %v", w.entries[0].Payload, err)
	}
}

// appendSurely makes an append with a key and retries it until it is acknowledged, sometimes through both masters at
// once. A later retry must get the first response, and a different body with the same key must be rejected.
func (s *simulation) appendSurely(who string, w *write) {
	if s.dice.once(who, 6) {
		second := make(chan []wire.Position)
		go func() { second <- s.retry(who+" beside", w).Positions }()
		w.positions = s.retry(who, w).Positions
		s.same(w, <-second)
	} else {
		w.positions = s.retry(who, w).Positions
	}
	if s.dice.once(who, 4) {
		again := s.retry(who, w)
		s.same(w, again.Positions)
		if !again.Replay {
			s.t.Errorf("key %s: a retry is no replay", w.key)
		}
	}
	if s.dice.once(who, 8) {
		body := []Entry{{Payload: []byte("another body")}}
		if a, err := s.anyMaster(who).Append(s.t.Context(), s.project, body, w.key); !errors.Is(err,
			wire.ErrKeyReused) && !mayTryAgain(err) {
			s.t.Errorf("key %s with another body: %+v, %v", w.key, a, err)
		}
	}
}

// retry repeats an append until it is acknowledged.
func (s *simulation) retry(who string, w *write) Appended {
	for range 1000 {
		a, err := s.anyMaster(who).Append(s.t.Context(), s.project, w.entries, w.key)
		if err == nil {
			return a
		}
		if !mayTryAgain(err) {
			s.t.Errorf("append under key %s: %v", w.key, err)
			return a
		}
		time.Sleep(s.dice.within(who, 200*time.Millisecond))
	}
	s.t.Errorf("append under key %s: not acknowledged in a thousand tries", w.key)
	return Appended{}
}

// same compares the response to a retry with the first one.
func (s *simulation) same(w *write, again []wire.Position) {
	same := slices.EqualFunc(w.positions, again, func(a, b wire.Position) bool {
		a.State, b.State = "", "" // the state may advance meanwhile
		return a == b
	})
	if !same {
		s.t.Errorf("key %s: first %+v, again %+v", w.key, w.positions, again)
	}
}

// readBack reads one of the records that were just acknowledged. It may be unavailable while nodes are down, but must
// never be reported as missing.
func (s *simulation) readBack(who string, w *write) {
	i := s.dice.draw(who, len(w.positions))
	p := w.positions[i]
	r, err := s.anyMaster(who).Record(s.t.Context(), s.access, p.Block, p.Offset)
	if err == nil && !bytes.Equal(r.Payload, w.entries[i].Payload) || err != nil && !mayTryAgain(err) {
		s.t.Errorf("read %q back from %+v: %q, %v", w.entries[i].Payload, p, r.Payload, err)
	}
}

// check verifies the following after the cluster has settled:
//
//   - All storage nodes have the same chain. The verifier accepts it from its first block to the head of the masters.
//   - Every acknowledged record is in it, byte for byte, at the acknowledged position, and every master reads it there.
//   - No record is in it twice, and no rejected record is in it. An append of unknown outcome is there completely or
//     not at all.
//   - The records of an append are consecutive and in order, before those of every append that began after it
//     had ended.
func (s *simulation) check() {
	blocks := s.verifiedChain()
	chained := map[string]wire.Position{} // by payload
	for i := range blocks {
		b := &blocks[i]
		for offset := range b.Header.Count {
			r, err := b.Record(offset)
			if err != nil {
				s.t.Fatal(err)
			}
			leaf := r.Leaf()
			p := wire.Position{Block: b.Header.Block, Offset: offset, Index: b.Header.First + uint64(offset),
				Time: r.Time, Leaf: leaf.Hash()}
			if first, twice := chained[string(r.Payload)]; twice {
				s.t.Errorf("%q stands at %+v and at %+v", r.Payload, first, p)
			}
			chained[string(r.Payload)] = p
		}
	}
	for _, w := range s.writes {
		s.checkWrite(w, chained)
	}
	for payload, p := range chained {
		s.t.Errorf("%q stands at %+v, and nobody has appended it", payload, p)
	}
	s.checkOrder()
	s.checkLog()
}

// verifiedChain returns the chain, which must be equal on all storage nodes.
func (s *simulation) verifiedChain() []chain.Block {
	var head chain.Head
	s.ledger.Read(func(table *masterfsm.State) { head = table.Head() })
	var blocks []chain.Block
	for url := range s.workers.Storages {
		s.on(url, func(f *masterstest.Storage) {
			v := chain.NewVerifier(chain.Head{})
			for i := range f.Blocks {
				b, err := chain.ParseBlock(f.Blocks[i].Bytes())
				if err == nil {
					_, err = v.Take(&b)
				}
				if err != nil {
					s.t.Fatalf("%s: %v", url, err)
				}
			}
			if got := v.Head(); !bytes.Equal(got.AppendTo(nil), head.AppendTo(nil)) {
				s.t.Errorf("the chain of %s ends at %+v, that of the masters at %+v", url, got, head)
			}
			blocks = f.Blocks
		})
	}
	return blocks
}

// checkWrite compares one append with the chain, and removes its records from chained.
func (s *simulation) checkWrite(w *write, chained map[string]wire.Position) {
	var found []wire.Position
	for i := range w.entries {
		payload := string(w.entries[i].Payload)
		if p, ok := chained[payload]; ok {
			found = append(found, p)
			delete(chained, payload)
		}
	}
	switch {
	case w.positions != nil:
		s.same(&write{key: w.key, positions: found}, w.positions)
		for i, p := range w.positions {
			s.checkRead(w.entries[i], p, i == 0)
		}
	case w.unknown && len(found) == len(w.entries):
	case len(found) > 0:
		s.t.Errorf("%d of the %d records from %q on stand in the chain, and their append failed", len(found),
			len(w.entries), w.entries[0].Payload)
	}
	for i := 1; i < len(found); i++ {
		a, b := found[i-1], found[i]
		next := a.Block == b.Block && a.Offset+1 == b.Offset && a.Index+1 == b.Index
		if over := a.Block+1 == b.Block && b.Offset == 0 && a.Index+2 == b.Index; !next && !over {
			s.t.Errorf("%q stands at %+v, and %q at %+v", w.entries[i-1].Payload, a, w.entries[i].Payload, b)
		}
	}
}

// checkRead reads an acknowledged record from both masters, optionally also by its leaf index.
func (s *simulation) checkRead(want Entry, p wire.Position, byIndex bool) {
	for _, n := range []*Node{s.Node, s.other} {
		r, err := n.Record(s.t.Context(), s.access, p.Block, p.Offset)
		if byIndex && err == nil {
			r, err = n.RecordByIndex(s.t.Context(), s.access, p.Index)
		}
		if err != nil || !bytes.Equal(r.Payload, want.Payload) || r.Key != want.Key || r.Type != want.Type ||
			r.Leaf != p.Leaf || r.At.Index != p.Index {
			s.t.Errorf("acknowledged as %q at %+v, read as %+v, %v", want.Payload, p, r, err)
		}
	}
}

// checkOrder checks that an append that was acknowledged before another began has the lower place.
func (s *simulation) checkOrder() {
	for _, a := range s.writes {
		for _, b := range s.writes {
			if a.positions == nil || b.positions == nil || a.ended >= b.began {
				continue
			}
			if last, first := a.positions[len(a.positions)-1], b.positions[0]; last.Index >= first.Index {
				s.t.Errorf("%q at %+v was acknowledged before the append of %q at %+v began",
					a.entries[0].Payload, last, b.entries[0].Payload, first)
			}
		}
	}
}
