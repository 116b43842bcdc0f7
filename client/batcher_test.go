package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// ledger is an older master that appends batches and records them.
type ledger struct {
	mu       sync.Mutex
	payloads []string
	batches  []int // number of records of each accepted batch
	refused  int   // batches

	bad  string        // a batch with this payload is refused as too large
	gate chan struct{} // if it is not nil, each batch first takes a value from it
	busy atomic.Int32  // batches at the gate
}

func (l *ledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/v1/records:batch" {
		problem(w, http.StatusNotFound, wire.ErrNoSuchRoute.Name)
		return
	}
	body, err := io.ReadAll(r.Body)
	if l.gate != nil {
		l.busy.Add(1)
		<-l.gate
		l.busy.Add(-1)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var payloads []string
	if err == nil {
		err = wire.ParseFrames(body, func(_, _, payload []byte) error {
			if string(payload) == l.bad {
				return wire.ErrTooLarge
			}
			payloads = append(payloads, string(payload))
			return nil
		})
	}
	if errors.Is(err, wire.ErrTooLarge) || len(body) > wire.MaxBatchBytes || len(payloads) > wire.MaxBatchRecords {
		l.refused++
		problem(w, http.StatusRequestEntityTooLarge, wire.ErrTooLarge.Name)
		return
	}
	if err != nil || len(payloads) == 0 || r.Header.Get("Content-Type") != wire.TypeFrames {
		problem(w, http.StatusBadRequest, wire.ErrBadRequest.Name)
		return
	}
	answer := wire.Positions{Records: []wire.Position{}}
	for range payloads {
		answer.Records = append(answer.Records, wire.Position{
			Leaf: chain.Hash{7}, State: wire.StateCommitted, Index: uint64(len(l.payloads) + len(answer.Records) + 1),
		})
	}
	l.payloads = append(l.payloads, payloads...)
	l.batches = append(l.batches, len(payloads))
	reply(w, http.StatusCreated, answer)
}

// at returns the payload at a position that the ledger returned.
func (l *ledger) at(p wire.Position) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.payloads[p.Index-1]
}

func TestAppendBatch(t *testing.T) {
	l := &ledger{}
	c := newClient(t, 0, l.ServeHTTP)
	at, err := c.AppendBatch(t.Context(), []Entry{{Payload: []byte("a")}, {Payload: []byte("b"), Key: " k",
		Type: "t"}}, "")
	if err != nil || len(at) != 2 || l.at(at[0]) != "a" || l.at(at[1]) != "b" {
		t.Errorf("%+v, %v", at, err)
	}
	for name, c2 := range map[string]struct {
		entries []Entry
		want    error
	}{
		"none":       {nil, wire.ErrBadRequest},
		"empty":      {[]Entry{{Payload: []byte("a")}, {}}, wire.ErrEmptyBody},
		"a long key": {[]Entry{{Payload: []byte("a"), Key: strings.Repeat("k", 256)}}, chain.ErrRecord},
		"NUL":        {[]Entry{{Payload: []byte("a")}, {Payload: []byte("a"), Key: "\x00"}}, wire.ErrBadRequest},
		"own key":    {[]Entry{{Payload: []byte("a"), IdempotencyKey: "k"}}, wire.ErrBadRequest},
		"many":       {make([]Entry, wire.MaxBatchRecords+1), wire.ErrTooLarge},
		"large":      {[]Entry{{Payload: make([]byte, wire.MaxBatchBytes)}}, wire.ErrTooLarge},
	} {
		if name == "many" {
			for i := range c2.entries {
				c2.entries[i].Payload = []byte("a")
			}
		}
		if _, err := c.AppendBatch(t.Context(), c2.entries, ""); !errors.Is(err, c2.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	short := newClient(t, 0, func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusCreated, wire.Positions{Records: make([]wire.Position, 1)})
	})
	if _, err := short.AppendBatch(t.Context(), entries("a", "b"), ""); !errors.Is(err, ErrAnswer) ||
		!errors.Is(err, wire.ErrUnknownOutcome) {
		t.Errorf("one position for two records: %v", err)
	}
}

func entries(payloads ...string) (list []Entry) {
	for _, p := range payloads {
		list = append(list, Entry{Payload: []byte(p)})
	}
	return list
}

