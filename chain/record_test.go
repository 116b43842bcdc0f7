package chain_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

func TestRecordCheck(t *testing.T) {
	for _, c := range []struct {
		name   string
		record chain.Record
		want   string // part of the error, "" if the record is valid
	}{
		{"empty", chain.Record{}, ""},
		{"longest key and type", chain.Record{Key: strings.Repeat("k", 255), Type: strings.Repeat("t", 255)}, ""},
		{"key too long", chain.Record{Key: strings.Repeat("k", 256)}, "key has 256 bytes, the limit is 255"},
		{"type too long", chain.Record{Type: strings.Repeat("t", 256)}, "type has 256 bytes, the limit is 255"},
		{"key not UTF-8", chain.Record{Key: "\xff"}, "key is not UTF-8"},
		{"type not UTF-8", chain.Record{Type: "a\xc3"}, "type is not UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.record.Check()
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, chain.ErrRecord) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestRecordRoundTrip(t *testing.T) {
	// The sizes are around the length at which commit changes its method of hashing.
	for _, size := range []int{0, 1, 31, 900, 990, 991, 992, 993, 1000, 1024, 1025, 70_000} {
		r := makeRecord(size, startTime, size)
		encoded := r.AppendTo([]byte("before"))[len("before"):]
		if len(encoded) != r.EncodedSize() {
			t.Errorf("%d bytes, EncodedSize says %d", len(encoded), r.EncodedSize())
		}
		back, err := chain.ParseRecord(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(back.Payload, r.Payload) {
			t.Errorf("size %d: payload differs", size)
		}
		back.Payload, r.Payload = nil, nil
		if !reflect.DeepEqual(back, r) {
			t.Errorf("got %+v, want %+v", back, r)
		}
		n, err := chain.EncodedRecordSize(append(encoded, "behind"...))
		if err != nil || n != len(encoded) {
			t.Errorf("EncodedRecordSize = %d, %v", n, err)
		}
	}
}

// TestEveryPartIsInTheLeaf checks that each field of a record changes its leaf, and that the boundaries between fields
// are unambiguous.
func TestEveryPartIsInTheLeaf(t *testing.T) {
	base := chain.Record{Project: 1, Time: 2, Key: "ab", Type: "cd", Payload: []byte("ef")}
	seen := map[chain.Hash]string{base.Leaf().Hash(): "base"}
	for name, change := range map[string]func(*chain.Record){
		"project":          func(r *chain.Record) { r.Project++ },
		"time":             func(r *chain.Record) { r.Time++ },
		"salt":             func(r *chain.Record) { r.Salt[15]++ },
		"key":              func(r *chain.Record) { r.Key = "aB" },
		"type":             func(r *chain.Record) { r.Type = "cD" },
		"payload":          func(r *chain.Record) { r.Payload = []byte("eF") },
		"key into type":    func(r *chain.Record) { r.Key, r.Type = "a", "bcd" },
		"type into data":   func(r *chain.Record) { r.Type, r.Payload = "c", []byte("def") },
		"payload cut":      func(r *chain.Record) { r.Payload = []byte("e") },
		"payload with 0":   func(r *chain.Record) { r.Payload = []byte("ef\x00") },
		"payload is empty": func(r *chain.Record) { r.Payload = nil },
	} {
		r := base
		change(&r)
		h := r.Leaf().Hash()
		if other, ok := seen[h]; ok {
			t.Errorf("%s and %s have the same leaf", name, other)
		}
		seen[h] = name
	}
}

func TestSetEncodedTime(t *testing.T) {
	r := makeRecord(1, 0, 40)
	encoded := r.AppendTo(nil)
	chain.SetEncodedTime(encoded, startTime)
	r.Time = startTime
	if !bytes.Equal(encoded, r.AppendTo(nil)) {
		t.Error("the time did not go where AppendTo puts it, or more than the time changed")
	}
}

func TestParseRecordErrors(t *testing.T) {
	r := makeRecord(1, startTime, 10)
	good := r.AppendTo(nil)
	for n := range good {
		if _, err := chain.ParseRecord(good[:n]); !errors.Is(err, chain.ErrFrame) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(good), err)
		}
	}
	change := func(change func(b []byte) []byte) []byte { return change(bytes.Clone(good)) }
	for name, data := range map[string][]byte{
		"byte behind":      change(func(b []byte) []byte { return append(b, 0) }),
		"key longer":       change(func(b []byte) []byte { b[28]++; return b }),
		"type longer":      change(func(b []byte) []byte { b[29] = 255; return b }),
		"payload shorter":  change(func(b []byte) []byte { b[33]--; return b }),
		"payload over cap": change(func(b []byte) []byte { b[30] = 0xff; return b }),
		"key not UTF-8":    change(func(b []byte) []byte { b[chain.RecordOverhead] = 0xff; return b }),
		"type not UTF-8":   change(func(b []byte) []byte { b[chain.RecordOverhead+len(r.Key)] = 0xff; return b }),
	} {
		if _, err := chain.ParseRecord(data); !errors.Is(err, chain.ErrFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseLeaf(t *testing.T) {
	r := makeRecord(1, startTime, 10)
	leaf := r.Leaf()
	data := leaf.AppendTo(nil)
	if len(data) != chain.LeafSize {
		t.Fatalf("%d bytes", len(data))
	}
	back, err := chain.ParseLeaf(data)
	if err != nil || back != leaf {
		t.Errorf("got %+v, %v", back, err)
	}
	seal := bytes.Clone(data)
	seal[0] = 0x02
	for _, bad := range [][]byte{nil, data[:48], append(bytes.Clone(data), 0), seal} {
		if _, err := chain.ParseLeaf(bad); !errors.Is(err, chain.ErrFrame) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

func TestHashText(t *testing.T) {
	h := makeRecordHash()
	text, err := h.MarshalText()
	if err != nil || string(text) != h.String() || strings.ToLower(h.String()) != h.String() || len(text) != 64 {
		t.Fatalf("%q, %v", text, err)
	}
	var back chain.Hash
	err = back.UnmarshalText([]byte(h.String()))
	if err != nil || back != h {
		t.Errorf("%v, %v", back, err)
	}
	if h.IsZero() || !(chain.Hash{}).IsZero() {
		t.Error("IsZero")
	}
	for _, bad := range []string{"", h.String()[1:], h.String() + "0", "x" + h.String()[1:]} {
		kept := h
		if err := kept.UnmarshalText([]byte(bad)); err == nil || kept != h {
			t.Errorf("%q: %v; a refused text must leave the hash as it is", bad, err)
		}
	}
}

func makeRecordHash() chain.Hash {
	r := makeRecord(1, startTime, 10)
	return r.Commit()
}
