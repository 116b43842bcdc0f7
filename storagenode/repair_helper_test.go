package storagenode

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// pipeTo is a Config.Transfer that passes the stream to a node in this process.
func pipeTo(to *Node) func(context.Context, string, string, func(io.Writer) error) error {
	return func(ctx context.Context, _, ticket string, write func(io.Writer) error) error {
		pr, pw := io.Pipe()
		written := make(chan error, 1)
		go func() {
			err := write(pw)
			_ = pw.CloseWithError(err) // it returns nil
			written <- err
		}()
		err := to.Take(ctx, ticket, pr)
		_ = pr.CloseWithError(io.ErrClosedPipe) // it returns nil
		<-written
		return err
	}
}

// ended runs a new check to its end, which may be early.
func (c *testChain) ended(t testing.TB, n *Node, height int, lost ...chain.Range) wire.CheckStatus {
	t.Helper()
	o := wire.CheckOrder{Check: "check", Height: uint64(height), Hash: c.statusAt(height).Hash, Lost: lost}
	n.jobs.Lock()
	if n.check != nil {
		o.Check = n.check.order.Check + "+"
	}
	n.jobs.Unlock()
	if _, err := n.Check(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	n.jobs.Lock()
	ended := n.check.job.ended
	n.jobs.Unlock()
	<-ended
	status, err := n.Check(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// checked runs a new check, which must not end early.
func (c *testChain) checked(t testing.TB, n *Node, height int, lost ...chain.Range) wire.Report {
	t.Helper()
	status := c.ended(t, n, height, lost...)
	report := status.Report
	if report == nil {
		t.Fatalf("check: %+v", status)
	}
	if len(report.Bad) == 0 && report.Unchecked == uint64(height) &&
		(status.Blocks != uint64(height) || status.Bytes != status.Total) {
		t.Fatalf("check: %+v", status)
	}
	return *report
}

// clean runs a check whose report must be empty.
func (c *testChain) clean(t testing.TB, n *Node, height int) {
	t.Helper()
	r := c.checked(t, n, height)
	if len(r.Findings) > 0 || len(r.Bad) > 0 || r.Unchecked != uint64(height) || r.Other || r.Tiles != 0 {
		t.Fatalf("not clean: %+v", r)
	}
}

// pieces returns the pieces of a repair of the given ranges.
func (c *testChain) pieces(ranges ...chain.Range) []wire.Piece {
	var list []wire.Piece
	for _, r := range ranges {
		for from := r.From; from < r.To; from += wire.MaxPiece {
			to := min(r.To, from+wire.MaxPiece)
			list = append(list, wire.Piece{Range: chain.Range{From: from, To: to}, Hash: c.blocks[to-1].Header.Hash()})
		}
	}
	return list
}

// tickets counts the tickets of repair.
var tickets atomic.Uint64

// repair sends blocks from one node to another with the orders of a leader. No block may be missing afterwards.
func (c *testChain) repair(t testing.TB, from, to *Node, keep uint64, ranges ...chain.Range) wire.ReceiveStatus {
	t.Helper()
	ticket := fmt.Sprintf("ticket-%d", tickets.Add(1))
	order := wire.ReceiveOrder{Ticket: ticket, Keep: keep, Pieces: c.pieces(ranges...)}
	opened, err := to.Receive(t.Context(), order)
	if err != nil {
		t.Fatal(err)
	}
	if len(opened.Missing) > 0 {
		c.send(t, from, to, wire.SendOrder{Ticket: order.Ticket, Pieces: order.Pieces})
	}
	status, err := to.Receive(t.Context(), order)
	if err != nil || len(status.Missing) > 0 {
		t.Fatalf("after the transfer: %+v, %v", status, err)
	}
	return status
}

// send runs a transfer, which must succeed.
func (c *testChain) send(t testing.TB, from, to *Node, o wire.SendOrder) {
	t.Helper()
	if s := sent(t, from, to, o); s.Error != "" || s.Running {
		t.Fatalf("send: %+v", s)
	}
}

// sent runs a transfer to its end.
func sent(t testing.TB, from, to *Node, o wire.SendOrder) wire.SendStatus {
	t.Helper()
	from.life.Lock()
	from.cfg.Transfer = pipeTo(to)
	from.life.Unlock()
	from.mu.Lock()
	if from.send != nil {
		o.Attempt = from.send.order.Attempt + 1
	}
	from.mu.Unlock()
	if _, err := from.Send(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	from.mu.Lock()
	ended := from.send.job.ended
	from.mu.Unlock()
	<-ended
	s, err := from.Send(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// source returns a node that has the whole chain.
func (c *testChain) source(t testing.TB) *Node {
	t.Helper()
	n := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 3000})
	c.putAll(t, n)
	return n
}

// frameOf returns the frame of a block.
func (c *testChain) frameOf(number uint64) []byte {
	return segment.AppendFrame(nil, c.blocks[number].Bytes())
}
