package masterfsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// eventful returns a table at a protocol level in which every cause that the state itself generates has occurred.
func eventful(t *testing.T, level uint64) *table {
	t.Helper()
	b := threeNodes(t)
	for l := range level {
		b.ok(&RaiseLevel{Level: l + 1, Time: b.now})
	}
	b.eventful()
	return b
}

// eventful generates every such cause, except those in [TestSentences].
func (b *table) eventful() {
	b.t.Helper()
	register := func(id string, height uint64, hash chain.Hash, unclean bool) {
		b.t.Helper()
		b.ok(&Register{Role: RoleStorage, ID: id, URL: "http://" + id, Height: height, Hash: hash, Unclean: unclean,
			Time: b.now})
	}
	b.check("a", EndCheck{Bad: ranges(1, 2, 4, 6), Tiles: 2})
	b.repair("a", "b", EndRepair{Failed: TextCause("the sender died"), Bad: ranges(1, 2, 4, 5)})
	b.repair("a", "b", EndRepair{Bad: ranges(1, 2, 4, 5), Changed: TextCause("one byte")})
	b.check("b", EndCheck{Bad: ranges(4, 5)})
	b.ok(&Suspect{ID: "c", Cause: TextCause("it answered wrong"), Time: b.now})
	b.check("c", EndCheck{Bad: ranges(4, 5)})
	b.ok(&ConfirmLost{Block: 4, Time: b.now})
	b.repair("a", "b", EndRepair{Unchecked: 3})
	b.repair("a", "", EndRepair{})
	b.repair("b", "a", EndRepair{})
	b.repair("c", "a", EndRepair{})
	b.check("b", EndCheck{Unchecked: 2})
	b.repair("b", "", EndRepair{})
	b.check("b", EndCheck{Strange: true})
	b.ok(&BeginRepair{ID: "b", Version: b.storage("b").Version, Ticket: "t", Keep: 2, Time: b.now})
	b.ok(&BeginCheck{ID: "c", Version: b.storage("c").Version, Time: b.now})
	register("c", 6, b.head.Hash, false)
	register("a", 6, b.head.Hash, true)
	register("d", 3, chain.Hash{3}, false)
	register("e", 7, chain.Hash{7}, false)
	register("f", 6, chain.Hash{6}, false)
	b.ok(&RemoveStorage{ID: "d", Force: true, Time: b.now})
}

// TestSnapshotOfCauses checks that snapshots of levels 0 and 1 contain the sentences of earlier versions. The digests
// are those of commit bab6c4d.
func TestSnapshotOfCauses(t *testing.T) {
	for level, want := range []string{
		"e83a49531ef2833ccfb0c82da17f57ece1d3ef20f8ee07ce4bdc0b9162383e23",
		"4b6a2c2ee2d4badf49be818f280d290e7dff070fc867f36959e381fccdaf1284",
	} {
		sum := sha256.Sum256(snapshotBytes(t, eventful(t, uint64(level)).State))
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("a snapshot at level %d has the digest %s, that of commit bab6c4d %s", level, got, want)
		}
	}
}

