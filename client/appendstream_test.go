package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/wire"
)

func newStore(t *testing.T) *streamStore {
	return &streamStore{t: t, streams: map[string][]storedRecord{}}
}

// checkAll checks that every record has its own position, in order, and is in the stream once.
func (s *streamStore) checkAll(id string, futures []Future, want []string) {
	s.t.Helper()
	for i, f := range futures {
		at, err := f.Wait(s.t.Context())
		s.mu.Lock()
		of := s.streams[id]
		if id == "" {
			for _, of = range s.streams {
			}
		}
		s.mu.Unlock()
		if err != nil || i >= len(of) || at != of[i].at {
			s.t.Fatalf("record %d of %d: %+v, %v", i+1, len(futures), at, err)
		}
	}
	if got := s.payloads(id); !slices.Equal(got, want) {
		s.t.Fatalf("appended %d records %.300q, want %d", len(got), got, len(want))
	}
}

func newStream(t *testing.T, c *Client) *AppendStream {
	t.Helper()
	b, err := c.NewAppendStream(t.Context(), AppendStreamConfig{ID: "doors"})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func numbered(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("record %d", i+1))
	}
	return list
}

// addAll adds records to a stream.
func addAll(t *testing.T, add func(context.Context, Entry) (Future, error), payloads []string) (futures []Future) {
	t.Helper()
	for _, p := range payloads {
		f, err := add(t.Context(), Entry{Payload: []byte(p)})
		if err != nil {
			t.Fatal(err)
		}
		futures = append(futures, f)
	}
	return futures
}

// randomFault returns what goes wrong in a request, or nothing.
func randomFault(r *rand.Rand) streamFault {
	problems := []*wire.ProblemType{
		wire.ErrUnavailable, wire.ErrNoLeader, wire.ErrUnknownOutcome, wire.ErrBacklog, wire.ErrQuota, wire.ErrSlowBody,
		wire.ErrUnreadAnswers, wire.ErrNoSpace, wire.ErrInternal, wire.ErrTooManyStreams,
	}
	f := streamFault{halfDuplex: r.IntN(8) == 0}
	switch r.IntN(9) {
	case 0:
		f.noDial = true
	case 1:
		f.status = problems[r.IntN(len(problems))]
	case 2:
		f.foreign = []int{502, 503, 504, 429}[r.IntN(4)]
	case 3:
		f.readMost = 1 + r.IntN(3000)
	case 4:
		f.writeMost = 1 + r.IntN(20_000)
		f.noHead = r.IntN(2) == 0
	case 5:
		f.records, f.problem, f.unanswered = 1+r.IntN(200), problems[r.IntN(len(problems))], r.IntN(100)
	case 6:
		f.silent = true
	case 7:
		at := r.IntN(100)
		how := r.IntN(5)
		f.edit = func(line int, text string) string {
			switch {
			case line != at:
				return text
			case how == 0:
				return ""
			case how == 1:
				return text + text
			case how == 2:
				return "{}\n"
			case how == 3:
				return text[:len(text)/2] + "\n"
			}
			return strings.Repeat("x", maxAnswerLine+1) + "\n"
		}
	}
	return f
}

// TestAppendStreamSurvivesFaults appends records while most requests fail in a random way. Every record must have
// exactly one position, in order.
func TestAppendStreamSurvivesFaults(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 50
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 1))
				s := newStore(t)
				s.part = 1 + r.IntN(600)
				failing := 1 + r.IntN(30) // requests
				s.fault = func(_ string, request int) streamFault {
					if request > failing && request%7 != 0 {
						return streamFault{}
					}
					return randomFault(r)
				}
				want := numbered(1 + r.IntN(3000))
				for i := range want {
					if r.IntN(20) == 0 {
						want[i] += strings.Repeat("x", r.IntN(20_000))
					}
				}
				c := s.client(1, "m0", "m1", "m2")
				b := newStream(t, c)
				var futures []Future
				pauses := rand.New(rand.NewPCG(seed, 2))
				for i, p := range want { // as a slow writer
					if i > 0 && seed%2 == 1 && pauses.IntN(300) == 0 {
						time.Sleep(time.Duration(pauses.IntN(60_000)) * time.Millisecond)
					}
					futures = append(futures, addAll(t, b.Add, []string{p})...)
				}
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
				s.checkAll("", futures, want)
			})
		})
	}
}

