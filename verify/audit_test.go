package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/signedlog"
	"github.com/chainstore/chainstore/wire"
)

// audit runs Log on a URL with the state of the previous run, and returns the new state.
func (l *testLog) audit(url string, since *State, change ...func(*Options)) (LogReport, *State, error) {
	l.t.Helper()
	var left *State
	o := Options{URL: url, Trust: l.trust(), Since: since, pause: time.Microsecond, Parallel: 3,
		Save: func(s *State) error {
			data, err := s.Marshal()
			if err != nil {
				return err
			}
			parsed, err := ParseState(data)
			left = &parsed
			return err
		}}
	for _, c := range change {
		c(&o)
	}
	report, err := Log(l.t.Context(), o)
	return report, left, err
}

func withToken(o *Options) { o.Token = "secret" }

func TestLogGood(t *testing.T) {
	l := newTestLog(t, 1, 5, 2, 700, 1, 3)
	url := l.serve()
	last, total := uint64(0), uint64(0)
	report, state, err := l.audit(url+"/", nil, func(o *Options) {
		o.Progress = func(done, all uint64) {
			if done < last || done > all {
				t.Errorf("%d of %d after %d", done, all, last)
			}
			last, total = done, all
		}
	})
	head := l.Verifier.Head()
	if err != nil || !report.Good() || report.Height != 6 || report.Records != 712 || report.Size != 718 ||
		report.Hash != head.Hash || report.New != 718 ||
		report.Difficulty != workBits || len(report.Unchecked) > 0 || len(report.Checkpoints) != 1 || report.Payloads+
		report.Hidden != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	if last != total || total != 718 || state == nil || !reflect.DeepEqual(state.Head, head) ||
		state.Checkpoint.Size != 718 {
		t.Errorf("%d of %d, state %+v", last, total, state)
	}
	// The next run reads nothing twice.
	asked := l.asked("tile/entries/000")
	if report, _, err := l.audit(url, state); err != nil || !report.Good() || report.New != 0 ||
		l.asked("tile/entries/000") != asked {
		t.Errorf("again: %+v, %v", report, err)
	}
	l.grow("more", 2, 300)
	report, state, err = l.audit(url, state)
	if err != nil || !report.Good() || report.New != 304 || report.Height != 8 || l.asked("tile/entries/000") != asked {
		t.Errorf("grown: %+v, %v", report, err)
	}
	if !reflect.DeepEqual(state.Head, l.Verifier.Head()) {
		t.Errorf("the state is at %d", state.Head.Height)
	}
}

