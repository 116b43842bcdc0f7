package storagenode

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// TestFillEmptyNode checks that a new node receives the whole chain, and then appends the blocks in its inbox.
func TestFillEmptyNode(t *testing.T) {
	const height = 300
	c := newTestChain(30)
	c.growTo(t, height)
	source := c.source(t)
	cfg := Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 4000}
	n := mustOpen(t, cfg)
	for number := uint64(height); number < height+5; number++ {
		data := c.grow(t, 2, 30)
		if _, err := n.PutInbox(t.Context(), number, data); err != nil {
			t.Fatal(err)
		}
	}
	got := c.repair(t, source, n, 0, chain.Range{From: 0, To: 100}, chain.Range{From: 100, To: height})
	if got.Height != height+5 || got.Blocks != height || got.Inbox != (chain.Range{}) {
		t.Errorf("received %+v", got)
	}
	c.check(t, n, height+5)
	c.clean(t, n, height+5)
	mustClose(t, n)
	verified(t, cfg.Dir, c, height+5)
}

// TestHoles repairs several missing ranges at once: in the middle, across segments, and in the last segment, while
// blocks are appended and read.
func TestHoles(t *testing.T) {
	const height, last = 120, 160
	c := newTestChain(31)
	c.growTo(t, last)
	source := c.source(t)
	cfg := Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 5000, CheckThreads: 2}
	n := mustOpen(t, cfg)
	for number := range uint64(height) {
		if _, err := n.Put(t.Context(), number, c.blocks[number].Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	span := segmentSpan(t, n, 30)
	bad := []chain.Range{{From: 3, To: 4}, {From: 7, To: 9}, {From: span.To - 2, To: span.To + 3}, {From: 80, To: 81},
		{From: height - 2, To: height - 1}}
	for _, r := range bad {
		for b := r.From; b < r.To; b++ {
			path, p := segmentOf(t, n, b)
			flip(t, path, p.Offset+150)
		}
	}
	if r := c.checked(t, n, height); !reflect.DeepEqual(r.Bad, bad) {
		t.Fatalf("report %+v", r)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for number := uint64(height); number < last; number++ {
			if _, err := n.Put(t.Context(), number, c.blocks[number].Bytes()); err != nil {
				t.Error(err)
				return
			}
		}
	})
	stop := make(chan struct{})
	wg.Go(func() {
		for number := uint64(0); ; number = (number + 1) % height {
			select {
			case <-stop:
				return
			default:
			}
			isBad := slices.ContainsFunc(bad, func(r chain.Range) bool { return r.Holds(number) })
			if data, err := n.Block(number); err != nil && !isBad || err == nil &&
				string(data) != string(c.blocks[number].Bytes()) {
				t.Errorf("block %d: %v", number, err)
				return
			}
		}
	})
	got := c.repair(t, source, n, math.MaxUint64, bad...)
	if got.Blocks != chain.CountBlocks(bad) {
		t.Errorf("received %+v", got)
	}
	close(stop)
	wg.Wait()
	c.check(t, n, last)
	c.clean(t, n, last)
	mustClose(t, n)
	verified(t, cfg.Dir, c, last)
}

// TestBlockedByDamage checks a node whose chain ends before a damaged block, because the tree after it is unknown. It
// must continue after it has received the block.
func TestBlockedByDamage(t *testing.T) {
	const height, damaged = 40, 17
	c, cfg := filled(t, 32, height)
	source := c.source(t)
	for _, most := range []bool{false, true} {
		dir := copyDir(t, cfg.Dir)
		n := mustOpen(t, Config{AtRest: testKeys, Dir: dir, SegmentBytes: 2000})
		path, p := segmentOf(t, n, damaged)
		mustClose(t, n)
		flip(t, path, p.Offset+100)
		remove(t, dir, "tiles")
		n = mustOpen(t, Config{AtRest: testKeys, Dir: dir, SegmentBytes: 2000})
		if !n.Unclean() || n.Status().Height != damaged {
			t.Fatalf("unclean %v, %+v", n.Unclean(), n.Status())
		}
		if r := c.checked(t, n, height); !reflect.DeepEqual(r.Bad, []chain.Range{{From: damaged, To: damaged + 1}}) ||
			r.Unchecked != damaged+1 {
			t.Fatalf("report %+v", r)
		}
		to := uint64(damaged + 1)
		if most { // all blocks after it, and more
			to = height + 6
			c.growTo(t, height+6)
			c.putAll(t, source)
		}
		got := c.repair(t, source, n, damaged, chain.Range{From: damaged, To: to})
		if got.Height != max(height, to) {
			t.Errorf("received %+v", got)
		}
		c.check(t, n, int(got.Height))
		c.clean(t, n, int(got.Height))
		mustClose(t, n)
		verified(t, dir, c, int(got.Height))
	}
}