// TestAppendStreamCutAtEachByte cuts the first request after each number of bytes, in both directions.
func TestAppendStreamCutAtEachByte(t *testing.T) {
	want := numbered(4)
	for _, answer := range []bool{false, true} {
		for n := 1; ; n++ {
			cut := false
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				s.fault = func(_ string, request int) streamFault {
					switch {
					case request > 1:
						cut = true
						return streamFault{}
					case answer:
						return streamFault{writeMost: n}
					}
					return streamFault{readMost: n}
				}
				b := newStream(t, s.client(1, "m0", "m1"))
				futures := addAll(t, b.Add, want)
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
				s.checkAll("", futures, want)
			})
			if !cut {
				if n < len(want)*(wire.FrameOverhead+len(want[0])) {
					t.Fatalf("only %d cuts", n)
				}
				break
			}
		}
	}
}

// TestAppendStreamContinues continues a stream that has records: those in the window get their first positions, and
// others are refused.
func TestAppendStreamContinues(t *testing.T) {
	s := newStore(t)
	c := s.client(0, "m0")
	run := func(first uint64, payloads ...string) ([]Future, error) {
		b, err := c.NewAppendStream(t.Context(), AppendStreamConfig{ID: "doors", First: first})
		if err != nil {
			t.Fatal(err)
		}
		if b.ID() != "doors" {
			t.Errorf("id %q", b.ID())
		}
		futures := addAll(t, b.Add, payloads)
		return futures, b.Close()
	}
	if _, err := run(0, "a", "b", "c"); err != nil {
		t.Fatal(err)
	}
	futures, err := run(0, "a", "b", "c", "d")
	if err != nil {
		t.Fatal(err)
	}
	s.checkAll("doors", futures, []string{"a", "b", "c", "d"})
	if _, err := run(5, "e"); err != nil {
		t.Fatal(err)
	}
	futures, err = run(4, "d", "f", "g")
	var unknown *UnknownOutcomeError
	if !errors.Is(err, wire.ErrStreamContent) || errors.As(err, &unknown) {
		t.Errorf("another record under a number: %v", err)
	}
	if at, err := futures[0].Wait(t.Context()); err != nil || at != s.streams["doors"][3].at {
		t.Errorf("%+v, %v", at, err)
	}
	if got := s.payloads("doors"); fmt.Sprint(got) != "[a b c d e]" {
		t.Errorf("%q", got)
	}
	if _, err := run(6, numbered(streamWindow+10)...); err != nil {
		t.Fatal(err)
	}
	if _, err := run(1, "a"); !errors.Is(err, wire.ErrStreamPassed) {
		t.Errorf("a number behind the window: %v", err)
	}
	for _, id := range []string{"", "a/b", "ä", strings.Repeat("x", 65)} {
		if _, err := c.NewAppendStream(t.Context(), AppendStreamConfig{ID: id}); !errors.Is(err, wire.ErrBadRequest) {
			t.Errorf("id %q: %v", id, err)
		}
	}
}

