package masterstest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/signedlog"
	"github.com/chainstore/chainstore/wire"
)

// Storage is an in-memory storage node. It checks that blocks extend its chain and that orders do not go backwards.
type Storage struct {
	Mu             sync.Mutex // guards the fields below
	*signedlog.Log            // its chain and the tree; nothing is signed
	Highest        wire.Order
	Down           bool
	Lag            int // number of blocks that are not in the index yet

	Reads, TileReads, EntryReads int // calls

	Paths    int  // of records that were sent
	OldReads bool // it sends paths also where none is needed, like a storage node of an older version

	// Changes of its responses.
	Lie        func(*wire.ProvenRecord)
	LieHeaders func([]wire.ProvenHeader) []wire.ProvenHeader
	NoHeaders  func(from uint64) error   // of a request for headers
	LiePlace   func(block uint64) uint64 // of a leaf
	LieHits    func(*wire.RecordHits)
	LieTiles   func(*wire.TileData)
	LieEntries func(*wire.Entries)
	LieStatus  func(*wire.StorageStatus)
	LieCheck   func(*wire.CheckStatus)
	LieReceive func(*wire.ReceiveStatus)
	LieSend    func(*wire.SendStatus)

	Bad        map[uint64]bool // blocks that are damaged on its disk
	Inbox      map[uint64]chain.Block
	Check      wire.CheckStatus
	Polls      int                                    // number of requests for the state of a check
	Ended      uint64                                 // number of checks that read the whole chain
	Report     func(wire.CheckOrder) wire.CheckStatus // results of its checks; nil for correct ones
	ReceiveErr error                                  // error of every order to receive
	Ticket     string
	Open       []wire.Piece // under the ticket
	Got        uint64       // blocks, under the ticket
	Sent       wire.SendOrder
	Answer     wire.SendStatus
}

func (s *Storage) Status() wire.StorageStatus {
	h := s.Verifier.Head()
	st := wire.StorageStatus{Height: h.Height, Hash: h.Hash, Size: h.Tree.Size()}
	for number := range s.Inbox {
		st.Inbox.To = max(st.Inbox.To, number+1)
	}
	for st.Inbox.From = st.Inbox.To; st.Inbox.From > 0; st.Inbox.From-- {
		if _, ok := s.Inbox[st.Inbox.From-1]; !ok {
			break
		}
	}
	return st
}

// Add appends a block to the chain.
func (s *Storage) Add(b chain.Block) error { return s.Take(&b) }

// CutAt drops all blocks from a height on.
func (s *Storage) CutAt(height uint64) {
	blocks := s.Blocks
	s.Log = signedlog.New("storage", 1)
	for _, b := range blocks[:min(height, uint64(len(blocks)))] {
		s.Log.Add(&b)
	}
}

// pass accepts an order of the newest leader, and refuses one of an earlier leader.
func (s *Storage) pass(o wire.Order) error {
	if o.Less(s.Highest) {
		return &wire.FencedError{
			Highest: s.Highest, Err: fmt.Errorf("%w: order %v after %v", wire.ErrFenced, o, s.Highest),
		}
	}
	s.Highest = o
	return nil
}

// Missing returns the blocks of the open pieces that the node lacks.
func (s *Storage) Missing() []chain.Range {
	list := []chain.Range{}
	for _, p := range s.Open {
		for number := p.From; number < p.To; number++ {
			if number >= uint64(len(s.Blocks)) || s.Bad[number] {
				list = chain.AddRange(list, chain.Range{From: number, To: number + 1})
			}
		}
	}
	return list
}

// drain moves blocks that follow the chain from the inbox to the chain.
func (s *Storage) drain() {
	for number := uint64(len(s.Blocks)); ; number++ {
		b, ok := s.Inbox[number]
		if !ok || s.Add(b) != nil {
			break
		}
	}
	for number := range s.Inbox {
		if number < uint64(len(s.Blocks)) {
			delete(s.Inbox, number)
		}
	}
}

// Workers are storage nodes and miners, by URL.
type Workers struct {
	t        *testing.T
	mu       *sync.Mutex // guards Storages while nodes are added to a running cluster
	Storages map[string]*Storage
	Flaky    func(url string) error         // called twice per call: the request may be lost, and the response
	Delay    func(url string) time.Duration // of a call
	Wrong    func(url string) bool          // the miner returns a nonce that does not mine the block
	// Unable returns the state of a check that cannot be done, zero if it can; nil for never.
	Unable func(url string) wire.CheckStatus
	Lossy  bool // nodes lose blocks, so that the leader may be wrong about the next one

	token *atomic.Pointer[func(url string) string] // the token that a worker accepts; nil for any
}

