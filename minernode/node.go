package minernode

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// Errors of this package.
var (
	// ErrSuperseded: another header was asked for while this one was mined.
	ErrSuperseded = wire.ErrFenced.Variant("another block is mined instead")
	// ErrDifficulty: the order asks for more than chain.MaxDifficulty.
	ErrDifficulty = wire.ErrBadRequest.Variant("difficulty not acceptable")
	// ErrClosed: the miner stopped.
	ErrClosed = wire.ErrUnavailable.Variant("miner stopped")
)

// Config of a miner.
type Config struct {
	Threads int // number of threads that search; 0 for the number of cores
	Logger  hclog.Logger
}

// Node is a miner. Its methods may be called from any goroutine.
type Node struct {
	cfg Config

	mu     sync.Mutex // guards all below
	job    *job       // nil where nothing is mined
	closed bool
	wg     sync.WaitGroup // the threads of all jobs; only added to with mu held and closed false
}

// New returns a miner. Close ends it.
func New(cfg Config) *Node {
	if cfg.Threads <= 0 {
		cfg.Threads = runtime.GOMAXPROCS(0)
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	return &Node{cfg: cfg}
}

// Mining reports whether a job runs.
func (n *Node) Mining() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.job != nil
}

// Mine searches for a nonce that mines the ordered block, from order.Start on, until it is found or ctx ends. An
// order for the header that is being mined joins that job, whatever its Start.
//
// Errors: ErrSuperseded, ErrDifficulty, ErrClosed, and the cause of ctx.
func (n *Node) Mine(ctx context.Context, order wire.MineOrder) (nonce uint64, err error) {
	if order.Difficulty > chain.MaxDifficulty {
		return 0, fmt.Errorf("%w: %d leading zero bits, the limit is %d",
			ErrDifficulty, order.Difficulty, chain.MaxDifficulty)
	}
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	j, err := n.join(order)
	if err != nil {
		return 0, err
	}
	defer n.leave(j)
	select {
	case <-j.done:
		//mutant:found-nonce
		return j.nonce, j.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// join returns the running job for an order, or starts one.
func (n *Node) join(order wire.MineOrder) (*job, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, ErrClosed
	}
	if n.job != nil && n.job.inner == order.Inner && n.job.difficulty == order.Difficulty {
		n.job.callers++
		return n.job, nil
	}
	if n.job != nil {
		n.end(n.job, 0, fmt.Errorf("%w: block %d instead of block %d", ErrSuperseded, order.Block, n.job.block))
	}
	j := &job{
		block: order.Block, inner: order.Inner, difficulty: order.Difficulty, callers: 1, done: make(chan struct{}),
	}
	n.job = j
	n.cfg.Logger.Debug("mining",
		"block", j.block, "difficulty", j.difficulty, "start", order.Start, "threads", n.cfg.Threads)
	for i := range n.cfg.Threads {
		n.wg.Go(func() { n.search(j, order.Start+uint64(i)*sliceTries) })
	}
	return j, nil
}

// leave removes a caller from a job, and ends the job with the last one.
func (n *Node) leave(j *job) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if j.callers--; j.callers == 0 {
		n.end(j, 0, context.Canceled)
	}
}

// end ends a job, unless it has ended before; mu is held.
func (n *Node) end(j *job, nonce uint64, err error) {
	if j.ended {
		return
	}
	j.ended, j.nonce, j.err = true, nonce, err
	close(j.done)
	if n.job == j {
		n.job = nil
	}
}

// Close ends the running job and waits for its threads.
func (n *Node) Close() error {
	n.mu.Lock()
	n.closed = true
	if n.job != nil {
		n.end(n.job, 0, ErrClosed)
	}
	n.mu.Unlock()
	n.wg.Wait()
	return nil
}
