package worker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/wire"
)

// Fence keeps the highest order that a worker has seen on disk, and refuses lower orders.
//
// The file "fence", big endian: magic "CSFN" ‖ version u8 = 1 ‖ epoch u64 ‖ term u64 ‖ CRC-32C of everything before it.
//
// After a recovery raised the fence, the highest order is not that of a leader. Then the file "led" has the epoch of
// the newest leader: magic "CSFL" ‖ version u8 = 1 ‖ raised u64 ‖ led u64 ‖ CRC-32C of everything before it. It is
// valid only if raised is the epoch of the fence: a version that does not know the file may have raised the fence
// since.
type Fence struct {
	path, ledPath string

	// acting is held for reading while an order is carried out, and for writing while a newer one passes. It is taken
	// before mu.
	acting sync.RWMutex

	mu      sync.Mutex // guards all below
	highest wire.Order
	claim   string        // name of the recovery that raised highest, "" if a leader did
	led     *uint64       // epoch of the newest leader that passed, nil if unknown
	changed chan struct{} // closed when highest moves
	running map[*acting]struct{}
	waiting map[*wire.Order]struct{} // orders that wait for older ones to end
}

// acting is an order that is carried out.
type acting struct {
	order  wire.Order
	cancel context.CancelCauseFunc
}

var (
	fenceFormat = durable.Format{
		Magic: "CSFN", Version: 1, Remedy: "remove it when no old leader of the cluster can be running any more",
	}
	ledFormat = durable.Format{Magic: "CSFL", Version: 1}
)

func fencePath(dir string) string { return filepath.Join(dir, "fence") }

// OpenFence reads the fence of a data folder, and writes it again: what is read may not be on the disk, if the last
// process was killed or failed while it wrote. A missing fence is at zero.
func OpenFence(dir string) (*Fence, error) {
	f := &Fence{
		path: fencePath(dir), ledPath: filepath.Join(dir, "led"), changed: make(chan struct{}),
		running: map[*acting]struct{}{}, waiting: map[*wire.Order]struct{}{},
	}
	epoch, term, err := readPair(fenceFormat, f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f, nil
	case err != nil:
		return nil, err
	}
	f.highest = wire.Order{Epoch: epoch, Term: term}
	if term > 0 {
		f.led = &epoch
	} else if err := f.readLed(); err != nil {
		return nil, err
	}
	if err := writePair(fenceFormat, f.path, epoch, term); err != nil {
		return nil, err
	}
	return f, nil
}

// readLed reads the file "led", and writes it again if it belongs to the fence.
func (f *Fence) readLed() error {
	raised, led, err := readPair(ledFormat, f.ledPath)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, durable.ErrDamaged):
		return nil // a recovery asks the operator then
	case err != nil:
		return err
	case raised != f.highest.Epoch:
		return nil
	}
	f.led = &led
	return writePair(ledFormat, f.ledPath, raised, led)
}

// readPair reads a file whose body is two numbers. Errors are those of [durable.Format.Read].
func readPair(format durable.Format, path string) (first, second uint64, err error) {
	err = format.Read(path, func(b *durable.Fields) { first, second = b.Uint64(), b.Uint64() })
	return first, second, err
}

// writePair writes a file whose body is two numbers.
func writePair(format durable.Format, path string, first, second uint64) error {
	return format.Write(path, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, first), second))
}

// Pass accepts an order of the newest leader. A newer one is on disk before Pass returns, and what [Fence.Do] carries
// out of older ones has been canceled and has ended. It refuses an older order with [wire.ErrFenced] and a
// [*wire.FencedError]. If the fence cannot be written because the disk is full or no file descriptor is free, no order
// passes, the error wraps [durable.ErrExhausted], and the leader may try again. Any other error means that the disk
// failed: the role must stop.
func (f *Fence) Pass(o wire.Order) error {
	if newer, err := f.compare(o); !newer {
		return err
	}
	defer f.supersede(o)()
	f.acting.Lock()
	defer f.acting.Unlock()
	if newer, err := f.compare(o); !newer { // another order may have passed meanwhile
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.advance(o, "")
}

// compare reports whether an order is newer than all that passed. The error is that of an older one.
func (f *Fence) compare(o wire.Order) (newer bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.Less(f.highest) {
		return false, f.refuse(o)
	}
	return o != f.highest, nil
}

// Do calls act if an order passes, and lets no newer order pass until act has returned. So what a deposed leader
// ordered ends before the node answers the next leader. Its context ends when a newer order waits: act must then return
// soon, with no effect or a whole one. Do returns [wire.ErrFenced] in that case, whatever act returns, so that nothing
// is reported to the deposed leader. Other errors are those of [Fence.Pass] and of act.
func (f *Fence) Do(ctx context.Context, o wire.Order, act func(context.Context) error) error {
	if err := f.Pass(o); err != nil {
		return err
	}
	ctx, end := f.begin(ctx, o)
	defer end()
	f.acting.RLock()
	defer f.acting.RUnlock()
	if _, err := f.compare(o); err != nil {
		return err
	}
	err := act(ctx)
	if cause := context.Cause(ctx); errors.Is(cause, wire.ErrFenced) {
		return cause
	}
	return err
}

// begin enters an order that is to be carried out. Its context ends when a newer order waits. end must be called
// when it has been carried out.
func (f *Fence) begin(ctx context.Context, o wire.Order) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	a := &acting{order: o, cancel: cancel}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running[a] = struct{}{}
	for newer := range f.waiting {
		a.yield(*newer)
	}
	return ctx, func() {
		f.mu.Lock()
		delete(f.running, a)
		f.mu.Unlock()
		cancel(nil)
	}
}

