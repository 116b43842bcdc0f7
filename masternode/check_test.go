package masternode

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// nodeOf returns the integrity status of a storage node.
func (r *rig) nodeOf(t *testing.T, url string) wire.NodeIntegrity {
	t.Helper()
	for _, n := range r.Integrity(t.Context()).Nodes {
		if n.URL == url {
			return n
		}
	}
	t.Fatalf("no node %s", url)
	return wire.NodeIntegrity{}
}

// TestCheckThatCouldNotLook checks that a check that ended early does not count. The state of the node does not change
// and its check stays due, whatever the version of the storage node.
func TestCheckThatCouldNotLook(t *testing.T) {
	for name, status := range map[string]func(wire.CheckOrder) wire.CheckStatus{
		"a node of an older version": func(
			wire.CheckOrder) wire.CheckStatus {
			return wire.CheckStatus{Report: &wire.Report{}}
		},
		"before the first block": func(
			wire.CheckOrder) wire.CheckStatus {
			return wire.CheckStatus{Error: "read index: is a directory"}
		},
		"in the midst of the chain": func(wire.CheckOrder) wire.CheckStatus {
			return wire.CheckStatus{Blocks: 7, Error: "too many open files"}
		},
		"an error beside a report without damage": func(o wire.CheckOrder) wire.CheckStatus {
			return wire.CheckStatus{Blocks: 7, Error: "too many open files", Report: &wire.Report{Unchecked: o.Height}}
		},
		"behind all blocks": func(o wire.CheckOrder) wire.CheckStatus {
			return wire.CheckStatus{Blocks: o.Height, Error: "write tiles/00",
				Report: &wire.Report{Unchecked: o.Height}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := newDamageRig(t, func(c *Config, _ *rig) { c.CheckInterval = 0 })
				defer r.stop()
				r.on("http://s1", func(s *masterstest.Storage) { s.Report = status })
				before, was := r.Integrity(t.Context()).Totals, r.nodeOf(t, "http://s1")
				if _, err := r.CheckStorage(t.Context(), "http://s1"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(1500 * time.Millisecond)
				now, n := r.Integrity(t.Context()).Totals, r.nodeOf(t, "http://s1")
				if n.State != "valid" || n.DueCoded.Code != wire.CodeRequested || n.Checked != was.Checked ||
					now.Checks != before.Checks {
					t.Errorf("%+v, %d checks; before %+v, %d", n, now.Checks, was, before.Checks)
				}
				if a := n.Aborted; a == nil || a.Error == "" || a.Count != 1 || a.Height != 20 {
					t.Errorf("aborted: %+v", a)
				}
				// It can be checked again, and this check counts.
				r.on("http://s1", func(s *masterstest.Storage) { s.Report = nil })
				time.Sleep(10 * time.Second)
				n = r.nodeOf(t, "http://s1")
				if n.State != "valid" || n.Due != "" || n.Checked == was.Checked || n.Aborted != nil {
					t.Errorf("after a good check: %+v", n)
				}
			})
		})
	}
}

// TestUnreadBlocks checks that a block that the system of a node cannot read does not count as bad at once. After three
// checks in a row the node's copy no longer counts, and the node receives the block again.
func TestUnreadBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newDamageRig(t, nil) // checks every five seconds
		defer r.stop()
		unread := chain.Range{From: 3, To: 4}
		tries := 0
		r.on("http://s1", func(s *masterstest.Storage) {
			s.Report = func(o wire.CheckOrder) wire.CheckStatus {
				tries++
				if !o.Unread {
					t.Error("the order does not ask for them")
				}
				return wire.CheckStatus{Blocks: o.Height, Error: "block 3: input/output error", Unread: &wire.Report{
					Bad: []chain.Range{unread}, Unchecked: o.Height,
					Findings: []wire.Finding{wire.NewFinding(3, chain.WrongFrame, wire.Message{
						Code: wire.CodeFileUnreadable,
						Args: wire.Args{"file": "x.seg", "offset": uint64(20), "detail": "input/output error"},
					})},
				}}
			}
		})
		found := func(e wire.Event) bool { return e.Kind == wire.EventFinding && e.URL == "http://s1" }
		at := -1
		for range 600 {
			var seen int
			r.on("http://s1", func(*masterstest.Storage) { seen = tries })
			events := r.Integrity(t.Context()).Events
			if at = slices.IndexFunc(events, found); at >= 0 {
				if e := events[at]; seen < 3 || len(e.Findings) != 1 || !slices.Equal(e.Ranges, []chain.Range{unread}) {
					t.Errorf("after %d checks: %+v", seen, e)
				}
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if at < 0 {
			t.Fatal("the block does not count as bad")
		}
		r.on("http://s1", func(s *masterstest.Storage) { s.Report = nil })
		time.Sleep(time.Minute)
		if n := r.nodeOf(t, "http://s1"); n.State == "invalid" || len(n.Bad) > 0 || n.Aborted != nil {
			t.Errorf("after the repair: %+v", n)
		}
	})
}

