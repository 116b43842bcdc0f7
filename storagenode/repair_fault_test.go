package storagenode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// TestRewriteFaults fails every single operation on the node's files during a repair of two missing ranges and of the
// end of the chain, in each way, and then ends the process. The next start must have all blocks that were good before,
// and the repair must succeed.
func TestRewriteFaults(t *testing.T) {
	const height, end = 30, 36
	c, cfg := filled(t, 60, height)
	c.growTo(t, end)
	source := c.source(t)
	pieces := c.pieces(chain.Range{From: 5, To: 6}, chain.Range{From: 8, To: 10}, chain.Range{From: height, To: end})
	stream := streamOf(t, source, pieces)
	for _, how := range []string{notDone, halfDone, done} {
		for _, blind := range []bool{false, true} {
			if blind && how == halfDone {
				continue
			}
			hit := true
			for left := 0; hit; left++ {
				hit = rewriteFault(t, c, cfg, pieces, stream, left, how, blind)
			}
		}
	}
}

// rewriteFault runs the steps once, and reports whether they reached the operation. If blind is true there is no index,
// so that the places of the damaged blocks are unknown.
func rewriteFault(
	t *testing.T, c *testChain, cfg Config, pieces []wire.Piece, stream []byte, left int, how string, blind bool,
) bool {
	t.Helper()
	const height, end = 30, 36
	cfg.Dir = copyDir(t, cfg.Dir)
	disk := newFaultyDisk(1<<30, how)
	cfg.open = disk.open
	n := mustOpen(t, cfg)
	// The end of a segment is missing, or cannot be found.
	path, p := segmentOf(t, n, 8)
	if span := segmentSpan(t, n, 8); span.To != 10 {
		t.Fatalf("the segment of block 8 is %v", span)
	}
	path5, p5 := segmentOf(t, n, 5)
	flip(t, path5, p5.Offset+100)
	if blind {
		mustClose(t, n)
		flip(t, path, p.Offset)
		remove(t, cfg.Dir, "index")
		n = mustOpen(t, cfg)
		if q, _, _ := n.index.Get(8); !q.Lost() {
			t.Fatalf("block 8 stands at %+v", q)
		}
	} else {
		short(t, path, p.Offset+20)
	}
	order := wire.ReceiveOrder{Ticket: "t", Keep: height, Pieces: pieces}
	if _, err := n.Receive(t.Context(), order); err != nil {
		t.Fatal(err)
	}
	disk.mu.Lock()
	disk.left = left
	disk.mu.Unlock()
	err := n.Take(t.Context(), "t", bytes.NewReader(stream))
	name := fmt.Sprintf("operation %d (%s), %s", left, disk.hit, how)
	if (disk.hit != "") != errors.Is(err, ErrFailed) || disk.hit != "" && !errors.Is(err, errDisk) {
		t.Fatalf("%s: %v", name, err)
	}
	if disk.hit != "" {
		if err := <-n.Failed(); !errors.Is(err, errDisk) {
			t.Fatalf("%s: Failed delivers %v", name, err)
		}
		if _, err := n.Receive(t.Context(), wire.ReceiveOrder{Ticket: "other"}); !errors.Is(err, ErrFailed) {
			t.Fatalf("%s: Receive after a failure: %v", name, err)
		}
	}
	crash(t, n)
	cfg.open = nil
	n = mustOpen(t, cfg)
	h := n.Status().Height
	if h < height || h > end || disk.hit == "" && h != end {
		t.Fatalf("%s: height %d", name, h)
	}
	for b := range h {
		if data, err := n.Block(b); err == nil && string(data) != string(c.blocks[b].Bytes()) || err != nil &&
			b != 5 && b != 8 && b != 9 {
			t.Fatalf("%s: block %d: %v", name, b, err)
		}
	}
	var ranges []chain.Range
	r := c.checked(t, n, int(h))
	if r.Unchecked != h || r.Other {
		t.Fatalf("%s: %+v", name, r)
	}
	ranges = chain.AddRange(r.Bad, chain.Range{From: h, To: end})
	c.repair(t, c.sourceOnce(t), n, h, ranges...)
	c.clean(t, n, end)
	mustClose(t, n)
	if left%5 == 0 {
		verified(t, cfg.Dir, c, end)
	}
	return disk.hit != ""
}

