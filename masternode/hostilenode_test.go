package masternode

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// TestCheckThatNeverEnds checks that a check which never ends is aborted, stays due, and leaves the others their turns.
func TestCheckThatNeverEnds(t *testing.T) {
	var polls uint64
	for name, c := range map[string]struct {
		answer func(*wire.CheckStatus)
		within time.Duration
	}{
		"without progress": {func(s *wire.CheckStatus) { s.Blocks, s.Bytes = 3, 70 }, 15 * time.Minute},
		"with numbers that fall and rise": {func(s *wire.CheckStatus) {
			polls++
			s.Blocks, s.Bytes = polls%19, polls%1000
		}, 15 * time.Minute},
		"with more bytes each time": {func(s *wire.CheckStatus) {
			polls++
			s.Blocks, s.Bytes = 3, polls
		}, 65 * time.Minute},
		"of more blocks than there are": {func(s *wire.CheckStatus) { s.Blocks = math.MaxUint64 }, 15 * time.Minute},
	} {
		if testing.Short() && c.within > 15*time.Minute {
			continue
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := newDamageRig(t, nil) // checks every five seconds
				defer r.stop()
				r.on("http://s1", func(s *masterstest.Storage) {
					s.LieCheck = func(status *wire.CheckStatus) {
						*status = wire.CheckStatus{Check: status.Check}
						c.answer(status)
					}
				})
				time.Sleep(20 * time.Second) // until it is being checked
				before := r.nodeOf(t, "http://s2").Checked
				if n := r.nodeOf(t, "http://s1"); n.State != "validating" {
					t.Fatalf("%+v", n)
				}
				time.Sleep(c.within)
				if n := r.nodeOf(t, "http://s2"); n.Checked == before {
					t.Errorf("another node has not been checked since: %+v", n)
				}
				n := r.nodeOf(t, "http://s1")
				if n.State != "valid" || n.DueCoded.Code != wire.CodeCheckOverdue || n.Aborted == nil {
					t.Errorf("%+v", n)
				}
				// The others have at least half of the time.
				checks := r.Integrity(t.Context()).Totals.Checks
				time.Sleep(10 * time.Minute)
				if more := r.Integrity(t.Context()).Totals.Checks - checks; more < 50 {
					t.Errorf("%d checks in ten minutes", more)
				}
				r.on("http://s1", func(s *masterstest.Storage) { s.LieCheck = nil })
				time.Sleep(2 * c.within)
				if n := r.nodeOf(t, "http://s1"); n.State != "valid" || n.Due != "" {
					t.Errorf("after an honest check: %+v", n)
				}
			})
		})
	}
}

// TestNodeThatHangsAfterItsCheck checks that a node which reports another chain and then does not answer any more keeps
// no other node from being checked.
func TestNodeThatHangsAfterItsCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hangs atomic.Bool
		r, _ := newDamageRig(t, func(_ *Config, r *rig) {
			delay := r.workers.Delay
			r.workers.Delay = func(url string) time.Duration {
				if hangs.Load() && url == "http://s1" {
					return 24 * time.Hour
				}
				return delay(url)
			}
		})
		defer r.stop()
		r.on("http://s1", func(s *masterstest.Storage) {
			s.Report = func(wire.CheckOrder) wire.CheckStatus {
				hangs.Store(true)
				return wire.CheckStatus{Report: &wire.Report{Other: true, Unchecked: 20}}
			}
		})
		time.Sleep(30 * time.Second)
		before := r.nodeOf(t, "http://s2").Checked
		time.Sleep(2 * time.Minute) // it may be the sender of a repair, which ends after a minute
		if n := r.nodeOf(t, "http://s2"); !hangs.Load() || n.Checked == before {
			t.Errorf("another node has not been checked since: %+v", n)
		}
	})
}

// TestReportThatTheTableRefuses checks that the check ends although the table refuses its report.
func TestReportThatTheTableRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newDamageRig(t, nil)
		defer r.stop()
		r.on("http://s1", func(s *masterstest.Storage) {
			s.Report = func(o wire.CheckOrder) wire.CheckStatus {
				what := strings.Repeat("\xff", 500) // in the command each byte has three
				return wire.CheckStatus{Report: &wire.Report{Unchecked: o.Height,
					Findings: []wire.Finding{{What: what}}}}
			}
		})
		before := r.Integrity(t.Context()).Totals.Checks
		time.Sleep(30 * time.Second)
		if now := r.Integrity(t.Context()).Totals.Checks; now < before+5 {
			t.Errorf("%d checks, before %d", now, before)
		}
		// After three such checks it does not count as a copy.
		if n := r.nodeOf(t, "http://s1"); n.Aborted == nil || n.State != "invalid" && n.State != "receiving" {
			t.Errorf("%+v", n)
		}
	})
}