// TestLogEmpty checks that an empty log is valid, and can grow.
func TestLogEmpty(t *testing.T) {
	l := newTestLog(t)
	url := l.serve()
	report, state, err := l.audit(url, nil)
	if err != nil || !report.Good() || report.Size != 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	l.grow("", 3)
	if report, _, err := l.audit(url, state); err != nil || !report.Good() || report.New != 4 {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestLogFullTileInThePlaceOfAPartialOne checks that a partial tile may be missing if the full one exists.
func TestLogFullTileInThePlaceOfAPartialOne(t *testing.T) {
	l := newTestLog(t, 100, 100, 300)
	state := func() *State {
		l.size = l.sizes[1]
		_, s, err := l.audit(l.serve(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}()
	l.answers(func(w http.ResponseWriter, path string) bool {
		if strings.HasPrefix(path, "tile/entries/000.p/") || strings.HasPrefix(path, "tile/0/000.p/") {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	})
	for _, since := range []*State{nil, state} {
		if report, _, err := l.audit(l.serve(), since); err != nil || !report.Good() || report.Size != l.sizes[1] {
			t.Errorf("%+v, %v", report, err)
		}
	}
	l.size = l.sizes[2]
	if report, _, err := l.audit(l.serve(), state); err != nil || !report.Good() || report.New != 301 {
		t.Errorf("%+v, %v", report, err)
	}
}

// forge returns the header of a block that is mined but wrong.
func (l *testLog) forge(block int, change func(*chain.Header)) []byte {
	h := l.Blocks[block].Header
	change(&h)
	h.Nonce, _ = chain.Solve(h.Inner(), h.Difficulty, 0, 1<<20)
	return h.AppendTo(nil)
}

// TestLogFindings has a row for each kind of log that serves data that differs from its chain.
func TestLogFindings(t *testing.T) {
	// The blocks begin at 0, 4, 9, 13; their seals are 3, 8, 12, 18.
	counts := []int{3, 4, 3, 5}
	// entry replaces an entry.
	entry := func(index int, data func(l *testLog) []byte) func(*testLog) {
		return func(l *testLog) { l.Entries[index] = data(l) }
	}
	leaf := func(index int, change func(*chain.Leaf)) func(*testLog) {
		return entry(index, func(l *testLog) []byte {
			parsed, err := chain.ParseLeaf(l.Entries[index])
			if err != nil {
				l.t.Fatal(err)
			}
			change(&parsed)
			return parsed.AppendTo(nil)
		})
	}
	seal := func(block int, change func(*chain.Header)) func(*testLog) {
		return func(l *testLog) { l.Entries[l.Blocks[block].Header.Seal()] = l.forge(block, change) }
	}
	serve := func(path string, status int, data string) func(*testLog) {
		return func(l *testLog) {
			l.answers(func(w http.ResponseWriter, at string) bool {
				if at == path {
					w.WriteHeader(status)
					_, _ = w.Write([]byte(data))
				}
				return at == path
			})
		}
	}
	for _, c := range []struct {
		name   string
		change func(*testLog)
		want   string
		words  string
		height uint64
	}{
		{"project of a leaf", leaf(5, func(l *chain.Leaf) { l.Project++ }), CodeRoot, "block 1", 1},
		{"commitment", leaf(14, func(l *chain.Leaf) { l.Commit[0] ^= 1 }), CodeRoot, "block 3", 3},
		{"size", leaf(0, func(l *chain.Leaf) { l.Size++ }), CodeRoot, "block 0", 0},
		{"time", leaf(9, func(l *chain.Leaf) { l.Time-- }), CodeRoot, "block 2", 2},
		{"leaves swapped", func(l *testLog) { l.Entries[5], l.Entries[6] = l.Entries[6], l.Entries[5] }, CodeRoot,
			"block 1", 1},
		{"link", seal(2, func(h *chain.Header) { h.Prev[0] ^= 1 }), CodeLink, "block 2", 2},
		{"number", seal(2, func(h *chain.Header) { h.Block = 7 }), CodeNumber, "7 where 2 is due", 2},
		{"first", seal(1, func(h *chain.Header) { h.First++ }), CodeFirst, "block 1", 1},
		{"count too high", seal(1, func(h *chain.Header) { h.Count++ }), CodeCount,
			"4 leaves before the seal of a block of 5", 1},
		{"count too low", seal(1, func(h *chain.Header) { h.Count-- }), CodeCount, "block 1", 1},
		{"root", seal(1, func(h *chain.Header) { h.Root[0] ^= 1 }), CodeRoot, "block 1", 1},
		{"block's time", seal(2, func(h *chain.Header) { h.Time = startTime }), CodeTime, "block 2", 2},
		{"block earlier than its records", seal(0, func(h *chain.Header) { h.Time-- }), CodeTime, "block 0", 0},
		{"no work", entry(8, func(l *testLog) []byte {
			h := l.Blocks[1].Header
			for chain.Mined(h.Hash(), h.Difficulty) {
				h.Nonce++
			}
			return h.AppendTo(nil)
		}), CodeWork, "block 1", 1},
		{"another nonce that mines the last block", entry(18, func(l *testLog) []byte {
			h := l.Blocks[3].Header
			h.Nonce, _ = chain.Solve(h.Inner(), h.Difficulty, h.Nonce+1, 1<<20)
			return h.AppendTo(nil)
		}), CodeRoot, "it has signed", 3},
		{"another nonce that mines a block", entry(8, func(l *testLog) []byte {
			h := l.Blocks[1].Header
			h.Nonce, _ = chain.Solve(h.Inner(), h.Difficulty, h.Nonce+1, 1<<20)
			return h.AppendTo(nil)
		}), CodeLink, "block 2", 2},
		{"newer version", entry(3, func(l *testLog) []byte { return append([]byte{2, 9}, l.Entries[3][2:]...) }),
			CodeVersion, "version 9", 0},
		{"neither record nor seal", entry(4, func(*testLog) []byte { return []byte("anything") }), CodeEntry, "leaf 4",
			0},
		{"an empty entry", entry(4, func(*testLog) []byte { return nil }), CodeEntry, "leaf 4: ", 0},
		{"seal's kind on a record's length",
			entry(4, func(l *testLog) []byte { return append([]byte{2}, l.Entries[4][1:]...) }), CodeEntry, "leaf 4",
			0},
		{"record's kind on a seal's length",
			entry(8, func(l *testLog) []byte { return append([]byte{1}, l.Entries[8][1:]...) }), CodeEntry, "leaf 8",
			0},
		{"a seal in the place of a record", entry(5, func(l *testLog) []byte { return l.Entries[3] }), CodeNumber,
			"block 1", 1},
		{"a record in the place of a seal", entry(3, func(l *testLog) []byte { return l.Entries[2] }), CodeNumber,
			"block 0", 0},
		{"no seal at the end", func(l *testLog) { l.size-- }, CodeBoundary, "5 leaves follow it", 3},
		{"no block at all", func(l *testLog) { l.size = 2 }, CodeBoundary, "size 2 is not the end of a block", 0},
		{"empty bundle", serve("tile/entries/000.p/19", 200, ""), "error", "it is empty", 0},
		{"cut bundle", serve("tile/entries/000.p/19", 200, "\x00\x31\x01"), CodeEntry,
			"leaf 0: malformed message: a bundle ends within an entry", 0},
		{"large bundle", serve("tile/entries/000.p/19", 200, strings.Repeat("x", wire.MaxBundle+1)), CodeEntry,
			"more than", 0},
		{"bundle with more behind", func(l *testLog) {
			data, _ := l.Tile("tile/entries/000.p/19")
			serve("tile/entries/000.p/19", 200, string(data)+"x")(l)
		}, CodeEntry, "1 bytes behind its last leaf", 0},
		{"no note", serve("checkpoint", 200, "hello"), CodeCheckpoint, "no signed note", 0},
		{"large checkpoint", func(l *testLog) {
			serve("checkpoint", 200, l.Checkpoint(l.size)+strings.Repeat("x", maxNote))(l)
		}, "error", "more than", 0},
		{"stranger's checkpoint", func(l *testLog) {
			other, _ := signedlog.Key(l.Origin, 9)
			serve("checkpoint", 200, signedlog.Sign(l.Origin, l.size, l.Root(l.size), other))(l)
		}, CodeUnknownKey, "unknown key", 0},
		{"altered checkpoint", func(l *testLog) {
			serve("checkpoint", 200, strings.Replace(l.Checkpoint(l.size), "\n19\n", "\n13\n", 1))(l)
		}, CodeSignature, "bad signature", 0},
		{"impossible checkpoint", func(l *testLog) {
			serve("checkpoint", 200, signedlog.Sign(l.Origin, 1<<63, l.Root(l.size), l.Signer))(l)
		}, CodeCheckpoint, "more than there can be", 0},
		{"signed root of another tree", func(l *testLog) {
			serve("checkpoint", 200, signedlog.Sign(l.Origin, l.size, chain.Hash{1}, l.Signer))(l)
		}, CodeRoot, "it has signed", 3},
		{"not there", serve("tile/entries/000.p/19", 404, "no such tile"), "error", `404 Not Found: "no such tile"`, 0},
		{"sent elsewhere", serve("checkpoint", 302, ""), "error", "302", 0},
		{"a problem", func(l *testLog) {
			l.answers(func(w http.ResponseWriter, path string) bool {
				w.Header().Set("Content-Type", wire.TypeProblem)
				w.WriteHeader(http.StatusServiceUnavailable)
				_ = json.NewEncoder(w).Encode(wire.ErrUnavailable.Problem(
					fmt.Errorf("%w: block 3 %s", wire.ErrUnavailable, strings.Repeat("x", 200))))
				return true
			})
		}, "error", "503 Service Unavailable: " + wire.ErrUnavailable.Title + ": block 3 xxx", 0},
		{"out of order", serve("tile/entries/000.p/19", 503, ""), "error", "503", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newTestLog(t, counts...)
			c.change(l)
			report, _, err := l.audit(l.serve(), nil)
			if c.want == "error" {
				if err == nil || !strings.Contains(err.Error(), c.words) || !report.Good() {
					t.Errorf("%v, %v, want an error with %q", err, report.Findings, c.words)
				}
				return
			}
			if err != nil || codes(report.Findings) != c.want || !strings.Contains(report.Findings[0].Text, c.words) {
				t.Errorf("%v, %v, want %s with %q", report.Findings, err, c.want, c.words)
			}
			if report.Height != c.height {
				t.Errorf("good up to block %d, want %d", report.Height, c.height)
			}
		})
	}
}

// TestLogForkAndRollback checks that an auditor that has seen one of two signed histories detects the other, and
// reports the two signed checkpoints.
func TestLogForkAndRollback(t *testing.T) {
	l := newTestLog(t, 3, 4, 3)
	_, state, err := l.audit(l.serve(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tiles := range []bool{true, false} {
		for _, c := range []struct {
			name  string
			other *testLog
			want  string
			parts string // the code without the log's hashes, where the first differing block shows the fork
		}{
			{"rollback", l.fork(2, ""), CodeRollback, ""},
			{"another tree of that size", l.fork(2, "x", 3), CodeFork, ""},
			{"another tree that is larger", l.fork(2, "x", 3, 300), CodeFork, CodeLink},
			{"another tree with other blocks", l.fork(0, "x", 2, 2, 2, 2, 2, 2), CodeFork, CodeNumber},
		} {
			if !tiles {
				c.other.answers(func(w http.ResponseWriter, path string) bool {
					hidden := strings.HasPrefix(path, "tile/") && !strings.HasPrefix(path, "tile/entries/")
					if hidden {
						w.WriteHeader(http.StatusNotFound)
					}
					return hidden
				})
			}
			report, left, err := c.other.audit(c.other.serve(), state)
			want := c.want
			if !tiles && c.parts != "" {
				want = c.parts
			}
			if err != nil || codes(report.Findings) != want {
				t.Errorf("%s, tiles %v: %v, %v, want %s", c.name, tiles, report.Findings, err, want)
				continue
			}
			if want == c.parts {
				continue
			}
			f := report.Findings[0]
			if len(f.Evidence) != 2 || f.Evidence[0] != state.Checkpoint.Note ||
				!strings.Contains(f.Evidence[1], "\n— chainstore/test ") || left != nil {
				t.Errorf("%s: evidence %q, state %v", c.name, f.Evidence, left)
			}
			for _, signed := range f.Evidence {
				if _, err := note.Open([]byte(signed), note.VerifierList(l.trust().keys...)); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
			}
		}
	}
	other := newTestLog(t, 3, 4, 3)
	other.Origin = "chainstore/other"
	other.Signer, other.VKey = signedlog.Key(other.Origin, 1)
	if report, left, err := other.audit(other.serve(), state); err != nil || codes(report.Findings) != CodeOrigin ||
		left != nil {
		t.Errorf("another log: %v, %v", report.Findings, err)
	}
	lying := l.fork(3, "", 5)
	lying.answers(func(w http.ResponseWriter, path string) bool {
		if strings.HasPrefix(path, "tile/0/") {
			data, _ := lying.Tile(path)
			data[70] ^= 1
			_, _ = w.Write(data)
			return true
		}
		return false
	})
	if report, _, err := lying.audit(lying.serve(), state); err != nil || codes(report.Findings) != CodeTile {
		t.Errorf("altered hashes: %v, %v", report.Findings, err)
	}
	lying.answers(func(w http.ResponseWriter, path string) bool {
		if strings.HasPrefix(path, "tile/0/") {
			_, _ = w.Write([]byte("short"))
			return true
		}
		return false
	})
	if report, _, err := lying.audit(lying.serve(), state); err != nil || codes(report.Findings) != CodeTile {
		t.Errorf("too few hashes: %v, %v", report.Findings, err)
	}
}

// TestTokenInNoError checks that errors do not contain the token, even if a server repeats it in its response.
func TestTokenInNoError(t *testing.T) {
	l := newTestLog(t, 3)
	l.answers(func(w http.ResponseWriter, _ string) bool {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte("you are not secret-token"))
		return true
	})
	_, err := Log(t.Context(), Options{URL: l.serve(), Token: "secret-token"})
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "you are not …") {
		t.Errorf("%v", err)
	}
}

// TestLogResumes checks that a run that ends early keeps its progress, and that the next run continues there.
func TestLogResumes(t *testing.T) {
	l := newTestLog(t, 200, 200, 200, 200, 200)
	url := l.serve()
	broken := func(w http.ResponseWriter, path string) bool {
		if path == "tile/entries/002" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		return path == "tile/entries/002"
	}
	l.answers(broken)
	report, state, err := l.audit(url, nil)
	if err == nil || !report.Good() || report.Height != 2 || state == nil || state.Head.Height != 2 ||
		state.Checkpoint.Size != 1005 {
		t.Fatalf("%+v, %+v, %v", report, state, err)
	}
	l.answers(nil)
	before := l.asked("tile/entries/000")
	report, after, err := l.audit(url, state)
	if err != nil || !report.Good() || report.Height != 5 || report.New != 1005-402 ||
		l.asked("tile/entries/000") != before || after.Head.Height != 5 {
		t.Errorf("%+v, %v", report, err)
	}

	// If a server lied to the interrupted run, the data that it served is discarded.
	lies := l.fork(0, "lie", 200, 200)
	l.answers(func(w http.ResponseWriter, path string) bool {
		switch path {
		case "tile/entries/000":
			data, _ := lies.Tile(path)
			_, _ = w.Write(data)
		case "tile/entries/001":
			w.WriteHeader(http.StatusInternalServerError)
		default:
			return false
		}
		return true
	})
	report, state, err = l.audit(url, nil)
	if err == nil || report.Height != 1 || state.Head.Height != 1 || state.Head.Hash == l.Blocks[0].Header.Hash() {
		t.Fatalf("%+v, %v", report, err)
	}
	l.answers(nil)
	report, state, err = l.audit(url, state)
	if err != nil || !report.Good() || report.Height != 5 || len(report.Remarks) != 2 ||
		!strings.Contains(report.Remarks[0], "began again") || state.Head.Height != 5 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestLogInterrupted(t *testing.T) {
	l := newTestLog(t, 200, 200, 200)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("by hand")
	var saved *State
	o := Options{URL: l.serve(), Trust: l.trust(), Save: func(s *State) error { saved = s; return nil }, Parallel: 1}
	o.Progress = func(done, _ uint64) {
		if done > 200 {
			cancel(cause)
		}
	}
	report, err := Log(ctx, o)
	if !errors.Is(err, cause) || report.Height != 1 || saved == nil || saved.Head.Height != 1 {
		t.Errorf("%+v, %v", report, err)
	}
	failed := errors.New("disk full")
	o.Progress, o.Save = nil, func(*State) error { return failed }
	if _, err := Log(t.Context(), o); !errors.Is(err, failed) {
		t.Errorf("a state that cannot be kept: %v", err)
	}
	for _, url := range []string{"", "localhost:1", "ftp://x", "http://", "http://u:p@x", "http://x/?a=b"} {
		if _, err := Log(t.Context(), Options{URL: url}); err == nil ||
			!strings.Contains(err.Error(), "not the URL of a log") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// TestLogTriesAgain checks that requests are retried after temporary failures.
func TestLogTriesAgain(t *testing.T) {
	l := newTestLog(t, 3)
	var n atomic.Int32
	l.answers(func(w http.ResponseWriter, _ string) bool {
		if n.Add(1)%3 == 0 {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	if report, _, err := l.audit(l.serve(), nil); err != nil || !report.Good() || n.Load() != 6 {
		t.Errorf("%+v, %v after %d requests", report, err, n.Load())
	}
	l.answers(func(w http.ResponseWriter, _ string) bool {
		n.Add(1)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	if _, _, err := l.audit(l.serve(), nil); err == nil || n.Load() != 7 {
		t.Errorf("%v after %d requests", err, n.Load())
	}
}

// TestLogLost checks a log with lost leaves. The leaves after them are checked from the next seal on, and those that
// cannot be checked are reported.
func TestLogLost(t *testing.T) {
	gone := func(l *testLog, paths ...string) {
		l.answers(func(w http.ResponseWriter, path string) bool {
			for _, p := range paths {
				if path == p || strings.HasPrefix(path, p+".p/") {
					w.WriteHeader(http.StatusGone)
					return true
				}
			}
			return false
		})
	}
	// Blocks end at 201, 402, 603, 804, 1005; a bundle holds 256 leaves.
	make := func() *testLog {
		l := newTestLog(t, 200, 200, 200, 200, 200)
		l.closed = true
		return l
	}
	l := make()
	gone(l, "tile/entries/001")
	report, state, err := l.audit(l.serve(), nil)
	if err != nil || !report.Good() || !reflect.DeepEqual(report.Unchecked, []chain.Range{{From: 1, To: 3}}) ||
		report.Height != 5 {
		t.Fatalf("%+v, %v", report, err)
	}
	if again, _, err := l.audit(l.serve(), state); err != nil || !reflect.DeepEqual(again.Unchecked, report.Unchecked) {
		t.Errorf("the next run forgets: %+v, %v", again, err)
	}
	l = make()
	gone(l, "tile/entries/000", "tile/entries/001", "tile/entries/002")
	if report, _, err = l.audit(l.serve(), nil); err != nil || !report.Good() ||
		!reflect.DeepEqual(report.Unchecked, []chain.Range{{From: 0, To: 4}}) {
		t.Errorf("from the beginning: %+v, %v", report, err)
	}
	l = make()
	gone(l, "tile/entries/003")
	report, state, err = l.audit(l.serve(), nil)
	if err != nil || !report.Good() || !reflect.DeepEqual(report.Unchecked, []chain.Range{{From: 3, To: 4}}) ||
		report.Height != 3 || len(state.Unchecked) != 0 {
		t.Errorf("at the end: %+v, %v", report, err)
	}
	l.answers(nil)
	if report, _, err = l.audit(l.serve(), state); err != nil || !report.Good() || len(report.Unchecked) > 0 ||
		report.Height != 5 {
		t.Errorf("they are there again: %+v, %v", report, err)
	}
	gone(l, "tile/entries/001", "tile/0/001")
	if _, _, err = l.audit(l.serve(), nil); err == nil || !strings.Contains(err.Error(), "410") {
		t.Errorf("hashes gone, too: %v", err)
	}

	for _, c := range []struct {
		name   string
		change func(l *testLog)
		want   string
	}{
		{"root", func(l *testLog) { l.Entries[602] = l.forge(2, func(h *chain.Header) { h.Root[0] ^= 1 }) }, CodeRoot},
		{"number", func(l *testLog) { l.Entries[602] = l.forge(2, func(h *chain.Header) { h.Block = 0 }) }, CodeNumber},
		{"first", func(l *testLog) { l.Entries[602] = l.forge(2, func(h *chain.Header) { h.First++ }) }, CodeFirst},
		{"time", func(l *testLog) { l.Entries[602] = l.forge(2, func(h *chain.Header) { h.Time = 5 }) }, CodeTime},
		{"leaf", func(l *testLog) { l.Entries[600] = l.Entries[599] }, CodeRoot},
		{"work", func(l *testLog) {
			h := l.Blocks[2].Header
			h.Difficulty = 200
			l.Entries[602] = h.AppendTo(nil)
		}, CodeWork},
	} {
		l := make()
		c.change(l)
		gone(l, "tile/entries/001")
		if report, _, err := l.audit(l.serve(), nil); err != nil || codes(report.Findings) != c.want ||
			report.Height != 1 {
			t.Errorf("%s: %+v, %v", c.name, report, err)
		}
	}
	l = make()
	l.answers(func(w http.ResponseWriter, path string) bool {
		switch {
		case strings.HasPrefix(path, "tile/entries/003"):
			w.WriteHeader(http.StatusGone)
		case path == "tile/0/003.p/237":
			_, _ = w.Write(bytes.Repeat([]byte{1}, 237*chain.HashSize))
		default:
			return false
		}
		return true
	})
	if report, _, err := l.audit(l.serve(), nil); err != nil || codes(report.Findings) != CodeRoot {
		t.Errorf("wrong hashes in the place of what is gone: %+v, %v", report, err)
	}
}

// TestLogLostWithinABundle checks that an audit takes the leaves of a bundle before the lost ones, and continues at the
// first seal of the next bundle.
func TestLogLostWithinABundle(t *testing.T) {
	for _, c := range []struct {
		counts    []int
		lost      uint64 // leaf
		since     int    // blocks of an earlier run
		unchecked chain.Range
		leaves    uint64
	}{
		{[]int{1, 1, 1, 1}, 4, 0, chain.Range{From: 2, To: 3}, 4},
		{[]int{1, 1, 1, 1}, 5, 0, chain.Range{From: 2, To: 3}, 4},
		{[]int{1, 1, 1, 1}, 1, 0, chain.Range{From: 0, To: 1}, 8},
		{[]int{1, 1, 1, 1}, 6, 2, chain.Range{From: 3, To: 4}, 2},
		{[]int{1, 1, 1, 1}, 4, 2, chain.Range{From: 2, To: 3}, 4},
		{[]int{99, 99, 99, 99, 99}, 250, 0, chain.Range{From: 2, To: 3}, 100},
	} {
		l := newTestLog(t, c.counts...)
		l.closed = true
		var state *State
		if c.since > 0 {
			var err error
			if _, state, err = l.fork(c.since, "").audit(l.fork(c.since, "").serve(), nil); err != nil {
				t.Fatal(err)
			}
		}
		l.answers(func(w http.ResponseWriter, path string) bool {
			bundle, width, partial := strings.Cut(path, ".p/")
			n, _ := strconv.ParseUint(width, 10, 64)
			lost := bundle == "tile/entries/000" && (!partial || n > c.lost)
			if lost {
				w.WriteHeader(http.StatusGone)
			}
			return lost
		})
		report, _, err := l.audit(l.serve(), state)
		if err != nil || !report.Good() || !reflect.DeepEqual(report.Unchecked, []chain.Range{c.unchecked}) ||
			report.UncheckedLeaves != c.leaves {
			t.Errorf("%+v: %+v, %v", c, report, err)
		}
	}
}

// TestLogPayloads checks that payloads that the token may read are compared with their leaves.
func TestLogPayloads(t *testing.T) {
	l := newTestLog(t, 3, 4, 300, 1)
	report, state, err := l.audit(l.serve(), nil, withToken)
	if err != nil || !report.Good() || report.Payloads != 2+2+150+1 || report.Hidden != 1+2+150 {
		t.Errorf("%+v, %v", report, err)
	}
	if state.Head.Height != 4 {
		t.Errorf("the state is at %d", state.Head.Height)
	}
	for name, change := range map[string]func(*chain.Record){
		"payload": func(r *chain.Record) { r.Payload[0] ^= 1 },
		"salt":    func(r *chain.Record) { r.Salt[0] ^= 1 },
		"key":     func(r *chain.Record) { r.Key = "x" },
		"type":    func(r *chain.Record) { r.Type = "x" },
		"time":    func(r *chain.Record) { r.Time++ },
		"long":    func(r *chain.Record) { r.Key = strings.Repeat("k", 300) },
	} {
		l := newTestLog(t, 3, 4, 300, 1)
		record := l.records[6]
		change(&record)
		l.records[6] = record
		report, state, err := l.audit(l.serve(), nil, withToken)
		if err != nil || codes(report.Findings) != CodePayload ||
			!strings.Contains(report.Findings[0].Text, "record 2 of block 1") {
			t.Errorf("%s: %v, %v", name, report.Findings, err)
		}
		if state.Head.Height != 0 {
			t.Errorf("%s: the next run would begin behind it, at block %d", name, state.Head.Height)
		}
	}
	for name, c := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"empty page":   {200, `{"records":[]}`, "is empty"},
		"no JSON":      {200, `hello`, "invalid character"},
		"wrong offset": {200, `{"records":[{"block":1,"offset":3,"hidden":true}]}`, "offset 3 where 0 of 4 is due"},
		"too many": {200, `{"records":[` + strings.Repeat(`{"offset":0},`, 0) +
			`{"offset":0,"hidden":true},{"offset":1,"hidden":true},{"offset":2,"hidden":true},` +
			`{"offset":3,"hidden":true},{"offset":4,"hidden":true}]}`, "offset 4 where 4 of 4 is due"},
		"no token": {401, ``, "401"},
	} {
		l.answers(func(w http.ResponseWriter, path string) bool {
			if path == "v1/blocks/1/records" {
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			}
			return path == "v1/blocks/1/records"
		})
		if report, _, err := l.audit(l.serve(), nil, withToken); err == nil || !strings.Contains(err.Error(), c.want) ||
			!report.Good() {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for status, unchecked := range map[int][]chain.Range{http.StatusForbidden: nil,
		http.StatusGone: {{From: 1, To: 2}}} {
		hidden := uint64(1 + 4 + 150)
		if unchecked != nil {
			hidden -= 4
		}
		l.answers(func(w http.ResponseWriter, path string) bool {
			if path == "v1/blocks/1/records" {
				w.WriteHeader(status)
			}
			return path == "v1/blocks/1/records"
		})
		if report, _, err := l.audit(l.serve(), nil, withToken); err != nil || report.Payloads != 2+150+1 ||
			report.Hidden != hidden || !reflect.DeepEqual(report.Unchecked, unchecked) {
			t.Errorf("%d: %+v, %v", status, report, err)
		}
	}
}

// TestLogPayloadsHiddenLater checks the count of hidden payloads on a later page.
func TestLogPayloadsHiddenLater(t *testing.T) {
	l := newTestLog(t, 10)
	l.answers(func(w http.ResponseWriter, path string) bool {
		later := strings.HasPrefix(path, "v1/blocks/") && l.requests[path] > 1
		if later {
			w.WriteHeader(http.StatusForbidden)
		}
		return later
	})
	if report, _, err := l.audit(l.serve(), nil, withToken); err != nil || report.Payloads != 2 || report.Hidden != 1+
		7 {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestLogReportBehindAHole checks that the report does not claim to have verified unverified data after a lost range.
func TestLogReportBehindAHole(t *testing.T) {
	gone := func(w http.ResponseWriter, path string) bool {
		if path == "tile/entries/000" {
			w.WriteHeader(http.StatusGone)
		}
		return path == "tile/entries/000"
	}
	l := newTestLog(t, 600)
	l.closed = true
	l.answers(gone)
	report, _, err := l.audit(l.serve(), nil)
	if err != nil || report.Difficulty != workBits || report.New != 0 || report.UncheckedLeaves != 601 ||
		report.Height != 1 || len(report.Unchecked) != 1 {
		t.Errorf("%+v, %v", report, err)
	}
	l = newTestLog(t, 100, 100)
	l.closed = true
	l.answers(func(w http.ResponseWriter, path string) bool {
		path, _, _ = strings.Cut(path, ".p/")
		return gone(w, path)
	})
	report, _, err = l.audit(l.serve(), nil)
	if err != nil || report.New != 0 || report.UncheckedLeaves != 202 || report.Height != 0 ||
		!strings.Contains(report.Remarks[0], "blocks from 0 on could not be checked, 202 leaves") {
		t.Errorf("at the end: %+v, %v", report, err)
	}
}

func TestStateRefused(t *testing.T) {
	l := newTestLog(t, 3, 4)
	_, state, err := l.audit(l.serve(), nil)
	if err != nil {
		t.Fatal(err)
	}
	state.Unchecked = []chain.Range{{From: 1, To: 2}}
	data, err := state.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if parsed, err := ParseState(data); err != nil || !reflect.DeepEqual(parsed.Head, state.Head) ||
		!reflect.DeepEqual(parsed.Unchecked, state.Unchecked) {
		t.Errorf("%+v, %v", parsed, err)
	}
	good := string(data)
	for name, c := range map[string]struct{ data, want string }{
		"empty":   {"", "not the state"},
		"newer":   {strings.Replace(good, "state/v1", "state/v2", 1), "this program knows"},
		"unknown": {strings.Replace(good, `"format"`, `"more":1,"format"`, 1), "not known"},
		"height":  {strings.Replace(good, `"height": 2`, `"height": 3`, 1), "its head is not that of height 3"},
		"origin":  {strings.Replace(good, `"origin": "chainstore/test"`, `"origin": "x"`, 1), "not \"x\""},
		"size":    {strings.Replace(good, `\n9\n`, `\n8\n`, 1), "9 leaves of a tree of 8"},
		"large":   {strings.Repeat(" ", maxState) + good, "the limit"},
		"root":    {strings.Replace(good, l.Checkpoint(9)[18:24], "AAAAAA", 1), "different roots"},
	} {
		if _, err := ParseState([]byte(c.data)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	random := testRand(3)
	for range 6_000 {
		flipped := bytes.Clone(data)
		flipped[random.IntN(len(data))] ^= 1 << random.IntN(8)
		if parsed, err := ParseState(flipped); err == nil &&
			(parsed.Head.Hash != state.Head.Hash || parsed.Head.Tree.Root() != state.Head.Tree.Root() ||
				parsed.Head.Height != 2) {
			t.Fatalf("taken: %s", flipped)
		}
	}
}

// FuzzParseBundle checks that the parser does not panic on any bundle, and that its result corresponds to the input.
func FuzzParseBundle(f *testing.F) {
	l := newTestLog(f, 3, 4)
	data, _ := l.Tile("tile/entries/000.p/9")
	f.Add(data, uint8(9))
	f.Fuzz(func(t *testing.T, data []byte, width uint8) {
		entries, err := parseBundle(data, 0, uint64(width), uint64(width))
		if err != nil {
			return
		}
		var again []byte
		for i := range entries {
			e := &entries[i]
			if e.seal {
				again = e.header.AppendTo(binary.BigEndian.AppendUint16(again, chain.HeaderSize))
			} else {
				again = e.leaf.AppendTo(binary.BigEndian.AppendUint16(again, chain.LeafSize))
			}
		}
		if !bytes.Equal(again, data) {
			t.Errorf("%x was read as %x", data, again)
		}
	})
}

// FuzzParseState checks that a state file either is refused, or is the same when it is written again.
func FuzzParseState(f *testing.F) {
	l := newTestLog(f, 3, 4)
	_, state, err := l.audit(l.serve(), nil)
	if err != nil {
		f.Fatal(err)
	}
	data, err := state.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed, err := ParseState(data)
		if err != nil {
			return
		}
		written, err := parsed.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseState(written)
		if err != nil || !reflect.DeepEqual(again.Head, parsed.Head) {
			t.Errorf("%+v is %+v when written again: %v", parsed, again, err)
		}
	})
}
