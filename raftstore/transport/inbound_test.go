package transport

import (
	"testing"

	"github.com/hashicorp/raft"
)

// TestCommitIndexOfARequest checks that a request commits nothing behind its own entries: what this master has there
// may come from another leader.
func TestCommitIndexOfARequest(t *testing.T) {
	i := &Inbound{stream: &Stream{cfg: Config{}}}
	i.stream.cfg.Term = func() (uint64, bool) { return 3, true }
	entries := []*raft.Log{{Index: 21, Term: 3, Type: raft.LogNoop}, {Index: 22, Term: 3, Type: raft.LogNoop}}
	for _, c := range []struct {
		prev    uint64
		entries []*raft.Log
		commit  uint64
		want    uint64
	}{
		{20, nil, 31, 20}, {20, nil, 20, 20}, {20, nil, 19, 19}, {20, entries, 31, 22}, {20, entries, 21, 21},
		{0, nil, 0, 0}, {0, nil, 5, 0},
	} {
		m := &raft.AppendEntriesRequest{Term: 3, PrevLogEntry: c.prev, PrevLogTerm: 3, Entries: c.entries,
			LeaderCommitIndex: c.commit}
		if err := i.check(m); err != nil || m.LeaderCommitIndex != c.want {
			t.Errorf("entry %d, %d entries, commit %d: %d, %v, want %d", c.prev, len(c.entries), c.commit,
				m.LeaderCommitIndex, err, c.want)
		}
	}
}
