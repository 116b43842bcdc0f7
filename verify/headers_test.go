package verify

import (
	"bytes"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// losing makes the log answer 410 for the bundles that have one of the leaves from (included) to (excluded), and for
// the records of the lost block.
func (l *testLog) losing(from, to, block uint64) {
	records := "v1/blocks/" + strconv.FormatUint(block, 10) + "/records"
	l.answers(func(w http.ResponseWriter, path string) bool {
		lost := path == records
		if number, is := strings.CutPrefix(path, "tile/entries/"); is {
			number, width, partial := strings.Cut(number, ".p/")
			n, _ := strconv.ParseUint(number, 10, 64)
			leaves := uint64(tileWidth)
			if partial {
				leaves, _ = strconv.ParseUint(width, 10, 64)
			}
			lost = n*tileWidth < to && n*tileWidth+leaves > from
		}
		if lost {
			w.WriteHeader(http.StatusGone)
		}
		return lost
	})
}

// headerReaders are those to whom a log gives headers. Only one with a token may read records.
var headerReaders = map[string]func(*Options){"no token": withoutToken, "a token": withToken}

func withoutToken(o *Options) { o.Token = "" }

// TestLogLostWithHeaders checks that the blocks in a bundle with a lost leaf are checked by their headers and hashes,
// that they are reported as only partly checked, and that later blocks are checked completely. With a token the records
// that it may read are checked too.
func TestLogLostWithHeaders(t *testing.T) {
	for _, c := range []struct {
		counts    []int
		from, to  uint64 // lost leaves
		block     uint64 // lost
		since     int    // blocks of an earlier run
		unchecked chain.Range
		remark    string
		leaves    uint64 // unchecked
		payloads  uint64
	}{
		{[]int{1, 1, 1, 1}, 0, 2, 0, 0, chain.Range{From: 0, To: 4}, "blocks 0 to 3 were", 8, 3},
		{[]int{2, 1, 1, 1}, 1, 3, 0, 0, chain.Range{From: 0, To: 4}, "blocks 0 to 3 were", 9, 3},
		{[]int{1, 1, 1, 1}, 4, 6, 2, 0, chain.Range{From: 2, To: 4}, "blocks 2 to 3 were", 4, 3},
		{[]int{1, 1, 1, 1}, 6, 8, 3, 2, chain.Range{From: 3, To: 4}, "blocks 3 to 3 were", 2, 1},
		{[]int{1, 1, 1, 1}, 0, 2, 0, 2, chain.Range{From: 2, To: 4}, "blocks 2 to 3 were", 4, 2},
		// The blocks end at 100, 200, 300, 400 and 500, and the first bundle at 256.
		{[]int{99, 99, 99, 99, 99}, 5, 9, 0, 0, chain.Range{From: 0, To: 3}, "blocks 0 to 2 were", 300, 4 * 50},
		{[]int{99, 99, 99, 99, 99}, 210, 300, 2, 0, chain.Range{From: 2, To: 5}, "blocks 2 to 4 were", 300, 4 * 50},
		// The block goes through several bundles.
		{[]int{9, 700, 9, 90}, 0, 600, 0, 0, chain.Range{From: 0, To: 4}, "blocks 0 to 3 were", 812, 350 + 5 + 45},
		{[]int{9, 757, 9}, 0, 600, 0, 0, chain.Range{From: 0, To: 2}, "blocks 0 to 1 were", 768, 379 + 5},
	} {
		if testing.Short() && c.leaves > 300 {
			continue // with many pages of records
		}
		for name, reader := range headerReaders {
			l := newTestLog(t, c.counts...)
			var state *State
			if c.since > 0 {
				var err error
				if _, state, err = l.fork(c.since, "").audit(l.fork(c.since, "").serve(), nil); err != nil {
					t.Fatal(err)
				}
			}
			l.losing(c.from, c.to, c.block)
			report, state, err := l.audit(l.serve(), state, reader)
			blocks, payloads, shown := uint64(len(c.counts)), c.payloads,
				"Their headers, the hashes of their leaves and the records that the log shows were checked. The other "
			if name == "no token" {
				payloads, shown = 0, "Their headers and the hashes of their leaves were checked. The leaves themselves,"
			}
			if err != nil || !report.Good() || !reflect.DeepEqual(report.Unchecked, []chain.Range{c.unchecked}) ||
				report.UncheckedLeaves != c.leaves || report.Height != blocks || report.SignedHeight != blocks ||
				report.Payloads != payloads || !slices.ContainsFunc(report.Remarks, func(r string) bool {
				return strings.HasPrefix(r, c.remark+" checked only in part") &&
					strings.Contains(r, shown)
			}) {
				t.Errorf("%s, %+v: %+v, %v", name, c, report, err)
				continue
			}
			if again, _, err := l.audit(l.serve(), state, reader); err != nil ||
				!reflect.DeepEqual(again.Unchecked, report.Unchecked) {
				t.Errorf("%s, %+v: the next run forgets: %+v, %v", name, c, again, err)
			}
			records := fmt.Sprintf("v1/blocks/%d/records", blocks-1)
			if name == "no token" && l.asked(records) > 0 {
				t.Errorf("%+v: records were requested without a token", c)
			}
		}
	}
}

// TestLogLostWithoutHeaders checks that an audit goes on without headers if the log gives none, or only some: one of an
// older version wants a token, and a header may be lost itself.
func TestLogLostWithoutHeaders(t *testing.T) {
	for _, refused := range []string{"v1/blocks/0", "v1/blocks/1"} {
		for _, status := range []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusGone} {
			for name, reader := range headerReaders {
				l := newTestLog(t, 99, 99, 99, 99)
				l.losing(0, 100, 0)
				lost := l.answer
				l.answers(func(w http.ResponseWriter, path string) bool {
					if path == refused {
						w.WriteHeader(status)
					}
					return path == refused || lost(w, path)
				})
				report, _, err := l.audit(l.serve(), nil, reader)
				if err != nil || !report.Good() || report.Height != 4 || report.UncheckedLeaves != 300 ||
					!reflect.DeepEqual(report.Unchecked, []chain.Range{{From: 0, To: 3}}) {
					t.Errorf("%s, %s %d: %+v, %v", name, refused, status, report, err)
				}
			}
		}
	}
}

