package storagenode

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/blockindex"
	"github.com/chainstore/chainstore/storagenode/recordends"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/storagenode/tiles"
	"github.com/chainstore/chainstore/wire"
)

// reader is what one call needs to read: its own tile reader, and buffers that would otherwise be allocated by each
// call through an interface.
type reader struct {
	tiles *tiles.Reader
	small [chain.HeaderSize]byte
	left  int          // records or headers that may follow in this call
	arena []byte       // memory for the next records
	paths []chain.Hash // memory for the next paths
}

func (n *Node) reader() *reader {
	r := n.readers.Get().(*reader)
	r.tiles = n.tiles.Reader()
	return r
}

func (r *reader) release(n *Node) {
	r.tiles.Release()
	r.tiles, r.arena, r.paths = nil, nil, nil
	n.readers.Put(r)
}

// Bounds of the memory that the records and paths of a call share, so that one that is kept does not keep many others.
const (
	arenaBytes = 32 << 10
	arenaPaths = 16
)

// A Read of many records uses several goroutines, so that the disk has more than one request at a time.
const (
	readShare   = 16 // records that are worth a goroutine
	readWorkers = 4
)

// Read looks up records and appends an answer for each place to out, in order: the encoded record and the inclusion
// path of its leaf in the tree whose root its block's header names. The first known places get no path. Both are as
// they are on disk: nothing is proven. The reader must check the path, or compare the record with the leaf hash that it
// knows, and its check of the record is the only one. The answers belong to the caller.
func (n *Node) Read(places []wire.Place, known int, out []wire.ProvenRecord) []wire.ProvenRecord {
	n.life.RLock()
	defer n.life.RUnlock()
	height := n.Status().Height
	start := len(out)
	out = slices.Grow(out, len(places))[:start+len(places)]
	answers := out[start:]
	var others sync.WaitGroup
	share := max(readShare, (len(places)+readWorkers-1)/readWorkers)
	for len(places) > share {
		theirs, without, into := places[:share], min(known, share), answers[:share]
		others.Go(func() { n.readRecords(height, theirs, without, into) })
		places, known, answers = places[share:], max(0, known-share), answers[share:]
	}
	n.readRecords(height, places, known, answers)
	others.Wait()
	return out
}

func (n *Node) readRecords(height uint64, places []wire.Place, known int, answers []wire.ProvenRecord) {
	r := n.reader()
	defer r.release(n)
	for i, at := range places {
		r.left = len(places) - i
		answers[i] = n.readRecord(r, height, at, i >= known)
	}
}

func (n *Node) readRecord(r *reader, height uint64, at wire.Place, withPath bool) wire.ProvenRecord {
	p, _, ok := n.index.Get(at.Block)
	switch {
	case !ok || at.Block >= height && n.blocked == nil:
		return wire.ProvenRecord{Status: wire.ReadBehind}
	case p.Lost():
		return wire.ProvenRecord{Status: wire.ReadBad}
	case at.Block >= height:
		return wire.ProvenRecord{Status: statusOf(n.blocked)}
	case at.Offset >= p.Count:
		return wire.ProvenRecord{Status: wire.ReadBeyond}
	}
	var path []chain.Hash
	if withPath {
		var err error
		if path, _, err = r.path(p.First+uint64(at.Offset), p.First+uint64(p.Count)); err != nil {
			n.log.Error("hashes of the tree cannot be read", "block", at.Block, "offset", at.Offset, "error", err)
			return wire.ProvenRecord{Status: statusOf(err)}
		}
	}
	record, err := r.record(n, at)
	if err != nil {
		n.log.Error("a record cannot be read", "block", at.Block, "offset", at.Offset, "error", err)
		return wire.ProvenRecord{Status: statusOf(err)}
	}
	return wire.ProvenRecord{Status: wire.ReadFound, Record: record, Path: path}
}

// statusOf returns the status of a read that ended with an error.
func statusOf(err error) wire.ReadStatus {
	if durable.CannotRead(err) {
		return wire.ReadFailed
	}
	return wire.ReadBad
}

