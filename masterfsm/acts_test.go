package masterfsm

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// auditRecord is a record of the audit trail with its place.
type auditRecord struct {
	index uint64
	chain chain.Record
	trail.Record
}

// audited returns the records of the audit trail that the table holds.
func (b *table) audited() (list []auditRecord) {
	b.t.Helper()
	for index := b.HeldLeaf(); index < b.NextIndex(); index++ {
		found, at := b.Locate(index)
		if found != FoundRecord {
			continue
		}
		_, _, encoded, _ := b.Record(at.Block, at.Offset)
		r, err := chain.ParseRecord(encoded)
		if err != nil {
			b.t.Fatal(err)
		}
		if r.Project != trail.ProjectID {
			continue
		}
		parsed, err := trail.Parse(r.Payload)
		if err != nil {
			b.t.Fatal(err)
		}
		list = append(list, auditRecord{index, r, parsed})
	}
	return list
}

// text shows what a record says, in one line.
func (r *auditRecord) text() string {
	values := func(list []trail.Value) string {
		var parts []string
		for _, v := range list {
			parts = append(parts, v.Name+"="+v.Value)
		}
		return strings.Join(parts, ", ")
	}
	return fmt.Sprintf("%s %s %s %s: %s -> %s", r.Act, r.Phase, r.Outcome, r.chain.Key, values(r.Before),
		values(r.After))
}

func auditTable(t testing.TB) *table {
	b := newTable(t, smallSettings())
	b.raise()
	return b
}

// TestCommandsAreActsOrNot checks that each command is in the table of acts, or in that of other commands with a
// reason. A new command that an administrator or a node can cause must leave a record.
func TestCommandsAreActsOrNot(t *testing.T) {
	for k, c := range commands {
		if c == nil {
			continue
		}
		_, isAct := acts[kind(k)]
		reason, isNone := noActs[kind(k)]
		if isAct == isNone || isNone && reason == "" {
			t.Errorf("command %d, %T, is an act %v, no act %v: enter it in acts or in noActs of acts.go", k, c, isAct,
				isNone)
		}
	}
	for k := range acts {
		if int(k) >= len(commands) || commands[k] == nil {
			t.Errorf("there is no command of kind %d, which is an act", k)
		}
	}
}