// SetToken says which token each worker accepts.
func (w *Workers) SetToken(token func(url string) string) {
	w.token.Store(&token)
}

func NewWorkers(t *testing.T, storages int) *Workers {
	w := &Workers{
		t: t, mu: &sync.Mutex{}, Storages: map[string]*Storage{}, token: &atomic.Pointer[func(string) string]{},
		Flaky: func(string) error { return nil },
		Delay: func(string) time.Duration { return time.Millisecond },
		Wrong: func(string) bool { return false },
	}
	for i := range storages {
		w.AddStorage(fmt.Sprintf("http://s%d", i))
	}
	return w
}

// AddStorage adds an empty storage node.
func (w *Workers) AddStorage(url string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Storages[url] = &Storage{
		Log: signedlog.New("storage", 1), Bad: map[uint64]bool{}, Inbox: map[uint64]chain.Block{},
	}
}

// ErrDown is the error of a call to a node that does not reply.
var ErrDown = fmt.Errorf("%w: connection refused", wire.ErrNoAnswer)

// On calls f with a storage node.
func (w *Workers) On(ctx context.Context, target wire.Worker, f func(*Storage) error) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", wire.ErrNoAnswer, context.Cause(ctx))
	case <-time.After(w.Delay(target.URL)):
	}
	if err := w.Flaky(target.URL); err != nil {
		return err
	}
	w.mu.Lock()
	s := w.Storages[target.URL]
	w.mu.Unlock()
	if s == nil {
		return ErrDown
	}
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.Down {
		return ErrDown
	}
	if err := f(s); err != nil {
		return err
	}
	return w.Flaky(target.URL)
}

// errBehind is the error for a block that the node does not have yet.
var errBehind = wire.ErrNotFound.Variant("not here yet")

// order makes a storage node execute an order.
func (w *Workers) order(ctx context.Context, target wire.Worker, o wire.Order, f func(*Storage) error) error {
	return w.On(ctx, target, func(s *Storage) error {
		if err := s.pass(o); err != nil {
			return err
		}
		return f(s)
	})
}

func (w *Workers) StorageStatus(ctx context.Context, t wire.Worker, o wire.Order) (st wire.StorageStatus, err error) {
	if err := w.authorized(t); err != nil {
		return st, err
	}
	err = w.order(ctx, t, o, func(s *Storage) error {
		st = s.Status()
		lie(s.LieStatus, &st)
		return nil
	})
	return st, err
}

func (w *Workers) MinerStatus(_ context.Context, t wire.Worker, _ wire.Order) (wire.MinerStatus, error) {
	return wire.MinerStatus{}, cmp.Or(w.authorized(t), w.Flaky(t.URL))
}

// authorized refuses a call with the token of another worker.
func (w *Workers) authorized(t wire.Worker) error {
	if token := w.token.Load(); token != nil && (*token)(t.URL) != t.Token {
		return fmt.Errorf("%w: another token", wire.ErrUnauthorized)
	}
	return nil
}

func (w *Workers) PutBlock(
	ctx context.Context, t wire.Worker, o wire.Order, number uint64, data []byte,
) (st wire.StorageStatus, err error) {
	err = w.order(ctx, t, o, func(s *Storage) error {
		b, err := chain.ParseBlock(data)
		switch height := uint64(len(s.Blocks)); {
		case err != nil:
			err = fmt.Errorf("%w: %w", wire.ErrBadBlock, err)
		case number < height:
			st = s.Status()
			return nil
		case number > height:
			err = &wire.NotNextError{Status: s.Status(), Err: fmt.Errorf("%w: %d is due", wire.ErrNotNext, height)}
		default:
			if err = s.Add(b); err != nil {
				err = fmt.Errorf("%w: %w", wire.ErrBadBlock, err)
			}
		}
		if err != nil {
			if !w.Lossy {
				w.t.Errorf("block %d: %v", number, err)
			}
			return err
		}
		st = s.Status()
		return nil
	})
	return st, err
}

