package export_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"reflect"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/verify/export"
)

// makeChain returns a chain of blocks of one record each.
func makeChain(t testing.TB, blocks int) ([]chain.Block, chain.Head) {
	t.Helper()
	v := chain.NewVerifier(chain.Head{})
	var made []chain.Block
	for n := range blocks {
		head := v.Head()
		r := chain.Record{Project: 1, Time: uint64(n), Type: "text/plain", Payload: fmt.Appendf(nil, "record %d", n)}
		h := chain.Header{
			Version: chain.Version, Block: head.Height, First: head.Tree.Size(), Count: 1, Prev: head.Hash,
			Root: head.Tree.Append(r.Leaf().Hash()).Root(), Time: uint64(n),
		}
		body := r.AppendTo(nil)
		b, err := chain.NewBlock(h, []uint32{uint32(len(body))}, body)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Take(&b); err != nil {
			t.Fatal(err)
		}
		made = append(made, b)
	}
	return made, v.Head()
}

var group = export.Group{ID: "g", Epoch: 3, Term: 9}

// write returns an export.
func write(t testing.TB, blocks []chain.Block, head chain.Head, keys, checkpoints []string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := export.NewWriter(&out, group, keys, checkpoints)
	if err != nil {
		t.Fatal(err)
	}
	for i := range blocks {
		if err := w.Block(&blocks[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.End(head); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// read reads an export to its end.
func read(data io.Reader) (r *export.Reader, blocks [][]byte, err error) {
	if r, err = export.NewReader(data); err != nil {
		return nil, nil, err
	}
	for {
		b, err := r.Block()
		if errors.Is(err, io.EOF) {
			return r, blocks, nil
		}
		if err != nil {
			return r, blocks, err
		}
		blocks = append(blocks, bytes.Clone(b.Bytes()))
	}
}

func TestRoundTrip(t *testing.T) {
	for blocks := range 4 {
		for texts := range 3 {
			made, head := makeChain(t, blocks)
			keys, checkpoints := []string{"one", "two"}[:texts], []string{"first\n", "second\n"}[:texts]
			data := write(t, made, head, keys, checkpoints)
			r, got, err := read(bytes.NewReader(data))
			if err != nil || len(got) != blocks || r.Group != group || r.End() != export.EndOf(head) ||
				r.End().Height != uint64(blocks) {
				t.Fatalf("%d blocks: %+v, %v", blocks, r, err)
			}
			if len(r.Keys) != texts || len(r.Checkpoints) != texts || texts > 0 &&
				!(reflect.DeepEqual(r.Keys, keys) && reflect.DeepEqual(r.Checkpoints, checkpoints)) {
				t.Errorf("%q, %q", r.Keys, r.Checkpoints)
			}
			for i := range got {
				if !bytes.Equal(got[i], made[i].Bytes()) {
					t.Errorf("block %d is another", i)
				}
			}
			if _, err := r.Block(); !errors.Is(err, io.EOF) {
				t.Errorf("behind the end: %v", err)
			}
		}
	}
}

// TestVector checks the test vector of docs/formats.md: an export without blocks.
func TestVector(t *testing.T) {
	const vector = "435345580100000001000000110000000000000003000000000000000967f430ee52" +
		"ff0000005000000000000000000000000000000000" +
		"0000000000000000000000000000000000000000000000000000000000000000" +
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" + "c4cf7979"
	if got := hex.EncodeToString(write(t, nil, chain.Head{}, nil, nil)); got != vector {
		t.Errorf("got %s", got)
	}
}

// TestDamage checks that a file that is truncated anywhere, or has any changed byte, is detected as damaged.
func TestDamage(t *testing.T) {
	made, head := makeChain(t, 2)
	data := write(t, made, head, []string{"key"}, []string{"checkpoint\n"})
	for n := range data {
		if _, _, err := read(bytes.NewReader(data[:n])); !errors.Is(err, export.ErrFormat) {
			t.Errorf("cut at %d: %v", n, err)
		}
		for bit := range 8 {
			flipped := bytes.Clone(data)
			flipped[n] ^= 1 << bit
			if _, _, err := read(bytes.NewReader(flipped)); !errors.Is(err, export.ErrFormat) {
				t.Errorf("byte %d, bit %d: %v", n, bit, err)
			}
		}
	}
	if _, _, err := read(bytes.NewReader(append(bytes.Clone(data), 0))); !errors.Is(err, export.ErrFormat) {
		t.Errorf("more behind it: %v", err)
	}
	newer := bytes.Clone(data)
	newer[4] = 2
	if _, _, err := read(bytes.NewReader(newer)); !errors.Is(err, export.ErrNewerFormat) {
		t.Errorf("newer: %v", err)
	}
	broken := errors.New("the disk")
	if _, _, err := read(io.MultiReader(bytes.NewReader(data[:100]), &failing{broken})); !errors.Is(err, broken) ||
		errors.Is(err, export.ErrFormat) {
		t.Errorf("a disk that fails: %v", err)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// part returns a part with a correct checksum.
func part(kind byte, data string) string {
	p := append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(data))), data...)
	return string(binary.BigEndian.AppendUint32(p, crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli))))
}

// TestOrder checks undamaged parts in the wrong order, or of an unknown form.
func TestOrder(t *testing.T) {
	const head = "CSEX\x01\x00\x00\x00"
	made, at := makeChain(t, 1)
	group, key, checkpoint, block := part(1, "0123456789abcdefg"), part(2, "key"), part(3, "checkpoint"),
		part(4, string(made[0].Bytes()))
	whole := string(write(t, made, at, nil, nil))
	end := whole[len(whole)-5-80-4:]
	if _, _, err := read(bytes.NewReader([]byte(head + group + key + checkpoint + block + end))); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"no group":                  head + key + end,
		"short group":               head + part(1, "0123") + end,
		"group not UTF-8":           head + part(1, "0123456789abcdef\xff") + end,
		"two groups":                head + group + group + end,
		"key behind a checkpoint":   head + group + checkpoint + key + end,
		"key behind a block":        head + group + block + key + end,
		"checkpoint behind a block": head + group + block + checkpoint + end,
		"group behind a block":      head + group + block + group + end,
		"two ends":                  head + group + end + end,
		"no end":                    head + group + block,
		"short end":                 head + group + part(255, "0123"),
		"long end":                  head + group + part(255, string(make([]byte, 81))),
		"unknown kind":              head + group + part(5, "") + end,
		"no block":                  head + group + part(4, "block") + end,
		"more than a block":         head + group + part(4, string(made[0].Bytes())+"x") + end,
		"long key":                  head + group + part(2, string(make([]byte, 65<<10))) + end,
		"padding":                   "CSEX\x01\x00\x00\x01" + group + end,
		"version 0":                 "CSEX\x00\x00\x00\x00" + group + end,
		"another magic":             "CSEY\x01\x00\x00\x00" + group + end,
		// A length of 4 GiB without data must not allocate memory for it.
		"long block": head + group + "\x04\xff\xff\xff\xff",
	} {
		if _, _, err := read(bytes.NewReader([]byte(data))); !errors.Is(err, export.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var many []string
	for range 1001 {
		many = append(many, "x")
	}
	if _, err := export.NewWriter(io.Discard, export.Group{}, many, nil); err == nil {
		t.Error("1001 keys are written")
	}
	if _, err := export.NewWriter(io.Discard, export.Group{}, []string{string(make([]byte, 65<<10))}, nil); err == nil {
		t.Error("a key of 65 KiB is written")
	}
	long := head + group
	for range 1001 {
		long += part(3, "x")
	}
	if _, _, err := read(bytes.NewReader([]byte(long + end))); !errors.Is(err, export.ErrFormat) {
		t.Errorf("1001 checkpoints: %v", err)
	}
}

// FuzzRead checks that the reader does not panic on any file, and that a file that it accepts is written again with the
// same bytes.
func FuzzRead(f *testing.F) {
	made, head := makeChain(f, 2)
	f.Add(write(f, made, head, []string{"key"}, []string{"checkpoint\n"}))
	f.Add(write(f, nil, chain.Head{}, nil, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, blocks, err := read(bytes.NewReader(data))
		if err != nil {
			return
		}
		var again bytes.Buffer
		w, err := export.NewWriter(&again, r.Group, r.Keys, r.Checkpoints)
		if err != nil {
			t.Fatal(err)
		}
		for i := range blocks {
			b, err := chain.ParseBlock(blocks[i])
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Block(&b); err != nil {
				t.Fatal(err)
			}
		}
		const endPart = 5 + 80 + 4 // excluded: the head in it is arbitrary
		if err := w.End(chain.Head{}); err != nil ||
			!bytes.Equal(again.Bytes()[:again.Len()-endPart], data[:len(data)-endPart]) {
			t.Errorf("%x was read, and written as %x, %v", data, again.Bytes(), err)
		}
	})
}
