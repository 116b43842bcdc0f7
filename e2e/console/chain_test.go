package console

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// fakeDifficulty makes a block mined in a few tries.
const fakeDifficulty = 8

// fakeChain is a true chain in memory: its hashes, its work and its proofs are what a cluster's would be.
type fakeChain struct {
	headers []chain.Header
	records []fakeRecord // in order
	open    int          // of records, the first that no block has yet
	leaves  int64
	hashes  []tlog.Hash // of the tree, as tlog stores them
	now     uint64      // unix milliseconds of the last record
	key     note.Signer // of the log
	vkey    string
}

// fakeOrigin is the log's name.
const fakeOrigin = "fake.example/log"

// newFakeChain makes an empty chain with a key of its own.
func newFakeChain() (*fakeChain, error) {
	secret, vkey, err := note.GenerateKey(rand.Reader, fakeOrigin)
	if err != nil {
		return nil, err
	}
	key, err := note.NewSigner(secret)
	return &fakeChain{key: key, vkey: vkey}, err
}

// checkpoint signs the tree of all blocks there are.
func (c *fakeChain) checkpoint() string {
	head := c.head()
	text := fmt.Sprintf("%s\n%d\n%s\n", fakeOrigin, head.Size, base64.StdEncoding.EncodeToString(head.Root[:]))
	signed, err := note.Sign(&note.Note{Text: text}, c.key)
	if err != nil {
		panic(err)
	}
	return string(signed)
}

// fakeRecord is a record and where it stands.
type fakeRecord struct {
	chain.Record
	block, index uint64
	offset       uint32
}

// append adds a record to the open block.
func (c *fakeChain) append(project uint32, key, typ string, payload []byte) *fakeRecord {
	c.now = max(c.now, uint64(time.Now().UnixMilli()))
	r := fakeRecord{
		Record: chain.Record{Project: project, Time: c.now, Key: key, Type: typ, Payload: payload},
		block:  uint64(len(c.headers)), index: c.first() + uint64(len(c.records)-c.open), offset: uint32(len(c.records) - c.open),
	}
	salt := sha256.Sum256(fmt.Append(nil, r.index))
	copy(r.Salt[:], salt[:])
	c.records = append(c.records, r)
	return &c.records[len(c.records)-1]
}

// first is the leaf index of the open block's first record.
func (c *fakeChain) first() uint64 {
	if len(c.headers) == 0 {
		return 0
	}
	return c.headers[len(c.headers)-1].Size()
}

// cut makes a mined block of what is open.
func (c *fakeChain) cut() {
	if c.open == len(c.records) {
		return
	}
	h := chain.Header{
		Version: chain.Version, Block: uint64(len(c.headers)), First: c.first(), Count: uint32(len(c.records) - c.open), Time: c.now,
		Difficulty: fakeDifficulty,
	}
	if h.Block > 0 {
		h.Prev = c.headers[h.Block-1].Hash()
	}
	for _, r := range c.records[c.open:] {
		leaf := r.Leaf()
		c.grow(leaf.AppendTo(nil))
	}
	h.Root = c.root(c.leaves)
	h.Nonce, _ = chain.Solve(h.Inner(), h.Difficulty, 0, 1<<32)
	c.grow(h.AppendTo(nil))
	c.headers, c.open = append(c.headers, h), len(c.records)
}

func (c *fakeChain) grow(leaf []byte) {
	hashes, err := tlog.StoredHashes(c.leaves, leaf, c)
	if err != nil {
		panic(err)
	}
	c.hashes = append(c.hashes, hashes...)
	c.leaves++
}

// ReadHashes implements tlog.HashReader.
func (c *fakeChain) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		hashes[i] = c.hashes[at]
	}
	return hashes, nil
}

func (c *fakeChain) root(size int64) chain.Hash {
	root, err := tlog.TreeHash(size, c)
	if err != nil {
		panic(err)
	}
	return chain.Hash(root)
}

func (c *fakeChain) path(size, index uint64) []chain.Hash {
	proof, err := tlog.ProveRecord(int64(size), int64(index), c)
	if err != nil {
		panic(err)
	}
	path := make([]chain.Hash, len(proof))
	for i, h := range proof {
		path[i] = chain.Hash(h)
	}
	return path
}

func (c *fakeChain) head() wire.Head {
	if len(c.headers) == 0 {
		return wire.Head{}
	}
	last := &c.headers[len(c.headers)-1]
	return wire.Head{Height: uint64(len(c.headers)), Hash: last.Hash(), Size: last.Size(), Root: c.root(c.leaves)}
}

// at finds the record of a place, or of a leaf index where offset is below zero.
func (c *fakeChain) at(n uint64, offset int64) *fakeRecord {
	i := slices.IndexFunc(c.records, func(r fakeRecord) bool {
		return offset < 0 && r.index == n || r.block == n && int64(r.offset) == offset
	})
	if i < 0 {
		return nil
	}
	return &c.records[i]
}

func (c *fakeChain) position(r *fakeRecord) wire.Position {
	state := wire.StateStored
	if r.block >= uint64(len(c.headers)) {
		state = wire.StateCommitted
	}
	leaf := r.Leaf()
	return wire.Position{Block: r.block, Offset: r.offset, Index: r.index, Time: r.Time, Leaf: leaf.Hash(), State: state}
}

func (c *fakeChain) envelope(r *fakeRecord, project string) wire.Record {
	return wire.Record{
		Position: c.position(r), Project: project, ProjectID: r.Project, Key: r.Key, Type: r.Type, Size: uint32(len(r.Payload)),
		Salt: r.Salt[:], Commit: r.Commit(), Payload: r.Payload,
	}
}

// proof is the answer of …/proof, in the tree of all blocks there are.
func (c *fakeChain) proof(r *fakeRecord) map[string]any {
	h := c.headers[r.block]
	leaf := r.Leaf()
	head := c.head()
	return map[string]any{
		"index": r.index, "block": r.block, "offset": r.offset, "leaf": leaf.Hash(), "leaf_data": leaf.AppendTo(nil), "header": wire.NewBlock(h),
		"record_path": c.path(h.Seal(), r.index), "seal_index": h.Seal(), "seal_path": c.path(head.Size, h.Seal()), "size": head.Size, "root": head.Root,
		"checkpoint": c.checkpoint(),
	}
}

// find answers GET /v1/hashes/{hash}.
func (c *fakeChain) find(hash string) map[string]any {
	for _, h := range c.headers {
		if h.Hash().String() == hash {
			return map[string]any{"kind": "block", "block": h.Block}
		}
	}
	for i := range c.records {
		if p := c.position(&c.records[i]); p.Leaf.String() == hash {
			return map[string]any{"kind": "record", "block": p.Block, "offset": p.Offset, "index": p.Index}
		}
	}
	return nil
}

// fakeURL is the address of a node that is only told of.
func fakeURL(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }
