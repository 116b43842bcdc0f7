package storagenode

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/transfer"
	"github.com/chainstore/chainstore/wire"
)

// TestInterrupt checks that Interrupt ends a repair in progress. Blocks received so far are durable, later ones are
// refused, and another repair may begin.
func TestInterrupt(t *testing.T) {
	const whole = 20
	c := newTestChain(78)
	c.growTo(t, whole)
	source := c.source(t)
	n := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 3000})
	receive := wire.ReceiveOrder{Ticket: "receive", Pieces: c.pieces(chain.Range{From: 0, To: whole})}
	if _, err := n.Receive(t.Context(), receive); err != nil {
		t.Fatal(err)
	}
	blocks := &blockReader{n: source}
	head, err := blocks.piece(receive.Pieces[0])
	if err != nil {
		t.Fatal(err)
	}
	from, to := io.Pipe()
	taken := make(chan error, 1)
	go func() { taken <- n.Take(t.Context(), "receive", from) }()
	write := func(data []byte) {
		t.Helper()
		if _, err := to.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	block := func(number uint64) []byte {
		t.Helper()
		data, err := blocks.block(number)
		if err != nil {
			t.Fatal(err)
		}
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...)
	}
	write(transfer.AppendHeader(nil))
	write(head.AppendTo(nil))
	write(block(0))
	next := block(1)
	write(next[:1]) // block 0 is processed when the reader requests more
	if err := n.Interrupt(); err != nil {
		t.Fatal(err)
	}
	height := n.Status().Height
	n.mu.Lock()
	waiting := n.unsynced.blocks
	n.mu.Unlock()
	if waiting > 0 || height != n.index.Len() {
		t.Errorf("%d blocks wait for their sync at height %d of %d", waiting, height, n.index.Len())
	}
	go func() {
		_, _ = to.Write(next[1:]) // fails if the stream is no longer read
		_ = to.Close()
	}()
	if err := <-taken; !errors.Is(err, ErrTicket) {
		t.Errorf("the transfer that was under way ended with %v", err)
	}
	_ = from.Close()
	if got := n.Status().Height; got != height {
		t.Errorf("the chain went on from %d to %d", height, got)
	}
	if err := n.Take(t.Context(), "receive", nil); !errors.Is(err, ErrTicket) {
		t.Errorf("a new transfer: %v", err)
	}
	receive = wire.ReceiveOrder{Ticket: "next", Keep: height, Pieces: c.pieces(chain.Range{From: height, To: whole})}
	if _, err := n.Receive(t.Context(), receive); err != nil {
		t.Errorf("another repair: %v", err)
	}
	mustClose(t, n)
}

// TestAbort checks that Abort ends a check, a transfer and a repair in progress, and that no other can begin. The chain
// does not change.
func TestAbort(t *testing.T) {
	const height, whole = 20, 40
	c := newTestChain(77)
	c.growTo(t, whole)
	sending := make(chan struct{})
	cfg := Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 3000}
	cfg.Transfer = func(ctx context.Context, _, _ string, _ func(io.Writer) error) error {
		close(sending)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	n := mustOpen(t, cfg)
	for number := range uint64(height) {
		if _, err := n.Put(t.Context(), number, c.blocks[number].Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	check := wire.CheckOrder{Check: "slow", Height: height, Hash: c.statusAt(height).Hash, Rate: 1}
	send := wire.SendOrder{To: "http://other", Ticket: "send"}
	receive := wire.ReceiveOrder{Ticket: "receive", Keep: height}
	receive.Pieces = c.pieces(chain.Range{From: height, To: whole})
	if _, err := n.Check(t.Context(), check); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Send(t.Context(), send); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Receive(t.Context(), receive); err != nil {
		t.Fatal(err)
	}
	<-sending
	from, to := io.Pipe()
	taken := make(chan error, 1)
	go func() { taken <- n.Take(t.Context(), "receive", from) }()
	if _, err := to.Write(transfer.AppendHeader(nil)); err != nil { // the transfer is under way
		t.Fatal(err)
	}
	n.mu.Lock()
	checking, sent := n.check.job.ended, n.send.job.ended
	n.mu.Unlock()

	if err := n.Abort(); err != nil {
		t.Fatal(err)
	}
	<-checking
	<-sent
	source := c.source(t)
	piece := (&blockReader{n: source})
	head, err := piece.piece(receive.Pieces[0])
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = to.Write(head.AppendTo(nil)) // fails if the stream is no longer read
		data, _ := piece.block(height)
		_, _ = to.Write(append([]byte{0, 0, byte(len(data) >> 8), byte(len(data))}, data...))
		_ = to.Close()
	}()
	if err := <-taken; !errors.Is(err, ErrTicket) {
		t.Errorf("the transfer that was under way ended with %v", err)
	}
	_ = from.Close()
	if err := n.Take(t.Context(), "receive", nil); !errors.Is(err, ErrTicket) {
		t.Errorf("a new transfer: %v", err)
	}
	_, checkErr := n.Check(t.Context(), check)
	_, sendErr := n.Send(t.Context(), send)
	_, receiveErr := n.Receive(t.Context(), receive)
	for what, err := range map[string]error{"check": checkErr, "send": sendErr, "receive": receiveErr} {
		if !errors.Is(err, ErrFailed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := n.Status(); got != c.statusAt(height) {
		t.Errorf("it has %+v", got)
	}
	if err := n.Abort(); err != nil {
		t.Errorf("once more: %v", err)
	}
	mustClose(t, n)
	n = mustOpen(t, cfg)
	c.check(t, n, height)
	mustClose(t, n)
}