// TestChecksThatEndEarlyAgainAndAgain checks that repeated early ends are retried at a limited rate, do not delay the
// checks of other nodes, and raise a notice.
func TestChecksThatEndEarlyAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newDamageRig(t, nil) // checks every five seconds
		defer r.stop()
		tries := 0
		r.on("http://s1", func(s *masterstest.Storage) {
			s.Report = func(wire.CheckOrder) wire.CheckStatus {
				tries++
				return wire.CheckStatus{Error: "read index: input/output error"}
			}
		})
		told := func() bool {
			is := func(m wire.Message) bool {
				return m.Code == wire.CodeChecksEndEarly && m.Args["node"] == "s1" &&
					m.Args["detail"] == "read index: input/output error"
			}
			in := slices.ContainsFunc(r.Integrity(t.Context()).NoticesCoded, is)
			all := slices.ContainsFunc(r.Cluster(t.Context()).NoticesCoded, is)
			if in != all {
				t.Errorf("the integrity tells it: %v, the status: %v", in, all)
			}
			return in
		}
		for range 60 {
			time.Sleep(time.Second)
			var seen int
			r.on("http://s1", func(*masterstest.Storage) { seen = tries })
			if got := r.Figures().Unchecked == 1; got != told() {
				t.Errorf("the metric shows it: %v", got)
			}
			if got := told(); seen < 3 && got || seen > 3 && !got {
				t.Fatalf("after %d checks that ended early, the notice is there: %v", seen, got)
			}
		}
		checked := map[string]uint64{}
		for _, n := range r.Integrity(t.Context()).Nodes {
			checked[n.URL] = n.Checked
		}
		time.Sleep(5 * time.Minute)
		var seen int
		r.on("http://s1", func(*masterstest.Storage) { seen = tries })
		if seen < 8 || seen > 20 {
			t.Errorf("%d tries in six minutes", seen)
		}
		for _, n := range r.Integrity(t.Context()).Nodes {
			bad := n.URL == "http://s1"
			if bad != (n.Checked == checked[n.URL]) || bad != (n.Due != "") || n.State == "invalid" {
				t.Errorf("%+v", n)
			}
		}
		// A new leader retries at once, and then counts its own failures.
		r.ledger.CutLeadership()
		time.Sleep(20 * time.Second)
		if !told() {
			t.Error("the new leader does not tell")
		}
		r.on("http://s1", func(s *masterstest.Storage) { s.Report = nil })
		r.allValid(t, time.Minute)
		if told() {
			t.Error("it is told still")
		}
	})
}

// TestCheckFoundDamageAndEndedEarly checks that damage found by a check that ended early is repaired, and that the node
// stays due and is checked completely before it is valid.
func TestCheckFoundDamageAndEndedEarly(t *testing.T) {
	for name, unchecked := range map[string]uint64{"older, block 0 at once": 0, "behind the damage": 4} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, payloads := newDamageRig(t, func(c *Config, _ *rig) { c.CheckInterval = 0 })
				defer r.stop()
				checks := 0
				r.on("http://s1", func(s *masterstest.Storage) {
					s.Bad[3] = true
					s.Report = func(wire.CheckOrder) wire.CheckStatus {
						checks++
						if s.Bad[3] {
							return wire.CheckStatus{Blocks: 4, Error: "too many open files", Report: &wire.Report{
								Bad:       []chain.Range{{From: 3, To: 4}},
								Findings:  []wire.Finding{{Block: 3, What: chain.WrongPayload}},
								Unchecked: unchecked,
							}}
						}
						return wire.CheckStatus{Blocks: 4, Error: "too many open files"}
					}
				})
				if _, err := r.CheckStorage(t.Context(), "http://s1"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(20 * time.Second)
				if n := r.nodeOf(t, "http://s1"); n.State == "valid" || n.Aborted == nil {
					t.Errorf("not all was looked at: %+v", n)
				}
				r.on("http://s1", func(s *masterstest.Storage) {
					if s.Bad[3] || checks > 8 {
						t.Errorf("block 3 is bad: %v; %d checks", s.Bad[3], checks)
					}
					s.Report = nil
				})
				r.allValid(t, 2*time.Minute)
				r.readsAll(t, payloads)
				if i := r.Integrity(t.Context()); !hasEvent(i, "finding") || i.Totals.Repairs == 0 {
					t.Errorf("%+v", i.Totals)
				}
			})
		})
	}
}

