package masterfsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

func TestCreateProject(t *testing.T) {
	b := newTable(t, smallSettings())
	p := b.ok(&CreateProject{Name: "three", Public: true, TokenHash: chain.Hash{3}, Time: startTime + 4}).(*Project)
	want := Project{
		ID: 3, Name: "three", Public: true, Created: startTime + 4,
		Next: 2, Tokens: []Token{{ID: 1, Rights: MayRead | MayAppend, Hash: chain.Hash{3}, Created: startTime + 4}},
	}
	if !reflect.DeepEqual(*p, want) {
		t.Errorf("%+v, want %+v", *p, want)
	}
	for name, look := range map[string]func(*State) (Project, bool){
		"by id":    func(s *State) (Project, bool) { return s.Project(3) },
		"by token": func(s *State) (Project, bool) { a, ok := s.Access(chain.Hash{3}); return a.Project, ok },
		"by name":  func(s *State) (Project, bool) { return s.ProjectByName("three") },
	} {
		for _, s := range []*State{b.State, restored(t, b.State)} {
			if got, ok := look(s); !ok || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v, %v", name, got, ok)
			}
		}
	}
	for name, look := range map[string]func() (Project, bool){
		"id 0":         func() (Project, bool) { return b.Project(0) },
		"id 4":         func() (Project, bool) { return b.Project(4) },
		"another hash": func() (Project, bool) { a, ok := b.Access(chain.Hash{4}); return a.Project, ok },
		"zero hash":    func() (Project, bool) { a, ok := b.Access(chain.Hash{}); return a.Project, ok },
		"another name": func() (Project, bool) { return b.ProjectByName("Three") },
		"no name":      func() (Project, bool) { return b.ProjectByName("") },
	} {
		if got, ok := look(); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestCreateProjectRefusals(t *testing.T) {
	b := newTable(t, smallSettings())
	for name, c := range map[string]struct {
		command CreateProject
		want    error
	}{
		"no name": {CreateProject{TokenHash: chain.Hash{5}}, ErrBadCommand},
		"name too long": {CreateProject{Name: strings.Repeat("n", MaxProjectName+1), TokenHash: chain.Hash{5}},
			ErrBadCommand},
		"name taken":   {CreateProject{Name: "one", TokenHash: chain.Hash{5}}, wire.ErrNameTaken},
		"token in use": {CreateProject{Name: "three", TokenHash: chain.Hash{2}}, ErrBadCommand},
		"quota":        {CreateProject{Name: "three", Quota: Quota{RecordBytes: maxRate + 1}}, ErrBadCommand},
	} {
		t.Run(name, func(t *testing.T) {
			c.command.Time = startTime + 99
			b.refused(&c.command, c.want)
		})
	}
	b.ok(&CreateProject{Name: strings.Repeat("n", MaxProjectName), TokenHash: chain.Hash{6}, Time: startTime})
}

func TestProjectsAreLimited(t *testing.T) {
	b := newTable(t, smallSettings())
	b.projects = make([]Project, MaxProjects)
	if _, err := b.Apply(Encode(&CreateProject{Name: "one more", TokenHash: chain.Hash{9}})); !errors.Is(err,
		wire.ErrTooMany) || len(b.projects) != MaxProjects {
		t.Errorf("%v, %d projects", err, len(b.projects))
	}
}

func TestProjectWithoutToken(t *testing.T) {
	b := newTable(t, smallSettings())
	p := b.ok(&CreateProject{Name: "open", Public: true, Time: startTime}).(*Project)
	if len(p.Tokens) != 0 || p.Next != 1 {
		t.Errorf("%+v", p)
	}
}

func TestChangeProject(t *testing.T) {
	b := newTable(t, smallSettings())
	b.refused(&ChangeProject{Project: 9, Time: startTime + 9}, ErrUnknownProject)
	b.refused(&ChangeProject{Project: 1, Quota: QuotaChange{RecordsPerSecond: ptr[uint64](maxRate + 1)},
		Time: startTime + 9}, ErrBadCommand)
	b.ok(&ChangeProject{Project: 1, Quota: QuotaChange{RecordsPerSecond: ptr[uint64](5)}, Time: startTime})
	b.ok(&ChangeProject{Project: 1, Public: ptr(true), Time: startTime})
	p := b.ok(&ChangeProject{Project: 1, Quota: QuotaChange{RecordBytes: ptr[uint64](7)}, Time: startTime}).(*Project)
	if !p.Public || p.Quota != (Quota{RecordsPerSecond: 5, RecordBytes: 7}) {
		t.Errorf("%+v", p)
	}
}

// TestCloseProject closes a project: new records are refused, and what was appended before is answered as before. Its
// readers, tokens and settings stay. An append that is refused takes nothing from the quota.
func TestCloseProject(t *testing.T) {
	b := newTable(t, smallSettings())
	b.refused(&CloseProject{Project: 1, Time: startTime}, ErrBadCommand) // below its level
	b.raise()
	b.refused(&CloseProject{Project: 9, Time: startTime + 9}, ErrUnknownProject)
	b.ok(&ChangeProject{Project: 1, Quota: QuotaChange{RecordsPerSecond: ptr[uint64](5)}, Time: startTime})
	keyed := call{project: 1, key: "k", payloads: []string{"before"}}
	first := b.add(startTime, keyed)[0]
	part := b.part(1, "s", 1, 2)
	if first.Err != Accepted || part.Err != Accepted {
		t.Fatalf("%+v, %+v", first, part)
	}
	closed := b.ok(&CloseProject{Project: 1, Time: startTime + 5}).(*Project)
	if closed.Closed != startTime+5 || len(closed.Tokens) != 1 || closed.Records != 3 {
		t.Errorf("closed: %+v", closed)
	}
	if again := b.ok(&CloseProject{Project: 1, Time: startTime + 7}).(*Project); again.Closed != startTime+5 {
		t.Errorf("closed twice: %+v", again)
	}
	demand := Demand{Project: 1, Records: 1, Bytes: 1, Largest: 1}
	if reason, _ := b.Admits(demand); reason != RefusedClosed {
		t.Errorf("a new record is admitted with %d", reason)
	}
	spent := closed.Spent
	for what, p := range map[string]Placement{
		"record": b.add(startTime+8, call{project: 1, payloads: []string{"after"}})[0],
		"key":    b.add(startTime+8, call{project: 1, key: "new", payloads: []string{"after"}})[0],
		"part":   b.part(1, "s", 3, 1), "stream": b.part(1, "new", 1, 1),
	} {
		if p.Err != RefusedClosed || !errors.Is(p.Err.Error(), wire.ErrProjectClosed) {
			t.Errorf("%s: %+v", what, p)
		}
	}
	b.refused(&OpenStream{Project: 1, ID: "id", Time: startTime + 8}, wire.ErrProjectClosed)
	if p := b.add(startTime+8, keyed)[0]; !p.Replay || p.Runs[0].Block != first.Runs[0].Block {
		t.Errorf("the retry of an earlier append: %+v", p)
	}
	if p := b.part(1, "s", 1, 2); !p.Replay {
		t.Errorf("records of a stream that are sent again: %+v", p)
	}
	if p := b.add(startTime+8, call{project: 2, payloads: []string{"other"}})[0]; p.Err != Accepted {
		t.Errorf("another project: %+v", p)
	}
	if p, _ := restored(t, b.State).Project(1); p.Closed != startTime+5 || p.Records != 3 || p.Spent != spent {
		t.Errorf("restored: %+v", p)
	}
	if version := snapshotBytes(t, b.State)[4]; version != 10 {
		t.Errorf("a snapshot with a closed project has version %d, which older programs read", version)
	}
	opened := b.ok(&CloseProject{Project: 1, Open: true, Time: startTime + 9}).(*Project)
	if p := b.part(1, "s", 3, 1); opened.Closed != 0 || p.Err != Accepted {
		t.Errorf("opened again: %+v, %+v", opened, p)
	}
}

func ptr[T any](v T) *T { return &v }

func TestFindProject(t *testing.T) {
	b := newTable(t, smallSettings())
	b.ok(&CreateProject{Name: "1", TokenHash: chain.Hash{5}, Time: startTime})
	b.ok(&CreateProject{Name: "77", TokenHash: chain.Hash{6}, Time: startTime})
	for name, id := range map[string]uint32{"1": 1, "one": 1, "3": 3, "77": 4, "nobody": 0, "99": 0, "": 0, "-1": 0} {
		if p, ok := b.FindProject(name); ok != (id != 0) || p.ID != id {
			t.Errorf("%q is project %d, want %d", name, p.ID, id)
		}
	}
}

func TestProjectsPage(t *testing.T) {
	b := newTable(t, smallSettings())
	b.ok(&CreateProject{Name: "three", TokenHash: chain.Hash{3}, Time: startTime})
	for _, row := range []struct {
		after uint32
		limit int
		want  string
	}{{0, 9, "[1 2 3]"}, {0, 2, "[1 2]"}, {2, 2, "[3]"}, {3, 2, "[]"}, {9, 1, "[]"}} {
		ids := []uint32{}
		for _, p := range b.Projects(row.after, row.limit) {
			ids = append(ids, p.ID)
		}
		if got := fmt.Sprint(ids); got != row.want {
			t.Errorf("after %d: %s, want %s", row.after, got, row.want)
		}
	}
}

func TestTokensComeAndGoOnTheirOwn(t *testing.T) {
	b := newTable(t, smallSettings())
	reader := b.ok(&CreateToken{Project: 1, Label: "dash", Rights: MayRead, TokenHash: chain.Hash{7},
		Time: startTime + 1}).(*Token)
	if want := (Token{ID: 2, Label: "dash", Rights: MayRead, Hash: chain.Hash{7},
		Created: startTime + 1}); *reader != want {
		t.Errorf("%+v, want %+v", *reader, want)
	}
	before := b.Snapshot()
	want, _ := before.Digest()
	b.ok(&RevokeToken{Project: 1, Token: 1, Time: startTime})
	if _, ok := b.Access(chain.Hash{1}); ok {
		t.Error("a revoked token opens the project")
	}
	for _, s := range []*State{b.State, restored(t, b.State)} {
		if a, ok := s.Access(chain.Hash{7}); !ok || a.Project.ID != 1 || a.Rights != MayRead {
			t.Errorf("the other token opens %+v, %v", a, ok)
		}
	}
	// Ids are never reused, not even that of the last one, nor after a snapshot.
	b.ok(&RevokeToken{Project: 1, Token: 2, Time: startTime})
	b.State = restored(t, b.State)
	if again := b.ok(&CreateToken{Project: 1, Rights: MayAppend, TokenHash: chain.Hash{7},
		Time: startTime}).(*Token); again.ID != 3 {
		t.Errorf("the next token got id %d", again.ID)
	}
	if late, err := before.Digest(); err != nil || late != want {
		t.Errorf("the snapshot changed after it was taken: %v", err)
	}
}

func TestTokenRefusals(t *testing.T) {
	b := newTable(t, smallSettings())
	good := CreateToken{Project: 1, Label: strings.Repeat("l", MaxTokenLabel), Rights: MayRead,
		TokenHash: chain.Hash{9}, Time: startTime + 9}
	for name, row := range map[string]struct {
		change func(*CreateToken)
		want   error
	}{
		"project":      {func(c *CreateToken) { c.Project = 9 }, ErrUnknownProject},
		"label":        {func(c *CreateToken) { c.Label += "l" }, ErrBadCommand},
		"no right":     {func(c *CreateToken) { c.Rights = 0 }, ErrBadCommand},
		"other rights": {func(c *CreateToken) { c.Rights = 4 | MayRead }, ErrBadCommand},
		"in use":       {func(c *CreateToken) { c.TokenHash = chain.Hash{2} }, ErrBadCommand},
		"no hash":      {func(c *CreateToken) { c.TokenHash = chain.Hash{} }, ErrBadCommand},
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			row.change(&c)
			b.refused(&c, row.want)
		})
	}
	b.ok(&good)
	b.refused(&RevokeToken{Project: 9, Token: 1, Time: startTime + 9}, ErrUnknownProject)
	b.refused(&RevokeToken{Project: 2, Token: 2, Time: startTime + 9}, ErrUnknownToken)
	for n := range uint32(MaxTokens - 2) {
		c := CreateToken{Project: 1, Rights: MayRead, Time: startTime, TokenHash: chain.Hash{0xff}}
		binary.BigEndian.PutUint32(c.TokenHash[1:], n)
		if _, err := b.Apply(Encode(&c)); err != nil {
			t.Fatal(err)
		}
	}
	b.refused(&CreateToken{Project: 1, Rights: MayRead, TokenHash: chain.Hash{0xee}, Time: startTime + 9},
		wire.ErrTooMany)
}

