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
	refused []int
	took    time.Duration // duration of a batch
}

func (r *recorder) batcher(lanes, eager, maxCount, maxSize int) *Batcher[int] {
	return New(Config[int]{
		Lanes: lanes, Eager: eager, MaxCount: maxCount, MaxSize: maxSize,
		Size: func(v int) int { return v },
		Handle: func(_ context.Context, batch []int) {
			r.batches = append(r.batches, slices.Clone(batch))
			time.Sleep(r.took)
		},
		Refuse: func(v int, _ error) { r.refused = append(r.refused, v) },
	})
}

func run(t *testing.T, b *Batcher[int]) (stop func()) {
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); b.Run(ctx) }()
	return func() { cancel(errors.New("stopping")); <-ended }
}

// TestBatcherGroupsWhatArrives checks that values that arrive while a batch is in flight form the next one, and that a
// batch holds at most MaxCount values and MaxSize bytes.
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
				b.Add(1)
				synctest.Wait()
				for _, v := range []int{2, 3, 9, 4} {
					b.Add(v)
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

// TestBatcherRefusesWhenItEnds checks that Run waits for the batch in flight, and rejects waiting and later values.
func TestBatcherRefusesWhenItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := recorder{took: time.Second}
		b := r.batcher(1, 1, 100, 100)
		stop := run(t, b)
		b.Add(1)
		synctest.Wait()
		b.Add(2)
		began := time.Now()
		stop()
		if took := time.Since(began); took != time.Second {
			t.Errorf("Run ended after %v, want after the batch in flight", took)
		}
		b.Add(3)
		if !slices.Equal(r.refused, []int{2, 3}) || len(r.batches) != 1 {
			t.Errorf("refused %v, batches %v", r.refused, r.batches)
		}
	})
}