// TestSentences checks the sentences that do not occur in [table.eventful].
func TestSentences(t *testing.T) {
	for want, m := range map[string]wire.Message{
		"blocks from 3 on could not be checked": {Code: wire.CodeUnchecked,
			Args: wire.Args{"block": uint64(3)}},
		"behind: the masters no longer hold the blocks that it lacks": {Code: wire.CodeLeftBehind},
		"behind: height 9 is older than the table remembers": {Code: wire.CodeUnknownHeight,
			Args: wire.Args{"height": uint64(9)}},
	} {
		if got := sentence(m.Code, m.Args); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestCodesFromLevelTwo checks that the causes are codes with arguments from level 2 on: see checkCauses.
func TestCodesFromLevelTwo(t *testing.T) {
	b := eventful(t, LevelCodes)
	if version := snapshotBytes(t, b.State)[4]; version != 6 {
		t.Errorf("snapshot version %d", version)
	}
	var codes []string
	for _, e := range b.IntegrityLog().Events {
		codes = append(codes, e.Cause.Code)
		for _, f := range e.Findings {
			if !f.Detail.IsZero() {
				t.Errorf("%+v", f)
			}
		}
	}
	want := []string{
		wire.CodeTilesRewritten, wire.CodeDamaged, wire.CodeRepairFailed, wire.CodeText, wire.CodeDamaged,
		wire.CodeText, wire.CodeDamaged,
		wire.CodeBlocksLost, wire.CodeLossConfirmed, wire.CodeDamaged, wire.CodeBlocksFound, wire.CodeDamaged,
		wire.CodeDamaged,
		wire.CodeUnchecked, wire.CodeForeignChain, wire.CodeForeignChain, wire.CodeBehind, wire.CodeAhead,
		wire.CodeOtherChain,
		wire.CodeRemoved,
	}
	if !slices.Equal(codes, want) {
		t.Errorf("%q\nwant %q", codes, want)
	}
	if a, c := b.storage("a").Due.Code, b.storage("c").Due.Code; a != wire.CodeUncleanStop ||
		c != wire.CodeCheckCutOff {
		t.Errorf("checks are due for %q and %q", a, c)
	}
	damaged := Cause{Code: wire.CodeDamaged, Args: wire.Args{"blocks": uint64(3), "ranges": ranges(1, 2, 4, 6)}}
	if got := b.IntegrityLog().Events[1].Cause; !reflect.DeepEqual(got, damaged) ||
		got.Text() != "damaged: blocks 1, 4 to 5" {
		t.Errorf("%+v: %s", got, got.Text())
	}
	if failed := b.IntegrityLog().Events[2].Cause.Text(); failed != "ended early: the sender died" {
		t.Errorf("%s", failed)
	}
	back := restored(t, b.State)
	if !reflect.DeepEqual(back.IntegrityLog(), b.IntegrityLog()) || !reflect.DeepEqual(back.Storages(), b.Storages()) {
		t.Error("the causes are other ones after a snapshot")
	}
}

// TestRaiseKeepsSentences checks that sentences in the state are kept when the group reaches level 2, even on a master
// that was restored meanwhile.
func TestRaiseKeepsSentences(t *testing.T) {
	a := eventful(t, LevelIdentities)
	before := a.IntegrityLog().Events
	b := &table{t: t, State: restored(t, a.State), seq: a.seq}
	for _, x := range []*table{a, b} {
		x.ok(&RaiseLevel{Level: LevelCodes, Time: x.now})
		for i, e := range x.IntegrityLog().Events {
			if e.Cause.Code != wire.CodeText || e.Cause.Text() != before[i].Cause.Text() {
				t.Errorf("%+v, was %+v", e, before[i])
			}
		}
		x.check("a", EndCheck{Bad: ranges(1, 2)})
	}
	if !bytes.Equal(snapshotBytes(t, a.State), snapshotBytes(t, b.State)) {
		t.Error("the states differ")
	}
	if last := a.IntegrityLog().Events[len(before)].Cause; last.Code != wire.CodeDamaged {
		t.Errorf("%+v", last)
	}
}

func TestCauseForm(t *testing.T) {
	coded := Cause{Code: wire.CodeBehind, Args: wire.Args{"blocks": uint64(1<<63 + 1), "from": uint64(0)}}
	nested := Cause{Code: wire.CodeRepairFailed, Args: wire.Args{"cause": wire.Message{Code: wire.CodeSenderGone}}}
	for want, c := range map[string]Cause{
		`""`:      {},
		`"words"`: TextCause("words"),
		`{"code":"behind","args":{"blocks":9223372036854775809,"from":0}}`: coded,
		`{"code":"repair-failed","args":{"cause":{"code":"sender-gone"}}}`: nested,
	} {
		data, err := json.Marshal(c)
		var back Cause
		if err != nil || string(data) != want || json.Unmarshal(data, &back) != nil || !reflect.DeepEqual(back, c) {
			t.Errorf("%+v: %s, %v, read as %+v", c, data, err, back)
		}
	}
}

// TestEncodeFor checks that a command contains sentences while the group is below level 2, and codes from then on.
func TestEncodeFor(t *testing.T) {
	c := Cause{Code: wire.CodeSenderFailed, Args: wire.Args{"detail": "it hung"}}
	for _, command := range []Command{
		&Suspect{ID: "a", Cause: c}, &Invalidate{ID: "a", Cause: c}, &EndCheck{ID: "a", Aborted: c},
		&EndRepair{ID: "a", Failed: c}, &EndRepair{ID: "a", Changed: c},
		&EndCheck{ID: "a", Findings: []Finding{{Block: 1, What: chain.WrongFrame, Detail: c}}},
	} {
		for level, want := range []string{`:"the sender: it hung"`, `:"the sender: it hung"`,
			`:{"code":"sender-failed","args":{"detail":"it hung"}}`} {
			if got := string(EncodeFor(uint64(level), command)); !strings.Contains(got, want) {
				t.Errorf("level %d: %s", level, got)
			}
		}
	}
}

func TestCauseIsRefused(t *testing.T) {
	coded := Cause{Code: wire.CodeRequested}
	b := threeNodes(t)
	b.refused(&Suspect{ID: "a", Cause: coded, Time: b.now + 99}, ErrBadCommand)
	b.raise()
	b.refused(&Suspect{ID: "a", Time: b.now + 99}, ErrBadCommand)
	long := Cause{Code: wire.CodeWrongAnswer, Args: wire.Args{"detail": strings.Repeat("x", 9*maxText)}}
	b.refused(&Suspect{ID: "a", Cause: long, Time: b.now + 99}, ErrBadCommand)
	b.ok(&Suspect{ID: "a", Cause: coded, Time: b.now})
	b.ok(&Suspect{ID: "b", Cause: Cause{Code: "of-a-newer-leader"}, Time: b.now})
}

// TestDetailsOfFindings checks that the detail of a finding is a sentence of the checked node, or a code from level 2
// on, and that both are kept in a snapshot.
func TestDetailsOfFindings(t *testing.T) {
	coded := Finding{Block: 1, What: chain.WrongFrame, Detail: Cause{Code: wire.CodeFrameChecksum,
		Args: wire.Args{"file": "0.seg", "offset": uint64(20)}}}
	old := Finding{Block: 2, What: chain.WrongFrame, Detail: TextCause("0.seg: its checksum is wrong")}
	found := func(b *table, f ...Finding) *EndCheck {
		b.ok(&Suspect{ID: "a", Cause: TextCause("a test"), Time: b.now})
		b.ok(&BeginCheck{ID: "a", Version: b.storage("a").Version, Time: b.now})
		return &EndCheck{ID: "a", Version: b.storage("a").Version, Findings: f, Bad: ranges(1, 3), Time: b.now}
	}
	b := threeNodes(t)
	end := found(b, coded)
	b.refused(end, ErrBadCommand)
	end.Findings = []Finding{old}
	b.ok(end)

	b = threeNodes(t)
	b.raise()
	b.ok(found(b, coded, old))
	events := restored(t, b.State).IntegrityLog().Events
	if got := events[len(events)-1].Findings; !reflect.DeepEqual(got, []Finding{coded, old}) {
		t.Errorf("%+v", got)
	}
	data, err := json.Marshal([]Finding{coded, old})
	if want := `[{"block":1,"what":"frame","detail":{"code":"frame-checksum","args":{"file":"0.seg","offset":20}}},` +
		`{"block":2,"what":"frame","detail":"0.seg: its checksum is wrong"}]`; err != nil || string(data) != want {
		t.Errorf("%s, %v", data, err)
	}
}

func TestNewerSnapshotIsRefusedByName(t *testing.T) {
	data := snapshotBytes(t, eventful(t, ProtocolLevel).State)
	data[4]++
	if _, err := Restore(bytes.NewReader(data)); !errors.Is(err, ErrSnapshot) ||
		!strings.Contains(err.Error(), "a newer ChainStore is needed") {
		t.Errorf("%v", err)
	}
}

// checkCauses checks that every cause has the arguments of its code, or is a sentence below level 2.
func checkCauses(t testing.TB, s *State) {
	t.Helper()
	var causes []Cause
	for i := range s.storages {
		causes = append(causes, s.storages[i].Cause, s.storages[i].Due)
	}
	for i := range s.integrity.Events {
		causes = append(causes, s.integrity.Events[i].Cause)
		for _, f := range s.integrity.Events[i].Findings {
			causes = append(causes, f.Detail)
		}
	}
	for _, c := range causes {
		at := slices.IndexFunc(wire.Codes, func(known wire.Code) bool { return known.Name == c.Code })
		switch {
		case c.IsZero() || c.Code == wire.CodeText || at < 0 && c.Code == "of-a-newer-leader":
			continue
		case at < 0 || s.level < LevelCodes:
			t.Fatalf("the cause %+v at level %d", c, s.level)
		}
		for _, name := range wire.Codes[at].Args() {
			if c.Args[name] == nil {
				t.Fatalf("%+v has no %s", c, name)
			}
		}
		if len(c.Args) != len(wire.Codes[at].Args()) {
			t.Fatalf("%+v has other arguments than %q", c, wire.Codes[at].Args())
		}
	}
}

// TestCauseOfManyRanges checks that the cause keeps the number of blocks of its ranges. This number is part of the
// state.
func TestCauseOfManyRanges(t *testing.T) {
	for level, want := range map[uint64]struct{ ranges, blocks int }{
		0: {40, 40}, LevelIdentities: {40, 40}, LevelCodes: {wire.MaxMessageRanges, wire.MaxMessageRanges},
		LevelCounts: {wire.MaxMessageRanges, 40},
	} {
		s := New()
		s.level = level
		args := s.aboutBlocks(manyRanges(40))
		if list := args["ranges"].([]chain.Range); len(list) != want.ranges || args["blocks"] != uint64(want.blocks) {
			t.Errorf("level %d: %d ranges, %v blocks, want %+v", level, len(list), args["blocks"], want)
		}
	}
}