// TestAppendStreamStops checks the errors that end a stream, and which records they leave unknown.
func TestAppendStreamStops(t *testing.T) {
	for name, c := range map[string]struct {
		fault   streamFault
		second  streamFault // of the second request
		bad     string
		want    error
		good    int // records with a position
		unknown int // that may have been appended
	}{
		"token": {fault: streamFault{status: wire.ErrUnauthorized}, want: wire.ErrUnauthorized},
		"right": {fault: streamFault{status: wire.ErrForbidden}, want: wire.ErrForbidden},
		"revoked": {fault: streamFault{records: 2, problem: wire.ErrUnauthorized, unanswered: 1},
			want: wire.ErrUnauthorized, good: 2, unknown: 4},
		"forgotten": {fault: streamFault{records: 2, problem: wire.ErrUnknownStream}, want: wire.ErrUnknownStream,
			good: 2},
		"forgotten after a cut": {fault: streamFault{writeMost: 1},
			second: streamFault{status: wire.ErrUnknownStream}, want: wire.ErrUnknownStream, unknown: 6},
		"gap":      {fault: streamFault{status: wire.ErrStreamGap}, want: wire.ErrStreamGap},
		"old":      {fault: streamFault{status: wire.ErrNoSuchRoute}, want: wire.ErrNoSuchRoute},
		"an entry": {bad: "record 4", want: wire.ErrTooLarge, good: 3},
		"another program": {fault: streamFault{foreign: http.StatusTeapot}, second: streamFault{
			foreign: http.StatusTeapot}, want: wire.ErrNoAnswer},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newStore(t)
			if s.bad = c.bad; s.bad != "" {
				s.part = 100
			}
			added := make(chan struct{}) // closed when all entries were added
			s.fault = func(_ string, request int) streamFault {
				<-added
				if request == 1 {
					return c.fault
				}
				return c.second
			}
			b, err := s.client(1, "m0").NewAppendStream(t.Context(), AppendStreamConfig{ID: "doors"})
			if err != nil {
				t.Fatal(err)
			}
			futures := addAll(t, b.Add, numbered(6))
			close(added)
			err = b.Close()
			if c.want == wire.ErrNoAnswer {
				if e, ok := errors.AsType[*wire.Error](err); !ok || e.Name() != "" {
					t.Errorf("%s: %v", name, err)
				}
			} else if !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
			good, unknown := 0, 0
			for i, f := range futures {
				_, err := f.Wait(t.Context())
				var u *UnknownOutcomeError
				switch {
				case err == nil && good == i:
					good++
				case err == nil:
					t.Errorf("%s: record %d has a position, and one before it has none", name, i+1)
				case errors.As(err, &u):
					unknown++
					if u.Stream != "doors" || u.Number != uint64(i+1) || !errors.Is(err, wire.ErrUnknownOutcome) {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
			if good != c.good || unknown != c.unknown {
				t.Errorf("%s: %d good and %d unknown records, want %d and %d", name, good, unknown, c.good, c.unknown)
			}
			if _, err := b.Add(t.Context(), Entry{Payload: []byte("x")}); err == nil {
				t.Errorf("%s: an entry after the end", name)
			}
		})
	}
}

// TestAppendStreamThroughHalfDuplex checks a proxy that sends nothing on before the end of the body: the client finds
// out, and then ends its requests.
func TestAppendStreamThroughHalfDuplex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		s.fault = func(string, int) streamFault { return streamFault{halfDuplex: true} }
		b := newStream(t, s.client(0, "m0"))
		began := time.Now()
		want := numbered(10 * streamWindow)
		futures := addAll(t, b.Add, want)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		s.checkAll("", futures, want)
		if took := time.Since(began); took != halfDuplexAfter {
			t.Errorf("it took %v, want %v once", took, halfDuplexAfter)
		}
	})
}

// TestAppendStreamIdle checks that a request ends when nothing is to be sent, and that the next record needs no wait.
func TestAppendStreamIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		b := newStream(t, s.client(0, "m0"))
		want := numbered(3)
		var futures []Future
		for i := range want {
			began := time.Now()
			futures = append(futures, addAll(t, b.Add, want[i:i+1])...)
			if err := b.Flush(t.Context()); err != nil || time.Since(began) != 0 {
				t.Errorf("record %d: %v after %v", i+1, err, time.Since(began))
			}
			time.Sleep(time.Duration(i+1) * 8 * time.Second)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		s.checkAll("", futures, want)
		if len(s.requests) != 2 { // the first lasts until it was idle for 10 s
			t.Errorf("requests %q", s.requests)
		}
	})
}

// TestAppendStreamLeavesSilentMasters checks that a master that takes records and does not answer is left, and how long
// that takes. It gets no more records than the window has.
func TestAppendStreamLeavesSilentMasters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		s.fault = func(host string, _ int) streamFault { return streamFault{silent: host == "m0"} }
		b := newStream(t, s.client(0, "m0", "m1"))
		began := time.Now()
		want := numbered(3 * streamWindow)
		futures := addAll(t, b.Add, want)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		s.checkAll("", futures, want)
		if took := time.Since(began); took > streamSilence {
			t.Errorf("it took %v", took)
		}
	})
}

