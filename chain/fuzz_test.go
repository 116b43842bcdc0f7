package chain_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

func FuzzParseRecord(f *testing.F) {
	for _, b := range loadVectors(f).Blocks {
		for _, r := range b.Records {
			f.Add([]byte(r.Encoded))
		}
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := chain.ParseRecord(data)
		if err != nil {
			if !errors.Is(err, chain.ErrFrame) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		if err := r.Check(); err != nil {
			t.Errorf("it parses and is not acceptable: %v", err)
		}
		if !bytes.Equal(r.AppendTo(nil), data) {
			t.Error("it has other bytes when encoded again")
		}
		if chain.EncodedCommit(data) != r.Commit() || chain.EncodedLeaf(data, r.Commit()) != r.Leaf() {
			t.Error("the encoded record has another leaf")
		}
	})
}

func FuzzParseLeaf(f *testing.F) {
	for _, b := range loadVectors(f).Blocks {
		for _, r := range b.Records {
			f.Add([]byte(r.Leaf))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := chain.ParseLeaf(data)
		if err != nil {
			if !errors.Is(err, chain.ErrFrame) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		if !bytes.Equal(l.AppendTo(nil), data) {
			t.Error("it has other bytes when encoded again")
		}
	})
}

func FuzzParseHeader(f *testing.F) {
	for _, b := range loadVectors(f).Blocks {
		f.Add([]byte(b.Header))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := chain.ParseHeader(data)
		if err != nil {
			if !errors.Is(err, chain.ErrFrame) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		if !bytes.Equal(h.AppendTo(nil), data[:chain.HeaderSize]) {
			t.Error("it has other bytes when encoded again")
		}
	})
}

func FuzzParseBlock(f *testing.F) {
	for _, b := range loadVectors(f).Blocks {
		f.Add([]byte(b.Encoded))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := chain.ParseBlock(data)
		if err != nil {
			if !errors.Is(err, chain.ErrFrame) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		if !bytes.Equal(b.Bytes(), data) {
			t.Error("other bytes")
		}
		var body []byte
		var ends []uint32
		for i := range b.Header.Count {
			body = append(body, b.Encoded(i)...)
			ends = append(ends, uint32(len(body)))
			if _, err := b.Record(i); err != nil && !errors.Is(err, chain.ErrFrame) {
				t.Errorf("record %d: an error of another kind: %v", i, err)
			}
		}
		if len(ends) > 0 {
			again, err := chain.NewBlock(b.Header, ends, body)
			if err != nil || !bytes.Equal(again.Bytes(), data) {
				t.Errorf("it has other bytes when put together again: %v", err)
			}
		}
		if _, err := chain.NewVerifier(chain.Head{}).Take(&b); err != nil {
			var bad *chain.BlockError
			if !errors.As(err, &bad) {
				t.Errorf("an error of another kind: %v", err)
			}
		}
	})
}

func FuzzParseHead(f *testing.F) {
	f.Add((&chain.Head{}).AppendTo(nil))
	for _, b := range loadVectors(f).Blocks {
		f.Add([]byte(b.Head))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := chain.ParseHead(data)
		if err != nil {
			if !errors.Is(err, chain.ErrFrame) && !errors.Is(err, chain.ErrTree) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		if !bytes.Equal(h.AppendTo(nil), data) {
			t.Error("it has other bytes when encoded again")
		}
		if before := h.Tree.Size(); before < 1<<63 && h.Tree.Append(chain.Hash{}).Size() != before+1 {
			t.Error("its tree does not grow")
		}
	})
}
