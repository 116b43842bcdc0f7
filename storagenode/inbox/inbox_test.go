package inbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/chainstore/chainstore/internal/durable"
)

// TestFormat compares the bytes of a file with their drawing.
func TestFormat(t *testing.T) {
	want := append([]byte("CSIB\x01\x00\x00\x00"), 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 5)
	want = append(want, "block"...)
	want = binary.BigEndian.AppendUint32(want, durable.Checksum(want))
	got := Encode(7, []byte("block"))
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	for i := range got {
		bad := bytes.Clone(got)
		bad[i] ^= 2
		if b, err := Decode(bad, 7); err == nil {
			t.Errorf("byte %d flipped: %q", i, b)
		}
		if _, err := Decode(got[:i], 7); err == nil {
			t.Errorf("cut to %d bytes", i)
		}
	}
	if b, err := Decode(got, 7); err != nil || string(b) != "block" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := Decode(got, 8); !errors.Is(err, durable.ErrDamaged) {
		t.Errorf("another block's file: %v", err)
	}
}

// FuzzInbox decodes a file of arbitrary bytes.
func FuzzInbox(f *testing.F) {
	f.Add(Encode(7, []byte("block")))
	f.Fuzz(func(t *testing.T, data []byte) {
		if block, err := Decode(data, 7); err == nil && !bytes.Equal(Encode(7, block), data) {
			t.Fatalf("block %x", block)
		}
	})
}
