package masternode

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/masternode/prover"
	"github.com/chainstore/chainstore/wire"
	"github.com/hashicorp/go-hclog"
)

// listed is a record as a list must return it.
type listed struct {
	index uint64
	key   string
	text  string
	time  uint64
}

// newListRig returns a rig with records of three keys and, between them, records of another project. The masters drop
// stored records.
func newListRig(t *testing.T, storages, records int) (*rig, []listed, masterfsm.Access) {
	t.Helper()
	r := newRig(t, storages, func(c *Config, _ *rig) { c.Settings.RetainBytes = 0 })
	created, err := r.CreateProject(t.Context(), wire.NewProject{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	other, err := r.Access(t.Context(), created.Token, mayAsk)
	if err != nil {
		t.Fatal(err)
	}
	var all []listed
	for i := range records {
		all = r.appendListed(t, all, i)
		if i%5 == 0 {
			if _, err := r.Append(t.Context(), other.Project, []Entry{{Key: "k1", Payload: []byte("not yours")}},
				""); err != nil {
				t.Fatal(err)
			}
		}
	}
	return r, all, other
}

func (r *rig) appendListed(t *testing.T, all []listed, i int) []listed {
	t.Helper()
	l := listed{key: fmt.Sprint("k", i%3), text: fmt.Sprint("record ", i)}
	a, err := r.Append(t.Context(), r.project, []Entry{{Key: l.key, Payload: []byte(l.text)}}, "")
	if err != nil {
		t.Fatal(err)
	}
	l.index, l.time = a.Positions[0].Index, a.Positions[0].Time
	return append(all, l)
}

// pages reads a list to its end.
func (r *rig) pages(t *testing.T, q Query, limit int) (got []listed) {
	t.Helper()
	for range 1000 {
		page, err := r.List(t.Context(), r.access, q, limit)
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		if len(page.Records) > limit {
			t.Fatalf("a page of %d, the limit is %d", len(page.Records), limit)
		}
		for i := range page.Records {
			got = append(got, toListed(&page.Records[i]))
		}
		if !page.More {
			return got
		}
		q.From = page.Next
	}
	t.Fatal("a list without an end")
	return nil
}

func toListed(r *Record) listed {
	return listed{r.At.Index, r.Key, string(r.Payload), r.Time}
}

func only(all []listed, takes func(listed) bool) (some []listed) {
	for _, l := range all {
		if takes(l) {
			some = append(some, l)
		}
	}
	return some
}

func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, all, other := newListRig(t, 3, 150)
		defer r.stop()
		for round := range 2 {
			// First with records in the masters and in transit, then with everything except the open block on the
			// storage nodes.
			from, since, until := all[70].index, all[30].time, all[120].time
			for _, limit := range []int{1, 7, 50, wire.MaxPage} {
				for name, test := range map[string]struct {
					q    Query
					want []listed
				}{
					"all":   {Query{}, all},
					"a key": {Query{Key: "k1"}, only(all, func(l listed) bool { return l.key == "k1" })},
					"from":  {Query{From: from}, all[70:]},
					"times": {Query{Since: since, Until: until, Key: "k2"},
						only(all, func(l listed) bool { return l.key == "k2" && l.time >= since && l.time < until })},
					"by name": {Query{Project: "p", From: from + 1}, all[71:]},
					"by id":   {Query{Project: fmt.Sprint(r.project.ID)}, all},
					"nothing": {Query{Key: "k9"}, nil},
					"beyond":  {Query{From: 1 << 50}, nil},
				} {
					if got := r.pages(t, test.q, limit); !slices.Equal(got, test.want) {
						t.Fatalf("round %d, %s, limit %d: %d records, want %d\n%v\n%v", round, name, limit, len(got),
							len(test.want), got, test.want)
					}
				}
			}
			time.Sleep(10 * time.Second)
		}
		if held := r.table().HeldFrom; held < 5 {
			t.Fatalf("the masters hold the blocks from %d on: the second round had nothing to ask for", held)
		}
		if _, err := r.List(t.Context(), r.access, Query{Project: "other"}, 5); !errors.Is(err, wire.ErrForbidden) {
			t.Errorf("another's: %v", err)
		}
		if _, err := r.List(t.Context(), r.access, Query{Project: "nobody"}, 5); !errors.Is(err,
			masterfsm.ErrUnknownProject) {
			t.Errorf("an unknown project: %v", err)
		}
		for _, limit := range []int{0, -1, wire.MaxPage + 1} {
			if _, err := r.List(t.Context(), r.access, Query{}, limit); !errors.Is(err, wire.ErrBadRequest) {
				t.Errorf("limit %d: %v", limit, err)
			}
		}
		if page, err := r.List(t.Context(), other, Query{Key: "k1"}, 500); err != nil || len(page.Records) != 30 {
			t.Errorf("the other's own: %d, %v", len(page.Records), err)
		}
	})
}