func (w *Workers) PutInbox(
	ctx context.Context, t wire.Worker, o wire.Order, number uint64, data []byte,
) (st wire.StorageStatus, err error) {
	err = w.order(ctx, t, o, func(s *Storage) error {
		b, err := chain.ParseBlock(data)
		if err != nil {
			return fmt.Errorf("%w: %w", wire.ErrBadBlock, err)
		}
		if b.Header.Block != number {
			return fmt.Errorf("%w: block %d came as block %d", wire.ErrBadBlock, b.Header.Block, number)
		}
		if number >= uint64(len(s.Blocks)) {
			s.Inbox[number] = b
		}
		st = s.Status()
		return nil
	})
	return st, err
}

// lie changes an answer, if there is a function for that.
func lie[T any](change func(*T), answer *T) {
	if change != nil {
		change(answer)
	}
}

// Check ends at the third poll.
func (w *Workers) Check(
	ctx context.Context, t wire.Worker, o wire.Order, order wire.CheckOrder,
) (st wire.CheckStatus, err error) {
	err = w.order(ctx, t, o, func(s *Storage) error {
		if s.Check.Check != order.Check {
			s.Check, s.Polls = wire.CheckStatus{Check: order.Check}, 0
		}
		if s.Polls++; s.Polls == 3 && w.Unable != nil {
			if s.Check = w.Unable(t.URL); s.Check.Error != "" || s.Check.Report != nil {
				s.Polls++
			}
			s.Check.Check = order.Check
		}
		if s.Polls == 3 && s.Report != nil {
			s.Check = s.Report(order)
			s.Check.Check = order.Check
		} else if s.Polls == 3 {
			s.Ended++
			s.Check.Bytes = 100 * uint64(len(s.Blocks))
			report := &wire.Report{Unchecked: order.Height, Complete: true}
			for number := range min(order.Height, uint64(len(s.Blocks))) {
				if s.Bad[number] {
					report.Bad = chain.AddRange(report.Bad, chain.Range{From: number, To: number + 1})
					report.Findings = append(report.Findings, wire.Finding{Block: number, What: chain.WrongPayload})
				}
			}
			if have := uint64(len(s.Blocks)); have < order.Height {
				report.Bad = chain.AddRange(report.Bad, chain.Range{From: have, To: order.Height})
				report.Findings = append(report.Findings, wire.Finding{Block: have, What: chain.WrongShort})
			} else if have > 0 && order.Height > 0 {
				report.Other = s.Blocks[order.Height-1].Header.Hash() != order.Hash
			}
			report.Findings = report.Findings[:min(len(report.Findings), chain.MaxFindings)]
			report.Bad = chain.BoundRanges(report.Bad, chain.MaxFindings)
			s.Check.Report = report
		}
		st = s.Check
		lie(s.LieCheck, &st)
		return nil
	})
	return st, err
}

func (w *Workers) Receive(
	ctx context.Context, t wire.Worker, o wire.Order, order wire.ReceiveOrder,
) (st wire.ReceiveStatus, err error) {
	err = w.order(ctx, t, o, func(s *Storage) error {
		if s.ReceiveErr != nil {
			return s.ReceiveErr
		}
		if s.Ticket != order.Ticket {
			if order.Keep < uint64(len(s.Blocks)) {
				s.CutAt(order.Keep)
			}
			s.Ticket, s.Open, s.Got = order.Ticket, order.Pieces, 0
		}
		if len(s.Missing()) == 0 {
			s.drain()
		}
		st = wire.ReceiveStatus{StorageStatus: s.Status(), Missing: s.Missing(), Blocks: s.Got, Bytes: 100 * s.Got}
		st.Complete = len(st.Missing) == 0
		lie(s.LieReceive, &st)
		return nil
	})
	return st, err
}

