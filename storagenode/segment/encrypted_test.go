package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/atrest/atresttest"
	"github.com/chainstore/chainstore/internal/durable"
)

// Keys of tests.
const (
	oneKey   = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
	otherKey = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"
)

// writeEncrypted writes an encrypted segment of block 7, and returns its path and the offsets of its frames.
func writeEncrypted(t testing.TB, keys *atrest.Ring, blocks ...[]byte) (path string, offsets []int64) {
	t.Helper()
	dir := t.TempDir()
	offsets = writeWith(t, keys, dir, 7, blocks...)
	return filepath.Join(dir, Name(7)), offsets
}

// TestEncryptedFormat decrypts a segment with the drawing in docs/formats.md.
func TestEncryptedFormat(t *testing.T) {
	keys := atresttest.RingOf(t, oneKey)
	block := make([]byte, 2*ChunkBytes+100)
	for i := range block {
		block[i] = byte(i)
	}
	path, offsets := writeEncrypted(t, keys, block)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if offsets[0] != 8192 || len(data) != 8192+8+len(block)+3*28 {
		t.Fatalf("the frame is at %d, the file has %d bytes", offsets[0], len(data))
	}
	page := data[:4096]
	name := "CSSG\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07"
	sum := binary.BigEndian.AppendUint32(nil, durable.Checksum(page[:4092]))
	if string(page[:16]) != name || !bytes.Equal(page[4092:], sum) || !bytes.Equal(data[4096:8192], page) ||
		strings.Trim(string(page[104:4092]), "\x00") != "" {
		t.Errorf("header %x", page[:120])
	}
	key, err := keys.Unwrap(page[16:104], page[:16])
	if err != nil {
		t.Fatal(err)
	}
	frame := data[8192:]
	if binary.BigEndian.Uint32(frame) != uint32(len(frame)-8) ||
		binary.BigEndian.Uint32(frame[4:]) != durable.Checksum(frame[8:]) {
		t.Errorf("frame %x", frame[:8])
	}
	var got []byte
	for chunk, rest := uint32(0), frame[8:]; len(rest) > 0; chunk++ {
		n := min(len(rest), 4096+28)
		place := binary.BigEndian.AppendUint64(nil, 8192)
		place = binary.BigEndian.AppendUint32(place, uint32(len(block)))
		plain, err := key.Open(rest[:n], binary.BigEndian.AppendUint32(place, chunk))
		if err != nil {
			t.Fatalf("chunk %d: %v", chunk, err)
		}
		got, rest = append(got, plain...), rest[n:]
	}
	if !bytes.Equal(got, block) {
		t.Error("another block")
	}
}