// TestRepairWhoseCheckCouldNotLook checks that a repair does not succeed if its check ended early, also if a node of an
// older version reports it.
func TestRepairWhoseCheckCouldNotLook(t *testing.T) {
	for name, status := range map[string]wire.CheckStatus{
		"older": {Report: &wire.Report{}}, "with an error": {Error: "too many open files"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := newDamageRig(t, func(c *Config, _ *rig) { c.CheckInterval = 0 })
				defer r.stop()
				first, before := true, r.Integrity(t.Context()).Totals
				r.on("http://s1", func(s *masterstest.Storage) {
					s.Bad[3] = true
					s.Report = func(wire.CheckOrder) wire.CheckStatus {
						if first {
							first = false
							return wire.CheckStatus{Report: &wire.Report{
								Bad:      []chain.Range{{From: 3, To: 4}},
								Findings: []wire.Finding{{Block: 3, What: chain.WrongPayload}}, Unchecked: 4,
							}}
						}
						return status
					}
				})
				if _, err := r.CheckStorage(t.Context(), "http://s1"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(20 * time.Second)
				if n := r.nodeOf(t, "http://s1"); n.State == "valid" {
					t.Errorf("%+v", n)
				}
				if i := r.Integrity(t.Context()); i.Totals.Repairs != before.Repairs ||
					i.Totals.FailedRepairs == before.FailedRepairs || i.Totals.FailedRepairs > before.FailedRepairs+5 {
					t.Errorf("%+v, before %+v", i.Totals, before)
				}
				r.on("http://s1", func(s *masterstest.Storage) { s.Report = nil })
				r.allValid(t, 2*time.Minute)
				if n := r.nodeOf(t, "http://s1"); n.Aborted != nil {
					t.Errorf("after a good check: %+v", n.Aborted)
				}
			})
		})
	}
}

// TestRepairThatNeverBegan checks that bad blocks stay bad in the table if the receiver of the repair never replies.
func TestRepairThatNeverBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, payloads := newDamageRig(t, func(c *Config, _ *rig) { c.CheckInterval = 0 })
		defer r.stop()
		r.on("http://s1", func(s *masterstest.Storage) { s.Bad[3], s.ReceiveErr = true, errors.New("HTTP 500") })
		if _, err := r.CheckStorage(t.Context(), "http://s1"); err != nil {
			t.Fatal(err)
		}
		for range 200 {
			time.Sleep(100 * time.Millisecond)
			n := r.nodeOf(t, "http://s1")
			if broken := n.State == "invalid" || n.State == "receiving"; broken &&
				!slices.Equal(n.Bad, []chain.Range{{From: 3, To: 4}}) {
				t.Fatalf("nothing was received, and yet: %+v", n)
			}
		}
		if i := r.Integrity(t.Context()); i.Totals.FailedRepairs == 0 {
			t.Errorf("%+v", i.Totals)
		}
		r.on("http://s1", func(s *masterstest.Storage) { s.ReceiveErr = nil })
		r.allValid(t, 2*time.Minute)
		r.readsAll(t, payloads)
	})
}

// TestFindingsThatAreTooLong checks that the check of a node ends, whatever the node reports, and that the other nodes
// are still checked.
func TestFindingsThatAreTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newDamageRig(t, nil)
		defer r.stop()
		r.on("http://s1", func(s *masterstest.Storage) {
			s.Report = func(o wire.CheckOrder) wire.CheckStatus {
				long := strings.Repeat("long ", 1000)
				return wire.CheckStatus{Report: &wire.Report{Unchecked: o.Height,
					Findings: []wire.Finding{{What: long, Detail: long}}}}
			}
		})
		before := r.Integrity(t.Context()).Totals.Checks
		time.Sleep(30 * time.Second)
		if now := r.Integrity(t.Context()).Totals.Checks; now < before+9 {
			t.Errorf("%d checks, before %d", now, before)
		}
	})
}

