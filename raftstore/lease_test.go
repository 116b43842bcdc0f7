package raftstore

import (
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// Raft's last contact counts on a follower, except where it only means that this leader has stepped down.
func TestLastContactOf(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(1_000_000, 0).Add(time.Duration(seconds) * time.Second) }
	never := time.Time{}
	m := func(seconds int) moment { return moment{at: at(seconds)} }
	for name, c := range map[string]struct {
		contact contact
		heard   time.Time
		leading bool
		want    time.Time
	}{
		"it never heard from one":                   {contact{}, never, false, never},
		"a follower":                                {contact{}, at(9), false, at(9)},
		"elected, and not notified yet":             {contact{}, at(9), false, at(9)},
		"it leads":                                  {contact{lease: m(10)}, at(3), true, at(10)},
		"halted as leader":                          {contact{lease: m(10)}, at(3), true, at(10)},
		"stepped down, and not notified yet":        {contact{lease: m(10)}, at(20), true, at(10)},
		"stepped down":                              {contact{lease: m(10), resigned: at(21)}, at(20), false, at(10)},
		"stepped down, and heard from another":      {contact{lease: m(10), resigned: at(21)}, at(22), false, at(22)},
		"leads again, notified before its election": {contact{lease: m(30), resigned: at(21)}, at(25), true, at(30)},
	} {
		c.contact.hear(c.heard, 0)
		if got := c.contact.last(c.leading); !got.at.Equal(c.want) {
			t.Errorf("%s: %v, want %v", name, got.at, c.want)
		}
	}
}

// A contact is older by the time in suspension since, or since raft's time was read before it.
func TestContactAndSuspension(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	c := contact{known: time.Hour} // of earlier days
	for i, step := range []struct {
		heard, now int           // seconds, by the clock that stands still
		suspended  time.Duration // since it started
		want       time.Duration
	}{
		{1, 2, 0, time.Second},
		{3, 3, 0, 0},
		{3, 4, time.Minute, time.Minute + time.Second},
		{3, 5, time.Minute, time.Minute + 2*time.Second},   // not heard since
		{6, 6, time.Minute, 0},                             // heard
		{7, 8, 2 * time.Minute, time.Minute + time.Second}, // before or after the second suspension
		{9, 9, 2 * time.Minute, 0},
	} {
		at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
		c.hear(at(step.heard), time.Hour+step.suspended)
		if got := c.last(false).until(at(step.now), time.Hour+step.suspended); got != step.want {
			t.Errorf("step %d: the last contact is %v ago, want %v", i, got, step.want)
		}
	}
}