func TestBatcherKeepsOrderAndGroups(t *testing.T) {
	l := &ledger{}
	b := newClient(t, 0, l.ServeHTTP).NewBatcher(t.Context(), BatcherConfig{})
	const n = 12_000
	futures := make([]Future, n)
	buf := make([]byte, 0, 32)
	for i := range n {
		var err error
		buf = fmt.Appendf(buf[:0], "line %d", i) // reused: the Batcher copies
		if futures[i], err = b.Add(t.Context(), Entry{Payload: buf}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, f := range futures {
		select {
		case <-f.Done():
		default:
			t.Fatalf("entry %d is not answered after Flush", i)
		}
		at, err := f.Wait(t.Context())
		if err != nil || at.Index != uint64(i+1) || l.at(at) != fmt.Sprintf("line %d", i) {
			t.Fatalf("entry %d: %+v, %v", i, at, err)
		}
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if _, err := b.Add(t.Context(), Entry{Payload: []byte("x")}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if len(l.batches) > n/100 {
		t.Errorf("%d batches for %d entries", len(l.batches), n)
	}
}

func TestBatcherBoundsItsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{gate: make(chan struct{})}
		b := newClient(t, 0, l.ServeHTTP).NewBatcher(t.Context(),
			BatcherConfig{MaxBytes: 10 << 10, MaxBuffered: 20 << 10})
		var added atomic.Int32
		go func() {
			for range 100 {
				if _, err := b.Add(t.Context(), Entry{Payload: make([]byte, 1018)}); err != nil {
					t.Error(err)
				}
				added.Add(1)
			}
		}()
		synctest.Wait()
		if n := added.Load(); n != 20 {
			t.Errorf("%d entries of 1 KiB fit into 20 KiB", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := b.Add(ctx, Entry{Payload: []byte("x")}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := b.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		cancel()
		close(l.gate)
		synctest.Wait()
		if n := added.Load(); n != 100 {
			t.Errorf("%d entries in the end", n)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		for _, n := range l.batches {
			if n > 10 {
				t.Errorf("a batch of %d KiB, the limit is 10", n)
			}
		}
	})
}

func TestBatcherInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{gate: make(chan struct{})}
		b := newClient(t, 0, l.ServeHTTP).NewBatcher(t.Context(), BatcherConfig{MaxRecords: 1, InFlight: 3})
		for i := range 10 {
			if _, err := b.Add(t.Context(), Entry{Payload: []byte{byte(i)}}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := l.busy.Load(); n != 3 {
			t.Errorf("%d batches under way, want 3", n)
		}
		close(l.gate)
		if err := b.Close(); err != nil || len(l.payloads) != 10 {
			t.Errorf("%d records, %v", len(l.payloads), err)
		}
	})
}

func TestBatcherFindsTheBadEntry(t *testing.T) {
	for _, n := range []int{1, 2, 3, 100} {
		for _, bad := range []int{0, n / 2, n - 1} {
			l := &ledger{bad: fmt.Sprint(bad)}
			b := newClient(t, 0, l.ServeHTTP).NewBatcher(t.Context(), BatcherConfig{})
			var futures []Future
			for i := range n {
				f, err := b.Add(t.Context(), Entry{Payload: fmt.Append(nil, i)})
				if err != nil {
					t.Fatal(err)
				}
				futures = append(futures, f)
			}
			if err := b.Flush(t.Context()); !errors.Is(err, wire.ErrTooLarge) {
				t.Errorf("flush: %v", err)
			}
			last, err := b.Add(t.Context(), Entry{Payload: []byte("after")})
			if err != nil {
				t.Error(err)
			}
			if err := b.Close(); !errors.Is(err, wire.ErrTooLarge) {
				t.Errorf("close: %v", err)
			}
			for i, f := range append(futures, last) {
				at, err := f.Wait(t.Context())
				if i == bad {
					if !errors.Is(err, wire.ErrTooLarge) {
						t.Errorf("the bad entry: %v", err)
					}
				} else if err != nil || i < n && l.at(at) != fmt.Sprint(i) {
					t.Errorf("entry %d of %d: %+v, %v", i, n, at, err)
				}
			}
			if len(l.payloads) != n {
				t.Errorf("%d records of %d good ones", len(l.payloads), n)
			}
		}
	}
}

func TestBatcherStopsWithTheCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var asked atomic.Int32
		c := newClient(t, 0, func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			<-gate
			problem(w, http.StatusUnauthorized, wire.ErrUnauthorized.Name)
		})
		b := c.NewBatcher(t.Context(), BatcherConfig{MaxRecords: 1})
		var futures []Future
		for range 5 {
			f, err := b.Add(t.Context(), Entry{Payload: []byte("x")})
			if err != nil {
				t.Fatal(err)
			}
			futures = append(futures, f)
		}
		close(gate)
		for i, f := range futures {
			if _, err := f.Wait(t.Context()); !errors.Is(err, wire.ErrUnauthorized) {
				t.Errorf("entry %d: %v", i, err)
			}
		}
		if _, err := b.Add(t.Context(), Entry{Payload: []byte("x")}); !errors.Is(err, wire.ErrUnauthorized) {
			t.Error(err)
		}
		if err := b.Close(); !errors.Is(err, wire.ErrUnauthorized) || asked.Load() != 1 {
			t.Errorf("%v after %d requests", err, asked.Load())
		}
	})
}

