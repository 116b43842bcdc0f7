package masterfsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// raise raises the group's level to that of this program.
func (b *table) raise() {
	b.t.Helper()
	b.ok(&RaiseLevel{Level: ProtocolLevel, Time: startTime})
}

func TestRaiseLevel(t *testing.T) {
	b := newTable(t, smallSettings())
	if b.Level() != 0 || b.View().Level != 0 {
		t.Errorf("a new group begins at level %d", b.Level())
	}
	b.refused(&RaiseLevel{Time: startTime + 1}, ErrStale)
	b.ok(&RaiseLevel{Level: 1, Time: startTime + 1})
	if b.Level() != 1 || b.View().Level != 1 || b.Now() != startTime+1 {
		t.Errorf("level %d at %d", b.Level(), b.Now())
	}
	b.refused(&RaiseLevel{Level: 1, Time: startTime + 2}, ErrStale)
	b.refused(&RaiseLevel{Level: 0, Time: startTime + 2}, ErrStale)
	// A program that does not know the level must stop, and not skip the command.
	b.refused(&RaiseLevel{Level: ProtocolLevel + 1, Time: startTime + 2}, ErrCommand)
}

// TestSnapshotAtLevelZero checks that a snapshot before the level is raised is byte for byte that of commit b74b8ae,
// because masters of that version may receive it. The digest was computed with that commit: sha256 of
// snapshotBytes(busyTable).
func TestSnapshotAtLevelZero(t *testing.T) {
	sum := sha256.Sum256(snapshotBytes(t, busyTable(t).State))
	const want = "dee30e609ef4bca7014d6f8ef01c5ae873d57b4f472ca5c513350a22644b369b"
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("a snapshot at level 0 has the digest %s, that of commit b74b8ae %s", got, want)
	}
}

func TestSnapshotVersions(t *testing.T) {
	b := busyTable(t)
	old := snapshotBytes(t, b.State)
	b.ok(&RaiseLevel{Level: 1, Time: startTime})
	now := snapshotBytes(t, b.State)
	if old[4] != 4 || now[4] != 5 {
		t.Errorf("version %d at level 0, %d at level 1", old[4], now[4])
	}
	b.submit(appendOf(t, "m2", 7, 42, startTime+3, call{project: 2, payloads: payloads(3, "other")}))
	back := restored(t, b.State)
	if back.Level() != 1 || !reflect.DeepEqual(back.members, b.members) {
		t.Errorf("restored: level %d, members %+v, want %+v", back.Level(), back.members, b.members)
	}
	// A format version that does not match the level was not written by any of our programs.
	for _, data := range [][]byte{old, now} {
		other := bytes.Clone(data)
		other[4] ^= 4 ^ 5
		copy(other[len(other)-4:], seal(append(make([]byte, 4), other[:len(other)-4]...))[:4])
		if _, err := Restore(bytes.NewReader(other)); !errors.Is(err, ErrSnapshot) {
			t.Errorf("version %d with the content of version %d: %v", other[4], data[4], err)
		}
	}
}

// TestRaiseAfterRestore checks that commands at level 0 lead to the same state on a master that was restored meanwhile
// and on one that was not.
func TestRaiseAfterRestore(t *testing.T) {
	a := newTable(t, smallSettings())
	first := appendOf(t, "m2", 1, 1, startTime, call{project: 1, payloads: []string{"one"}})
	a.submit(first)
	b := &table{t: t, State: restored(t, a.State)}
	for _, x := range []*table{a, b} {
		x.raise()
		// The content of the submission with that name is unknown. Neither the old positions nor new ones are returned.
		x.refusedBytes(first, ErrNameReused)
		x.submit(appendOf(t, "m2", 1, 2, startTime, call{project: 1, payloads: []string{"two"}}))
	}
	if !bytes.Equal(snapshotBytes(t, a.State), snapshotBytes(t, b.State)) {
		t.Error("the states have parted")
	}
}