// TestReportOfManyRanges checks that a report of very many ranges takes no time.
func TestReportOfManyRanges(t *testing.T) {
	var many []chain.Range
	for i := range uint64(50_000) {
		many = append(many, chain.Range{From: 2 * i, To: 2*i + 1})
	}
	synctest.Test(t, func(t *testing.T) {
		r, _ := newDamageRig(t, nil)
		defer r.stop()
		r.on("http://s1", func(s *masterstest.Storage) {
			s.Report = func(o wire.CheckOrder) wire.CheckStatus {
				return wire.CheckStatus{Report: &wire.Report{Unchecked: o.Height, Bad: slices.Clone(many)}}
			}
			s.LieReceive = func(status *wire.ReceiveStatus) { status.Missing = slices.Clone(many) }
		})
		time.Sleep(time.Minute)
		// Its repair is under way, and the other nodes are its sender and the last valid one.
		found := func(e wire.Event) bool { return e.Kind == wire.EventFinding && e.URL == "http://s1" }
		if events := r.Integrity(t.Context()).Events; !slices.ContainsFunc(events, found) {
			t.Errorf("the check has not ended: %+v", events)
		}
	})
}

// TestUnreadOfManyRanges checks that a list of very many blocks that a node cannot read takes no time, if it has bad
// ones too.
func TestUnreadOfManyRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newDamageRig(t, nil)
		defer r.stop()
		checks := 0
		r.on("http://s1", func(s *masterstest.Storage) {
			s.Report = func(o wire.CheckOrder) wire.CheckStatus {
				status := wire.CheckStatus{Error: "input/output error", Unread: &wire.Report{Unchecked: o.Height}}
				for i := range uint64(50_000) {
					status.Unread.Bad = append(status.Unread.Bad, chain.Range{From: 2 * i, To: 2*i + 1})
				}
				if checks++; checks > 2 { // from the third on, what it cannot read counts as bad
					status.Report = &wire.Report{Unchecked: 1, Bad: []chain.Range{{From: 1, To: 2}}}
				}
				return status
			}
		})
		began := processorTime()
		time.Sleep(2 * time.Minute)
		took, seen := processorTime()-began, 0
		r.on("http://s1", func(*masterstest.Storage) { seen = checks })
		if seen < 3 || took > 30*time.Second {
			t.Errorf("%d checks, %v of processor time", seen, took)
		}
	})
}

