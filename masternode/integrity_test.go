package masternode

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// newDamageRig returns a rig of three nodes with about twenty blocks and a check every few seconds.
func newDamageRig(t *testing.T, change func(*Config, *rig)) (*rig, [][]byte) {
	r := newRig(t, 3, func(c *Config, r *rig) {
		c.CheckInterval = 5 * time.Second
		c.Settings.RetainBytes = 0
		r.workers.Lossy = true
		if change != nil {
			change(c, r)
		}
	})
	var payloads [][]byte
	for range 20 {
		var block []Entry
		for range 16 {
			payload := fmt.Appendf(nil, "record %d", len(payloads))
			payloads, block = append(payloads, payload), append(block, Entry{Payload: payload})
		}
		if _, err := r.Append(t.Context(), r.project, block, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.WaitStored(t.Context(), 19); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	return r, payloads
}

// on changes a node under its lock.
func (r *rig) on(url string, f func(*masterstest.Storage)) {
	s := r.workers.Storages[url]
	s.Mu.Lock()
	defer s.Mu.Unlock()
	f(s)
}

// restart registers a node again, as after a restart.
func (r *rig) restart(t *testing.T, url, boot string) {
	t.Helper()
	s, err := r.findStorage(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	var st wire.StorageStatus
	r.on(url, func(f *masterstest.Storage) { f.Down, st = false, f.Status() })
	for {
		_, err = r.ledger.Propose(t.Context(), r.ledger.Encode(&masterfsm.Register{
			Role: masterfsm.RoleStorage, ID: s.ID, URL: url, MasterToken: "x", AccessHash: s.AccessHash, Boot: boot,
			Height: st.Height, Hash: st.Hash, Unclean: true, Time: r.leader.Now(),
		}))
		switch {
		case err == nil:
			return
		case !anotherTry(err):
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		r.on(url, func(f *masterstest.Storage) { st = f.Status() })
	}
}

// allValid waits until all nodes are Valid, at the head, and without a bad block.
func (r *rig) allValid(t *testing.T, within time.Duration) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		problem := ""
		head := r.Cluster(t.Context()).Head
		for _, n := range r.Integrity(t.Context()).Nodes {
			r.on(n.URL, func(s *masterstest.Storage) {
				st := s.Status()
				if n.State != "valid" || len(s.Bad) > 0 || st.Height != head.Height || st.Hash != head.Hash ||
					n.Due != "" {
					problem = fmt.Sprintf("%s is %s (%s, due %q) with %d of %d blocks, bad %v, inbox %v",
						n.URL, n.State, n.Cause, n.Due, st.Height, head.Height, s.Bad, st.Inbox)
				}
			})
		}
		if problem == "" {
			return
		}
		if time.Now().After(deadline) {
			i := r.Integrity(t.Context())
			t.Fatalf("%s; nodes %+v, events %+v", problem, i.Nodes, i.Events[:min(6, len(i.Events))])
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (r *rig) readsAll(t *testing.T, payloads [][]byte) {
	t.Helper()
	for i, want := range payloads {
		got, err := r.Record(t.Context(), r.access, uint64(i/16), uint32(i%16))
		if err != nil || !bytes.Equal(got.Payload, want) {
			t.Fatalf("record %d: %q, %v", i, got.Payload, err)
		}
	}
}

// TestEventKindsAreThoseOfTheAPI checks that the table and the API use the same names for events and counters. They
// cannot share the constants, because neither may import the other.
func TestEventKindsAreThoseOfTheAPI(t *testing.T) {
	for kind, name := range map[masterfsm.EventKind]string{
		masterfsm.EventFinding: wire.EventFinding, masterfsm.EventRepair: wire.EventRepair,
		masterfsm.EventTiles: wire.EventTiles,
		masterfsm.EventLost:  wire.EventLost, masterfsm.EventFound: wire.EventFound,
		masterfsm.EventConfirmed: wire.EventConfirmed,
		masterfsm.EventSuspect:   wire.EventSuspect, masterfsm.EventRemoved: wire.EventRemoved,
		masterfsm.EventSetting: wire.EventSetting,
	} {
		if string(kind) != name {
			t.Errorf("%q in the table, %q in the API", kind, name)
		}
	}
}

func hasEvent(i wire.Integrity, kind string) bool {
	return slices.ContainsFunc(i.Events, func(e wire.Event) bool { return e.Kind == kind })
}

func TestDamageIsFoundAndRepaired(t *testing.T) {
	for name, damage := range map[string]func(r *rig){
		"one block": func(r *rig) { r.on("http://s0", func(s *masterstest.Storage) { s.Bad[3] = true }) },
		"two nodes, other blocks": func(r *rig) {
			r.on("http://s0", func(s *masterstest.Storage) { s.Bad[3] = true })
			r.on("http://s1", func(s *masterstest.Storage) { s.Bad[3], s.Bad[7] = false, true })
		},
		"all three, other blocks": func(r *rig) {
			for i, url := range []string{"http://s0", "http://s1", "http://s2"} {
				r.on(url, func(s *masterstest.Storage) { s.Bad[uint64(3+i)], s.Bad[uint64(13+i)] = true, true })
			}
		},
		"the chain's end is gone": func(r *rig) { r.on("http://s2", func(s *masterstest.Storage) { s.CutAt(12) }) },
		"everything is gone":      func(r *rig) { r.on("http://s2", func(s *masterstest.Storage) { s.CutAt(0) }) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, payloads := newDamageRig(t, nil)
				defer r.stop()
				for _, s := range r.workers.Storages {
					s.Mu.Lock()
				}
				for _, s := range r.workers.Storages {
					s.Mu.Unlock()
				}
				damage(r)
				for url := range r.workers.Storages {
					r.on(url, func(s *masterstest.Storage) {
						for number, bad := range s.Bad {
							if !bad {
								delete(s.Bad, number)
							}
						}
					})
				}
				r.readsAll(t, payloads) // while it is damaged
				r.allValid(t, 2*time.Minute)
				r.readsAll(t, payloads)
				i := r.Integrity(t.Context())
				if !hasEvent(i, "finding") || i.Totals.Repairs == 0 || len(i.Lost) != 0 {
					t.Errorf("%+v", i)
				}
			})
		})
	}
}

// TestRepairInSpiteOfAStrangeInbox checks that a node's report of its inbox is not trusted: blocks that cannot have
// been sent do not prevent its repair.
func TestRepairInSpiteOfAStrangeInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, payloads := newDamageRig(t, nil)
		defer r.stop()
		r.on("http://s1", func(s *masterstest.Storage) {
			s.CutAt(4)
			s.Inbox[1<<40] = chain.Block{}
		})
		r.restart(t, "http://s1", "2")
		r.allValid(t, time.Minute)
		r.readsAll(t, payloads)
	})
}