// TestListsOfLiars checks that a list never contains a record that does not belong there, whatever a node's index
// reports, and that the lying node is skipped.
func TestListsOfLiars(t *testing.T) {
	lies := map[string]func(found *wire.RecordHits){
		"another key's":            func(f *wire.RecordHits) { f.Hits = []wire.Hit{{Index: 0, Block: 0, Offset: 0}} },
		"another project's":        func(f *wire.RecordHits) { f.Hits = []wire.Hit{{Index: 1, Block: 0, Offset: 1}} },
		"a seal":                   func(f *wire.RecordHits) { f.Hits = []wire.Hit{{Index: 16, Block: 0, Offset: 16}} },
		"a wrong block":            func(f *wire.RecordHits) { f.Hits = []wire.Hit{{Index: 2, Block: 1, Offset: 2}} },
		"backwards":                func(f *wire.RecordHits) { slices.Reverse(f.Hits) },
		"twice":                    func(f *wire.RecordHits) { f.Hits = append(f.Hits, f.Hits[len(f.Hits)-1]) },
		"beyond its end":           func(f *wire.RecordHits) { f.End = f.Hits[0].Index },
		"a block that is far away": func(f *wire.RecordHits) { f.Hits[0].Block = 1 << 60 },
		"the last block number":    func(f *wire.RecordHits) { f.Hits[0].Block = math.MaxUint64 },
		"beyond what was asked for": func(f *wire.RecordHits) {
			f.End = 1 << 60
		},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, all, _ := newListRig(t, 3, 80)
				defer r.stop()
				time.Sleep(10 * time.Second)
				liar := r.asked()[0]
				told := 0
				r.on(liar.URL, func(s *masterstest.Storage) {
					s.LieHits = func(f *wire.RecordHits) {
						if len(f.Hits) > 1 {
							told++
							lie(f)
						}
					}
				})
				want := only(all, func(l listed) bool { return l.key == "k1" })
				if got := r.pages(t, Query{Key: "k1"}, 50); !slices.Equal(got, want) {
					t.Errorf("%v, want %v", got, want)
				}
				if last := r.asked()[2]; told == 0 || last.ID != liar.ID {
					t.Errorf("%d lies, asked last: %s, not %s", told, last.ID, liar.ID)
				}
			})
		})
	}
}

// TestListOfANodeThatCrawls checks that a node whose answers have one hit each does not make a list take long.
func TestListOfANodeThatCrawls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, all, _ := newListRig(t, 3, 400)
		defer r.stop()
		time.Sleep(10 * time.Second)
		asked := 0
		r.on(r.asked()[0].URL, func(s *masterstest.Storage) {
			s.LieHits = func(f *wire.RecordHits) {
				asked++
				if len(f.Hits) > 0 {
					f.Hits, f.End = f.Hits[:1], f.Hits[0].Index+1
				}
			}
		})
		r.pages(t, Query{Key: "k1"}, 50)
		if asked > len(all)/50+1 {
			t.Errorf("asked %d times for %d records", asked, len(all))
		}
	})
}

// TestHashOfALiar checks that the word of one storage node is not enough for a 404 if others answer, and that false
// places of a hash end neither the search nor cost many reads.
func TestHashOfALiar(t *testing.T) {
	for name, lie := range map[string]func(*wire.RecordHits){
		"nothing": func(f *wire.RecordHits) { f.Hits = nil },
		"a block that is far away": func(f *wire.RecordHits) {
			f.Hits = []wire.Hit{{Index: 1 << 60, Block: 1 << 60, Offset: 3}}
		},
		"many other places": func(f *wire.RecordHits) {
			f.Hits = nil
			for i := range uint64(1_000_000) {
				f.Hits = append(f.Hits, wire.Hit{Index: i, Block: i % 3, Offset: uint32(i % 16)})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, all, _ := newListRig(t, 3, 60)
				defer r.stop()
				record, err := r.RecordByIndex(t.Context(), r.access, all[17].index)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Second)
				r.on(r.asked()[0].URL, func(s *masterstest.Storage) { s.LieHits = lie })
				began := time.Now()
				found, err := r.FindHash(t.Context(), record.Leaf)
				right := err == nil && found.Index != nil && *found.Index == all[17].index
				if !right || time.Since(began) > time.Second {
					t.Errorf("%+v, %v after %v", found, err, time.Since(began))
				}
			})
		})
	}
}

