package leader

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// Times of the comparison of clocks.
const (
	fewestClocks = 3                      // that must be known to judge one of them
	clockFresh   = 15 * time.Second       // how long the answer of another master counts
	clockWait    = 500 * time.Millisecond // for the answers, before a term whose leader needs them at once
	handOverWait = 2 * time.Second        // for the leadership to end after it was handed over before the term
	handOverRest = 30 * time.Second       // after a hand-over, in which a leadership that comes back is kept
)

// reading is what the wall clock of a master shows now, unix milliseconds.
type reading struct {
	master string
	voter  bool
	time   uint64
}

// Clocks is the comparison of a leader's wall clock with those of the other masters.
type Clocks struct {
	Compared int  // clocks that are known, the leader's among them
	Majority bool // more than half of them, and at least two of three, are within maxStep of one of them
	Agrees   bool // the leader's clock is such a one
	Wrong    []WrongClock
	// Table is how far the table's time is ahead of the leader's clock. It is 0 if the clock is used for commands.
	Table time.Duration

	better []string // voters to which the leader may hand over, as its own clock is wrong
}

// WrongBy returns by how much a wall clock is ahead of those of other masters, negative if it is behind. It is 0 if the
// clock is right, if fewer than three clocks are known, or if no majority of them agrees. The times are unix
// milliseconds of one moment; one of the others may be 0, which is not known.
func WrongBy(own uint64, others []uint64) time.Duration {
	var known []reading
	for _, at := range others {
		if at != 0 {
			known = append(known, reading{time: at})
		}
	}
	const self = "self"
	for _, w := range compareClocks(reading{master: self, time: own}, known).Wrong {
		if w.Master == self {
			return w.By
		}
	}
	return 0
}

// Disagree reports whether enough clocks are known, and no majority of them agrees.
func (c *Clocks) Disagree() bool { return c.Compared >= fewestClocks && !c.Majority }

// TimeOff returns how far the time that records get is ahead of the leader's clock, and how far behind it. At least one
// is 0. Both are 0 where the leader's clock is among the wrong ones: the time is right then.
func (c *Clocks) TimeOff() (ahead, behind time.Duration) {
	if c.Majority && !c.Agrees {
		return 0, 0
	}
	return max(0, c.Table), max(0, -c.Table)
}

// WrongClock is a master's clock that is not within maxStep of the majority.
type WrongClock struct {
	Master string
	By     time.Duration // ahead of the nearest clock of the majority; negative if it is behind
}

// compareClocks judges the clocks of the masters. A clock is right if it is within maxStep of more than half of all
// clocks that are known, itself included. own is that of the leader.
func compareClocks(own reading, others []reading) Clocks {
	all := append([]reading{own}, others...)
	c := Clocks{Compared: len(all)}
	if c.Compared < fewestClocks {
		return c
	}
	right := func(r reading) bool {
		near := 0
		for _, o := range all {
			if apart(r.time, o.time) <= maxStep {
				near++
			}
		}
		return 2*near > len(all)
	}
	var rights []reading
	for _, r := range all {
		if right(r) {
			rights = append(rights, r)
		}
	}
	c.Majority, c.Agrees = len(rights) > 0, right(own)
	if !c.Majority {
		return c
	}
	for _, r := range all {
		if right(r) {
			if r.voter && !c.Agrees {
				c.better = append(c.better, r.master)
			}
			continue
		}
		nearest := slices.MinFunc(rights, func(a, b reading) int {
			return cmp.Compare(apart(a.time, r.time), apart(b.time, r.time))
		})
		c.Wrong = append(c.Wrong, WrongClock{r.master, ahead(r.time, nearest.time)})
	}
	slices.Sort(c.better)
	slices.SortFunc(c.Wrong, func(a, b WrongClock) int { return cmp.Compare(a.Master, b.Master) })
	return c
}

// ahead returns how far a time is ahead of another one, negative if it is behind.
func ahead(a, b uint64) time.Duration {
	if a < b {
		return -apart(a, b)
	}
	return apart(a, b)
}

// readClock records what another master's clock showed at a moment of this master's clock.
func (s *lastSeen) readClock(time uint64, at time.Time) { s.clock, s.clockAt = time, at }

// readings returns what the clocks of the other masters show now, as far as they have answered recently.
func (m *memory) readings(members []wire.Master, self string, now time.Time) (list []reading) {
	for i := range members {
		seen := m.nodes[members[i].ID]
		if members[i].ID == self || seen == nil || seen.clock == 0 || now.Sub(seen.clockAt) > clockFresh {
			continue
		}
		list = append(list, reading{
			members[i].ID, members[i].Voter, seen.clock + uint64(max(0, now.Sub(seen.clockAt).Milliseconds())),
		})
	}
	return list
}

// compare compares this leader's clock with those that other masters have answered with. Where the others agree with
// it, the table's time follows it from then on.
func (l *Leader) compare(others []reading, now time.Time) Clocks {
	wall, ok := wallMillis(now)
	c := compareClocks(reading{l.cfg.Member.ID, true, wall}, others)
	if c.Agrees && ok {
		l.clock.follow(now)
	}
	return c
}

// askMember asks another master for its member, and returns the moment of this master's clock at which that was true.
func (l *Leader) askMember(ctx context.Context, url string) (wire.Member, time.Time, error) {
	asked := l.cfg.Clock()
	m, err := l.cfg.Masters.Member(ctx, url)
	return m, asked.Add(l.cfg.Clock().Sub(asked) / 2), err
}