// TestSuspectIsCheckedAtOnce checks that a node is checked at once if a record from it fails verification.
func TestSuspectIsCheckedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, payloads := newDamageRig(t, func(c *Config, _ *rig) { c.CheckInterval = 0 })
		defer r.stop()
		for url := range r.workers.Storages {
			r.on(url, func(s *masterstest.Storage) {
				s.Bad[map[string]uint64{"http://s0": 3, "http://s1": 5, "http://s2": 7}[url]] = true
			})
		}
		r.readsAll(t, payloads)
		if i := r.Integrity(t.Context()); !hasEvent(i, "suspect") {
			t.Fatalf("%+v", i.Events)
		}
		// Only nodes that served reads can be suspect. Each is checked and repaired at once.
		time.Sleep(10 * time.Second)
		for range 3 {
			r.workersTurn(t, payloads)
		}
		if i := r.Integrity(t.Context()); i.Totals.Repairs == 0 || i.Totals.Checks == 0 {
			t.Errorf("%+v", i)
		}
	})
}

// workersTurn requests a check of every node, and waits until all are valid.
func (r *rig) workersTurn(t *testing.T, payloads [][]byte) {
	t.Helper()
	for _, n := range r.Integrity(t.Context()).Nodes {
		if _, err := r.CheckStorage(t.Context(), n.URL); err != nil {
			t.Fatal(err)
		}
	}
	r.allValid(t, time.Minute)
	r.readsAll(t, payloads)
}

func TestLostBlockIsReportedAndConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, payloads := newDamageRig(t, func(c *Config, _ *rig) { c.Settings.RetainBytes = 1 << 20 })
		defer r.stop()
		for url := range r.workers.Storages {
			r.on(url, func(s *masterstest.Storage) { s.Bad[4] = true })
		}
		r.on("http://s1", func(s *masterstest.Storage) { s.Bad[6] = true })
		time.Sleep(time.Minute)
		i := r.Integrity(t.Context())
		if !slices.Equal(i.Lost, []chain.Range{{From: 4, To: 5}}) || len(i.NoticesCoded) != 1 ||
			i.NoticesCoded[0].Code != wire.CodeLossUnconfirmed ||
			!reflect.DeepEqual(i.NoticesCoded[0].Args["ranges"], i.Lost) {
			t.Fatalf("%+v", i)
		}
		r.on("http://s1", func(s *masterstest.Storage) {
			if s.Bad[6] {
				t.Error("block 6 was not repaired from another node that lacks only block 4")
			}
		})
		// The other records are still served, and the cluster continues.
		r.readsAll(t, payloads[:4*16])
		if _, err := r.Record(t.Context(), r.access, 4, 0); !errors.Is(err, wire.ErrUnavailable) {
			t.Errorf("a lost record: %v", err)
		}
		a, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte("new")}}, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := r.WaitStored(t.Context(), a.Positions[0].Block); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ConfirmLost(t.Context(), 5); !errors.Is(err, wire.ErrNotLost) {
			t.Errorf("confirm a block that is there: %v", err)
		}
		if i, err = r.ConfirmLost(t.Context(), 4); err != nil || !slices.Equal(i.Confirmed, i.Lost) {
			t.Fatalf("%+v, %v", i, err)
		}
		for _, n := range r.Integrity(t.Context()).Nodes {
			if n.State != "valid" && n.State != "validating" {
				t.Errorf("%+v", n)
			}
		}
		if _, err := r.Record(t.Context(), r.access, 4, 0); !errors.Is(err, wire.ErrLost) {
			t.Errorf("a record whose loss is confirmed: %v", err)
		}
	})
}

func TestSenderDiesAndComesBackWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, payloads := newDamageRig(t, nil)
		defer r.stop()
		r.on("http://s0", func(s *masterstest.Storage) { s.CutAt(0) })
		r.restart(t, "http://s0", "2")
		// Each of the first two senders dies as soon as it begins to send.
		var dead []string
		for len(dead) < 2 {
			sender := ""
			for tries := 0; sender == ""; tries++ {
				if tries == 1000 {
					t.Fatalf("nobody sends: %+v", r.Integrity(t.Context()))
				}
				time.Sleep(20 * time.Millisecond)
				for _, n := range r.Integrity(t.Context()).Nodes {
					if n.State == "sending" && !slices.Contains(dead, n.URL) {
						sender = n.URL
					}
				}
			}
			r.on(sender, func(s *masterstest.Storage) { s.Down = true })
			dead = append(dead, sender)
		}
		time.Sleep(10 * time.Second)
		for _, url := range dead {
			r.restart(t, url, "3")
		}
		r.allValid(t, 2*time.Minute)
		r.readsAll(t, payloads)
	})
}

func TestRemoveStorageForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newDamageRig(t, func(c *Config, _ *rig) { c.CheckInterval = 0 })
		defer r.stop()
		if err := r.RemoveStorage(t.Context(), "nobody", false); !errors.Is(err, wire.ErrNotFound) {
			t.Errorf("%v", err)
		}
		s, err := r.findStorage(t.Context(), "http://s1")
		if err != nil {
			t.Fatal(err)
		}
		if err := r.RemoveStorage(t.Context(), "http://s1/", false); err != nil {
			t.Fatal(err)
		}
		if err := r.RemoveStorage(t.Context(), "http://s0", false); !errors.Is(err, wire.ErrTooFewCopies) {
			t.Errorf("%v", err)
		}
		_, err = r.Register(t.Context(), wire.Registration{Role: "storage", ID: s.ID, URL: s.URL, MasterToken: "x",
			Boot: "9"}, false)
		if !errors.Is(err, wire.ErrRemoved) {
			t.Errorf("it came back: %v", err)
		}
		if err := r.RemoveStorage(t.Context(), "http://s0", true); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDamageSimulation damages, truncates and stops nodes at random while leaders change and records are appended. In
// the end all nodes must be Valid with the whole chain, and every record must be readable. A single seed can be
// repeated as with TestSimulation.
func TestDamageSimulation(t *testing.T) { forEachSeed(t, damageSeeds, simulateDamage) }

func simulateDamage(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 7))
	r, payloads := newDamageRig(t, func(c *Config, _ *rig) { c.CheckInterval = 3 * time.Second })
	defer r.stop()
	urls := []string{"http://s0", "http://s1", "http://s2"}
	for i := range 30 {
		url := urls[rnd.IntN(3)]
		block := uint64(rnd.IntN(18))
		switch rnd.IntN(6) {
		case 0, 1:
			r.damageBlock(url, block)
		case 2:
			if r.cutShort(url, block) {
				r.restart(t, url, fmt.Sprint("cut ", i))
			}
		case 3:
			r.on(url, func(s *masterstest.Storage) { s.Down = true })
			time.Sleep(time.Duration(rnd.IntN(6000)) * time.Millisecond)
			r.restart(t, url, fmt.Sprint("again ", i))
		case 4:
			r.ledger.CutLeadership()
		case 5:
			if _, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte{byte(i)}}}, ""); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
	}
	r.allValid(t, 5*time.Minute)
	r.readsAll(t, payloads)
	r.checkLiveness(t, false)
	if i := r.Integrity(t.Context()); len(i.Lost) > 0 {
		t.Errorf("%+v", i)
	}
}

// others calls f for every storage node except one.
func (r *rig) others(url string, f func(*masterstest.Storage)) {
	for other := range r.workers.Storages {
		if other != url {
			r.on(other, f)
		}
	}
}

// damageBlock damages a node's copy of a block, unless it is the last good one.
func (r *rig) damageBlock(url string, block uint64) {
	copies := 0
	r.others(url, func(s *masterstest.Storage) {
		if !s.Bad[block] && uint64(len(s.Blocks)) > block {
			copies++
		}
	})
	if copies == 0 {
		return
	}
	r.on(url, func(s *masterstest.Storage) {
		if uint64(len(s.Blocks)) > block {
			s.Bad[block] = true
		}
	})
}

// cutShort truncates a node's chain, if another node has all of it.
func (r *rig) cutShort(url string, block uint64) bool {
	whole := 0
	r.others(url, func(s *masterstest.Storage) {
		if len(s.Bad) == 0 && len(s.Blocks) >= 20 {
			whole++
		}
	})
	if whole == 0 {
		return false
	}
	r.on(url, func(s *masterstest.Storage) {
		s.CutAt(block)
		for number := range s.Bad {
			if number >= uint64(len(s.Blocks)) {
				delete(s.Bad, number)
			}
		}
	})
	return true
}
