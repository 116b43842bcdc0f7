package batch

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// recorder processes batches of integers and records them.
type recorder struct {
	batches [][]int
	took    time.Duration // duration of a batch
}

func (r *recorder) batcher(lanes, eager, maxCount, maxSize int) *Batcher[int, int] {
	return New(Config[int, int]{
		Lanes: lanes, Eager: eager, MaxCount: maxCount, MaxSize: maxSize,
		Size: func(v int) int { return v },
		Handle: func(_ context.Context, batch []*Call[int, int]) {
			var values []int
			for _, c := range batch {
				values = append(values, c.Value)
			}
			r.batches = append(r.batches, values)
			time.Sleep(r.took)
			for _, c := range batch {
				c.End(10*c.Value, nil)
			}
		},
		Closed: errClosed,
	})
}

var errClosed = errors.New("closed")

func run(t *testing.T, b *Batcher[int, int]) (stop func()) {
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); b.Run(ctx) }()
	return func() { cancel(errors.New("stopping")); <-ended }
}

// TestBatcherGroupsWhatArrives checks that calls that arrive while a batch is in flight form the next one, and that a
// batch holds at most MaxCount calls and MaxSize bytes.
func TestBatcherGroupsWhatArrives(t *testing.T) {
	for name, c := range map[string]struct {
		maxCount, maxSize int
		want              [][]int
	}{
		"all in one":       {100, 100, [][]int{{1}, {2, 3, 9, 4}}},
		"bounded by count": {3, 100, [][]int{{1}, {2, 3, 9}, {4}}},
		"bounded by size":  {100, 14, [][]int{{1}, {2, 3, 9}, {4}}},
		"larger than size": {100, 8, [][]int{{1}, {2, 3}, {9}, {4}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := recorder{took: time.Second}
				b := r.batcher(1, 1, c.maxCount, c.maxSize)
				stop := run(t, b)
				b.Start(1)
				synctest.Wait()
				for _, v := range []int{2, 3, 9, 4} {
					b.Start(v)
				}
				time.Sleep(time.Minute)
				stop()
				if !slices.EqualFunc(r.batches, c.want, slices.Equal[[]int]) {
					t.Errorf("batches %v, want %v", r.batches, c.want)
				}
			})
		})
	}
}

// TestBatcherRefusesWhenItEnds checks that Run waits for the batch in flight, and rejects waiting and later calls.
func TestBatcherRefusesWhenItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := recorder{took: time.Second}
		b := r.batcher(1, 1, 100, 100)
		stop := run(t, b)
		first := b.Start(1)
		synctest.Wait()
		second := b.Start(2)
		began := time.Now()
		stop()
		if took := time.Since(began); took != time.Second {
			t.Errorf("Run ended after %v, want after the batch in flight", took)
		}
		if got, err := first.Wait(t.Context()); got != 10 || err != nil {
			t.Errorf("the call in flight: %d, %v", got, err)
		}
		for i, c := range []*Call[int, int]{second, b.Start(3)} {
			if _, err := c.Wait(t.Context()); !errors.Is(err, errClosed) {
				t.Errorf("call %d: %v", 2+i, err)
			}
		}
		if len(r.batches) != 1 {
			t.Errorf("batches %v", r.batches)
		}
	})
}

// TestCallEndsWithItsContext checks that a caller whose context ends does not wait for the batch.
func TestCallEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := recorder{took: time.Minute}
		b := r.batcher(1, 1, 100, 100)
		defer run(t, b)()
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(gone)
		if _, err := b.Start(1).Wait(ctx); !errors.Is(err, gone) {
			t.Error(err)
		}
	})
}

// TestWaiting checks the number and the size of the calls that wait for a batch.
func TestWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := recorder{took: time.Second}
		b := r.batcher(1, 1, 3, 100)
		stop := run(t, b)
		b.Start(1)
		synctest.Wait()
		for i, v := range []int{20, 3, 4, 50} {
			b.Start(v)
			if calls, size := b.Waiting(); calls != i+1 || size != []int{20, 23, 27, 77}[i] {
				t.Errorf("%d calls of size %d wait after %d were started", calls, size, i+1)
			}
		}
		time.Sleep(1500 * time.Millisecond) // three of them are in flight
		if calls, size := b.Waiting(); calls != 1 || size != 50 {
			t.Errorf("%d calls of size %d wait, not 1 of 50", calls, size)
		}
		stop()
		if calls, size := b.Waiting(); calls != 0 || size != 0 {
			t.Errorf("%d calls of size %d wait after the end", calls, size)
		}
	})
}
