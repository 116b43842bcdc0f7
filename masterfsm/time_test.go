package masterfsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"reflect"
	"testing"

	"github.com/chainstore/chainstore/wire"
)

// TestAbsurdTimes checks that a time which no clock can have does not become the time of the table. Below protocol
// level 3 it does, because the logs of such groups must replay to the same state.
func TestAbsurdTimes(t *testing.T) {
	const negative = 1<<64 - 1000 // a second before 1970, as uint64
	for _, c := range []struct {
		level, time, want uint64
	}{
		{LevelCodes, negative, negative},
		{LevelCodes, MaxTime + 1, MaxTime + 1},
		{LevelElapsed, negative, startTime},
		{LevelElapsed, MaxTime + 1, startTime},
		{LevelElapsed, MaxTime, MaxTime},
	} {
		for name, bring := range map[string]func(*table){
			"append": func(b *table) {
				p := b.submit(appendOf(t, "m2", 1, 1, c.time, call{project: 1, payloads: []string{"x"}}))
				if p[0].Time != c.want {
					t.Errorf("a record got the time %d, want %d", p[0].Time, c.want)
				}
			},
			"cut":       func(b *table) { b.fill(1); b.ok(&Cut{Block: b.Height(), Time: c.time}) },
			"log key":   func(b *table) { k := addKey(1, true); k.Time = c.time; b.ok(k) },
			"new term":  func(b *table) { b.ok(&BeginTerm{Term: 9, Settings: smallSettings(), Time: c.time}) },
			"a project": func(b *table) { b.ok(&CreateProject{Name: "absurd", Time: c.time}) },
		} {
			b := newTable(t, smallSettings())
			b.ok(&RaiseLevel{Level: c.level, Time: startTime})
			if bring(b); b.Now() != c.want {
				t.Errorf("level %d, %s at %d: the table's time is %d, want %d", c.level, name, c.time, b.Now(), c.want)
			}
			if keys := b.Log().Keys; len(keys) > 0 && keys[0].Since != c.want {
				t.Errorf("level %d: a log key since %d, want %d", c.level, keys[0].Since, c.want)
			}
		}
	}
}

func TestSetTime(t *testing.T) {
	b := newTable(t, smallSettings())
	b.ok(&RaiseLevel{Level: LevelElapsed - 1, Time: startTime})
	b.refused(&SetTime{Time: startTime + 1}, ErrBadCommand)
	b.ok(&RaiseLevel{Level: LevelAudit - 1, Time: startTime}) // above, the audit trail has the changes
	for _, c := range []SetTime{
		{Time: startTime + MaxStep + 1}, {Time: startTime + MaxJump}, // they need Force
		{Time: startTime + MaxJump + 1, Force: true}, {Time: MaxTime, Force: true}, {Time: MaxTime + 1, Force: true},
		{Time: 0}, {Time: 1}, {Time: startTime - 1, Force: true}, {Time: startTime}, {Time: 1<<64 - 1000, Force: true},
	} {
		b.refused(&c, ErrBadCommand)
	}
	for _, c := range []SetTime{{Time: startTime + MaxStep}, {Time: startTime + MaxJump, Force: true}} {
		far := newTable(t, smallSettings())
		far.raise()
		if far.ok(&c); far.Now() != c.Time {
			t.Errorf("%+v: the time is %d", c, far.Now())
		}
	}
	if was := b.ok(&SetTime{Time: startTime + 90_500}); was != uint64(startTime) || b.Now() != startTime+90_500 {
		t.Errorf("the time was %v and is %d", was, b.Now())
	}
	events := restored(t, b.State).IntegrityLog().Events
	e := events[len(events)-1]
	if e.Kind != EventTime || e.Time != startTime+90_500 || e.Cause.Code != wire.CodeTimeSet ||
		e.Cause.Args["seconds"] != uint64(90) {
		t.Errorf("the integrity log has %+v", e)
	}
	if p := b.submit(appendOf(t, "m2", 1, 1, startTime, call{project: 1, payloads: []string{"x"}})); p[0].Time !=
		startTime+90_500 {
		t.Errorf("a record got the time %d", p[0].Time)
	}
}

// TestTimeOfARecovery checks that a recovery moves the time of the group only forward, and to no absurd one.
func TestTimeOfARecovery(t *testing.T) {
	for to, want := range map[uint64]uint64{
		0: startTime, startTime + 5: startTime + 5, MaxTime: MaxTime, MaxTime + 1: startTime, 1<<64 - 1000: startTime,
	} {
		b := newTable(t, smallSettings())
		b.Recover(Group{ID: "g", Epoch: 2}).SetTime(to)
		if b.Now() != want {
			t.Errorf("set to %d: the time is %d, want %d", to, b.Now(), want)
		}
	}
}

