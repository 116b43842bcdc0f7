package masterfsm

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// approving returns a table that requires the approval of new workers. It has the storage node old and the miner om.
func approving(t *testing.T) *table {
	t.Helper()
	b := newTable(t, smallSettings())
	b.raise()
	b.ok(registers(RoleStorage, "old"))
	b.ok(registers(RoleMiner, "om"))
	b.approvals(true)
	return b
}

// approvals changes the setting.
func (b *table) approvals(on bool) {
	b.t.Helper()
	b.ok(&ChangeSettings{Change: SettingsChange{ApproveWorkers: &on}, Time: b.Now()})
}

// registers returns the registration of a worker, with an access token of its own.
func registers(role Role, id string) *Register {
	return &Register{Role: role, ID: id, URL: "http://" + id, MasterToken: "t", AccessHash: digestHash(id), Boot: "1",
		Lists: true, Level: ProtocolLevel, Time: startTime}
}

func digestHash(text string) (h chain.Hash) {
	copy(h[:], text)
	return h
}

// waits registers a worker that must wait.
func (b *table) waits(c *Register) WaitingWorker {
	b.t.Helper()
	w, ok := b.ok(c).(*WaitingWorker)
	if !ok {
		b.t.Fatalf("%s does not wait", c.ID)
	}
	return *w
}

// TestApprovalOfWorkers checks that a new worker is part of nothing until it is approved and has registered again, and
// that the table's own workers go on.
func TestApprovalOfWorkers(t *testing.T) {
	for _, role := range []Role{RoleStorage, RoleMiner} {
		t.Run(string(role), func(t *testing.T) {
			b := approving(t)
			before := b.View()
			w := b.waits(registers(role, "new"))
			want := WaitingWorker{ID: "new", Role: role, URL: "http://new", AccessHash: digestHash("new"),
				Since: startTime, Seen: startTime}
			if w != want {
				t.Errorf("%+v, want %+v", w, want)
			}
			v := b.View()
			if !reflect.DeepEqual(v.Storages, before.Storages) || !reflect.DeepEqual(v.Miners, before.Miners) ||
				!reflect.DeepEqual(v.WaitingWorkers, []WaitingWorker{want}) {
				t.Errorf("the table has %+v", v)
			}
			b.refused(&ReportFailedSync{ID: "new", Time: startTime}, ErrUnknownNode)
			b.refused(&RemoveStorage{ID: "new", Time: startTime}, ErrUnknownNode)

			// Another token, or another role, is another worker.
			thief := registers(role, "new")
			thief.AccessHash = digestHash("thief")
			b.refused(thief, ErrBadCommand)
			thief = registers(map[Role]Role{RoleStorage: RoleMiner, RoleMiner: RoleStorage}[role], "new")
			b.refused(thief, ErrBadCommand)

			b.State = restored(t, b.State)
			approved := b.ok(&DecideWorker{ID: "new", Approve: true, Time: startTime + 5}).(*WaitingWorker)
			if !approved.Approved || approved.Seen != startTime+5 || len(b.View().Storages)+len(b.View().Miners) != 2 {
				t.Errorf("approved %+v", approved)
			}
			thief = registers(role, "new")
			thief.AccessHash = digestHash("thief")
			b.refused(thief, ErrBadCommand)
			b.State = restored(t, b.State) // as on a new leader
			if entered := b.ok(registers(role, "new")); reflect.TypeOf(entered) == reflect.TypeFor[*WaitingWorker]() {
				t.Errorf("it still waits: %+v", entered)
			}
			if v := b.View(); len(v.WaitingWorkers) != 0 || len(v.Storages)+len(v.Miners) != 3 {
				t.Errorf("the table has %+v", v)
			}
			again := registers(role, "new")
			again.Boot, again.Previous = "2", "1"
			b.ok(again) // it is known now
			if v := b.View(); len(v.WaitingWorkers) != 0 {
				t.Errorf("%+v", v.WaitingWorkers)
			}
		})
	}
}

// TestKnownWorkersStay checks that workers of the table need no approval, whatever they change, and that a worker with
// another id at the address of one waits and does not replace it.
func TestKnownWorkersStay(t *testing.T) {
	b := approving(t)
	moved := registers(RoleStorage, "old")
	moved.URL, moved.Boot, moved.Previous = "http://elsewhere", "2", "1"
	if n, ok := b.ok(moved).(*Storage); !ok || n.URL != moved.URL {
		t.Errorf("%+v", n)
	}
	for role, url := range map[Role]string{RoleStorage: "http://elsewhere", RoleMiner: "http://om"} {
		thief := registers(role, "thief-"+string(role))
		thief.URL = url
		b.waits(thief)
	}
	if b.storage("old") == nil || len(b.Miners()) != 1 || len(b.Storages()) != 1 {
		t.Errorf("%+v, %+v", b.Storages(), b.Miners())
	}
	b.ok(&RemoveMiner{ID: "om", Time: startTime})
	b.refused(registers(RoleMiner, "om"), wire.ErrRemoved)
}

// TestRefusedWorker checks that the id of a refused worker is never admitted, approved or not.
func TestRefusedWorker(t *testing.T) {
	b := approving(t)
	for _, id := range []string{"a", "b"} {
		b.waits(registers(RoleStorage, id))
		if id == "b" {
			b.ok(&DecideWorker{ID: id, Approve: true, Time: startTime})
		}
		b.ok(&DecideWorker{ID: id, Time: startTime})
		b.refused(registers(RoleStorage, id), wire.ErrRemoved)
		b.refused(&DecideWorker{ID: id, Approve: true, Time: startTime}, ErrUnknownNode)
	}
	for _, id := range []string{"old", "nobody", ""} {
		b.refused(&DecideWorker{ID: id, Time: startTime}, ErrUnknownNode)
	}
	if b.storage("old") == nil {
		t.Error("a worker of the table was removed")
	}
	b.approvals(false)
	b.refused(registers(RoleStorage, "a"), wire.ErrRemoved)
}

