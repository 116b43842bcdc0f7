package batch

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestSingleFlightEndsWithLastCaller checks that an operation continues while a caller waits for it, and is cancelled
// when the last caller gives up.
func TestSingleFlightEndsWithLastCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f SingleFlight[string, int]
		begun, ended := 0, 0
		read := func(ctx context.Context) (int, error) {
			begun++
			select {
			case <-ctx.Done():
				ended++
				return 0, ctx.Err()
			case <-time.After(10 * time.Second):
				return 7, nil
			}
		}
		patience := func(d time.Duration) (int, error) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			return f.Do(ctx, "k", time.Minute, read)
		}
		var asking sync.WaitGroup
		asking.Go(func() {
			if _, err := patience(time.Second); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the first: %v", err)
			}
		})
		synctest.Wait()
		if got, err := patience(time.Minute); got != 7 || err != nil || begun != 1 {
			t.Errorf("another: %d, %v, %d reads", got, err, begun)
		}
		asking.Wait()
		for i := range 2 { // later callers do not join a cancelled read
			if _, err := patience(time.Second); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("alone: %v", err)
			}
			synctest.Wait()
			if begun != i+2 || ended != i+1 {
				t.Errorf("%d reads, %d given up", begun, ended)
			}
		}
		if _, err := f.Do(t.Context(), "k", time.Second, read); !errors.Is(err, context.DeadlineExceeded) ||
			len(f.calls) != 0 {
			t.Errorf("a read that takes too long: %v, %d are under way", err, len(f.calls))
		}
	})
}

// TestSingleFlightDetached checks that a detached operation continues after its last caller has given up, and that
// Close waits for it.
func TestSingleFlightDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := SingleFlight[string, int]{Detached: true}
		done := false
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := f.Do(ctx, "k", time.Hour, func(ctx context.Context) (int, error) {
			select {
			case <-ctx.Done():
			case <-time.After(time.Minute):
				done = true
			}
			return 0, ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller: %v", err)
		}
		time.Sleep(2 * time.Minute)
		f.Close(errors.New("stopping"))
		if !done {
			t.Error("the operation was cancelled")
		}
	})
}

// TestSingleFlightClose checks that Close cancels operations in flight with the cause, waits for them, and rejects
// later calls.
func TestSingleFlightClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f SingleFlight[string, int]
		stopping := errors.New("stopping")
		ended := false
		var callers sync.WaitGroup
		callers.Go(func() {
			_, err := f.Do(t.Context(), "k", time.Hour, func(ctx context.Context) (int, error) {
				<-ctx.Done()
				time.Sleep(time.Second) // the operation takes time to end
				ended = true
				return 0, context.Cause(ctx)
			})
			if !errors.Is(err, stopping) {
				t.Errorf("a call in flight: %v", err)
			}
		})
		synctest.Wait()
		f.Close(stopping)
		if !ended {
			t.Error("Close returned while an operation was in flight")
		}
		_, err := f.Do(t.Context(), "k", time.Hour, func(context.Context) (int, error) { return 1, nil })
		if !errors.Is(err, stopping) {
			t.Errorf("a call after Close: %v", err)
		}
		callers.Wait()
	})
}
