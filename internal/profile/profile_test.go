package profile

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// TestTake takes a profile of each kind. The functions of this test are in it.
func TestTake(t *testing.T) {
	ends := make(chan struct{})
	var work sync.WaitGroup
	var lock sync.Mutex
	for range 4 {
		work.Go(func() {
			for {
				select {
				case <-ends:
					return
				default:
				}
				lock.Lock()
				spin()
				lock.Unlock()
			}
		})
	}
	for _, kind := range wire.ProfileKinds() {
		q := wire.ProfileRequest{Kind: kind}
		if wire.ProfileTakesTime(kind) {
			q.Seconds = 1
		}
		// Contention is sampled, and on a busy machine a second may pass without a sample.
		for deadline := time.Now().Add(time.Minute); ; {
			text := taken(t, q)
			if bytes.Contains(text, []byte("internal/profile.TestTake")) || kind == wire.ProfileHeap || t.Failed() {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("%s: %d bytes without this test", kind, len(text))
				break
			}
		}
	}
	close(ends)
	work.Wait()
	if n := runtime.SetMutexProfileFraction(-1); n != 0 {
		t.Errorf("contention is still sampled, one in %d", n)
	}
}

// taken takes a profile and returns its content.
func taken(t *testing.T, q wire.ProfileRequest) []byte {
	t.Helper()
	began := time.Now()
	data, err := Take(t.Context(), q)
	if err != nil {
		t.Errorf("%s: %v", q.Kind, err)
		return nil
	}
	if took := time.Since(began); took < time.Duration(q.Seconds)*time.Second {
		t.Errorf("%s took %v, and was to take %d s", q.Kind, took, q.Seconds)
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Errorf("%s: %v", q.Kind, err)
		return nil
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Errorf("%s: %v", q.Kind, err)
	}
	return text
}

//go:noinline
func spin() {
	for range 100_000 {
		runtime.KeepAlive(nil)
	}
}

// TestOneAtATime checks that a second profile is refused while one is being taken, and that the end of its context ends
// a profile, after which another can be taken.
func TestOneAtATime(t *testing.T) {
	gone := errors.New("gone")
	for _, kind := range []string{wire.ProfileCPU, wire.ProfileMutex, wire.ProfileBlock} {
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := Take(ctx, wire.ProfileRequest{Kind: kind, Seconds: wire.MaxProfileSeconds})
			ended <- err
		}()
		for len(running) == 0 {
			runtime.Gosched()
		}
		for _, q := range []wire.ProfileRequest{{Kind: wire.ProfileCPU, Seconds: 1}, {Kind: wire.ProfileHeap}} {
			if _, err := Take(t.Context(), q); !errors.Is(err, wire.ErrProfiling) {
				t.Errorf("%s during %s: %v", q.Kind, kind, err)
			}
		}
		cancel(gone)
		if err := <-ended; !errors.Is(err, gone) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if _, err := Take(t.Context(), wire.ProfileRequest{Kind: wire.ProfileHeap}); err != nil {
		t.Error(err)
	}
}

// TestRefusals checks the bounds of a request.
func TestRefusals(t *testing.T) {
	for _, q := range []wire.ProfileRequest{
		{}, {Kind: "everything"}, {Kind: wire.ProfileCPU}, {Kind: wire.ProfileCPU, Seconds: -1},
		{Kind: wire.ProfileCPU, Seconds: wire.MaxProfileSeconds + 1}, {Kind: wire.ProfileHeap, Seconds: 1},
	} {
		if _, err := Take(t.Context(), q); !errors.Is(err, wire.ErrBadRequest) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}