func TestTickets(t *testing.T) {
	const height = 20
	c := newTestChain(33)
	c.growTo(t, height)
	source := c.source(t)
	n := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t)})
	if err := n.Take(t.Context(), "", strings.NewReader("")); !errors.Is(err, ErrTicket) {
		t.Errorf("without a repair: %v", err)
	}
	if _, err := n.Receive(t.Context(), wire.ReceiveOrder{}); err == nil {
		t.Error("a repair without a ticket")
	}
	for _, pieces := range [][]wire.Piece{
		{{Range: chain.Range{From: 3, To: 3}}}, {{Range: chain.Range{From: 0, To: wire.MaxPiece + 1}}},
		{{Range: chain.Range{From: 3, To: 5}}, {Range: chain.Range{From: 4, To: 6}}},
	} {
		order := wire.ReceiveOrder{Ticket: "a", Pieces: pieces}
		if _, err := n.Receive(t.Context(), order); !errors.Is(err, wire.ErrBadBlock) {
			t.Errorf("pieces %v: %v", pieces, err)
		}
	}
	order := wire.ReceiveOrder{Ticket: "right", Pieces: c.pieces(chain.Range{From: 0, To: height})}
	if got, err := n.Receive(t.Context(), order); err != nil || chain.CountBlocks(got.Missing) != height {
		t.Fatalf("%+v, %v", got, err)
	}
	stream := streamOf(t, source, order.Pieces)
	for _, ticket := range []string{"", "righ", "right1", "wrong"} {
		if err := n.Take(t.Context(), ticket, bytes.NewReader(stream)); !errors.Is(err, ErrTicket) {
			t.Errorf("ticket %q: %v", ticket, err)
		}
	}
	if n.Status().Height != 0 {
		t.Error("somebody without a ticket was let in")
	}
	must(t, n.Take(t.Context(), "right", bytes.NewReader(stream)))
	if err := n.Take(t.Context(), "right", bytes.NewReader(stream)); !errors.Is(err, ErrTicket) {
		t.Errorf("a ticket that was used: %v", err)
	}
	if got, err := n.Receive(t.Context(), order); err != nil || len(got.Missing) != 0 || got.Height != height {
		t.Errorf("%+v, %v", got, err)
	}
	c.check(t, n, height)
}

// streamOf returns the whole stream of a transfer.
func streamOf(t testing.TB, n *Node, pieces []wire.Piece) []byte {
	t.Helper()
	var out bytes.Buffer
	s := &sendJob{order: wire.SendOrder{Pieces: pieces}}
	if own, err := n.writeStream(context.Background(), s, &out); own != nil || err != nil {
		t.Fatal(own, err)
	}
	return out.Bytes()
}

// cutReader ends a stream like a broken connection.
type cutReader struct{ io.Reader }

var errCut = errors.New("connection reset")

func (c cutReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = errCut
	}
	return n, err
}