// processorTime returns the processor time that this process has used, which the clock of a bubble does not show.
func processorTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// TestForkBesideLostBlocks checks that the first block that differs is found although the group's headers there are
// lost.
func TestForkBesideLostBlocks(t *testing.T) {
	for fork, want := range map[uint64]uint64{
		2: 2, 7: 7, 19: 19,
		12: 9, // the node cannot read the headers before it, so nothing shows that these are the group's
	} {
		synctest.Test(t, func(t *testing.T) {
			r, _ := newDamageRig(t, func(c *Config, _ *rig) { c.CheckInterval = 0 })
			defer r.stop()
			lost := func(block uint64) bool { return block >= 9 && block < 12 }
			r.onAll(func(s *masterstest.Storage) {
				s.Report = func(o wire.CheckOrder) wire.CheckStatus {
					return wire.CheckStatus{Report: &wire.Report{
						Unchecked: o.Height, Bad: []chain.Range{{From: 9, To: 12}},
						Findings: []wire.Finding{{Block: 9, What: chain.WrongPayload}},
					}}
				}
				s.LieHeaders = func(list []wire.ProvenHeader) []wire.ProvenHeader {
					at := slices.IndexFunc(list, func(h wire.ProvenHeader) bool { return lost(h.Header.Block) })
					if at >= 0 {
						list = list[:at]
					}
					return list
				}
				for block := range uint64(20) {
					s.Bad[block] = lost(block)
				}
			})
			for _, url := range []string{"http://s0", "http://s1", "http://s2"} {
				if _, err := r.CheckStorage(t.Context(), url); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Second)
			}
			if got := r.Integrity(t.Context()).Lost; !slices.Equal(got, []chain.Range{{From: 9, To: 12}}) {
				t.Fatalf("lost: %v", got)
			}
			for block := uint64(9); block < 12; block++ {
				if _, err := r.ConfirmLost(t.Context(), block); err != nil {
					t.Fatal(err)
				}
			}
			r.on("http://s1", func(s *masterstest.Storage) {
				readable := s.LieHeaders
				s.LieHeaders = func(list []wire.ProvenHeader) []wire.ProvenHeader {
					list = readable(list)
					for i := range list {
						if list[i].Header.Block >= fork {
							list[i].Header.Nonce++
						}
					}
					return list
				}
				s.Report = func(o wire.CheckOrder) wire.CheckStatus {
					return wire.CheckStatus{Report: &wire.Report{Unchecked: o.Height, Other: true}}
				}
			})
			if _, err := r.CheckStorage(t.Context(), "http://s1"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
			found := slices.ContainsFunc(r.Integrity(t.Context()).Events, func(e wire.Event) bool {
				return slices.ContainsFunc(e.Findings, func(f wire.Finding) bool {
					return f.Block == want && f.What == chain.WrongChain && f.DetailCoded.Code == wire.CodeOtherChain
				})
			})
			if !found {
				t.Errorf("fork at %d: %+v", fork, r.Integrity(t.Context()).Events)
			}
		})
	}
}

// TestRepairsBesideALiar checks that neither a receiver that never has everything nor a sender that sends nothing keeps
// another node from being repaired.
func TestRepairsBesideALiar(t *testing.T) {
	for name, c := range map[string]struct {
		lie    func(s0, s1 *masterstest.Storage)
		within time.Duration
	}{
		"a receiver that always has more": {func(_, s1 *masterstest.Storage) {
			blocks := uint64(0)
			s1.LieReceive = func(status *wire.ReceiveStatus) {
				blocks++
				status.Blocks, status.Missing = blocks, []chain.Range{{From: 3, To: 4}}
			}
			s1.Bad[3] = true
		}, 5 * time.Minute},
		"a receiver whose check never ends": {func(_, s1 *masterstest.Storage) {
			read := uint64(0)
			s1.Bad[3] = true
			s1.Report = func(wire.CheckOrder) wire.CheckStatus {
				return wire.CheckStatus{Report: &wire.Report{Bad: []chain.Range{{From: 3, To: 4}}, Unchecked: 4}}
			}
			s1.LieReceive = func(status *wire.ReceiveStatus) {
				s1.LieCheck = func(status *wire.CheckStatus) {
					read++
					*status = wire.CheckStatus{Check: status.Check, Bytes: read}
				}
			}
		}, 70 * time.Minute},
		"a sender that says that it sends": {func(s0, _ *masterstest.Storage) {
			blocks := uint64(0)
			s0.LieSend = func(status *wire.SendStatus) {
				blocks++
				*status = wire.SendStatus{Running: true, Blocks: blocks}
			}
		}, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := newDamageRig(t, func(c *Config, _ *rig) { c.CheckInterval = 0 })
				defer r.stop()
				s0, s1 := r.workers.Storages["http://s0"], r.workers.Storages["http://s1"]
				r.on("http://s0", func(*masterstest.Storage) {
					s1.Mu.Lock()
					defer s1.Mu.Unlock()
					c.lie(s0, s1)
				})
				if _, err := r.CheckStorage(t.Context(), "http://s1"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Second)
				r.on("http://s2", func(s *masterstest.Storage) { s.Bad[5] = true })
				if _, err := r.CheckStorage(t.Context(), "http://s2"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(c.within)
				if n := r.nodeOf(t, "http://s2"); n.State != "valid" || n.Due != "" {
					t.Errorf("%+v", n)
				}
			})
		})
	}
}

// hostile returns answers of a storage node that are random and often impossible.
type hostile struct{ *rand.Rand }

func (h hostile) number() uint64 {
	return []uint64{0, 1, h.Uint64N(25), 20, 21, 1 << 40, math.MaxUint64 - h.Uint64N(3)}[h.IntN(7)]
}