// TestReusedNameOfASubmission checks that reusing a name for other content is refused, whatever differs, and changes
// nothing. The same content gets the earlier response.
func TestReusedNameOfASubmission(t *testing.T) {
	base := func() []call {
		return []call{{project: 1, key: "k", payloads: []string{"a", "b"}}, {project: 2, payloads: []string{"c"}}}
	}
	changed := map[string]func([]call) []call{
		"payload":      func(c []call) []call { c[0].payloads[1] = "B"; return c },
		"project":      func(c []call) []call { c[1].project = 1; return c },
		"key":          func(c []call) []call { c[0].key = "K"; return c },
		"no key":       func(c []call) []call { c[0].key = ""; return c },
		"record more":  func(c []call) []call { c[1].payloads = append(c[1].payloads, "d"); return c },
		"record less":  func(c []call) []call { c[0].payloads = c[0].payloads[:1]; return c },
		"request more": func(c []call) []call { return append(c, c[1]) },
		"request less": func(c []call) []call { return c[:1] },
		"no request":   func(c []call) []call { return nil },
		"other order":  func(c []call) []call { slices.Reverse(c); return c },
		"records parted": func(c []call) []call {
			return []call{{project: 1, key: "k", payloads: []string{"a"}},
				c[1]}
		},
	}
	for name, change := range changed {
		t.Run(name, func(t *testing.T) {
			b := newTable(t, smallSettings())
			b.raise()
			original := appendOf(t, "m2", 3, 5, startTime, base()...)
			first := b.submit(original)
			next := b.NextIndex()
			other := appendOf(t, "m2", 3, 5, startTime, change(base())...)
			b.refusedBytes(other, ErrNameReused)
			b.refusedBytes(other, ErrStale) // how the masters of level 0 treat it
			if b.NextIndex() != next {
				t.Errorf("something was appended")
			}
			back := &table{t: t, State: restored(t, b.State)}
			back.refusedBytes(other, ErrNameReused)
			for _, x := range []*table{b, back} {
				if again := x.submit(original); !reflect.DeepEqual(again, first) {
					t.Errorf("sent again: %+v, at first %+v", again, first)
				}
			}
			// With a name of its own it is appended.
			b.submit(appendOf(t, "m2", 3, 6, startTime, change(base())...))
		})
	}
}

// TestReusedNameAtLevelZero checks that only the name counts at level 0, as with commit b74b8ae. Masters of both
// versions must reach the same state.
func TestReusedNameAtLevelZero(t *testing.T) {
	b := newTable(t, smallSettings())
	first := b.submit(appendOf(t, "m2", 1, 1, startTime, call{project: 1, payloads: []string{"one"}}))
	if got := b.submit(appendOf(t, "m2", 1, 1, startTime, call{project: 1,
		payloads: []string{"other"}})); !reflect.DeepEqual(got, first) {
		t.Errorf("%+v, want %+v", got, first)
	}
}

func TestRegisterOfAnotherStart(t *testing.T) {
	register := func(role Role, boot, previous string, lists bool) *Register {
		return &Register{Role: role, ID: "w", URL: "http://w", Boot: boot, Previous: previous, Lists: lists,
			Time: startTime}
	}
	for _, role := range []Role{RoleStorage, RoleMiner} {
		t.Run(string(role), func(t *testing.T) {
			b := newTable(t, smallSettings())
			refused := func(c *Register, boot string) {
				t.Helper()
				before := snapshotBytes(t, b.State)
				_, err := b.Apply(b.encode(c))
				var other *wire.OtherStartError
				if !errors.As(err, &other) || other.Start != boot || !strings.HasSuffix(err.Error(), "worker w") {
					t.Errorf("%+v: %v", c, err)
				}
				if !bytes.Equal(before, snapshotBytes(t, b.State)) {
					t.Error("a refusal changed the state")
				}
			}
			b.ok(register(role, "1", "", false))
			b.ok(register(role, "2", "", false)) // level 0: accepted as before
			b.raise()
			b.ok(register(role, "3", "", false)) // an older program
			b.ok(register(role, "4", "", true))  // its first start with a list, which cannot contain earlier starts
			b.ok(register(role, "4", "", true))  // renewed
			refused(register(role, "5", "", true), "4")
			refused(register(role, "5", "3", true), "4")
			refused(register(role, "5", "", false), "4")
			refused(register(role, "4", "", false), "4")
			b.ok(register(role, "5", "4", true))
			refused(register(role, "4", "", true), "5") // the process that runs on the copied folder
			b.State = restored(t, b.State)
			refused(register(role, "6", "4", true), "5")
			b.ok(register(role, "6", "5", true))
		})
	}
}

