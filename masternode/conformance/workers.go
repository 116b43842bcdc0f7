package conformance

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/signedlog"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// Workers tests the calls to a storage node. open returns the calls, and a storage node without blocks. There is no
// listener at the URL of gone.
func Workers(t *testing.T, open func(t *testing.T) (calls masternode.Workers, node, gone wire.Worker)) {
	calls, node, gone := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := &storageSuite{Workers: calls, node: node, log: signedlog.New("conformance", 1)}
	for number := range uint64(4) {
		s.log.Mine(number+1,
			chain.Record{Project: 1, Time: number + 1, Payload: []byte("first")},
			chain.Record{Project: 1, Time: number + 1, Payload: []byte("second")})
	}
	t.Run("blocks", func(t *testing.T) { s.blocks(ctx, t) })
	t.Run("inbox", func(t *testing.T) { s.inbox(ctx, t) })
	t.Run("orders of a deposed leader", func(t *testing.T) { s.deposed(ctx, t) })
	t.Run("reads", func(t *testing.T) { s.reads(ctx, t) })
	t.Run("tree", func(t *testing.T) { s.tree(ctx, t) })
	t.Run("check", func(t *testing.T) { s.check(ctx, t) })
	t.Run("no answer", func(t *testing.T) {
		if _, err := calls.StorageStatus(ctx, gone, newest); !errors.Is(err, wire.ErrNoAnswer) {
			t.Errorf("a node that is gone: %v", err)
		}
		ended, end := context.WithCancel(ctx)
		end()
		if _, err := calls.StorageStatus(ended, node, newest); !errors.Is(err, wire.ErrNoAnswer) {
			t.Errorf("a call whose context has ended: %v", err)
		}
	})
}

// newest and older are orders of two leaders.
var newest, older = wire.Order{Epoch: 1, Term: 7}, wire.Order{Epoch: 1, Term: 6}

type storageSuite struct {
	masternode.Workers
	node wire.Worker
	log  *signedlog.Log // of four blocks; the node gets the first three
}

func (s *storageSuite) put(ctx context.Context, number uint64, block []byte) (wire.StorageStatus, error) {
	return s.PutBlock(ctx, s.node, newest, number, block)
}

func (s *storageSuite) blocks(ctx context.Context, t *testing.T) {
	if at, err := s.StorageStatus(ctx, s.node, newest); err != nil || at.Height != 0 {
		t.Fatalf("a new node: %+v, %v", at, err)
	}
	var notNext *wire.NotNextError
	_, err := s.put(ctx, 1, s.log.Blocks[1].Bytes())
	if !errors.Is(err, wire.ErrNotNext) || !errors.As(err, &notNext) || notNext.Status.Height != 0 {
		t.Errorf("a block too early: %v", err)
	}
	if _, err := s.put(ctx, 0, []byte("no block")); !errors.Is(err, wire.ErrBadBlock) {
		t.Errorf("no block: %v", err)
	}
	other := signedlog.New("other", 2)
	other.Mine(9, chain.Record{Project: 1, Time: 9, Payload: []byte("of another chain")})
	other.Mine(9, chain.Record{Project: 1, Time: 9, Payload: []byte("of another chain")})
	for number := range uint64(3) {
		if number == 1 {
			if _, err := s.put(ctx, 1, other.Blocks[1].Bytes()); !errors.Is(err, wire.ErrBadBlock) {
				t.Errorf("a block of another chain: %v", err)
			}
		}
		for range 2 { // a repetition is not an error
			at, err := s.put(ctx, number, s.log.Blocks[number].Bytes())
			last := s.log.Blocks[number].Header
			if err != nil || at.Height != number+1 || at.Hash != last.Hash() || at.Size != last.Size() {
				t.Fatalf("block %d: %+v, %v", number, at, err)
			}
		}
	}
}

func (s *storageSuite) inbox(ctx context.Context, t *testing.T) {
	if _, err := s.PutInbox(ctx, s.node, newest, 5, s.log.Blocks[3].Bytes()); !errors.Is(err, wire.ErrBadBlock) {
		t.Errorf("block 3 as block 5: %v", err)
	}
	if _, err := s.PutInbox(ctx, s.node, newest, 3, []byte("no block")); !errors.Is(err, wire.ErrBadBlock) {
		t.Errorf("no block: %v", err)
	}
}

func (s *storageSuite) deposed(ctx context.Context, t *testing.T) {
	check := wire.CheckOrder{Check: "of a deposed leader", Height: 3, Hash: s.log.Blocks[2].Header.Hash()}
	for name, call := range map[string]func() error{
		"status":  func() error { _, err := s.StorageStatus(ctx, s.node, older); return err },
		"block":   func() error { _, err := s.PutBlock(ctx, s.node, older, 3, s.log.Blocks[3].Bytes()); return err },
		"inbox":   func() error { _, err := s.PutInbox(ctx, s.node, older, 3, s.log.Blocks[3].Bytes()); return err },
		"check":   func() error { _, err := s.Check(ctx, s.node, older, check); return err },
		"receive": func() error { _, err := s.Receive(ctx, s.node, older, wire.ReceiveOrder{Ticket: "t"}); return err },
		"send":    func() error { _, err := s.Send(ctx, s.node, older, wire.SendOrder{Ticket: "t"}); return err },
	} {
		var fenced *wire.FencedError
		if err := call(); !errors.Is(err, wire.ErrFenced) || !errors.As(err, &fenced) || fenced.Highest != newest {
			t.Errorf("%s: %v", name, err)
		}
	}
	if at, err := s.StorageStatus(ctx, s.node, newest); err != nil || at.Height != 3 {
		t.Errorf("the node has changed: %+v, %v", at, err)
	}
}