// path returns an inclusion path, in memory that it shares with other paths of the call.
func (r *reader) path(index, size uint64) (path []chain.Hash, leaf chain.Hash, err error) {
	if longest := bits.Len64(size); cap(r.paths)-len(r.paths) < longest {
		r.paths = make([]chain.Hash, 0, longest*min(r.left, arenaPaths))
	}
	start := len(r.paths)
	r.paths, leaf, err = r.tiles.Path(r.paths, index, size)
	return r.paths[start:len(r.paths):len(r.paths)], leaf, err
}

// record reads one record of a block. Usually its place is in the cache, and the file is read once.
func (r *reader) record(n *Node, at wire.Place) (record []byte, err error) {
	err = n.files.read(at.Block, func(p blockindex.Place, f segment.File) error {
		for {
			begin, end, kept, err := n.files.ends.Span(f, at.Block, &p, at.Offset)
			if err != nil {
				return err
			}
			record = r.allocate(int(end - begin))
			if err = recordends.ReadRecords(f, record, &p, begin); err == nil {
				err = oneRecord(record)
			}
			if err == nil || !kept {
				return err
			}
			n.files.ends.Forget(at.Block, at.Offset) // and read it again: it may have been read wrong
		}
	})
	return record, err
}

// oneRecord checks that bytes have the length of one encoded record.
func oneRecord(encoded []byte) error {
	if size, err := chain.EncodedRecordSize(encoded); err != nil || size != len(encoded) {
		return fmt.Errorf("%w: %d bytes are not a record", ErrDamaged, len(encoded))
	}
	return nil
}

// allocate returns memory for a record, which it shares with other records of the call.
func (r *reader) allocate(size int) []byte {
	if cap(r.arena)-len(r.arena) < size {
		r.arena = make([]byte, 0, max(size, min(size*r.left, arenaBytes)))
	}
	start := len(r.arena)
	r.arena = r.arena[:start+size]
	return r.arena[start : start+size : start+size]
}

// header reads the header of a block. Errors: ErrBehind, ErrDamaged, ErrCannotRead.
func (r *reader) header(n *Node, block uint64) (h chain.Header, err error) {
	err = n.files.read(block, func(p blockindex.Place, f segment.File) error {
		if err := segment.ReadPart(f, r.small[:chain.HeaderSize], p.Offset, p.Length, 0); err != nil {
			return err
		}
		h, err = chain.ParseHeader(r.small[:])
		if err == nil && (h.Block != block || h.First != p.First || h.Count != p.Count) {
			err = errors.New("the header is that of another block")
		}
		return err
	})
	return h, err
}

// header reads the header of a block, as reader.header does.
func (n *Node) header(block uint64) (chain.Header, error) {
	r := n.readers.Get().(*reader)
	defer n.readers.Put(r)
	return r.header(n, block)
}

// Headers reads up to limit headers from a block on, each with the inclusion path of its seal in the tree of the
// first size leaves. It ends before the first block whose seal is not in that tree, and before one that cannot be
// is damaged, so the list may be empty. Errors: ErrBehind if the node's tree is smaller than size, ErrCannotRead if the
// system cannot read the first one.
func (n *Node) Headers(from uint64, limit int, size uint64) ([]wire.ProvenHeader, error) {
	n.life.RLock()
	defer n.life.RUnlock()
	status := n.Status()
	if size > status.Size {
		return nil, fmt.Errorf("%w: a tree of %d leaves, the node has %d", ErrBehind, size, status.Size)
	}
	r := n.reader()
	defer r.release(n)
	var headers []wire.ProvenHeader
	for block := from; block < status.Height && len(headers) < min(limit, wire.MaxHeaders); block++ {
		if p, _, _ := n.index.Get(block); !p.Lost() && p.Next() > size {
			break
		}
		r.left = min(limit, wire.MaxHeaders) - len(headers)
		h, err := n.provenHeader(r, block, size)
		if err != nil {
			n.log.Error("a header cannot be read", "block", block, "error", err)
			if len(headers) == 0 && durable.CannotRead(err) {
				return nil, cannotRead(err)
			}
			break
		}
		headers = append(headers, h)
	}
	return headers, nil
}

