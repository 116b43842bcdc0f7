package masterfsm

import (
	"fmt"

	"github.com/chainstore/chainstore/wire"
)

// MaxTime is the last millisecond of the year 9999, which is the last year of RFC 3339. A later time is a fault.
const MaxTime = 253_402_300_799_999

// SetTime moves the table's time forward to Time. An operator requests it where the time is behind and the masters may
// not move it by themselves. It is refused with [ErrBadCommand] where Time is not later than the table's time, or later
// than [MaxTime]. The result is the time that it has replaced. Known from protocol level 3 on.
type SetTime struct {
	Time uint64 `json:"time"` // unix milliseconds
}

func (c *SetTime) apply(s *State) (any, error) {
	was := s.now
	switch {
	case c.Time > MaxTime:
		return nil, fmt.Errorf("%w: the time %d is after the year 9999", ErrBadCommand, c.Time)
	case c.Time <= was:
		return nil, fmt.Errorf("%w: the time %d is not later than the group's time, %d, and that never runs backwards",
			ErrBadCommand, c.Time, was)
	}
	s.tick(c.Time)
	s.recordEvent(Event{Kind: EventTime, Cause: s.cause(wire.CodeTimeSet, wire.Args{"seconds": (c.Time - was) / 1000})})
	return was, nil
}

// tick moves the table's time to that of a command.
func (s *State) tick(time uint64) { s.now = s.timeOf(time) }

// timeOf returns the table's time after a command of a time. It never runs backwards. From protocol level 3 on an
// absurd time is ignored, such as that of a clock before 1970.
func (s *State) timeOf(time uint64) uint64 {
	if time > MaxTime && s.level >= LevelElapsed {
		return s.now
	}
	return max(s.now, time)
}

// Now is the newest time that a command brought, unix milliseconds.
func (s *State) Now() uint64 { return s.now }

// Age is how many milliseconds leaders have counted by their monotonic clocks, as far as it is committed. Setting a
// system clock does not change it. The keys, the quotas and the schedules of checks depend on it.
func (s *State) Age() uint64 { return s.age }

// elapse moves the age to that of a command. An absurd one is ignored.
func (s *State) elapse(age uint64) {
	if age <= longestLeadership {
		s.age = max(s.age, age)
	}
}

// longestLeadership bounds the time that a leader may claim to have led, in milliseconds. It is 8,000 years, so that no
// sum overflows.
const longestLeadership = 1 << 48

// ageAt is the age, as far as a leader has counted it. The count of a leader of another term is ignored:
// it began at another BeginTerm.
func (s *State) ageAt(leadership Leadership) uint64 {
	if leadership.Term != s.term.Term {
		return s.age
	}
	return max(s.age, s.begun+min(leadership.Elapsed, longestLeadership))
}