// TestCutStream cuts a transfer at every byte. Blocks that arrived completely must be kept, and the transfer must
// resume after them.
func TestCutStream(t *testing.T) {
	const height, had = 5, 3
	c := newTestChain(34)
	for range height {
		c.grow(t, 1, 3)
	}
	source := c.source(t)
	base := Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 400}
	n := mustOpen(t, base)
	for number := range uint64(had) {
		if _, err := n.Put(t.Context(), number, c.blocks[number].Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	path, p := segmentOf(t, n, 1)
	flip(t, path, p.Offset+60)
	mustClose(t, n)
	pieces := c.pieces(chain.Range{From: 1, To: 2}, chain.Range{From: had, To: height})
	stream := streamOf(t, source, pieces)
	for cut := range len(stream) {
		if testing.Short() && cut%5 != 0 {
			continue
		}
		dir := copyDir(t, base.Dir)
		n := mustOpen(t, Config{AtRest: testKeys, Dir: dir, SegmentBytes: 400})
		order := wire.ReceiveOrder{Ticket: "t", Keep: had, Pieces: pieces}
		if _, err := n.Receive(t.Context(), order); err != nil {
			t.Fatal(err)
		}
		err := n.Take(t.Context(), "t", cutReader{bytes.NewReader(stream[:cut])})
		got, getErr := n.Receive(t.Context(), order)
		if getErr != nil || len(got.Missing) > 0 && !errors.Is(err, errCut) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d: %v, %+v, %v", cut, err, got, getErr)
		}
		left := chain.CountBlocks(got.Missing)
		if left+got.Blocks != 3 || got.Height != had+uint64(max(0, int(got.Blocks)-1)) {
			t.Fatalf("cut at %d: %+v", cut, got)
		}
		for b := range got.Height {
			missing := slices.ContainsFunc(got.Missing, func(r chain.Range) bool { return r.Holds(b) })
			if data, err := n.Block(b); !missing && (err != nil || string(data) != string(c.blocks[b].Bytes())) ||
				missing && err == nil {
				t.Fatalf("cut at %d: block %d: %v", cut, b, err)
			}
		}
		if left > 0 {
			var rest []wire.Piece
			for _, r := range got.Missing {
				rest = append(rest, c.pieces(r)...)
			}
			must(t, n.Take(t.Context(), "t", bytes.NewReader(streamOf(t, source, rest))))
		}
		for b := range uint64(height) {
			if data, err := n.Block(b); err != nil || string(data) != string(c.blocks[b].Bytes()) {
				t.Fatalf("cut at %d, resumed: block %d: %v", cut, b, err)
			}
		}
		if cut%40 == 0 {
			c.check(t, n, height)
			mustClose(t, n)
			verified(t, dir, c, height)
		}
		mustClose(t, n)
		must(t, os.RemoveAll(dir))
	}
}

// TestLyingSender flips every eighth bit of a stream. No wrong byte may be kept.
func TestLyingSender(t *testing.T) {
	const height = 2
	c := newTestChain(35)
	for range height {
		c.grow(t, 2, 3)
	}
	pieces := c.pieces(chain.Range{From: 0, To: height})
	stream := streamOf(t, c.source(t), pieces)
	n := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t)})
	for at := range stream {
		bad := bytes.Clone(stream)
		bad[at] ^= 1 << (at % 8)
		order := wire.ReceiveOrder{Ticket: "t" + string(rune('a'+at%7)), Pieces: pieces} // starts a new transfer
		if _, err := n.Receive(t.Context(), order); err != nil {
			t.Fatal(err)
		}
		if err := n.Take(t.Context(), order.Ticket, bytes.NewReader(bad)); err == nil || errors.Is(err, ErrFailed) {
			t.Fatalf("byte %d: %v", at, err)
		}
		for b := range n.Status().Height {
			if data, err := n.Block(b); err != nil || string(data) != string(c.blocks[b].Bytes()) {
				t.Fatalf("byte %d: block %d: %v", at, b, err)
			}
		}
		if h := n.Status().Height; h == height && at < len(stream)-12 {
			t.Fatalf("byte %d: nothing was wrong", at)
		} else if h > 0 {
			if _, err := n.Receive(t.Context(), wire.ReceiveOrder{Ticket: "empty", Keep: 0}); err != nil {
				t.Fatal(err)
			}
		}
	}
	must(t, n.Close())
}

