package storagenode

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

// TestTransferFormat compares the bytes of a stream with their drawing.
func TestTransferFormat(t *testing.T) {
	c := newTestChain(70)
	c.growTo(t, 4)
	n := c.source(t)
	got := streamOf(t, n, c.pieces(chain.Range{From: 2, To: 4}))
	want := append([]byte("CSTR\x01\x00\x00\x00"), 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2)
	var tree chain.Tree
	for i := range 2 {
		tree = tree.Append(c.blocks[i].Leaves(nil)...).Append(c.blocks[i].Header.SealHash())
	}
	want = binary.BigEndian.AppendUint64(want, c.sizes[1])
	for _, h := range tree.Nodes() {
		want = append(want, h[:]...)
	}
	for i := 2; i < 4; i++ {
		want = c.blocks[i].Header.AppendTo(want)
	}
	for i := 2; i < 4; i++ {
		want = binary.BigEndian.AppendUint32(want, uint32(len(c.blocks[i].Bytes())))
		want = append(want, c.blocks[i].Bytes()...)
	}
	want = append(want, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0)
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}
