package raftstore

import (
	"bytes"
	"runtime"
	"testing"
	"time"
)

// After the stores are closed, no goroutine of theirs or of raft is left. This test does not run in parallel.
func TestNoGoroutineIsLeft(t *testing.T) {
	t.Run("group", func(t *testing.T) {
		nodes := testGroup(t, 3, nil)
		create(t, "one", nodes...)
		nodes[1].stop() // the others dial it until the end
	})
	ctx := patience(t)
	for {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		var left []byte
		for _, s := range bytes.Split(stacks, []byte("\n\n")) {
			if bytes.Contains(s, []byte("testing.")) {
				continue
			}
			if bytes.Contains(s, []byte("raftstore.")) || bytes.Contains(s, []byte("hashicorp/raft")) {
				left = append(append(left, s...), "\n\n"...)
			}
		}
		if left == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("left running:\n%s", left)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
