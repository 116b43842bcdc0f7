package masterfsm

import (
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// TestTLSSteps takes the steps of the move to TLS, with a way back and wrong ones. The URLs of all nodes follow the
// step, and a storage node is not judged again for that.
func TestTLSSteps(t *testing.T) {
	b := newTable(t, smallSettings())
	b.refused(&SetTLS{To: wire.TLSAccept, Time: startTime}, ErrBadCommand) // below its level
	b.raise()
	worker := func(role Role, id, scheme string, level uint64) *Register {
		return &Register{Role: role, ID: id, URL: scheme + "://" + id + ":1", MasterToken: "t", Boot: "b", Lists: true,
			Level: level, Time: startTime}
	}
	b.ok(&BeginTerm{Term: 2, Member: "m", URL: "http://m:1", Time: startTime, Settings: smallSettings()})
	b.ok(&AdmitMaster{ID: "m", URL: "http://m:1", Raft: "m:1", Key: memberKey(1), Start: 1, Founder: true,
		Time: startTime})
	b.ok(worker(RoleStorage, "s", "http", ProtocolLevel))
	b.ok(worker(RoleMiner, "old", "http", LevelTLSSteps-1))
	b.refused(&SetTLS{To: wire.TLSAccept, Time: startTime}, ErrBadCommand) // a worker does not know the steps
	b.ok(worker(RoleMiner, "old", "http", ProtocolLevel))
	urls := func() (all []string) {
		v := b.View()
		all = append(all, v.Term.URL, v.Master("m").URL)
		for i := range v.Storages {
			all = append(all, v.Storages[i].URL)
		}
		for i := range v.Miners {
			all = append(all, v.Miners[i].URL)
		}
		return all
	}
	entry := func() Storage { v := b.View(); return v.Storage("s") }
	before := entry()
	steps := []wire.TLSStep{wire.TLSByFlags, wire.TLSAccept, wire.TLSPrefer, wire.TLSRequire}
	all := []CheckedNode{{ID: "m"}, {ID: "s", Boot: "b"}, {ID: "old", Boot: "b"}}
	changes := uint64(0)
	for _, to := range []wire.TLSStep{
		wire.TLSAccept, wire.TLSPrefer, wire.TLSAccept, wire.TLSPrefer, wire.TLSRequire,
	} {
		at := b.TLS().Step
		for _, other := range append(steps, "more") {
			if other != at {
				b.refused(&SetTLS{From: other, To: to, Time: startTime}, ErrStale)
			}
			x := &table{t: t, State: restored(t, b.State)}
			if allowed := tlsSteps[tlsChange{at, other}]; allowed {
				x.ok(&SetTLS{From: at, To: other, Time: startTime, Checked: all})
			} else {
				x.refused(&SetTLS{From: at, To: other, Time: startTime}, ErrBadCommand)
			}
		}
		held := b.Snapshot()
		if to == wire.TLSRequire {
			for i := range all { // one has joined since the check, or is another start
				list := slices.Delete(slices.Clone(all), i, i+1)
				b.refused(&SetTLS{From: at, To: to, Time: startTime, Checked: list}, ErrStale)
				list = append(list, CheckedNode{ID: all[i].ID, Boot: "before"})
				b.refused(&SetTLS{From: at, To: to, Time: startTime, Checked: list}, ErrStale)
			}
		}
		b.ok(&SetTLS{From: at, To: to, Time: startTime, Checked: all})
		changes++
		if want := (wire.TLSState{Step: to, Change: changes}); b.TLS() != want || restored(t, b.State).TLS() != want {
			t.Errorf("the step is %+v, want %+v", b.TLS(), want)
		}
		scheme := "http://"
		if to == wire.TLSRequire {
			scheme = "https://"
			if held.state.storages[0].URL != "http://s:1" || held.state.masters[0].URL != "http://m:1" {
				t.Error("a snapshot from before has changed")
			}
		}
		for _, url := range urls() {
			if !strings.HasPrefix(url, scheme) {
				t.Errorf("%s: the table has the URL %s", to, url)
			}
		}
		for _, given := range []string{"http", "https"} { // whatever a node says of itself
			b.ok(worker(RoleStorage, "s", given, ProtocolLevel))
			b.ok(&AdmitMaster{ID: "m", URL: given + "://m:1", Raft: "m:1", Key: memberKey(1), Start: 1, Founder: true,
				Time: startTime})
			b.ok(&BeginTerm{Term: 2, Member: "m", URL: given + "://m:1", Time: startTime, Settings: smallSettings()})
		}
		after := entry()
		if after.URL != scheme+"s:1" || after.Version != before.Version || after.State != before.State {
			t.Errorf("%s: the storage node is %+v", to, after)
		}
		old := worker(RoleMiner, "older", "http", LevelTLSSteps-1)
		if to.Mixed() {
			b.refused(old, ErrBadCommand)
		}
	}
	for _, to := range steps {
		b.refused(&SetTLS{From: wire.TLSRequire, To: to, Time: startTime}, ErrBadCommand)
	}
	if records := b.audited(); !slices.ContainsFunc(records, func(r auditRecord) bool {
		return r.Act == trail.TLSStep && r.Before[0].Value == "prefer" && r.After[0].Value == "require"
	}) {
		t.Errorf("the audit trail has no record of the step: %+v", records)
	}
	// A rehearsal has none, and forgets no older change.
	r := b.State.Recover(Group{ID: "g", Epoch: 2})
	r.Isolate()
	if got := b.TLS(); got.Step != wire.TLSByFlags || got.Change != changes+1 {
		t.Errorf("a rehearsal is at %+v", got)
	}
}

// TestRecoveredStep checks that a recovery takes a stricter step than the table has, with the scheme of all URLs, and
// no other.
func TestRecoveredStep(t *testing.T) {
	b := newTable(t, smallSettings())
	b.raise()
	b.ok(&BeginTerm{Term: 2, Member: "m", URL: "http://m:1", Time: startTime, Settings: smallSettings()})
	b.ok(&AdmitMaster{ID: "m", URL: "http://m:1", Raft: "m:2", Key: memberKey(1), Start: 1, Founder: true,
		Time: startTime})
	b.ok(&SetTLS{To: wire.TLSAccept, Time: startTime})
	for _, row := range []struct {
		step, want wire.TLSStep
		change     uint64
		url        string
	}{
		{wire.TLSByFlags, wire.TLSAccept, 1, "http://m:1"},
		{wire.TLSAccept, wire.TLSAccept, 1, "http://m:1"},
		{wire.TLSPrefer, wire.TLSPrefer, 2, "http://m:1"},
		{wire.TLSRequire, wire.TLSRequire, 2, "https://m:1"},
	} {
		s := restored(t, b.State)
		s.Recover(Group{ID: "g", Epoch: 2}).AtLeastTLS(row.step)
		v := s.View()
		if got := s.TLS(); got.Step != row.want || got.Change != row.change || v.Master("m").URL != row.url {
			t.Errorf("%s: %+v, and the URL is %s", row.step.Name(), got, v.Master("m").URL)
		}
	}
	old := newTable(t, smallSettings())
	old.Recover(Group{ID: "g", Epoch: 2}).AtLeastTLS(wire.TLSRequire)
	if got := old.TLS().Step; got != wire.TLSByFlags {
		t.Errorf("below its level: %s", got)
	}
}

// TestTLSStepBytes holds the body of the command: every version must read it.
func TestTLSStepBytes(t *testing.T) {
	data := Encode(&SetTLS{From: wire.TLSPrefer, To: wire.TLSRequire, Time: 7})
	if want := "\x31" + `{"from":"prefer","to":"require","time":7}`; string(data[4:]) != want {
		t.Errorf("%q, want %q", data[4:], want)
	}
	data = Encode(&SetTLS{
		From: wire.TLSPrefer, To: wire.TLSRequire, Time: 7, Checked: []CheckedNode{{ID: "m"}, {ID: "s", Boot: "b"}},
	})
	want := "\x31" + `{"from":"prefer","to":"require","time":7,"checked":[{"id":"m"},{"id":"s","boot":"b"}]}`
	if string(data[4:]) != want {
		t.Errorf("%q, want %q", data[4:], want)
	}
}
