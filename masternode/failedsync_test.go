package masternode

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// TestMasterAfterAFailedSync checks what a master does if the table knows of a failed sync of its folder: it stops
// under the same kernel, and otherwise the table learns that the failed sync is over.
func TestMasterAfterAFailedSync(t *testing.T) {
	for name, c := range map[string]struct {
		kernel   string
		override bool
		stops    bool
	}{
		"the same kernel":   {"one", false, true},
		"an unknown kernel": {"", false, true},
		"another kernel":    {"two", false, false},
		"overridden":        {"one", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newJoiningRig(t, 0, func(cfg *Config, _ *rig) {
					cfg.Kernel, cfg.AfterFailedSync = c.kernel, c.override
				})
				time.Sleep(10 * time.Second) // until the level is raised
				for _, command := range []masterfsm.Command{
					&masterfsm.AdmitMaster{ID: "m1", URL: "http://m1", Raft: "m1:1", Time: r.leader.Now(),
						Key: r.cfg.Key.Public(), Start: 1, Founder: true},
					&masterfsm.ReportFailedSync{ID: "m1", Kernel: "one", Detail: "EIO", Time: r.leader.Now()},
				} {
					if _, err := r.leader.Propose(t.Context(), command); err != nil {
						t.Fatal(err)
					}
				}
				if c.stops {
					if err := <-r.ended; !errors.Is(err, wire.ErrFailedSync) {
						t.Error(err)
					}
					return
				}
				time.Sleep(time.Second)
				var f masterfsm.FailedSync
				r.ledger.Read(func(s *masterfsm.State) { f = s.FailedSyncOf("m1") })
				if f.ID != "" {
					t.Errorf("%+v", f)
				}
				r.stop()
			})
		})
	}
}

// TestFailedSyncOfAnother checks that a report about a worker is taken only with its access token, and without a kernel
// only then: it stops that worker.
func TestFailedSyncOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newJoiningRig(t, 1, func(*Config, *rig) {})
		defer r.stop()
		time.Sleep(10 * time.Second) // until the level is raised
		ask := func(url string) wire.Registered {
			answer, err := r.Register(t.Context(), wire.Registration{Role: "storage", URL: url, MasterToken: "t",
				Boot: "1", Lists: true, Level: wire.ProtocolLevel}, false)
			if err != nil {
				t.Fatal(err)
			}
			return answer
		}
		own, other := ask("http://own"), ask("http://other")
		for name, c := range map[string]struct {
			f    wire.FailedSync
			want error
		}{
			"no token": {wire.FailedSync{ID: other.ID, Kernel: "k"}, wire.ErrForbidden},
			"another token": {wire.FailedSync{ID: other.ID, Kernel: "k", AccessToken: own.AccessToken},
				wire.ErrForbidden},
			"no kernel, of a master": {wire.FailedSync{ID: "m1"}, wire.ErrBadRequest},
			"nobody":                 {wire.FailedSync{ID: "s-x", Kernel: "k"}, masterfsm.ErrUnknownNode},
		} {
			if err := r.ReportFailedSync(t.Context(), c.f, false); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
		for _, kernel := range []string{"k", ""} {
			f := wire.FailedSync{ID: own.ID, Kernel: kernel, AccessToken: own.AccessToken}
			if err := r.ReportFailedSync(t.Context(), f, false); err != nil {
				t.Errorf("of its own, with kernel %q: %v", kernel, err)
			}
		}
		r.ledger.Read(func(s *masterfsm.State) {
			if s.FailedSyncOf(own.ID).ID == "" || s.FailedSyncOf(other.ID).ID != "" || s.FailedSyncOf("m1").ID != "" {
				t.Error("the table has other failed syncs")
			}
		})
	})
}

// TestOverriddenFailedSyncInAnOldTable checks that a master does not stop because its table, which is behind after a
// start, has a failed sync that is over in the leader's table; and that it asks until a leader confirms its table.
func TestOverriddenFailedSyncInAnOldTable(t *testing.T) {
	for name, over := range map[string]bool{"over": true, "not over": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newJoiningRig(t, 0, func(cfg *Config, _ *rig) { cfg.Kernel = "one" })
				time.Sleep(10 * time.Second) // until the level is raised
				r.ledger.SetConfirm(func() error { return wire.ErrNotLeader })
				for _, command := range []masterfsm.Command{
					&masterfsm.AdmitMaster{ID: "m1", URL: "http://m1", Raft: "m1:1", Time: r.leader.Now(),
						Key: r.cfg.Key.Public(), Start: 1, Founder: true},
					&masterfsm.ReportFailedSync{ID: "m1", Kernel: "one", Detail: "EIO", Time: r.leader.Now()},
				} {
					if _, err := r.leader.Propose(t.Context(), command); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Minute)
				select {
				case err := <-r.ended:
					t.Fatalf("without a leader: %v", err)
				default:
				}
				r.ledger.SetConfirm(func() error {
					r.ledger.SetConfirm(func() error { return nil })
					if over {
						_, err := r.leader.Propose(t.Context(), &masterfsm.ReportFailedSync{
							ID: "m1", Kernel: "one", Over: true, Time: r.leader.Now()})
						return err
					}
					return nil
				})
				if !over {
					if err := <-r.ended; !errors.Is(err, wire.ErrFailedSync) {
						t.Error(err)
					}
					return
				}
				time.Sleep(time.Minute)
				r.stop()
			})
		})
	}
}
