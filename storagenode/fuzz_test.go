package storagenode

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// FuzzSegment opens a node on a segment of arbitrary bytes, with and without a valid index and tiles. It must not
// panic, and the blocks that it has must be a chain: each block extends the previous one, and each record is proven by
// its header.
func FuzzSegment(f *testing.F) {
	c := newTestChain(1)
	c.growTo(f, 6)
	cfg := Config{AtRest: testKeys, Dir: memDir(f)}
	n := mustOpen(f, cfg)
	c.putAll(f, n)
	mustClose(f, n)
	name := filepath.Join("segments", segment.Name(0))
	good, err := os.ReadFile(filepath.Join(cfg.Dir, name))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, true)
	f.Add(good[:len(good)-7], true)
	f.Add(good[:segment.HeaderSize], false)
	f.Add([]byte{}, false)
	for _, at := range []int{3, 15, 22, 26, 40, 60, 150, len(good) / 2, len(good) - 3} {
		data := bytes.Clone(good)
		data[at] ^= 4
		f.Add(data, at%2 == 0)
	}
	foreign := newTestChain(2)
	foreign.growTo(f, 3)
	f.Add(append(bytes.Clone(good), good[segment.HeaderSize:]...), true)
	f.Fuzz(func(t *testing.T, data []byte, known bool) {
		dir := memDir(t)
		if known {
			dir = copyDir(t, cfg.Dir)
		} else if err := os.Mkdir(filepath.Join(dir, "segments"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		before, verifyErr := offline(dir).Verify(context.Background(), nil)
		n, err := Open(Config{AtRest: testKeys, Dir: dir})
		if err != nil {
			return // reported, and nothing is served
		}
		defer func() { _ = n.Close() }()
		height := n.Status().Height
		if verifyErr == nil && height < before.Height {
			t.Fatalf("height %d, the verifier found %d", height, before.Height)
		}
		good := checkServed(t, n, height)
		if known || height == 0 {
			return
		}
		if !good {
			t.Fatal("a node that computed everything from its blocks has a damaged one below its height")
		}
	})
}

// checkServed reads everything and verifies the results. good reports that everything could be read.
func checkServed(t *testing.T, n *Node, height uint64) (good bool) {
	t.Helper()
	good = true
	v := chain.NewVerifier(chain.Head{})
	for number := range height + 2 {
		data, err := n.Block(number)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrBehind) {
				t.Fatal(err)
			}
			good = good && number >= height
			n.Read([]wire.Place{{Block: number}}, 0, nil)
			continue
		}
		block, err := chain.ParseBlock(data)
		if err != nil {
			good = good && number >= height
			continue
		}
		if _, err := v.Take(&block); err != nil {
			good = good && number >= height
			continue
		}
		for offset := range block.Header.Count {
			a := n.Read([]wire.Place{{Block: number, Offset: offset}}, 0, nil)[0]
			proof := chain.Proof{Index: block.Header.First + uint64(offset), Size: block.Header.Seal(), Path: a.Path}
			if number < height && (a.Status != wire.ReadFound ||
				proof.Check(leafHash(a.Record), block.Header.Root) != nil) {
				t.Fatalf("record %d of block %d: read status %d", offset, number, a.Status)
			}
		}
	}
	if good && v.Head().Hash != n.Status().Hash {
		t.Fatalf("the head is %v, the blocks lead to %v", n.Status().Hash, v.Head().Hash)
	}
	return good
}

// FuzzIndex opens a node on an index file of arbitrary bytes. It must still have the whole chain.
func FuzzIndex(f *testing.F) {
	c, cfg := filled(f, 3, 8)
	good, err := os.ReadFile(filepath.Join(cfg.Dir, "index"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:indexHeader+3*indexEntry])
	f.Add([]byte{})
	flipped := bytes.Clone(good)
	flipped[indexHeader+2*indexEntry] = 1
	f.Add(flipped)
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := copyDir(t, cfg.Dir)
		if err := os.WriteFile(filepath.Join(dir, "index"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := Open(Config{AtRest: testKeys, Dir: dir})
		if errors.Is(err, ErrNewerFormat) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		c.check(t, n, 8)
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