// TestAppendStreamGivesUp checks that a stream without progress ends after the client's patience, with the error of the
// masters, and one with progress does not.
func TestAppendStreamGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var down atomic.Bool
		s.fault = func(string, int) streamFault {
			if down.Load() {
				return streamFault{status: wire.ErrBacklog}
			}
			return streamFault{records: 1, problem: wire.ErrBacklog}
		}
		c := s.client(0, "m0", "m1")
		c.retryFor = 20 * time.Second
		b := newStream(t, c)
		began := time.Now()
		want := numbered(2000)
		futures := addAll(t, b.Add, want)
		if err := b.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.checkAll("", futures, want)
		if took := time.Since(began); took < time.Minute {
			t.Errorf("only %v: a request for each record and a pause for each", took)
		}
		down.Store(true)
		began = time.Now()
		f := addAll(t, b.Add, []string{"x"})
		_, err := f[0].Wait(t.Context())
		took := time.Since(began)
		if !errors.Is(err, wire.ErrBacklog) || took < 15*time.Second || took > 30*time.Second {
			t.Errorf("%v after %v", err, took)
		}
		if err := b.Close(); !errors.Is(err, wire.ErrBacklog) {
			t.Error(err)
		}
	})
}

// TestAppendStreamEndsWithItsContext ends the context at every stage of a stream.
func TestAppendStreamEndsWithItsContext(t *testing.T) {
	for name, f := range map[string]streamFault{
		"before the head": {silent: true}, "after the head": {silent: true, writeMost: 1}, "refused": {noDial: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newStore(t)
			s.fault = func(string, int) streamFault { return f }
			ctx, cancel := context.WithCancel(t.Context())
			b, err := s.client(1, "m0").NewAppendStream(ctx, AppendStreamConfig{ID: "doors"})
			if err != nil {
				t.Fatal(err)
			}
			futures := addAll(t, b.Add, []string{"x"})
			synctest.Wait()
			cancel()
			_, err = futures[0].Wait(t.Context())
			if sent := !f.noDial; !errors.Is(err, context.Canceled) || errors.Is(err, wire.ErrUnknownOutcome) != sent {
				t.Errorf("%s: %v", name, err)
			}
			if err := b.Close(); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// TestAppendStreamBoundsItsMemory checks that Add waits for room while nothing is answered.
func TestAppendStreamBoundsItsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var free atomic.Bool
		s.fault = func(string, int) streamFault { return streamFault{silent: !free.Load()} }
		b, err := s.client(1, "m0").NewAppendStream(t.Context(), AppendStreamConfig{ID: "doors", MaxBuffered: 1})
		if err != nil {
			t.Fatal(err)
		}
		var added atomic.Int32
		go func() {
			for range 100 {
				if _, err := b.Add(t.Context(), Entry{Payload: make([]byte, 1<<20-wire.FrameOverhead)}); err != nil {
					t.Error(err)
				}
				added.Add(1)
			}
		}()
		synctest.Wait()
		if n := added.Load(); n != wire.MaxBatchBytes>>20 {
			t.Errorf("%d entries of 1 MiB fit into 4 MiB", n)
		}
		free.Store(true)
		time.Sleep(time.Minute) // the silent request ends
		if n := added.Load(); n != 100 {
			t.Errorf("%d entries in the end", n)
		}
		if err := b.Close(); err != nil || len(s.payloads("")) != 100 {
			t.Error(err)
		}
		if _, err := b.Add(t.Context(), Entry{Payload: []byte("x")}); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

func TestAppendStreamState(t *testing.T) {
	state := wire.AppendStream{Stream: "doors", Next: 4, Oldest: 1, Window: 1024}
	c := newClient(t, -1, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/streams/doors":
			reply(w, http.StatusOK, state)
		case "/v1/streams/other":
			reply(w, http.StatusOK, state)
		default:
			problem(w, http.StatusNotFound, wire.ErrUnknownStream.Name)
		}
	})
	if got, err := c.AppendStreamState(t.Context(), "doors"); err != nil || got != state {
		t.Errorf("%+v, %v", got, err)
	}
	for id, want := range map[string]error{
		"other": ErrAnswer, "none": wire.ErrUnknownStream, "a/b": wire.ErrBadRequest, "": wire.ErrBadRequest,
	} {
		if _, err := c.AppendStreamState(t.Context(), id); !errors.Is(err, want) {
			t.Errorf("%q: %v", id, err)
		}
	}
}
