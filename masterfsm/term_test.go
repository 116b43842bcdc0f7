package masterfsm

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

func TestBeginTerm(t *testing.T) {
	b := &table{t: t, State: New()}
	if b.Group() != (Group{}) || b.Settings() != DefaultSettings() {
		t.Fatalf("a new table: %+v, %+v", b.Group(), b.Settings())
	}
	settings := smallSettings()
	b.ok(&BeginTerm{Term: 3, Member: "m1", URL: "http://m1", Time: startTime, Group: "g", Settings: settings})
	if b.Group() != (Group{ID: "g", Epoch: 1}) || b.Term() != (Term{Term: 3, Leader: "m1", URL: "http://m1"}) ||
		b.Settings() != settings || b.Now() != startTime {
		t.Errorf("%+v, %+v, %+v, %d", b.Group(), b.Term(), b.Settings(), b.Now())
	}
	// The group's name is that of the first BeginTerm. Leader, address and settings are those of the newest.
	settings.MaxRecords = 9
	b.ok(&BeginTerm{Term: 4, Member: "m2", URL: "http://m2", Time: startTime + 1, Group: "other", Settings: settings})
	if b.Group() != (Group{ID: "g", Epoch: 1}) || b.Term() != (Term{Term: 4, Leader: "m2", URL: "http://m2"}) ||
		b.Settings() != settings {
		t.Errorf("%+v, %+v, %+v", b.Group(), b.Term(), b.Settings())
	}
	b.ok(&BeginTerm{Term: 4, Member: "m2", URL: "http://m2", Time: startTime + 2, Group: "g", Settings: settings})
	b.refused(&BeginTerm{Term: 3, Member: "m1", Time: startTime + 3, Group: "g", Settings: settings}, ErrStale)
}

func TestBeginTermRefusesSettings(t *testing.T) {
	b := newTable(t, smallSettings())
	for name, change := range map[string]func(*Settings){
		"max records 0":        func(s *Settings) { s.MaxRecords = 0 },
		"max records over cap": func(s *Settings) { s.MaxRecords = 1<<20 + 1 },
		"max bytes 0":          func(s *Settings) { s.MaxBytes = 0 },
		"max bytes over cap":   func(s *Settings) { s.MaxBytes = 64<<20 + 1 },
		"difficulty over cap":  func(s *Settings) { s.Difficulty = 41 },
		"no replica":           func(s *Settings) { s.Replicas = 0 },
		"no pending byte":      func(s *Settings) { s.MaxPendingBytes = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			settings := smallSettings()
			change(&settings)
			b.refused(&BeginTerm{Term: 2, Time: startTime + 5, Settings: settings}, ErrBadCommand)
		})
	}
	if err := DefaultSettings().Check(); err != nil {
		t.Error(err)
	}
}

func TestTimeNeverRunsBackwards(t *testing.T) {
	b := newTable(t, smallSettings())
	b.add(startTime+100, call{project: 1, payloads: []string{"a"}})
	p := b.add(startTime+50, call{project: 1, payloads: []string{"b"}})
	if p[0].Time != startTime+100 || b.Now() != startTime+100 {
		t.Errorf("the second record is of %d, now is %d", p[0].Time, b.Now())
	}
	b.ok(&Cut{Block: 0, Time: 7})
	if got := b.waiting.header.Time; got != startTime+100 {
		t.Errorf("the block is of %d", got)
	}
	mined := b.solved()
	mined.Time = 1
	b.ok(mined)
	b.ok(&Register{Role: RoleMiner, ID: "x", URL: "u", Time: 2})
	b.ok(&CreateProject{Name: "late", TokenHash: [32]byte{9}, Time: 3})
	b.ok(&Acknowledge{Time: 4})
	b.ok(&BeginTerm{Term: 1, Time: 5, Settings: smallSettings()})
	if b.Now() != startTime+100 {
		t.Errorf("now is %d", b.Now())
	}
	if p, _ := b.ProjectByName("late"); p.Created != startTime+100 || p.Tokens[0].Created != startTime+100 {
		t.Errorf("project of %d", p.Created)
	}
}

