package storagenode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

const startTime = 1_700_000_000_000

// The sizes in the index file, in bytes.
const (
	indexHeader = 8
	indexEntry  = 28
)

// testChain grows a chain and keeps it in memory, to compare nodes with it.
type testChain struct {
	verifier *chain.Verifier
	blocks   []chain.Block
	sizes    []uint64 // of the tree behind each block
	rng      *rand.Rand
	full     *Node // of sourceOnce
}

func newTestChain(seed uint64) *testChain {
	return &testChain{verifier: chain.NewVerifier(chain.Head{}), rng: rand.New(rand.NewPCG(seed, 7))}
}

// grow adds a block of count records with payloads of up to size bytes, and returns its bytes.
func (c *testChain) grow(t testing.TB, count, size int) []byte {
	t.Helper()
	head := c.verifier.Head()
	time := startTime + 1000*head.Height
	tree := head.Tree
	var body []byte
	var ends []uint32
	var leaves []chain.Hash
	for range count {
		r := chain.Record{Project: 1, Time: time, Key: "k", Type: "text/plain", Payload: make([]byte,
			c.rng.IntN(size+1))}
		binary.BigEndian.PutUint64(r.Salt[:], c.rng.Uint64())
		for i := range r.Payload {
			r.Payload[i] = byte(c.rng.Uint32())
		}
		body = r.AppendTo(body)
		ends = append(ends, uint32(len(body)))
		leaves = append(leaves, r.Leaf().Hash())
	}
	tree = tree.Append(leaves...)
	h := chain.Header{
		Version: chain.Version, Block: head.Height, First: head.Tree.Size(), Count: uint32(count),
		Prev: head.Hash, Root: tree.Root(), Time: time, Difficulty: 4,
	}
	nonce, found := chain.Solve(h.Inner(), h.Difficulty, 0, 1<<20)
	if !found {
		t.Fatal("no nonce")
	}
	h.Nonce = nonce
	b, err := chain.NewBlock(h, ends, body)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.verifier.Take(&b); err != nil {
		t.Fatal(err)
	}
	c.blocks = append(c.blocks, b)
	c.sizes = append(c.sizes, c.verifier.Head().Tree.Size())
	return b.Bytes()
}

// growTo adds small blocks of differing sizes up to a height.
func (c *testChain) growTo(t testing.TB, height int) {
	t.Helper()
	for len(c.blocks) < height {
		c.grow(t, 1+c.rng.IntN(9), 60)
	}
}

// memDir returns a folder in memory, if the system has one. Tests of many kinds of damage sync often, and do not need a
// disk.
func memDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "storagenode-*")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func mustOpen(t testing.TB, cfg Config) *Node {
	t.Helper()
	n, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() }) // tests that check Close call it themselves
	return n
}

func mustClose(t testing.TB, n *Node) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

// crash ends a node like the end of its process: nothing more is synced.
func crash(t testing.TB, n *Node) {
	t.Helper()
	if err := n.indexer.stop(); err != nil {
		t.Fatal(err)
	}
	n.crypter.stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	if err := n.release(); err != nil {
		t.Fatal(err)
	}
}

// putAll puts the chain's blocks, beginning at the node's height.
func (c *testChain) putAll(t testing.TB, n *Node) {
	t.Helper()
	for number := n.Status().Height; number < uint64(len(c.blocks)); number++ {
		if _, err := n.Put(t.Context(), number, c.blocks[number].Bytes()); err != nil {
			t.Fatal(err)
		}
	}
}

// filled creates a folder with the first height blocks of a new chain, in segments of about 2 KiB.
func filled(t testing.TB, seed uint64, height int) (*testChain, Config) {
	t.Helper()
	c := newTestChain(seed)
	c.growTo(t, height)
	cfg := Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 2000}
	if testKeys != nil {
		cfg.SegmentBytes += 130 // about as many blocks as without encryption
	}
	n := mustOpen(t, cfg)
	c.putAll(t, n)
	mustClose(t, n)
	return c, cfg
}

// statusAt returns the status of a node with the first height blocks of the chain.
func (c *testChain) statusAt(height int) Status {
	if height == 0 {
		return Status{}
	}
	return Status{Height: uint64(height), Hash: c.blocks[height-1].Header.Hash(), Size: c.sizes[height-1]}
}

