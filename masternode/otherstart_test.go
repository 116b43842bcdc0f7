package masternode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// start registers a start of a worker that already has an id.
func (r *rig) start(t *testing.T, of wire.Registered, role, boot, previous string) (wire.Registered, error) {
	t.Helper()
	return r.Register(t.Context(), wire.Registration{
		Role: role, ID: of.ID, AccessToken: of.AccessToken, URL: "http://w", MasterToken: "x", Boot: boot,
		Previous: previous, Lists: true,
	}, false)
}

// entries returns the number of log entries.
func (r *rig) entries() int {
	r.ledger.Mu.RLock()
	defer r.ledger.Mu.RUnlock()
	return r.ledger.Entries
}

// boots returns the starts in the table.
func (r *rig) boots() (boots []string) {
	r.ledger.Read(func(s *masterfsm.State) {
		for _, n := range s.Storages() {
			boots = append(boots, fmt.Sprint(n.ID, n.Boot, n.Lists))
		}
		for _, n := range s.Miners() {
			if n.URL == "http://w" {
				boots = append(boots, fmt.Sprint(n.ID, n.Boot, n.Lists))
			}
		}
	})
	return boots
}

// TestRegisterAnotherStart checks that the newest start of a worker stays registered. A start that does not know the
// newest one is refused without a log entry, and is told which start is the newest.
func TestRegisterAnotherStart(t *testing.T) {
	for _, role := range []string{"storage", "miner"} {
		t.Run(role, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 0, nil)
				defer r.stop()
				r.workers.AddStorage("http://w")
				time.Sleep(10 * time.Second)
				if level := r.table().Level; level != masterstest.Level {
					t.Fatalf("level %d", level)
				}
				w, err := r.start(t, wire.Registered{}, role, "1", "")
				if err != nil || w.Order != "1.1" {
					t.Fatalf("%+v, %v", w, err)
				}
				for _, step := range []struct {
					boot, previous string
					refused        string
				}{
					{"1", "1", ""}, {"2", "1", ""}, {"2", "1", ""}, {"1", "1", "2"},
					{"3", "1", "2"}, {"3", "", "2"}, {"3", "2", ""}, {"2", "2", "3"},
				} {
					synctest.Wait()
					before, had := r.entries(), r.boots()
					again, err := r.start(t, w, role, step.boot, step.previous)
					var other *wire.OtherStartError
					switch {
					case step.refused == "":
						if err != nil || again.ID != w.ID || again.Order != w.Order {
							t.Errorf("%+v: %+v, %v", step, again, err)
						}
						if now := r.boots(); !slices.Equal(now, []string{w.ID + step.boot + "true"}) {
							t.Errorf("%+v: the table has %v", step, now)
						}
					case !errors.As(err, &other) || other.Start != step.refused:
						t.Errorf("%+v: %v", step, err)
					case r.entries() != before || !slices.Equal(r.boots(), had):
						t.Errorf("%+v: the refusal changed the log or the table: %v", step, r.boots())
					}
				}
				// An older program after one that keeps a list.
				if _, err := r.Register(t.Context(), wire.Registration{
					Role: role, ID: w.ID, AccessToken: w.AccessToken, URL: "http://w", MasterToken: "x", Boot: "3",
				}, false); !errors.Is(err, wire.ErrOtherStart) {
					t.Errorf("an older program: %v", err)
				}
				// A start without the worker's token learns nothing, and is registered as a new worker.
				stranger, err := r.start(t, wire.Registered{ID: w.ID, AccessToken: "wrong"}, role, "9", "")
				if err != nil || stranger.ID == w.ID {
					t.Errorf("a stranger: %+v, %v", stranger, err)
				}
			})
		})
	}
}