func TestWhoMayRead(t *testing.T) {
	own, other := Project{ID: 1}, Project{ID: 2}
	openOwn, openOther := Project{ID: 1, Public: true}, Project{ID: 2, Public: true}
	for _, row := range []struct {
		rights Rights
		owner  *Project
		want   bool
	}{
		{MayRead, &own, true}, {MayRead | MayAppend, &own, true}, {MayAppend, &own, false},
		{MayRead, &other, false}, {MayRead | MayAppend, &other, false}, {MayAppend, &other, false},
		{MayRead, &openOther, true}, {MayAppend, &openOther, true}, {MayAppend, &openOwn, true},
	} {
		if got := (Access{Project: own, Rights: row.rights}).MayRead(row.owner); got != row.want {
			t.Errorf("rights %b, owner %+v: %v", row.rights, row.owner, got)
		}
	}
}

// quotaTable is a table whose project 1 has a quota; at sends an append at a given elapsed time of the term.
type quotaTable struct{ *table }

func newQuotaTable(t *testing.T, q Quota) quotaTable {
	b := newTable(t, DefaultSettings())
	b.ok(&ChangeProject{
		Project: 1, Quota: QuotaChange{&q.RecordsPerSecond, &q.BytesPerSecond, &q.RecordBytes}, Time: startTime,
	})
	return quotaTable{b}
}

