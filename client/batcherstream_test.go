package client

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// refused is the end of the payload of an entry that the store refuses for its content.
const refused = "!"

// checkBatcher checks that every good entry has its own position, in order, that every other one has its error, and
// that nothing else was appended.
func (s *streamStore) checkBatcher(futures []Future, payloads []string) {
	s.t.Helper()
	var good []string
	for i, f := range futures {
		at, err := f.Wait(s.t.Context())
		if strings.HasSuffix(payloads[i], refused) {
			if !errors.Is(err, wire.ErrTooLarge) || errors.Is(err, wire.ErrUnknownOutcome) {
				s.t.Fatalf("entry %d of %d is to be refused: %v", i, len(futures), err)
			}
			continue
		}
		if err != nil || at.Index == 0 || at.Index > uint64(len(s.all)) || s.all[at.Index-1] != payloads[i] {
			s.t.Fatalf("entry %d of %d: %+v, %v", i, len(futures), at, err)
		}
		good = append(good, payloads[i])
	}
	if !slices.Equal(s.all, good) {
		s.t.Fatalf("appended %d records %.300q, want %d", len(s.all), s.all, len(good))
	}
}

// checkEnded checks a Batcher that has ended: the entries with a position have their own, the others may or may not
// have been appended, and none was appended twice or out of order.
func (s *streamStore) checkEnded(futures []Future, payloads []string) {
	s.t.Helper()
	for i, f := range futures {
		at, err := f.Wait(s.t.Context())
		if err == nil && s.all[at.Index-1] != payloads[i] {
			s.t.Fatalf("entry %d of %d: %+v", i, len(futures), at)
		}
	}
	next := 0
	for _, p := range s.all {
		for next < len(payloads) && payloads[next] != p {
			next++
		}
		if next == len(payloads) {
			s.t.Fatalf("%q was appended twice, or not in its order", p)
		}
		next++
	}
}

// TestBatcherSurvivesFaults appends entries with a Batcher while most requests fail in a random way, some entries are
// refused for their content, and, with some seeds, streams are forgotten between requests or the masters serve no more
// of them. Every good entry must have exactly one position, in order.
func TestBatcherSurvivesFaults(t *testing.T) {
	seeds := uint64(300)
	if testing.Short() {
		seeds = 60
	}
	var reopened, batched, skipped, ended atomic.Int64
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 1))
				s := newStore(t)
				s.part, s.bad = 1+r.IntN(600), refused
				failing := 1 + r.IntN(30) // requests
				fullFrom := 1 << 30       // the request from which on the masters serve no more streams
				if seed%5 == 0 {
					fullFrom = 2 + r.IntN(20)
				}
				s.fault = func(_ string, request int) streamFault {
					switch {
					case request >= fullFrom && request%10 != 0: // else what is not known would never be known
						return streamFault{status: wire.ErrTooManyStreams}
					case request > failing && request%7 != 0:
						return streamFault{}
					}
					return randomFault(r)
				}
				openings := 0
				s.refuses = func() *wire.ProblemType {
					if openings++; openings > 1 && seed%7 == 0 {
						return wire.ErrTooMany
					} else if r.IntN(3) == 0 {
						return wire.ErrNoLeader
					}
					return nil
				}
				want := numbered(1 + r.IntN(3000))
				for i := range want {
					switch r.IntN(40) {
					case 0:
						want[i] += strings.Repeat("x", r.IntN(20_000))
					case 1:
						want[i] += refused
						skipped.Add(1)
					}
				}
				b := s.client(1, "m0", "m1", "m2").NewBatcher(t.Context(), BatcherConfig{})
				var futures []Future
				pauses := rand.New(rand.NewPCG(seed, 2))
				for i, p := range want { // as a slow writer
					if i > 0 && seed%2 == 1 && pauses.IntN(300) == 0 {
						time.Sleep(time.Duration(pauses.IntN(60_000)) * time.Millisecond)
					}
					if i > 0 && seed%3 == 0 && pauses.IntN(500) == 0 {
						_ = b.Flush(t.Context())
						s.mu.Lock()
						for id := range s.streams {
							delete(s.streams, id) // all are forgotten
						}
						s.mu.Unlock()
					}
					f, err := b.Add(t.Context(), Entry{Payload: []byte(p)})
					if err != nil {
						break // Close has the error
					}
					futures = append(futures, f)
				}
				_ = b.Close()
				if err := b.queue.failed; errors.Is(err, wire.ErrUnknownStream) && seed%3 == 0 {
					// The stream was forgotten, and then a request broke off: what it has sent is not known.
					ended.Add(1)
					s.checkEnded(futures, want)
					return
				} else if err != nil {
					t.Error(err)
				}
				s.checkBatcher(futures, want)
				reopened.Add(int64(max(0, s.opened-1)))
				batched.Add(int64(len(s.batches)))
			})
		})
	}
	if ended.Load() > int64(seeds)/20 {
		t.Errorf("%d of %d Batchers ended", ended.Load(), seeds)
	}
	if reopened.Load() == 0 || batched.Load() == 0 || skipped.Load() == 0 {
		t.Errorf("%d streams were begun anew, %d batches sent and %d entries refused: not all was tested",
			reopened.Load(), batched.Load(), skipped.Load())
	}
}

