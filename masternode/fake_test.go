package masternode

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// fakeStorage is a storage node in memory. It asserts that what it is given extends its chain and that orders do not go backwards.
type fakeStorage struct {
	mu       sync.Mutex // guards all below
	verifier *chain.Verifier
	blocks   []chain.Block
	leaves   []chain.Hash
	hashes   []tlog.Hash // of the tree over those leaves that were in a proof, as tlog numbers them
	hashed   int64       // leaves, of which hashes has the hashes
	highest  wire.Order
	down     bool
	lie      func(*wire.ProvenRecord) // changes an answer
	reads    int
	// tileReads and entryReads count the calls of those.
	tileReads, entryReads int
	// lieHeaders and liePlace do the same to headers, and to the block of a leaf.
	lieHeaders func([]wire.ProvenHeader) []wire.ProvenHeader
	liePlace   bool
	lieHits    func(*wire.RecordHits) // the same to what the index tells
	lieTiles   func(*wire.TileData)
	lieEntries func(*wire.Entries)
	lag        int // blocks that are not in the index yet

	bad        map[uint64]bool // blocks that are damaged on its disk
	inbox      map[uint64]chain.Block
	check      wire.CheckStatus
	polls      int                                    // how often it was asked how the check goes
	report     func(wire.CheckOrder) wire.CheckStatus // how its checks end; nil for as they should
	receiveErr error                                  // answers every order to receive
	ticket     string
	open       []wire.Piece // under the ticket
	got        uint64       // blocks, under the ticket
	sent       wire.SendOrder
	answer     wire.SendStatus
}

func (s *fakeStorage) status() wire.StorageStatus {
	h := s.verifier.Head()
	st := wire.StorageStatus{Height: h.Height, Hash: h.Hash, Size: h.Tree.Size()}
	for number := range s.inbox {
		st.Inbox.To = max(st.Inbox.To, number+1)
	}
	for st.Inbox.From = st.Inbox.To; st.Inbox.From > 0; st.Inbox.From-- {
		if _, ok := s.inbox[st.Inbox.From-1]; !ok {
			break
		}
	}
	return st
}

// add puts a block behind the chain.
func (s *fakeStorage) add(b chain.Block) error {
	leaves, err := s.verifier.Take(&b)
	if err != nil {
		return err
	}
	s.leaves = append(s.leaves, leaves...)
	s.blocks = append(s.blocks, b)
	return nil
}

// cutAt forgets the blocks from a number on.
func (s *fakeStorage) cutAt(height uint64) {
	blocks := s.blocks
	s.blocks, s.leaves, s.hashes, s.hashed, s.verifier = nil, nil, nil, 0, chain.NewVerifier(chain.Head{})
	for _, b := range blocks[:min(height, uint64(len(blocks)))] {
		if err := s.add(b); err != nil {
			panic(err)
		}
	}
}

// missing is what the node lacks of the pieces that are open.
func (s *fakeStorage) missing() []chain.Range {
	list := []chain.Range{}
	for _, p := range s.open {
		for number := p.From; number < p.To; number++ {
			if number >= uint64(len(s.blocks)) || s.bad[number] {
				list = chain.AddRange(list, chain.Range{From: number, To: number + 1})
			}
		}
	}
	return list
}

// drain puts what fits from the inbox behind the chain.
func (s *fakeStorage) drain() {
	for number := uint64(len(s.blocks)); ; number++ {
		b, ok := s.inbox[number]
		if !ok || s.add(b) != nil {
			break
		}
	}
	for number := range s.inbox {
		if number < uint64(len(s.blocks)) {
			delete(s.inbox, number)
		}
	}
}

// reader reads hashes of the tree.
func (s *fakeStorage) reader() tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = s.hashes[x]
		}
		return out, nil
	})
}

// hashUpTo makes the hashes of the tree of a size.
func (s *fakeStorage) hashUpTo(size uint64) {
	for ; s.hashed < int64(size); s.hashed++ {
		hashes, err := tlog.StoredHashesForRecordHash(s.hashed, tlog.Hash(s.leaves[s.hashed]), s.reader())
		if err != nil {
			panic(err)
		}
		s.hashes = append(s.hashes, hashes...)
	}
}

// prove is the path of a leaf in the tree of a size.
func (s *fakeStorage) prove(size, index uint64) []chain.Hash {
	s.hashUpTo(size)
	proof, err := tlog.ProveRecord(int64(size), int64(index), s.reader())
	if err != nil {
		panic(err)
	}
	path := make([]chain.Hash, len(proof))
	for i, h := range proof {
		path[i] = chain.Hash(h)
	}
	return path
}

