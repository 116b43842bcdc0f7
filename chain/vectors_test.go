package chain_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

// hexBytes are bytes that a vector holds as hex.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

// vectors is testdata/vectors.json: made by testdata/vectors.py, which shares no code with this package.
type vectors struct {
	EmptyRoot chain.Hash    `json:"empty_root"`
	Blocks    []vectorBlock `json:"blocks"`
}

type vectorBlock struct {
	Records    []vectorRecord `json:"records"`
	Version    uint8          `json:"version"`
	Block      uint64         `json:"block"`
	First      uint64         `json:"first"`
	Count      uint32         `json:"count"`
	Prev       chain.Hash     `json:"prev"`
	Root       chain.Hash     `json:"root"`
	Time       uint64         `json:"time"`
	Difficulty uint8          `json:"difficulty"`
	Nonce      uint64         `json:"nonce,string"`

	Header   hexBytes   `json:"header"`
	Inner    chain.Hash `json:"inner"`
	Hash     chain.Hash `json:"hash"`
	SealHash chain.Hash `json:"seal_hash"`
	Encoded  hexBytes   `json:"encoded"`

	Size       uint64     `json:"size"` // of the tree with the seal
	SealedRoot chain.Hash `json:"sealed_root"`
	Head       hexBytes   `json:"head"`
}

type vectorRecord struct {
	Project  uint32     `json:"project"`
	Time     uint64     `json:"time"`
	Salt     hexBytes   `json:"salt"`
	Key      string     `json:"key"`
	Type     string     `json:"type"`
	Payload  hexBytes   `json:"payload"`
	Encoded  hexBytes   `json:"encoded"`
	Commit   chain.Hash `json:"commit"`
	Leaf     hexBytes   `json:"leaf"`
	LeafHash chain.Hash `json:"leaf_hash"`
}

func (v *vectorRecord) record() chain.Record {
	return chain.Record{
		Project: v.Project, Time: v.Time, Salt: [chain.SaltSize]byte(v.Salt), Key: v.Key, Type: v.Type,
		Payload: v.Payload,
	}
}

func (v *vectorBlock) header() chain.Header {
	return chain.Header{
		Version: v.Version, Block: v.Block, First: v.First, Count: v.Count, Prev: v.Prev, Root: v.Root,
		Time: v.Time, Difficulty: v.Difficulty, Nonce: v.Nonce,
	}
}

func loadVectors(t testing.TB) vectors {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// equalBytes fails the test where what does not have the bytes of the vector.
func equalBytes(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s\n got %x\nwant %x", what, got, want)
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func TestVectorsOfRecords(t *testing.T) {
	for _, b := range loadVectors(t).Blocks {
		for i := range b.Records {
			want := &b.Records[i]
			r := want.record()
			if err := r.Check(); err != nil {
				t.Error(err)
			}
			encoded := r.AppendTo(nil)
			equalBytes(t, "record", encoded, want.Encoded)
			equal(t, "encoded size", r.EncodedSize(), len(want.Encoded))
			equal(t, "commit", r.Commit(), want.Commit)
			equal(t, "commit of the encoded record", chain.EncodedCommit(encoded), want.Commit)
			leaf := r.Leaf()
			equalBytes(t, "leaf", leaf.AppendTo(nil), want.Leaf)
			equal(t, "leaf hash", leaf.Hash(), want.LeafHash)
			equal(t, "leaf of the encoded record", chain.EncodedLeaf(encoded, want.Commit), leaf)
		}
	}
}

func TestVectorsOfBlocks(t *testing.T) {
	all := loadVectors(t)
	equal(t, "empty root", chain.Tree{}.Root(), all.EmptyRoot)
	v := chain.NewVerifier(chain.Head{})
	for i := range all.Blocks {
		want := &all.Blocks[i]
		header := want.header()
		equalBytes(t, "header", header.AppendTo(nil), want.Header)
		equal(t, "inner hash", header.Inner(), want.Inner)
		equal(t, "block hash", header.Hash(), want.Hash)
		equal(t, "hash of inner and nonce", chain.BlockHash(want.Inner, want.Nonce), want.Hash)
		equal(t, "seal hash", header.SealHash(), want.SealHash)
		nonce, found := chain.Solve(want.Inner, want.Difficulty, 0, want.Nonce+1)
		equal(t, "nonce", nonce, want.Nonce) // the vectors have the first that fits
		equal(t, "found", found, true)

		records := make([]chain.Record, len(want.Records))
		for j := range records {
			records[j] = want.Records[j].record()
		}
		made := assemble(t, header, records)
		equalBytes(t, "block", made.Bytes(), want.Encoded)

		parsed, err := chain.ParseBlock(want.Encoded)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "parsed header", parsed.Header, header)
		leaves, err := v.Take(&parsed)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "leaves", len(leaves), len(records)+1)
		for j := range want.Records {
			equal(t, "leaf hash", leaves[j], want.Records[j].LeafHash)
			equalBytes(t, "record", parsed.Encoded(uint32(j)), want.Records[j].Encoded)
		}
		equal(t, "last leaf", leaves[len(records)], want.SealHash)
		head := v.Head()
		equal(t, "height", head.Height, want.Block+1)
		equal(t, "head hash", head.Hash, want.Hash)
		equal(t, "tree size", head.Tree.Size(), want.Size)
		equal(t, "header's size", header.Size(), want.Size)
		equal(t, "root", head.Tree.Root(), want.SealedRoot)
		equalBytes(t, "head", head.AppendTo(nil), want.Head)
	}
}
