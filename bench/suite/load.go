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
	// grace is how long after the end of a run a response may arrive before its connection counts as broken.
	grace = 10 * time.Second
	// pause is the wait after an error, so that a server that refuses does not get a million requests.
	pause = 10 * time.Millisecond
)

// caller is one client of the load. It makes one request after the other. One goroutine uses it at a time.
type caller interface {
	// connect dials. It is called again after an error that is not a *refusal.
	connect(ctx context.Context) error
	// request makes one request and reads its response.
	request() error
	// until sets the deadline of requests.
	until(t time.Time) error
	close() error
}

// fleet are the clients of a scenario.
type fleet []caller

// connect dials for all of them. If one fails, it closes all of them.
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

// tally is the result of a run.
type tally struct {
	elapsed   time.Duration
	latencies []uint32 // of the good responses within the run's time, microseconds, ascending
	answered  uint64   // good responses, those after the run's time included
	errors    int
	first     error // the first of them, of any client
}

// run has all clients make requests for d. It waits for later responses and does not count them. The error is that of
// the context. Errors of servers and connections are in the tally.
func (f fleet) run(ctx context.Context, d time.Duration) (tally, error) {
	each := make([]tally, len(f))
	var wg sync.WaitGroup
	begin := time.Now()
	end := begin.Add(d)
	for i, c := range f {
		wg.Go(func() {
			if s, ok := c.(*streamClient); ok {
				each[i] = s.load(ctx, end)
				return
			}
			each[i] = loop(ctx, c, begin, end)
		})
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
			break // the context ended, not the server
		}
		failed(err)
		var r *refusal
		if !errors.As(err, &r) {
			// If this fails, the next request fails too, and counts.
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

// quantile returns the latency that the given share of the ascending latencies does not exceed, in milliseconds. It is
// 0 without latencies.
func quantile(latencies []uint32, share float64) float64 {
	if len(latencies) == 0 {
		return 0
	}
	i := int(math.Ceil(share*float64(len(latencies)))) - 1
	return float64(latencies[max(0, i)]) / 1000
}
