package storagenode

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/blockindex"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// damage is a row of the damage matrix. It is done to block at and its segment, on a node with matrixHeight blocks.
type damage struct {
	name string
	do   func(t *testing.T, m *matrix)
	what string                            // of the first finding
	code string                            // of each finding's detail, or the second of two; "" for any
	bad  func(m *matrix) (from, to uint64) // while it runs; nil for the block alone
	nop  bool                              // repaired without a bad block
}

const matrixHeight, matrixAt = 60, 20

type matrix struct {
	c    *testChain
	dir  string
	path string // of the segment
	p    blockindex.Place
	span chain.Range
}

func (m *matrix) frame(change func(frame []byte)) func(data []byte) []byte {
	return func(data []byte) []byte {
		change(data[m.p.Offset:m.p.End()])
		return data
	}
}

// sealed corrects the checksum of a changed frame.
func sealed(frame []byte) {
	binary.BigEndian.PutUint32(frame[4:], durable.Checksum(frame[segment.FrameHeader:]))
}

func (m *matrix) rest() (uint64, uint64) { return matrixAt, m.span.To }
func (m *matrix) all() (uint64, uint64)  { return m.span.From, m.span.To }

func damages() []damage {
	inFrame := func(change func(m *matrix, frame []byte)) func(*testing.T, *matrix) {
		return func(t *testing.T, m *matrix) {
			edit(t, m.path, m.frame(func(f []byte) { change(m, f) }))
		}
	}
	record := func(m *matrix) int { // the first record's offset in the frame
		return segment.FrameHeader + chain.BlockOverhead(m.p.Count)
	}
	return []damage{
		{name: "payload", what: chain.WrongPayload, code: wire.CodeRecordsDiffer,
			do: inFrame(func(m *matrix, f []byte) { f[len(f)-1] ^= 1 })},
		{name: "payload, sealed", what: chain.WrongPayload, code: wire.CodeRecordsDiffer,
			do: inFrame(func(m *matrix, f []byte) { f[len(f)-1] ^= 1; sealed(f) })},
		{name: "salt", what: chain.WrongPayload, code: wire.CodeRecordsDiffer,
			do: inFrame(func(m *matrix, f []byte) { f[record(m)+13] ^= 1 })},
		{name: "header root", what: chain.WrongRoot, code: wire.CodeBlockRoot,
			do: inFrame(func(m *matrix, f []byte) { f[segment.FrameHeader+60] ^= 1 })},
		{name: "header prev", what: chain.WrongLink, code: wire.CodeBlockLink,
			do: inFrame(func(m *matrix, f []byte) { f[segment.FrameHeader+30] ^= 1; sealed(f) })},
		{name: "header number", what: chain.WrongLink, code: wire.CodeBlockNumber,
			do: inFrame(func(m *matrix, f []byte) { f[segment.FrameHeader+9] ^= 1 })},
		{name: "nonce", what: chain.WrongWork, code: wire.CodeBlockWork, do: inFrame(func(m *matrix, f []byte) {
			h := m.c.blocks[matrixAt].Header
			for h.Nonce++; chain.Mined(h.Hash(), h.Difficulty); h.Nonce++ {
			}
			h.AppendTo(f[segment.FrameHeader:segment.FrameHeader])
			sealed(f)
		})},
		{name: "nonce that is also one", what: chain.WrongLink, do: inFrame(func(m *matrix, f []byte) {
			h := m.c.blocks[matrixAt].Header
			for h.Nonce++; !chain.Mined(h.Hash(), h.Difficulty); h.Nonce++ {
			}
			h.AppendTo(f[segment.FrameHeader:segment.FrameHeader])
			sealed(f)
		})},
		{name: "frame length", what: chain.WrongFrame, code: wire.CodeFrameLength,
			do: inFrame(func(_ *matrix, f []byte) { f[2] ^= 1 })},
		{name: "checksum", what: chain.WrongFrame, code: wire.CodeFrameChecksum,
			do: inFrame(func(_ *matrix, f []byte) { f[5] ^= 1 })},
		{name: "table", what: chain.WrongFrame, code: wire.CodeBlockForm,
			do: inFrame(func(_ *matrix, f []byte) { f[segment.FrameHeader+chain.HeaderSize] ^= 1 })},
		{name: "cut out", bad: (*matrix).rest, do: func(t *testing.T, m *matrix) {
			edit(t, m.path, func(data []byte) []byte {
				return append(data[:m.p.Offset:m.p.Offset], data[m.p.End():]...)
			})
		}},
		{name: "cut in the frame", what: chain.WrongFrame, bad: (*matrix).rest, do: func(t *testing.T, m *matrix) {
			edit(t, m.path, func(data []byte) []byte { return data[:m.p.Offset+50] })
		}},
		{name: "cut before the frame", what: chain.WrongMissing, bad: (*matrix).rest,
			do: func(t *testing.T, m *matrix) {
				edit(t, m.path, func(data []byte) []byte { return data[:m.p.Offset] })
			}},
		{name: "segment deleted", what: chain.WrongMissing, code: wire.CodeFileMissing,
			bad: (*matrix).all, do: func(t *testing.T, m *matrix) {
				if err := os.Remove(m.path); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "segment emptied", what: chain.WrongMissing, bad: (*matrix).all, do: func(t *testing.T, m *matrix) {
			edit(t, m.path, func([]byte) []byte { return nil })
		}},
		{name: "segment replaced by an older copy", what: chain.WrongMissing, bad: (*matrix).rest,
			do: func(t *testing.T, m *matrix) {
				data, err := os.ReadFile(m.path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(m.path+".tmp", data[:m.p.Offset], 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(m.path+".tmp", m.path); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "two blocks swapped", bad: func(*matrix) (uint64, uint64) { return matrixAt, matrixAt + 2 },
			do: func(t *testing.T, m *matrix) {
				edit(t, m.path, func(data []byte) []byte {
					other := m.c.frameOf(matrixAt + 1)
					mine := bytes.Clone(data[m.p.Offset:m.p.End()])
					if !bytes.Equal(data[m.p.End():][:len(other)], other) {
						t.Fatal("the next block is not in this segment")
					}
					return append(append(append(data[:m.p.Offset:m.p.Offset], other...), mine...),
						data[int(m.p.End())+len(other):]...)
				})
			}},
		{name: "segment header", what: chain.WrongFrame, nop: true, do: func(t *testing.T, m *matrix) {
			edit(t, m.path, func(data []byte) []byte { data[10] ^= 1; return data })
		}},
	}
}

// TestDamageMatrix does each kind of damage while the node runs and while it is down. The check must find exactly the
// bad blocks, and the offline verifier must find the same. No wrong data may be read. A repair from another node must
// send only the bad blocks, and the next check must be clean.
func TestDamageMatrix(t *testing.T) {
	c, cfg := filled(t, 20, matrixHeight)
	source := c.source(t)
	for _, row := range damages() {
		for _, running := range []bool{true, false} {
			name := row.name + ", down"
			if running {
				name = row.name + ", running"
			}
			t.Run(name, func(t *testing.T) { matrixRow(t, c, cfg.Dir, source, row, running) })
		}
	}
}

func matrixRow(t *testing.T, c *testChain, folder string, source *Node, row damage, running bool) {
	m := &matrix{c: c}
	n, cfg := damageCopy(t, folder, running, func(n *Node) {
		m.dir, m.span = n.cfg.Dir, segmentSpan(t, n, matrixAt)
		m.path, m.p = segmentOf(t, n, matrixAt)
		if _, err := n.Block(matrixAt); running && err != nil { // so that the file is open
			t.Fatal(err)
		}
		row.do(t, m)
		if _, err := offline(m.dir).Verify(context.Background(), nil); !running && err == nil {
			t.Fatal("the verifier sees nothing")
		}
	})
	from, to := uint64(matrixAt), uint64(matrixAt+1)
	if row.bad != nil {
		from, to = row.bad(m)
	}
	bad := []chain.Range{{From: from, To: to}}
	if row.nop {
		bad = nil
	}
	r := c.checked(t, n, matrixHeight)
	if !reflect.DeepEqual(r.Bad, bad) || r.Unchecked != matrixHeight || r.Other || r.Tiles != 0 {
		t.Fatalf("report %+v, want bad %v", r, bad)
	}
	if row.nop {
		if running && (len(r.Findings) != 1 || r.Findings[0].What != row.what) {
			t.Fatalf("findings %+v", r.Findings)
		}
		c.clean(t, n, matrixHeight)
		return
	}
	if len(r.Findings) != int(to-from) || r.Findings[0].Block != from || row.what != "" &&
		r.Findings[0].What != row.what {
		t.Fatalf("findings %+v, want %s", r.Findings, row.what)
	}
	for _, f := range r.Findings {
		detail := f.DetailCoded
		if both := detail.Code == wire.CodeTwoFaults; both {
			detail = detail.Args["more"].(wire.Message)
		}
		if detail.Args["file"] != filepath.Base(m.path) || f.Detail != f.DetailCoded.Text() {
			t.Errorf("finding %+v does not name the file", f)
		}
		if row.code != "" && detail.Code != row.code {
			t.Errorf("finding %+v, want the code %s", f, row.code)
		}
	}
	summary, err := offline(m.dir).Verify(context.Background(), nil)
	var first *chain.BlockError
	if !errors.As(err, &first) || first.Block != from || summary.Height != from ||
		summary.Hash != c.statusAt(int(from)).Hash ||
		!reflect.DeepEqual(summary.Bad, bad) || summary.Findings[0].What != r.Findings[0].What {
		t.Errorf("the verifier says %+v, %v", summary, err)
	}
	// All blocks that are not bad are readable, and no others.
	for number := range uint64(matrixHeight) {
		if number < from || number >= to {
			c.checkBlock(t, n, number, false)
			continue
		}
		for offset := range c.blocks[number].Header.Count {
			a := n.Read([]wire.Place{{Block: number, Offset: offset}}, 0, nil)[0]
			if a.Status == wire.ReadFound && c.provenRecord(number, offset, &a) == nil &&
				string(a.Record) != string(c.blocks[number].Encoded(offset)) {
				t.Errorf("record %d of block %d is read as %x", offset, number, a.Record)
			}
		}
	}
	got := c.repair(t, source, n, matrixHeight, bad...)
	if got.Blocks != to-from || len(got.Changed) != int(to-from) {
		t.Errorf("received %+v", got)
	}
	c.check(t, n, matrixHeight)
	c.clean(t, n, matrixHeight)
	mustClose(t, n)
	verified(t, m.dir, c, matrixHeight)
	n = mustOpen(t, cfg)
	if n.Unclean() {
		t.Error("unclean after a repair")
	}
	c.clean(t, n, matrixHeight)
}

// TestEveryBit flips every bit of a small chain's segments, one at a time, in a running node. Each must be found, and
// repaired from another node.
func TestEveryBit(t *testing.T) {
	c := newTestChain(21)
	for range 3 {
		c.grow(t, 1, 3)
	}
	const height = 3
	cfg := Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 300}
	n := mustOpen(t, cfg)
	c.putAll(t, n)
	source := c.source(t)
	list, err := segment.List(n.dir.Segments())
	if err != nil || len(list) < 2 {
		t.Fatal(list, err)
	}
	for _, first := range list {
		path := filepath.Join(n.dir.Segments(), segment.Name(first))
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		every := 1
		if testing.Short() {
			every = 7 // about one bit of each byte, a different one in the next
		}
		for bit := 0; bit < 8*len(good); bit += every {
			data := bytes.Clone(good)
			data[bit/8] ^= 1 << (bit % 8)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			r := c.checked(t, n, height)
			if len(r.Findings) != 1 || r.Unchecked != height || r.Other || r.Tiles != 0 {
				t.Fatalf("%s, bit %d of byte %d: %+v", path, bit%8, bit/8, r)
			}
			if bit/8 < segment.HeaderSize {
				if len(r.Bad) != 0 {
					t.Fatalf("bit %d of byte %d of the header: %+v", bit%8, bit/8, r)
				}
			} else if len(r.Bad) != 1 || r.Bad[0].Len() != 1 || r.Findings[0].Block != r.Bad[0].From {
				t.Fatalf("bit %d of byte %d: %+v", bit%8, bit/8, r)
			} else if bit%8 == 3 {
				c.repair(t, source, n, height, r.Bad...)
			} else if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, good) {
				t.Fatalf("bit %d of byte %d is not healed: %v", bit%8, bit/8, err)
			}
		}
	}
	c.clean(t, n, height)
}

// TestOtherChain checks a consistent chain that differs from the group's chain from some block on, which only the last
// hash shows. It must be moved aside, and the group's chain received.
func TestOtherChain(t *testing.T) {
	const height, fork = 40, 23
	c := newTestChain(22)
	c.growTo(t, fork)
	other := newTestChain(22)
	other.growTo(t, fork)
	for len(c.blocks) < height {
		c.grow(t, 3, 50)
		other.grow(t, 4, 60)
	}
	source := c.source(t)
	cfg := Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 2000}
	n := mustOpen(t, cfg)
	other.putAll(t, n)
	other.clean(t, n, height)
	r := c.checked(t, n, height)
	if !r.Other || len(r.Findings) > 0 || len(r.Bad) > 0 || r.Unchecked != height {
		t.Fatalf("report %+v", r)
	}
	if _, err := n.PutInbox(t.Context(), height, c.grow(t, 2, 20)); err != nil {
		t.Fatal(err)
	}
	got := c.repair(t, source, n, fork, chain.Range{From: fork, To: height})
	if got.Blocks != height-fork || got.Height != height+1 {
		t.Errorf("received %+v", got)
	}
	c.check(t, n, height+1)
	c.clean(t, n, height+1)
	all := ""
	for _, data := range quarantined(t, n) {
		all += string(data)
	}
	for _, b := range other.blocks[fork:] {
		if !strings.Contains(all, string(b.Bytes())) {
			t.Errorf("block %d of the other chain is gone", b.Header.Block)
		}
	}
	mustClose(t, n)
	verified(t, cfg.Dir, c, height+1)
}

// TestRemined: a part of the chain is mined again with one payload changed. The hashes on disk show which blocks were
// changed.
func TestRemined(t *testing.T) {
	const height, fork, back = 40, 20, 25
	c, cfg := filled(t, 23, height)
	source := c.source(t)
	for _, tiles := range []bool{true, false} {
		dir := copyDir(t, cfg.Dir)
		n := mustOpen(t, Config{AtRest: testKeys, Dir: dir, SegmentBytes: 2000})
		remine(t, c, n, fork, back)
		if !tiles {
			short(t, dir+"/tiles/00", 600)
		}
		want := []chain.Range{{From: fork, To: back}}
		for round := 0; ; round++ {
			r := c.checked(t, n, height)
			if tiles && round == 0 && (!reflect.DeepEqual(r.Bad, want) || r.Unchecked != height ||
				r.Findings[0].What != chain.WrongPayload) {
				t.Fatalf("report %+v", r)
			}
			if len(r.Bad) == 0 && !r.Other {
				break
			}
			if round == 10 {
				t.Fatalf("no end: %+v", r)
			}
			c.repair(t, source, n, height, r.Bad...)
		}
		c.clean(t, n, height)
		c.check(t, n, height)
		mustClose(t, n)
		verified(t, dir, c, height)
	}
}

// remine changes a payload of a block in the node's files, and mines that block and those after it again, up to a
// block.
func remine(t *testing.T, c *testChain, n *Node, from, to uint64) {
	t.Helper()
	v := chain.NewVerifier(chain.Head{})
	for number := range from {
		if _, err := v.Take(&c.blocks[number]); err != nil {
			t.Fatal(err)
		}
	}
	for number := from; number < to; number++ {
		data := bytes.Clone(c.blocks[number].Bytes())
		if number == from {
			data[len(data)-1] ^= 1
		}
		b, err := chain.ParseBlock(data)
		if err != nil {
			t.Fatal(err)
		}
		h := b.Header
		h.Prev, h.Root = v.Head().Hash, v.Head().Tree.Append(b.Leaves(nil)...).Root()
		var found bool
		if h.Nonce, found = chain.Solve(h.Inner(), h.Difficulty, 0, 1<<20); !found {
			t.Fatal("no nonce")
		}
		h.AppendTo(data[:0])
		if b, err = chain.ParseBlock(data); err != nil {
			t.Fatal(err)
		}
		if _, err := v.Take(&b); err != nil {
			t.Fatal(err)
		}
		path, p := segmentOf(t, n, number)
		edit(t, path, func(file []byte) []byte {
			copy(file[p.Offset:], segment.AppendFrame(nil, data))
			return file
		})
	}
}

// TestDerivedFiles damages files that are derived from the blocks while the node runs. They must be written again, and
// no block reported.
func TestDerivedFiles(t *testing.T) {
	const height = 60
	c, filledCfg := filled(t, 24, height)
	for name, row := range map[string]struct {
		damage func(t *testing.T, dir string)
		tiles  bool
	}{
		"leaf": {func(t *testing.T, dir string) { flip(t, dir+"/tiles/00", 512+32*40+5) }, true},
		"node": {func(t *testing.T, dir string) { flip(t, dir+"/tiles/04", 512+32*3) }, true},
		"leaf and node": {func(t *testing.T, dir string) {
			flip(t, dir+"/tiles/00", 512+32*70)
			flip(t, dir+"/tiles/04", 512+40)
		}, true},
		"tile header":    {func(t *testing.T, dir string) { flip(t, dir+"/tiles/00", 4) }, true},
		"leaves deleted": {func(t *testing.T, dir string) { remove(t, dir, "tiles/00") }, true},
		"leaves emptied": {func(t *testing.T, dir string) { short(t, dir+"/tiles/00", 0) }, true},
		"leaves cut":     {func(t *testing.T, dir string) { short(t, dir+"/tiles/00", 512+32*50+7) }, true},
		"nodes deleted":  {func(t *testing.T, dir string) { remove(t, dir, "tiles/04") }, true},
		"folder deleted": {func(t *testing.T, dir string) {
			remove(t, dir, "tiles")
			must(t, os.Mkdir(dir+"/tiles", 0o700))
		}, true},
		"leaves replaced": {func(t *testing.T, dir string) {
			remove(t, dir, "tiles/00")
			must(t, os.WriteFile(dir+"/tiles/00", make([]byte, 9000), 0o600))
		}, true},
		"synced":         {func(t *testing.T, dir string) { flip(t, dir+"/tiles/synced", 20) }, false},
		"synced deleted": {func(t *testing.T, dir string) { remove(t, dir, "tiles/synced") }, false},
		"index entry": {func(t *testing.T, dir string) { flip(t, dir+"/index", indexHeader+30*indexEntry+3) },
			false},
		"index header":  {func(t *testing.T, dir string) { flip(t, dir+"/index", 1) }, false},
		"index cut":     {func(t *testing.T, dir string) { short(t, dir+"/index", 100) }, false},
		"index deleted": {func(t *testing.T, dir string) { remove(t, dir, "index") }, false},
		"index replaced": {func(t *testing.T, dir string) {
			remove(t, dir, "index")
			must(t, os.WriteFile(dir+"/index", []byte("nothing"), 0o600))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{AtRest: testKeys, Dir: copyDir(t, filledCfg.Dir), SegmentBytes: 2000}
			n := mustOpen(t, cfg)
			c.check(t, n, height) // so that tiles are in memory
			row.damage(t, cfg.Dir)
			r := c.checked(t, n, height)
			if len(r.Findings) > 0 || len(r.Bad) > 0 || r.Unchecked != height || r.Other || row.tiles != (r.Tiles > 0) {
				t.Fatalf("report %+v", r)
			}
			c.clean(t, n, height)
			c.check(t, n, height)
			crash(t, n)
			if _, err := offline(cfg.Dir).Verify(context.Background(), nil); err != nil {
				t.Fatal(err)
			}
			n = mustOpen(t, cfg)
			if !n.Unclean() {
				t.Error("a crash is not told")
			}
			c.check(t, n, height)
			mustClose(t, n)
			verified(t, cfg.Dir, c, height)
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