func (s *storageSuite) reads(ctx context.Context, t *testing.T) {
	places := []wire.Place{{Block: 2, Offset: 1}, {Block: 3}, {Block: 0}}
	answers, err := s.ReadRecords(ctx, s.node, places, 0)
	if err != nil || len(answers) != 3 {
		t.Fatalf("%d answers, %v", len(answers), err)
	}
	for known := range 4 {
		same, err := s.ReadRecords(ctx, s.node, places, known)
		if err != nil || len(same) != 3 {
			t.Fatalf("%d answers, %v", len(same), err)
		}
		for i, a := range same {
			if b := &answers[i]; a.Status != b.Status || !bytes.Equal(a.Record, b.Record) {
				t.Errorf("place %d with %d known: %+v", i, known, a)
			}
			if i < known && len(a.Path) > 0 || i >= known && !slices.Equal(a.Path, answers[i].Path) {
				t.Errorf("place %d with %d known: a path of %d hashes", i, known, len(a.Path))
			}
		}
	}
	for i, number := range map[int]uint64{0: 2, 2: 0} {
		a, b := &answers[i], &s.log.Blocks[number]
		offset := uint32(1 - i/2)
		record, err := b.Record(offset)
		if err != nil {
			t.Fatal(err)
		}
		proof := chain.Proof{Index: b.Header.First + uint64(offset), Size: b.Header.Seal(), Path: a.Path}
		if a.Status != wire.ReadFound || string(a.Record) != string(b.Encoded(offset)) ||
			proof.Check(record.Leaf().Hash(), b.Header.Root) != nil {
			t.Errorf("record %d of block %d: %+v", offset, number, a)
		}
	}
	if answers[1].Status != wire.ReadBehind {
		t.Errorf("a record of a block that the node does not have: %+v", answers[1])
	}
	for index := range s.log.Size() {
		number, err := s.Locate(ctx, s.node, index)
		if index < s.log.Blocks[2].Header.Size() {
			if b := s.log.Blocks[min(number, 3)].Header; err != nil || index < b.First || index >= b.Size() {
				t.Errorf("leaf %d is in block %d, %v", index, number, err)
			}
		} else if !errors.Is(err, wire.ErrNotFound) {
			t.Errorf("leaf %d beyond the chain: block %d, %v", index, number, err)
		}
	}
}

func (s *storageSuite) tree(ctx context.Context, t *testing.T) {
	size := s.log.Blocks[2].Header.Size()
	headers, err := s.Headers(ctx, s.node, 1, 8, size)
	if err != nil || len(headers) != 2 {
		t.Fatalf("%d headers, %v", len(headers), err)
	}
	for i, h := range headers {
		want := s.log.Blocks[1+i].Header
		leaf := chain.Hash(tlog.RecordHash(want.AppendTo(nil)))
		proof := chain.Proof{Index: want.Seal(), Size: size, Path: h.Path}
		if err := proof.Check(leaf, s.log.Root(size)); h.Header != want || err != nil {
			t.Errorf("header %d: %+v, %v", 1+i, h.Header, err)
		}
	}
	if headers, err := s.Headers(ctx, s.node, 0, 1, size); err != nil || len(headers) != 1 {
		t.Errorf("one header: %d, %v", len(headers), err)
	}
	if _, err := s.Headers(ctx, s.node, 0, 1, size+1); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("headers in a tree that the node does not have: %v", err)
	}
}

// check polls checks: of the node's chain, of a chain that is longer, and of another chain.
func (s *storageSuite) check(ctx context.Context, t *testing.T) {
	head := s.log.Blocks[2].Header.Hash()
	run := func(order wire.CheckOrder) *wire.Report {
		var st wire.CheckStatus
		await(t, "check "+order.Check, func() bool {
			var err error
			if st, err = s.Check(ctx, s.node, newest, order); err != nil || st.Check != order.Check || st.Error != "" {
				t.Fatalf("check %s: %+v, %v", order.Check, st, err)
			}
			return st.Report != nil
		})
		return st.Report
	}
	r := run(wire.CheckOrder{Check: "good", Height: 3, Hash: head})
	if len(r.Bad)+len(r.Findings) != 0 || r.Unchecked != 3 || r.Other {
		t.Errorf("a good chain: %+v", r)
	}
	r = run(wire.CheckOrder{Check: "longer", Height: 4, Hash: s.log.Blocks[3].Header.Hash()})
	if len(r.Bad) != 1 || r.Bad[0] != (chain.Range{From: 3, To: 4}) || len(r.Findings) != 1 ||
		r.Findings[0].What != chain.WrongShort {
		t.Errorf("a chain that is too short: %+v", r)
	}
	r = run(wire.CheckOrder{Check: "other", Height: 3, Hash: chain.Hash{1}})
	if len(r.Bad) != 0 || !r.Other {
		t.Errorf("another chain: %+v", r)
	}
}
