package raftstore

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/masterfsm"
)

func newStarts(t testing.TB) *starts {
	t.Helper()
	s, err := openStarts(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.begin(); err != nil {
		t.Fatal(err)
	}
	return s
}

// present is the present start.
func present(t testing.TB, s *starts) start {
	t.Helper()
	now, err := s.current()
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// reopened is what the file of s holds.
func (s *starts) reopened(t testing.TB) *starts {
	t.Helper()
	again, err := openStarts(filepath.Dir(s.path), true)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func TestStartsAreKept(t *testing.T) {
	a := newStarts(t)
	first := present(t, a)
	if first.id == (start{}).id || first.renewed != 0 {
		t.Errorf("the first start is %v", first)
	}
	for range 3 {
		if err := a.renew(); err != nil {
			t.Fatal(err)
		}
	}
	other, third := start{id: [16]byte{1}}, start{id: [16]byte{2}, renewed: 7}
	for _, m := range []string{"m2", "m3"} {
		if ok, err := a.accept(m, start{}, other); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if ok, err := a.accept("m3", other, third); !ok || err != nil {
		t.Fatal(ok, err)
	}
	again := a.reopened(t)
	if !slices.Equal(again.own, a.own) || !maps.Equal(again.peers, a.peers) || again.own[0].renewed != 3 {
		t.Errorf("reopened: %v %v, want %v %v", again.own, again.peers, a.own, a.peers)
	}
	if info, err := os.Stat(a.path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := again.begin(); err != nil {
		t.Fatal(err)
	}
	for x, known := range map[start]bool{
		{}:                                     true, // none was heard of
		first:                                  true,
		{id: first.id, renewed: 3}:             true,
		{id: first.id, renewed: 4}:             false, // renewed after this folder was copied
		present(t, again):                      true,
		{id: [16]byte{9}}:                      false,
		{renewed: 1}:                           false,
		{id: other.id}:                         false, // a peer's
		{id: present(t, again).id, renewed: 1}: false,
	} {
		if again.knows(x) != known {
			t.Errorf("knows %v: %v", x, !known)
		}
	}
}

func TestStartsAccept(t *testing.T) {
	s := newStarts(t)
	one, two, three := start{id: [16]byte{1}}, start{id: [16]byte{2}}, start{id: [16]byte{3}}
	renewed := start{id: one.id, renewed: 5}
	for i, c := range []struct {
		before, now start
		accepted    bool
		last        start
	}{
		{start{}, one, true, one},
		{start{}, one, true, one},      // the same again
		{start{}, two, false, one},     // it does not know of one
		{two, three, false, one},       // it knows another
		{one, renewed, true, renewed},  // renewed
		{start{}, one, true, renewed},  // an earlier connection of the same start
		{one, two, false, renewed},     // it knows one before it was renewed
		{renewed, two, true, two},      // the next start
		{renewed, three, false, two},   // another next start: a copy
		{renewed, renewed, false, two}, // the one before it
		{two, start{id: two.id, renewed: 1}, true, start{id: two.id, renewed: 1}},
	} {
		accepted, err := s.accept("m", c.before, c.now)
		if err != nil || accepted != c.accepted || s.lastOf("m") != c.last || s.reopened(t).lastOf("m") != c.last {
			t.Errorf("%d: %v, %v, last %v, in the file %v", i, accepted, err, s.lastOf("m"), s.reopened(t).lastOf("m"))
		}
	}
}

func TestStartsFileIsChecked(t *testing.T) {
	s := newStarts(t)
	if _, err := s.accept("m2", start{}, start{id: [16]byte{1}}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(s.path)
	good, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := map[string][]byte{"empty": {}, "byte behind": append(bytes.Clone(good), 0)}
	for n := range good {
		flipped := bytes.Clone(good)
		flipped[n] ^= 0x20
		damaged[fmt.Sprint("flipped at ", n)] = flipped
		damaged[fmt.Sprint("cut at ", n)] = good[:n]
	}
	for name, data := range damaged {
		if err := os.WriteFile(s.path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openStarts(dir, false); !errors.Is(err, ErrDisk) && !errors.Is(err, durable.ErrNewerFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	newer := bytes.Clone(good)
	newer[4] = startsFormat.Version + 1
	if err := os.WriteFile(s.path, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openStarts(dir, false); !errors.Is(err, durable.ErrNewerFormat) {
		t.Errorf("newer version: %v", err)
	}
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	if _, err := openStarts(dir, true); !errors.Is(err, ErrDisk) {
		t.Errorf("missing: %v", err)
	}
}

func TestStartsAreBounded(t *testing.T) {
	s := newStarts(t)
	for len(s.own) < maxStarts {
		s.own = append(s.own, start{id: [16]byte{byte(len(s.own)), byte(len(s.own) >> 8), 1}})
	}
	newest := present(t, s)
	if err := s.begin(); err != nil {
		t.Fatal(err)
	}
	if len(s.own) != maxStarts || !s.knows(newest) || len(s.reopened(t).own) != maxStarts {
		t.Errorf("%d starts", len(s.own))
	}
}

// A start that cannot be written down is not used.
func TestStartsThatCannotBeWritten(t *testing.T) {
	s := newStarts(t)
	before := present(t, s)
	if err := os.RemoveAll(filepath.Dir(s.path)); err != nil {
		t.Fatal(err)
	}
	if err := s.begin(); !errors.Is(err, ErrDisk) {
		t.Errorf("begin: %v", err)
	}
	if err := s.renew(); !errors.Is(err, ErrDisk) {
		t.Errorf("renew: %v", err)
	}
	if ok, err := s.accept("m", start{}, before); ok || !errors.Is(err, ErrDisk) {
		t.Errorf("accept: %v, %v", ok, err)
	}
	if present(t, s) != before || s.lastOf("m") != (start{}) {
		t.Errorf("now %v, %v", present(t, s), s.lastOf("m"))
	}
}

func FuzzStarts(f *testing.F) {
	s := newStarts(f)
	if _, err := s.accept("m2", start{}, start{id: [16]byte{1}, renewed: 3}); err != nil {
		f.Fatal(err)
	}
	f.Add(startsFormat.Append(nil, s.encode()))
	f.Fuzz(func(t *testing.T, data []byte) {
		got := &starts{peers: map[string]start{}}
		if startsFormat.Decode(data, got.parse) != nil || len(got.peers) != 1 {
			return
		}
		if again := startsFormat.Append(nil, got.encode()); !bytes.Equal(again, data) {
			t.Errorf("%x is read as %x", data, again)
		}
	})
}

// copyFolder copies a data folder.
func copyFolder(t testing.TB, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(to, 0o700); err != nil {
		t.Fatal(err)
	}
}

// raised raises the group's protocol level, and waits until every member knows it and the starts of all others.
func raised(t testing.TB, nodes ...*node) {
	t.Helper()
	ctx := patience(t)
	for {
		_, err := leaderOf(t, nodes...).Propose(ctx, masterfsm.Encode(&masterfsm.RaiseLevel{Level: masterfsm.ProtocolLevel, Time: 1}))
		if err == nil || errors.Is(err, masterfsm.ErrStale) {
			break
		}
		if !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrOutcomeUnknown) {
			t.Fatal(err)
		}
	}
	acquainted(t, nodes...)
}

// acquainted waits until every node has told the others its start, and has written down the level.
func acquainted(t testing.TB, nodes ...*node) {
	t.Helper()
	ctx := patience(t)
	ready := func() bool {
		for _, n := range nodes {
			n.mu.Lock()
			level := n.identity.Level
			n.mu.Unlock()
			if level != masterfsm.ProtocolLevel {
				return false
			}
			for _, other := range nodes {
				if other != n && !n.starts.knownTo(other.Member().ID) {
					return false
				}
			}
		}
		return true
	}
	for !ready() {
		select {
		case <-ctx.Done():
			t.Fatal("the masters do not know each other's starts")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// refused waits until a node is refused.
func (n *node) refused(t testing.TB) {
	t.Helper()
	ctx := patience(t)
	for n.Refused() == nil {
		select {
		case <-ctx.Done():
			t.Fatalf("member %s takes part although its folder is an older copy", n.Member().ID)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// roles finds the leader, and of the others one that is to be restored and one that is to stay.
func roles(t testing.TB, nodes []*node) (leader, victim, third *node) {
	t.Helper()
	leader = leaderOf(t, nodes...)
	for _, n := range nodes {
		switch {
		case n == leader:
		case victim == nil:
			victim = n
		default:
			third = n
		}
	}
	return leader, victim, third
}

// An older copy of a follower's folder is put back. What the follower acknowledged since is on one other master alone, which is then lost: the
// two that remain must not go on without it.
func TestRestoredFolderNeitherVotesNorAcknowledges(t *testing.T) {
	for _, c := range []struct {
		name     string
		restarts int  // between the copy and the last life of the folder
		running  bool // the copy is made while the master runs
	}{
		{"stopped copy", 0, false},
		{"stopped copy, ten restarts", 10, false},
		{"running copy", 0, true},
		{"running copy, ten restarts", 10, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			nodes := testGroup(t, 3, nil)
			create(t, "before", nodes...)
			raised(t, nodes...)
			leader, victim, third := roles(t, nodes)
			saved := filepath.Join(t.TempDir(), "saved")
			if c.running {
				create(t, "more", nodes...)
				agree(t, nodes...)
				copyFolder(t, victim.cfg.Dir, saved)
			} else {
				victim.stop()
				copyFolder(t, victim.cfg.Dir, saved)
				victim = openNode(t, victim.cfg)
			}
			for range c.restarts {
				victim.stop()
				victim = openNode(t, victim.cfg)
			}
			acquainted(t, leader, victim, third)
			if !c.running {
				third.stop() // it lacks what comes now
			}
			create(t, "acknowledged", leader, victim)
			if c.running {
				create(t, "and more", leader, victim, third)
			}
			victim.stop()
			copyFolder(t, saved, victim.cfg.Dir)
			leader.stop()
			victim = openNode(t, victim.cfg)
			if !c.running {
				third = openNode(t, third.cfg)
			}
			victim.refused(t)
			if victim.Leader() != "" || victim.LastContact() < time.Hour {
				t.Errorf("a refused master follows %q, heard of %v ago", victim.Leader(), victim.LastContact())
			}
			if _, err := victim.Propose(t.Context(), project("no")); !errors.Is(err, ErrStaleFolder) || !errors.Is(err, ErrNotLeader) {
				t.Errorf("a refused master answers %v", err)
			}
			if third.Leader() != "" {
				if _, err := third.ReadIndex(t.Context()); err == nil {
					t.Error("one of three masters leads")
				}
			}
			leader = openNode(t, leader.cfg)
			create(t, "after", leader, third)
			agree(t, leader, third)
			for _, name := range []string{"before", "acknowledged", "after"} {
				if !leader.has(name) || !third.has(name) {
					t.Errorf("%q was acknowledged and is lost", name)
				}
			}
			// It stays refused.
			victim.stop()
			victim = openNode(t, victim.cfg)
			if victim.Refused() == nil {
				t.Error("after a restart it takes part again")
			}
		})
	}
}

// The vector of docs/formats.md.
func TestStartsVector(t *testing.T) {
	s := &starts{peers: map[string]start{"m2": {}}}
	var own, peer start
	for i := range own.id {
		own.id[i], peer.id[i] = byte(i), byte(0xf0+i)
	}
	own.renewed = 2
	s.own, s.peers["m2"] = []start{own}, peer
	const want = "43534d5301" + "00000001" + "000102030405060708090a0b0c0d0e0f" + "0000000000000002" +
		"00000001" + "02" + "6d32" + "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff" + "0000000000000000" + "677b2e4f"
	if got := hex.EncodeToString(startsFormat.Append(nil, s.encode())); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
