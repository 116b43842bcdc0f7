package masternode

import (
	"context"
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/prover"
	"github.com/chainstore/chainstore/wire"
)

// Query selects records of a project.
type Query struct {
	Project string // name or id, "" for the reader's own
	Key     string // "" for all
	From    uint64 // leaf index
	// Since ≤ time < Until, unix milliseconds; 0 for no bound.
	Since, Until uint64
}

// Page is a part of a list, in the order of leaf indices.
type Page struct {
	Records []Record
	Next    uint64 // leaf index at which the list goes on
	// More: the list may continue. That it ends is confirmed with the leader.
	More bool
}

// List lists records of a project: those that storage nodes have, each proven, and after them those that the masters
// hold. A page ends with limit records or wire.PageBytes of payloads. Nothing proves that the storage nodes left out no
// record. Records of a block that is confirmed as lost are left out. Errors: wire.ErrNotFound for an unknown project,
// wire.ErrForbidden, wire.ErrBadRequest, wire.ErrNoLeader, wire.ErrUnavailable.
func (n *Node) List(ctx context.Context, reader masterfsm.Access, q Query, limit int) (Page, error) {
	if limit < 1 || limit > wire.MaxPage {
		return Page{}, fmt.Errorf("%w: limit %d is not within 1 and %d", wire.ErrBadRequest, limit, wire.MaxPage)
	}
	w, err := n.newWalk(ctx, reader, q)
	if err != nil {
		return Page{}, err
	}
	w.startPage(limit, wire.PageBytes)
	err = w.run(ctx)
	if err == nil && !w.full() && !w.done {
		// The end of the list must be confirmed.
		if err = n.confirm(ctx); err == nil {
			err = w.run(ctx)
		}
	}
	if err != nil && w.next == q.From {
		return Page{}, err
	}
	return Page{Records: w.records, Next: w.next, More: err != nil || w.full()}, nil
}

// walk goes along the records of a query, page by page. It belongs to one goroutine.
type walk struct {
	n     *Node
	q     Query
	owner masterfsm.Project

	next uint64 // leaf index: all before were looked at
	done bool   // all that follows is too young

	records []Record // the page
	limit   int      // of records and of bytes that are left
	bytes   int
}

// newWalk begins a walk, if the reader may read the project.
func (n *Node) newWalk(ctx context.Context, reader masterfsm.Access, q Query) (*walk, error) {
	owner := reader.Project
	var err error
	if q.Project != "" {
		if owner, err = n.findProject(ctx, q.Project); err != nil {
			return nil, err
		}
	}
	if owner, err = n.MayRead(ctx, reader, owner.ID); err != nil {
		return nil, err
	}
	return &walk{n: n, q: q, owner: owner, next: q.From}, nil
}

// startPage begins a page.
func (w *walk) startPage(limit, bytes int) { w.records, w.limit, w.bytes = nil, limit, bytes }

func (w *walk) full() bool { return w.limit <= 0 || w.bytes <= 0 }

// run continues until the page is full, or this master's state has no more records.
func (w *walk) run(ctx context.Context) error {
	for !w.full() && !w.done {
		var held, end uint64
		var blocks []masterfsm.HeldBlock
		w.n.cfg.Ledger.Read(func(s *masterfsm.State) {
			held, end = s.HeldLeaf(), s.NextIndex()
			if w.next >= held {
				blocks = s.HeldBlocks(w.next)
			}
		})
		if w.next >= end {
			return nil
		}
		if w.next < held {
			if err := w.addStored(ctx, held); err != nil {
				return err
			}
			continue
		}
		for i := range blocks {
			if err := w.addHeld(&blocks[i]); err != nil || w.full() || w.done {
				return err
			}
		}
		w.next = end
	}
	return nil
}

// addHeld adds records of a block that the masters hold.
func (w *walk) addHeld(s *masterfsm.HeldBlock) error {
	from := max(w.next, s.First) - s.First
	for offset := from; offset < uint64(s.Count()) && !w.full(); offset++ {
		encoded := s.Encoded(uint32(offset))
		ok, over := w.q.matches(w.owner.ID, encoded)
		if over {
			w.done = true
			return nil
		}
		at := masterfsm.Position{Block: s.Block, Offset: uint32(offset), Index: s.First + offset}
		if ok {
			r, err := heldRecord(encoded, at, s.Header != nil, s.Stored)
			if err != nil {
				return err
			}
			w.add(r)
		}
		w.next = at.Index + 1
	}
	return nil
}

