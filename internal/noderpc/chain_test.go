package noderpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// FuzzReadChainBlock checks the stream of blocks that a storage node sends for a recovery of the masters.
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
		block, err := readChainBlock(bytes.NewReader(data))
		if err != nil {
			if !errors.Is(err, exchange.ErrAnswer) && !errors.Is(err, wire.ErrNoAnswer) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		if again := block.Bytes(); !bytes.HasPrefix(data[4:], again) {
			t.Error("other bytes when encoded again")
		}
	})
}
