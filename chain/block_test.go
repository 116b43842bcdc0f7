package chain_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

func TestBlockRoundTrip(t *testing.T) {
	records := makeRecords(0, 7, startTime, 33)
	records[2].Payload, records[3].Key, records[3].Type = nil, "", ""
	b := makeBlock(t, chain.Head{}, startTime, workBits, records)
	parsed, err := chain.ParseBlock(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Header != b.Header {
		t.Errorf("header %+v, want %+v", parsed.Header, b.Header)
	}
	for i := range records {
		want := records[i].AppendTo(nil)
		got := parsed.Encoded(uint32(i))
		if !bytes.Equal(got, want) || cap(got) != len(got) {
			t.Errorf("record %d: %d bytes, capacity %d, want %d", i, len(got), cap(got), len(want))
		}
		r, err := parsed.Record(uint32(i))
		if err != nil || r.Leaf() != records[i].Leaf() {
			t.Errorf("record %d: %+v, %v", i, r, err)
		}
	}
	size := 0
	for i := range records {
		size += records[i].EncodedSize()
	}
	if want := chain.BlockOverhead(7) + size; len(b.Bytes()) != want {
		t.Errorf("%d bytes, want %d", len(b.Bytes()), want)
	}
}

func TestNewBlockRefusesPartsThatDoNotFit(t *testing.T) {
	r := makeRecord(1, startTime, 5)
	body := r.AppendTo(nil)
	end := uint32(len(body))
	for name, c := range map[string]struct {
		count uint32
		ends  []uint32
	}{
		"no record":       {0, nil},
		"count too high":  {2, []uint32{end}},
		"count too low":   {1, []uint32{end, end}},
		"end too low":     {1, []uint32{end - 1}},
		"end behind body": {1, []uint32{end + 1}},
	} {
		if _, err := chain.NewBlock(chain.Header{Version: 1, Count: c.count}, c.ends, body); !errors.Is(err,
			chain.ErrFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseBlockErrors(t *testing.T) {
	b := makeBlock(t, chain.Head{}, startTime, workBits, makeRecords(0, 3, startTime, 20))
	good := b.Bytes()
	for n := range good {
		if _, err := chain.ParseBlock(good[:n]); !errors.Is(err, chain.ErrFrame) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(good), err)
		}
	}
	end := func(data []byte, i int) []byte { return data[chain.HeaderSize+4*i:] }
	add := func(data []byte, i int, d int32) {
		binary.BigEndian.PutUint32(end(data, i), uint32(int32(binary.BigEndian.Uint32(end(data, i)))+d))
	}
	for name, change := range map[string]func([]byte) []byte{
		"byte behind":          func(d []byte) []byte { return append(d, 0) },
		"not a header":         func(d []byte) []byte { d[0] = 1; return d },
		"count of no bytes":    func(d []byte) []byte { binary.BigEndian.PutUint32(d[18:], 1<<32-1); return d },
		"count too high":       func(d []byte) []byte { binary.BigEndian.PutUint32(d[18:], 4); return d },
		"count too low":        func(d []byte) []byte { binary.BigEndian.PutUint32(d[18:], 2); return d },
		"count zero":           func(d []byte) []byte { binary.BigEndian.PutUint32(d[18:], 0); return d },
		"first end too low":    func(d []byte) []byte { add(d, 0, -1); return d },
		"first end too high":   func(d []byte) []byte { add(d, 0, 1); return d },
		"last end too low":     func(d []byte) []byte { add(d, 2, -1); return d },
		"last end too high":    func(d []byte) []byte { add(d, 2, 1); return d },
		"ends run backwards":   func(d []byte) []byte { binary.BigEndian.PutUint32(end(d, 1), 3); return d },
		"end of 4 GiB":         func(d []byte) []byte { binary.BigEndian.PutUint32(end(d, 1), 1<<32-1); return d },
		"record's size wrong":  func(d []byte) []byte { d[chain.BlockOverhead(3)+33]++; return d },
		"record's size at cap": func(d []byte) []byte { d[chain.BlockOverhead(3)+30] = 0xff; return d },
	} {
		_, err := chain.ParseBlock(change(bytes.Clone(good)))
		if !errors.Is(err, chain.ErrFrame) || errors.Is(err, chain.ErrVersion) {
			t.Errorf("%s: %v", name, err)
		}
	}
	newer := bytes.Clone(good)
	newer[1] = chain.Version + 1
	if _, err := chain.ParseBlock(newer); !errors.Is(err, chain.ErrVersion) || !errors.Is(err, chain.ErrFrame) {
		t.Errorf("newer version: %v", err)
	}
}

func TestHeaderRoundTrip(t *testing.T) {
	h := chain.Header{
		Version: chain.Version, Block: 1<<63 + 5, First: 77, Count: 9, Prev: leafHash(1), Root: leafHash(2),
		Time: startTime, Difficulty: 200, Nonce: 1<<64 - 1,
	}
	data := h.AppendTo(nil)
	if len(data) != chain.HeaderSize {
		t.Fatalf("%d bytes", len(data))
	}
	back, err := chain.ParseHeader(append(data, "more"...))
	if err != nil || back != h {
		t.Errorf("got %+v, %v", back, err)
	}
	if h.Seal() != 86 || h.Size() != 87 {
		t.Errorf("seal %d, size %d", h.Seal(), h.Size())
	}
}

func TestSolve(t *testing.T) {
	h := headerFor(chain.Head{}, startTime, 10, makeRecords(0, 1, startTime, 8))
	inner := h.Inner()
	nonce, found := chain.Solve(inner, 10, 0, 1<<20)
	if !found || !chain.Mined(chain.BlockHash(inner, nonce), 10) {
		t.Fatalf("nonce %d, %v", nonce, found)
	}
	for n := range nonce {
		if chain.Mined(chain.BlockHash(inner, n), 10) {
			t.Fatalf("%d is an earlier nonce than %d", n, nonce)
		}
	}
	for _, c := range []struct {
		start, tries uint64
		found        bool
	}{
		{0, 0, false},
		{0, nonce, false},            // ends just before it
		{0, nonce + 1, true},         // ends with it
		{nonce, 1, true},             // starts with it
		{nonce, 0, false},            //
		{1<<64 - 3, nonce + 4, true}, // wraps around: no nonce below 0 may be found
	} {
		got, ok := chain.Solve(inner, 10, c.start, c.tries)
		if ok != c.found || ok && c.start <= nonce && got != nonce {
			t.Errorf("from %d, %d tries: %d, %v", c.start, c.tries, got, ok)
		}
		if ok && !chain.Mined(chain.BlockHash(inner, got), 10) {
			t.Errorf("from %d: %d does not fit", c.start, got)
		}
	}
	if _, found := chain.Solve(inner, 255, 0, 1000); found {
		t.Error("a hash of 255 zero bits")
	}
	if nonce, found := chain.Solve(inner, 0, 42, 1); !found || nonce != 42 {
		t.Error("difficulty 0 takes the first nonce")
	}
}

func TestLeadingZeros(t *testing.T) {
	var h chain.Hash
	if chain.LeadingZeros(h) != 256 || !chain.Mined(h, 255) {
		t.Error("zero hash")
	}
	for bit := range 255 {
		var h chain.Hash
		h[bit/8] = 0x80 >> (bit % 8)
		if chain.LeadingZeros(h) != bit {
			t.Errorf("bit %d: %d", bit, chain.LeadingZeros(h))
		}
		if !chain.Mined(h, uint8(bit)) || chain.Mined(h, uint8(bit+1)) {
			t.Errorf("bit %d: Mined", bit)
		}
	}
}
