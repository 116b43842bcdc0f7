package storagenode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

// TestTransferFormat holds the bytes of a stream against their drawing.
func TestTransferFormat(t *testing.T) {
	c := newTestChain(70)
	c.growTo(t, 4)
	n := c.source(t)
	got := streamOf(t, n, c.pieces(chain.Range{From: 2, To: 4}))
	want := append([]byte("CSTR\x01\x00\x00\x00"), 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2)
	var tree chain.Tree
	for i := range 2 {
		tree = tree.Append(c.blocks[i].Leaves(nil)...).Append(c.blocks[i].Header.SealHash())
	}
	want = binary.BigEndian.AppendUint64(want, c.sizes[1])
	for _, h := range tree.Nodes() {
		want = append(want, h[:]...)
	}
	for i := 2; i < 4; i++ {
		want = c.blocks[i].Header.AppendTo(want)
	}
	for i := 2; i < 4; i++ {
		want = binary.BigEndian.AppendUint32(want, uint32(len(c.blocks[i].Bytes())))
		want = append(want, c.blocks[i].Bytes()...)
	}
	want = append(want, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0)
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

// FuzzTransfer decodes a stream of any bytes: it must end in an error of its own or in the end mark, and what it takes for a piece
// must be written as it was read.
func FuzzTransfer(f *testing.F) {
	c := newTestChain(71)
	for range 3 {
		c.grow(f, 1, 4)
	}
	good := streamOf(f, c.source(f), c.pieces(chain.Range{From: 0, To: 1}, chain.Range{From: 1, To: 3}))
	f.Add(good)
	f.Add(good[:len(good)-20])
	f.Add([]byte("CSTR\x02\x00\x00\x00"))
	f.Add(AppendEnd(AppendHeader(nil)))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := NewReader(bytes.NewReader(data))
		out := AppendHeader(nil)
		err := s.Header()
		for err == nil {
			var p *Piece
			if p, err = s.Piece(); err != nil {
				break
			}
			out = p.AppendTo(out)
			_ = p.Prove(chain.Hash{})
			for range p.Headers {
				var b []byte
				if b, err = s.Block(); err != nil {
					break
				}
				out = append(binary.BigEndian.AppendUint32(out, uint32(len(b))), b...)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			if out = AppendEnd(out); !bytes.HasPrefix(data, out) {
				t.Fatalf("written back as %x", out)
			}
		case errors.Is(err, ErrBadBlock), errors.Is(err, ErrNewerFormat), errors.Is(err, io.ErrUnexpectedEOF):
		default:
			t.Fatal(err)
		}
	})
}

// FuzzInbox parses a file of the inbox, and a list of lost blocks, of any bytes.
func FuzzInbox(f *testing.F) {
	f.Add(appendInbox(nil, 7, []byte("block")))
	f.Add(appendLost(nil, []chain.Range{{From: 3, To: 5}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if block, err := parseInbox(data, 7); err == nil && !bytes.Equal(appendInbox(nil, 7, block), data) {
			t.Fatalf("block %x", block)
		}
		if list, err := parseLost(data); err == nil && !bytes.Equal(appendLost(nil, list), data) {
			t.Fatalf("list %v", list)
		}
	})
}