// TestAgeOfChecks checks that the table counts the time that has passed between checks, over several terms, whatever
// the times of the commands are.
func TestAgeOfChecks(t *testing.T) {
	b := newTable(t, smallSettings())
	b.raise()
	b.node("a", 0)
	check := func(age uint64) (checked, total uint64) {
		n := b.ok(&BeginCheck{ID: "a", Version: b.storage("a").Version, Time: startTime}).(*Storage)
		b.ok(&EndCheck{ID: "a", Version: n.Version, Age: age, Time: 1 << 47})
		return b.storage("a").CheckedAge, b.Age()
	}
	term := func(number, age uint64) (begun, total uint64) {
		b.ok(&BeginTerm{Term: number, Settings: smallSettings(), Age: age, Time: startTime})
		v := b.View()
		return v.Begun, v.Age
	}
	for i, c := range []struct {
		do              func() (uint64, uint64)
		want, wantTotal uint64
	}{
		{func() (uint64, uint64) { return check(1000) }, 1000, 1000},
		{func() (uint64, uint64) { return check(900) }, 1000, 1000}, // it never runs backwards
		{func() (uint64, uint64) { return term(5, 1500) }, 1500, 1500},
		{func() (uint64, uint64) { return check(2500) }, 2500, 2500},
		{func() (uint64, uint64) { return term(6, 0) }, 2500, 2500}, // by a leader that has just started
		{func() (uint64, uint64) { return term(7, 1<<64-1) }, 2500, 2500},
		{func() (uint64, uint64) { return check(1 << 60) }, 2500, 2500},
	} {
		if got, total := c.do(); got != c.want || total != c.wantTotal {
			t.Errorf("step %d: %d of %d, want %d of %d", i, got, total, c.want, c.wantTotal)
		}
		b.State = restored(t, b.State)
	}
}

// TestOldFormsBelowElapsed checks that members which do not know ages get commands and snapshots without them.
func TestOldFormsBelowElapsed(t *testing.T) {
	for _, c := range []Command{&BeginTerm{Age: 5}, &EndCheck{Age: 5}} {
		for level := range uint64(ProtocolLevel + 1) {
			if has := bytes.Contains(EncodeFor(level, c), []byte(`"age"`)); has != (level >= LevelElapsed) {
				t.Errorf("%T at level %d has an age: %v", c, level, has)
			}
		}
	}
	b := newTable(t, smallSettings())
	b.ok(&RaiseLevel{Level: LevelCodes, Time: startTime})
	b.node("a", 0)
	n := b.ok(&BeginCheck{ID: "a", Version: b.storage("a").Version, Time: startTime}).(*Storage)
	b.ok(&EndCheck{ID: "a", Version: n.Version, Time: startTime})
	sum := sha256.Sum256(snapshotBytes(t, b.State))
	const want = "a301c3a574de87653da7787f3176234e4841bddd6af4570b44d90424eab24727"
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("a snapshot at level 2 has the digest %s, that of the version before level 3 %s", got, want)
	}
}

// TestEveryCommandsTimeIsChecked checks that the time of no command can move the table's time to an absurd one, or
// back, whether the command is accepted or not. A command whose time is not checked by tick would.
func TestEveryCommandsTimeIsChecked(t *testing.T) {
	timed := 0
	for _, c := range commands {
		if c == nil {
			continue
		}
		fresh := reflect.New(reflect.TypeOf(c).Elem())
		field := fresh.Elem().FieldByName("Time")
		if !field.IsValid() {
			continue
		}
		timed++
		b := newTable(t, smallSettings())
		b.raise()
		b.node("a", 0)
		if id := fresh.Elem().FieldByName("ID"); id.IsValid() && id.Kind() == reflect.String {
			id.SetString("a")
		}
		if version := fresh.Elem().FieldByName("Version"); version.IsValid() {
			version.SetUint(b.storage("a").Version)
		}
		for _, time := range []uint64{0, 1, startTime - 1, MaxTime + 1, 1 << 63, 1<<64 - 1000, 1<<64 - 1} {
			field.SetUint(time)
			_, err := fresh.Interface().(Command).apply(b.State)
			if b.Now() != startTime {
				t.Fatalf("%T at %d: the table's time is %d, %v", c, time, b.Now(), err)
			}
		}
	}
	if timed < 25 {
		t.Errorf("%d commands have a time", timed)
	}
}
