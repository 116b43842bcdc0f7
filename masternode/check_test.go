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

// TestRepairLosesABlock checks that a block that a node could not copy during a repair counts as bad, although the
// check before did not find it. It is received next.
func TestRepairLosesABlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newDamageRig(t, func(c *Config, _ *rig) { c.CheckInterval = 0 })
		defer r.stop()
		first := ""
		r.on("http://s1", func(s *masterstest.Storage) {
			s.Bad[3] = true
			s.LieReceive = func(status *wire.ReceiveStatus) {
				if first == "" {
					first, s.Bad[5] = s.Ticket, true
				}
				if s.Ticket == first {
					status.Lost = []chain.Range{{From: 5, To: 6}}
				}
			}
		})
		if _, err := r.CheckStorage(t.Context(), "http://s1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		r.on("http://s1", func(s *masterstest.Storage) {
			if len(s.Bad) > 0 {
				t.Errorf("bad: %v", s.Bad)
			}
		})
		if n := r.nodeOf(t, "http://s1"); n.State != "valid" {
			t.Errorf("%+v", n)
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
			if bad != (n.Checked == checked[n.URL]) || bad != (n.Due != "") ||
				bad != (n.State == "invalid" || n.State == "receiving") {
				t.Errorf("%+v", n)
			}
		}
		if got := r.Figures().WholeStorages; got != 2 {
			t.Errorf("%d nodes count as copies", got)
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

// haveFork makes a storage node report another chain, which differs from a block on.
func haveFork(s *masterstest.Storage, from uint64) {
	s.Report = func(order wire.CheckOrder) wire.CheckStatus {
		return wire.CheckStatus{Report: &wire.Report{Other: true, Unchecked: order.Height}}
	}
	s.LieHeaders = func(headers []wire.ProvenHeader) []wire.ProvenHeader {
		for i := range headers {
			if headers[i].Header.Block >= from {
				headers[i].Header.Nonce++
			}
		}
		return headers
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
				haveFork(s, fork)
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

// TestNodeThatCanReadNoBlock checks that a node that can read no block does not count as a copy after three checks. If
// other nodes have the blocks, it receives them again; otherwise no block counts as bad or lost, and the node counts
// again when it can read them.
func TestNodeThatCanReadNoBlock(t *testing.T) {
	for _, alone := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r, _ := newDamageRig(t, func(c *Config, _ *rig) { c.CheckInterval = 0 })
			defer r.stop()
			if alone {
				for _, url := range []string{"http://s0", "http://s2"} {
					if err := r.RemoveStorage(t.Context(), url, true); err != nil {
						t.Fatal(err)
					}
				}
			}
			broken := func(o wire.CheckOrder) wire.CheckStatus {
				status := wire.CheckStatus{Error: "input/output error"}
				if o.UnreadAll && o.Unread {
					status.Unread = &wire.Report{Bad: []chain.Range{{To: o.Height}}, Unchecked: o.Height}
				}
				return status
			}
			r.on("http://s1", func(s *masterstest.Storage) {
				s.Report = broken
				for block := range uint64(20) {
					s.Bad[block] = !alone // until it is received
				}
			})
			if _, err := r.CheckStorage(t.Context(), "http://s1"); err != nil {
				t.Fatal(err)
			}
			copies := 2
			if alone {
				copies = 0
			}
			for tries := 0; r.Figures().WholeStorages > copies && tries < 600; tries++ {
				time.Sleep(100 * time.Millisecond)
			}
			time.Sleep(100 * time.Millisecond)
			i, n := r.Integrity(t.Context()), r.nodeOf(t, "http://s1")
			if alone && (len(n.Bad) > 0 || len(i.Lost) > 0 || r.Figures().Unchecked != 1) {
				t.Errorf("alone: %+v, lost %v", n, i.Lost)
			} else if !alone && !slices.Equal(n.Bad, []chain.Range{{To: 20}}) {
				t.Errorf("%+v", n)
			}
			r.on("http://s1", func(s *masterstest.Storage) { s.Report = nil })
			time.Sleep(time.Minute)
			if n := r.nodeOf(t, "http://s1"); n.State != "valid" || len(n.Bad) > 0 || n.Aborted != nil {
				t.Errorf("alone %v, afterwards: %+v", alone, n)
			}
			if got := r.Figures(); got.WholeStorages != copies+1 || got.Unchecked != 0 {
				t.Errorf("alone %v: %+v", alone, got)
			}
		})
	}
}

// TestAllBlocksOnBadSectors checks that the blocks of the only node are lost after three checks if it can read none of
// them, and its device reads. A person can confirm that, and the node counts again then.
func TestAllBlocksOnBadSectors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newDamageRig(t, func(c *Config, _ *rig) { c.CheckInterval = 0 })
		defer r.stop()
		for _, url := range []string{"http://s0", "http://s2"} {
			if err := r.RemoveStorage(t.Context(), url, true); err != nil {
				t.Fatal(err)
			}
		}
		all := []chain.Range{{To: 20}}
		r.on("http://s1", func(s *masterstest.Storage) {
			s.Report = func(o wire.CheckOrder) wire.CheckStatus {
				return wire.CheckStatus{
					Error: "input/output error", DeviceReads: true,
					Unread: &wire.Report{Bad: all, Unchecked: o.Height},
				}
			}
		})
		if _, err := r.CheckStorage(t.Context(), "http://s1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		i, n := r.Integrity(t.Context()), r.nodeOf(t, "http://s1")
		if !slices.Equal(i.Lost, all) || n.State != "invalid" {
			t.Fatalf("lost %v, %+v", i.Lost, n)
		}
		for block := range uint64(20) {
			if _, err := r.ConfirmLost(t.Context(), block); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if n := r.nodeOf(t, "http://s1"); n.State != "valid" {
			t.Errorf("confirmed: %+v", n)
		}
	})
}

// TestForkWithHeadersThatCannotBeRead checks that an error in place of a header does not count as another header: one
// that the node cannot read is passed over, and after any other error it is not known where the chains part.
func TestForkWithHeadersThatCannotBeRead(t *testing.T) {
	const fork, failing = 15, 10 // the search begins there
	page := &wire.Error{Problem: wire.Problem{Type: "about:blank", Title: "a page of a proxy", Status: 503}}
	busy := &wire.Error{Problem: wire.Problem{Type: wire.ProblemBase + wire.ErrUnavailable.Name, Status: 503}}
	for name, c := range map[string]struct {
		err  error
		code string
	}{
		"a page of a proxy":       {page, wire.CodeForkUnknown},
		"no answer":               {wire.ErrNoAnswer, wire.CodeForkUnknown},
		"a header it cannot read": {busy, wire.CodeOtherChain},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, _ := newDamageRig(t, func(c *Config, _ *rig) { c.CheckInterval = 0 })
			defer r.stop()
			r.on("http://s1", func(s *masterstest.Storage) {
				haveFork(s, fork)
				s.NoHeaders = func(from uint64) error {
					if from == failing {
						return c.err
					}
					return nil
				}
			})
			if _, err := r.CheckStorage(t.Context(), "http://s1"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(1500 * time.Millisecond)
			found := false
			for _, e := range r.Integrity(t.Context()).Events {
				for _, f := range e.Findings {
					if f.DetailCoded.Code == wire.CodeOtherChain && f.Block != fork {
						t.Errorf("%s: the chains part at block %d, not %d", name, f.Block, fork)
					}
					found = found || f.DetailCoded.Code == c.code
				}
			}
			if !found {
				t.Errorf("%s: no finding %s in %+v", name, c.code, r.Integrity(t.Context()).Events)
			}
		})
	}
}
