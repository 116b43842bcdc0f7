package raftstore

import (
	"math"
	"testing"
	"time"
)

// Raft's last contact counts on a follower, except where it only means that this leader has stepped down.
func TestLastContactOf(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(1_000_000, 0).Add(time.Duration(seconds) * time.Second) }
	never := time.Time{}
	for name, c := range map[string]struct {
		contact contact
		heard   time.Time
		leading bool
		want    time.Time
	}{
		"it never heard from one":                   {contact{}, never, false, never},
		"a follower":                                {contact{}, at(9), false, at(9)},
		"elected, and not notified yet":             {contact{}, at(9), false, at(9)},
		"it leads":                                  {contact{lease: at(10)}, at(3), true, at(10)},
		"halted as leader":                          {contact{lease: at(10)}, at(3), true, at(10)},
		"stepped down, and not notified yet":        {contact{lease: at(10)}, at(20), true, at(10)},
		"stepped down":                              {contact{lease: at(10), resigned: at(21)}, at(20), false, at(10)},
		"stepped down, and heard from another":      {contact{lease: at(10), resigned: at(21)}, at(22), false, at(22)},
		"leads again, notified before its election": {contact{lease: at(30), resigned: at(21)}, at(25), true, at(30)},
	} {
		if got := c.contact.last(c.heard, c.leading); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// A leader that was halted for longer than its lease renews it only after a majority has confirmed that it leads.
func TestLeaseAfterAHalt(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	leader := leaderOf(t, nodes...)
	if c := leader.LastContact(); c == math.MaxInt64 {
		t.Fatalf("last contact of a leader: %v", c)
	}
	halt := func() {
		leader.Store.leadership.mu.Lock()
		defer leader.Store.leadership.mu.Unlock()
		leader.Store.leadership.contact.lease = time.Now().Add(-time.Hour)
	}
	halt()
	ctx := patience(t)
	for leader.LastContact() >= time.Minute {
		select {
		case <-ctx.Done():
			t.Fatal("a leader that a majority confirms does not renew its lease")
		case <-time.After(5 * time.Millisecond):
		}
	}
	// No majority confirms it any more: the lease stays as old as it was, also after raft has stepped down.
	for _, n := range nodes {
		if n != leader {
			n.stop()
		}
	}
	halt()
	for {
		if leading := leader.Store.leadership.current(); leading == nil {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal("it leads on without the others")
		case <-time.After(5 * time.Millisecond):
		}
	}
	if c := leader.LastContact(); c < time.Minute {
		t.Errorf("%v after it was halted for an hour and has stepped down", c)
	}
}

// A member is reached at its own address, and not at another's.
func TestReaches(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	leader := leaderOf(t, nodes...)
	agree(t, nodes...)
	var others []*node
	for _, n := range nodes {
		if n != leader {
			others = append(others, n)
		}
	}
	a, b := others[0].Member(), others[1].Member()
	reaches := func(id, address string) bool {
		return leader.Reaches(patience(t), id, address)
	}
	for _, c := range []struct {
		id, address string
		want        bool
	}{{a.ID, "", true}, {a.ID, a.Raft, true}, {a.ID, b.Raft, false}, {"none", "", false}, {"none", a.Raft, false}} {
		if got := reaches(c.id, c.address); got != c.want {
			t.Errorf("%s at %q: %v", c.id, c.address, got)
		}
	}
	others[0].stop()
	if reaches(a.ID, "") || reaches(a.ID, a.Raft) {
		t.Error("a master that has stopped is reached")
	}
	if !reaches(b.ID, "") {
		t.Error("the other one is not reached")
	}
}