// TestFaultySender checks that a sender that lacks a block reports it, and that the blocks that it has are kept.
func TestFaultySender(t *testing.T) {
	const height, damaged = 30, 12
	c := newTestChain(36)
	c.growTo(t, height)
	source := c.source(t)
	path, p := segmentOf(t, source, damaged)
	flip(t, path, p.Offset+140)
	n := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t)})
	order := wire.ReceiveOrder{Ticket: "t", Pieces: c.pieces(chain.Range{From: 0, To: height})}
	if _, err := n.Receive(t.Context(), order); err != nil {
		t.Fatal(err)
	}
	s := sent(t, source, n, wire.SendOrder{Ticket: "t", Pieces: order.Pieces})
	if !s.Faulty || !strings.Contains(s.Error, "block 12") || s.Blocks != damaged {
		t.Errorf("sent %+v", s)
	}
	if n.Status().Height != damaged {
		t.Errorf("status %+v", n.Status())
	}
	// Another sender continues from there.
	c.send(t, c.source(t), n, wire.SendOrder{Ticket: "t", Pieces: c.pieces(chain.Range{From: damaged, To: height})})
	c.check(t, n, height)
	// A sender with another chain is refused because of its own proof. One that is not admitted is not blamed.
	other := newTestChain(37)
	other.growTo(t, height)
	if s := sent(t, other.source(t), n, wire.SendOrder{Ticket: "t", Pieces: order.Pieces}); !s.Faulty {
		t.Errorf("sent %+v", s)
	}
	if s := sent(t, c.source(t), n, wire.SendOrder{Ticket: "unknown", Pieces: order.Pieces}); s.Faulty ||
		s.Error == "" {
		t.Errorf("sent %+v", s)
	}
}

// TestHangingSender checks that a new transfer replaces one that hangs in the middle of a segment.
func TestHangingSender(t *testing.T) {
	const height = 30
	c, cfg := filled(t, 38, height)
	cfg.SegmentBytes = 1 << 20
	source := c.source(t)
	n := mustOpen(t, cfg)
	span := segmentSpan(t, n, 10)
	for b := span.From; b < span.To; b++ {
		path, p := segmentOf(t, n, b)
		flip(t, path, p.Offset+120)
	}
	pieces := c.pieces(span)
	stream := streamOf(t, source, pieces)
	order := wire.ReceiveOrder{Ticket: "t", Keep: height, Pieces: pieces}
	if _, err := n.Receive(t.Context(), order); err != nil {
		t.Fatal(err)
	}
	pr, pw := io.Pipe()
	hung := make(chan error, 1)
	go func() { hung <- n.Take(t.Context(), "t", pr) }()
	if _, err := pw.Write(stream[:len(stream)/2]); err != nil {
		t.Fatal(err)
	}
	must(t, n.Take(t.Context(), "t", bytes.NewReader(stream)))
	if got, err := n.Receive(t.Context(), order); err != nil || len(got.Missing) > 0 {
		t.Errorf("%+v, %v", got, err)
	}
	go func() {
		_, _ = pw.Write(stream[len(stream)/2:]) // it may not be read
	}()
	if err := <-hung; !errors.Is(err, ErrTicket) {
		t.Errorf("the first transfer: %v", err)
	}
	must(t, pr.Close())
	c.check(t, n, height)
	c.clean(t, n, height)
}

