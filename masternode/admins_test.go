package masternode

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

func (r *rig) newAdmin(t *testing.T, name, role string, seconds uint64) wire.CreatedAdmin {
	t.Helper()
	created, err := r.CreateAdmin(t.Context(), wire.NewAdmin{Name: name, Role: role, ValidSeconds: &seconds})
	if err != nil || created.Token == "" || !couldBeToken(created.Token) || created.Name != name ||
		created.Role != role || created.Expires-created.Created != 1000*seconds {
		t.Fatalf("created %+v, %v", created.Admin, err)
	}
	return created
}

func TestAdminTokensOpenUntilRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, nil)
		defer r.stop()
		r.raise(t)
		alice := r.newAdmin(t, "alice", wire.RoleOperator, 3600)
		h, err := r.Holder(t.Context(), alice.Token, mayAsk)
		if err != nil || h.Admin.Name != "alice" || h.Admin.Role != wire.RoleOperator || h.Access.Project.ID != 0 {
			t.Errorf("%+v, %v", h, err)
		}
		a, err := r.Access(t.Context(), alice.Token, mayAsk)
		if !errors.Is(err, wire.ErrUnauthorized) || a.Rights != 0 {
			t.Errorf("an admin token opens a project: %+v, %v", a, err)
		}
		list, err := r.Admins(t.Context())
		if err != nil || len(list.Admins) != 1 || list.Admins[0] != alice.Admin {
			t.Errorf("listed %+v, %v", list, err)
		}
		if err := r.RevokeAdmin(t.Context(), alice.ID); err != nil {
			t.Fatal(err)
		}
		if h, err := r.Holder(t.Context(), alice.Token, mayAsk); !errors.Is(err, wire.ErrUnauthorized) ||
			h.Admin.ID != 0 {
			t.Errorf("revoked: %+v, %v", h, err)
		}
		if err := r.RevokeAdmin(t.Context(), alice.ID); !errors.Is(err, masterfsm.ErrUnknownAdmin) {
			t.Errorf("again: %v", err)
		}
	})
}

// TestAdminTokensExpireInAnIdleGroup checks that a token expires although no command is proposed for another reason.
func TestAdminTokensExpireInAnIdleGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0, nil)
		defer r.stop()
		r.raise(t)
		alice, bob := r.newAdmin(t, "alice", wire.RoleAdmin, 60), r.newAdmin(t, "bob", wire.RoleAdmin, 90)
		time.Sleep(58 * time.Second)
		if _, err := r.Holder(t.Context(), alice.Token, mayAsk); err != nil {
			t.Errorf("before it expires: %v", err)
		}
		time.Sleep(4 * time.Second)
		_, err := r.Holder(t.Context(), alice.Token, func() error { return errors.New("the leader is asked") })
		if !errors.Is(err, wire.ErrUnauthorized) || !strings.Contains(err.Error(), `"alice" has expired`) {
			t.Errorf("after it has expired: %v", err)
		}
		if _, err := r.Holder(t.Context(), bob.Token, mayAsk); err != nil {
			t.Errorf("another token: %v", err)
		}
		list, err := r.Admins(t.Context())
		if err != nil || len(list.Admins) != 2 || !list.Admins[0].Expired || list.Admins[1].Expired {
			t.Errorf("listed %+v, %v", list, err)
		}
		applied := r.ledger.Applied()
		time.Sleep(20 * time.Second)
		if now := r.ledger.Applied(); now != applied {
			t.Errorf("%d commands in an idle group in which no token expires", now-applied)
		}
	})
}

func TestBadAdminTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0, nil)
		defer r.stop()
		r.raise(t)
		r.newAdmin(t, "taken", wire.RoleAuditor, 1)
		none, long := uint64(0), uint64(wire.MaxAdminSeconds+1)
		for name, c := range map[string]struct {
			admin wire.NewAdmin
			err   error
		}{
			"no role":        {wire.NewAdmin{Name: "a"}, wire.ErrBadRequest},
			"another role":   {wire.NewAdmin{Name: "a", Role: wire.RoleCluster}, wire.ErrBadRequest},
			"no name":        {wire.NewAdmin{Role: wire.RoleAdmin}, wire.ErrBadRequest},
			"control":        {wire.NewAdmin{Name: "a\n", Role: wire.RoleAdmin}, wire.ErrBadRequest},
			"no UTF-8":       {wire.NewAdmin{Name: "a\xff", Role: wire.RoleAdmin}, wire.ErrBadRequest},
			"no time":        {wire.NewAdmin{Name: "a", Role: wire.RoleAdmin, ValidSeconds: &none}, wire.ErrBadRequest},
			"too long":       {wire.NewAdmin{Name: "a", Role: wire.RoleAdmin, ValidSeconds: &long}, wire.ErrBadRequest},
			"the same name":  {wire.NewAdmin{Name: "taken", Role: wire.RoleAdmin}, wire.ErrNameTaken},
			"a default time": {wire.NewAdmin{Name: "b", Role: wire.RoleAdmin}, nil},
		} {
			created, err := r.CreateAdmin(t.Context(), c.admin)
			if !errors.Is(err, c.err) || (err == nil) != (created.Token != "") {
				t.Errorf("%s: %+v, %v", name, created.Admin, err)
			}
		}
	})
}

// TestAdminTokensOfAnIsolatedMaster checks that a master that has not heard from a leader takes no named admin token:
// it may have been revoked.
func TestAdminTokensOfAnIsolatedMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0, nil)
		defer r.stop()
		r.raise(t)
		alice := r.newAdmin(t, "alice", wire.RoleAuditor, 3600)
		r.ledger.Silence = func() time.Duration { return maxSilence + 1 }
		if _, err := r.Holder(t.Context(), alice.Token, mayAsk); !errors.Is(err, wire.ErrNoLeader) {
			t.Error(err)
		}
	})
}