// matches reports whether a record is one of the query, and whether all later ones are too young to be.
func (q *Query) matches(project uint32, encoded []byte) (ok, over bool) {
	leaf := chain.EncodedLeaf(encoded, chain.Hash{})
	if q.Until > 0 && leaf.Time >= q.Until {
		return false, true
	}
	return leaf.Project == project && leaf.Time >= q.Since &&
		(q.Key == "" || q.Key == string(chain.EncodedKey(encoded))), false
}

// add adds a record to the page.
func (w *walk) add(r Record) {
	r.ProjectName = w.owner.Name
	w.records = append(w.records, r)
	w.limit--
	w.bytes -= len(r.Payload)
}

// addStored adds records that the storage nodes have, up to the leaf from which on the masters hold them. The next node
// is asked if a node names a record that is not part of the query, or one that cannot be read, and if its answer ends
// early: its index may lag, or it may answer with little at a time. What was added before stays.
func (w *walk) addStored(ctx context.Context, held uint64) error {
	p, began := w.n.prover, w.next
	var unread error
	for node := range p.Nodes(ctx, 1) {
		q := wire.RecordQuery{
			Project: w.owner.ID, Key: w.q.Key, From: w.next, To: held, Since: w.q.Since, Until: w.q.Until,
			Limit: min(w.limit, wire.MaxHits),
		}
		found, err := p.FindRecords(ctx, node, q)
		if err != nil {
			continue
		}
		wrong, err := w.addHits(ctx, found.Hits)
		if err != nil {
			if unread = err; ctx.Err() != nil {
				return err
			}
			continue
		}
		if wrong != nil {
			p.Distrust(node, "a record that is not what was asked for", wrong)
			continue
		}
		if w.full() {
			return nil
		}
		if w.next = max(w.next, found.End); w.next >= held {
			return nil
		}
	}
	switch {
	case unread != nil:
		return unread
	case w.next > began:
		return nil
	}
	return prover.Unavailable(ctx, "the records from leaf %d on", w.next)
}

// Bounds of the number of records that are read at a time, so that large ones do not fill the memory.
const (
	firstHits = 32
	mostHits  = 128
)

// addHits proves records and adds them in order, up to the first that cannot be proven. wrong describes a record that
// is not part of the query.
func (w *walk) addHits(ctx context.Context, hits []wire.Hit) (wrong, err error) {
	chunk := firstHits
	for len(hits) > 0 && !w.full() {
		part := hits[:min(chunk, len(hits))]
		hits = hits[len(part):]
		bytes := 0
		for i, r := range w.n.prover.StartHits(ctx, part) {
			if w.full() {
				return nil, nil
			}
			found, err := r.Wait(ctx)
			if errors.Is(err, prover.ErrNoRecord) {
				return err, nil
			}
			if err != nil {
				if err = w.n.prover.ExplainLost(part[i].Block, err); errors.Is(err, wire.ErrLost) {
					continue
				}
				return nil, err
			}
			if ok, _ := w.q.matches(w.owner.ID, found.Encoded); !ok {
				return fmt.Errorf("leaf %d is not of the project, key and times that were asked for",
					part[i].Index), nil
			}
			at := masterfsm.Position{Block: part[i].Block, Offset: part[i].Offset, Index: part[i].Index}
			record, err := newRecord(found, at, true, true)
			if err != nil {
				return nil, err
			}
			w.add(record)
			w.next = at.Index + 1
			bytes += len(found.Encoded)
		}
		chunk = max(1, min(mostHits, w.bytes/(bytes/len(part)+1)))
	}
	return nil, nil
}

// BlockRecord is a record of a block, or only its position if the reader may not read it.
type BlockRecord struct {
	Record
	Hidden bool
}