// Send moves one block at each poll.
func (w *Workers) Send(
	ctx context.Context, t wire.Worker, o wire.Order, order wire.SendOrder,
) (st wire.SendStatus, err error) {
	var b *chain.Block
	err = w.order(ctx, t, o, func(s *Storage) error {
		if s.Sent.Ticket != order.Ticket || s.Sent.Attempt != order.Attempt {
			s.Sent, s.Answer = order, wire.SendStatus{Running: true}
			s.Sent.Pieces = slices.Clone(order.Pieces)
		}
		if s.Answer.Running {
			number := s.Sent.Pieces[0].From
			switch {
			case number >= uint64(len(s.Blocks)) || s.Bad[number]:
				s.Answer = wire.SendStatus{Error: "cannot read a block", Faulty: true}
			default:
				b = &s.Blocks[number]
			}
		}
		if st = s.Answer; s.LieSend != nil {
			b = nil
			s.LieSend(&st)
		}
		return nil
	})
	if err != nil || b == nil {
		return st, err
	}
	refused := w.On(ctx, wire.Worker{URL: order.To}, func(r *Storage) error {
		number := b.Header.Block
		switch {
		case r.Ticket != order.Ticket:
			return errors.New("unknown ticket")
		case number < uint64(len(r.Blocks)):
			if r.Blocks[number].Header != b.Header {
				w.t.Errorf("block %d was sent into another chain", number)
			}
			delete(r.Bad, number)
		case number == uint64(len(r.Blocks)):
			if err := r.Add(*b); err != nil {
				return err
			}
		default:
			return errors.New("a gap")
		}
		r.Got++
		return nil
	})
	err = w.On(ctx, t, func(s *Storage) error {
		switch {
		case s.Sent.Ticket != order.Ticket || s.Sent.Attempt != order.Attempt || !s.Answer.Running:
		case refused != nil:
			s.Answer = wire.SendStatus{Error: refused.Error()}
		default:
			if p := &s.Sent.Pieces[0]; p.From+1 < p.To {
				p.From++
			} else {
				s.Sent.Pieces = s.Sent.Pieces[1:]
			}
			s.Answer.Running = len(s.Sent.Pieces) > 0
			s.Answer.Blocks++
		}
		st = s.Answer
		return nil
	})
	return st, err
}

func (w *Workers) ReadRecords(
	ctx context.Context, t wire.Worker, places []wire.Place, known int,
) (out []wire.ProvenRecord, err error) {
	err = w.On(ctx, t, func(s *Storage) error {
		s.Reads++
		for i, p := range places {
			if p.Block >= uint64(len(s.Blocks)) {
				out = append(out, wire.ProvenRecord{Status: wire.ReadBehind})
				continue
			}
			b := s.Blocks[p.Block]
			a := wire.ProvenRecord{
				Record: append([]byte(nil), b.Encoded(p.Offset)...),
			}
			if i >= known || s.OldReads {
				a.Path = s.Path(b.Header.Seal(), b.Header.First+uint64(p.Offset))
				s.Paths++
			}
			if s.Bad[p.Block] {
				a.Record[len(a.Record)-1] ^= 1
			}
			if s.Lie != nil {
				s.Lie(&a)
			}
			out = append(out, a)
		}
		return nil
	})
	return out, err
}

func (w *Workers) Headers(
	ctx context.Context, t wire.Worker, from uint64, limit int, size uint64,
) (out []wire.ProvenHeader, err error) {
	err = w.On(ctx, t, func(s *Storage) error {
		if size > s.Size() {
			return errBehind
		}
		if s.NoHeaders != nil {
			if err := s.NoHeaders(from); err != nil {
				return err
			}
		}
		for b := from; b < uint64(len(s.Blocks)) && len(out) < limit; b++ {
			h := s.Blocks[b].Header
			if h.Seal() >= size {
				break
			}
			out = append(out, wire.ProvenHeader{Header: h, Path: s.Path(size, h.Seal())})
		}
		if s.LieHeaders != nil && len(out) > 0 {
			out = s.LieHeaders(out)
		}
		return nil
	})
	return out, err
}

func (w *Workers) Locate(ctx context.Context, t wire.Worker, index uint64) (block uint64, err error) {
	err = w.On(ctx, t, func(s *Storage) error {
		for _, b := range s.Blocks {
			if index < b.Header.Size() {
				block = b.Header.Block
				if s.LiePlace != nil {
					block = s.LiePlace(block)
				}
				return nil
			}
		}
		return errBehind
	})
	return block, err
}

func (w *Workers) Mine(ctx context.Context, t wire.Worker, _ wire.Order, o wire.MineOrder) (uint64, error) {
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(w.Delay(t.URL)):
	}
	if err := w.Flaky(t.URL); err != nil {
		return 0, err
	}
	nonce, ok := chain.Solve(o.Inner, o.Difficulty, o.Start, 1<<20)
	if !ok {
		return 0, errors.New("no nonce")
	}
	if w.Wrong(t.URL) {
		for chain.Mined(chain.BlockHash(o.Inner, nonce), o.Difficulty) {
			nonce++
		}
	}
	return nonce, nil
}