// A contact shortly after a halt or a suspension may be a message, or a notification, that arrived before it. It counts
// as one before the halt, also if it is read after others.
func TestContactAfterAHalt(t *testing.T) {
	const gap = 900 * time.Millisecond
	start := time.Unix(1_000_000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	c := contact{gap: gap}
	for i, step := range []struct {
		heard, now int           // ms
		suspended  time.Duration // since it started
		want       time.Duration
	}{
		{100, 100, 0, 0},
		{1000, 1000, 0, 0}, // not longer than the gap
		{90_001, 90_001, 0, 89_001 * time.Millisecond},
		{90_002, 90_100, 0, 89_100 * time.Millisecond},                 // another one that was waiting
		{90_901, 90_900, 0, 89_900 * time.Millisecond},                 // not later than that
		{90_902, 90_910, 0, 8 * time.Millisecond},                      // sent after the halt
		{90_911, 90_911, time.Hour, time.Hour + time.Millisecond},      // a suspension
		{90_912, 92_000, time.Hour, time.Hour + 1090*time.Millisecond}, // a halt within the time after it
		{92_500, 92_800, time.Hour, time.Hour + 1890*time.Millisecond},
		{92_901, 92_901, time.Hour, 0},
	} {
		c.look(at(step.now), step.suspended)
		c.hear(at(step.heard), step.suspended)
		if got := c.last(false).until(at(step.now), step.suspended); got != step.want {
			t.Errorf("step %d: the last contact is %v ago, want %v", i, got, step.want)
		}
	}
	l := leadership{contact: contact{gap: time.Hour, looked: moment{at: time.Now().Add(-2 * time.Hour)}}}
	l.set(true, 0)
	defer l.set(false, 0)
	if got := time.Since(l.lease().at); got < 2*time.Hour {
		t.Errorf("elected, halted for two hours and then notified: its lease is %v old", got)
	}
}

// TestLastContactAfterAHalt lets a master be halted for an hour. What it hears then counts only if it was sent after
// the halt.
func TestLastContactAfterAHalt(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	leader := leaderOf(t, nodes...)
	agree(t, nodes...)
	follower := nodes[slices.IndexFunc(nodes, func(n *node) bool { return n != leader })]
	l := &follower.Store.leadership
	last := func() time.Duration { return min(follower.LastContact(), 24*time.Hour) }
	ctx := patience(t)
	for last() > time.Minute {
		select {
		case <-ctx.Done():
			t.Fatal("it hears from no leader")
		case <-time.After(5 * time.Millisecond):
		}
	}
	state := func() contact {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.contact
	}
	l.mu.Lock()
	halted := l.contact.looked.at
	l.contact.looked.at, l.contact.until = halted.Add(-time.Hour), time.Time{}
	l.mu.Unlock()
	buffered := false // whether a heartbeat was heard that may be from before the halt
	for {
		before, age, c := state(), last(), state()
		if noticed := c.until.After(halted); noticed && c.until.Equal(before.until) && c.read.After(halted) {
			if c.read.After(c.until) && age < time.Minute {
				break
			}
			if buffered = true; age < time.Hour {
				t.Fatalf("the last contact is %v ago, by a heartbeat shortly after the halt", age)
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("it does not hear from the leader any more: %v", age)
		case <-time.After(time.Millisecond):
		}
	}
	if !buffered {
		t.Log("no heartbeat was heard shortly after the halt")
	}
}

// After the machine was suspended for a minute, a master must hear from the others first, whether it follows or leads.
func TestLastContactAfterASuspension(t *testing.T) {
	t.Parallel()
	for _, leads := range []bool{false, true} {
		t.Run(map[bool]string{false: "follower", true: "leader"}[leads], func(t *testing.T) {
			t.Parallel()
			var slept atomic.Int64
			nodes := testGroup(t, 3, func(c *Config) {
				c.suspended = func() time.Duration { return time.Duration(slept.Load()) }
			})
			leader := leaderOf(t, nodes...)
			agree(t, nodes...)
			sleeper := leader
			if !leads {
				sleeper = nodes[slices.IndexFunc(nodes, func(n *node) bool { return n != leader })]
			}
			hears := func(when string) {
				t.Helper()
				for ctx := patience(t); sleeper.LastContact() > 5*time.Second; {
					select {
					case <-ctx.Done():
						t.Fatalf("%s: the last contact is %v ago", when, sleeper.LastContact())
					case <-time.After(5 * time.Millisecond):
					}
				}
			}
			hears("before")
			slept.Add(int64(time.Minute))
			hears("after a suspension with the others there")
			for _, n := range nodes {
				if n != sleeper {
					n.stop()
				}
			}
			slept.Add(int64(time.Minute))
			if got := sleeper.LastContact(); got < time.Minute {
				t.Errorf("the others stopped before the suspension: the last contact is %v ago", got)
			}
		})
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
		leader.Store.leadership.contact.lease = moment{at: time.Now().Add(-time.Hour)}
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
	// No majority confirms it any more: the lease is not renewed, also not when raft steps down. A renewal that had
	// begun when it was halted may still end; it renews the lease for the time at which it began.
	for _, n := range nodes {
		if n != leader {
			n.stop()
		}
	}
	halt()
	halted := time.Now()
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
	since := time.Since(halted)
	if c := leader.LastContact(); c < since {
		t.Errorf("last contact %v ago, %v after it was halted", c, since)
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
