package wire_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

func hashes(n int) []chain.Hash {
	h := make([]chain.Hash, n)
	for i := range h {
		h[i] = chain.Hash{byte(i), 0xee}
	}
	return h
}

func TestPlacesRoundTrip(t *testing.T) {
	for _, n := range []int{1, 2, wire.MaxPlaces} {
		places := make([]wire.Place, n)
		for i := range places {
			places[i] = wire.Place{Block: 1<<64 - 1 - uint64(i), Offset: 1<<32 - 1 - uint32(i)}
		}
		data := wire.AppendPlaces(nil, places)
		back, err := wire.ParsePlaces(data)
		if err != nil || !reflect.DeepEqual(back, places) {
			t.Errorf("%d places: %v", n, err)
		}
		if _, err := wire.ParsePlaces(data[:len(data)-1]); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%d places, a byte short: %v", n, err)
		}
	}
	for _, n := range []int{0, wire.MaxPlaces + 1} {
		if _, err := wire.ParsePlaces(wire.AppendPlaces(nil, make([]wire.Place, n))); !errors.Is(err,
			wire.ErrMalformed) {
			t.Errorf("%d places: %v", n, err)
		}
	}
}

func TestProvenRecordsRoundTrip(t *testing.T) {
	answers := []wire.ProvenRecord{
		{Status: wire.ReadFound, Record: []byte("a record"), Path: hashes(3)},
		{Status: wire.ReadBehind, Record: []byte{}, Path: hashes(0)},
		{Status: wire.ReadBeyond, Record: []byte{}, Path: hashes(0)},
		{Status: wire.ReadBad, Record: []byte{}, Path: hashes(0)},
		{Status: wire.ReadFound, Record: bytes.Repeat([]byte("x"), 70_000), Path: hashes(255)},
	}
	var data []byte
	for i := range answers {
		data = answers[i].AppendTo(data)
	}
	rest := data
	for i := range answers {
		var got wire.ProvenRecord
		var err error
		got, rest, err = wire.ParseProvenRecord(rest)
		if err != nil || !reflect.DeepEqual(got, answers[i]) {
			t.Fatalf("answer %d: %v", i, err)
		}
		if cap(got.Record) != len(got.Record) {
			t.Errorf("answer %d can be appended to", i)
		}
	}
	if len(rest) != 0 {
		t.Errorf("%d bytes are left", len(rest))
	}
	one := answers[0].AppendTo(nil)
	for n := range one {
		if _, _, err := wire.ParseProvenRecord(one[:n]); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestProvenHeadersRoundTrip(t *testing.T) {
	header := chain.Header{Version: chain.Version, Block: 5, First: 9, Count: 3, Prev: chain.Hash{1},
		Root: chain.Hash{2}, Time: 7, Difficulty: 8, Nonce: 9}
	many := make([]wire.ProvenHeader, wire.MaxHeaders+1)
	for i := range many {
		many[i] = wire.ProvenHeader{Header: header, Path: hashes(i % 5)}
		many[i].Header.Block = uint64(i)
	}
	encode := func(headers []wire.ProvenHeader) (data []byte) {
		for i := range headers {
			data = headers[i].AppendTo(data)
		}
		return data
	}
	for _, n := range []int{0, 1, 7, wire.MaxHeaders} {
		back, err := wire.ParseProvenHeaders(encode(many[:n]))
		if err != nil || len(back) != n || n > 0 && !reflect.DeepEqual(back, many[:n]) {
			t.Errorf("%d headers: %d, %v", n, len(back), err)
		}
	}
	if _, err := wire.ParseProvenHeaders(encode(many)); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("a header too many: %v", err)
	}
	two := encode(many[2:4])
	whole := len(encode(many[2:3]))
	for n := 1; n < len(two); n++ {
		if _, err := wire.ParseProvenHeaders(two[:n]); n != whole && !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	two[1] = 9
	if _, err := wire.ParseProvenHeaders(two); !errors.Is(err, wire.ErrMalformed) || !errors.Is(err, chain.ErrVersion) {
		t.Errorf("another version: %v", err)
	}
}

func TestOrder(t *testing.T) {
	orders := []wire.Order{{}, {Term: 1}, {Term: 1<<64 - 1}, {Epoch: 1}, {Epoch: 1, Term: 5}, {Epoch: 1<<64 - 1}}
	for i, o := range orders {
		for j, p := range orders {
			if o.Less(p) != (i < j) {
				t.Errorf("%v before %v: %v", o, p, o.Less(p))
			}
		}
		for _, group := range []string{"g", "a group/with é, % and\n"} {
			caller := wire.Caller{Group: group, Order: o}
			if back, err := wire.ParseCaller(caller.String()); err != nil || back != caller {
				t.Errorf("%+v, %v, want %+v", back, err, caller)
			}
		}
		if back, err := wire.ParseOrder(o.String()); err != nil || back != o {
			t.Errorf("%v: %v, %v", o, back, err)
		}
	}
	for _, bad := range []string{"", ".", "1", "1.", ".1", "1.2.3", "-1.2", "1.+2", "a.b", "1 .2",
		"18446744073709551616.1"} {
		for _, form := range []string{bad, bad + " g", "1.1 " + bad + "%"} {
			if c, err := wire.ParseCaller(form); !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("%q: %+v, %v", form, c, err)
			}
		}
		if o, err := wire.ParseOrder(bad); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%q: %v, %v", bad, o, err)
		}
	}
}

func TestWorkerShowsNoToken(t *testing.T) {
	w := wire.Worker{URL: "http://w", Token: "secret"}
	for _, s := range []string{w.String(), w.GoString()} {
		if s != "http://w" {
			t.Errorf("%q", s)
		}
	}
}

func FuzzParsePlaces(f *testing.F) {
	f.Add(wire.AppendPlaces(nil, []wire.Place{{Block: 1, Offset: 2}, {Block: 3}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		places, err := wire.ParsePlaces(data)
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		if !bytes.Equal(wire.AppendPlaces(nil, places), data) {
			t.Error("other bytes when encoded again")
		}
	})
}

func FuzzParseProvenRecord(f *testing.F) {
	f.Add((&wire.ProvenRecord{Record: []byte("a record"), Path: hashes(3)}).AppendTo(nil))
	f.Add((&wire.ProvenRecord{Status: wire.ReadBad}).AppendTo(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, rest, err := wire.ParseProvenRecord(data)
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		if !bytes.Equal(append(p.AppendTo(nil), rest...), data) {
			t.Error("other bytes when encoded again")
		}
	})
}

func FuzzParseProvenHeaders(f *testing.F) {
	p := wire.ProvenHeader{Header: chain.Header{Version: chain.Version, Count: 1}, Path: hashes(2)}
	f.Add(p.AppendTo(p.AppendTo(nil)))
	f.Fuzz(func(t *testing.T, data []byte) {
		headers, err := wire.ParseProvenHeaders(data)
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		var again []byte
		for i := range headers {
			again = headers[i].AppendTo(again)
		}
		if !bytes.Equal(again, data) {
			t.Error("other bytes when encoded again")
		}
	})
}