// TestActs applies an example of every act and compares its record with a golden file. The test fails for an act
// without an example.
func TestActs(t *testing.T) {
	type example struct {
		before []Command
		act    Command
	}
	key := func(n byte) *AddLogKey { c := addKey(n, n == 1); c.Time = startTime; return c }
	keyID := newKeyID(key(1))
	node := &Register{Role: RoleStorage, ID: "s1", URL: "http://s1", MasterToken: "secret", AccessHash: chain.Hash{9},
		Boot: "1", Time: startTime}
	miner := &Register{Role: RoleMiner, ID: "m7", URL: "http://m7", MasterToken: "secret", Time: startTime}
	master := &AdmitMaster{ID: "m2", URL: "http://m2", Raft: "m2:1", Key: memberKey(2), Start: 1, Founder: true,
		Time: startTime}
	other := &AdmitMaster{ID: "m3", URL: "http://m3", Raft: "m3:1", Key: memberKey(3), Start: 1, Founder: true,
		Time: startTime}
	approvals := &ChangeSettings{Change: SettingsChange{ApproveWorkers: new(true)}, Time: startTime}
	decide := &DecideWorker{ID: "s1", Approve: true, Time: startTime}
	admin := createAdmin("alice", wire.RoleOperator, 3, 1000)
	examples := map[string]example{
		"project-create": {act: &CreateProject{Name: "three", Quota: Quota{RecordBytes: 10}, TokenHash: chain.Hash{3},
			Time: startTime}},
		"project-change": {act: &ChangeProject{Project: 1, Public: new(true),
			Quota: QuotaChange{RecordsPerSecond: new(uint64(5))}, Time: startTime}},
		"token-create": {act: &CreateToken{Project: 1, Label: "ci", Rights: MayRead, TokenHash: chain.Hash{4},
			Time: startTime}},
		"token-revoke":    {act: &RevokeToken{Project: 2, Token: 1, Time: startTime}},
		"admin-create":    {act: admin},
		"admin-revoke":    {before: []Command{admin}, act: &RevokeAdmin{ID: 1, Time: startTime}},
		"settings-change": {act: &ChangeSettings{Change: SettingsChange{KeyAge: new(uint64(90_000))}, Time: startTime}},
		"time-set":        {act: &SetTime{Time: startTime + 5}},
		"storage-check": {before: []Command{node}, act: &Suspect{ID: "s1", Cause: Cause{Code: wire.CodeRequested},
			Time: startTime}},
		"storage-remove": {before: []Command{node}, act: &RemoveStorage{ID: "s1", Force: true, Time: startTime}},
		"miner-remove":   {before: []Command{miner}, act: &RemoveMiner{ID: "m7", Time: startTime}},
		"master-admit":   {act: master},
		"master-remove":  {before: []Command{master}, act: &RemoveMaster{ID: "m2", Time: startTime}},
		"master-admit-1": {before: []Command{master, other}, act: &AdmitMaster{ID: "m3", URL: "http://m2", Raft: "m3:1",
			Key: memberKey(3), Start: 2, Take: true, Time: startTime}},
		"master-remove-1":     {before: []Command{master}, act: &RemoveMaster{ID: "m2", Force: true, Time: startTime}},
		"time-set-1":          {act: &SetTime{Time: startTime + 5, Force: true}},
		"worker-register":     {act: node},
		"worker-register-1":   {before: []Command{node}, act: &Register{Role: RoleMiner, ID: "m7", URL: "http://m7"}},
		"log-key-add":         {act: key(1)},
		"log-key-retire":      {before: []Command{key(1), key(2)}, act: &RetireLogKey{ID: keyID, Time: startTime}},
		"master-promote":      {act: noteIntent(trail.MasterPromote, "m2")},
		"leadership-transfer": {act: noteIntent(trail.LeadershipTransfer, "m2")},
		"ticket-create":       {act: newTicket(1)},
		"ticket-revoke":       {before: []Command{newTicket(1)}, act: &RevokeTicket{ID: 1, Time: startTime}},
		"worker-decide":       {before: []Command{approvals, node}, act: decide},
		"worker-decide-1":     {before: []Command{approvals, node}, act: &DecideWorker{ID: "s1", Time: startTime}},
		"worker-register-2":   {before: []Command{approvals}, act: node},
		"tls-step":            {act: &SetTLS{To: wire.TLSAccept, Time: startTime}},
		"tls-step-1": {before: []Command{&SetTLS{To: wire.TLSAccept, Time: startTime}},
			act: &SetTLS{From: wire.TLSAccept, To: wire.TLSPrefer, Time: startTime}},
		"project-close":        {act: &CloseProject{Project: 1, Time: startTime}},
		"certificate-reload":   {act: certificate("ab")},
		"certificate-reload-1": {before: []Command{certificate("ab")}, act: certificate("cd")},
		"secret-reload":        {before: []Command{secretValues("1234abcd")}, act: secretValues("1234abcd next 9999")},
	}
	golden := map[string]string{}
	file := filepath.Join("testdata", "acts.json")
	if data, err := os.ReadFile(file); err != nil && os.Getenv("CHAINSTORE_WRITE_GOLDEN") != "acts" {
		t.Fatal(err)
	} else if err == nil {
		if err := json.Unmarshal(data, &golden); err != nil {
			t.Fatal(err)
		}
	}
	now := map[string]string{}
	seen := map[trail.Act]bool{ // see below, TestCloseLog, TestRecoveryIsRecorded and TestBaseline
		trail.Recovery: true, trail.Baseline: true,
		trail.LossConfirm: true, trail.LevelRaise: true, trail.ProjectRename: true, trail.LogClose: true,
	}
	for _, name := range slices.Sorted(maps.Keys(examples)) {
		t.Run(name, func(t *testing.T) {
			b := auditTable(t)
			e := examples[name]
			for _, c := range e.before {
				b.ok(c)
			}
			before := b.audited()
			marked(e.act)
			b.ok(e.act)
			after := b.audited()
			if len(after) != len(before)+1 {
				t.Fatalf("%d records after %d", len(after), len(before))
			}
			r := after[len(after)-1]
			if !strings.HasPrefix(name, r.Act.String()) || r.Actor != leaderOrigin.Actor ||
				r.chain.Type != trail.Type || r.chain.Salt != saltOf(b.acts) || r.chain.Key != r.Target.Key() {
				t.Errorf("record %+v of %s", r, name)
			}
			seen[r.Act] = true
			now[name] = hex.EncodeToString(r.chain.Payload)
			if os.Getenv("CHAINSTORE_WRITE_GOLDEN") != "acts" && golden[name] != now[name] {
				t.Errorf("the payload is\n%s, want\n%s (%s)", now[name], golden[name], r.text())
			}
			checkMarks(t, r.chain)
			t.Log(r.text())
			back := restored(t, b.State)
			if !reflect.DeepEqual(back.intents, b.intents) || !reflect.DeepEqual(back.reports, b.reports) ||
				!reflect.DeepEqual(back.audit, b.audit) {
				t.Errorf("restored %+v, %+v, %+v", back.audit, back.intents, back.reports)
			}
			// The same command again changes nothing, or is refused, or is another act of its own.
			switch e.act.(type) {
			case *CreateProject, *CreateToken, *CreateAdmin, *CreateTicket, *SetTime:
				return
			}
			if _, err := b.Apply(b.encode(e.act)); len(b.audited()) != len(after) {
				t.Errorf("the command left two records: %v", err)
			}
		})
	}
	for _, act := range trail.Acts() {
		if !seen[act] {
			t.Errorf("the act %s has no example", act)
		}
	}
	if os.Getenv("CHAINSTORE_WRITE_GOLDEN") == "acts" {
		data, err := json.MarshalIndent(now, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(data, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestForceOfOlderLevels checks that a group with older masters gets no command with a field that they do not know.
func TestForceOfOlderLevels(t *testing.T) {
	forced, plain := &RemoveMaster{ID: "m2", Force: true, Time: 5}, &RemoveMaster{ID: "m2", Time: 5}
	if !bytes.Equal(EncodeFor(LevelAudit-1, forced), Encode(plain)) || !forced.Force {
		t.Error("a group of older masters gets the field")
	}
	if !bytes.Equal(EncodeFor(LevelAudit, forced), Encode(forced)) {
		t.Error("a group at the level does not get the field")
	}
}

func noteIntent(act trail.Act, master string) *NoteAct {
	return &NoteAct{Act: act, Phase: trail.Intent, Target: trail.Target{Kind: trail.OfMaster, ID: master},
		Time: startTime}
}

func reported(act trail.Act, name, value string) *NoteAct {
	return &NoteAct{Act: act, Phase: trail.Reported, After: pairs(name, value),
		Target: trail.Target{Kind: trail.OfMaster, ID: "m1"}, Time: startTime}
}

func certificate(serial string) *NoteAct { return reported(trail.CertificateReload, "serial", serial) }

func secretValues(values string) *NoteAct { return reported(trail.SecretReload, "masters", values) }

// TestFirstSecrets checks that the first report of a node's secrets leaves no record: later ones are compared with it.
func TestFirstSecrets(t *testing.T) {
	b := auditTable(t)
	before := len(b.audited())
	b.ok(certificate("ab")) // is kept apart
	b.ok(secretValues("1234abcd"))
	if got := len(b.audited()); got != before+1 {
		t.Errorf("%d records after %d", got, before)
	}
	b.ok(secretValues("1234abcd next 99999999"))
	if got := b.audited(); len(got) != before+2 || got[before+1].Before[0].Value != "1234abcd" {
		t.Errorf("records %+v", got[before:])
	}
}

// TestReportsAreBounded checks that the table keeps what a record has of a report, and forgets it with the node.
func TestReportsAreBounded(t *testing.T) {
	b := auditTable(t)
	for _, c := range []Command{
		&Register{Role: RoleStorage, ID: "s1", URL: "http://s1", MasterToken: "x", Boot: "1", Time: startTime},
		&Register{Role: RoleMiner, ID: "i1", URL: "http://i1", MasterToken: "x", Time: startTime},
		&Register{Role: RoleMiner, ID: "i2", URL: "http://i2", MasterToken: "x", Time: startTime},
		&AdmitMaster{ID: "m2", URL: "http://m2", Raft: "m2:1", Key: memberKey(2), Start: 1, Founder: true,
			Time: startTime},
	} {
		b.ok(c)
	}
	note := func(kind trail.TargetKind, id string) *NoteAct {
		c := certificate(strings.Repeat("x", 3000))
		for range 300 {
			c.After = append(c.After, c.After[0])
		}
		c.Target = trail.Target{Kind: kind, ID: id}
		return c
	}
	for _, c := range []*NoteAct{
		note(trail.OfStorage, "s1"), note(trail.OfMiner, "i1"), note(trail.OfMiner, "i2"), note(trail.OfMaster, "m2"),
		note(trail.OfMaster, "m3"),
	} {
		b.ok(c)
		last := b.reports[len(b.reports)-1]
		if all := b.audited(); !slices.Equal(last.Values, all[len(all)-1].After) || len(last.Values) > 3 {
			t.Errorf("%d values are kept", len(last.Values))
		}
		b.refused(c, ErrStale)
	}
	for _, c := range []Command{
		&RemoveStorage{ID: "s1", Force: true, Time: startTime}, &RemoveMiner{ID: "i1", Time: startTime},
		&Register{Role: RoleMiner, ID: "i3", URL: "http://i2", MasterToken: "x", Time: startTime},
		&RemoveMaster{ID: "m2", Time: startTime},
	} {
		before := len(b.reports)
		b.ok(c)
		if len(b.reports) != before-1 {
			t.Errorf("%T: %d reports after %d", c, len(b.reports), before)
		}
	}
	if len(b.reports) != 1 || b.reports[0].Target.ID != "m3" {
		t.Errorf("reports %+v", b.reports)
	}
}

// mark is in every secret of a command under test.
const mark = "SECRETSECRET"

// marked puts the mark into what may be a secret in a command: hashes, bytes, and texts that are called a token or a
// secret.
func marked(c Command) {
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		switch {
		case f.Type() == reflect.TypeFor[chain.Hash]() && name != "Public" && name != "Hash":
			copy(f.Addr().Interface().(*chain.Hash)[:], mark)
		case f.Type() == reflect.TypeFor[[]byte]():
			copy(f.Bytes(), mark)
		case f.Kind() == reflect.String && (strings.Contains(name, "Token") || strings.Contains(name, "Secret")):
			f.SetString(mark)
		}
	}
}

// checkMarks checks that a record has no mark, in any common encoding.
func checkMarks(t *testing.T, r chain.Record) {
	t.Helper()
	encoded := r.AppendTo(nil)
	for _, bad := range []string{
		mark, hex.EncodeToString([]byte(mark)), base64.StdEncoding.EncodeToString([]byte(mark)), "secret",
	} {
		if bytes.Contains(encoded, []byte(bad)) {
			t.Errorf("the record has a secret: %q", encoded)
		}
	}
}

// TestLossConfirmedAct is the example of an act that needs a lost block.
func TestLossConfirmedAct(t *testing.T) {
	b := auditTable(t)
	b.node("a", 0)
	b.fill(8)
	b.mine()
	b.integrity.Lost = []chain.Range{{From: 0, To: 1}}
	entry := acts[kindOf(&ConfirmLost{})]
	subject := entry.about(b.State, &ConfirmLost{Block: 0})
	before := subject.values(b.State)
	b.integrity.Confirmed = []chain.Range{{From: 0, To: 1}}
	after := subject.values(b.State)
	if subject.target.Key() != "block/0" || before[0].Value != "false" || after[0].Value != "true" {
		t.Errorf("%+v: %+v, %+v", subject, before, after)
	}
}

// TestRefusedActs checks that a refused act leaves no record and changes nothing, whatever the reason.
func TestRefusedActs(t *testing.T) {
	b := auditTable(t)
	b.ok(createAdmin("alice", wire.RoleAdmin, 3, 1000))
	count := len(b.audited())
	alice := trail.Origin{Actor: trail.Actor{Kind: trail.ByNamed, ID: 1, Name: "alice", Role: trail.RoleAdmin}}
	create := func(o trail.Origin) []byte {
		return EncodeAct(o, saltOf(1), Encode(&CreateProject{Name: "x", Time: startTime}))
	}
	wrong := alice
	wrong.Actor.Name = "bob"
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"without an origin": {Encode(&CreateProject{Name: "x", Time: startTime}), ErrUnrecorded},
		"refused":           {byLeader(t, &CreateProject{Name: "one"}), wire.ErrNameTaken},
		"no act":            {byLeader(t, &Cut{}), ErrBadCommand},
		"a wrong name":      {create(wrong), wire.ErrUnauthorized},
		"unknown actor":     {create(trail.Origin{Actor: trail.Actor{Kind: 200}}), ErrBadCommand},
		"not UTF-8":         {create(trail.Origin{Source: trail.Source{Address: "\xff"}}), ErrBadCommand},
		"note without one":  {Encode(noteIntent(trail.MasterPromote, "m2")), ErrUnrecorded},
		"note of a command": {byLeader(t, noteIntent(trail.ProjectCreate, "m2")), ErrBadCommand},
		"no such intent":    {byLeader(t, &EndIntent{Index: 1}), ErrStale},
		"cut short":         {reseal(create(alice)[:20]), ErrCommand},
		"a newer version": {reseal(append(append(bytes.Clone(create(alice)[:5]), 2), create(alice)[6:]...)),
			ErrCommand},
		"its project": {byLeader(t, &ChangeProject{Project: trail.ProjectID, Public: new(true)}),
			wire.ErrForbidden},
		"its end": {byLeader(t, &CloseProject{Project: trail.ProjectID}), wire.ErrForbidden},
		"its token": {byLeader(t, &CreateToken{Project: trail.ProjectID, Rights: MayRead, TokenHash: chain.Hash{7}}),
			wire.ErrForbidden},
		"its prefix": {byLeader(t, &CreateProject{Name: "_audit-x"}), wire.ErrNameTaken},
	} {
		t.Run(name, func(t *testing.T) {
			inner := *b
			inner.t = t
			inner.refusedBytes(c.data, c.want)
		})
	}
	if got := len(b.audited()); got != count {
		t.Errorf("%d records, there were %d", got, count)
	}
	// A token that is revoked or expired acts no more, from that place of the log on.
	if _, err := b.Apply(create(alice)); err != nil {
		t.Error(err)
	}
	expired := &table{t: t, State: restored(t, b.State)}
	expired.ok(&ExpireAdmins{Time: startTime + 1000})
	b.ok(&RevokeAdmin{ID: 1, Time: startTime})
	for _, x := range []*table{expired, b} {
		x.refusedBytes(EncodeAct(alice, saltOf(9), Encode(&CreateProject{Name: "y", Time: startTime})),
			wire.ErrUnauthorized)
	}
	if p := b.add(startTime, call{project: trail.ProjectID, payloads: []string{"forged"}}); p[0].Err != RefusedProject {
		t.Errorf("a submission appended to the audit trail: %+v", p)
	}
	b.refused(&OpenStream{Project: trail.ProjectID, ID: "s", Time: startTime}, ErrUnknownProject)
}

func byLeader(t *testing.T, c Command) []byte {
	t.Helper()
	return EncodeAct(leaderOrigin, saltOf(1), Encode(c))
}

// reseal makes the checksum of a changed command right.
func reseal(data []byte) []byte { return seal(append(make([]byte, 4), data[4:]...)) }

// TestRoomOfActs checks that records of acts have room above the limit of the backlog, that an act without room is
// refused, and that what makes room is always possible.
func TestRoomOfActs(t *testing.T) {
	b := auditTable(t)
	b.ok(createAdmin("alice", wire.RoleAdmin, 3, 1000))
	b.ok(&ChangeSettings{Change: SettingsChange{MaxPendingBytes: new(uint64(1))}, Time: startTime})
	if p := b.add(startTime, call{project: 1, payloads: []string{"x"}}); p[0].Err != RefusedBacklog {
		t.Fatalf("%+v", p)
	}
	for i := 0; ; i++ {
		c := &CreateProject{Name: fmt.Sprintf("%d%s", i, strings.Repeat("x", 100)), Time: startTime}
		_, err := b.Apply(b.encode(c))
		if b.pendingBytes < reservedRoom {
			if err != nil {
				t.Fatalf("%d bytes: %v", b.pendingBytes, err)
			}
			if i < 20 {
				continue
			}
			b.pendingBytes += 1 << 16 // stands for many more
			continue
		}
		if !errors.Is(err, wire.ErrBacklog) && b.pendingBytes > reservedRoom+1<<17 {
			t.Fatalf("%d bytes: %v", b.pendingBytes, err)
		}
		if err != nil {
			break
		}
	}
	for _, c := range []Command{
		&RevokeAdmin{ID: 1, Time: startTime}, &RevokeToken{Project: 1, Token: 1, Time: startTime},
		&ChangeSettings{Change: SettingsChange{MaxPendingBytes: new(uint64(1 << 30))}, Time: startTime},
	} {
		if _, err := b.Apply(b.encode(c)); err != nil {
			t.Errorf("%T: %v", c, err)
		}
	}
	if _, err := b.Apply(b.encode(&CreateProject{Name: "again", Time: startTime})); err != nil {
		t.Error(err)
	}
}

// TestHardRoom checks that also the acts of nodes are refused far above the limit of the backlog: a miner that changes
// its address again and again cannot fill the backlog without bound. What makes room stays possible.
func TestHardRoom(t *testing.T) {
	b := auditTable(t)
	b.ok(createAdmin("alice", wire.RoleAdmin, 3, 1000))
	b.ok(noteIntent(trail.MasterPromote, "m2"))
	intent := b.intents[0].Index
	miner := func(url string) *Register {
		return &Register{Role: RoleMiner, ID: "m7", URL: url, MasterToken: "x", Time: startTime}
	}
	b.ok(miner("http://a"))
	b.ok(&ChangeSettings{Change: SettingsChange{MaxPendingBytes: new(uint64(1))}, Time: startTime})
	for i := 0; ; i++ {
		_, err := b.Apply(b.encode(miner(fmt.Sprint("http://", i))))
		if errors.Is(err, wire.ErrBacklog) {
			break
		}
		if err != nil || b.pendingBytes > hardRoom+1<<17 {
			t.Fatalf("%d bytes: %v", b.pendingBytes, err)
		}
		b.pendingBytes += 1 << 16 // stands for many more
	}
	m, _ := find(b.miners, func(m *Miner) bool { return m.ID == "m7" })
	records := len(b.audited())
	for _, c := range []Command{
		miner("http://again"), &AdmitMaster{ID: "m2", URL: "http://m2", Raft: "m2:1", Time: startTime},
		noteIntent(trail.MasterPromote, "m3"),
	} {
		if _, err := b.Apply(b.encode(c)); !errors.Is(err, wire.ErrBacklog) {
			t.Errorf("%T: %v", c, err)
		}
	}
	if _, err := b.Apply(b.encode(miner(m.URL))); err != nil {
		t.Errorf("the same address: %v", err)
	}
	if got := len(b.audited()); got != records {
		t.Errorf("%d records after %d", got, records)
	}
	for _, c := range []Command{
		&RevokeAdmin{ID: 1, Time: startTime}, &RevokeToken{Project: 1, Token: 1, Time: startTime},
		&RemoveMiner{ID: "m7", Time: startTime}, &RemoveMaster{ID: "m9", Time: startTime},
		&EndIntent{Index: intent, Outcome: trail.NotDone, Time: startTime},
		&ChangeSettings{Change: SettingsChange{MaxPendingBytes: new(uint64(1 << 30))}, Time: startTime},
		&Register{Role: RoleMiner, ID: "m8", URL: "http://again", MasterToken: "x", Time: startTime},
	} {
		if _, err := b.Apply(b.encode(c)); err != nil {
			t.Errorf("%T: %v", c, err)
		}
	}
}

// TestUpgradeToAudit checks that the rise of the level makes the project, renames one that has its name, and records
// both, with an origin; and that nothing of this happens below.
func TestUpgradeToAudit(t *testing.T) {
	b := newTable(t, smallSettings())
	b.ok(&RaiseLevel{Level: LevelAudit - 1, Time: startTime})
	b.ok(&CreateProject{Name: trail.Project, TokenHash: chain.Hash{5}, Time: startTime})
	b.ok(&CreateProject{Name: "_audit-3", Time: startTime})
	b.add(startTime, call{project: 3, payloads: []string{"of a user"}})
	b.refusedBytes(EncodeAct(leaderOrigin, saltOf(1), Encode(&CreateProject{Name: "x"})), ErrBadCommand)
	b.refusedBytes(EncodeAct(leaderOrigin, saltOf(1), Encode(&RaiseLevel{Level: LevelAudit - 1})), ErrBadCommand)
	b.refusedBytes(Encode(&RaiseLevel{Level: LevelAudit}), ErrUnrecorded)
	if old := snapshotBytes(t, b.State); old[4] != 9 || len(b.audited()) != 0 {
		t.Errorf("version %d, %d records", old[4], len(b.audited()))
	}
	b = &table{t: t, State: restored(t, b.State), seq: b.seq}
	b.raise()
	var texts []string
	salts := map[[16]byte]bool{}
	for _, r := range b.audited() {
		if r.Act != trail.Baseline {
			texts = append(texts, r.text())
		}
		salts[r.chain.Salt] = true
	}
	baseline := len(b.baselineOf())
	if want := []string{
		"project-rename done done project/3: name=_audit -> name=_audit-3-",
		"level-raise done done group: level=6 -> level=7",
	}; !slices.Equal(texts, want) || len(salts) != 2+baseline || baseline != 5 {
		t.Errorf("%q with %d salts", texts, len(salts))
	}
	renamed, _ := b.FindProject("_audit-3-")
	own, ok := b.FindProject(trail.Project)
	if renamed.ID != 3 || renamed.Records != 1 || own.ID != trail.ProjectID || !ok ||
		own.Records != uint64(2+baseline) {
		t.Errorf("the projects are %+v and %+v", renamed, own)
	}
	if a, ok := b.Access(chain.Hash{5}); !ok || a.Project.ID != 3 {
		t.Errorf("the token opens %+v", a)
	}
	list := b.Projects(0, 100)
	if len(list) != 5 || list[4].ID != trail.ProjectID || len(b.Projects(3, 1)) != 1 || b.Projects(4, 1)[0].ID !=
		trail.ProjectID || len(b.Projects(trail.ProjectID, 9)) != 0 {
		t.Errorf("the projects are %+v", list)
	}
	if p := b.ok(&CreateProject{Name: "next", Time: startTime}).(*Project); p.ID != 5 {
		t.Errorf("the next project has the id %d", p.ID)
	}
	if now := snapshotBytes(t, b.State); now[4] != 10 || !bytes.Equal(snapshotBytes(t, restored(t, b.State)), now) {
		t.Errorf("version %d, or the restored snapshot differs", now[4])
	}
}

// TestIntents checks that an act outside of the table has an intent and one outcome, in the order of the log.
func TestIntents(t *testing.T) {
	b := auditTable(t)
	b.ok(&AdmitMaster{ID: "m2", URL: "http://m2", Raft: "m2:1", Key: memberKey(2), Start: 1, Founder: true,
		Time: startTime})
	b.ok(&RemoveMaster{ID: "m2", Time: startTime})
	open := b.View().Intents
	if len(open) != 2 || open[0].Raft != "m2:1" || open[1].Act != trail.MasterRemove || open[0].Index >= open[1].Index {
		t.Fatalf("open intents %+v", open)
	}
	b.refused(&EndIntent{Index: open[1].Index, Outcome: trail.Unknown + 1, Time: startTime}, ErrBadCommand)
	b.ok(&EndIntent{Index: open[1].Index, Outcome: trail.Succeeded, Time: startTime})
	b.refused(&EndIntent{Index: open[1].Index, Outcome: trail.Succeeded, Time: startTime}, ErrStale)
	b = &table{t: t, State: restored(t, b.State), seq: b.seq, acts: b.acts}
	b.ok(&EndIntent{Index: open[0].Index, Outcome: trail.NotDone, Time: startTime})
	if len(b.View().Intents) != 0 {
		t.Errorf("open intents %+v", b.View().Intents)
	}
	all := b.audited()
	ends := all[len(all)-2:]
	if ends[0].Intent != open[1].Index || ends[1].Intent != open[0].Index || ends[0].Phase != trail.Ended ||
		ends[1].Outcome != trail.NotDone || ends[1].Target != open[0].Target {
		t.Errorf("outcomes %+v", ends)
	}
	b.ok(noteIntent(trail.MasterPromote, "m3"))
	b.refused(noteIntent(trail.MasterPromote, "m3"), ErrStale)
	b.ok(&EndIntent{Index: b.intents[0].Index, Outcome: trail.Unknown, Time: startTime})
	if all := b.audited(); all[len(all)-1].Outcome != trail.Unknown || all[len(all)-1].Phase != trail.Ended {
		t.Errorf("the outcome is %s", all[len(all)-1].text())
	}
}

// TestRecoveryFindsAudit checks that a recovery from storage nodes alone knows the audit trail by its id, that no other
// project gets the id, and that the level may rise afterwards.
func TestRecoveryFindsAudit(t *testing.T) {
	b := auditTable(t)
	b.fill(3)
	b.ok(&CreateProject{Name: "three", Time: startTime})
	b.fill(3)
	if b.View().OpenRecords > 0 {
		b.ok(&Cut{Block: b.Height(), Time: startTime})
	}
	b.mine()
	count := uint64(len(b.audited()))
	empty := New()
	r := empty.Recover(Group{ID: "g", Epoch: 2})
	for n := range b.Head().Height {
		block, _ := b.Block(n)
		if err := r.Adopt(block); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Finish(0, nil); err != nil {
		t.Fatal(err)
	}
	after := &table{t: t, State: empty}
	checkInvariants(t, empty)
	p, ok := empty.ProjectByName(trail.Project)
	if !ok || p.ID != trail.ProjectID || p.Records != count+1 || empty.nextProject > MaxProjects*2+1 {
		t.Errorf("the audit trail is %+v, the next project gets %d", p, empty.nextProject)
	}
	if data := snapshotBytes(t, empty); data[4] != 10 { // an older program must not read it, and lose the project
		t.Errorf("the snapshot has version %d", data[4])
	}
	after.State = restored(t, empty)
	after.ok(&BeginTerm{Term: 9, Member: "m1", URL: "http://m1", Time: startTime, Group: "g",
		Settings: smallSettings()})
	after.refused(&CreateProject{Name: "_audit", Time: startTime}, wire.ErrNameTaken)
	adopted := len(after.baselineOf())
	after.raise()
	baseline := after.baselineOf()[adopted:]
	checkBaseline(t, after.State, baseline)
	if p, _ := after.ProjectByName(trail.Project); p.Records != count+2+uint64(len(baseline)) {
		t.Errorf("the audit trail is %+v", p) // with those of the recovery and the level
	}
}

// TestWrongAuditSnapshots checks that a snapshot without a sound audit trail is refused.
func TestWrongAuditSnapshots(t *testing.T) {
	for name, change := range map[string]func(*State){
		"none":      func(s *State) { s.audit = nil },
		"other id":  func(s *State) { s.audit.ID = 7 },
		"token":     func(s *State) { s.audit.Tokens = []Token{{ID: 1}} },
		"same name": func(s *State) { s.projects[0].Name = trail.Project },
		"order":     func(s *State) { s.intents = []Intent{{Index: 5}, {Index: 3}} },
	} {
		t.Run(name, func(t *testing.T) {
			b := auditTable(t)
			change(b.State)
			if _, err := Restore(bytes.NewReader(snapshotBytes(t, b.State))); err == nil {
				t.Error("it is restored")
			}
		})
	}
}
