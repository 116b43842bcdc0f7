package noderpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/http"
	"strconv"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// FuzzReadChainBlock checks the answers with blocks that a storage node sends for a recovery of the masters.
func FuzzReadChainBlock(f *testing.F) {
	record := (&chain.Record{Payload: []byte("a record")}).AppendTo(nil)
	header := chain.Header{Version: chain.Version, Count: 1}
	b, err := chain.NewBlock(header, []uint32{uint32(len(record))}, record)
	if err != nil {
		f.Fatal(err)
	}
	encoded := b.Bytes()
	f.Add(append(binary.BigEndian.AppendUint32(nil, uint32(len(encoded))), encoded...))
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		block, left, err := readChainBlock(data)
		if err != nil {
			if !errors.Is(err, exchange.ErrAnswer) && !errors.Is(err, wire.ErrNoAnswer) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		if again := block.Bytes(); !bytes.Equal(data[4:len(data)-len(left)], again) {
			t.Error("other bytes when encoded again")
		}
	})
}

// TestChainRanges checks how many blocks are requested with one call: twice as many as before, if they are not large.
func TestChainRanges(t *testing.T) {
	for _, c := range []struct {
		count uint64
		size  int
		want  uint64
	}{
		{1, 300, 2}, {32, 32 << 10, 64}, {64, 64 << 10, 64}, {1, 4 << 20, 2}, {2, 8 << 20, 2}, {4, 8 << 20, 4},
		{1, 200 << 20, 1}, {1, 0, 2},
	} {
		if got := chainRangeAfter(c.count, c.size); got != c.want {
			t.Errorf("%d after %d blocks of %d bytes, want %d", got, c.count, c.size, c.want)
		}
	}
}

// TestChainBlocksInRanges reads a chain of small and large blocks, one of which cannot be read. All blocks before it
// must be passed on, in order and once.
func TestChainBlocksInRanges(t *testing.T) {
	const unreadable = 150
	var blocks []chain.Block
	for number := range uint64(unreadable + 10) {
		payload := make([]byte, 10)
		if number == 100 {
			payload = make([]byte, maxChainRangeBytes)
		}
		record := (&chain.Record{Payload: payload}).AppendTo(nil)
		header := chain.Header{Version: chain.Version, Count: 1, Block: number}
		b, err := chain.NewBlock(header, []uint32{uint32(len(record))}, record)
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, b)
	}
	longest := 0
	server, _ := node(t, func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.Atoi(r.URL.Query().Get("from"))
		to, _ := strconv.Atoi(r.URL.Query().Get("to"))
		longest = max(longest, to-from)
		w.Header().Set("Content-Type", wire.TypeOctets)
		for _, b := range blocks[from:to] {
			if b.Header.Block == unreadable {
				return
			}
			data := b.Bytes()
			_, _ = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))
		}
	})
	next := uint64(0)
	err := newMasters(t).ChainBlocks(t.Context(), server.URL, 0, uint64(len(blocks)), func(b chain.Block) error {
		if b.Header.Block != next {
			t.Errorf("block %d in place of %d", b.Header.Block, next)
		}
		next++
		return nil
	})
	if !errors.Is(err, wire.ErrNoAnswer) || next != unreadable || longest > maxChainRange || longest < 2 {
		t.Errorf("%d blocks, up to %d in one call, %v", next, longest, err)
	}
}
