package masterfsm

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

func createAdmin(name, role string, hash byte, valid uint64) *CreateAdmin {
	return &CreateAdmin{Name: name, Role: role, TokenHash: chain.Hash{100, hash}, Valid: valid, Time: startTime}
}

// admin returns the holder of the token that createAdmin makes with a hash.
func (b *table) admin(hash byte) (Holder, bool) { return b.Holder(chain.Hash{100, hash}) }

func TestAdminTokens(t *testing.T) {
	b := newTable(t, smallSettings())
	b.raise()
	created := b.ok(createAdmin("alice", wire.RoleAdmin, 1, 1000)).(*Admin)
	want := Admin{ID: 1, Name: "alice", Role: wire.RoleAdmin, Hash: chain.Hash{100, 1}, Created: startTime,
		Expires: startTime + 1000}
	if *created != want {
		t.Errorf("created %+v, want %+v", created, want)
	}
	b.ok(createAdmin("bob", wire.RoleOperator, 2, 500))
	b.ok(createAdmin("carol", wire.RoleAuditor, 3, 1000))
	for name, c := range map[string]struct {
		command *CreateAdmin
		err     error
	}{
		"no name":           {createAdmin("", wire.RoleAdmin, 9, 1), ErrBadCommand},
		"long name":         {createAdmin(strings.Repeat("n", MaxAdminName+1), wire.RoleAdmin, 9, 1), ErrBadCommand},
		"no UTF-8":          {createAdmin("a\xff", wire.RoleAdmin, 9, 1), nil}, // JSON replaces the byte
		"taken name":        {createAdmin("bob", wire.RoleAdmin, 9, 1), wire.ErrNameTaken},
		"no role":           {createAdmin("d", "", 9, 1), ErrBadCommand},
		"role of a project": {createAdmin("d", wire.RoleProject, 9, 1), ErrBadCommand},
		"no validity":       {createAdmin("d", wire.RoleAdmin, 9, 0), ErrBadCommand},
		"long validity":     {createAdmin("d", wire.RoleAdmin, 9, MaxAdminValidity+1), ErrBadCommand},
		"known token":       {createAdmin("d", wire.RoleAdmin, 1, 1), ErrBadCommand},
		"token of a project": {&CreateAdmin{Name: "d", Role: wire.RoleAdmin, TokenHash: chain.Hash{1}, Valid: 1},
			ErrBadCommand},
		"no token": {&CreateAdmin{Name: "d", Role: wire.RoleAdmin, Valid: 1}, ErrBadCommand},
	} {
		t.Run(name, func(t *testing.T) {
			x := &table{t: t, State: restored(t, b.State)}
			if c.err == nil {
				x.ok(c.command)
				return
			}
			x.refused(c.command, c.err)
		})
	}
	// A project cannot get the token of an administrator.
	b.refused(&CreateToken{Project: 1, Rights: MayRead, TokenHash: chain.Hash{100, 1}, Time: startTime}, ErrBadCommand)
	b.refused(&CreateProject{Name: "x", TokenHash: chain.Hash{100, 1}, Time: startTime}, ErrBadCommand)

	if h, ok := b.Holder(chain.Hash{1}); !ok || h.Admin.ID != 0 || h.Access.Project.ID != 1 {
		t.Errorf("the token of project 1 opens %+v", h)
	}
	b.refused(&RevokeAdmin{ID: 4, Time: startTime}, ErrUnknownAdmin)
	if revoked := b.ok(&RevokeAdmin{ID: 3, Time: startTime}).(*Admin); revoked.Name != "carol" {
		t.Errorf("revoked %+v", revoked)
	}
	if _, ok := b.admin(3); ok {
		t.Error("a revoked token is known")
	}
	b.refused(&RevokeAdmin{ID: 3, Time: startTime}, ErrUnknownAdmin)
	b.State = restored(t, b.State)
	if again := b.ok(createAdmin("carol", wire.RoleAuditor, 3, 1000)).(*Admin); again.ID != 4 {
		t.Errorf("the id %d is given out again", again.ID)
	}
}