// fakeWorkers are storage nodes and miners by URL.
type fakeWorkers struct {
	t        *testing.T
	storages map[string]*fakeStorage
	flaky    func(url string) error         // asked twice in a call: the call may be lost, and the answer
	delay    func(url string) time.Duration // of a call
	wrong    func(url string) bool          // a miner answers with a nonce that does not mine the block
	lossy    bool                           // nodes lose blocks, so that the leader may be wrong about what is next
}

func newFakeWorkers(t *testing.T, storages int) *fakeWorkers {
	w := &fakeWorkers{
		t: t, storages: map[string]*fakeStorage{},
		flaky: func(string) error { return nil },
		delay: func(string) time.Duration { return time.Millisecond },
		wrong: func(string) bool { return false },
	}
	for i := range storages {
		w.storages[fmt.Sprintf("http://s%d", i)] = &fakeStorage{
			verifier: chain.NewVerifier(chain.Head{}), bad: map[uint64]bool{}, inbox: map[uint64]chain.Block{},
		}
	}
	return w
}

var errDown = errors.New("connection refused")

// on calls a storage node.
func (w *fakeWorkers) on(ctx context.Context, target wire.Worker, f func(*fakeStorage) error) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(w.delay(target.URL)):
	}
	if err := w.flaky(target.URL); err != nil {
		return err
	}
	s := w.storages[target.URL]
	if s == nil {
		return errDown
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return errDown
	}
	if err := f(s); err != nil {
		return err
	}
	return w.flaky(target.URL)
}

func (w *fakeWorkers) StorageStatus(ctx context.Context, t wire.Worker, _ wire.Order) (st wire.StorageStatus, err error) {
	err = w.on(ctx, t, func(s *fakeStorage) error { st = s.status(); return nil })
	return st, err
}

func (w *fakeWorkers) MinerStatus(_ context.Context, t wire.Worker, _ wire.Order) (wire.MinerStatus, error) {
	return wire.MinerStatus{}, w.flaky(t.URL)
}

func (w *fakeWorkers) PutBlock(ctx context.Context, t wire.Worker, o wire.Order, number uint64, data []byte) (st wire.StorageStatus, err error) {
	err = w.on(ctx, t, func(s *fakeStorage) error {
		if o.Less(s.highest) {
			return errors.New("fenced")
		}
		s.highest = o
		if number < uint64(len(s.blocks)) {
			st = s.status()
			return nil
		}
		b, err := chain.ParseBlock(data)
		if err != nil {
			w.t.Errorf("block %d: %v", number, err)
			return err
		}
		if err := s.add(b); err != nil {
			if !w.lossy {
				w.t.Errorf("block %d: %v", number, err)
			}
			return err
		}
		st = s.status()
		return nil
	})
	return st, err
}

func (w *fakeWorkers) PutInbox(ctx context.Context, t wire.Worker, o wire.Order, number uint64, data []byte) (st wire.StorageStatus, err error) {
	err = w.on(ctx, t, func(s *fakeStorage) error {
		if o.Less(s.highest) {
			return errors.New("fenced")
		}
		b, err := chain.ParseBlock(data)
		if err != nil {
			return err
		}
		if number >= uint64(len(s.blocks)) {
			s.inbox[number] = b
		}
		st = s.status()
		return nil
	})
	return st, err
}

// Check takes three questions.
func (w *fakeWorkers) Check(ctx context.Context, t wire.Worker, o wire.Order, order wire.CheckOrder) (st wire.CheckStatus, err error) {
	err = w.on(ctx, t, func(s *fakeStorage) error {
		if o.Less(s.highest) {
			return errors.New("fenced")
		}
		if s.check.Check != order.Check {
			s.check, s.polls = wire.CheckStatus{Check: order.Check}, 0
		}
		if s.polls++; s.polls == 3 && s.report != nil {
			s.check = s.report(order)
			s.check.Check = order.Check
		} else if s.polls == 3 {
			report := &wire.Report{Unchecked: order.Height}
			for number := range min(order.Height, uint64(len(s.blocks))) {
				if s.bad[number] {
					report.Bad = chain.AddRange(report.Bad, chain.Range{From: number, To: number + 1})
					report.Findings = append(report.Findings, chain.Finding{Block: number, What: chain.WrongPayload})
				}
			}
			if have := uint64(len(s.blocks)); have < order.Height {
				report.Bad = chain.AddRange(report.Bad, chain.Range{From: have, To: order.Height})
				report.Findings = append(report.Findings, chain.Finding{Block: have, What: chain.WrongShort})
			} else if have > 0 && order.Height > 0 {
				report.Other = s.blocks[order.Height-1].Header.Hash() != order.Hash
			}
			report.Findings = report.Findings[:min(len(report.Findings), chain.MaxFindings)]
			report.Bad = chain.BoundRanges(report.Bad, chain.MaxFindings)
			s.check.Report = report
		}
		st = s.check
		return nil
	})
	return st, err
}