// TestListEndsWithItsReader checks that no further node is queried after the reader's deadline.
func TestListEndsWithItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, _ := newListRig(t, 3, 80)
		defer r.stop()
		time.Sleep(10 * time.Second)
		calls, workers := 0, *r.workers
		workers.Delay = func(string) time.Duration { calls++; return time.Second }
		for _, wait := range []time.Duration{0, time.Millisecond} {
			p := prover.New(prover.Config{
				Self: "m1", Ledger: r.ledger, Storages: &workers, Logger: hclog.NewNullLogger(), Clock: time.Now,
			})
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			before, first := calls, r.asked()[0]
			err := (&walk{n: &Node{prover: p}, limit: 1}).addStored(ctx, 3)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || calls-before != int(min(wait, 1)) {
				t.Errorf("%v, %d nodes were asked in %v", err, calls-before, wait)
			}
			if now := r.asked()[0]; now.ID != first.ID {
				t.Errorf("%s is passed over", first.ID)
			}
		}
	})
}

// TestListWaitsForTheIndex checks that a page reports that more follows if no index reaches far enough, and that a list
// beyond all indexes is reported as unavailable.
func TestListWaitsForTheIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, all, _ := newListRig(t, 2, 100)
		defer r.stop()
		time.Sleep(10 * time.Second)
		lag := func(n int) {
			for url := range r.workers.Storages {
				r.on(url, func(s *masterstest.Storage) { s.Lag = n })
			}
		}
		lag(3)
		page, err := r.List(t.Context(), r.access, Query{}, wire.MaxPage)
		if err != nil || !page.More || len(page.Records) == 0 || len(page.Records) >= 100 {
			t.Fatalf("%d records, more %v, %v", len(page.Records), page.More, err)
		}
		if _, err := r.List(t.Context(), r.access, Query{From: page.Next}, 10); !errors.Is(err, wire.ErrUnavailable) {
			t.Errorf("behind the indexes: %v", err)
		}
		lag(0)
		got := len(page.Records)
		if rest := r.pages(t, Query{From: page.Next}, 30); !slices.Equal(rest, all[got:]) {
			t.Errorf("the rest: %v", rest)
		}
		// A single node that lags has no effect.
		r.on("http://s0", func(s *masterstest.Storage) { s.Lag = 4 })
		if got := r.pages(t, Query{}, 30); !slices.Equal(got, all) {
			t.Errorf("%d records", len(got))
		}
		// Neither has a node that does not reply.
		r.on("http://s0", func(s *masterstest.Storage) { s.Lag, s.Down = 0, true })
		if got := r.pages(t, Query{}, 30); !slices.Equal(got, all) {
			t.Errorf("%d records", len(got))
		}
	})
}

// TestAnEmptyListIsTheLeadersWord checks that a master without a leader lists the records that it knows, but does not
// report that the list is complete.
func TestAnEmptyListIsTheLeadersWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, all, _ := newListRig(t, 2, 20)
		defer r.stop()
		time.Sleep(5 * time.Second)
		r.ledger.Mu.Lock()
		r.ledger.Leads = false
		r.ledger.Mu.Unlock()
		page, err := r.List(t.Context(), r.access, Query{}, 500)
		if err != nil || len(page.Records) != len(all) || !page.More {
			t.Errorf("%d records, more %v, %v", len(page.Records), page.More, err)
		}
		if _, err := r.List(t.Context(), r.access, Query{From: page.Next}, 500); !errors.Is(err, wire.ErrNoLeader) {
			t.Errorf("an empty page: %v", err)
		}
		r.ledger.Mu.Lock()
		r.ledger.Leads = true
		r.ledger.Mu.Unlock()
	})
}

func TestListWithoutLostBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, payloads := newDamageRig(t, nil)
		defer r.stop()
		for url := range r.workers.Storages {
			r.on(url, func(s *masterstest.Storage) {
				s.Bad[3] = true
				s.Lie = func(a *wire.ProvenRecord) {
					if a.Status == wire.ReadFound {
						if rec, err := chain.ParseRecord(a.Record); err == nil &&
							slices.ContainsFunc(payloads[48:64],
								func(p []byte) bool { return string(p) == string(rec.Payload) }) {
							*a = wire.ProvenRecord{Status: wire.ReadBad}
						}
					}
				}
			})
		}
		time.Sleep(time.Minute)
		page, err := r.List(t.Context(), r.access, Query{}, wire.MaxPage)
		if err != nil || len(page.Records) != 48 || !page.More {
			t.Fatalf("before a loss is confirmed: %d records, more %v, %v", len(page.Records), page.More, err)
		}
		if _, err := r.ConfirmLost(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		if got := r.pages(t, Query{}, 100); len(got) != len(payloads)-16 {
			t.Errorf("%d records, %d are left", len(got), len(payloads)-16)
		}
	})
}

func TestBlockRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, all, _ := newListRig(t, 2, 60)
		defer r.stop()
		for range 2 {
			for block := range uint64(5) {
				seen := 0
				for from := uint32(0); ; {
					list, more, err := r.BlockRecords(t.Context(), r.access, block, from, 5)
					if err != nil {
						t.Fatal(err)
					}
					for i := range list {
						b := &list[i]
						if b.At.Block != block || b.At.Offset != from+uint32(i) {
							t.Fatalf("block %d from %d: %+v", block, from, b.At)
						}
						mine := slices.IndexFunc(all, func(l listed) bool { return l.index == b.At.Index })
						if b.Hidden != (mine < 0) || b.Hidden &&
							(b.Payload != nil || b.Key != "" || b.Leaf != chain.Hash{}) || !b.Hidden &&
							toListed(&b.Record) != all[mine] {
							t.Errorf("%+v", b)
						}
					}
					seen += len(list)
					from += uint32(len(list))
					if !more {
						break
					}
				}
				if seen != 16 && block < 4 {
					t.Errorf("block %d: %d records", block, seen)
				}
			}
			time.Sleep(10 * time.Second)
		}
		if _, _, err := r.BlockRecords(t.Context(), r.access, 99, 0, 5); !errors.Is(err, wire.ErrNotFound) {
			t.Errorf("no such block: %v", err)
		}
		if list, more, err := r.BlockRecords(t.Context(), r.access, 0, 1000, 5); err != nil || more || len(list) > 0 {
			t.Errorf("behind its end: %d, %v, %v", len(list), more, err)
		}
	})
}

func TestFindHashAndProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, all, other := newListRig(t, 2, 60)
		defer r.stop()
		prove := func(reader masterfsm.Access, index uint64) (wire.Proof, error) {
			record, err := r.RecordByIndex(t.Context(), reader, index)
			if err != nil {
				return wire.Proof{}, err
			}
			return r.Prove(t.Context(), record)
		}
		if _, err := prove(r.access, all[59].index); !errors.Is(err, wire.ErrNotSealed) {
			t.Errorf("the proof of the newest: %v", err)
		}
		for range 2 {
			for _, i := range []int{0, 17, 59} {
				record, err := r.RecordByIndex(t.Context(), r.access, all[i].index)
				if err != nil {
					t.Fatal(err)
				}
				found, err := r.FindHash(t.Context(), record.Leaf)
				if err != nil || found.Kind != wire.KindRecord || found.Block != record.At.Block ||
					*found.Offset != record.At.Offset || *found.Index != record.At.Index {
					t.Errorf("record %d: %+v, %v", i, found, err)
				}
			}
			time.Sleep(10 * time.Second)
		}
		h, err := r.Block(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, hash := range []chain.Hash{h.Hash(), h.SealHash()} {
			if found, err := r.FindHash(t.Context(), hash); err != nil || found.Kind != wire.KindBlock ||
				found.Block != 2 || found.Index != nil {
				t.Errorf("%+v, %v", found, err)
			}
		}
		if _, err := r.FindHash(t.Context(), chain.Hash{1}); !errors.Is(err, wire.ErrNotFound) {
			t.Errorf("an unknown hash: %v", err)
		}
		for i := range all {
			p, err := prove(r.access, all[i].index)
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := chain.ParseLeaf(p.LeafData)
			header := p.Header.Header()
			record := chain.Proof{Index: p.Index, Size: header.Seal(), Path: p.RecordPath}
			seal := chain.Proof{Index: p.SealIndex, Size: p.Size, Path: p.SealPath}
			if err = errors.Join(err, record.Check(leaf.Hash(), header.Root),
				seal.Check(header.SealHash(), p.Root)); err != nil || leaf.Hash() != p.Leaf {
				t.Fatalf("record %d: %v", i, err)
			}
		}
		if _, err := prove(other, all[0].index); !errors.Is(err, wire.ErrForbidden) {
			t.Errorf("another's proof: %v", err)
		}
		if _, err := prove(r.access, 16); !errors.Is(err, wire.ErrSealIndex) {
			t.Errorf("of a seal: %v", err)
		}
		// A hash is not reported as unknown if it may be missing only from the available indexes.
		for url := range r.workers.Storages {
			r.on(url, func(s *masterstest.Storage) { s.Lag = 2 })
		}
		if _, err := r.FindHash(t.Context(), chain.Hash{1}); !errors.Is(err, wire.ErrUnavailable) {
			t.Errorf("with indexes that lag: %v", err)
		}
	})
}

