package suite

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// grace is how long after a run's end an answer may still come before its connection counts as broken.
	grace = 10 * time.Second
	// pause is the wait after an error, so that a server that refuses is not asked a million times.
	pause = 10 * time.Millisecond
)

// caller is one end of the load: it makes one request after the other. One goroutine uses it at a time.
type caller interface {
	// connect dials. It is called again after an error that is no *refusal.
	connect(ctx context.Context) error
	// request makes one request and takes its answer.
	request() error
	// until sets when what is under way fails.
	until(t time.Time) error
	close() error
}

// fleet is the clients of a scenario.
type fleet []caller

// connect dials for all of them, and closes all again where one fails.
func (f fleet) connect(ctx context.Context) error {
	for i, c := range f {
		if err := c.connect(ctx); err != nil {
			return errors.Join(fmt.Errorf("client %d: %w", i, err), f[:i].close())
		}
	}
	return nil
}

func (f fleet) close() error {
	var errs []error
	for _, c := range f {
		errs = append(errs, c.close())
	}
	return errors.Join(errs...)
}

// tally is what a run counted.
type tally struct {
	elapsed   time.Duration
	latencies []uint32 // of the good answers within the run's time, microseconds, ascending
	answered  uint64   // good answers, with those that came after the run's time
	errors    int
	first     error // the first of them, of whichever client
}

// run has all clients make requests for d. An answer that comes later is waited for and not counted. The error is the
// context's; what servers and connections did wrong is in the tally.
func (f fleet) run(ctx context.Context, d time.Duration) (tally, error) {
	each := make([]tally, len(f))
	var wg sync.WaitGroup
	begin := time.Now()
	end := begin.Add(d)
	for i, c := range f {
		wg.Go(func() { each[i] = loop(ctx, c, begin, end) })
	}
	wg.Wait()
	total := tally{elapsed: d}
	n := 0
	for i := range each {
		n += len(each[i].latencies)
	}
	total.latencies = make([]uint32, 0, n)
	for i := range each {
		total.latencies = append(total.latencies, each[i].latencies...)
		total.answered += each[i].answered
		total.errors += each[i].errors
		if total.first == nil {
			total.first = each[i].first
		}
	}
	slices.Sort(total.latencies)
	return total, ctx.Err()
}

// loop is one client's part of a run.
func loop(ctx context.Context, c caller, begin, end time.Time) tally {
	t := tally{latencies: make([]uint32, 0, 4096)}
	failed := func(err error) {
		t.errors++
		if t.first == nil {
			t.first = err
		}
	}
	if err := c.until(end.Add(grace)); err != nil {
		failed(err)
	}
	sent := begin
	for sent.Before(end) && ctx.Err() == nil {
		err := c.request()
		now := time.Now()
		if err == nil {
			t.answered++
			if now.After(end) {
				break
			}
			t.latencies = append(t.latencies, uint32(min(now.Sub(sent).Microseconds(), math.MaxUint32)))
			sent = now
			continue
		}
		if ctx.Err() != nil {
			break // cut by the end of it all, not by the server
		}
		failed(err)
		var r *refusal
		if !errors.As(err, &r) {
			// Where this fails the next request fails too, and counts.
			_ = c.close()
			if c.connect(ctx) == nil {
				_ = c.until(end.Add(grace))
			}
		}
		rest(ctx, pause)
		sent = time.Now()
	}
	return t
}

// rest waits for d or the end of the context.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// quantile gives the latency below which that share of the ascending latencies lies, in milliseconds; 0 where there are none.
func quantile(latencies []uint32, share float64) float64 {
	if len(latencies) == 0 {
		return 0
	}
	i := int(math.Ceil(share*float64(len(latencies)))) - 1
	return float64(latencies[max(0, i)]) / 1000
}
