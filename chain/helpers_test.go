package chain_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

// startTime is the time at which the chains of these tests begin, in Unix milliseconds.
const startTime = 1_700_000_000_000

// workBits is the difficulty of their blocks, low enough to make mining fast.
const workBits = 8

// makeRecord returns a record that differs from all others in every field.
func makeRecord(n int, time uint64, size int) chain.Record {
	r := chain.Record{
		Project: uint32(n%5 + 1), Time: time, Key: fmt.Sprintf("key/%d", n), Type: fmt.Sprintf("text/n%d", n%7),
		Payload: make([]byte, size),
	}
	rng := rand.New(rand.NewPCG(uint64(n), 99))
	binary.BigEndian.PutUint64(r.Salt[:], rng.Uint64())
	binary.BigEndian.PutUint64(r.Salt[8:], rng.Uint64())
	for i := range r.Payload {
		r.Payload[i] = byte(rng.Uint32())
	}
	return r
}

// makeRecords returns count records with the same time.
func makeRecords(first, count int, time uint64, size int) []chain.Record {
	records := make([]chain.Record, count)
	for i := range records {
		records[i] = makeRecord(first+i, time, size)
	}
	return records
}

// headerFor returns the unmined header of a block of records that extends the chain at head.
func headerFor(head chain.Head, time uint64, difficulty uint8, records []chain.Record) chain.Header {
	tree := head.Tree
	for i := range records {
		tree = tree.Append(records[i].Leaf().Hash())
	}
	return chain.Header{
		Version: chain.Version, Block: head.Height, First: head.Tree.Size(), Count: uint32(len(records)),
		Prev: head.Hash, Root: tree.Root(), Time: time, Difficulty: difficulty,
	}
}

// mine finds the header's nonce.
func mine(t testing.TB, h *chain.Header) {
	t.Helper()
	nonce, found := chain.Solve(h.Inner(), h.Difficulty, 0, 1<<24)
	if !found {
		t.Fatalf("no nonce for block %d of difficulty %d", h.Block, h.Difficulty)
	}
	h.Nonce = nonce
}

// assemble puts header and records into a block.
func assemble(t testing.TB, h chain.Header, records []chain.Record) chain.Block {
	t.Helper()
	var body []byte
	var ends []uint32
	for i := range records {
		body = records[i].AppendTo(body)
		ends = append(ends, uint32(len(body)))
	}
	b, err := chain.NewBlock(h, ends, body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// makeBlock returns the valid block of records that extends the chain at head.
func makeBlock(t testing.TB, head chain.Head, time uint64, difficulty uint8, records []chain.Record) chain.Block {
	t.Helper()
	h := headerFor(head, time, difficulty, records)
	mine(t, &h)
	return assemble(t, h, records)
}

// makeChain returns a chain of blocks with 1, 2, 3, … records, and its head.
func makeChain(t testing.TB, blocks, size int, difficulty uint8) ([]chain.Block, chain.Head) {
	t.Helper()
	v := chain.NewVerifier(chain.Head{})
	var made []chain.Block
	for i := range blocks {
		time := startTime + 1000*uint64(i)
		b := makeBlock(t, v.Head(), time+500, difficulty, makeRecords(100*i, i+1, time, size))
		if _, err := v.Take(&b); err != nil {
			t.Fatal(err)
		}
		made = append(made, b)
	}
	return made, v.Head()
}
