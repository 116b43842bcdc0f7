package snapfile

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/atrest/atresttest"
	"github.com/chainstore/chainstore/internal/durable"
)

const testID = "2-17-1700000000000"

// written writes a state in pieces, and returns the content of its file.
func written(t testing.TB, dir string, ring *atrest.Ring, state []byte, piece int) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := Create(dir, testID, ring, &file)
	for from := 0; err == nil && from < len(state); from += piece {
		var n int
		if n, err = w.Write(state[from:min(from+piece, len(state))]); err == nil && n == 0 {
			t.Fatal("nothing was written")
		}
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// read reads the state in a file.
func read(dir, id string, ring *atrest.Ring, file []byte) ([]byte, error) {
	from, _, err := Open(dir, id, ring, bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(from)
}

// stateOf returns a state in which no two chunks are equal.
func stateOf(size int) []byte {
	state := make([]byte, size)
	for i := range state {
		state[i] = byte(i*i>>7 + i)
	}
	return state
}

// TestSizes writes states whose last chunk is empty, full and in between, in pieces of several sizes.
func TestSizes(t *testing.T) {
	ring, dir := atresttest.Ring(t, 1), t.TempDir()
	for _, size := range []int{0, 1, 5000, chunkBytes - 1, chunkBytes, chunkBytes + 1, 2 * chunkBytes, 200_000} {
		for _, piece := range []int{777, chunkBytes, 1 << 20} {
			state := stateOf(size)
			file := written(t, dir, ring, state, piece)
			if got := PlainSize(int64(len(file))); got != int64(size) {
				t.Errorf("a file of %d bytes counts as a state of %d, not %d", len(file), got, size)
			}
			if size > 32 && bytes.Contains(file, state[:32]) {
				t.Error("the state is in clear")
			}
			got, err := read(dir, testID, ring, file)
			if err != nil || !bytes.Equal(got, state) {
				t.Errorf("%d bytes in pieces of %d: %d bytes, %v", size, piece, len(got), err)
			}
			from, encrypted, err := Open(dir, testID, ring, iotest.OneByteReader(bytes.NewReader(file)))
			if err != nil || !encrypted {
				t.Fatal(encrypted, err)
			}
			if got, err := io.ReadAll(iotest.OneByteReader(from)); err != nil || !bytes.Equal(got, state) {
				t.Errorf("byte by byte: %d bytes, %v", len(got), err)
			}
		}
	}
	for _, state := range []string{"", "CSS", "CSSN, a state in clear"} {
		from, encrypted, err := Open(dir, testID, nil, strings.NewReader(state))
		if err != nil || encrypted {
			t.Fatal(encrypted, err)
		}
		if got, err := io.ReadAll(from); err != nil || string(got) != state {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// TestDamage alters each byte of a small file and of its key, and cuts, moves and repeats chunks. None is read as
// another state, and none counts as one whose key is missing.
func TestDamage(t *testing.T) {
	ring, dir := atresttest.Ring(t, 1), t.TempDir()
	state := stateOf(300)
	file := written(t, dir, ring, state, 100)
	for at := range file {
		bad := bytes.Clone(file)
		bad[at] ^= 1 << (at % 8)
		got, err := read(dir, testID, ring, bad)
		switch {
		case at < 4: // it counts as a state in clear, which the state machine refuses
			if err != nil || bytes.Contains(got, state[:8]) {
				t.Errorf("byte %d: %q, %v", at, got, err)
			}
		case at == 4:
			if !errors.Is(err, durable.ErrNewerFormat) && !errors.Is(err, durable.ErrDamaged) {
				t.Errorf("byte %d: %q, %v", at, got, err)
			}
		case at < headerBytes: // readers ignore these zeros
			if err != nil || !bytes.Equal(got, state) {
				t.Errorf("byte %d: %q, %v", at, got, err)
			}
		case !errors.Is(err, durable.ErrDamaged):
			t.Errorf("byte %d: %q, %v", at, got, err)
		}
	}
	path := filepath.Join(dir, KeyFile)
	key, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for at := range key {
		bad := bytes.Clone(key)
		bad[at] ^= 1 << (at % 8)
		write(bad)
		if _, err := read(dir, testID, ring, file); errors.Is(err, atrest.ErrNoKey) || err == nil ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("byte %d of the key: %v", at, err)
		}
		if err := CheckKey(dir, ring); err != nil {
			t.Errorf("byte %d of the key: %v", at, err)
		}
	}
	write(key)
	if _, err := read(dir, "2-17-1700000000001", ring, file); !errors.Is(err, durable.ErrDamaged) {
		t.Errorf("the key of another snapshot: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := read(dir, testID, ring, file); !errors.Is(err, durable.ErrDamaged) ||
		!strings.Contains(err.Error(), path) {
		t.Errorf("without the file of its key: %v", err)
	}

	file = written(t, dir, ring, stateOf(3*chunkBytes+10), 1<<20)
	head, chunks := file[:headerBytes], file[headerBytes:]
	chunk := func(i int) []byte { return chunks[i*sealedSize : min((i+1)*sealedSize, len(chunks))] }
	for name, bad := range map[string][]byte{
		"no chunk":         head,
		"the last one cut": bytes.Join([][]byte{head, chunk(0), chunk(1), chunk(2)}, nil),
		"one left out":     bytes.Join([][]byte{head, chunk(0), chunk(2), chunk(3)}, nil),
		"one moved":        bytes.Join([][]byte{head, chunk(1), chunk(0), chunk(2), chunk(3)}, nil),
		"one repeated":     bytes.Join([][]byte{head, chunk(0), chunk(0), chunk(1), chunk(2), chunk(3)}, nil),
		"one more":         bytes.Join([][]byte{file, chunk(3)}, nil),
		"cut in a chunk":   file[:len(file)-1],
	} {
		if got, err := read(dir, testID, ring, bad); !errors.Is(err, durable.ErrDamaged) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// TestKeys checks that a missing key is named and is no damage, and that a snapshot gets another key of the operator.
func TestKeys(t *testing.T) {
	first, dir := atresttest.Ring(t, 1), t.TempDir()
	state := stateOf(100)
	file := written(t, dir, first, state, 100)
	if err := os.WriteFile(filepath.Join(dir, "state.bin"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, KeyFile)
	for _, ring := range []*atrest.Ring{nil, atresttest.Ring(t, 2)} {
		_, err := read(dir, testID, ring, file)
		for _, err := range []error{err, CheckKey(dir, ring)} {
			if !errors.Is(err, atrest.ErrNoKey) || errors.Is(err, durable.ErrDamaged) ||
				!strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), first.Current().String()) {
				t.Errorf("without its key: %v", err)
			}
		}
	}
	both := atresttest.Ring(t, 2, 1)
	for i, want := range []bool{true, false} {
		if changed, err := Rewrap(dir, testID, both); changed != want || err != nil {
			t.Errorf("round %d: %v, %v", i, changed, err)
		}
	}
	if id, encrypted, err := KeyOf(dir, "state.bin"); id != both.Current() || !encrypted || err != nil {
		t.Errorf("%v, %v, %v", id, encrypted, err)
	}
	if got, err := read(dir, testID, atresttest.Ring(t, 2), file); err != nil || !bytes.Equal(got, state) {
		t.Errorf("%q, %v", got, err)
	}
	plain := t.TempDir()
	if err := os.WriteFile(filepath.Join(plain, "state.bin"), []byte("CS"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, encrypted, err := KeyOf(plain, "state.bin"); encrypted || err != nil {
		t.Errorf("a state in clear: %v, %v", encrypted, err)
	}
	if changed, err := Rewrap(plain, testID, both); changed || err != nil {
		t.Errorf("a state in clear: %v, %v", changed, err)
	}
	if err := CheckKey(plain, nil); err != nil {
		t.Error(err)
	}
}

// FuzzOpen reads arbitrary files under one key. Only what was written is read.
func FuzzOpen(f *testing.F) {
	ring, dir := atresttest.Ring(f, 1), f.TempDir()
	state := stateOf(300)
	f.Add(written(f, dir, ring, state, 300))
	f.Fuzz(func(t *testing.T, file []byte) {
		from, encrypted, err := Open(dir, testID, ring, bytes.NewReader(file))
		if err != nil || !encrypted {
			return
		}
		if got, err := io.ReadAll(from); err == nil && !bytes.Equal(got, state) {
			t.Fatalf("%q", got)
		}
	})
}
