package leader

import (
	"context"
	"sync"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
)

// maxStep bounds how far the wall clock of a leader may move the table's time at once, unless the clocks of the other
// masters agree with it.
const maxStep = 10 * time.Second

// observePause is the time between two looks at the table's time. maxLag is how long the commands that are then new may
// have been under way.
const (
	observePause = time.Second
	maxLag       = 5 * time.Second
)

// tableClock estimates the time that the table would have now if each command brought the right one: the newest time of
// the table, plus what has passed since then by the monotonic clock of this master. The wall clock is used only where
// it is within maxStep of that. So a wall clock that jumps does not take the table's time with it. Its methods may be
// called by many goroutines.
type tableClock struct {
	clock func() time.Time

	mu   sync.Mutex // guards the fields below
	seen uint64     // the table's time at the last observation
	time uint64     // unix milliseconds, at the moment at; 0 before the group is founded
	at   time.Time

	age   uint64 // of the table, when it was first observed
	ageAt time.Time

	// free is set below protocol level 3: there the wall clock is used as it is, because not all masters report their
	// clocks and nobody can set the time.
	free bool
}

// observe takes over the table's time after a change. The time of a command lies in the past when the command is
// observed, by the time that its commit and observePause took. So the estimate may be ahead of it by maxLag. A time
// that lies further back than maxStep is ignored: a master that starts, or that lags, applies commands long after their
// time.
func (c *tableClock) observe(level, table, age uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free = level < masterfsm.LevelElapsed
	now := c.clock()
	if age != c.age || c.ageAt.IsZero() {
		c.age, c.ageAt = age, now
	}
	if table == c.seen || table > masterfsm.MaxTime {
		return
	}
	c.seen = table
	switch estimate := c.estimate(now); {
	case c.time == 0 || table > estimate:
		c.time, c.at = table, now
	case apart(table, estimate) <= maxStep:
		c.time, c.at = min(estimate, table+uint64(maxLag.Milliseconds())), now
	}
}

// follow sets the clock to the wall clock as it was at now, with which the clocks of the other masters agree.
func (c *tableClock) follow(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wall, ok := wallMillis(now); ok {
		c.time, c.at = wall, now
	}
}

// estimate returns the table's time now. The caller holds mu.
func (c *tableClock) estimate(now time.Time) uint64 {
	return c.time + uint64(max(0, now.Sub(c.at).Milliseconds()))
}

// now returns the time for a command, unix milliseconds. The state machine makes it monotonic.
func (c *tableClock) now() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock()
	wall, ok := wallMillis(now)
	if c.time == 0 { // the first command of the group
		return wall
	}
	//mutant:own-clock
	if estimate := c.estimate(now); !ok || !c.free && apart(wall, estimate) > maxStep {
		return estimate
	}
	return wall
}

// ageNow returns the table's age: the committed one, and what has passed by the monotonic clock of this master since it
// observed that.
func (c *tableClock) ageNow() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.age + uint64(max(0, c.clock().Sub(c.ageAt).Milliseconds()))
}

// deviation returns how far the table's time is ahead of the wall clock, negative if it is behind. It is 0 if the wall
// clock is close enough to be used.
func (c *tableClock) deviation() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock()
	wall, ok := wallMillis(now)
	if by := ahead(c.estimate(now), wall); !ok || !c.free && by.Abs() > maxStep {
		return by
	}
	return 0
}

// wallMillis returns the wall clock in unix milliseconds. It is not ok, and 0, if the clock is absurd: before 1970 or
// after the year 9999.
func wallMillis(now time.Time) (ms uint64, ok bool) {
	if at := now.UnixMilli(); at > 0 && uint64(at) <= masterfsm.MaxTime {
		return uint64(at), true
	}
	return 0, false
}

// apart returns how far two times in unix milliseconds are apart, at most about 292 years.
func apart(a, b uint64) time.Duration {
	const most = uint64(1<<63-1) / uint64(time.Millisecond)
	return time.Duration(min(max(a, b)-min(a, b), most)) * time.Millisecond
}

// Observe looks at the table's time again and again, until ctx ends, so that this master can estimate it when it
// becomes the leader.
func (l *Leader) Observe(ctx context.Context) {
	tick := time.NewTicker(observePause)
	defer tick.Stop()
	for {
		l.observe()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (l *Leader) observe() {
	var level, table, age uint64
	l.cfg.Ledger.Read(func(s *masterfsm.State) { level, table, age = s.Level(), s.Now(), s.Age() })
	l.clock.observe(level, table, age)
}
