package storagenode

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/storagenode/transfer"
	"github.com/chainstore/chainstore/wire"
)

// watchedFile calls a function before each write.
type watchedFile struct {
	segment.File
	wrote func()
}

func (f watchedFile) WriteAt(p []byte, off int64) (int, error) {
	f.wrote()
	return f.File.WriteAt(p, off)
}

// TestReceiveIsCanceled checks that an order for another repair, which has to copy the rest of a segment first, ends
// soon when it is canceled, and has no effect: the repair that is open goes on, with the block that it has received,
// although its sender has stalled meanwhile.
func TestReceiveIsCanceled(t *testing.T) {
	const height = 30
	var writes atomic.Int64
	var cancel atomic.Pointer[context.CancelCauseFunc]
	replaced := errors.New("an order of a newer leader waits")
	wrote := func() {
		writes.Add(1)
		if end := cancel.Load(); end != nil {
			(*end)(replaced)
		}
	}
	c, _ := filled(t, 91, height)
	source := c.source(t)
	n := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 1 << 20,
		open: func(path string, flag int) (segment.File, error) {
			f, err := segment.OpenFile(path, flag)
			if err == nil && strings.HasSuffix(path, newSuffix) {
				f = watchedFile{f, wrote}
			}
			return f, err
		}})
	c.putAll(t, n)
	for _, b := range []uint64{2, 28} {
		path, p := segmentOf(t, n, b)
		flip(t, path, p.Offset+120)
	}
	pieces := c.pieces(chain.Range{From: 2, To: 3}, chain.Range{From: 28, To: 29})
	stream := streamOf(t, source, pieces)
	first := len(streamOf(t, source, pieces[:1])) - len(transfer.AppendEnd(nil))
	order := wire.ReceiveOrder{Ticket: "t", Keep: height, Pieces: pieces}
	status := func() wire.ReceiveStatus {
		t.Helper()
		s, err := n.Receive(t.Context(), order)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	status()
	pr, pw := io.Pipe()
	taken := make(chan error, 1)
	go func() { taken <- n.Take(t.Context(), "t", pr) }()
	if _, err := pw.Write(stream[:first]); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); status().Blocks == 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("no block was received")
		}
	}
	ctx, end := context.WithCancelCause(t.Context())
	before := writes.Load()
	cancel.Store(&end)
	_, err := n.Receive(ctx, wire.ReceiveOrder{Ticket: "other", Keep: height, Pieces: pieces})
	if copied := writes.Load() - before; !errors.Is(err, replaced) || copied != 1 {
		t.Errorf("canceled: %v, %d blocks were copied", err, copied)
	}
	cancel.Store(nil)
	// An order that was canceled before it began changes nothing either.
	if _, err := n.Receive(ctx, wire.ReceiveOrder{Ticket: "third", Keep: 1}); !errors.Is(err, replaced) {
		t.Error(err)
	}
	if s := status(); s.Blocks != 1 || len(s.Missing) != 2 || s.Height != height {
		t.Errorf("the repair that is open: %+v", s)
	}
	if _, err := pw.Write(stream[first:]); err != nil {
		t.Fatal(err)
	}
	must(t, pw.Close())
	must(t, <-taken)
	if s := status(); s.Blocks != 2 || len(s.Missing) > 0 {
		t.Errorf("after the transfer: %+v", s)
	}
	c.clean(t, n, height)
}