// TestRegisterAtLevelZero checks that registrations have the old form below level 1, because masters of an older
// version read the log.
func TestRegisterAtLevelZero(t *testing.T) {
	for _, role := range []string{"storage", "miner"} {
		t.Run(role, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, masters := newOlderGroup(t, "m3")
				defer r.stop()
				w, err := r.start(t, wire.Registered{}, role, "1", "")
				if err != nil {
					t.Fatal(err)
				}
				for _, boot := range []string{"2", "1", "3"} {
					synctest.Wait() // the leader's own operations are done
					before := r.entries()
					if _, err := r.start(t, w, role, boot, "unknown"); err != nil {
						t.Errorf("start %s: %v", boot, err)
					}
					if now := r.entries() - before; role == "miner" && now != 0 || role == "storage" && now != 1 {
						t.Errorf("start %s: %d entries", boot, now)
					}
				}
				for _, boot := range r.boots() {
					if role == "storage" && boot != w.ID+"3false" || role == "miner" && boot != w.ID+"false" {
						t.Errorf("the table has %s", boot)
					}
				}
				// The level rises while the worker runs. Its next renewal reports its list, and does not count as a new
				// start.
				masters.setLevel("m3", masterfsm.ProtocolLevel)
				time.Sleep(10 * time.Second)
				versions := func() (v []uint64) {
					r.ledger.Read(func(s *masterfsm.State) {
						for _, n := range s.Storages() {
							v = append(v, n.Version)
						}
					})
					return v
				}
				was := versions()
				if _, err := r.start(t, w, role, "3", "2"); err != nil {
					t.Error(err)
				}
				if now := r.boots(); !slices.Equal(now, []string{w.ID + "3true"}) || !slices.Equal(versions(), was) {
					t.Errorf("the table has %v, versions %v, which were %v", now, versions(), was)
				}
				if _, err := r.start(t, w, role, "4", "2"); !errors.Is(err, wire.ErrOtherStart) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// recordingLedger records the proposed registrations.
type recordingLedger struct {
	*masterstest.Ledger
	registrations [][]byte
}

func (l *recordingLedger) Propose(ctx context.Context, command []byte) (any, error) {
	if bytes.Contains(command, []byte(`"master_token"`)) {
		l.registrations = append(l.registrations, command)
	}
	return l.Ledger.Propose(ctx, command)
}

// TestRegistrationsInTheLogOfALowLevel checks that the log has no command with a new field below level 1. An older
// master rejects commands with unknown fields.
func TestRegistrationsInTheLogOfALowLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ledger *recordingLedger
		r := newRig(t, 0, func(c *Config, r *rig) {
			r.members.List = append(r.members.List, wire.Master{ID: "m2", Raft: "m2:1"}) // it does not reply
			ledger = &recordingLedger{Ledger: r.ledger}
			c.Ledger = ledger
		})
		defer r.stop()
		w, err := r.start(t, wire.Registered{}, "storage", "1", "")
		if err != nil {
			t.Fatal(err)
		}
		for _, boot := range []string{"2", "2"} { // the second time it reports nothing new
			if _, err := r.start(t, w, "storage", boot, "1"); err != nil {
				t.Error(err)
			}
		}
		if len(ledger.registrations) != 2 || r.table().Level != 0 {
			t.Errorf("%d registrations at level %d", len(ledger.registrations), r.table().Level)
		}
		for _, command := range ledger.registrations {
			if bytes.Contains(command, []byte("previous")) || bytes.Contains(command, []byte("lists")) ||
				bytes.Contains(command, []byte("level")) {
				t.Errorf("in the log: %q", command)
			}
		}
	})
}

// TestWorkerLevel checks that the table has the level of a worker from level 2 on, and that the status shows it. A
// worker that announces no level has level 0.
func TestWorkerLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, masters := newOlderGroup(t, "m3")
		defer r.stop()
		masters.setLevel("m3", 1)
		r.workers.AddStorage("http://storage")
		register := func(role string, level uint64) (shown uint64) {
			t.Helper()
			w, err := r.Register(t.Context(), wire.Registration{
				Role: role, URL: "http://" + role, MasterToken: "x", Boot: "1", Lists: true, Level: level,
			}, false)
			if err != nil {
				t.Fatal(err)
			}
			c := r.Cluster(t.Context())
			for _, s := range c.Storages {
				if s.ID == w.ID {
					shown = s.Level
				}
			}
			for _, m := range c.Miners {
				if m.ID == w.ID {
					shown = m.Level
				}
			}
			return shown
		}
		time.Sleep(10 * time.Second)
		if shown := register("storage", 2); shown != 0 || r.table().Level != 1 {
			t.Errorf("a worker has level %d in a group of level %d", shown, r.table().Level)
		}
		masters.setLevel("m3", masterfsm.ProtocolLevel)
		time.Sleep(10 * time.Second)
		for _, role := range []string{"storage", "miner"} {
			for _, level := range []uint64{0, 2} {
				if shown := register(role, level); shown != level {
					t.Errorf("a %s that announces %d has level %d", role, level, shown)
				}
			}
		}
	})
}