// TestLogCannotGiveHeaders checks that blocks whose headers the log cannot give now do not count as lost. The next run
// would not look at them again.
func TestLogCannotGiveHeaders(t *testing.T) {
	for _, status := range []int{429, 500, 503} {
		for name, reader := range headerReaders {
			l := newTestLog(t, 3, 300, 4)
			l.losing(0, 3, 0)
			lost := l.answer
			l.answers(func(w http.ResponseWriter, path string) bool {
				if path == "v1/blocks/1" {
					w.WriteHeader(status)
					return true
				}
				return lost(w, path)
			})
			report, state, err := l.audit(l.serve(), nil, reader)
			if !hasStatus(err, status) || !report.Good() || report.Height > 1 {
				t.Errorf("%s, %d: %+v, %v", name, status, report, err)
			}
			l.answers(lost)
			report, _, err = l.audit(l.serve(), state, reader)
			if err != nil || report.Height != 3 || !slices.ContainsFunc(report.Remarks, func(r string) bool {
				return strings.Contains(r, " checked only in part")
			}) {
				t.Errorf("%s, %d, the next run: %+v, %v", name, status, report, err)
			}
		}
	}
}

// TestHostileHeaders has a row for each kind of header that is not the one of the tree. None may be passed over.
func TestHostileHeaders(t *testing.T) {
	header := func(change func(*wire.Block)) func(*testLog, http.ResponseWriter) {
		return func(l *testLog, w http.ResponseWriter) {
			b := wire.NewBlock(l.Blocks[1].Header)
			change(&b)
			l.serveJSON(w, b)
		}
	}
	for name, c := range map[string]struct {
		answer func(*testLog, http.ResponseWriter)
		want   string
	}{
		"version":    {header(func(b *wire.Block) { b.Version = 2 }), CodeVersion},
		"number":     {header(func(b *wire.Block) { b.Block = 2 }), CodeNumber},
		"link":       {header(func(b *wire.Block) { b.Prev[0] ^= 1 }), CodeLink},
		"first":      {header(func(b *wire.Block) { b.First++ }), CodeFirst},
		"no record":  {header(func(b *wire.Block) { b.Count = 0 }), CodeCount},
		"one more":   {header(func(b *wire.Block) { b.Count++ }), CodeHeader},
		"one less":   {header(func(b *wire.Block) { b.Count-- }), CodeHeader},
		"very many":  {header(func(b *wire.Block) { b.Count = 1<<32 - 1 }), CodeBoundary},
		"early":      {header(func(b *wire.Block) { b.Time = 1 }), CodeTime},
		"time":       {header(func(b *wire.Block) { b.Time++ }), CodeHeader},
		"root":       {header(func(b *wire.Block) { b.Root[0] ^= 1 }), CodeHeader},
		"difficulty": {header(func(b *wire.Block) { b.Difficulty++ }), CodeHeader},
		"nonce":      {header(func(b *wire.Block) { b.Nonce++ }), CodeHeader},
		"other block": {func(l *testLog, w http.ResponseWriter) {
			l.serveJSON(w, wire.NewBlock(l.Blocks[0].Header))
		}, CodeNumber},
		"no JSON":  {func(_ *testLog, w http.ResponseWriter) { _, _ = w.Write([]byte("hello")) }, CodeHeader},
		"no block": {func(_ *testLog, w http.ResponseWriter) { _, _ = w.Write([]byte("{}")) }, CodeVersion},
		"endless": {func(_ *testLog, w http.ResponseWriter) {
			for text := bytes.Repeat([]byte(" "), 1<<16); ; {
				if _, err := w.Write(text); err != nil {
					return
				}
			}
		}, CodeHeader},
	} {
		l := newTestLog(t, 3, 4, 5)
		l.losing(0, 4, 0)
		lost := l.answer
		l.answers(func(w http.ResponseWriter, path string) bool {
			if path == "v1/blocks/1" {
				c.answer(l, w)
				return true
			}
			return lost(w, path)
		})
		for who, reader := range headerReaders {
			report, _, err := l.audit(l.serve(), nil, reader)
			if err != nil || codes(report.Findings) != c.want || report.SignedHeight > 0 || report.Height > 1 {
				t.Errorf("%s, %s: %+v, %v, want %q", name, who, report, err, c.want)
			}
		}
	}
}