// TestRepairAgainAfterCrash checks that a node that ends in the middle of a repair keeps the synced blocks, and is
// repaired with a new ticket.
func TestRepairAgainAfterCrash(t *testing.T) {
	const height = 40
	c, cfg := filled(t, 39, height)
	c.growTo(t, 60)
	source := c.source(t)
	n := mustOpen(t, cfg)
	path, p := segmentOf(t, n, 20)
	flip(t, path, p.Offset+130)
	pieces := c.pieces(chain.Range{From: 20, To: 21}, chain.Range{From: height, To: 60})
	stream := streamOf(t, source, pieces)
	if _, err := n.Receive(t.Context(), wire.ReceiveOrder{Ticket: "a", Keep: height, Pieces: pieces}); err != nil {
		t.Fatal(err)
	}
	if err := n.Take(t.Context(), "a", cutReader{bytes.NewReader(stream[:len(stream)/2])}); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	crash(t, n)
	must(t, segmentLeftover(cfg.Dir))
	n = mustOpen(t, cfg)
	if err := n.Take(t.Context(), "a", bytes.NewReader(stream)); !errors.Is(err, ErrTicket) {
		t.Errorf("after a start: %v", err)
	}
	h := n.Status().Height
	if h <= height || h >= 60 {
		t.Fatalf("height %d", h)
	}
	c.check(t, n, int(h))
	// The leader opens the same ticket again. Blocks that were appended meanwhile stay.
	again, err := n.Receive(t.Context(), wire.ReceiveOrder{Ticket: "a", Keep: height, Pieces: pieces})
	if want := []chain.Range{{From: 20, To: 21}, {From: h, To: 60}}; err != nil || again.Height != h ||
		!reflect.DeepEqual(again.Missing, want) {
		t.Fatalf("opened again: %+v, %v, want missing %v", again, err, want)
	}
	got := c.repair(t, source, n, h, chain.Range{From: 20, To: 21}, chain.Range{From: h, To: 60})
	if got.Blocks != 1+60-h || len(got.Changed) != 0 {
		t.Errorf("received %+v", got)
	}
	c.clean(t, n, 60)
	if left, err := filepath.Glob(filepath.Join(cfg.Dir, "segments", "*"+newSuffix)); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// segmentLeftover creates an unfinished segment.
func segmentLeftover(dir string) error {
	path := filepath.Join(dir, "segments", segment.Name(0)+newSuffix)
	f, err := segment.WriteHeader(segment.OpenFile, nil, path, os.O_CREATE|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// TestQuarantineKeepsOldBytes checks that a repair keeps the bytes that it replaces: frame by frame, or the whole file
// if it replaces much.
func TestQuarantineKeepsOldBytes(t *testing.T) {
	c, cfg := filled(t, 40, 60)
	source := c.source(t)
	n := mustOpen(t, cfg)
	path, p := segmentOf(t, n, 20)
	flip(t, path, p.Offset+segment.FrameHeader+int64(p.Length)-1)
	old := bytes.Clone(c.frameOf(20))
	old[len(old)-1] ^= 0x10
	got := c.repair(t, source, n, 60, chain.Range{From: 20, To: 21})
	if len(got.Changed) != 1 || !strings.Contains(got.Changed[0], "block 20: 1 byte differed, the first at offset") {
		t.Errorf("changed %q", got.Changed)
	}
	kept := quarantined(t, n)
	if string(kept[segment.Name(segmentSpan(t, n, 20).From)+"-block-20.0"]) != string(old) || len(kept) != 1 {
		t.Errorf("kept %d files", len(kept))
	}
}

// TestOneRottenBlockOfMany checks that one damaged block of many is one finding, and that only this block is sent.
func TestOneRottenBlockOfMany(t *testing.T) {
	c := newTestChain(99)
	const height, rotten = 5000, 2345
	c.growTo(t, height)
	n := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t)})
	c.putAll(t, n)
	p, seg, _ := n.index.Get(rotten)
	flip(t, filepath.Join(n.dir.Segments(), segment.Name(seg)), p.Offset+segment.FrameHeader+int64(p.Length)-1)
	r := c.checked(t, n, height)
	if len(r.Findings) != 1 || r.Unchecked != height || !slices.Equal(r.Bad, []chain.Range{{From: rotten,
		To: rotten + 1}}) {
		t.Fatalf("%+v", r)
	}
	status := c.repair(t, c.source(t), n, height, r.Bad...)
	if status.Blocks != 1 || status.Bytes != uint64(p.Length) {
		t.Errorf("%d blocks, %d bytes were received; block %d has %d", status.Blocks, status.Bytes, rotten, p.Length)
	}
	c.clean(t, n, height)
}