// sink collects the records of a stream.
type sink struct {
	mu    sync.Mutex
	got   []listed
	alive []uint64
	fail  error
}

func (s *sink) Records(records []Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range records {
		s.got = append(s.got, toListed(&records[i]))
	}
	return s.fail
}

func (s *sink) Alive(next uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alive = append(s.alive, next)
	return s.fail
}

func (s *sink) seen() ([]listed, []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got), slices.Clone(s.alive)
}

func (r *rig) who(context.Context) (masterfsm.Access, error) { return r.access, nil }

func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, all, _ := newListRig(t, 3, 100)
		defer r.stop()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		queries := []StreamQuery{
			{},
			{Query: Query{Key: "k2"}},
			{Query: Query{From: all[50].index}},
			{Now: true},
			{Query: Query{Key: "k9"}},
		}
		sinks := make([]sink, len(queries))
		var ended sync.WaitGroup
		for i, q := range queries {
			ended.Go(func() {
				if err := r.Stream(ctx, q, r.who, &sinks[i]); !errors.Is(err, context.Canceled) {
					t.Errorf("stream %d: %v", i, err)
				}
			})
		}
		synctest.Wait()
		begin := len(all)
		for i := range 200 {
			all = r.appendListed(t, all, 100+i)
			if i%20 == 0 {
				time.Sleep(1500 * time.Millisecond)
			}
		}
		time.Sleep(15 * time.Second)
		wants := [][]listed{all, only(all, func(l listed) bool { return l.key == "k2" }), all[50:], all[begin:], nil}
		for i := range sinks {
			got, alive := sinks[i].seen()
			if !slices.Equal(got, wants[i]) {
				t.Errorf("stream %d: %d records, want %d", i, len(got), len(wants[i]))
			}
			if len(alive) < 2 || alive[len(alive)-1] <= all[len(all)-1].index {
				t.Errorf("stream %d: alive %v", i, alive)
			}
		}
		cancel()
		ended.Wait()
	})
}

func TestStreamEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, _ := newListRig(t, 2, 3)
		defer r.stop()
		var mu sync.Mutex
		var refused error
		who := func(context.Context) (masterfsm.Access, error) {
			mu.Lock()
			defer mu.Unlock()
			return r.access, refused
		}
		ended := make(chan error, 1)
		go func() { ended <- r.Stream(t.Context(), StreamQuery{}, who, new(sink)) }()
		time.Sleep(3 * time.Second)
		mu.Lock()
		refused = wire.ErrUnauthorized
		mu.Unlock()
		select {
		case err := <-ended:
			if !errors.Is(err, wire.ErrUnauthorized) {
				t.Error(err)
			}
		case <-time.After(2 * time.Second):
			t.Error("a revoked token's stream goes on")
		}
		broken := errors.New("broken pipe")
		if err := r.Stream(t.Context(), StreamQuery{}, r.who, &sink{fail: broken}); !errors.Is(err, broken) {
			t.Error(err)
		}
		if err := r.Stream(t.Context(), StreamQuery{Query: Query{Project: "other"}}, r.who, new(sink)); !errors.Is(err,
			wire.ErrForbidden) {
			t.Error(err)
		}
		// The maximum number of streams, and one more.
		ctx, cancel := context.WithCancel(t.Context())
		var others sync.WaitGroup
		for range maxStreams {
			others.Go(func() { _ = r.Stream(ctx, StreamQuery{}, r.who, new(sink)) })
		}
		synctest.Wait()
		if err := r.Stream(t.Context(), StreamQuery{}, r.who, new(sink)); !errors.Is(err, wire.ErrTooManyStreams) {
			t.Error(err)
		}
		cancel()
		others.Wait()
		if n := len(r.streams); n != 0 {
			t.Errorf("%d streams are counted and gone", n)
		}
	})
}