// TestNodeOnAnotherChain checks that the leader finds the first block in which a node's chain differs from the group's,
// and that the node then gets the group's blocks from there on.
func TestNodeOnAnotherChain(t *testing.T) {
	for _, fork := range []uint64{0, 7, 19} {
		synctest.Test(t, func(t *testing.T) {
			r, _ := newDamageRig(t, func(c *Config, _ *rig) { c.CheckInterval = 0 })
			defer r.stop()
			r.on("http://s1", func(s *masterstest.Storage) {
				s.CutAt(fork)
				now := uint64(time.Now().UnixMilli())
				for range 20 - fork {
					s.Mine(now, chain.Record{Project: 1, Time: now, Payload: []byte("of another chain")})
				}
			})
			before := r.Integrity(t.Context()).Totals
			if _, err := r.CheckStorage(t.Context(), "http://s1"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			i := r.Integrity(t.Context())
			found := slices.ContainsFunc(i.Events, func(e wire.Event) bool {
				return e.Kind == wire.EventFinding && slices.ContainsFunc(e.Findings, func(f wire.Finding) bool {
					return f.Block == fork && f.What == chain.WrongChain
				})
			})
			if !found {
				t.Errorf("fork at %d: no such finding in %+v", fork, i.Events)
			}
			sent := i.Totals.RepairedBlocks - before.RepairedBlocks
			if n := r.nodeOf(t, "http://s1"); n.State != "valid" || sent != 20-fork {
				t.Errorf("fork at %d: %+v, %d blocks were sent", fork, n, sent)
			}
			var want, got chain.Hash
			r.on("http://s0", func(s *masterstest.Storage) { want = s.Status().Hash })
			r.on("http://s1", func(s *masterstest.Storage) { got = s.Status().Hash })
			if got != want {
				t.Errorf("fork at %d: its chain ends in %v, that of another node in %v", fork, got, want)
			}
		})
	}
}

// TestCheckFindsAnotherChain checks that the leader looks for the first block that differs if a check reports that the
// chain on the disk is another one, although the node still confirms the group's chain.
func TestCheckFindsAnotherChain(t *testing.T) {
	for _, fork := range []uint64{0, 7, 19} {
		synctest.Test(t, func(t *testing.T) {
			r, _ := newDamageRig(t, func(c *Config, _ *rig) { c.CheckInterval = 0 })
			defer r.stop()
			r.on("http://s1", func(s *masterstest.Storage) {
				s.Report = func(order wire.CheckOrder) wire.CheckStatus {
					return wire.CheckStatus{Report: &wire.Report{Other: true, Unchecked: order.Height}}
				}
				s.LieHeaders = func(headers []wire.ProvenHeader) []wire.ProvenHeader {
					for i := range headers {
						if headers[i].Header.Block >= fork {
							headers[i].Header.Nonce++
						}
					}
					return headers
				}
			})
			if _, err := r.CheckStorage(t.Context(), "http://s1"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(1500 * time.Millisecond)
			r.on("http://s1", func(s *masterstest.Storage) { s.Report, s.LieHeaders = nil, nil })
			ranges := []chain.Range{{From: fork, To: 20}}
			found := slices.ContainsFunc(r.Integrity(t.Context()).Events, func(e wire.Event) bool {
				return slices.ContainsFunc(e.Findings, func(f wire.Finding) bool {
					return f.Block == fork && f.What == chain.WrongChain && slices.Equal(e.Ranges, ranges) &&
						f.DetailCoded.Code == wire.CodeOtherChain && f.DetailCoded.Args["block"] == fork
				})
			})
			if !found {
				t.Errorf("fork at %d: no such finding in %+v", fork, r.Integrity(t.Context()).Events)
			}
			time.Sleep(time.Minute)
			if n := r.nodeOf(t, "http://s1"); n.State != "valid" || n.Due != "" {
				t.Errorf("fork at %d: %+v", fork, n)
			}
		})
	}
}
