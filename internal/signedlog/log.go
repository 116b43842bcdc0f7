// Package signedlog is a chain in memory with its transparency log, for tests. Its hashes, its proof of work, its
// proofs and its signatures are real. A call that cannot succeed panics.
package signedlog

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/transparency-dev/formats/proof"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// Difficulty is that of the blocks: a few tries mine one.
const Difficulty = 4

// Log is a log and its chain. A test may alter the fields to forge something.
type Log struct {
	Origin   string
	VKey     string // verifier key
	Signer   note.Signer
	Blocks   []chain.Block
	Entries  [][]byte    // data of the leaves
	Stored   []tlog.Hash // of the tree, as package tlog numbers them
	Verifier *chain.Verifier
}

// New returns an empty log of that name. The seed determines its key.
func New(origin string, seed byte) *Log {
	l := &Log{Origin: origin, Verifier: chain.NewVerifier(chain.Head{})}
	l.Signer, l.VKey = Key(origin, seed)
	return l
}

// Key returns the Ed25519 key of that name that the seed determines.
func Key(name string, seed byte) (signer note.Signer, vkey string) {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	vkey = must(note.NewEd25519VerifierKey(name, private.Public().(ed25519.PublicKey)))
	signer = must(note.NewSigner(fmt.Sprintf("PRIVATE+KEY+%s+%s+%s", name, strings.Split(vkey, "+")[1],
		base64.StdEncoding.EncodeToString(append([]byte{1}, private.Seed()...)))))
	return signer, vkey
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Mine mines a block of records and adds it.
func (l *Log) Mine(time uint64, records ...chain.Record) *chain.Block {
	head := l.Verifier.Head()
	tree, body, ends := head.Tree, []byte(nil), []uint32(nil)
	for i := range records {
		tree = tree.Append(records[i].Leaf().Hash())
		body = records[i].AppendTo(body)
		ends = append(ends, uint32(len(body)))
	}
	return l.Add(Solve(chain.Header{
		Version: chain.Version, Block: head.Height, First: head.Tree.Size(), Count: uint32(len(records)),
		Prev: head.Hash, Root: tree.Root(), Time: time, Difficulty: Difficulty,
	}, ends, body))
}

// Solve finds the nonce of a header and returns its block.
func Solve(h chain.Header, ends []uint32, body []byte) *chain.Block {
	nonce, found := chain.Solve(h.Inner(), h.Difficulty, 0, 1<<20)
	if !found {
		panic("no nonce")
	}
	h.Nonce = nonce
	b := must(chain.NewBlock(h, ends, body))
	return &b
}

// Add adds the next block.
func (l *Log) Add(b *chain.Block) *chain.Block {
	if err := l.Take(b); err != nil {
		panic(err)
	}
	return b
}

// Take adds a block if it is the next one.
func (l *Log) Take(b *chain.Block) error {
	if _, err := l.Verifier.Take(b); err != nil {
		return err
	}
	for i := range b.Header.Count {
		record := must(b.Record(i))
		l.AddLeaf(record.Leaf().AppendTo(nil))
	}
	l.AddLeaf(b.Header.AppendTo(nil))
	l.Blocks = append(l.Blocks, *b)
	return nil
}

// AddLeaf adds a leaf that belongs to no block.
func (l *Log) AddLeaf(data []byte) {
	l.Stored = append(l.Stored, must(tlog.StoredHashes(int64(len(l.Entries)), data, l))...)
	l.Entries = append(l.Entries, data)
}

// Size returns the number of leaves.
func (l *Log) Size() uint64 { return uint64(len(l.Entries)) }

// ReadHashes implements [tlog.HashReader].
func (l *Log) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		hashes[i] = l.Stored[at]
	}
	return hashes, nil
}

// Root returns the root of the first size leaves.
func (l *Log) Root(size uint64) chain.Hash { return chain.Hash(must(tlog.TreeHash(int64(size), l))) }

// Path returns the inclusion path of a leaf in the tree of the first size leaves.
func (l *Log) Path(size, index uint64) []chain.Hash {
	path := []chain.Hash{}
	for _, h := range must(tlog.ProveRecord(int64(size), int64(index), l)) {
		path = append(path, chain.Hash(h))
	}
	return path
}

// Checkpoint returns the signed checkpoint of a size, also signed by more.
func (l *Log) Checkpoint(size uint64, more ...note.Signer) string {
	return Sign(l.Origin, size, l.Root(size), append([]note.Signer{l.Signer}, more...)...)
}

// Sign returns a signed checkpoint.
func Sign(origin string, size uint64, root chain.Hash, signers ...note.Signer) string {
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, size, base64.StdEncoding.EncodeToString(root[:]))
	return string(must(note.Sign(&note.Note{Text: text}, signers...)))
}

// Receipt returns the receipt of a record in the tree of the first size leaves.
func (l *Log) Receipt(block uint64, offset uint32, size uint64) wire.Receipt {
	b := &l.Blocks[block]
	record := must(b.Record(offset))
	leaf, index, seal := record.Leaf(), b.Header.First+uint64(offset), b.Header.Seal()
	return wire.Receipt{
		Format: wire.FormatReceipt, Origin: l.Origin, Index: index, Block: block, Offset: offset, Time: record.Time,
		ProjectID: record.Project, Size: leaf.Size, Key: record.Key, Type: record.Type, Salt: record.Salt[:],
		Commit: leaf.Commit, Leaf: leaf.Hash(), LeafData: leaf.AppendTo(nil), Header: wire.NewBlock(b.Header),
		RecordPath: l.Path(seal, index), SealIndex: seal, SealPath: l.Path(size, seal),
		TreeSize: size, Root: l.Root(size), Checkpoint: l.Checkpoint(size),
	}
}

// Proof returns the proof of a record in the tree of the first size leaves.
func (l *Log) Proof(block uint64, offset uint32, size uint64) wire.Proof {
	r := l.Receipt(block, offset, size)
	return wire.Proof{
		Index: r.Index, Block: r.Block, Offset: r.Offset, Leaf: r.Leaf, LeafData: r.LeafData, Header: r.Header,
		RecordPath: r.RecordPath, SealIndex: r.SealIndex, SealPath: r.SealPath, Size: r.TreeSize, Root: r.Root,
		Checkpoint: r.Checkpoint,
	}
}

// TlogProof returns the proof of a leaf in the form of C2SP tlog-proof, with the checkpoint of the whole log.
func (l *Log) TlogProof(index uint64) []byte {
	p := proof.TLogProof{Index: index, Checkpoint: []byte(l.Checkpoint(l.Size()))}
	for _, h := range l.Path(l.Size(), index) {
		p.Hashes = append(p.Hashes, h)
	}
	return p.Marshal()
}

// Tile returns the file of a tile or of a bundle of entries (C2SP tlog-tiles), whose path starts with "tile/".
func (l *Log) Tile(path string) (data []byte, found bool) {
	path = strings.Replace(path, "tile/", "tile/8/", 1)
	tile, err := tlog.ParseTilePath(strings.Replace(path, "entries/", "data/", 1))
	if err != nil {
		return nil, false
	}
	first := tile.N * wire.TileWidth
	if last := (first + int64(tile.W)) << (8 * max(tile.L, 0)); last > int64(len(l.Entries)) {
		return nil, false
	}
	if tile.L >= 0 {
		data, err = tlog.ReadTileData(tile, l)
		return data, err == nil
	}
	for _, entry := range l.Entries[first : first+int64(tile.W)] {
		data = append(binary.BigEndian.AppendUint16(data, uint16(len(entry))), entry...)
	}
	return data, true
}
