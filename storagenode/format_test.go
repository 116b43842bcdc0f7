package storagenode

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// TestIndexFormat holds the bytes of the index against their drawing.
func TestIndexFormat(t *testing.T) {
	c := newTestChain(1)
	c.growTo(t, 3)
	n := mustOpen(t, Config{Dir: memDir(t)})
	c.putAll(t, n)
	want := []byte("CSIX\x01\x00\x00\x00")
	offset := uint64(segment.HeaderSize)
	for number := range c.blocks {
		b := &c.blocks[number]
		entry := binary.BigEndian.AppendUint64(nil, uint64(number))
		entry = binary.BigEndian.AppendUint64(entry, b.Header.First)
		entry = binary.BigEndian.AppendUint64(entry, offset)
		entry = binary.BigEndian.AppendUint32(entry, uint32(len(b.Bytes())))
		entry = binary.BigEndian.AppendUint32(entry, b.Header.Count)
		want = append(want, entry[8:]...)
		want = binary.BigEndian.AppendUint32(want, segment.Checksum(entry))
		offset += 8 + uint64(len(b.Bytes()))
	}
	got, err := os.ReadFile(n.indexPath())
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got  %x, %v\nwant %x", got, err, want)
	}
}

// TestSyncedFormat holds the bytes of tiles/synced against their drawing.
func TestSyncedFormat(t *testing.T) {
	c, cfg := filled(t, 2, 5)
	head := c.verifier.Head()
	want := head.AppendTo([]byte("CSTS\x01\x00\x00\x00"))
	want = binary.BigEndian.AppendUint32(want, segment.Checksum(want))
	got, err := os.ReadFile(syncedPath(cfg.Dir))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got  %x, %v\nwant %x", got, err, want)
	}
	for i := range got {
		bad := bytes.Clone(got)
		bad[i] ^= 0x40
		if h, err := parseSynced(bad); err == nil {
			t.Errorf("byte %d flipped: %+v", i, h)
		}
		if _, err := parseSynced(got[:i]); err == nil {
			t.Errorf("cut to %d bytes", i)
		}
	}
	if h, err := readSynced(syncedPath(t.TempDir())); err != nil || h.Height != 0 || h.Tree.Root() != (chain.Tree{}).Root() {
		t.Errorf("no file: %+v, %v", h, err)
	}
}