// sourceOnce returns a source that is created once, for a chain that does not grow any more.
func (c *testChain) sourceOnce(t testing.TB) *Node {
	if c.full == nil {
		c.full = c.source(t)
	}
	return c.full
}

// TestRebuildFaults fails the writes of a check that rewrites the tree's hashes. The node must stop.
func TestRebuildFaults(t *testing.T) {
	const height = 40
	c, base := filled(t, 61, height)
	for _, how := range []string{notDone, halfDone, done} {
		hit := true
		for left := 0; hit; left++ {
			disk := newFaultyDisk(1<<30, how)
			cfg := Config{AtRest: testKeys, Dir: copyDir(t, base.Dir), SegmentBytes: 2000, open: disk.open}
			n := mustOpen(t, cfg)
			flip(t, cfg.Dir+"/tiles/00", 512+32*20)
			flip(t, cfg.Dir+"/tiles/04", 512+32*2)
			flip(t, cfg.Dir+"/index", indexHeader+40)
			path, _ := segmentOf(t, n, 20)
			flip(t, path, 9)
			remove(t, cfg.Dir, "tiles/synced")
			disk.mu.Lock()
			disk.left = left
			disk.mu.Unlock()
			status := c.ended(t, n, height)
			hit = disk.hit != ""
			if hit != (status.Error != "") || hit == (status.Report != nil) {
				t.Fatalf("operation %d (%s), %s: %+v", left, disk.hit, how, status)
			}
			if hit {
				if err := <-n.Failed(); !errors.Is(err, errDisk) {
					t.Fatalf("operation %d (%s), %s: %v", left, disk.hit, how, err)
				}
			}
			crash(t, n)
			cfg.open = nil
			n = mustOpen(t, cfg)
			c.checked(t, n, height)
			c.clean(t, n, height)
			c.check(t, n, height)
			mustClose(t, n)
		}
	}
}

// TestConfirmedLost checks that blocks that are confirmed as lost are not reported, and that the offline verifier knows
// them.
func TestConfirmedLost(t *testing.T) {
	const height = 40
	c, cfg := filled(t, 62, height)
	n := mustOpen(t, cfg)
	for _, b := range []uint64{7, 20} {
		path, p := segmentOf(t, n, b)
		flip(t, path, p.Offset+100)
	}
	lost := chain.Range{From: 20, To: 21}
	r := c.checked(t, n, height, lost)
	if len(r.Findings) != 1 || !reflect.DeepEqual(r.Bad, []chain.Range{{From: 7, To: 8}}) || r.Other ||
		r.Unchecked != height {
		t.Fatalf("report %+v", r)
	}
	c.repair(t, c.source(t), n, height, chain.Range{From: 7, To: 8})
	r = c.checked(t, n, height, lost)
	if len(r.Findings) != 0 || len(r.Bad) != 0 || r.Other || r.Tiles != 0 {
		t.Fatalf("report %+v", r)
	}
	mustClose(t, n)
	got, err := offline(cfg.Dir).Verify(context.Background(), nil)
	at := c.statusAt(height)
	if want := (audit.Summary{Height: at.Height, Hash: at.Hash, Size: at.Size, Records: at.Size - at.Height,
		Lost: []chain.Range{lost}}); err != nil ||
		!reflect.DeepEqual(got, want) {
		t.Fatalf("verified %+v, %v", got, err)
	}
	n = mustOpen(t, cfg)
	if r := c.checked(t, n, height); !reflect.DeepEqual(r.Bad, []chain.Range{lost}) { // found again later
		t.Fatalf("report %+v", r)
	}
	c.repair(t, c.source(t), n, height, lost)
	c.clean(t, n, height)
	mustClose(t, n)
	verified(t, cfg.Dir, c, height)
}