// askClocks asks all other masters for their clocks now and compares this one with them.
func (l *Leader) askClocks(ctx context.Context) Clocks {
	var view masterfsm.View
	l.cfg.Ledger.Read(func(s *masterfsm.State) { view = s.View() })
	own, members := l.cfg.Membership.Member(), l.cfg.Membership.Members()
	m := newMemory(l.cfg.Clock())
	var mu sync.Mutex // guards m
	var asking sync.WaitGroup
	ctx, cancel := context.WithTimeout(ctx, clockWait)
	defer cancel()
	for i := range members {
		id, url := members[i].ID, view.Master(members[i].ID).URL
		if id == l.cfg.Member.ID || url == "" {
			continue
		}
		asking.Go(func() {
			if there, at, err := l.askMember(ctx, url); err == nil && there.ID == id && there.Group == own.Group {
				mu.Lock()
				defer mu.Unlock()
				m.node(id).readClock(there.Time, at)
			}
		})
	}
	asking.Wait()
	now := l.cfg.Clock()
	return l.compare(m.readings(members, l.cfg.Member.ID, now), now)
}

// checkClock compares the clocks before a term begins, if this master's is too far from the table's time to be used. If
// the leadership was handed over, it waits for it to end. The term begins all the same if no other master takes the
// leadership, or if it comes back: appends do not stop because of clocks.
func (l *Leader) checkClock(ctx context.Context) {
	if l.clock.deviation() == 0 {
		return
	}
	handed, err := l.handOver(ctx)
	if err != nil {
		l.log.Warn("the leadership was not handed over", "error", err)
	}
	if !handed {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(handOverWait):
	}
}

// lastHandOver is the last time that this master handed the leadership over because of its clock, whatever the term.
type lastHandOver struct {
	mu sync.Mutex // guards the fields below
	to string
	at time.Time
}

// rests reports whether the last time is so recent that a leadership which came back is kept. The master that should
// have taken it may be unable to.
func (h *lastHandOver) rests(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.at.IsZero() && now.Sub(h.at) < handOverRest
}

// next chooses one of the masters, not the one of the last time if there is another.
func (h *lastHandOver) next(better []string, now time.Time) (to string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(better, func(id string) bool { return id > h.to })
	h.to, h.at = better[max(0, i)], now
	return h.to
}

// handOver asks for the clocks again and hands the leadership to a master whose clock is right, if this one's is wrong.
func (l *Leader) handOver(ctx context.Context) (handed bool, err error) {
	if l.handed.rests(l.cfg.Clock()) {
		return false, nil
	}
	c := l.askClocks(ctx)
	if len(c.better) == 0 {
		return false, nil
	}
	to := l.handed.next(c.better, l.cfg.Clock())
	for _, w := range c.Wrong {
		if w.Master == l.cfg.Member.ID {
			l.log.Error("the clock of this master is wrong: set it; the leadership is handed over", "ahead", w.By,
				"to", to)
		}
	}
	if err := l.TransferLeadership(ctx, to); err != nil {
		return false, fmt.Errorf("hand the leadership to master %s, because the clock of this one is wrong: %w",
			to, err)
	}
	return true, nil
}

// clockWork hands the leadership over if this leader's clock is wrong, and commits the time at which an admin token
// expires: in an idle group no other command brings it.
func (w *planner) clockWork() {
	if len(w.memory.clocks.better) > 0 {
		w.want(action{kind: actHandOver})
	}
	if next := w.view.AdminExpiry; next != 0 && w.memory.time >= next {
		w.want(action{kind: actExpire})
	}
}

// SetTime moves the table's time forward, unix milliseconds, and returns the time that it had. It refuses to if the
// clocks of the masters agree with this leader's, because the time follows them then. force allows more than a day.
// The error wraps
// wire.ErrBadRequest or wire.ErrUnavailable, or is one of [Leader.Propose].
func (l *Leader) SetTime(ctx context.Context, to uint64, force bool) (was uint64, err error) {
	status := l.Status()
	if !status.Leads {
		return 0, wire.ErrNotLeader
	}
	var level, now uint64
	l.cfg.Ledger.Read(func(s *masterfsm.State) { level, now = s.Level(), s.Now() })
	switch {
	case level < masterfsm.LevelElapsed:
		return 0, fmt.Errorf("%w: the time can be set from protocol level %d on, and the group is at level %d",
			wire.ErrUnavailable, masterfsm.LevelElapsed, level)
	case status.Clocks.Agrees:
		return 0, fmt.Errorf("%w: the time follows the clocks of the masters, which agree: "+
			"set the clocks of the machines", wire.ErrBadRequest)
	case to > masterfsm.MaxTime:
		return 0, fmt.Errorf("%w: the time is after the year 9999", wire.ErrBadRequest)
	case to <= now:
		return 0, fmt.Errorf("%w: the time %s is not later than the group's time, %s, and that never runs backwards",
			wire.ErrBadRequest, utc(to), utc(now))
	}
	was, err = ProposeFor[uint64](ctx, l, &masterfsm.SetTime{Time: to, Force: force})
	l.observe()
	return was, err
}

// utc formats unix milliseconds, at most [masterfsm.MaxTime].
func utc(millis uint64) string {
	return time.UnixMilli(int64(millis)).UTC().Format("2006-01-02T15:04:05.000Z")
}