// TestHostileHeaderWithFewRecords checks a header whose seal would be a leaf that was already taken.
func TestHostileHeaderWithFewRecords(t *testing.T) {
	l := newTestLog(t, 3, 250, 5)
	l.losing(200, 255, 1)
	lost := l.answer
	l.answers(func(w http.ResponseWriter, path string) bool {
		if path == "v1/blocks/1" {
			b := wire.NewBlock(l.Blocks[1].Header)
			b.Count = 1
			l.serveJSON(w, b)
			return true
		}
		return lost(w, path)
	})
	for who, reader := range headerReaders {
		report, _, err := l.audit(l.serve(), nil, reader)
		if err != nil || codes(report.Findings) != CodeHeader || report.SignedHeight > 0 {
			t.Errorf("%s: %+v, %v", who, report, err)
		}
	}
}

// TestHostileHeadersInTheTree checks that a header which is in the signed tree is still checked against the chain.
func TestHostileHeadersInTheTree(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*chain.Header)
		want   string
	}{
		"root": {func(h *chain.Header) { h.Root[0] ^= 1 }, CodeRoot},
		"link": {func(h *chain.Header) { h.Prev[0] ^= 1 }, CodeLink},
		"time": {func(h *chain.Header) { h.Time = 1 }, CodeTime},
		"work": {func(h *chain.Header) { h.Difficulty = 200 }, CodeWork},
	} {
		honest := newTestLog(t, 3, 4)
		l := honest.fork(1, "")
		h := honest.Blocks[1].Header
		c.change(&h)
		if h.Difficulty == workBits {
			h.Nonce, _ = chain.Solve(h.Inner(), h.Difficulty, 0, 1<<20)
		}
		for _, leaf := range honest.Entries[h.First:h.Seal()] {
			l.AddLeaf(leaf)
		}
		l.AddLeaf(h.AppendTo(nil))
		l.size = h.Size()
		l.losing(0, 4, 0)
		lost := l.answer
		l.answers(func(w http.ResponseWriter, path string) bool {
			if path == "v1/blocks/1" {
				l.serveJSON(w, wire.NewBlock(h))
				return true
			}
			return lost(w, path)
		})
		for who, reader := range headerReaders {
			report, _, err := l.audit(l.serve(), nil, reader)
			if err != nil || codes(report.Findings) != c.want || report.SignedHeight > 0 {
				t.Errorf("%s, %s: %+v, %v, want %q", name, who, report, err, c.want)
			}
		}
	}
}
