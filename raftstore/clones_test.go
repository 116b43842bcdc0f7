package raftstore

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/masterfsm"
)

// beside opens a copy of a member's folder in another process's place: on a port of its own.
func beside(t testing.TB, original *node, saved string) *node {
	t.Helper()
	cfg := original.cfg
	cfg.Dir, cfg.Bind = filepath.Join(t.TempDir(), "copy"), "127.0.0.1:0"
	copyFolder(t, saved, cfg.Dir)
	return openNode(t, cfg)
}

// awaitAny waits until one of the nodes is refused, and returns it and the others.
func awaitAny(t testing.TB, nodes ...*node) (refused *node, others []*node) {
	t.Helper()
	ctx := patience(t)
	for {
		for i, n := range nodes {
			if n.Refused() != nil {
				return n, append(append([]*node{}, nodes[:i]...), nodes[i+1:]...)
			}
		}
		select {
		case <-ctx.Done():
			t.Fatal("several processes run as one member, and none is refused")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// A copy of the folder of a running follower is started beside it: one of the two goes, and nothing that was acknowledged is lost.
func TestTwoProcessesWithOneFolder(t *testing.T) {
	for _, c := range []struct {
		name    string
		renewed bool // the follower's start was renewed after the copy was made
	}{{"at once", false}, {"later", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			nodes := testGroup(t, 3, func(cfg *Config) { cfg.RenewEvery = 10 * time.Millisecond })
			raised(t, nodes...)
			create(t, "before", nodes...)
			agree(t, nodes...)
			acquainted(t, nodes...)
			leader, victim, third := roles(t, nodes)
			saved := filepath.Join(t.TempDir(), "saved")
			copyFolder(t, victim.cfg.Dir, saved)
			if c.renewed {
				had := present(t, victim.starts).renewed
				create(t, "acknowledged", nodes...)
				for ctx := patience(t); present(t, victim.starts).renewed == had; {
					create(t, "on and on", nodes...)
					if ctx.Err() != nil {
						t.Fatal("the start is not renewed while the state changes")
					}
				}
				acquainted(t, nodes...)
			}
			other := beside(t, victim, saved)
			refused, _ := awaitAny(t, victim, other)
			if c.renewed && refused != other {
				t.Error("the copy stays, which lacks what was acknowledged after it was made")
			}
			create(t, "after", leader, third)
			agree(t, leader, third)
			for _, name := range []string{"before", "after"} {
				if !leader.has(name) || !third.has(name) {
					t.Errorf("%q is lost", name)
				}
			}
		})
	}
}

// Two copies of one stopped folder are started at the same time: no more than one of them takes part.
func TestTwoCopiesOfOneFolder(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	raised(t, nodes...)
	create(t, "before", nodes...)
	leader, victim, third := roles(t, nodes)
	victim.stop()
	saved := filepath.Join(t.TempDir(), "saved")
	copyFolder(t, victim.cfg.Dir, saved)
	first, second := beside(t, victim, saved), beside(t, victim, saved)
	awaitAny(t, first, second)
	create(t, "after", leader, third)
	agree(t, leader, third)
}

// A group that was down as a whole starts again without a leader's word, and without a member that stays away.
func TestRaisedGroupRestarts(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	raised(t, nodes...)
	create(t, "one", nodes...)
	for range 2 {
		for _, n := range nodes {
			n.stop()
		}
		for i := range nodes {
			nodes[i] = openNode(t, nodes[i].cfg)
		}
		create(t, "two", nodes...)
		agree(t, nodes...)
	}
	for _, n := range nodes {
		n.stop()
	}
	for i := range nodes[:2] {
		nodes[i] = openNode(t, nodes[i].cfg)
	}
	create(t, "three", nodes[:2]...)
	nodes[2] = openNode(t, nodes[2].cfg)
	agree(t, nodes...)
	for _, n := range nodes {
		if n.Refused() != nil || !n.has("three") {
			t.Errorf("member %s: %v", n.Member().ID, n.Refused())
		}
	}
}

// A group of one has no peer that could tell: an older copy of its folder is not recognised. docs/masters.md says so.
func TestGroupOfOneCannotTell(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 1, nil)
	if _, err := leaderOf(t, nodes...).Propose(t.Context(), masterfsm.Encode(&masterfsm.RaiseLevel{Level: 1, Time: 1})); err != nil {
		t.Fatal(err)
	}
	create(t, "before", nodes...)
	acquainted(t, nodes...)
	nodes[0].stop()
	saved := filepath.Join(t.TempDir(), "saved")
	copyFolder(t, nodes[0].cfg.Dir, saved)
	one := openNode(t, nodes[0].cfg)
	create(t, "after", one)
	one.stop()
	copyFolder(t, saved, one.cfg.Dir)
	one = openNode(t, one.cfg)
	create(t, "again", one)
	if one.Refused() != nil || one.has("after") {
		t.Errorf("refused: %v", one.Refused())
	}
}

// A refused folder may be all that is left: it can be recovered, after a warning, and the master of the new epoch takes part.
func TestRefusedFolderIsRecovered(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	raised(t, nodes...)
	create(t, "before", nodes...)
	agree(t, nodes...)
	_, victim, _ := roles(t, nodes)
	victim.stop()
	saved := filepath.Join(t.TempDir(), "saved")
	copyFolder(t, victim.cfg.Dir, saved)
	victim = openNode(t, victim.cfg)
	acquainted(t, victim)
	victim.stop()
	copyFolder(t, saved, victim.cfg.Dir)
	victim = openNode(t, victim.cfg)
	victim.refused(t)
	victim.stop()
	for _, n := range nodes {
		n.stop()
	}
	rescue := openRescue(t, victim.cfg.Dir)
	member := rescue.Member()
	if !rescue.Stale() {
		t.Error("the recovery does not know that the folder was refused")
	}
	if err := rescue.Commit(member.Group, member.Epoch+1, victim.cfg.Bind); err != nil {
		t.Fatal(err)
	}
	closeRescue(t, rescue)
	victim = openNode(t, victim.cfg)
	create(t, "after", victim)
	if victim.Refused() != nil || !victim.has("before") {
		t.Errorf("refused: %v", victim.Refused())
	}
}

// Without its file of starts a folder does not open, once the group is at the level for it.
func TestFolderWithoutStarts(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	raised(t, nodes...)
	_, victim, _ := roles(t, nodes)
	victim.stop()
	if err := os.Remove(filepath.Join(victim.cfg.Dir, "starts")); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(victim.cfg); !errors.Is(err, ErrDisk) || !strings.Contains(err.Error(), "starts") {
		t.Errorf("%v, %v", s, err)
	}
}

// leveled is a stream whose group is at a protocol level; told counts how often it was told that its folder is an older copy.
func leveled(t *testing.T, self string, level uint64) (s *stream, told *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	key, err := newHandshakeKey(testToken)
	if err != nil {
		t.Fatal(err)
	}
	told = &atomic.Int64{}
	s = newStream(streamConfig{
		listener: listener, self: self, advertise: listener.Addr().String(), key: key, starts: newStarts(t),
		level: func() uint64 { return level }, addressOf: func(string) string { return "" }, stale: func(error) { told.Add(1) }, failed: func(err error) { t.Error(err) },
		log: hclog.NewNullLogger(),
	})
	s.open("g")
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, told
}

// meets dials and takes the connection at the other end.
func meets(t *testing.T, a, b *stream) {
	t.Helper()
	conn, err := a.Dial(b.address(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	other, err := b.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Close(), other.Close()
}

// Masters of both versions meet as long as the group is at level 0; one that knows of level 1 takes an older one no more, but is itself
// taken by one that has not heard of it.
func TestHandshakeVersions(t *testing.T) {
	a, _ := leveled(t, "a", 0)
	b, _ := leveled(t, "b", 0)
	c, _ := leveled(t, "c", 1)
	meets(t, a, b)
	if a.starts.lastOf("b") != (start{}) || b.starts.lastOf("a") != (start{}) {
		t.Error("starts are told at level 0")
	}
	if err := a.refusal(t, c.address()); !errors.Is(err, errHandshake) {
		t.Errorf("version 1 with a member of a group at level 1: %v", err)
	}
	meets(t, c, a)
	if a.starts.lastOf("c") != present(t, c.starts) || c.starts.lastOf("a") != present(t, a.starts) {
		t.Error("the starts are not written down")
	}
	meets(t, a, c) // it has learnt that c speaks version 2
}

// Each side tells the other that its folder is an older copy, whoever dials; the one that is right is not troubled, and what it knows of the
// other stays.
func TestHandshakeWithAnOlderCopy(t *testing.T) {
	for name, dial := range map[string]func(t *testing.T, good, stale *stream) error{
		"the older copy dials":      func(t *testing.T, good, stale *stream) error { return stale.refusal(t, good.address()) },
		"the older copy is dialled": func(t *testing.T, good, stale *stream) error { return good.refusal(t, stale.address()) },
	} {
		t.Run(name, func(t *testing.T) {
			good, goodTold := leveled(t, "a", 1)
			stale, staleTold := leveled(t, "b", 1)
			newer := start{id: [16]byte{7}, renewed: 2}
			if ok, err := good.starts.accept("b", start{}, newer); !ok || err != nil {
				t.Fatal(ok, err)
			}
			err := dial(t, good, stale)
			if !errors.Is(err, errHandshake) {
				t.Fatal(err)
			}
			ctx := patience(t)
			for staleTold.Load() == 0 {
				select {
				case <-ctx.Done():
					t.Fatal("it was not told that its folder is an older copy")
				case <-time.After(time.Millisecond):
				}
			}
			if goodTold.Load() != 0 || good.starts.lastOf("b") != newer || stale.starts.lastOf("a") != (start{}) {
				t.Errorf("told %d times; %v, %v", goodTold.Load(), good.starts.lastOf("b"), stale.starts.lastOf("a"))
			}
		})
	}
}

// Who lacks the cluster token cannot make a master believe anything: neither that its folder is an older copy, nor that another's start is
// a new one.
func TestHandshakeOfAStranger(t *testing.T) {
	a, told := leveled(t, "a", 1)
	known := start{id: [16]byte{7}}
	if ok, err := a.starts.accept("b", start{}, known); !ok || err != nil {
		t.Fatal(ok, err)
	}
	wrong, err := newHandshakeKey("another token")
	if err != nil {
		t.Fatal(err)
	}
	claims := newStarts(t)
	claims.own = append([]start{known}, claims.own...)
	claims.peers["a"] = start{id: [16]byte{9}} // a start that a never had
	for _, verdict := range []byte{0, 1} {
		conn, err := net.Dial("tcp", a.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		raw, err := hello{group: "g", caller: "b", callee: "a"}.encode(helloVersionStarts)
		if err != nil {
			t.Fatal(err)
		}
		raw = parting{purpose: purposeAnnounce, caller: present(t, claims), callee: claims.lastOf("a")}.appendTo(raw)
		if _, err := conn.Write(raw); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, nonceSize+2*startSize+macSize)
		if _, err := io.ReadFull(conn, answer); err != nil {
			t.Fatal(err)
		}
		raw = append(raw, answer[:len(answer)-macSize]...)
		if _, err := conn.Write(append([]byte{verdict}, wrong.mac("caller", raw, []byte{verdict})...)); err != nil {
			t.Fatal(err)
		}
		if n, err := io.ReadFull(conn, make([]byte, 1)); err == nil {
			t.Errorf("it answers with %d bytes", n)
		}
		_ = conn.Close()
	}
	if told.Load() != 0 || a.starts.lastOf("b") != known {
		t.Errorf("a stranger was believed: told %d times, b started as %v", told.Load(), a.starts.lastOf("b"))
	}
}

// A new start of a member ends the connections of the one before it, in both directions, and no others.
func TestNewStartEndsOldConnections(t *testing.T) {
	a, _ := leveled(t, "a", 1)
	b, _ := leveled(t, "b", 1)
	c, _ := leveled(t, "c", 1)
	var old, kept []net.Conn
	for _, x := range []struct {
		from, to *stream
		conns    *[]net.Conn
	}{{b, a, &old}, {a, b, &old}, {c, a, &kept}} {
		conn, err := x.from.Dial(x.to.address(), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		other, err := x.to.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		defer other.Close()
		at := other
		if x.from == a {
			at = conn
		}
		*x.conns = append(*x.conns, at)
	}
	if err := b.starts.begin(); err != nil { // as if b had been started anew
		t.Fatal(err)
	}
	meets(t, b, a)
	for _, conn := range old {
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err == nil {
			_, err = conn.Read(make([]byte, 1))
			if !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
				t.Errorf("a connection of the start before it is open: %v", err)
			}
		} else if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
	if err := kept[0].SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Errorf("another member's connection is closed: %v", err)
	}
}

// Copies of all folders of a group are started beside it, on other ports, while nothing has changed since they were made: the originals go on,
// and the copies are refused.
func TestCopiesOfAWholeGroupBeside(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	raised(t, nodes...)
	create(t, "before", nodes...)
	agree(t, nodes...)
	var copies []*node
	for _, n := range nodes {
		saved := filepath.Join(t.TempDir(), "saved")
		copyFolder(t, n.cfg.Dir, saved)
		copies = append(copies, beside(t, n, saved))
	}
	for _, n := range copies {
		n.refused(t)
	}
	create(t, "after", nodes...)
	agree(t, nodes...)
	for _, n := range nodes {
		if n.Refused() != nil {
			t.Errorf("member %s is refused although it was there first: %v", n.Member().ID, n.Refused())
		}
	}
}

// A copy of the running leader's folder is started beside it before the leader's start was renewed. What the leader has acknowledged with one
// follower is not lost when that follower goes and the other comes back.
func TestCopyOfTheLeaderBeside(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	raised(t, nodes...)
	create(t, "before", nodes...)
	agree(t, nodes...)
	leader, first, second := roles(t, nodes)
	second.stop()
	saved := filepath.Join(t.TempDir(), "saved")
	copyFolder(t, leader.cfg.Dir, saved)
	create(t, "acknowledged", leader, first)
	other := beside(t, leader, saved)
	other.refused(t)
	first.stop()
	second = openNode(t, second.cfg)
	create(t, "after", leader, second)
	if !leader.has("acknowledged") || leader.Refused() != nil {
		t.Errorf("the leader is refused: %v", leader.Refused())
	}
}

// What is shut stays shut: a refusal may come while the store opens its connections, and while one is dialled.
func TestShutIsFinal(t *testing.T) {
	a, _ := leveled(t, "a", 1)
	b, _ := leveled(t, "b", 1)
	a.shut()
	a.open("g")
	a.announce("g")
	if group, forRaft := a.current(); group != "" || forRaft {
		t.Errorf("open after it was shut: %q, %v", group, forRaft)
	}
	if conn, err := a.Dial(b.address(), 50*time.Millisecond); err == nil {
		t.Error("it dials", conn.Close())
	}
	near, far := net.Pipe()
	defer far.Close()
	if _, err := a.track(near); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a connection that was being dialled: %v", err)
	}
	if err := b.refusal(t, a.address()); !errors.Is(err, errHandshake) {
		t.Errorf("it takes connections: %v", err)
	}
}

// A folder of a group at a protocol level that this program does not know is not opened.
func TestFolderOfAHigherLevel(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 1, nil)
	leaderOf(t, nodes...)
	nodes[0].stop()
	id, err := loadIdentity(nodes[0].cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	id.Level = masterfsm.ProtocolLevel + 1
	if err := id.save(nodes[0].cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(nodes[0].cfg); !errors.Is(err, durable.ErrNewerFormat) {
		t.Errorf("%v, %v", s, err)
	}
}

// A process that ends before a peer could hear of it leaves no start behind: the list does not grow in a loop of crashes.
func TestStartThatNobodyHeardOf(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	raised(t, nodes...)
	_, victim, _ := roles(t, nodes)
	for _, n := range nodes {
		n.stop()
	}
	had := len(victim.starts.reopened(t).own)
	for range 3 {
		s := openStore(t, victim.cfg)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if now := len(victim.starts.reopened(t).own); now != had {
		t.Errorf("%d starts after %d", now, had)
	}
}

// A write of the list that hangs ends the store, as any other write does.
func TestHungStarts(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, func(cfg *Config) { cfg.WriteTimeout = 100 * time.Millisecond })
	raised(t, nodes...)
	_, victim, _ := roles(t, nodes)
	watched := make(chan func())
	go func() { watched <- victim.starts.watch("write of a disk that hangs") }()
	done := <-watched
	defer done()
	select {
	case err := <-victim.Failed():
		if !errors.Is(err, ErrDisk) {
			t.Error(err)
		}
	case <-patience(t).Done():
		t.Error("nobody notices")
	}
}