func TestDifficultyOfTheBlockThatWaits(t *testing.T) {
	settings := smallSettings()
	settings.Difficulty = 10
	b := newTable(t, settings)
	b.fill(9) // blocks 0 and 1 are cut, 0 waits
	begin := func(difficulty uint8) {
		settings.Difficulty = difficulty
		b.ok(&BeginTerm{Term: 2, Time: startTime, Settings: settings})
	}
	begin(12)
	if got := b.waiting.header.Difficulty; got != 10 {
		t.Errorf("raised to %d for a block that waits", got)
	}
	solved := b.solved()
	begin(6)
	if got := b.waiting.header.Difficulty; got != 6 {
		t.Errorf("still %d, lowered to 6", got)
	}
	again := restored(t, b.State)
	if again.waiting.header != b.waiting.header {
		t.Errorf("restored with %+v, want %+v", again.waiting.header, b.waiting.header)
	}
	// The difficulty is part of the hashed header, so a nonce for the old header is checked with the new one.
	header := b.waiting.header
	header.Nonce = solved.Nonce
	if !chain.Mined(header.Hash(), 6) {
		b.refused(solved, ErrNonce)
	}
	begin(8)
	if got := b.waiting.header.Difficulty; got != 6 {
		t.Errorf("raised to %d", got)
	}
	b.ok(b.solved())
	if got := b.waiting.header.Difficulty; got != 8 {
		t.Errorf("the next block has %d, the setting is 8", got)
	}
	b.mine()
	checkHeldChain(t, b.State, zeroHead)
}

func TestSettingsChangeWhatIsHeld(t *testing.T) {
	settings := smallSettings()
	b := newTable(t, settings)
	b.node("a", 0)
	b.node("b", 0)
	b.fill(12)
	b.mine()
	b.ack("a", 3)
	if b.Stored() != 0 {
		t.Fatalf("stored %d with one copy", b.Stored())
	}
	settings.Replicas = 1
	b.ok(&BeginTerm{Term: 2, Time: startTime, Settings: settings})
	if b.Stored() != 3 {
		t.Errorf("stored %d", b.Stored())
	}
	// Raised again: stored blocks stay stored.
	settings.Replicas = 3
	b.ok(&BeginTerm{Term: 3, Time: startTime, Settings: settings})
	if b.Stored() != 3 || b.heldFrom() != 0 {
		t.Errorf("stored %d, held from %d", b.Stored(), b.heldFrom())
	}
	settings.RetainBytes = 0
	b.ok(&BeginTerm{Term: 4, Time: startTime, Settings: settings})
	if b.heldFrom() != 3 {
		t.Errorf("held from %d", b.heldFrom())
	}
	b.is("a", Valid, 3)
	b.is("b", Invalid, 0)
	if n := b.storage("b"); !strings.HasPrefix(n.Cause.Text(), "behind") {
		t.Errorf("cause %v", n.Cause)
	}
}

