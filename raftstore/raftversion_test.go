package raftstore

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/chainstore/chainstore/raftstore/raftconfig"
	"github.com/chainstore/chainstore/raftstore/transport"
)

// TestRaftUpgrade fails when raft is upgraded. The store relies on details of raft that its API does not promise. Each
// subtest checks one. Look at each again in the new version's source, then raise checkedRaft and
// docs/dependencies.md.
func TestRaftUpgrade(t *testing.T) {
	t.Run("version", func(t *testing.T) {
		const checkedRaft = "v1.7.3"
		data, err := os.ReadFile(filepath.Join("..", "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`(?m)^\s*github\.com/hashicorp/raft (\S+)`).FindSubmatch(data)
		if m == nil || string(m[1]) != checkedRaft {
			t.Errorf("raft is %s: this package was checked with %s only (see the comment of this test)", m, checkedRaft)
		}
	})
	t.Run("names of the stable store", raftWritesVotes)
	t.Run("text of a missing value", func(t *testing.T) {
		_, err := raft.NewInmemStore().Get([]byte("nothing"))
		for name, err := range map[string]error{"raft": err, "raft-boltdb": raftboltdb.ErrKeyNotFound} {
			if err == nil || err.Error() != errNoValue.Error() {
				t.Errorf("%s says %v, stableStore expects %v", name, err, errNoValue)
			}
		}
	})
	t.Run("a shorter heartbeat timeout", raftChecksLastContact)
}

// raftWritesVotes checks that raft writes a vote under two names, of which stableStore makes one value, and the term
// under a third.
func raftWritesVotes(t *testing.T) {
	n := testGroup(t, 1, nil)[0]
	leaderOf(t, n)
	term, address := n.raft.Load().CurrentTerm(), transport.ServerAddress(n.Member().ID, n.Member().Raft)
	n.stop()
	bolt, err := raftconfig.OpenLog(filepath.Join(n.cfg.Dir, "raft.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer bolt.Close()
	vote, err := bolt.Get([]byte(keyVote))
	vote = vote[:max(0, len(vote)-4)] // without its checksum
	if want := append(binary.BigEndian.AppendUint64(nil, term), address...); err != nil || !bytes.Equal(vote, want) {
		t.Errorf("the vote is %q, %v, want %q", vote, err, want)
	}
	if got, err := bolt.GetUint64([]byte(keyTerm)); err != nil || got != term {
		t.Errorf("the term is %d, %v, want %d", got, err, term)
	}
	for _, key := range []string{keyVoteTerm, keyVoteCandidate} {
		if value, err := bolt.Get([]byte(key)); err == nil {
			t.Errorf("half of a vote is in the file: %s = %q", key, value)
		}
	}
}

// raftChecksLastContact checks that a follower looks at its last contact at once when its heartbeat timeout becomes
// shorter: see checkLastContact.
func raftChecksLastContact(t *testing.T) {
	s := &Store{cfg: Config{Timeout: time.Hour}, dataFolder: &dataFolder{log: hclog.NewNullLogger()}}
	logs, address := raft.NewInmemStore(), raft.ServerAddress("here")
	_, trans := raft.NewInmemTransport(address)
	config := raftconfig.New("a", s.cfg.Timeout, nil)
	err := raft.BootstrapCluster(config, logs, logs, raft.NewInmemSnapshotStore(), trans, raft.Configuration{
		Servers: []raft.Server{{ID: "a", Address: address}, {ID: "b", Address: "nowhere"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := raft.NewRaft(config, &raft.MockFSM{}, logs, logs, raft.NewInmemSnapshotStore(), trans)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Shutdown().Error(); err != nil {
			t.Error(err)
		}
	}()
	stands := make(chan raft.Observation, 1)
	r.RegisterObserver(raft.NewObserver(stands, false,
		func(o *raft.Observation) bool { return o.Data == raft.Candidate }))
	s.checkLastContact(r)
	select {
	case <-stands:
	case <-patience(t).Done():
		t.Errorf("a follower without a leader is %v: it did not check its last contact", r.State())
	}
}
