package inbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/atrest/atresttest"
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

const (
	oneKey   = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
	otherKey = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"
)

// TestEncrypted keeps a block in an encrypted inbox: each flipped bit is damage, and a missing key is not.
func TestEncrypted(t *testing.T) {
	dir := t.TempDir()
	x, err := Open(dir, atresttest.RingOf(t, oneKey))
	if err != nil {
		t.Fatal(err)
	}
	block := []byte("a block that must not be on the disk in clear")
	if err := x.Put(7, block, durable.WriteFile); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(x.Path(7))
	if err != nil || bytes.Contains(good, block[:10]) || len(good) != encryptedOverhead+len(block) {
		t.Fatalf("%d bytes, %v", len(good), err)
	}
	if got, err := x.Read(7); err != nil || !bytes.Equal(got, block) {
		t.Errorf("%q, %v", got, err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if err := os.WriteFile(x.Path(7), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := x.Read(7); !errors.Is(err, durable.ErrDamaged) && !errors.Is(err, durable.ErrNewerFormat) {
			t.Errorf("byte %d: %v", i, err)
		}
		if err := CheckKeys(dir, x.keys); err != nil {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	if err := os.WriteFile(x.Path(7), good, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, keys := range []*atrest.Ring{nil, atresttest.RingOf(t, otherKey)} {
		if err := CheckKeys(dir, keys); !errors.Is(err, atrest.ErrNoKey) || !strings.Contains(err.Error(), x.Path(7)) {
			t.Errorf("CheckKeys: %v", err)
		}
		y, err := Open(dir, keys)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := y.Read(7); !errors.Is(err, atrest.ErrNoKey) || !durable.CannotRead(err) {
			t.Errorf("Read: %v", err)
		}
	}
	both := atresttest.RingOf(t, otherKey, oneKey)
	for range 2 {
		if err := Rewrap(x.Path(7), both, durable.WriteFile); err != nil {
			t.Fatal(err)
		}
	}
	y, err := Open(dir, atresttest.RingOf(t, otherKey))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := y.Read(7); err != nil || !bytes.Equal(got, block) || !y.IsCurrent(7) {
		t.Errorf("under another key: %q, %v", got, err)
	}
	if err := os.WriteFile(x.Path(7), Encode(7, block), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := y.Read(7); err != nil || !bytes.Equal(got, block) || y.IsCurrent(7) {
		t.Errorf("in clear: %q, %v", got, err)
	}
}

// FuzzEncrypted reads arbitrary bytes as an encrypted file.
func FuzzEncrypted(f *testing.F) {
	x := &Inbox{keys: atresttest.RingOf(f, oneKey)}
	data := x.encode(7, []byte("block"))
	f.Add(data)
	f.Add(data[:nameSize+3])
	f.Fuzz(func(t *testing.T, data []byte) {
		if block, err := x.decrypt(data, 7); err == nil && string(block) != "block" {
			t.Fatalf("block %x", block)
		}
	})
}
