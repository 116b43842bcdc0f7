package records

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
)

// TestRunFormat compares the bytes of a run with their drawing in docs/formats.md.
func TestRunFormat(t *testing.T) {
	b := newBlocks(11)
	b.grow(t, 500, 1, 1) // more than a chunk of hashes
	b.grow(t, 3, 1, 1)
	x := mustOpen(t, t.TempDir())
	b.add(t, x, 0, 2)
	got, err := os.ReadFile(filepath.Join(x.dir, "00000000000000000000-00000000000000000002.run"))
	if err != nil {
		t.Fatal(err)
	}

	entry := func(tag []byte, value uint32) []byte {
		return binary.BigEndian.AppendUint32(bytes.Clone(tag[:8]), value)
	}
	var lists [3][][]byte
	keyHash := sha256.Sum256([]byte("\x00\x00\x00\x01key-1"))
	for _, r := range b.all {
		if r.key != "" {
			lists[0] = append(lists[0], entry(keyHash[:], uint32(r.index)))
		}
	}
	lists[1] = [][]byte{entry([]byte{0, 0, 0, 1, 0, 0, 0, 0}, 500), entry([]byte{0, 0, 0, 1, 0, 0, 1, 0xf5}, 3)}
	for i := range b.list {
		h := &b.list[i].Header
		for offset, leaf := range b.leaves[i] {
			lists[2] = append(lists[2], entry(leaf[:], uint32(h.First)+uint32(offset)))
		}
		for _, hash := range []chain.Hash{h.Hash(), h.SealHash()} {
			lists[2] = append(lists[2], entry(hash[:], uint32(h.Seal())))
		}
	}
	want := []byte("CSRX\x01\x00\x00\x00")
	for _, n := range []uint64{0, 2, 0, 505} {
		want = binary.BigEndian.AppendUint64(want, n)
	}
	last := b.list[1].Header.Hash()
	want = append(want, last[:]...)
	for _, list := range lists {
		want = binary.BigEndian.AppendUint32(want, uint32(len(list)))
	}
	want = binary.BigEndian.AppendUint32(want, durable.Checksum(want))
	for _, list := range lists {
		slices.SortFunc(list, bytes.Compare)
		for chunk := range slices.Chunk(list, 341) {
			data := bytes.Join(chunk, nil)
			want = binary.BigEndian.AppendUint32(append(want, data...), durable.Checksum(data))
		}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %d are due; the same up to byte %d", len(got), len(want), commonPrefix(got, want))
	}
}

func commonPrefix(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