// cannotRead makes an error of the system wrap ErrCannotRead.
func cannotRead(err error) error {
	if errors.Is(err, ErrCannotRead) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrCannotRead, err)
}

func (n *Node) provenHeader(r *reader, block, size uint64) (wire.ProvenHeader, error) {
	h, err := r.header(n, block)
	if err != nil {
		return wire.ProvenHeader{}, err
	}
	path, leaf, err := r.path(h.Seal(), size)
	if err != nil {
		return wire.ProvenHeader{}, err
	}
	if h.SealHash() != leaf {
		// One of the two is damaged. The checksum of the whole block shows which.
		if _, err := n.block(block); err != nil {
			return wire.ProvenHeader{}, err
		}
	}
	return wire.ProvenHeader{Header: h, Path: path}, nil
}

// Locate returns the block that a leaf belongs to, that of a record or a seal. Errors: ErrBehind, ErrDamaged.
func (n *Node) Locate(index uint64) (block uint64, err error) {
	n.life.RLock()
	defer n.life.RUnlock()
	if size := n.Status().Size; index >= size {
		return 0, fmt.Errorf("%w: leaf %d, the node has %d", ErrBehind, index, size)
	}
	block, p, ok := n.index.Find(index)
	if !ok || p.Lost() {
		return 0, fmt.Errorf("%w: leaf %d is of a lost block", ErrDamaged, index)
	}
	return block, nil
}

// Block reads a whole encoded block, its checksum and number checked. Errors: ErrBehind, ErrDamaged, and
// ErrCannotRead.
func (n *Node) Block(number uint64) ([]byte, error) {
	n.life.RLock()
	defer n.life.RUnlock()
	return n.block(number)
}

func (n *Node) block(number uint64) ([]byte, error) {
	b := blockReader{n: n}
	return b.block(number)
}

// ReadBlocks passes the blocks from one number up to another to give, in order and as they are on disk. A block is
// valid until the next one is passed. Errors: ErrBehind, ErrDamaged, ErrCannotRead, and those of give and of the
// context.
func (n *Node) ReadBlocks(ctx context.Context, from, to uint64, give func(block []byte) error) error {
	b := &blockReader{n: n}
	next := func(number uint64) ([]byte, error) {
		n.life.RLock()
		defer n.life.RUnlock()
		return b.block(number)
	}
	for number := from; number < to; number++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		block, err := next(number)
		if err != nil {
			return err
		}
		if err := give(block); err != nil {
			return err
		}
	}
	return nil
}

// blockReader reads one block after the other into the same memory.
type blockReader struct {
	n   *Node
	buf []byte
}

// parsed reads a block as block does, and parses it.
func (b *blockReader) parsed(number uint64) (chain.Block, error) {
	data, err := b.block(number)
	if err != nil {
		return chain.Block{}, err
	}
	block, err := chain.ParseBlock(data)
	if err != nil {
		err = fmt.Errorf("%w: block %d: %w", ErrDamaged, number, err)
	}
	return block, err
}

// block reads a block, its checksum and number checked. It is valid until the next call. Errors: ErrBehind, ErrDamaged,
// ErrCannotRead.
func (b *blockReader) block(number uint64) (data []byte, err error) {
	err = b.n.files.read(number, func(p blockindex.Place, f segment.File) (err error) {
		if b.buf, err = segment.ReadFrame(b.buf, f, p.Offset, p.Length); err != nil {
			return err
		}
		data = b.buf[segment.FrameHeader:]
		if h, err := chain.ParseHeader(data); err != nil || h.Block != number {
			return fmt.Errorf("%w: the frame at offset %d is not that of the block", ErrDamaged, p.Offset)
		}
		return nil
	})
	return data, err
}