// check compares everything that a node returns with the first height blocks of the chain. The blocks in bad must read
// as damaged.
func (c *testChain) check(t testing.TB, n *Node, height int, bad ...uint64) {
	t.Helper()
	if got := n.Status(); got != c.statusAt(height) {
		t.Fatalf("status %+v, want %+v", got, c.statusAt(height))
	}
	isBad := map[uint64]bool{}
	for _, b := range bad {
		isBad[b] = true
	}
	for number := range uint64(height) {
		c.checkBlock(t, n, number, isBad[number])
	}
	if got := n.Read([]wire.Place{{Block: uint64(len(c.blocks))}}, 0, nil); got[0].Status != wire.ReadBehind {
		t.Errorf("a block to come: read status %d", got[0].Status)
	}
	if len(bad) == 0 && height > 0 {
		c.checkHeaders(t, n, height)
	}
}

// provenRecord checks an answer to a read as a master does: from the block's header.
func (c *testChain) provenRecord(number uint64, offset uint32, a *wire.ProvenRecord) error {
	h := &c.blocks[number].Header
	if size, err := chain.EncodedRecordSize(a.Record); err != nil || size != len(a.Record) {
		return fmt.Errorf("%d bytes are not a record", len(a.Record))
	}
	proof := chain.Proof{Index: h.First + uint64(offset), Size: h.Seal(), Path: a.Path}
	return proof.Check(leafHash(a.Record), h.Root)
}

// leafHash is the leaf hash of an encoded record.
func leafHash(encoded []byte) chain.Hash {
	leaf := chain.EncodedLeaf(encoded, chain.EncodedCommit(encoded))
	return leaf.Hash()
}

func (c *testChain) checkBlock(t testing.TB, n *Node, number uint64, bad bool) {
	t.Helper()
	b := &c.blocks[number]
	data, err := n.Block(number)
	if bad {
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("block %d: %v, want ErrDamaged", number, err)
		}
	} else if err != nil || string(data) != string(b.Bytes()) {
		t.Fatalf("block %d: %d bytes, %v", number, len(data), err)
	}
	var places []wire.Place
	for offset := range b.Header.Count + 1 {
		places = append(places, wire.Place{Block: number, Offset: offset})
	}
	for offset, a := range n.Read(places, 0, nil) {
		index := b.Header.First + uint64(offset)
		refused := a.Status == wire.ReadFound && c.provenRecord(number, uint32(offset), &a) != nil // by a master
		if bad && (a.Status == wire.ReadBad || refused) {
			continue // if only one record is damaged, the others can be read
		}
		if uint32(offset) == b.Header.Count {
			if a.Status != wire.ReadBeyond {
				t.Errorf("offset %d of block %d, which is its seal: read status %d", offset, number, a.Status)
			}
			continue
		}
		if a.Status != wire.ReadFound || string(a.Record) != string(b.Encoded(uint32(offset))) {
			t.Fatalf("record %d of block %d: read status %d, %d bytes", offset, number, a.Status, len(a.Record))
		}
		if err := c.provenRecord(number, uint32(offset), &a); err != nil {
			t.Fatalf("record %d of block %d: %v", offset, number, err)
		}
		if at, err := n.Locate(index); err != nil || at != number {
			t.Fatalf("leaf %d: block %d, %v, want %d", index, at, err, number)
		}
	}
}

func (c *testChain) checkHeaders(t testing.TB, n *Node, height int) {
	t.Helper()
	for _, size := range []uint64{c.sizes[height-1], c.sizes[height/2]} {
		headers, err := n.Headers(0, wire.MaxHeaders, size)
		if err != nil {
			t.Fatal(err)
		}
		var tree chain.Tree
		for i := range c.blocks[:height] {
			if c.sizes[i] > size {
				if len(headers) != i {
					t.Fatalf("%d headers in a tree of %d, want %d", len(headers), size, i)
				}
				break
			}
			b := &c.blocks[i]
			for offset := range b.Header.Count {
				tree = tree.Append(leafHash(b.Encoded(offset)))
			}
			tree = tree.Append(b.Header.SealHash())
		}
		for i := range headers {
			if headers[i].Header != c.blocks[i].Header {
				t.Fatalf("header %d is %+v", i, headers[i].Header)
			}
			proof := chain.Proof{Index: headers[i].Header.Seal(), Size: size, Path: headers[i].Path}
			if err := proof.Check(headers[i].Header.SealHash(), tree.Root()); err != nil {
				t.Fatalf("seal of block %d in a tree of %d: %v", i, size, err)
			}
		}
	}
}
