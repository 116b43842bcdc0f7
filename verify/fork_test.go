package verify

import (
	"net/http"
	"strings"
	"testing"
)

// withholds makes the server respond with a status to some paths, and always to those of the log's own hashes.
func (l *testLog) withholds(status int, prefixes ...string) {
	l.answers(func(w http.ResponseWriter, path string) bool {
		hidden := strings.HasPrefix(path, "tile/") && !strings.HasPrefix(path, "tile/entries/")
		for _, p := range prefixes {
			hidden = hidden || strings.HasPrefix(path, p)
		}
		if hidden {
			w.WriteHeader(status)
		}
		return hidden
	})
}

// cutShort returns the state of a run that ended after the log's first bundle.
func (l *testLog) cutShort() *State {
	l.t.Helper()
	l.withholds(http.StatusForbidden, "tile/entries/002", "tile/entries/003")
	_, state, err := l.audit(l.serve(), nil)
	if err == nil || state == nil || state.Head.Height == 0 {
		l.t.Fatalf("%+v, %v", state, err)
	}
	return state
}

// TestLogForkHiddenBehindNoTiles checks a fork whose blocks end at other leaves than the checkpoint of the previous
// run, from a log that serves no hashes. The leaves show the fork at that leaf.
func TestLogForkHiddenBehindNoTiles(t *testing.T) {
	l := newTestLog(t, 300, 300, 300)
	state := l.cutShort()
	f := l.fork(1, "other", 250, 500)
	f.withholds(http.StatusNotFound)
	report, left, err := f.audit(f.serve(), state)
	if err != nil || codes(report.Findings) != CodeFork || len(report.Findings[0].Evidence) != 2 || left != nil {
		t.Errorf("%v, %v, state %v", report.Findings, err, left)
	}
}

// TestLogForkLaundered checks that a run that fails before it has verified the consistency of the log does not replace
// the checkpoint that a fork contradicts.
func TestLogForkLaundered(t *testing.T) {
	l := newTestLog(t, 300, 300, 300)
	state := l.cutShort()
	f := l.fork(0, "other", 300, 300, 300, 10) // its blocks end at the same leaves as those of l
	for _, broken := range []string{"tile/entries/000", "tile/entries/001", "tile/entries/003"} {
		f.withholds(http.StatusNotFound, broken)
		if report, left, err := f.audit(f.serve(), state); err == nil || left != nil {
			t.Errorf("without %s: %v, %v, state %v", broken, report.Findings, err, left)
		}
	}
	f.withholds(http.StatusNotFound)
	if report, left, err := f.audit(f.serve(), state); err != nil || codes(report.Findings) != CodeFork || left != nil {
		t.Errorf("%v, %v, state %v", report.Findings, err, left)
	}
}

// TestLogGrownWithoutTiles checks that the leaves prove the consistency of a log that has grown and serves no hashes.
func TestLogGrownWithoutTiles(t *testing.T) {
	l := newTestLog(t, 300, 300)
	_, state, err := l.audit(l.serve(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, since := range []*State{state, l.cutShort()} {
		l.withholds(http.StatusNotFound)
		l.grow("more", 100)
		report, left, err := l.audit(l.serve(), since)
		if err != nil || !report.Good() || left == nil || left.Checkpoint.Size != l.size {
			t.Errorf("%+v, %v", report, err)
		}
	}
}

// TestLogForkInAHole checks that lost leaves cannot hide a fork: their hashes and the later leaves must match the size
// that the log had signed.
func TestLogForkInAHole(t *testing.T) {
	l := newTestLog(t, 300, 300, 300)
	state := l.cutShort()
	for _, lost := range [][]string{{"tile/entries/003"}, {"tile/entries/001", "tile/entries/002"}} {
		f := l.fork(1, "other", 250, 500)
		f.closed = true // with headers there is no hole
		f.answers(func(w http.ResponseWriter, path string) bool {
			switch {
			case strings.HasPrefix(path, "tile/1/"):
				w.WriteHeader(http.StatusNotFound)
			case path == lost[0], path == lost[len(lost)-1]:
				w.WriteHeader(http.StatusGone)
			default:
				return false
			}
			return true
		})
		report, left, err := f.audit(f.serve(), state)
		if err != nil || codes(report.Findings) != CodeFork || left != nil {
			t.Errorf("without %q: %v, %v, state %v", lost, report.Findings, err, left)
		}
	}
}
