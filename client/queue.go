package client

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/chainstore/chainstore/wire"
)

// entryWeight is the least that an entry counts for in the bytes of a queue: its position takes that much.
const entryWeight = 64

// queue has the entries that were added and are not answered, in groups. A group takes entries until a sender takes the
// group. So groups are small without load and grow with it, without a timer.
type queue struct {
	room     *semaphore.Weighted // bytes of the entries without an answer
	maxBytes int                 // of one entry

	mu           sync.Mutex // guards all below
	wake         sync.Cond  // a group was queued, the queue was closed, or a body of an append stream may continue
	groupRecords int        // bounds of a group
	groupBytes   int
	waiting      []*group // not yet taken by a sender, oldest first; the last takes further entries
	live         map[*group]struct{}
	hint         int // how many bytes the last group had
	closed       bool
	failed       error // the error that ended it
	first        error // the first error of any entry
}

func newQueue(maxBuffered, maxBytes, groupRecords, groupBytes int) *queue {
	q := &queue{
		room: semaphore.NewWeighted(int64(maxBuffered)), maxBytes: maxBytes, groupRecords: groupRecords,
		groupBytes: groupBytes, live: make(map[*group]struct{}),
	}
	q.wake.L = &q.mu
	return q
}

// group is a number of entries that are sent together. The queue's lock guards it while it waits there. Then its sender
// owns it until answered is closed, and after that it never changes. An append stream holds the lock then too, because
// transports read the frames in goroutines of their own.
type group struct {
	frames []byte
	ends   []int // where each frame ends in frames
	weight int64

	number uint64 // of the first entry in its append stream
	done   int    // entries with a position from the stream, from the first on

	answered  chan struct{}
	positions []wire.Position // of each entry; nil for a group that was not sent
	errs      []error         // of each entry; nil if all are good
	err       error           // that ended the sender
}

// frame returns the frames of the entries from i to before j.
func (g *group) frame(i, j int) []byte {
	start := 0
	if i > 0 {
		start = g.ends[i-1]
	}
	return g.frames[start:g.ends[j-1]]
}

// fail sets the error of an entry.
func (g *group) fail(i int, err error) {
	if g.errs == nil {
		g.errs = make([]error, len(g.ends))
	}
	g.errs[i] = err
}

// failFrom sets the error of an entry and of those after it.
func (g *group) failFrom(i int, err error) {
	for ; i < len(g.ends); i++ {
		g.fail(i, err)
	}
}

// Future is the answer to an entry, once it is there.
type Future struct {
	group *group
	index int
}

// Done is closed when the answer is there.
func (f Future) Done() <-chan struct{} { return f.group.answered }

// Wait waits for the answer: the record's position, or an error as [Client.AppendBatch] gives it. It may be called
// again.
func (f Future) Wait(ctx context.Context) (wire.Position, error) {
	select {
	case <-f.group.answered:
	case <-ctx.Done():
		return wire.Position{}, ctx.Err()
	}
	return f.group.result(f.index)
}

// result returns the answer to an entry of an answered group.
func (g *group) result(i int) (wire.Position, error) {
	switch {
	case g.positions == nil: // it was not sent
		return wire.Position{}, g.err
	case g.errs != nil && g.errs[i] != nil:
		return wire.Position{}, g.errs[i]
	}
	return g.positions[i], nil
}

// add adds an entry, and waits while there is no room.
func (q *queue) add(ctx context.Context, e *Entry) (Future, error) {
	if err := e.check(); err != nil {
		return Future{}, err
	}
	if e.IdempotencyKey != "" {
		return Future{}, fmt.Errorf("%w: an entry of a batch or stream has no idempotency key of its own",
			wire.ErrBadRequest)
	}
	size := e.frameSize()
	if size > q.maxBytes {
		return Future{}, fmt.Errorf("%w: a record of %d bytes in a batch or stream, the limit is %d: use Append",
			wire.ErrTooLarge, size, q.maxBytes)
	}
	weight := int64(max(size, entryWeight))
	if err := q.room.Acquire(ctx, weight); err != nil {
		return Future{}, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	err := q.failed
	if err == nil && q.closed {
		err = ErrClosed
	}
	if err != nil {
		q.room.Release(weight)
		return Future{}, err
	}
	g := q.open(size)
	g.frames = wire.AppendFrame(g.frames, e.Key, e.Type, e.Payload)
	g.ends = append(g.ends, len(g.frames))
	g.weight += weight
	return Future{group: g, index: len(g.ends) - 1}, nil
}

// open is the group that takes the next frame. The lock is held.
func (q *queue) open(size int) *group {
	if n := len(q.waiting); n > 0 {
		g := q.waiting[n-1]
		if len(g.ends) < q.groupRecords && len(g.frames)+size <= q.groupBytes {
			return g
		}
	}
	g := &group{answered: make(chan struct{}), frames: make([]byte, 0, max(size, q.hint))}
	q.waiting = append(q.waiting, g)
	q.live[g] = struct{}{}
	q.wake.Signal()
	return g
}

// flush waits until every entry that was added before it is answered. It returns the first error of any entry.
func (q *queue) flush(ctx context.Context) error {
	q.mu.Lock()
	waiting := slices.Collect(maps.Keys(q.live))
	q.mu.Unlock()
	for _, g := range waiting {
		select {
		case <-g.answered:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return q.firstError()
}

func (q *queue) firstError() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.first
}

// bound sets the bounds of the groups that begin from now on.
func (q *queue) bound(groupRecords, groupBytes int) {
	q.mu.Lock()
	q.groupRecords, q.groupBytes = groupRecords, groupBytes
	q.mu.Unlock()
}

// await waits for an entry. It returns false if the queue is closed and has none.
func (q *queue) await() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) == 0 && !q.closed {
		q.wake.Wait()
	}
	return len(q.waiting) > 0
}

// stop answers all entries with the error that ends the queue, until it is closed and none is left.
func (q *queue) stop(err error) {
	q.mu.Lock()
	q.failed = err
	q.mu.Unlock()
	q.refuse()
}

// close makes the senders end when no entry is left.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.wake.Broadcast()
	q.mu.Unlock()
}

// next waits for a group to send, nil at the end. The error is the one that has ended the queue.
func (q *queue) next() (*group, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) == 0 && !q.closed {
		q.wake.Wait()
	}
	if len(q.waiting) == 0 {
		return nil, nil
	}
	return q.pop(), q.failed
}

// pop takes the oldest group. The lock is held.
func (q *queue) pop() *group {
	g := q.waiting[0]
	q.waiting = q.waiting[1:]
	q.hint = len(g.frames)
	return g
}

// answer publishes a group's results and makes room for what it took.
func (q *queue) answer(g *group) {
	q.mu.Lock()
	delete(q.live, g)
	if q.failed == nil {
		q.failed = g.err
	}
	q.first = cmp.Or(q.first, cmp.Or(g.errs...), g.err)
	g.frames, g.ends = nil, nil
	q.mu.Unlock()
	close(g.answered)
	q.room.Release(g.weight)
}

// refuse answers all groups with the error that has ended the queue, until it is closed and none is left.
func (q *queue) refuse() {
	for {
		g, err := q.next()
		if g == nil {
			return
		}
		g.err = err
		q.answer(g)
	}
}