// supersede cancels the older orders that are carried out, and those that begin before done is called.
func (f *Fence) supersede(o wire.Order) (done func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting[&o] = struct{}{}
	for a := range f.running {
		a.yield(o)
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.waiting, &o)
	}
}

// yield cancels an order if the other one is newer.
func (a *acting) yield(newer wire.Order) {
	if a.order.Less(newer) {
		a.cancel(fencedBy(a.order, newer))
	}
}

// Raise makes the fence refuse the leaders of all epochs below epoch, for the recovery named claim, and calls then
// while no order can pass. Nothing is changed if may returns an error, which is returned. It may be called twice, the
// second time while no order can pass. The same recovery may raise the fence to the same epoch again, until the worker
// is restarted. Another recovery is refused with [wire.ErrFenced] if the fence is at that epoch or above. Other errors
// are those of [Fence.Pass] and of then.
func (f *Fence) Raise(epoch uint64, claim string, may, then func() error) error {
	o := wire.Order{Epoch: epoch}
	if _, err := f.mayRaise(o, claim, may); err != nil { // it must not cancel orders then
		return err
	}
	defer f.supersede(o)()
	f.acting.Lock()
	defer f.acting.Unlock()
	again, err := f.mayRaise(o, claim, may)
	if err != nil {
		return err
	}
	if !again {
		f.mu.Lock()
		err = f.advance(o, claim)
		f.mu.Unlock()
	}
	if err != nil {
		return err
	}
	return then()
}

// mayRaise returns why a recovery may not raise the fence, and whether it already has.
func (f *Fence) mayRaise(o wire.Order, claim string, may func() error) (again bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	again = o == f.highest && claim == f.claim
	if claim == "" || o.Epoch <= f.highest.Epoch && !again {
		return false, f.refuse(o)
	}
	return again, may()
}

// refuse returns the error for an order that is too low; mu is held.
func (f *Fence) refuse(o wire.Order) error { return fencedBy(o, f.highest) }

// fencedBy returns the error for an order that is lower than another one.
func fencedBy(o, newest wire.Order) error {
	return &wire.FencedError{Highest: newest,
		Err: fmt.Errorf("%w: it is of a deposed leader, epoch %d, term %d; this node has seen epoch %d, term %d",
			wire.ErrFenced, o.Epoch, o.Term, newest.Epoch, newest.Term)}
}

// advance moves the fence up, on disk first; acting and mu are held.
func (f *Fence) advance(o wire.Order, claim string) error {
	led := f.led
	if claim == "" {
		led = &o.Epoch
	}
	if o.Term == 0 { // first, because the fence then no longer names the epoch that led
		if err := f.keepLed(o.Epoch, led); err != nil {
			return lacking(err)
		}
	}
	if err := writePair(fenceFormat, f.path, o.Epoch, o.Term); err != nil {
		return lacking(err)
	}
	f.highest, f.claim, f.led = o, claim, led
	close(f.changed)
	f.changed = make(chan struct{})
	return nil
}

// lacking makes the error of a write that lacked a resource one of the table of problems.
func lacking(err error) error {
	switch {
	case !durable.CanRetry(err):
		return err
	case durable.NoSpace(err):
		return fmt.Errorf("%w: %w", wire.ErrNoSpace, err)
	}
	return fmt.Errorf("%w: %w", wire.ErrUnavailable, err)
}

// CanRetry reports whether an error of a [Fence] only says that a resource was missing: the role goes on.
func CanRetry(err error) bool { return durable.CanRetry(err) }

// keepLed writes the epoch of the newest leader before the fence is raised. If that is unknown, it removes the file:
// the fence may have been removed by hand, and raised to the same epoch before.
func (f *Fence) keepLed(raised uint64, led *uint64) error {
	if led != nil {
		return writePair(ledFormat, f.ledPath, raised, *led)
	}
	err := os.Remove(f.ledPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(f.ledPath))
	}
	return err
}

// Highest returns the newest order that passed, and a channel that is closed when a newer one passes.
func (f *Fence) Highest() (wire.Order, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.highest, f.changed
}

// LedEpoch returns the epoch of the newest leader whose order passed, nil if it is unknown: none has passed yet, or a
// version that does not write the file "led" was started after a recovery had raised the fence.
func (f *Fence) LedEpoch() *uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.led
}
