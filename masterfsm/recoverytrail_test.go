package masterfsm

import (
	"slices"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// recordedRecovery finishes a recovery and returns its records in the audit trail, the last ones.
func recordedRecovery(t *testing.T, r *Recovery) []auditRecord {
	t.Helper()
	b := &table{t: t, State: r.s}
	r.By("m1", saltOf(77))
	end := r.s.NextIndex()
	if _, err := r.Finish(0, nil); err != nil {
		t.Fatal(err)
	}
	checkInvariants(t, r.s)
	checkLeaves(t, r.s)
	all := b.audited()
	salts := map[[chain.SaltSize]byte]bool{}
	for i := range all {
		if salts[all[i].chain.Salt] {
			t.Errorf("two records have one salt: %s", all[i].text())
		}
		salts[all[i].chain.Salt] = true
	}
	return slices.DeleteFunc(all, func(a auditRecord) bool { return a.index < end })
}

// valueOf returns a value of a record, "" if there is none.
func valueOf(values []trail.Value, name string) string {
	i := slices.IndexFunc(values, func(v trail.Value) bool { return v.Name == name })
	if i < 0 {
		return ""
	}
	return values[i].Value
}

// TestRecoveryIsRecorded checks that a recovery which drops records of acts says so in the audit trail, and names the
// admin tokens that stay in force. Nodes report again, and open intents end as unknown.
func TestRecoveryIsRecorded(t *testing.T) {
	b := auditTable(t)
	for b.open.number == 0 {
		b.ok(&CreateProject{Name: string(rune('a' + len(b.projects))), Time: startTime})
	}
	b.ok(noteIntent(trail.MasterPromote, "m2"))
	group := &table{t: t, State: restored(t, b.State), seq: b.seq, acts: b.acts}
	group.ok(&Cut{Block: group.open.number, Time: startTime})
	for group.Head().Height < group.open.number {
		group.mine()
	}
	// This master's log ends in entries that were never committed.
	b.ok(createAdmin("alice", wire.RoleAdmin, 3, 1000))
	b.ok(createAdmin("bob", wire.RoleAdmin, 4, 1000))
	b.ok(&RevokeAdmin{ID: 2, Time: startTime})
	b.ok(secretValues("1234abcd"))
	b.ok(secretValues("1234abcd next 9999"))
	own := len(b.audited())

	r := b.Recover(Group{ID: "g", Epoch: 7})
	for number := b.Head().Height; number < group.Head().Height; number++ {
		block, ok := group.Block(number)
		if !ok {
			t.Fatalf("block %d is not held", number)
		}
		if err := r.Adopt(block); err != nil {
			t.Fatal(err)
		}
	}
	r.ForgetLog()
	adopted := r.done.Blocks
	records := recordedRecovery(t, r)
	if len(records) != 2 {
		t.Fatalf("%d records of the recovery", len(records))
	}
	first, outcome := records[0], records[1]
	if first.Act != trail.Recovery || first.Actor != (trail.Actor{Kind: trail.ByOperator, Name: "recovery"}) ||
		first.Source.Member != "m1" {
		t.Errorf("%s by %+v from %+v", first.text(), first.Actor, first.Source)
	}
	for name, want := range map[string]string{
		"epoch": "7", "dropped-audit-records": "4", "dropped-records": "4", "log-forgotten": "true",
		"isolated": "false", "admin-tokens": "1",
	} {
		if got := valueOf(first.After, name); got != want {
			t.Errorf("%s is %q, want %q: %s", name, got, want, first.text())
		}
	}
	if adopted == 0 || own <= 4 || b.reports != nil || b.intents != nil {
		t.Errorf("%d blocks, %d records, %+v, %+v", adopted, own, b.reports, b.intents)
	}
	if outcome.Phase != trail.Ended || outcome.Outcome != trail.Unknown || outcome.Act != trail.MasterPromote {
		t.Errorf("%s", outcome.text())
	}
	if r := restored(t, b.State); r.audit.Records != b.audit.Records {
		t.Errorf("%d records, restored %d", b.audit.Records, r.audit.Records)
	}
}

// TestRecoveryFromNothingIsRecorded checks the record of a recovery from storage nodes, at level 0, and of a project
// that had the name of the audit trail. Without an audit trail there is none.
func TestRecoveryFromNothingIsRecorded(t *testing.T) {
	group := auditTable(t)
	if group.Height() == 0 {
		group.ok(&Cut{Block: 0, Time: startTime})
	}
	for group.Head().Height < group.open.number {
		group.mine()
	}
	block, _ := group.Block(0)
	for name, found := range map[string]bool{"with records": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			b := newTable(t, smallSettings())
			b.open = heldBlock{}
			b.ok(&CreateProject{Name: trail.Project, TokenHash: chain.Hash{5}, Time: startTime})
			r := b.Recover(Group{ID: "g", Epoch: 2})
			if found {
				if err := r.Adopt(block); err != nil {
					t.Fatal(err)
				}
			}
			r.Isolate()
			var texts []string
			for _, a := range recordedRecovery(t, r) {
				texts = append(texts, a.Act.String())
				if a.Act == trail.Recovery && valueOf(a.After, "isolated") != "true" {
					t.Errorf("%s", a.text())
				}
			}
			want := []string(nil)
			if found {
				want = []string{"project-rename", "recovery"}
			}
			if !slices.Equal(texts, want) {
				t.Errorf("records of %q, want %q", texts, want)
			}
		})
	}
}