// TestCheckJobs checks that a check starts once per name, that another name replaces it, and that Close ends a waiting
// one.
func TestCheckJobs(t *testing.T) {
	const height = 40
	c, cfg := filled(t, 63, height)
	n := mustOpen(t, cfg)
	order := wire.CheckOrder{Check: "slow", Height: height, Hash: c.statusAt(height).Hash, Rate: 1}
	if s, err := n.Check(t.Context(), order); err != nil || s.Report != nil || s.Total == 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	if s, err := n.Check(t.Context(), order); err != nil || s.Check != "slow" || s.Report != nil {
		t.Fatalf("%+v, %v", s, err)
	}
	slow := n.check
	r := c.checked(t, n, height)
	if len(r.Bad) > 0 {
		t.Errorf("report %+v", r)
	}
	select {
	case <-slow.job.ended:
	default:
		t.Error("the first check runs on")
	}
	short := c.checked(t, n, height)
	order.Check, order.Height = "beyond", height+2
	if _, err := n.Check(t.Context(), order); err != nil {
		t.Fatal(err)
	}
	mustClose(t, n)
	if _, err := n.Check(t.Context(), order); !errors.Is(err, ErrFailed) {
		t.Errorf("after Close: %v", err)
	}
	_ = short
	n = mustOpen(t, cfg)
	c.growTo(t, height+2)
	r = c.checked(t, n, height+2)
	if len(r.Findings) != 1 || r.Findings[0].What != chain.WrongShort || r.Findings[0].Block != height ||
		!reflect.DeepEqual(r.Bad, []chain.Range{{From: height, To: height + 2}}) || r.Unchecked != height+2 || r.Other {
		t.Errorf("report %+v", r)
	}
	empty := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t)})
	c.clean(t, empty, 0)
}

// TestManyThreads checks that a check with several threads has the same findings.
func TestManyThreads(t *testing.T) {
	const height = 60
	c, cfg := filled(t, 64, height)
	for _, threads := range []int{1, 2, 3} {
		cfg.CheckThreads = threads
		dir := copyDir(t, cfg.Dir)
		n := mustOpen(t, Config{AtRest: testKeys, Dir: dir, SegmentBytes: 2000, CheckThreads: threads})
		c.clean(t, n, height)
		span := segmentSpan(t, n, 30)
		must(t, os.Remove(n.dir.Segments()+"/"+segmentName(span.From)))
		path, p := segmentOf(t, n, 10)
		flip(t, path, p.Offset+100)
		if r := c.checked(t, n, height); !reflect.DeepEqual(r.Bad, []chain.Range{{From: 10, To: 11}, span}) {
			t.Errorf("%d threads: %+v", threads, r)
		}
	}
}

func TestUnclean(t *testing.T) {
	c, cfg := filled(t, 65, 20)
	n := mustOpen(t, cfg)
	if n.Unclean() {
		t.Error("unclean after a good end")
	}
	crash(t, n)
	n = mustOpen(t, cfg)
	if !n.Unclean() {
		t.Error("a crash is not told")
	}
	mustClose(t, n)
	for name, damage := range map[string]func(dir string){
		"index":          func(dir string) { remove(t, dir, "index") },
		"index cut":      func(dir string) { short(t, dir+"/index", 200) },
		"tiles":          func(dir string) { remove(t, dir, "tiles") },
		"last block":     func(dir string) { shortenLast(t, dir, 3) },
		"last segment":   func(dir string) { shortenLast(t, dir, -1) },
		"segment header": func(dir string) { flip(t, dir+"/segments/"+segmentName(0), 3) },
	} {
		cfg := Config{AtRest: testKeys, Dir: copyDir(t, cfg.Dir), SegmentBytes: 2000}
		damage(cfg.Dir)
		n := mustOpen(t, cfg)
		if !n.Unclean() {
			t.Errorf("%s: not told", name)
		}
		mustClose(t, n)
		if n = mustOpen(t, cfg); n.Unclean() {
			t.Errorf("%s: told twice", name)
		}
	}
	_ = c
}

func segmentName(first uint64) string { return segment.Name(first) }