// TestAdminTokensExpire checks that a token expires by the table's time alone, and that the leader can bring that time.
func TestAdminTokensExpire(t *testing.T) {
	b := newTable(t, smallSettings())
	b.raise()
	b.refused(&ExpireAdmins{Time: startTime + 5000}, ErrStale)
	b.ok(createAdmin("alice", wire.RoleAdmin, 1, 1000))
	b.ok(createAdmin("bob", wire.RoleOperator, 2, 500))
	expired := func(alice, bob bool, next uint64) {
		t.Helper()
		for _, s := range []*State{b.State, restored(t, b.State)} {
			x := &table{t: t, State: s}
			a, knowsA := x.admin(1)
			o, knowsB := x.admin(2)
			if !knowsA || !knowsB || a.Expired != alice || o.Expired != bob || x.View().AdminExpiry != next {
				t.Errorf("%+v, %+v, the next expires at %d, want %d", a, o, x.View().AdminExpiry, next)
			}
		}
	}
	expired(false, false, startTime+500)
	b.refused(&ExpireAdmins{Time: startTime + 499}, ErrStale)
	b.refused(&ExpireAdmins{Time: MaxTime + 1}, ErrStale)
	b.add(startTime+499, call{project: 1, payloads: []string{"x"}})
	expired(false, false, startTime+500)
	b.ok(&ExpireAdmins{Time: startTime + 500})
	expired(false, true, startTime+1000)
	b.refused(&ExpireAdmins{Time: startTime + 999}, ErrStale)
	b.add(startTime+1000, call{project: 1, payloads: []string{"x"}}) // any command moves the time
	expired(true, true, 0)
	b.refused(&ExpireAdmins{Time: startTime + 5000}, ErrStale)
	// A name stays taken until the token is revoked.
	b.refused(createAdmin("bob", wire.RoleOperator, 5, 500), wire.ErrNameTaken)
	b.ok(&RevokeAdmin{ID: 2, Time: startTime})
	b.ok(createAdmin("bob", wire.RoleOperator, 5, 500))
}

func TestTooManyAdminTokens(t *testing.T) {
	b := newTable(t, smallSettings())
	b.raise()
	for i := range MaxAdmins {
		c := createAdmin(fmt.Sprint("n", i), wire.RoleAuditor, byte(i), 1000)
		c.TokenHash[2] = byte(i >> 8)
		if _, err := b.Apply(b.encode(c)); err != nil {
			t.Fatal(err)
		}
	}
	more := createAdmin("more", wire.RoleAdmin, 7, 1000)
	more.TokenHash[3] = 1
	b.refused(more, wire.ErrTooMany)
	b.ok(&RevokeAdmin{ID: 1, Time: startTime})
	b.ok(more)
}

// TestAdminTokensBelowTheirLevel checks that the table has no admin tokens before all masters know them.
func TestAdminTokensBelowTheirLevel(t *testing.T) {
	b := newTable(t, smallSettings())
	b.ok(&RaiseLevel{Level: LevelAdmins - 1, Time: startTime})
	b.refused(createAdmin("alice", wire.RoleAdmin, 1, 1000), ErrBadCommand)
	b.refused(&RevokeAdmin{ID: 1, Time: startTime}, ErrBadCommand)
	b.refused(&ExpireAdmins{Time: startTime}, ErrBadCommand)
	if data := snapshotBytes(t, b.State); data[4] != 8 || strings.Contains(string(data), "admin") {
		t.Errorf("the snapshot has version %d, or names administrators", data[4])
	}
	b.ok(&RaiseLevel{Level: LevelAdmins, Time: startTime})
	b.ok(createAdmin("alice", wire.RoleAdmin, 1, 1000))
	if version := snapshotBytes(t, b.State)[4]; version != 9 {
		t.Errorf("the snapshot has version %d", version)
	}
	if back := restored(t, b.State); !reflect.DeepEqual(back.Admins(), b.Admins()) || back.lastAdmin != 1 {
		t.Errorf("restored %+v", back.Admins())
	}
}

// TestSnapshotsWithWrongAdmins checks that ids out of order are refused: a token could get the id of another one.
func TestSnapshotsWithWrongAdmins(t *testing.T) {
	for name, change := range map[string]func(*State){
		"twice":       func(s *State) { s.admins = append(s.admins, s.admins[0]) },
		"above":       func(s *State) { s.lastAdmin = 1 },
		"wrong order": func(s *State) { s.admins = []Admin{s.admins[1], s.admins[0]} },
		"id 0":        func(s *State) { s.admins = []Admin{{Name: "zero"}} },
	} {
		t.Run(name, func(t *testing.T) {
			b := newTable(t, smallSettings())
			b.raise()
			b.ok(createAdmin("alice", wire.RoleAdmin, 1, 1000))
			b.ok(createAdmin("bob", wire.RoleAdmin, 2, 1000))
			change(b.State)
			if _, err := Restore(strings.NewReader(string(snapshotBytes(t, b.State)))); err == nil {
				t.Error("it is restored")
			}
		})
	}
}