func (w *fakeWorkers) Receive(ctx context.Context, t wire.Worker, o wire.Order, order wire.ReceiveOrder) (st wire.ReceiveStatus, err error) {
	err = w.on(ctx, t, func(s *fakeStorage) error {
		if o.Less(s.highest) {
			return errors.New("fenced")
		}
		if s.receiveErr != nil {
			return s.receiveErr
		}
		if s.ticket != order.Ticket {
			if order.Keep < uint64(len(s.blocks)) {
				s.cutAt(order.Keep)
			}
			s.ticket, s.open, s.got = order.Ticket, order.Pieces, 0
		}
		if len(s.missing()) == 0 {
			s.drain()
		}
		st = wire.ReceiveStatus{StorageStatus: s.status(), Missing: s.missing(), Blocks: s.got, Bytes: 100 * s.got}
		return nil
	})
	return st, err
}

// Send moves one block each time it is asked how it goes.
func (w *fakeWorkers) Send(ctx context.Context, t wire.Worker, o wire.Order, order wire.SendOrder) (st wire.SendStatus, err error) {
	var b *chain.Block
	err = w.on(ctx, t, func(s *fakeStorage) error {
		if o.Less(s.highest) {
			return errors.New("fenced")
		}
		if s.sent.Ticket != order.Ticket || s.sent.Attempt != order.Attempt {
			s.sent, s.answer = order, wire.SendStatus{Running: true}
		}
		if s.answer.Running {
			number := s.sent.Pieces[0].From
			switch {
			case number >= uint64(len(s.blocks)) || s.bad[number]:
				s.answer = wire.SendStatus{Error: "cannot read a block", Faulty: true}
			default:
				b = &s.blocks[number]
			}
		}
		st = s.answer
		return nil
	})
	if err != nil || b == nil {
		return st, err
	}
	refused := w.on(ctx, wire.Worker{URL: order.To}, func(r *fakeStorage) error {
		number := b.Header.Block
		switch {
		case r.ticket != order.Ticket:
			return errors.New("unknown ticket")
		case number < uint64(len(r.blocks)):
			if r.blocks[number].Header != b.Header {
				w.t.Errorf("block %d was sent into another chain", number)
			}
			delete(r.bad, number)
		case number == uint64(len(r.blocks)):
			if err := r.add(*b); err != nil {
				return err
			}
		default:
			return errors.New("a gap")
		}
		r.got++
		return nil
	})
	err = w.on(ctx, t, func(s *fakeStorage) error {
		switch {
		case s.sent.Ticket != order.Ticket || s.sent.Attempt != order.Attempt || !s.answer.Running:
		case refused != nil:
			s.answer = wire.SendStatus{Error: refused.Error()}
		default:
			s.sent.Pieces = unfinished(s.sent.Pieces, []chain.Range{{From: b.Header.Block + 1, To: 1 << 62}})
			if len(s.sent.Pieces) == 0 {
				s.answer.Running = false
			}
			s.answer.Blocks++
		}
		st = s.answer
		return nil
	})
	return st, err
}

func (w *fakeWorkers) ReadRecords(ctx context.Context, t wire.Worker, places []wire.Place) (out []wire.ProvenRecord, err error) {
	err = w.on(ctx, t, func(s *fakeStorage) error {
		s.reads++
		for _, p := range places {
			if p.Block >= uint64(len(s.blocks)) {
				out = append(out, wire.ProvenRecord{Status: wire.ReadBehind})
				continue
			}
			b := s.blocks[p.Block]
			a := wire.ProvenRecord{
				Record: append([]byte(nil), b.Encoded(p.Offset)...),
				Path:   s.prove(b.Header.Seal(), b.Header.First+uint64(p.Offset)),
			}
			if s.bad[p.Block] {
				a.Record[len(a.Record)-1] ^= 1
			}
			if s.lie != nil {
				s.lie(&a)
			}
			out = append(out, a)
		}
		return nil
	})
	return out, err
}

func (w *fakeWorkers) Headers(ctx context.Context, t wire.Worker, from uint64, limit int, size uint64) (out []wire.ProvenHeader, err error) {
	err = w.on(ctx, t, func(s *fakeStorage) error {
		if size > uint64(len(s.leaves)) {
			return errors.New("behind")
		}
		for b := from; b < uint64(len(s.blocks)) && len(out) < limit; b++ {
			h := s.blocks[b].Header
			out = append(out, wire.ProvenHeader{Header: h, Path: s.prove(size, h.Seal())})
		}
		if s.lieHeaders != nil && len(out) > 0 {
			out = s.lieHeaders(out)
		}
		return nil
	})
	return out, err
}