func TestBatcherKeepsWhatWasAppendedBeforeItStopped(t *testing.T) {
	// The batch of four is refused because of its last entry. The first half is appended, then the cluster fails.
	l := &ledger{bad: "3"}
	var asked atomic.Int32
	gate, under := make(chan struct{}), make(chan struct{})
	c := newClient(t, -1, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/records:batch" {
			l.ServeHTTP(w, r)
			return
		}
		switch asked.Add(1) {
		case 1:
			close(under)
			<-gate
			l.ServeHTTP(w, r)
		case 2, 3:
			l.ServeHTTP(w, r)
		default:
			problem(w, http.StatusServiceUnavailable, wire.ErrNoLeader.Name)
		}
	})
	b := c.NewBatcher(t.Context(), BatcherConfig{})
	var futures []Future
	add := func(payload string) {
		f, err := b.Add(t.Context(), Entry{Payload: []byte(payload)})
		if err != nil {
			t.Fatal(err)
		}
		futures = append(futures, f)
	}
	add("first")
	<-under // the first entry is in flight alone; the others wait for the next batch
	for i := range 4 {
		add(fmt.Sprint(i))
	}
	close(gate)
	if err := b.Close(); !errors.Is(err, wire.ErrNoLeader) {
		t.Errorf("close: %v", err)
	}
	for i, f := range futures {
		at, err := f.Wait(t.Context())
		if i < 3 {
			if err != nil || l.at(at) == "" {
				t.Errorf("entry %d was appended: %v", i, err)
			}
		} else if !errors.Is(err, wire.ErrNoLeader) {
			t.Errorf("entry %d: %v", i, err)
		}
	}
	if want := []string{"first", "0", "1"}; fmt.Sprint(l.payloads) != fmt.Sprint(want) {
		t.Errorf("appended %q, want %q", l.payloads, want)
	}
}

func TestBatcherEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, time.Hour, nil)
		ctx, cancel := context.WithCancel(t.Context())
		b := c.NewBatcher(ctx, BatcherConfig{})
		f, err := b.Add(t.Context(), Entry{Payload: []byte("x")})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cancel()
		if _, err := f.Wait(t.Context()); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := b.Close(); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestBatcherAddRefusesAlone(t *testing.T) {
	l := &ledger{}
	b := newClient(t, 0, l.ServeHTTP).NewBatcher(t.Context(), BatcherConfig{})
	for name, c := range map[string]struct {
		entry Entry
		want  error
	}{
		"empty": {Entry{}, wire.ErrEmptyBody},
		"key":   {Entry{Payload: []byte("x"), Key: "\xff"}, chain.ErrRecord},
		"NUL":   {Entry{Payload: []byte("x"), Key: "a\x00b"}, wire.ErrBadRequest},
		"DEL":   {Entry{Payload: []byte("x"), Type: "text/plain\x7f"}, wire.ErrBadRequest},
		"own":   {Entry{Payload: []byte("x"), IdempotencyKey: "k"}, wire.ErrBadRequest},
		"large": {Entry{Payload: make([]byte, wire.MaxBatchBytes)}, wire.ErrTooLarge},
	} {
		if _, err := b.Add(t.Context(), c.entry); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.Add(t.Context(), Entry{Payload: []byte("good")}); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil || len(l.payloads) != 1 {
		t.Errorf("%v, %q", err, l.payloads)
	}
}