var longText = strings.Repeat("a\x00\xffé", 10_000)

func (h hostile) text() string { return longText[:[]int{0, 3, 1500, len(longText)}[h.IntN(4)]] }

func (h hostile) ranges() (list []chain.Range) {
	for range []int{0, 1, 3, 70, 5000}[h.IntN(5)] {
		list = append(list, chain.Range{From: h.number(), To: h.number()})
	}
	return list
}

func (h hostile) status(s *wire.StorageStatus) {
	switch h.IntN(4) {
	case 0:
		s.Height, s.Size = h.number(), h.number()
	case 1:
		s.Hash[0] ^= 1
	case 2:
		s.Inbox = chain.Range{From: h.number(), To: h.number()}
	}
}

func (h hostile) check(s *wire.CheckStatus) {
	s.Blocks, s.Bytes, s.Total, s.Millis = h.number(), h.number(), h.number(), h.number()
	s.Report, s.Error = nil, ""
	if h.IntN(8) == 0 {
		s.Error = h.text()
	}
	if h.IntN(4) > 0 {
		return
	}
	s.Report = &wire.Report{
		Bad: h.ranges(), Unchecked: h.number(), Other: h.IntN(2) == 0, Tiles: h.number(),
	}
	for range []int{0, 1, 70, 5000}[h.IntN(4)] {
		s.Report.Findings = append(s.Report.Findings, wire.Finding{
			Block: h.number(), What: []string{chain.WrongShort, chain.WrongChain, h.text()}[h.IntN(3)],
			Detail: h.text(),
			DetailCoded: wire.Message{Code: []string{"", wire.CodeOtherChain, h.text()}[h.IntN(3)],
				Args: wire.Args{"block": h.text(), h.text(): h.number()}},
		})
	}
}

func (h hostile) receive(s *wire.ReceiveStatus) {
	h.status(&s.StorageStatus)
	s.Blocks, s.Bytes = h.number(), h.number()
	if h.IntN(2) == 0 {
		s.Missing = h.ranges()
	}
	for range h.IntN(3) * 10 {
		s.Changed = append(s.Changed, h.text())
	}
}

func (h hostile) send(s *wire.SendStatus) {
	*s = wire.SendStatus{
		Running: h.IntN(2) == 0, Blocks: h.number(), Bytes: h.number(), Error: h.text(), Faulty: h.IntN(4) == 0,
	}
}

// TestHostileStorageNode checks that whatever one storage node answers, the others are checked and repaired, and blocks
// are mined and stored.
func TestHostileStorageNode(t *testing.T) {
	seeds, rounds := 4, 6
	if testing.Short() {
		seeds, rounds = 1, 4
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := newDamageRig(t, nil)
				defer r.stop()
				h, damaged := hostile{rand.New(rand.NewPCG(uint64(seed), 14))}, rand.New(rand.NewPCG(uint64(seed), 15))
				r.on("http://s1", func(s *masterstest.Storage) {
					s.LieStatus, s.LieCheck, s.LieReceive, s.LieSend = h.status, h.check, h.receive, h.send
					if seed%3 == 0 { // checks begin only if the node is valid
						s.LieStatus = nil
					}
				})
				for range rounds {
					before := map[string]uint64{}
					for _, n := range r.Integrity(t.Context()).Nodes {
						before[n.URL] = n.Checked
					}
					r.on("http://s2", func(s *masterstest.Storage) { s.Bad[damaged.Uint64N(20)] = true })
					a, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte("x")}}, "")
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(3 * time.Minute)
					for _, url := range []string{"http://s0", "http://s2"} {
						n := r.nodeOf(t, url)
						if n.Checked == before[url] || n.State != "valid" && n.State != "validating" &&
							n.State != "sending" {
							t.Fatalf("%+v, checked before at %d", n, before[url])
						}
					}
					r.on("http://s2", func(s *masterstest.Storage) {
						for block, bad := range s.Bad {
							if bad {
								t.Errorf("block %d is still damaged", block)
							}
						}
					})
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					if err := r.WaitStored(ctx, a.Positions[0].Block); err != nil {
						t.Errorf("block %d is not stored: %v", a.Positions[0].Block, err)
					}
					cancel()
				}
			})
		})
	}
}