// TestBatcherAfterAForgottenStream checks that a Batcher does not send entries to another stream that may have been
// appended to one that was forgotten.
func TestBatcherAfterAForgottenStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		added := make(chan struct{}) // closed when all entries were added
		s.fault = func(_ string, request int) streamFault {
			<-added
			if request == 1 {
				return streamFault{writeMost: 1} // all are appended, and nothing is answered
			}
			clear(s.streams)
			return streamFault{}
		}
		b := s.client(1, "m0", "m1").NewBatcher(t.Context(), BatcherConfig{})
		futures := addAll(t, b.Add, numbered(3))
		close(added)
		if err := b.Close(); !errors.Is(err, wire.ErrUnknownStream) {
			t.Errorf("close: %v", err)
		}
		for i, f := range futures {
			_, err := f.Wait(t.Context())
			u, ok := errors.AsType[*UnknownOutcomeError](err)
			if !ok || u.Stream != "_1" || u.Number != uint64(i+1) {
				t.Errorf("entry %d: %v", i, err)
			}
		}
		if s.opened != 1 || len(s.batches) > 0 {
			t.Errorf("%d streams were opened, %d batches sent", s.opened, len(s.batches))
		}
	})
}

// TestBatcherWithOtherLimits checks that an entry which a second master refuses, because its limit is lower, does not
// count as refused if the first one has appended it.
func TestBatcherWithOtherLimits(t *testing.T) {
	for _, appended := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newStore(t)
			s.fault = func(_ string, request int) streamFault {
				switch {
				case request > 1:
					s.bad = "x"
					return streamFault{}
				case appended:
					return streamFault{writeMost: 1}
				}
				return streamFault{readMost: 3}
			}
			b := s.client(1, "m0", "m1").NewBatcher(t.Context(), BatcherConfig{})
			futures := addAll(t, b.Add, []string{"x"})
			_ = b.Close()
			if _, err := futures[0].Wait(t.Context()); !errors.Is(err, wire.ErrTooLarge) ||
				errors.Is(err, wire.ErrUnknownOutcome) != appended {
				t.Errorf("appended %v: %v", appended, err)
			}
		})
	}
}

// TestBatcherWithoutStreams checks that each answer of a cluster without streams, or without room for one, makes a
// Batcher send batches, and that other errors end it.
func TestBatcherWithoutStreams(t *testing.T) {
	for _, none := range []*wire.ProblemType{wire.ErrNoStreams, wire.ErrNoSuchRoute, wire.ErrMethod, wire.ErrTooMany} {
		s := newStore(t)
		s.refuses = func() *wire.ProblemType { return none }
		b := s.client(0, "m0", "m1").NewBatcher(t.Context(), BatcherConfig{})
		want := numbered(2000)
		futures := addAll(t, b.Add, want)
		if err := b.Close(); err != nil {
			t.Errorf("%v: %v", none, err)
		}
		s.checkBatcher(futures, want)
		if len(s.batches) == 0 || len(s.requests) > 0 {
			t.Errorf("%v: %d batches, %d requests of streams", none, len(s.batches), len(s.requests))
		}
	}
	for _, other := range []*wire.ProblemType{wire.ErrForbidden, wire.ErrNoLeader} {
		s := newStore(t)
		s.refuses = func() *wire.ProblemType { return other }
		b := s.client(0, "m0", "m1").NewBatcher(t.Context(), BatcherConfig{})
		futures := addAll(t, b.Add, numbered(1)) // another Add may fail already
		if err := b.Close(); !errors.Is(err, other) {
			t.Errorf("%v: %v", other, err)
		}
		for _, f := range futures {
			if _, err := f.Wait(t.Context()); !errors.Is(err, other) || errors.Is(err, wire.ErrUnknownOutcome) {
				t.Errorf("%v: %v", other, err)
			}
		}
		if len(s.all) > 0 {
			t.Errorf("%v: %q were appended", other, s.all)
		}
	}
}

// TestBatcherWindow checks that a Batcher has as many records without an answer as the cluster remembers, and no more
// than it may have.
func TestBatcherWindow(t *testing.T) {
	for window, want := range map[uint64]uint64{0: streamWindow, streamWindow: streamWindow, 2000: 2000,
		mostWindow: mostWindow, 1 << 20: mostWindow} {
		synctest.Test(t, func(t *testing.T) {
			s := newStore(t)
			s.window = window
			s.fault = func(host string, _ int) streamFault { return streamFault{silent: host == "m0"} }
			b := s.client(0, "m0", "m1").NewBatcher(t.Context(), BatcherConfig{})
			all := numbered(3 * mostWindow)
			futures := addAll(t, b.Add, all)
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			s.checkBatcher(futures, all)
			if s.most > want || s.most <= want-streamGroup {
				t.Errorf("window %d: %d records had no answer, want %d", window, s.most, want)
			}
		})
	}
}

// TestBatcherThroughHalfDuplex checks a proxy that sends nothing on before the end of the body: only the first entry
// waits for long.
func TestBatcherThroughHalfDuplex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		s.fault = func(string, int) streamFault { return streamFault{halfDuplex: true} }
		b := s.client(0, "m0").NewBatcher(t.Context(), BatcherConfig{})
		began := time.Now()
		want := numbered(3 * streamWindow)
		var futures []Future
		for i := range 3 { // one after the other
			futures = append(futures, addAll(t, b.Add, want[i:i+1])...)
			if err := b.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took != batcherDuplexAfter {
				t.Errorf("entry %d is answered after %v, want %v", i, took, batcherDuplexAfter)
			}
		}
		futures = append(futures, addAll(t, b.Add, want[3:])...)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		s.checkBatcher(futures, want)
		if took := time.Since(began); took != batcherDuplexAfter {
			t.Errorf("it took %v", took)
		}
	})
}