// TestFlagsOfALeaderChangeNoSettings checks that a leader with other flags changes nothing from protocol level 3 on,
// and that an administrator's change is recorded.
func TestFlagsOfALeaderChangeNoSettings(t *testing.T) {
	settings := smallSettings()
	b := newTable(t, settings)
	b.node("a", 0)
	b.node("b", 0)
	b.ok(&RaiseLevel{Level: LevelAudit - 1, Time: startTime}) // above, the audit trail has the changes
	b.fill(12)
	b.mine()
	b.ack("a", 3)
	b.add(startTime, call{project: 1, key: "k", payloads: []string{"x"}})
	other := settings
	other.Replicas, other.MaxKeys, other.Difficulty, other.MaxRecords = 1, 0, 0, 1
	b.ok(&BeginTerm{Term: 2, Member: "m2", URL: "http://m2", Time: startTime, Settings: other})
	if b.Settings() != settings || b.Stored() != 0 || len(b.IntegrityLog().Events) != 0 {
		t.Fatalf("settings %+v, %d blocks stored, events %+v", b.Settings(), b.Stored(), b.IntegrityLog().Events)
	}
	if p := b.add(startTime, call{project: 1, key: "k", payloads: []string{"x"}}); !p[0].Replay {
		t.Errorf("the retry was appended again: %+v", p)
	}
	for name, wrong := range map[string]SettingsChange{
		"replicas":   {Replicas: new(uint8)},
		"difficulty": {Difficulty: new(uint8(200))},
		"pending":    {MaxPendingBytes: new(uint64(1 << 60))},
		"one of two": {Replicas: new(uint8(1)), MaxRecords: new(uint32)},
	} {
		t.Run(name, func(t *testing.T) { b.refused(&ChangeSettings{Change: wrong, Time: startTime}, ErrBadCommand) })
	}
	want := settings
	want.Replicas, want.KeyAge = 1, 90_000
	got := b.ok(&ChangeSettings{Time: startTime + 5,
		Change: SettingsChange{Replicas: new(uint8(1)), KeyAge: new(uint64(90_000)), MaxRecords: &settings.MaxRecords}})
	if got != want || b.Settings() != want || b.Stored() != 3 {
		t.Errorf("got %+v, settings %+v, %d blocks stored", got, b.Settings(), b.Stored())
	}
	var texts []string
	for _, e := range b.IntegrityLog().Events {
		if e.Kind != EventSetting || e.Time != startTime+5 {
			t.Errorf("event %+v", e)
		}
		texts = append(texts, e.Cause.Text())
	}
	if want := []string{
		"a person changed the setting replicas from 2 to 1", "a person changed the setting key-age from 600s to 90s",
	}; !slices.Equal(texts, want) {
		t.Errorf("events %q, want %q", texts, want)
	}
	if back := restored(t, b.State); back.Settings() != want {
		t.Errorf("restored %+v", back.Settings())
	}
}

// TestSettingsBeforeLevelThree checks that below protocol level 3 the flags of the leader count, as with older
// programs.
func TestSettingsBeforeLevelThree(t *testing.T) {
	settings := smallSettings()
	b := newTable(t, settings)
	b.ok(&RaiseLevel{Level: LevelSettings - 1, Time: startTime})
	b.refused(&ChangeSettings{Change: SettingsChange{Replicas: new(uint8(1))}, Time: startTime}, ErrBadCommand)
	settings.Replicas = 1
	b.ok(&BeginTerm{Term: 2, Member: "m2", URL: "http://m2", Time: startTime, Settings: settings})
	if b.Settings() != settings {
		t.Errorf("settings %+v", b.Settings())
	}
}

// TestExtremeSettings checks that a change to absurd settings is refused, and that a group that was founded with them
// works: no sum overflows. A key is remembered, and bodies are kept.
func TestExtremeSettings(t *testing.T) {
	const most = 1<<64 - 1
	b := newTable(t, smallSettings())
	b.raise()
	for name, change := range map[string]SettingsChange{
		"max pending bytes": {MaxPendingBytes: new(uint64(most))},
		"no pending byte":   {MaxPendingBytes: new(uint64(0))},
		"retain bytes":      {RetainBytes: new(uint64(maxSettingBytes + 1))},
		"key age":           {KeyAge: new(uint64(maxKeyAge + 1))},
		"max records":       {MaxRecords: new(uint32(1<<20 + 1))},
		"no replica":        {Replicas: new(uint8(0))},
	} {
		b.refused(&ChangeSettings{Change: change, Time: startTime}, ErrBadCommand)
		if b.Settings() != smallSettings() {
			t.Fatalf("%s: %+v", name, b.Settings())
		}
	}
	settings := smallSettings()
	settings.MaxPendingBytes, settings.RetainBytes, settings.KeyAge = most, most, most
	settings.MaxKeys = 1<<32 - 1
	b = newTable(t, settings)
	b.node("a", 0)
	b.node("b", 0)
	keyed := call{project: 1, key: "k", payloads: []string{"x"}}
	first := b.add(startTime, keyed)
	b.fill(40)
	if again := b.add(startTime, keyed); !reflect.DeepEqual(again[0].Runs, first[0].Runs) {
		t.Errorf("a retry got %+v after %+v", again, first)
	}
	b.mine()
	height := b.Height()
	b.ack("a", height)
	b.ack("b", height)
	if b.Stored() != height {
		t.Errorf("stored %d of %d", b.Stored(), height)
	}
}