// BenchmarkApplyAppend applies submissions of 1,000 records of 100 bytes at both protocol levels. It measures the cost
// of comparing submissions by content.
func BenchmarkApplyAppend(b *testing.B) {
	for level := range uint64(ProtocolLevel + 1) {
		b.Run(fmt.Sprint("level=", level), func(b *testing.B) {
			payload := strings.Repeat("x", 100)
			settings := DefaultSettings()
			settings.MaxPendingBytes = 1 << 60
			s := newTable(b, settings)
			if level > 0 {
				s.raise()
			}
			s.t = nil // skip the invariants
			c := call{project: 1, payloads: slices.Repeat([]string{payload}, 1000)}
			data := make([][]byte, 64)
			for i := range data {
				data[i] = appendOf(b, "m2", 1, uint64(i), startTime, c)
			}
			b.ResetTimer()
			for i := range b.N {
				if i%len(data) == 0 && i > 0 {
					b.StopTimer()
					for j := range data {
						data[j] = appendOf(b, "m2", uint64(2+i), uint64(j), startTime, c)
					}
					s = newTable(b, settings)
					if level > 0 {
						s.raise()
					}
					b.StartTimer()
				}
				if _, err := s.Apply(data[i%len(data)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// released is the newest command that version 0.1.0 knows: see docs/releases.md.
const released = 24

// TestFirstLevels checks that every command which came after the first release names the level from which on it is
// known.
func TestFirstLevels(t *testing.T) {
	for k, c := range commands {
		if first := FirstLevel(c); c != nil && (first > 2) != (k > released) {
			t.Errorf("command %d, %T, is known from level %d on", k, c, first)
		}
	}
}

// TestOlderWorkerOfAGroupOfProofs checks that a worker that announces an older level cannot register once the group is
// at the level at which all nodes prove their secrets, and that the refusal says what to do.
func TestOlderWorkerOfAGroupOfProofs(t *testing.T) {
	for level := uint64(LevelProofs - 1); level <= ProtocolLevel; level++ {
		b := &table{t: t, State: New()}
		apply := func(c Command) error {
			_, err := only(b.Apply(b.encode(c)))
			return err
		}
		if err := apply(&RaiseLevel{Level: level, Time: startTime}); err != nil {
			t.Fatal(err)
		}
		for _, role := range []Role{RoleStorage, RoleMiner} {
			r := &Register{Role: role, ID: "w", URL: "http://w", Level: LevelProofs - 1, Time: startTime}
			err := apply(r)
			if level < LevelProofs && err != nil || level >= LevelProofs && (!errors.Is(err, ErrBadCommand) ||
				!strings.Contains(err.Error(), "start the worker with the version")) {
				t.Errorf("level %d: %v", level, err)
			}
			r.Level = LevelProofs
			if err := apply(r); err != nil {
				t.Errorf("level %d: %v", level, err)
			}
		}
	}
}

// checkBaseline checks that records of a baseline have all of the table, once, and nothing else.
func checkBaseline(t testing.TB, s *State, records []trail.Record) {
	t.Helper()
	got := map[string][]trail.Value{}
	for _, r := range records {
		if len(r.Before) > 0 || r.Phase != trail.Done || slices.ContainsFunc(r.After, func(v trail.Value) bool {
			return v.Name == "left-out"
		}) {
			t.Errorf("the record %+v is not whole", r)
		}
		got[r.Target.Key()] = append(got[r.Target.Key()], r.After...)
	}
	has := func(key string, values ...any) {
		t.Helper()
		for i := 0; i < len(values); i += 2 {
			v := trail.Value{Name: fmt.Sprint(values[i]), Value: fmt.Sprint(values[i+1])}
			rest := slices.DeleteFunc(slices.Clone(got[key]), func(o trail.Value) bool { return o == v })
			if len(rest) != len(got[key])-1 {
				t.Errorf("%s does not have %+v once: %+v", key, v, got[key])
			}
			got[key] = rest
		}
		if len(got[key]) > 0 {
			t.Errorf("%s has also %+v", key, got[key])
		}
		delete(got, key)
	}
	for _, m := range s.masters {
		has("master/"+m.ID, "url", m.URL, "raft", m.Raft, "since", m.Since)
	}
	for _, a := range s.admins {
		has(fmt.Sprint("admin/", a.ID), "name", a.Name, "role", a.Role, "expires", a.Expires, "created", a.Created)
	}
	for _, k := range s.log.Keys {
		values := []any{"origin", s.log.Origin, "signs", k.Retired == 0, "since", k.Since}
		if k.Retired == 0 {
			sum := sha256.Sum256(k.Sealed)
			values = append(values, "sealed-part-digest", hex.EncodeToString(sum[:4]))
		}
		has("log-key/"+k.ID, values...)
	}
	for _, n := range s.storages {
		has("storage/"+n.ID, "url", n.URL, "state", n.State, "height", n.Height)
	}
	for _, m := range s.miners {
		has("miner/"+m.ID, "url", m.URL, "dead", m.Dead)
	}
	for _, p := range s.projects {
		values := []any{"name", p.Name, "public", p.Public, "records-per-second", p.Quota.RecordsPerSecond,
			"bytes-per-second", p.Quota.BytesPerSecond, "record-bytes", p.Quota.RecordBytes, "closed", p.Closed > 0,
			"created", p.Created}
		for _, token := range p.Tokens {
			rights := map[Rights]string{MayRead: "read", MayAppend: "append", MayRead | MayAppend: "read,append"}
			text := strings.TrimSpace(rights[token.Rights] + " " + token.Label)
			values = append(values, fmt.Sprint("token-", token.ID), text)
		}
		has(fmt.Sprint("project/", p.ID), values...)
	}
	var signing, lost []string
	for _, k := range s.log.Keys {
		if k.Retired == 0 {
			signing = append(signing, k.ID)
		}
	}
	for _, r := range s.integrity.Confirmed {
		lost = append(lost, fmt.Sprint(r.From, "-", r.To-1))
	}
	values := []any{"group", s.group.ID, "epoch", s.group.Epoch, "masters", len(s.masters), "admins", len(s.admins),
		"log-keys", len(s.log.Keys), "storages", len(s.storages), "miners", len(s.miners),
		"projects", len(s.projects), "not-recorded", 0, "log", s.log.Origin, "key", strings.Join(signing, ","),
		"confirmed-lost", strings.Join(lost, ","), "removed-masters", strings.Join(s.removedMasters, ","),
		"removed-workers", strings.Join(s.integrity.Removed, ",")}
	for _, setting := range s.settings.List() {
		values = append(values, setting.Name, setting.Text())
	}
	has("group", values...)
	for key, values := range got {
		t.Errorf("the table does not have %s: %+v", key, values)
	}
}

// baselineOf returns the records of the baseline that the table holds.
func (b *table) baselineOf() (list []trail.Record) {
	for _, r := range b.audited() {
		if r.Act == trail.Baseline {
			list = append(list, r.Record)
		}
	}
	return list
}

// TestBaseline checks that the audit trail begins with what the table has, without a secret, and freezes the records.
func TestBaseline(t *testing.T) {
	b := newTable(t, smallSettings())
	b.ok(&RaiseLevel{Level: LevelAudit - 1, Time: startTime})
	key := addKey(1, true)
	admin := createAdmin("alice", wire.RoleOperator, 3, 1000)
	key.Time, admin.TokenHash[31] = startTime, 1
	b.ok(&AdmitMaster{ID: "m1", URL: "http://m1", Raft: "m1:1", Time: startTime})
	for _, c := range []Command{
		admin, key,
		&Register{Role: RoleStorage, ID: "s1", URL: "http://s1", MasterToken: "x", Boot: "1", Time: startTime},
		&Register{Role: RoleMiner, ID: "i1", URL: "http://i1", MasterToken: "x", Time: startTime},
		&CreateToken{Project: 1, Label: "ci", Rights: MayRead, TokenHash: chain.Hash{4}, Time: startTime},
	} {
		marked(c)
		b.ok(c)
	}
	b.raise()
	checkBaseline(t, b.State, b.baselineOf())
	all := b.audited()
	salts := map[[chain.SaltSize]byte]bool{}
	payloads := sha256.New()
	for i := range all {
		r := &all[i]
		t.Log(r.text())
		checkMarks(t, r.chain)
		salts[r.chain.Salt] = true
		payloads.Write(r.chain.Salt[:])
		payloads.Write(r.chain.Payload)
		if r.Actor != leaderOrigin.Actor || r.chain.Key != r.Target.Key() || r.chain.Type != trail.Type {
			t.Errorf("the record is %+v", r)
		}
	}
	const frozen = "e0898fe81245dc4a748275e57db5c6e6398e427fd2f37fe221be218c42d61023"
	if got := hex.EncodeToString(payloads.Sum(nil)); got != frozen || len(salts) != len(all) || len(all) != 9 {
		t.Errorf("%d records with %d salts have the digest %s, want %s", len(all), len(salts), got, frozen)
	}
	count := len(all)
	b = &table{t: t, State: restored(t, b.State), acts: b.acts}
	b.refused(&RaiseLevel{Level: ProtocolLevel, Time: startTime}, ErrStale)
	if got := len(b.audited()); got != count {
		t.Errorf("%d records after %d", got, count)
	}
}

// TestLongBaseline checks that one commit writes a bounded baseline, also if the backlog is full: a project with many
// tokens has several records, and the last record counts the projects that have none.
func TestLongBaseline(t *testing.T) {
	b := newTable(t, smallSettings())
	b.ok(&RaiseLevel{Level: LevelAudit - 1, Time: startTime})
	for i := range MaxTokens - 1 {
		c := &CreateToken{Project: 1, Label: strings.Repeat("l", MaxTokenLabel), Rights: MayRead,
			TokenHash: chain.Hash{9, byte(i)}, Time: startTime}
		if _, err := b.Apply(Encode(c)); err != nil {
			t.Fatal(err)
		}
	}
	few := &table{t: t, State: restored(t, b.State)}
	few.raise()
	checkBaseline(t, few.State, few.baselineOf())

	const projects = 6000
	for i := range projects - 2 {
		name := fmt.Sprintf("%0128d", i)
		if _, err := b.Apply(Encode(&CreateProject{Name: name, Time: startTime})); err != nil {
			t.Fatal(err)
		}
	}
	b.pendingBytes = b.settings.MaxPendingBytes + hardRoom // stands for many records
	before := b.pendingBytes
	if _, err := b.Apply(b.encode(&RaiseLevel{Level: ProtocolLevel, Time: startTime})); err != nil {
		t.Fatal(err)
	}
	if grown := b.pendingBytes - before; grown > maxBaseline+16<<10 || grown < maxBaseline {
		t.Errorf("the baseline has %d bytes", grown)
	}
	list := b.baselineOf()
	last := list[len(list)-1]
	recorded := map[string]bool{}
	for _, r := range list[:len(list)-1] {
		recorded[r.Target.Key()] = true
	}
	left := 0
	for _, v := range last.After {
		if v.Name == "not-recorded" {
			left, _ = strconv.Atoi(v.Value)
		}
	}
	if last.Target.Kind != trail.OfGroup || left == 0 || len(recorded)+left != projects ||
		!recorded[fmt.Sprint("project/", len(recorded))] {
		t.Errorf("%d projects are recorded, and %d are not: %+v", len(recorded), left, last)
	}
}