func (w *fakeWorkers) Locate(ctx context.Context, t wire.Worker, index uint64) (block uint64, err error) {
	err = w.on(ctx, t, func(s *fakeStorage) error {
		for _, b := range s.blocks {
			if index < b.Header.Size() {
				block = b.Header.Block
				if s.liePlace {
					block = (block + 1) % uint64(len(s.blocks))
				}
				return nil
			}
		}
		return errors.New("no such leaf")
	})
	return block, err
}

func (w *fakeWorkers) Mine(ctx context.Context, t wire.Worker, _ wire.Order, o wire.MineOrder) (uint64, error) {
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(w.delay(t.URL)):
	}
	if err := w.flaky(t.URL); err != nil {
		return 0, err
	}
	nonce, ok := chain.Solve(o.Inner, o.Difficulty, o.Start, 1<<20)
	if !ok {
		return 0, errors.New("no nonce")
	}
	if w.wrong(t.URL) {
		for chain.Mined(chain.BlockHash(o.Inner, nonce), o.Difficulty) {
			nonce++
		}
	}
	return nonce, nil
}

// noMasters is a group of one: nobody else to call.
type noMasters struct{}

var errNoMaster = errors.New("no such master")

func (noMasters) Member(context.Context, string) (wire.Member, error) {
	return wire.Member{}, errNoMaster
}
func (noMasters) Announce(context.Context, string, wire.Member, bool) (wire.Announced, error) {
	return wire.Announced{}, errNoMaster
}
func (noMasters) Submit(context.Context, string, []byte, bool) ([]byte, error) {
	return nil, errNoMaster
}
func (noMasters) ReadIndex(context.Context, string) (wire.ReadIndex, error) {
	return wire.ReadIndex{}, errNoMaster
}
func (noMasters) Cluster(context.Context, string) (wire.Cluster, error) {
	return wire.Cluster{}, errNoMaster
}
func (noMasters) Integrity(context.Context, string) (wire.Integrity, error) {
	return wire.Integrity{}, errNoMaster
}
func (noMasters) Suspect(context.Context, string, wire.Suspicion) error { return errNoMaster }
func (noMasters) Register(context.Context, string, wire.Registration) (wire.Registered, error) {
	return wire.Registered{}, errNoMaster
}

// rig is one master on a fake ledger with fake workers, running until the test ends.
type rig struct {
	*Node
	ledger  *fakeLedger
	members *fakeMembership
	workers *fakeWorkers
	access  masterfsm.Access // to the rig's project, with all rights
	project masterfsm.Project
	ended   <-chan error // of Run, once
	stop    func()
}

// newRig starts it; change may alter what it is made of before it runs.
func newRig(t *testing.T, storages int, change func(*Config, *rig)) *rig {
	t.Helper()
	r := &rig{ledger: newFakeLedger(t), members: newFakeMembership(), workers: newFakeWorkers(t, storages)}
	settings := masterfsm.DefaultSettings()
	settings.Difficulty, settings.MaxRecords = 4, 16
	cfg := Config{
		Member: wire.Member{ID: "m1", URL: "http://m1"}, Boot: 1,
		Ledger: r.ledger, Membership: r.members, Masters: noMasters{}, Workers: r.workers, Settings: settings, Limits: DefaultLimits(),
		Log: LogConfig{Secret: "cluster token"}, Logger: hclog.NewNullLogger(),
	}
	if change != nil {
		change(&cfg, r)
	}
	var err error
	if r.Node, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.ended = ended
	r.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	synctest.Wait() // until it leads
	created, err := r.CreateProject(t.Context(), wire.NewProject{Name: "p"})
	if err != nil {
		t.Fatal(err)
	}
	if r.access, err = r.Access(t.Context(), created.Token); err != nil {
		t.Fatal(err)
	}
	for url := range r.workers.storages {
		r.registerWorker(t, masterfsm.RoleStorage, url)
	}
	r.registerWorker(t, masterfsm.RoleMiner, "http://miner")
	r.project = r.access.Project
	return r
}

// registerWorker enters a worker into the table under an id that is known beforehand: the leader gives random ones, by which the order of the
// nodes would be another in each run.
func (r *rig) registerWorker(t *testing.T, role masterfsm.Role, url string) {
	t.Helper()
	_, err := r.ledger.Propose(t.Context(), masterfsm.Encode(&masterfsm.Register{
		Role: role, ID: strings.TrimPrefix(url, "http://"), URL: url, MasterToken: "x", Boot: "1", Time: r.now(),
	}))
	if err != nil {
		t.Fatal(err)
	}
}
