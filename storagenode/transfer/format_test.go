package transfer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/wire"
)

// stream encodes pieces of one and two blocks. To decode them, their headers need not match the blocks.
func stream(t testing.TB) []byte {
	var buf bytes.Buffer
	buf.Write(AppendHeader(nil))
	tree := chain.Tree{}
	for _, p := range []*Piece{
		{From: 0, Headers: make([]chain.Header, 1)},
		{From: 1, Tree: tree.Append(chain.Hash{1}, chain.Hash{2}, chain.Hash{3}), Headers: make([]chain.Header, 2)},
	} {
		for i := range p.Headers {
			p.Headers[i] = chain.Header{Version: chain.Version, Block: p.From + uint64(i), First: 2 * p.From, Count: 1}
		}
		buf.Write(p.AppendTo(nil))
		for range p.Headers {
			if err := WriteBlock(&buf, make([]byte, chain.HeaderSize+8)); err != nil {
				t.Fatal(err)
			}
		}
	}
	buf.Write(AppendEnd(nil))
	return buf.Bytes()
}

func TestReader(t *testing.T) {
	good := stream(t)
	s := NewReader(bytes.NewReader(good))
	if err := s.Header(); err != nil {
		t.Fatal(err)
	}
	for from, count := range []int{1, 2} {
		p, err := s.Piece()
		if err != nil || p.From != uint64(from) || len(p.Headers) != count || p.End() != uint64(from+count) {
			t.Fatalf("piece %+v, %v", p, err)
		}
		for range count {
			if b, err := s.Block(); err != nil || len(b) != chain.HeaderSize+8 {
				t.Fatalf("a block of %d bytes, %v", len(b), err)
			}
		}
	}
	if _, err := s.Piece(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end mark: %v", err)
	}
}

// FuzzTransfer decodes a stream of arbitrary bytes. The result must be an error of the package or the end mark, and
// each decoded piece must encode to the same bytes.
func FuzzTransfer(f *testing.F) {
	good := stream(f)
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
				t.Fatalf("encoded as %x", out)
			}
		case errors.Is(err, wire.ErrBadBlock), errors.Is(err, durable.ErrNewerFormat), errors.Is(err,
			io.ErrUnexpectedEOF):
		default:
			t.Fatal(err)
		}
	})
}
