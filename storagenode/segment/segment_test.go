package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
)

// write writes a segment in clear. Its blocks may be arbitrary bytes.
func write(t testing.TB, dir string, first uint64, blocks ...[]byte) (offsets []int64) {
	t.Helper()
	return writeWith(t, nil, dir, first, blocks...)
}

// writeWith writes a segment, encrypted with keys unless they are nil.
func writeWith(t testing.TB, keys *atrest.Ring, dir string, first uint64, blocks ...[]byte) (offsets []int64) {
	t.Helper()
	w, err := Create(OpenFile, keys, dir, first)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		at, err := w.Write(b)
		if err != nil {
			t.Fatal(err)
		}
		offsets = append(offsets, at)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return offsets
}

func blockOf(fill byte, size int) []byte { return bytes.Repeat([]byte{fill}, minBlock+size) }

// TestFormat compares the bytes with the drawing in doc.go.
func TestFormat(t *testing.T) {
	dir := t.TempDir()
	a, b := blockOf(0xaa, 0), blockOf(0xbb, 9)
	offsets := write(t, dir, 0x0102, a, b)
	got, err := os.ReadFile(filepath.Join(dir, "00000000000000000258.seg"))
	if err != nil {
		t.Fatal(err)
	}
	want := []byte("CSSG\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x02")
	want = binary.BigEndian.AppendUint32(want, durable.Checksum(want))
	for _, block := range [][]byte{a, b} {
		want = binary.BigEndian.AppendUint32(want, uint32(len(block)))
		want = binary.BigEndian.AppendUint32(want, durable.Checksum(block))
		want = append(want, block...)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	if !slices.Equal(offsets, []int64{20, 20 + 8 + int64(len(a))}) {
		t.Errorf("offsets %v", offsets)
	}
	if durable.Checksum([]byte("123456789")) != 0xe3069283 { // RFC 3720, B.4; the check value of CRC-32C
		t.Error("not CRC-32C")
	}
}

func TestList(t *testing.T) {
	dir := t.TempDir()
	if list, err := List(filepath.Join(dir, "none")); err != nil || list != nil {
		t.Errorf("no folder: %v, %v", list, err)
	}
	for _, first := range []uint64{1 << 63, 7, 0} {
		write(t, dir, first)
	}
	for _, other := range []string{"7.seg", "00000000000000000008.tmp", "x0000000000000000008.seg",
		"99999999999999999999.seg"} {
		if err := os.WriteFile(filepath.Join(dir, other), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := List(dir); err != nil || !slices.Equal(list, []uint64{0, 7, 1 << 63}) {
		t.Errorf("%v, %v", list, err)
	}
}

func TestCheckHeader(t *testing.T) {
	good := appendHeader(nil, 42)
	if err := CheckHeader(bytes.NewReader(good), 42); err != nil {
		t.Error(err)
	}
	if err := CheckHeader(bytes.NewReader(good), 43); !errors.Is(err, durable.ErrDamaged) {
		t.Errorf("another name: %v", err)
	}
	for n := range good {
		if err := CheckHeader(bytes.NewReader(good[:n]), 42); !errors.Is(err, durable.ErrDamaged) {
			t.Errorf("%d bytes: %v", n, err)
		}
		bad := slices.Clone(good)
		bad[n] ^= 0x80
		want := durable.ErrDamaged
		if n == 4 {
			want = durable.ErrNewerFormat
		}
		if err := CheckHeader(bytes.NewReader(bad), 42); !errors.Is(err, want) {
			t.Errorf("byte %d: %v", n, err)
		}
	}
}

func TestCreateAndContinue(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, 5, blockOf(1, 0))
	if _, err := Create(OpenFile, nil, dir, 5); !errors.Is(err, os.ErrExist) {
		t.Errorf("Create of a file that is there: %v", err)
	}
	size := int64(HeaderSize + FrameHeader + minBlock)
	if _, err := Continue(OpenFile, dir, 5, size+1); err == nil {
		t.Error("Continue behind the end")
	}
	w, err := Continue(OpenFile, dir, 5, size)
	if err != nil {
		t.Fatal(err)
	}
	at, err := w.Write(blockOf(2, 3))
	if err != nil || at != size || w.Size() != size+FrameHeader+minBlock+3 {
		t.Errorf("offset %d, size %d, %v", at, w.Size(), err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	f, err := OpenFile(filepath.Join(dir, Name(5)), os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	got, err := ReadFrame(nil, f, at, minBlock+3)
	if err != nil || !bytes.Equal(got[FrameHeader:], blockOf(2, 3)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	for name, err := range map[string]error{
		"another length":    second(ReadFrame(nil, f, at, minBlock+2)),
		"behind the end":    second(ReadFrame(nil, f, at+1, minBlock+3)),
		"before the start":  second(ReadFrame(nil, f, -100, minBlock)),
		"another frame's":   second(ReadFrame(nil, f, HeaderSize, minBlock+3)),
		"far behind it all": second(ReadFrame(nil, f, 1<<40, minBlock)),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func second(_ []byte, err error) error { return err }

func TestFramesOverDamage(t *testing.T) {
	dir := t.TempDir()
	offsets := write(t, dir, 0, blockOf(1, 5), blockOf(2, 6), blockOf(3, 7))
	data, err := os.ReadFile(filepath.Join(dir, Name(0)))
	if err != nil {
		t.Fatal(err)
	}
	data[offsets[1]+20]++
	frames := NewFrames(bytes.NewReader(data), HeaderSize, int64(len(data)))
	for i, offset := range offsets {
		f, err := frames.Next()
		if err != nil || f.Offset != offset || f.Length != uint32(minBlock+5+i) {
			t.Fatalf("frame %d: %+v, %v", i, f, err)
		}
		if damaged := errors.Is(f.Err, durable.ErrDamaged); damaged != (i == 1) || damaged != (f.Block == nil) {
			t.Errorf("frame %d: %v", i, f.Err)
		}
	}
	if _, err := frames.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

// FuzzFrames reads the frames of arbitrary bytes: they follow each other, and each good one has its checksum.
func FuzzFrames(f *testing.F) {
	dir := f.TempDir()
	write(f, dir, 0, blockOf(1, 5), blockOf(2, 6))
	data, err := os.ReadFile(filepath.Join(dir, Name(0)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:len(data)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		frames := NewFrames(bytes.NewReader(data), 0, int64(len(data)))
		for at := int64(0); ; {
			frame, err := frames.Next()
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, durable.ErrDamaged) || frames.Offset() != at {
					t.Fatalf("at %d: %v", at, err)
				}
				return
			}
			got, readErr := ReadFrame(nil, bytes.NewReader(data), at, frame.Length)
			if frame.Offset != at || (frame.Err == nil) != (readErr == nil) || frame.Err == nil &&
				!bytes.Equal(got, frame.Block) {
				t.Fatalf("frame at %d: %v, read alone %v", at, frame.Err, readErr)
			}
			at += FrameHeader + int64(frame.Length)
		}
	})
}