// BlockRecords lists the records of a block from an offset on: up to limit, and up to wire.PageBytes of payloads. more
// means that others may follow. That none follows is confirmed with the leader, and so is that records are hidden. An
// open block may get more later. Errors: wire.ErrNotFound, wire.ErrLost, wire.ErrBadRequest, wire.ErrNoLeader,
// wire.ErrUnavailable.
func (n *Node) BlockRecords(
	ctx context.Context, reader masterfsm.Access, block uint64, from uint32, limit int,
) (list []BlockRecord, more bool, err error) {
	if limit < 1 || limit > wire.MaxPage {
		return nil, false, fmt.Errorf("%w: limit %d is not within 1 and %d", wire.ErrBadRequest, limit, wire.MaxPage)
	}
	p := blockPage{
		n: n, reader: reader, block: block, next: from, limit: limit, bytes: wire.PageBytes,
		owners: map[uint32]masterfsm.Project{},
	}
	complete, err := p.run(ctx)
	if err == nil && !complete && !p.full() {
		// The end of an open block must be confirmed.
		if err = p.confirm(ctx); err == nil {
			complete, err = p.run(ctx)
			complete = complete || !p.full()
		}
	}
	switch {
	case err == nil:
		return p.list, !complete, nil
	case errors.Is(err, wire.ErrNoLeader) && len(p.list) > 0:
		return p.list, true, nil
	default:
		return nil, false, err
	}
}

// blockPage is a page of a block's records. It belongs to one goroutine.
type blockPage struct {
	n      *Node
	reader masterfsm.Access
	block  uint64
	next   uint32                       // offset: all before were looked at
	owners map[uint32]masterfsm.Project // by id; the zero one where the reader may not read
	list   []BlockRecord
	limit  int
	bytes  int
	// confirmed: the leader was asked since the request arrived.
	confirmed bool
}

func (p *blockPage) full() bool { return len(p.list) >= p.limit || p.bytes <= 0 }

func (p *blockPage) confirm(ctx context.Context) error {
	if err := p.n.confirm(ctx); err != nil {
		return err
	}
	p.confirmed = true
	return nil
}

// run continues until the page is full, or has all of the block's records that this master's state has. complete means
// that the block gets no more.
func (p *blockPage) run(ctx context.Context) (complete bool, err error) {
	var body masterfsm.HeldBlock
	var held, open bool
	err = p.n.confirmed(ctx, func() error {
		var before bool
		p.n.cfg.Ledger.Read(func(s *masterfsm.State) {
			body, held = s.HeldBlock(p.block)
			open = s.Height() == p.block
			found, _, _, _ := s.Record(p.block, 0)
			before = found == masterfsm.FoundElsewhere
		})
		if !held && !before {
			return errNotHere
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	var first uint64
	var count uint32
	var read func(at masterfsm.Position) (Record, error)
	if held {
		first, count = body.First, body.Count()
		read = func(at masterfsm.Position) (Record, error) {
			return heldRecord(body.Encoded(at.Offset), at, body.Header != nil, body.Stored)
		}
	} else {
		h, err := p.n.prover.Header(ctx, p.block)
		if err != nil {
			return false, p.n.prover.ExplainLost(p.block, err)
		}
		first, count = h.First, h.Count
		var ahead []*prover.RecordRead // of the next records
		read = func(at masterfsm.Position) (Record, error) {
			if len(ahead) == 0 {
				for next := at.Offset; next < min(h.Count, at.Offset+firstHits); next++ {
					ahead = append(ahead, p.n.prover.StartRecord(h, next))
				}
			}
			found, err := ahead[0].Wait(ctx)
			ahead = ahead[1:]
			if err != nil {
				return Record{}, p.n.prover.ExplainLost(p.block, err)
			}
			return newRecord(found, at, true, true)
		}
	}
	for ; p.next < count && !p.full(); p.next++ {
		r, err := read(masterfsm.Position{Block: p.block, Offset: p.next, Index: first + uint64(p.next)})
		if err == nil {
			err = p.add(ctx, r)
		}
		if err != nil {
			return false, err
		}
	}
	return p.next >= count && !open, nil
}

// add adds a record to the page.
func (p *blockPage) add(ctx context.Context, r Record) error {
	owner, ok := p.owners[r.Project]
	if !ok {
		owner, ok = p.n.readable(p.reader, r.Project)
		if !ok && !p.confirmed { // once for all projects: see MayRead
			if err := p.confirm(ctx); err != nil {
				return err
			}
			owner, _ = p.n.readable(p.reader, r.Project)
		}
		p.owners[r.Project] = owner
	}
	if owner.ID == 0 {
		p.list = append(p.list, BlockRecord{Record: Record{At: r.At}, Hidden: true})
		return nil
	}
	r.ProjectName = owner.Name
	p.bytes -= len(r.Payload)
	p.list = append(p.list, BlockRecord{Record: r})
	return nil
}
