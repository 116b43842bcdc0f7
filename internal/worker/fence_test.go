package worker_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/wire"
)

func openFence(t *testing.T, dir string) *worker.Fence {
	t.Helper()
	f, err := worker.OpenFence(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFence(t *testing.T) {
	dir := t.TempDir()
	f := openFence(t, dir)
	order := func(epoch, term uint64) wire.Order { return wire.Order{Epoch: epoch, Term: term} }
	if highest, _ := f.Highest(); highest != order(0, 0) {
		t.Errorf("a new fence is at %v", highest)
	}
	highest := order(0, 0)
	for _, c := range []struct {
		order wire.Order
		pass  bool
	}{
		{order(0, 0), true},
		{order(1, 5), true},
		{order(1, 5), true}, // the same leader again
		{order(1, 4), false},
		{order(0, 9), false},
		{order(1, 6), true},
		{order(2, 1), true}, // a higher epoch takes precedence over a term
		{order(1, 100), false},
		{order(2, 0), false},
		{order(2, math.MaxUint64), true},
		{order(math.MaxUint64, 0), true},
	} {
		_, changed := f.Highest()
		err := f.Pass(c.order)
		if c.pass != (err == nil) || err != nil && !errors.Is(err, wire.ErrFenced) {
			t.Errorf("order %v at %v: %v", c.order, highest, err)
		}
		moved := false
		select {
		case <-changed:
			moved = true
		default:
		}
		if want := c.pass && c.order != highest; moved != want {
			t.Errorf("order %v at %v: the channel is closed: %v", c.order, highest, moved)
		}
		if c.pass {
			highest = c.order
		}
		// Accepted orders are on disk: after a restart the worker refuses the same orders.
		for _, fence := range []*worker.Fence{f, openFence(t, dir)} {
			if got, _ := fence.Highest(); got != highest {
				t.Errorf("the fence is at %v, want %v", got, highest)
			}
		}
	}
}

func TestFenceThatCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f := openFence(t, dir)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	err := f.Pass(wire.Order{Epoch: 1, Term: 1})
	if err == nil || errors.Is(err, wire.ErrFenced) {
		t.Errorf("a failed write: %v", err)
	}
	if highest, _ := f.Highest(); highest != (wire.Order{}) {
		t.Errorf("moved to %v although it is not on disk", highest)
	}
}

func TestFenceThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	if err := openFence(t, dir).Pass(wire.Order{Epoch: 1, Term: 7}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "fence")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := map[string][]byte{"empty": {}, "byte behind": append(bytes.Clone(good), 0)}
	for n := range good {
		bad["cut"] = good[:n]
		flipped := bytes.Clone(good)
		flipped[n] ^= 0x80
		bad["flipped"] = flipped
		for name, data := range bad {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if f, err := worker.OpenFence(dir); err == nil || f != nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%s at %d: %v", name, n, err)
			}
		}
	}
	newer := bytes.Clone(good)
	newer[4] = 2
	if err := os.WriteFile(path, append(newer, "more"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := worker.OpenFence(dir); !errors.Is(err, durable.ErrNewerFormat) {
		t.Errorf("newer version: %v", err)
	}
}

// TestFenceUnderConcurrentOrders checks that after concurrent orders the highest is on disk, and that no order passed
// after a higher one.
func TestFenceUnderConcurrentOrders(t *testing.T) {
	dir := t.TempDir()
	f := openFence(t, dir)
	var orders sync.WaitGroup
	for n := range 8 {
		orders.Go(func() {
			for term := range uint64(10) {
				o := wire.Order{Epoch: 1, Term: 10*uint64(n%4) + term}
				before, _ := f.Highest()
				if err := f.Pass(o); err == nil && o.Less(before) {
					t.Errorf("%v passed after %v", o, before)
				}
			}
		})
	}
	orders.Wait()
	if highest, _ := openFence(t, dir).Highest(); highest != (wire.Order{Epoch: 1, Term: 39}) {
		t.Errorf("on disk is %v", highest)
	}
}

// TestFenceRaise checks that a recovery raises the fence when it may, that no other recovery gets the same epoch, and
// that the raised fence is on disk.
func TestFenceRaise(t *testing.T) {
	dir := t.TempDir()
	f := openFence(t, dir)
	if err := f.Pass(wire.Order{Epoch: 1, Term: 7}); err != nil {
		t.Fatal(err)
	}
	yes, no := func() error { return nil }, errors.New("a leader is there")
	for _, c := range []struct {
		name  string
		epoch uint64
		claim string
		may   error
		want  error
	}{
		{"not now", 2, "a", no, no},
		{"the epoch of the leader", 1, "a", nil, wire.ErrFenced},
		{"now", 2, "a", nil, nil},
		{"again", 2, "a", nil, nil},
		{"again, and a leader is there", 2, "a", no, no},
		{"another recovery", 2, "b", nil, wire.ErrFenced},
		{"without a name", 2, "", nil, wire.ErrFenced},
		{"above", 4, "b", nil, nil},
		{"below", 3, "c", nil, wire.ErrFenced},
	} {
		err := f.Raise(c.epoch, c.claim, func() error { return c.may }, yes)
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	err := f.Pass(wire.Order{Epoch: 1, Term: 100})
	var fenced *wire.FencedError
	if !errors.As(err, &fenced) || fenced.Highest != (wire.Order{Epoch: 4}) {
		t.Errorf("an order of a lower epoch: %v", err)
	}
	again := openFence(t, dir)
	if highest, _ := again.Highest(); highest != (wire.Order{Epoch: 4}) {
		t.Errorf("on disk is %v", highest)
	}
	for _, fence := range []*worker.Fence{f, again} {
		if led := fence.LedEpoch(); led == nil || *led != 1 {
			t.Errorf("the newest leader was of epoch %v", led)
		}
	}
	if err := again.Raise(4, "b", yes, yes); !errors.Is(err, wire.ErrFenced) {
		t.Errorf("after a restart it is not known which recovery raised it: %v", err)
	}
	if err := again.Pass(wire.Order{Epoch: 4, Term: 1}); err != nil {
		t.Errorf("the new epoch's leader: %v", err)
	}
	for _, fence := range []*worker.Fence{again, openFence(t, dir)} {
		if led := fence.LedEpoch(); led == nil || *led != 4 {
			t.Errorf("the new epoch's leader is of %v", led)
		}
	}
	if err := again.Raise(4, "b", yes, yes); !errors.Is(err, wire.ErrFenced) {
		t.Errorf("behind the new epoch's leader: %v", err)
	}
}

// TestFenceKeepsTheLedEpoch checks that the epoch of the newest leader is stored beside the fence. It is unknown if
// that file is missing or damaged, or if a version that does not know the file has changed the fence since. An older
// epoch must never be reported.
func TestFenceKeepsTheLedEpoch(t *testing.T) {
	yes := func() error { return nil }
	dir := t.TempDir()
	f := openFence(t, dir)
	if led := f.LedEpoch(); led != nil {
		t.Errorf("a new fence was led in epoch %d", *led)
	}
	if err := errors.Join(f.Pass(wire.Order{Epoch: 1, Term: 7}), f.Raise(2, "a", yes, yes)); err != nil {
		t.Fatal(err)
	}
	fence, led := filepath.Join(dir, "fence"), filepath.Join(dir, "led")
	write := func(path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good, err := os.ReadFile(led)
	if err != nil {
		t.Fatal(err)
	}
	if want := "4353464c01" + "0000000000000002" + "0000000000000001" + "d19dd119"; hex.EncodeToString(good) != want {
		t.Errorf("the file is %x, want %s", good, want)
	}
	for n := range good {
		flipped := bytes.Clone(good)
		flipped[n] ^= 0x80
		for _, data := range [][]byte{good[:n], flipped} {
			write(led, data)
			if again, err := worker.OpenFence(dir); n != 4 && (err != nil || again.LedEpoch() != nil) {
				t.Errorf("byte %d: %v", n, err)
			}
		}
	}
	newer := bytes.Clone(good)
	newer[4] = 2
	write(led, newer)
	if _, err := worker.OpenFence(dir); !errors.Is(err, durable.ErrNewerFormat) {
		t.Errorf("newer version: %v", err)
	}
	write(led, good)
	if again := openFence(t, dir).LedEpoch(); again == nil || *again != 1 {
		t.Errorf("the newest leader was of epoch %v", again)
	}
	// An order of epoch 2 passed in an older version, and a recovery raised the fence to 3.
	other := t.TempDir()
	if err := openFence(t, other).Raise(3, "b", yes, yes); err != nil {
		t.Fatal(err)
	}
	raised, err := os.ReadFile(filepath.Join(other, "fence"))
	if err != nil {
		t.Fatal(err)
	}
	write(fence, raised)
	if again := openFence(t, dir).LedEpoch(); again != nil {
		t.Errorf("the fence was moved, and the newest leader is said to be of epoch %d", *again)
	}
	f = openFence(t, dir)
	if err := errors.Join(f.Pass(wire.Order{Epoch: 3, Term: 9}), f.Raise(4, "c", yes, yes)); err != nil {
		t.Fatal(err)
	}
	if again := openFence(t, dir).LedEpoch(); again == nil || *again != 3 {
		t.Errorf("the newest leader was of epoch %v", again)
	}
	// A leader of epoch 4 led, an operator removed the fence, and a recovery raised it to 4 again.
	if err := f.Pass(wire.Order{Epoch: 4, Term: 1}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(fence); err != nil {
		t.Fatal(err)
	}
	if err := openFence(t, dir).Raise(4, "d", yes, yes); err != nil {
		t.Fatal(err)
	}
	if again := openFence(t, dir).LedEpoch(); again != nil {
		t.Errorf("the fence was removed, and the newest leader is said to be of epoch %d", *again)
	}
}

// TestFenceWithoutDescriptors checks that a newer order does not pass while no file descriptor is free to write the
// fence, that the order before still passes, and that the newer one passes afterwards.
func TestFenceWithoutDescriptors(t *testing.T) {
	f := openFence(t, t.TempDir())
	if err := f.Pass(wire.Order{Epoch: 1, Term: 7}); err != nil {
		t.Fatal(err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	err := f.Pass(wire.Order{Epoch: 1, Term: 8})
	old := f.Pass(wire.Order{Epoch: 1, Term: 7})
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, durable.ErrExhausted) || !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("a newer order: %v", err)
	}
	if old != nil {
		t.Errorf("the order that passed before: %v", old)
	}
	if err := f.Pass(wire.Order{Epoch: 1, Term: 8}); err != nil {
		t.Error(err)
	}
}

// TestFenceIsWrittenAgain checks that a start writes the fence again. What it reads may be in the page cache only, if
// the last process was killed, or failed, while it wrote; after a power cut an older leader could pass then.
func TestFenceIsWrittenAgain(t *testing.T) {
	dir := t.TempDir()
	f := openFence(t, dir)
	yes := func() error { return nil }
	if err := errors.Join(f.Pass(wire.Order{Epoch: 1, Term: 7}), f.Raise(2, "a", yes, yes)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fence", "led"} {
		path := filepath.Join(dir, name)
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		old, err := os.Open(path) // so that its inode is not used again
		if err != nil {
			t.Fatal(err)
		}
		again := openFence(t, dir)
		after, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		now, err := os.ReadFile(path)
		if err != nil || os.SameFile(before, after) || !bytes.Equal(now, content) {
			t.Errorf("%s: the same file: %v, %x, was %x, %v", name, os.SameFile(before, after), now, content, err)
		}
		if led := again.LedEpoch(); led == nil || *led != 1 {
			t.Errorf("the newest leader was of epoch %v", led)
		}
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFenceWaitsForOrders checks that no newer order passes while an older one is carried out, and that an older one is
// TestFenceWaitsForOrders checks that a newer order, or a recovery, cancels what an older order does, passes only when
// that has ended, and that nothing is reported to the older leader. An order that waits must not cancel its equals.
func TestFenceWaitsForOrders(t *testing.T) {
	nothing := func(context.Context) error { return nil }
	yes := func() error { return nil }
	for name, newer := range map[string]func(*worker.Fence) error{
		"a newer order": func(f *worker.Fence) error { return f.Pass(wire.Order{Epoch: 1, Term: 2}) },
		"a newer order that is carried out": func(f *worker.Fence) error {
			return f.Do(context.Background(), wire.Order{Epoch: 1, Term: 2}, nothing)
		},
		"a recovery": func(f *worker.Fence) error { return f.Raise(2, "claim", yes, yes) },
	} {
		for _, result := range []error{nil, errors.New("half done")} {
			t.Run(name, func(t *testing.T) {
				f := openFence(t, t.TempDir())
				old := wire.Order{Epoch: 1, Term: 1}
				passed := make(chan error, 1)
				var ended atomic.Bool
				err := f.Do(t.Context(), old, func(ctx context.Context) error {
					if err := f.Do(ctx, old, nothing); err != nil || ctx.Err() != nil {
						t.Errorf("another order of the same leader: %v, %v", err, context.Cause(ctx))
					}
					go func() {
						err := newer(f)
						if !ended.Load() {
							t.Error("it passed before the older order had ended")
						}
						passed <- err
					}()
					select {
					case <-ctx.Done():
					case <-time.After(10 * time.Second):
						t.Error("it waits, and does not cancel the older order")
					}
					ended.Store(true)
					return result
				})
				if !errors.Is(err, wire.ErrFenced) {
					t.Errorf("the older leader gets %v", err)
				}
				if err := <-passed; err != nil {
					t.Error(err)
				}
				err = f.Do(t.Context(), old, func(context.Context) error { return errors.New("carried out") })
				if !errors.Is(err, wire.ErrFenced) {
					t.Errorf("the older order again: %v", err)
				}
			})
		}
	}
}

// TestRefusedRecoveryCancelsNothing checks that a recovery that is refused leaves the order of a leader alone.
func TestRefusedRecoveryCancelsNothing(t *testing.T) {
	f := openFence(t, t.TempDir())
	err := f.Do(t.Context(), wire.Order{Epoch: 1, Term: 1}, func(ctx context.Context) error {
		no := errors.New("a leader is there")
		if err := f.Raise(2, "claim", func() error { return no }, nil); !errors.Is(err, no) {
			t.Error(err)
		}
		return ctx.Err()
	})
	if err != nil {
		t.Error(err)
	}
}