func (b quotaTable) at(elapsed uint64, c call) Placement {
	b.t.Helper()
	b.seq++
	return b.submit(EncodeAppend(startTime, Leadership{b.Term().Term, elapsed}, sent(b.t, "m1", 1, b.seq, c)))[0]
}

func records(n, size int) call {
	c := call{project: 1}
	for range n {
		c.payloads = append(c.payloads, strings.Repeat("x", size))
	}
	return c
}

func TestQuotaOfRecords(t *testing.T) {
	b := newQuotaTable(t, Quota{RecordsPerSecond: 10})
	if p := b.at(0, records(10, 1)); p.Err != Accepted {
		t.Fatalf("a second's worth at once: %+v", p)
	}
	for _, row := range []struct {
		elapsed uint64
		n       int
		want    Shortage // zero means accepted
	}{
		{0, 1, Shortage{Limit: 10, Left: 0, Wait: 100}},
		{99, 1, Shortage{Limit: 10, Left: 0, Wait: 1}},
		{100, 1, Shortage{}},
		{100, 10, Shortage{Limit: 10, Left: 0, Wait: 1000}},
		{350, 3, Shortage{Limit: 10, Left: 2, Wait: 50}},
		{350, 2, Shortage{}},
		{99_350, 10, Shortage{}}, // at most one second's worth accumulates
		{99_350, 1, Shortage{Limit: 10, Left: 0, Wait: 100}},
	} {
		p := b.at(row.elapsed, records(row.n, 1))
		switch {
		case row.want == (Shortage{}):
			if p.Err != Accepted || len(p.Runs) == 0 {
				t.Errorf("%d records at %d ms: %+v", row.n, row.elapsed, p)
			}
		case p.Err != RefusedRate || p.Shortage == nil || *p.Shortage != row.want || p.Runs != nil:
			t.Errorf("%d records at %d ms: %+v %+v, want %+v", row.n, row.elapsed, p, p.Shortage, row.want)
		}
	}
	// Other projects are not affected, and a jump of the wall clock gives no extra quota.
	if p := b.at(99_350, call{project: 2, payloads: payloads(50, "x")}); p.Err != Accepted {
		t.Errorf("another project: %+v", p)
	}
	b.seq++
	if p := b.submit(EncodeAppend(startTime+1<<40, Leadership{b.Term().Term, 99_350},
		sent(t, "m1", 1, b.seq, records(1, 1))))[0]; p.Err != RefusedRate {
		t.Errorf("a wall clock that was set gave more: %+v", p)
	}
}

