package storagenode

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// TestIndexFormat compares the bytes of the index with their drawing.
func TestIndexFormat(t *testing.T) {
	c := newTestChain(1)
	c.growTo(t, 3)
	n := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t)})
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
		want = binary.BigEndian.AppendUint32(want, durable.Checksum(entry))
		offset += 8 + uint64(len(b.Bytes()))
	}
	got, err := os.ReadFile(n.dir.Index())
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got  %x, %v\nwant %x", got, err, want)
	}
}
