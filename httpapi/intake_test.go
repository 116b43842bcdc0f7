package httpapi

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/wire"
)

// blockedBody gives its first bytes and then waits until it is closed.
type blockedBody struct {
	first  io.Reader
	closed chan struct{}
}

func (b *blockedBody) Read(p []byte) (int, error) {
	if n, err := b.first.Read(p); err == nil {
		return n, nil
	}
	<-b.closed
	return 0, io.ErrUnexpectedEOF
}

// TestBodyMemoryFollowsTheBytes checks that no memory is allocated on the word of a Content-Length.
func TestBodyMemoryFollowsTheBytes(t *testing.T) {
	const requests, length = 50, 6 << 20
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	closed, ended, reading := make(chan struct{}), make(chan error), make(chan struct{})
	for range requests {
		b := &blockedBody{first: strings.NewReader("{"), closed: closed}
		go func() {
			r := httptest.NewRequest(http.MethodPost, "/", io.NopCloser(b))
			r.ContentLength = length
			reading <- struct{}{}
			_, err := ReadBody(r, length)
			ended <- err
		}()
	}
	for range requests {
		<-reading
	}
	runtime.ReadMemStats(&during)
	close(closed)
	for range requests {
		if err := <-ended; !errors.Is(err, wire.ErrBadRequest) {
			t.Error(err)
		}
	}
	runtime.ReadMemStats(&during)
	if grown := during.TotalAlloc - before.TotalAlloc; grown > requests*length/20 {
		t.Errorf("%d bodies of one byte each took %d bytes", requests, grown)
	}
}

// TestIntakeBoundsBodies checks the bounds of all bodies together and of those of one owner, and that the bytes are
// free again when the request has been answered.
func TestIntakeBoundsBodies(t *testing.T) {
	const size = 64 << 10
	in := NewIntake(4*size, 2*size)
	read := func(owner string) (end func(), err error) {
		r, end := in.Track(httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Repeat("x", size-1))))
		if owner != "" {
			CountAs(r, in, owner)
		}
		body, err := ReadBody(r, 1<<20)
		if err == nil && len(body) != size-1 {
			t.Errorf("%d bytes of %d", len(body), size-1)
		}
		return end, err
	}
	var ends []func()
	for _, step := range []struct {
		owner string
		want  error
	}{
		{"a", nil}, {"a", nil}, {"a", wire.ErrBacklog}, // its share is taken
		{"b", nil}, {"", nil},
		{"", wire.ErrBacklog}, {"c", wire.ErrBacklog}, // all is taken
	} {
		end, err := read(step.owner)
		if !errors.Is(err, step.want) {
			t.Errorf("owner %q: %v", step.owner, err)
		}
		if err != nil {
			end() // it holds nothing, or less
			continue
		}
		ends = append(ends, end)
	}
	if in.Held() != 4*size {
		t.Errorf("%d bytes are held", in.Held())
	}
	for _, end := range ends {
		end()
	}
	if in.Held() != 0 || len(in.byOwner) != 0 {
		t.Errorf("%d bytes are held in the end, by %v", in.Held(), in.byOwner)
	}
	if end, err := read("a"); err != nil {
		t.Error(err)
	} else {
		end()
	}
}
