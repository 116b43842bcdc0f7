package masterapi

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// readAll reads all records of a body, some at a time, and checks the account of its memory.
func readAll(t *testing.T, body io.Reader, frames bool, limit, most int) ([]masternode.Entry, error) {
	t.Helper()
	s := newRecordSource(body, frames, limit)
	held := 0
	s.hold = func(n int) error {
		if held += n; held < 0 {
			t.Fatalf("%d bytes are held", held)
		}
		return nil
	}
	var all []masternode.Entry
	for {
		entries, err := s.Next(most)
		all = append(all, entries...)
		payloads := 0
		for i := range entries {
			payloads += len(entries[i].Payload)
		}
		s.Free(payloads)
		if held != len(s.buf) {
			t.Fatalf("%d bytes are held, the buffer has %d", held, len(s.buf))
		}
		switch {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return all, err
		case len(entries) == 0 || len(entries) > most:
			t.Fatalf("%d records, %d were asked for", len(entries), most)
		}
	}
}

// FuzzRecordSource reads a body piece by piece. The records are those of a batch with the same body. If the batch is
// refused, the stream ends with an error, after the records before the wrong one.
func FuzzRecordSource(f *testing.F) {
	f.Add([]byte(`{"text":"x","key":"k","type":"text/plain"}`+"\n\n"+`{"payload":"AA=="}`), false)
	f.Add([]byte("{\"text\":\"x\"}\n{\"text\":\"\"}\n"), false)
	f.Add(wire.AppendFrame(wire.AppendFrame(nil, "key", "type", []byte("payload")), "", "", []byte{0}), true)
	f.Add([]byte{1, 0, 0, 0, 0, 2, 'k', 'p'}, true)
	f.Fuzz(func(t *testing.T, data []byte, frames bool) {
		const limit = 1000
		parse := func() ([]masternode.Entry, error) {
			if frames {
				return parseFrames(data)
			}
			return parseNDJSON(data, len(data))
		}
		want, wantErr := parse()
		for i := range want {
			if size := len(want[i].Payload); size == 0 || size > limit && frames {
				want, wantErr = want[:i], wire.ErrBadRequest
				break
			}
		}
		for name, body := range map[string]io.Reader{
			"whole": bytes.NewReader(data), "bytes": iotest.OneByteReader(bytes.NewReader(data)),
			"with the end": iotest.DataErrReader(bytes.NewReader(data)),
		} {
			got, err := readAll(t, body, frames, limit, 3)
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("%s: %v, a batch gives %v", name, err, wantErr)
			}
			if err != nil && !errors.Is(err, wire.ErrBadRequest) && !errors.Is(err, wire.ErrTooLarge) {
				t.Errorf("%s: an error of another kind: %v", name, err)
			}
			if err == nil && len(got) != len(want) {
				t.Fatalf("%s: %d records, a batch has %d", name, len(got), len(want))
			}
			for i := range min(len(got), len(want)) {
				g, w := got[i], want[i]
				if g.Key != w.Key || g.Type != w.Type || !bytes.Equal(g.Payload, w.Payload) {
					t.Errorf("%s: record %d is %+v, in a batch %+v", name, i, g, w)
				}
			}
		}
	})
}

// TestRecordSourceLimits checks that memory is bounded by the largest record, and that a body that breaks off has no
// end.
func TestRecordSourceLimits(t *testing.T) {
	const limit = 200_000
	line := `{"text":"` + strings.Repeat("x", limit) + `"}` + "\n"
	frame := string(wire.AppendFrame(nil, "", "", bytes.Repeat([]byte("x"), limit)))
	for name, c := range map[string]struct {
		body   io.Reader
		frames bool
		count  int
		want   error
	}{
		"lines":       {strings.NewReader(strings.Repeat(line, 5)), false, 5, nil},
		"frames":      {strings.NewReader(strings.Repeat(frame, 5)), true, 5, nil},
		"large frame": {strings.NewReader(frame + "\x00\x00\xff\xff\xff\xff"), true, 1, wire.ErrTooLarge},
		"no end":      {io.MultiReader(strings.NewReader(line), boundless{}), false, 1, wire.ErrTooLarge},
		"broken off": {io.MultiReader(strings.NewReader(line+line[:9]), iotest.ErrReader(io.ErrUnexpectedEOF)), false,
			1, wire.ErrBadRequest},
		"half a line": {strings.NewReader(line + line[:9]), false, 1, wire.ErrBadRequest},
	} {
		got, err := readAll(t, c.body, c.frames, limit, 100)
		if len(got) != c.count || !errors.Is(err, c.want) {
			t.Errorf("%s: %d records, %v; want %d, %v", name, len(got), err, c.count, c.want)
		}
	}
	full := errors.New("full")
	s := newRecordSource(strings.NewReader(line+line), false, limit)
	room := 4*firstBuffer + limit // for the buffer with one line, and its payload
	s.hold = func(n int) error {
		if n > room {
			return full
		}
		room -= n
		return nil
	}
	if got, err := s.Next(10); len(got) != 1 || err != nil {
		t.Errorf("there is room for one record: %d, %v", len(got), err)
	}
	if got, err := s.Next(10); len(got) != 0 || !errors.Is(err, full) {
		t.Errorf("there is no room: %d records, %v", len(got), err)
	}
	s = newRecordSource(boundless{}, false, limit)
	s.Stop()
	if _, err := s.Next(1); err == nil {
		t.Error("a stopped source reads on")
	}
}

// boundless is a body without the end of a line.
type boundless struct{}

func (boundless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}