// TestReadPart reads parts of blocks of many sizes, in clear and encrypted.
func TestReadPart(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, keys := range []*atrest.Ring{nil, atresttest.RingOf(t, oneKey)} {
		var blocks [][]byte
		for _, size := range []int{
			minBlock, ChunkBytes - 1, ChunkBytes, ChunkBytes + 1, 3*ChunkBytes + 7, 4 * ChunkBytes,
		} {
			block := make([]byte, size)
			for i := range block {
				block[i] = byte(rng.Uint32())
			}
			blocks = append(blocks, block)
		}
		path, offsets := writeEncrypted(t, keys, blocks...)
		f, err := WithKeys(OpenFile, keys)(path, os.O_RDONLY)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil || IsEncrypted(f) != keys.Has() || CheckHeader(f, 7) != nil || Start(f) != offsets[0] {
			t.Fatalf("encrypted %v, start %d, %v, %v", IsEncrypted(f), Start(f), CheckHeader(f, 7), err)
		}
		frames := NewFrames(f, Start(f), info.Size())
		for i, block := range blocks {
			frame, err := frames.Next()
			if err != nil || frame.Err != nil || !bytes.Equal(frame.Block, block) || frame.Offset != offsets[i] {
				t.Fatalf("block %d: %v, %v", i, err, frame.Err)
			}
			if n := BlockLength(f, frame.Length); n != uint32(len(block)) {
				t.Fatalf("block %d has %d bytes, not %d", i, n, len(block))
			}
			for range 300 {
				from := rng.IntN(len(block) + 1)
				part := make([]byte, rng.IntN(len(block)-from+1))
				if err := ReadPart(f, part, offsets[i], frame.Length, int64(from)); err != nil ||
					!bytes.Equal(part, block[from:from+len(part)]) {
					t.Fatalf("block %d, %d bytes from %d: %v", i, len(part), from, err)
				}
			}
			if keys.Has() {
				for _, at := range []int64{-1, int64(len(block)), int64(len(block)) + ChunkBytes} {
					if err := ReadPart(f, make([]byte, 1), offsets[i], frame.Length, at); !errors.Is(err,
						durable.ErrDamaged) {
						t.Fatalf("byte %d of %d: %v", at, len(block), err)
					}
				}
			}
		}
		if _, err := frames.Next(); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestBlockLength compares the length of a block with that of its encrypted content, both ways.
func TestBlockLength(t *testing.T) {
	keys := atresttest.RingOf(t, oneKey)
	key, _ := keys.NewKey(nil)
	f := &encrypted{key: key}
	lengths := map[uint32]uint32{}
	for size := 1; size < 4*ChunkBytes; size++ {
		lengths[uint32(storedLength(key, size))] = uint32(size)
	}
	for content := range uint32(3 * ChunkBytes) {
		if got := BlockLength(f, content); got != lengths[content] {
			t.Fatalf("content of %d bytes: a block of %d, want %d", content, got, lengths[content])
		}
	}
}

// TestHeaders damages the copies of a header, and opens the segment with the right key, another one and none.
func TestHeaders(t *testing.T) {
	keys, both := atresttest.RingOf(t, oneKey), atresttest.RingOf(t, otherKey, oneKey)
	block := bytes.Repeat([]byte("block"), 100)
	flip := func(at ...int) func([]byte) []byte {
		return func(data []byte) []byte {
			for _, i := range at {
				data[i] ^= 1
			}
			return data
		}
	}
	for name, row := range map[string]struct {
		damage            func([]byte) []byte
		encrypted, header bool // it is known to be encrypted, and its header is good
	}{
		"none":                    {flip(), true, true},
		"the first magic":         {flip(0), true, false},
		"the first version":       {flip(4), true, false},
		"the first number":        {flip(15), true, false},
		"the first key id":        {flip(16), true, false},
		"the first data key":      {flip(60), true, false},
		"zeros":                   {flip(2000), true, false},
		"the first sum":           {flip(4095), true, false},
		"the second magic":        {flip(4096), true, false},
		"the second version":      {flip(4100), true, false},
		"the second key id":       {flip(4096 + 16), true, false},
		"the second sum":          {flip(8191), true, false},
		"both data keys":          {flip(60, 4096+60), false, false},
		"both magics":             {flip(0, 4096), false, false},
		"both key ids":            {flip(16, 4096+16), false, false},
		"cut behind the first":    {func(d []byte) []byte { return d[:4096] }, true, false},
		"cut in the first":        {func(d []byte) []byte { return d[:4000] }, false, false},
		"all of the first zeroed": {func(d []byte) []byte { clear(d[:4096]); return d }, true, false},
	} {
		path, _ := writeEncrypted(t, keys, block)
		data, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, row.damage(data), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, with := range []*atrest.Ring{keys, both} {
			f, err := WithKeys(OpenFile, with)(path, os.O_RDONLY)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			headerErr := CheckHeader(f, 7)
			if IsEncrypted(f) != row.encrypted || (headerErr == nil) != row.header ||
				headerErr != nil && !errors.Is(headerErr, durable.ErrDamaged) && name != "both magics" {
				t.Errorf("%s: encrypted %v, header %v", name, IsEncrypted(f), headerErr)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
		for _, without := range []*atrest.Ring{nil, atresttest.RingOf(t, otherKey)} {
			f, err := WithKeys(OpenFile, without)(path, os.O_RDONLY)
			if row.encrypted != errors.Is(err, atrest.ErrNoKey) || !row.encrypted && err != nil {
				t.Errorf("%s, without the key: %v", name, err)
			}
			if err == nil {
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			}
		}
		if !row.encrypted || name == "cut behind the first" {
			continue
		}
		if err := RestoreHeader(WithKeys(OpenFile, keys), path, 7); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		f, err := WithKeys(OpenFile, both)(path, os.O_RDWR)
		if err != nil || CheckHeader(f, 7) != nil {
			t.Fatalf("%s, restored: %v", name, err)
		}
		for _, want := range []bool{true, false} { // the second time nothing is to be done
			if changed, err := Rewrap(f, both); changed != want || err != nil {
				t.Errorf("%s: Rewrap: %v, %v", name, changed, err)
			}
		}
		if ids, _ := KeyIDs(f); len(ids) != 1 || ids[0] != both.Current() {
			t.Errorf("%s: keys %v", name, ids)
		}
		frame, err := ReadFrame(nil, f, 8192, uint32(storedLength(keyOf(f), len(block))))
		if err != nil || !bytes.Equal(frame[FrameHeader:], block) {
			t.Errorf("%s: %v", name, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// memFile is a File in memory that is only read.
type memFile struct {
	File
	*bytes.Reader
}

func (m memFile) ReadAt(p []byte, at int64) (int, error) { return m.Reader.ReadAt(p, at) }

// FuzzEncrypted reads arbitrary bytes as an encrypted segment. Only the block that was encrypted may come out, and only
// where it was.
func FuzzEncrypted(f *testing.F) {
	keys := atresttest.RingOf(f, oneKey)
	block := bytes.Repeat([]byte("block"), 2000)
	path, _ := writeEncrypted(f, keys, block)
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, int64(8192))
	f.Add(data[:len(data)-1], int64(8192))
	f.Add(data[:5000], int64(0))
	f.Add([]byte("CSSG\x02"), int64(20))
	opened, err := WithKeys(OpenFile, keys)(path, os.O_RDONLY)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = opened.Close() }) // only read
	f.Fuzz(func(t *testing.T, data []byte, at int64) {
		at = max(0, min(at, int64(len(data))))
		file := &encrypted{File: memFile{Reader: bytes.NewReader(data)}, key: keyOf(opened)}
		_ = CheckHeader(file, 7)
		_ = IsUnfinished(file, int64(len(data)))
		_, _ = KeyIDs(file)
		_, _ = unlock(file.File, keys)
		for frames := NewFrames(file, at, int64(len(data))); ; {
			frame, err := frames.Next()
			if err != nil {
				return
			}
			if frame.Err == nil && (frame.Offset != 8192 || !bytes.Equal(frame.Block, block)) {
				t.Fatalf("a block of %d bytes at %d", len(frame.Block), frame.Offset)
			}
			part := make([]byte, 10)
			if ReadPart(file, part, frame.Offset, frame.Length, 4090) == nil && !bytes.Equal(part, block[4090:4100]) {
				t.Fatalf("part %q at %d", part, frame.Offset)
			}
		}
	})
}
