package storagenode

import (
	"context"
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
	cfg := Config{Dir: memDir(t)}
	cfg.Transfer = func(ctx context.Context, _, _ string, _ func(io.Writer) error) error {
		<-ctx.Done()
		return ctx.Err()
	}
	n := mustOpen(t, cfg)
	c.putAll(t, n)
	send := wire.SendOrder{Ticket: "a", Pieces: c.pieces(chain.Range{From: 0, To: height})}
	if _, err := n.Send(send); err != nil {
		t.Fatal(err)
	}
	check := wire.CheckOrder{Check: "slow", Height: height, Hash: c.statusAt(height).Hash, Rate: 1}
	if _, err := n.Check(check); err != nil {
		t.Fatal(err)
	}
	n.life.Lock()
	n.mu.Lock()
	polled := make(chan error, 2)
	go func() { _, err := n.Check(check); polled <- err }()
	go func() { _, err := n.Send(send); polled <- err }()
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