// TestRefusalsPushNothingOut checks that refused workers push no id out of the list of removed ones.
func TestRefusalsPushNothingOut(t *testing.T) {
	b := approving(t)
	b.ok(&RemoveStorage{ID: "old", Force: true, Time: startTime})
	for i := range maxRemoved + 1 {
		id := fmt.Sprint("f", i)
		for _, c := range []Command{registers(RoleMiner, id), &DecideWorker{ID: id, Time: startTime}} {
			if _, err := b.Apply(b.encode(c)); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.refused(registers(RoleStorage, "old"), wire.ErrRemoved)
	if n := len(b.IntegrityLog().Removed); n > maxRemoved/2 || len(b.View().WaitingWorkers) != 0 {
		t.Errorf("%d removed, waiting %+v", n, b.View().WaitingWorkers)
	}
}

// TestWaitingExpires checks that an entry counts for an hour after the last registration, and an approval too.
func TestWaitingExpires(t *testing.T) {
	b := approving(t)
	b.waits(registers(RoleStorage, "gone"))
	b.waits(registers(RoleStorage, "approved"))
	b.waits(registers(RoleStorage, "there"))
	b.ok(&DecideWorker{ID: "approved", Approve: true, Time: startTime})
	renewed := registers(RoleStorage, "there")
	renewed.Time += WaitingExpiry
	if w := b.waits(renewed); w.Since != startTime || w.Seen != renewed.Time || len(b.View().WaitingWorkers) != 3 {
		t.Errorf("%+v of %+v", w, b.View().WaitingWorkers)
	}
	later := startTime + WaitingExpiry + 1
	for _, id := range []string{"gone", "approved"} {
		b.refused(&DecideWorker{ID: id, Approve: true, Time: uint64(later)}, ErrUnknownNode)
	}
	late := registers(RoleStorage, "approved")
	late.Time = uint64(later)
	if w := b.waits(late); w.Approved || w.Since != late.Time || len(b.waitingWorkers) != 2 {
		t.Errorf("%+v of %+v", w, b.waitingWorkers)
	}
}

// TestManyWaiting checks that a full list takes no more and drops none, and that an absurd time empties nothing.
func TestManyWaiting(t *testing.T) {
	b := approving(t)
	for i := range MaxWaiting {
		b.waits(registers(RoleMiner, fmt.Sprintf("m%02d", i)))
	}
	last := registers(RoleMiner, "one more")
	b.refused(last, wire.ErrTooMany)
	last.Time = MaxTime + 1
	b.refused(last, wire.ErrTooMany)
	last.Time = startTime
	b.waits(registers(RoleMiner, "m00")) // one of them renews its entry
	if _, known := b.ok(registers(RoleStorage, "old")).(*Storage); !known {
		t.Error("a worker of the table is kept out by a flood")
	}
	b.waits(registers(RoleStorage, "s")) // a flood of one role keeps out none of the other
	b.ok(&DecideWorker{ID: "s", Time: startTime})
	b.ok(&DecideWorker{ID: "m07", Time: startTime})
	b.waits(last)
	if len(b.View().WaitingWorkers) != MaxWaiting || b.View().WaitingWorkers[0].ID != "m00" {
		t.Errorf("%+v", b.View().WaitingWorkers)
	}
}

// TestWaitingMovesSeldom checks that a waiting worker with changing URLs adds one entry a minute to the log at most.
func TestWaitingMovesSeldom(t *testing.T) {
	b := approving(t)
	b.waits(registers(RoleMiner, "m"))
	moved := registers(RoleMiner, "m")
	moved.URL = "http://elsewhere"
	moved.Time += WaitingMove - 1
	b.refused(moved, wire.ErrTooMany)
	if err := b.CheckWaiting(moved); !errors.Is(err, wire.ErrTooMany) {
		t.Errorf("the leader would propose it: %v", err)
	}
	moved.Time++
	if w := b.waits(moved); w.URL != moved.URL {
		t.Errorf("a minute later: %+v", w)
	}
	back := registers(RoleMiner, "m")
	back.Time = moved.Time
	b.refused(back, wire.ErrTooMany)
}

// TestApprovalSwitchedOff checks that workers come in without approval afterwards, and that the list is empty then.
func TestApprovalSwitchedOff(t *testing.T) {
	b := approving(t)
	b.waits(registers(RoleStorage, "new"))
	b.approvals(false)
	if len(b.View().WaitingWorkers) != 0 {
		t.Errorf("%+v", b.View().WaitingWorkers)
	}
	if _, ok := b.ok(registers(RoleStorage, "new")).(*Storage); !ok {
		t.Error("it still waits")
	}
	b.approvals(true)
	if _, ok := b.ok(registers(RoleStorage, "new")).(*Storage); !ok {
		t.Error("it waits although the table has it")
	}
}

// TestApprovalsBelowTheirLevel checks that neither the setting nor the list is there before all masters know them, and
// that a leader's flag does not reach an older master.
func TestApprovalsBelowTheirLevel(t *testing.T) {
	b := newTable(t, smallSettings())
	b.ok(&RaiseLevel{Level: LevelApprovals - 1, Time: startTime})
	on := true
	b.refused(&ChangeSettings{Change: SettingsChange{ApproveWorkers: &on}, Time: startTime}, ErrBadCommand)
	b.refused(&DecideWorker{ID: "new", Approve: true, Time: startTime}, ErrBadCommand)
	if _, ok := b.ok(registers(RoleStorage, "new")).(*Storage); !ok {
		t.Error("it waits")
	}
	settings := smallSettings()
	settings.ApproveWorkers = true
	begin := &BeginTerm{Term: 9, Member: "m", Settings: settings, Time: startTime}
	for level := range uint64(LevelApprovals) {
		if data := EncodeFor(level, begin); strings.Contains(string(data), "approve") {
			t.Errorf("level %d: %s", level, data)
		}
	}
	if !begin.Settings.ApproveWorkers {
		t.Error("the command was changed")
	}
	if data := snapshotBytes(t, b.State); strings.Contains(string(data), "approve") ||
		strings.Contains(string(data), "waiting_workers") {
		t.Error("the snapshot has approvals")
	}
	for name, list := range map[string][]WaitingWorker{
		"no id": {{}}, "twice": {{ID: "a"}, {ID: "a"}}, "not in order": {{ID: "b"}, {ID: "a"}},
	} {
		if err := New().restoreWaiting(list); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
