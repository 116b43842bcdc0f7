package minernode_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/minernode"
	"github.com/chainstore/chainstore/wire"
)

// order returns an order for block n, with an inner hash derived from n.
func order(n uint64, difficulty uint8) wire.MineOrder {
	var seed [8]byte
	binary.BigEndian.PutUint64(seed[:], n)
	return wire.MineOrder{Block: n, Inner: sha256.Sum256(seed[:]), Difficulty: difficulty, Start: n << 40}
}

// endless is a difficulty at which no test finds a nonce.
const endless = chain.MaxDifficulty

func TestMine(t *testing.T) {
	for _, threads := range []int{1, 3} {
		n := minernode.New(minernode.Config{Threads: threads})
		for block := range uint64(40) {
			o := order(block, uint8(block%15))
			nonce, err := n.Mine(context.Background(), o)
			if err != nil || !chain.Mined(chain.BlockHash(o.Inner, nonce), o.Difficulty) {
				t.Errorf("block %d: nonce %d, %v", block, nonce, err)
			}
			if n.Mining() {
				t.Error("still mining")
			}
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestStart checks that one thread finds the first nonce from Start on, also across the end of the nonce space.
func TestStart(t *testing.T) {
	n := minernode.New(minernode.Config{Threads: 1})
	defer func() { _ = n.Close() }()
	for _, start := range []uint64{0, 5_000_000, 1<<64 - 100} {
		o := order(1, 13)
		o.Start = start
		want, found := chain.Solve(o.Inner, o.Difficulty, start, 1<<20)
		if got, err := n.Mine(context.Background(), o); !found || err != nil || got != want {
			t.Errorf("from %d: %d, %v, want %d", start, got, err, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	n := minernode.New(minernode.Config{Threads: 1})
	if _, err := n.Mine(context.Background(), order(1, chain.MaxDifficulty+1)); !errors.Is(err,
		minernode.ErrDifficulty) {
		t.Errorf("too difficult: %v", err)
	}
	cause := errors.New("gone")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	if _, err := n.Mine(ctx, order(1, 1)); !errors.Is(err, cause) {
		t.Errorf("a caller whose context has ended: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if _, err := n.Mine(context.Background(), order(1, 1)); !errors.Is(err, minernode.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// mining starts a call and returns a channel with its outcome.
func mining(ctx context.Context, n *minernode.Node, o wire.MineOrder) <-chan error {
	out := make(chan error, 1)
	go func() {
		nonce, err := n.Mine(ctx, o)
		if err == nil && !chain.Mined(chain.BlockHash(o.Inner, nonce), o.Difficulty) {
			err = fmt.Errorf("nonce %d does not mine it", nonce)
		}
		out <- err
	}()
	return out
}

// until waits for a condition of the miner that another goroutine causes.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for !holds() {
		select {
		case <-t.Context().Done():
			t.Fatal(what)
		default:
			runtime.Gosched()
		}
	}
}

func TestSuperseded(t *testing.T) {
	n := minernode.New(minernode.Config{Threads: 2})
	defer func() { _ = n.Close() }()
	first := mining(context.Background(), n, order(1, endless))
	until(t, "not mining", n.Mining)
	if nonce, err := n.Mine(context.Background(), order(2, 4)); err != nil || nonce < 2<<40 {
		t.Errorf("the new order: %d, %v", nonce, err)
	}
	if err := <-first; !errors.Is(err, minernode.ErrSuperseded) {
		t.Errorf("the old order: %v", err)
	}
	// The same header with another difficulty is another job.
	first = mining(context.Background(), n, order(3, endless))
	until(t, "not mining", n.Mining)
	if _, err := n.Mine(context.Background(), order(3, 4)); err != nil {
		t.Error(err)
	}
	if err := <-first; !errors.Is(err, minernode.ErrSuperseded) {
		t.Errorf("the more difficult order: %v", err)
	}
}

// TestCallersLeave checks that a job runs as long as one caller waits, and ends with the last.
func TestCallersLeave(t *testing.T) {
	n := minernode.New(minernode.Config{Threads: 2})
	defer func() { _ = n.Close() }()
	const callers = 3
	var cancels []context.CancelFunc
	var calls []<-chan error
	for range callers {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		cancels = append(cancels, cancel)
		calls = append(calls, mining(ctx, n, order(1, endless)))
	}
	until(t, "not all joined", func() bool { return n.Callers() == callers })
	for i, cancel := range cancels {
		if !n.Mining() {
			t.Errorf("stopped after %d of %d callers left", i, callers)
		}
		cancel()
		if err := <-calls[i]; !errors.Is(err, context.Canceled) {
			t.Errorf("caller %d: %v", i, err)
		}
	}
	if n.Mining() {
		t.Error("a job runs without a caller")
	}
}

// TestJoinedFinishTogether checks that all callers of a job get its nonce.
func TestJoinedFinishTogether(t *testing.T) {
	n := minernode.New(minernode.Config{Threads: 2})
	defer func() { _ = n.Close() }()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for block := range uint64(5) {
				_, err := n.Mine(context.Background(), order(7, 12))
				if err != nil {
					t.Errorf("round %d: %v", block, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestCloseWaits checks that all callers have a result and no thread is left when Close returns. synctest fails if a
// goroutine is left.
func TestCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := minernode.New(minernode.Config{Threads: 3})
		call := mining(context.Background(), n, order(1, endless))
		until(t, "not mining", n.Mining)
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if err := <-call; !errors.Is(err, minernode.ErrClosed) {
			t.Errorf("the running call: %v", err)
		}
		if n.Mining() {
			t.Error("mining after Close")
		}
	})
}

// BenchmarkMine measures the tries per second of one thread in a job. BenchmarkSHA256 only hashes 40 bytes.
func BenchmarkMine(b *testing.B) {
	n := minernode.New(minernode.Config{Threads: 1})
	defer func() { _ = n.Close() }()
	tries := 0.0
	for i := uint64(0); b.Loop(); i++ {
		o := order(i, 18)
		nonce, err := n.Mine(context.Background(), o)
		if err != nil {
			b.Fatal(err)
		}
		tries += float64(nonce - o.Start + 1)
	}
	b.ReportMetric(tries/b.Elapsed().Seconds(), "tries/s")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkSHA256(b *testing.B) {
	var buf [40]byte
	for b.Loop() {
		sum := sha256.Sum256(buf[:])
		buf[39] ^= sum[0]
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tries/s")
	b.ReportMetric(0, "ns/op")
}
