package raftconfig

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

// TestPowerCutDuringCommit cuts the power in each transaction of a log: of the sectors that bbolt writes before its
// first sync, any may be on the disk, and the meta page, one sector, is on it or not. The log must open, with the
// content of before or, with the meta page, of after.
func TestPowerCutDuringCommit(t *testing.T) {
	const sector, metas = 512, 2 * 4096
	path, cut := filepath.Join(t.TempDir(), "raft.db"), filepath.Join(t.TempDir(), "raft.db")
	log, err := OpenLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	rng := rand.New(rand.NewPCG(5, 6))
	next, first := uint64(1), uint64(1)
	steps := 40
	if testing.Short() {
		steps = 6
	}
	before, content := used(t, path), contentOf(t, path)
	for range steps {
		switch rng.IntN(3) {
		case 0:
			err = log.SetUint64([]byte("CurrentTerm"), rng.Uint64())
		case 1:
			var logs []*raft.Log
			for range 1 + rng.IntN(8) {
				logs = append(logs, &raft.Log{Index: next, Term: 1, Data: make([]byte, rng.IntN(5000))})
				next++
			}
			err = log.StoreLogs(logs)
		default:
			if first+2 < next {
				err = log.DeleteRange(first, first+1)
				first += 2
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		after := used(t, path)
		var changed []int
		grown := append(bytes.Clone(before), make([]byte, max(0, len(after)-len(before)))...)
		for at := metas; at < len(after); at += sector {
			if !bytes.Equal(grown[at:at+sector], after[at:at+sector]) {
				changed = append(changed, at)
			}
		}
		for _, share := range []float64{0, 0.5, 1} {
			disk := bytes.Clone(grown)
			for _, at := range changed {
				if share == 1 || rng.Float64() < share {
					copy(disk[at:at+sector], after[at:])
				}
			}
			if err := os.WriteFile(cut, disk, 0o600); err != nil {
				t.Fatal(err)
			}
			if got := contentOf(t, cut); got != content {
				t.Fatalf("before the first sync, %v of the sectors on the disk: %.200s, want %.200s", share, got,
					content)
			}
		}
		before, content = after, contentOf(t, path)
		if err := os.WriteFile(cut, after, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := contentOf(t, cut); got != content {
			t.Fatalf("after the second sync: %.200s, want %.200s", got, content)
		}
	}
}

// used returns the pages of a log that have been written.
func used(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const pages = 16 + 40 // where a meta page has the number of pages
	return data[:4096*max(native.Uint64(data[pages:]), native.Uint64(data[4096+pages:]))]
}

// contentOf returns everything in a copy of a log.
func contentOf(t *testing.T, path string) string {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "raft.db")
	if err := os.WriteFile(copied, used(t, path), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := OpenLog(copied)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	first, err := log.FirstIndex()
	last, err2 := log.LastIndex()
	term, err3 := log.GetUint64([]byte("CurrentTerm"))
	content := fmt.Sprint(first, last, term, err3)
	for i := first; i <= last && i > 0; i++ {
		var l raft.Log
		if err := errors.Join(err, err2, log.GetLog(i, &l)); err != nil {
			t.Fatal(err)
		}
		content += fmt.Sprint(" ", l.Index, l.Term, len(l.Data))
	}
	return content
}
