package storagenode

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/blockindex"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// copyDir makes a copy of a data folder.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := memDir(t)
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// flip changes one bit of a file in place.
func flip(t testing.TB, path string, offset int64) {
	t.Helper()
	f, err := segment.OpenFile(path, os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
	must(t, f.Close())
}

func flipEnd(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	flip(t, path, info.Size()-1)
}

func short(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// edit replaces the content of a file in place.
func edit(t testing.TB, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(change(data)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// noFolder puts a file in place of a folder.
func noFolder(t *testing.T, path string) { must(t, os.WriteFile(path, []byte("no folder"), 0o600)) }

// misplace puts something else in place of a file or folder of the node.
func misplace(t *testing.T, path string, put func(*testing.T, string)) {
	t.Helper()
	must(t, os.RemoveAll(path))
	put(t, path)
}

// segmentSpan returns the blocks of a segment.
func segmentSpan(t testing.TB, n *Node, block uint64) chain.Range {
	t.Helper()
	_, seg, ok := n.index.Get(block)
	if !ok {
		t.Fatalf("no block %d", block)
	}
	return chain.Range{From: seg, To: n.index.SegmentEnd(seg)}
}

// segmentOf returns the path of a block's segment, and the block's place in it.
func segmentOf(t testing.TB, n *Node, number uint64) (path string, p blockindex.Place) {
	t.Helper()
	p, seg, ok := n.index.Get(number)
	if !ok {
		t.Fatalf("no block %d", number)
	}
	return filepath.Join(n.dir.Segments(), segment.Name(seg)), p
}

// quarantined returns the content of all files in quarantine/.
func quarantined(t testing.TB, n *Node) map[string][]byte {
	t.Helper()
	kept := map[string][]byte{}
	entries, err := os.ReadDir(n.dir.Quarantine())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if kept[e.Name()], err = os.ReadFile(filepath.Join(n.dir.Quarantine(), e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return kept
}

// shortenLast truncates the last segment by a number of bytes. It removes the file if bytes is negative.
func shortenLast(t *testing.T, dir string, bytes int64) {
	t.Helper()
	list, err := segment.List(dir + "/segments")
	if err != nil {
		t.Fatal(err)
	}
	path := dir + "/segments/" + segmentName(list[len(list)-1])
	if bytes < 0 {
		must(t, os.Remove(path))
		return
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	short(t, path, info.Size()-bytes)
}

// damageCopy opens a copy of a data folder and damages it, while the node runs or while it is down. It returns the
// running node, and its configuration.
func damageCopy(t *testing.T, from string, running bool, damage func(n *Node)) (*Node, Config) {
	t.Helper()
	cfg := Config{AtRest: testKeys, Dir: copyDir(t, from), SegmentBytes: 2000}
	n := mustOpen(t, cfg)
	if running {
		damage(n)
		return n, cfg
	}
	mustClose(t, n)
	damage(n)
	return mustOpen(t, cfg), cfg
}

// repairAll repairs blocks of a node from another one. The node must then be clean and complete. It is
// closed, and the offline verifier must find the same.
func (c *testChain) repairAll(t *testing.T, source, n *Node, height int, bad []chain.Range) {
	t.Helper()
	c.repair(t, source, n, n.Status().Height, bad...)
	c.clean(t, n, height)
	c.check(t, n, height)
	mustClose(t, n)
	verified(t, n.cfg.Dir, c, height)
}