func TestQuotaOfBytes(t *testing.T) {
	b := newQuotaTable(t, Quota{BytesPerSecond: 1000, RecordBytes: 600})
	for name, c := range map[string]call{"record": records(1, 601), "batch": records(3, 334)} {
		if p := b.at(0, c); p.Err != RefusedSize || p.Shortage != nil {
			t.Errorf("%s that never fits: %+v", name, p)
		}
	}
	if p := b.at(0, records(2, 500)); p.Err != Accepted {
		t.Errorf("a second's worth: %+v", p)
	}
	if p := b.at(100, records(1, 150)); p.Err != RefusedRate ||
		*p.Shortage != (Shortage{Bytes: true, Limit: 1000, Left: 100, Wait: 50}) {
		t.Errorf("%+v %+v", p, p.Shortage)
	}
	if p := b.at(100, records(1, 100)); p.Err != Accepted {
		t.Errorf("what is left: %+v", p)
	}
}

// TestQuotaAcrossRefusalReplayAndTerm checks that refused and replayed requests use no quota, and that the used quota
// carries over to the next leader.
func TestQuotaAcrossRefusalReplayAndTerm(t *testing.T) {
	b := newQuotaTable(t, Quota{RecordsPerSecond: 4})
	keyed := records(3, 1)
	keyed.key = "k"
	first := b.at(10, keyed)
	for range 5 {
		if p := b.at(10, records(2, 1)); p.Err != RefusedRate {
			t.Fatalf("%+v", p)
		}
		if p := b.at(10, keyed); !p.Replay || p.Runs[0].Block != first.Runs[0].Block {
			t.Fatalf("replay: %+v", p)
		}
	}
	b.State = restored(t, b.State)
	b.ok(&BeginTerm{Term: 2, Time: startTime, Settings: DefaultSettings()})
	if p := b.at(0, records(2, 1)); p.Err != RefusedRate || p.Shortage.Left != 1 {
		t.Errorf("a new leader: %+v %+v", p, p.Shortage)
	}
	if p := b.at(0, records(1, 1)); p.Err != Accepted {
		t.Errorf("what is left: %+v", p)
	}
	// A changed quota starts fresh; setting the same quota again changes nothing.
	b.ok(&ChangeProject{Project: 1, Quota: QuotaChange{RecordsPerSecond: ptr[uint64](4)}, Time: startTime})
	if p := b.at(0, records(1, 1)); p.Err != RefusedRate {
		t.Errorf("the same quota: %+v", p)
	}
	b.ok(&ChangeProject{Project: 1, Quota: QuotaChange{RecordsPerSecond: ptr[uint64](2)}, Time: startTime})
	if p := b.at(0, records(2, 1)); p.Err != Accepted {
		t.Errorf("another quota: %+v", p)
	}
}

// TestQuotaAgainstTheRate checks that the accepted amount never exceeds the rate by more than one second's worth,
// whatever the times of the requests, and that a request is accepted after the reported wait.
func TestQuotaAgainstTheRate(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 3))
		q := Quota{RecordsPerSecond: 1 + rng.Uint64N(50), BytesPerSecond: 1 + rng.Uint64N(5000)}
		var spent Spent
		var age, taken, bytes uint64
		for range 2000 {
			age += rng.Uint64N(120)
			n := 1 + rng.Uint64N(q.RecordsPerSecond)
			size := rng.Uint64N(q.BytesPerSecond + 1)
			next, short := spent.spend(q, n, size, age)
			if short != nil {
				age += short.Wait
				if next, short = spent.spend(q, n, size, age); short != nil {
					t.Fatalf("seed %d: waited as told, and %+v", seed, short)
				}
			}
			if short == nil {
				spent, taken, bytes = next, taken+n, bytes+size
			}
			if 1000*taken > q.RecordsPerSecond*(age+1000) || 1000*bytes > q.BytesPerSecond*(age+1000) {
				t.Fatalf("seed %d: %d records and %d bytes in %d ms of %+v", seed, taken, bytes, age, q)
			}
		}
	}
}
