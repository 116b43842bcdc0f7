package storagenode

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// TestReplacedJobDoesNotBegin starts three jobs. The second must not run if it is replaced while it waits for the
// first.
func TestReplacedJobDoesNotBegin(t *testing.T) {
	began, release := make(chan int, 3), make(chan struct{})
	run := func(i int) func(context.Context) {
		return func(context.Context) {
			began <- i
			if i == 1 {
				<-release // it ignores its context
			}
		}
	}
	first := startJob(nil, run(1))
	if i := <-began; i != 1 {
		t.Fatalf("job %d began", i)
	}
	second := startJob(first, run(2))
	third := startJob(second, run(3))
	close(release)
	<-third.ended
	<-second.ended
	if i := <-began; i != 3 || len(began) > 0 {
		t.Errorf("job %d began after the first, %d more", i, len(began))
	}
}

// TestPollDoesNotWaitForTheDisk polls a check and a transfer while another call holds the write lock, as during a sync,
// and the lock with which a repair replaces the state.
func TestPollDoesNotWaitForTheDisk(t *testing.T) {
	const height = 10
	c := newTestChain(77)
	c.growTo(t, height)
	cfg := Config{AtRest: testKeys, Dir: memDir(t)}
	cfg.Transfer = func(ctx context.Context, _, _ string, _ func(io.Writer) error) error {
		<-ctx.Done()
		return ctx.Err()
	}
	n := mustOpen(t, cfg)
	c.putAll(t, n)
	send := wire.SendOrder{Ticket: "a", Pieces: c.pieces(chain.Range{From: 0, To: height})}
	if _, err := n.Send(t.Context(), send); err != nil {
		t.Fatal(err)
	}
	check := wire.CheckOrder{Check: "slow", Height: height, Hash: c.statusAt(height).Hash, Rate: 1}
	if _, err := n.Check(t.Context(), check); err != nil {
		t.Fatal(err)
	}
	n.life.Lock()
	n.mu.Lock()
	polled := make(chan error, 2)
	go func() { _, err := n.Check(t.Context(), check); polled <- err }()
	go func() { _, err := n.Send(t.Context(), send); polled <- err }()
	for range 2 {
		select {
		case err := <-polled:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("a poll waits for the disk")
		}
	}
	n.mu.Unlock()
	n.life.Unlock()
}

// TestOrdersWhoseCallerLeft checks that an order that waits for its turn, as behind a sync, has no effect if its caller
// leaves meanwhile.
func TestOrdersWhoseCallerLeft(t *testing.T) {
	c := newTestChain(79)
	c.growTo(t, 3)
	cfg := Config{AtRest: testKeys, Dir: memDir(t)}
	cfg.Transfer = func(context.Context, string, string, func(io.Writer) error) error { return nil }
	n := mustOpen(t, cfg)
	if _, err := n.PutInbox(t.Context(), 1, c.blocks[1].Bytes()); err != nil {
		t.Fatal(err)
	}
	before := n.Status()
	for name, order := range map[string]func(context.Context) error{
		"Put":      func(ctx context.Context) error { _, err := n.Put(ctx, 0, c.blocks[0].Bytes()); return err },
		"PutInbox": func(ctx context.Context) error { _, err := n.PutInbox(ctx, 2, c.blocks[2].Bytes()); return err },
		"Check":    func(ctx context.Context) error { _, err := n.Check(ctx, wire.CheckOrder{Check: "1"}); return err },
		"Send":     func(ctx context.Context) error { _, err := n.Send(ctx, wire.SendOrder{Ticket: "t"}); return err },
		"Receive": func(ctx context.Context) error {
			_, err := n.Receive(ctx, wire.ReceiveOrder{Ticket: "t"})
			return err
		},
	} {
		gone := errors.New("the caller has left")
		ctx, leave := context.WithCancelCause(t.Context())
		n.mu.Lock()
		ended := make(chan error)
		go func() { ended <- order(ctx) }()
		leave(gone)
		n.mu.Unlock()
		if err := <-ended; !errors.Is(err, gone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if now := n.Status(); now != before || n.lastRepair() != nil || n.check != nil || n.send != nil {
		t.Errorf("an order had an effect: %+v, was %+v", now, before)
	}
	// The rest of the inbox waits if the caller leaves while it is moved.
	ctx, leave := context.WithCancel(t.Context())
	if _, err := n.PutInbox(ctx, 2, c.blocks[2].Bytes()); err != nil {
		t.Fatal(err)
	}
	room := func() error { leave(); return nil } // it is asked before block 0 is added
	n.cfg.Room = room
	if at, err := n.Put(ctx, 0, c.blocks[0].Bytes()); err != nil || at.Height != 1 || at.Inbox.Len() != 2 {
		t.Errorf("%+v, %v", at, err)
	}
	if at, err := n.Put(t.Context(), 0, c.blocks[0].Bytes()); err != nil || at.Height != 3 || at.Inbox.Len() != 0 {
		t.Errorf("the next order: %+v, %v", at, err)
	}
}
