package leader

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
)

const year = 365 * 24 * time.Hour

// TestTimeOfCommands checks by rows which time a leader gives to commands: how far that is from the true time, where
// the wall clock is wrong by an amount.
func TestTimeOfCommands(t *testing.T) {
	for name, c := range map[string]struct {
		idle     time.Duration // before the clock is set
		before   time.Duration // how wrong the clock was then
		jump     time.Duration // how wrong it is afterwards
		follow   bool          // the other masters agree with it
		want     time.Duration // how wrong the command's time is
		deviates bool
	}{
		"right":                        {},
		"right, after a pause":         {idle: year},
		"a little ahead":               {jump: 9 * time.Second, want: 9 * time.Second},
		"a little behind":              {jump: -9 * time.Second, want: -9 * time.Second},
		"a year ahead":                 {jump: year, deviates: true},
		"a year behind":                {jump: -year, deviates: true},
		"a year ahead, after a pause":  {idle: year / 2, jump: year, deviates: true},
		"before 1970":                  {jump: -90 * year, deviates: true},
		"the others agree":             {jump: year, follow: true, want: year},
		"the others agree with 1910":   {jump: -90 * year, follow: true, deviates: true},
		"back to the right time":       {before: year, jump: 0, want: year, deviates: true},
		"back, and the others agree":   {before: year, jump: 0, follow: true},
		"further ahead than it was":    {before: time.Hour, jump: 2 * time.Hour, want: time.Hour, deviates: true},
		"exactly as far as is allowed": {jump: maxStep, want: maxStep},
		"a second more than that":      {jump: maxStep + time.Second, deviates: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var machine masterstest.Clock
				machine.SetWrong(c.before)
				clock := tableClock{clock: machine.Now}
				clock.observe(masterfsm.LevelElapsed, clock.now(), 0) // the group's first command
				time.Sleep(c.idle)
				machine.SetWrong(c.jump)
				if c.follow {
					clock.follow(machine.Now())
				}
				for _, pause := range []time.Duration{0, time.Hour} {
					time.Sleep(pause)
					at := clock.now()
					got := time.UnixMilli(int64(at)).Sub(time.Now().Round(0)).Round(time.Second)
					if got != c.want || (clock.deviation() != 0) != c.deviates {
						t.Errorf("the time of a command is wrong by %v and the clock deviates by %v; want %v and %v",
							got, clock.deviation(), c.want, c.deviates)
					}
					clock.observe(masterfsm.LevelElapsed, at, 0)
				}
			})
		})
	}
}

// TestTimeBelowLevelElapsed checks that the wall clock is used as it is while not all masters know how to compare it,
// unless it is absurd.
func TestTimeBelowLevelElapsed(t *testing.T) {
	var machine masterstest.Clock
	clock := tableClock{clock: machine.Now}
	for wrong, want := range map[time.Duration]time.Duration{year: year, -year: -year, -90 * year: 0} {
		machine.SetWrong(0)
		clock.observe(masterfsm.LevelElapsed-1, clock.now(), 0)
		machine.SetWrong(wrong)
		got := time.UnixMilli(int64(clock.now())).Sub(time.Now().Round(0)).Round(time.Minute)
		if got != want || (clock.deviation() != 0) != (want == 0) {
			t.Errorf("the clock is wrong by %v, the time of a command by %v, want %v; it deviates by %v", wrong, got,
				want, clock.deviation())
		}
	}
}

// TestTableClockObserves checks which times of the table a master takes over.
func TestTableClockObserves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var machine masterstest.Clock
		machine.SetWrong(5 * year) // so that only the estimate counts
		clock := tableClock{clock: machine.Now}
		const start = 1_000_000_000_000
		for _, c := range []struct {
			what        string
			pause       time.Duration
			table, want uint64
		}{
			{"at the start", 0, start, start},
			{"unchanged", time.Minute, start, start + 60_000},
			{"a command", time.Minute, start + 119_000, start + 120_000},
			{"a command of long ago, by a master that lags", time.Minute, start + 120_000, start + 180_000},
			{"a command of a leader whose clock is slower", time.Minute, start + 233_000, start + 238_000},
			{"an operator sets the time", 0, start + 1_000_000, start + 1_000_000},
			{"the end of time", time.Second, masterfsm.MaxTime + 1, start + 1_001_000},
			{"a negative time", time.Second, 1<<64 - 5, start + 1_002_000},
		} {
			time.Sleep(c.pause)
			clock.observe(masterfsm.LevelElapsed, c.table, 0)
			if got := clock.now(); got != c.want {
				t.Errorf("%s: the time of a command is %d, want %d", c.what, got, c.want)
			}
		}
	})
}

// TestAgeOfATerm checks that a new leader counts the time since the last commit of the table's age, and not the time
// before it observed that.
func TestAgeOfATerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var machine masterstest.Clock
		clock := tableClock{clock: machine.Now}
		for _, c := range []struct {
			what      string
			pause     time.Duration
			age, want uint64
		}{
			{"a master that has just started", 0, 7000, 7000},
			{"nothing new", time.Second, 7000, 8000},
			{"the leader has counted more", time.Second, 7500, 7500},
			{"the leader has counted less", time.Minute, 7400, 7400},
		} {
			time.Sleep(c.pause)
			machine.SetWrong(c.pause * 1e6)
			clock.observe(masterfsm.LevelElapsed, 0, c.age)
			if got := clock.ageNow(); got != c.want {
				t.Errorf("%s: %d, want %d", c.what, got, c.want)
			}
		}
	})
}

// TestFirstTimeOfAGroup checks that a wall clock before 1970 does not become a time at the end of all times.
func TestFirstTimeOfAGroup(t *testing.T) {
	var machine masterstest.Clock
	machine.SetWrong(-90 * year)
	clock := tableClock{clock: machine.Now}
	if got := clock.now(); got != 0 {
		t.Errorf("the first time of a group is %d", got)
	}
}
