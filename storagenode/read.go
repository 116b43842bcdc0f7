package storagenode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/storagenode/tiles"
	"github.com/chainstore/chainstore/wire"
)

// reader is what one call needs to read: its own tile reader, and buffers that a call through an interface would otherwise
// put on the heap each time.
type reader struct {
	tiles *tiles.Reader
	small [chain.HeaderSize]byte
	left  int          // records or headers that may follow in this call
	arena []byte       // where the next records go
	paths []chain.Hash // where the next paths go
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

// Bounds of the memory that the records and paths of a call are cut from, so that one that is kept does not hold on to
// many others.
const (
	arenaBytes = 32 << 10
	arenaPaths = 16
)

// A Read of many records is done by several goroutines, so that the disk has more than one thing to look for at a time.
const (
	readShare   = 16 // records that are worth a goroutine
	readWorkers = 4
)

// Read looks up records and adds an answer for each place to out, in order: the encoded record and the inclusion path of its
// leaf in the tree that its block's header names the root of. Found records were held against the leaf hash on disk; the
// path is as it stands there, so the reader must check it, as it must anyway. The answers belong to the caller.
func (n *Node) Read(places []wire.Place, out []wire.ProvenRecord) []wire.ProvenRecord {
	n.life.RLock()
	defer n.life.RUnlock()
	height := n.Status().Height
	start := len(out)
	out = slices.Grow(out, len(places))[:start+len(places)]
	answers := out[start:]
	var others sync.WaitGroup
	share := max(readShare, (len(places)+readWorkers-1)/readWorkers)
	for len(places) > share {
		theirs, into := places[:share], answers[:share]
		others.Go(func() { n.readRecords(height, theirs, into) })
		places, answers = places[share:], answers[share:]
	}
	n.readRecords(height, places, answers)
	others.Wait()
	return out
}

func (n *Node) readRecords(height uint64, places []wire.Place, answers []wire.ProvenRecord) {
	r := n.reader()
	defer r.release(n)
	for i, at := range places {
		r.left = len(places) - i
		_ = n.steady(func() error {
			if answers[i] = n.readRecord(r, height, at); answers[i].Status == wire.ReadBad {
				return ErrDamaged
			}
			return nil
		})
	}
}

func (n *Node) readRecord(r *reader, height uint64, at wire.Place) wire.ProvenRecord {
	p, seg, ok := n.index.Get(at.Block)
	switch {
	case !ok || at.Block >= height && !n.barred:
		return wire.ProvenRecord{Status: wire.ReadBehind}
	case p.Lost() || at.Block >= height:
		return wire.ProvenRecord{Status: wire.ReadBad}
	case at.Offset >= p.Count:
		return wire.ProvenRecord{Status: wire.ReadBeyond}
	}
	path, leaf, err := r.path(p.First+uint64(at.Offset), p.First+uint64(p.Count))
	if err != nil {
		n.log.Error("hashes of the tree cannot be read", "block", at.Block, "offset", at.Offset, "error", err)
		return wire.ProvenRecord{Status: wire.ReadBad}
	}
	record, err := n.readAt(r, &p, seg, at.Offset)
	if err == nil && leafHash(record) != leaf {
		err = fmt.Errorf("%w: the record does not fit its leaf", ErrDamaged)
	}
	if err != nil {
		if record, err = n.readWhole(at, err); err != nil {
			n.log.Error("a record cannot be read", "block", at.Block, "offset", at.Offset,
				"file", segment.Name(seg), "at", p.Offset, "error", err)
			return wire.ProvenRecord{Status: wire.ReadBad}
		}
	}
	return wire.ProvenRecord{Status: wire.ReadFound, Record: record, Path: path}
}

// path cuts the memory of an inclusion path from a larger piece.
func (r *reader) path(index, size uint64) (path []chain.Hash, leaf chain.Hash, err error) {
	if longest := bits.Len64(size); cap(r.paths)-len(r.paths) < longest {
		r.paths = make([]chain.Hash, 0, longest*min(r.left, arenaPaths))
	}
	start := len(r.paths)
	r.paths, leaf, err = r.tiles.Path(r.paths, index, size)
	return r.paths[start:len(r.paths):len(r.paths)], leaf, err
}

// readAt reads one record of a block: two of the ends in the block's table, then the record.
func (n *Node) readAt(r *reader, p *Place, seg uint64, offset uint32) (record []byte, err error) {
	if uint64(p.Length) < uint64(chain.BlockOverhead(p.Count))+chain.RecordOverhead {
		return nil, fmt.Errorf("%w: %d bytes cannot hold %d records", ErrDamaged, p.Length, p.Count)
	}
	err = n.files.with(seg, func(f segment.File) error {
		block := p.Offset + segment.FrameHeader
		start := uint32(0)
		ends, at := r.small[:8], block+chain.HeaderSize+4*(int64(offset)-1)
		if offset == 0 {
			ends, at = ends[:4], at+4
		}
		if _, err := f.ReadAt(ends, at); err != nil {
			return err
		}
		if offset > 0 {
			start = binary.BigEndian.Uint32(ends)
		}
		end := binary.BigEndian.Uint32(ends[len(ends)-4:])
		head := uint32(chain.BlockOverhead(p.Count))
		if start > end || end > p.Length-head || end-start < chain.RecordOverhead {
			return fmt.Errorf("%w: the table of ends is not one", ErrDamaged)
		}
		record = r.take(int(end - start))
		_, err := f.ReadAt(record, block+int64(head)+int64(start))
		return err
	})
	if err != nil {
		return nil, err
	}
	if size, err := chain.EncodedRecordSize(record); err != nil || size != len(record) {
		return nil, fmt.Errorf("%w: %d bytes are no record", ErrDamaged, len(record))
	}
	return record, nil
}

// take cuts memory for a record.
func (r *reader) take(size int) []byte {
	if cap(r.arena)-len(r.arena) < size {
		r.arena = make([]byte, 0, max(size, min(size*r.left, arenaBytes)))
	}
	start := len(r.arena)
	r.arena = r.arena[:start+size]
	return r.arena[start : start+size : start+size]
}

func leafHash(encoded []byte) chain.Hash {
	leaf := chain.EncodedLeaf(encoded, chain.EncodedCommit(encoded))
	return leaf.Hash()
}

// readWhole reads a record that does not fit its leaf on disk once more, from the whole block: if the block is good,
// then the leaf is not, and the record is.
func (n *Node) readWhole(at wire.Place, cause error) ([]byte, error) {
	data, err := n.block(at.Block)
	if err != nil {
		return nil, err
	}
	block, err := chain.ParseBlock(data)
	if err != nil || at.Offset >= block.Header.Count {
		return nil, errors.Join(cause, err)
	}
	tree, err := n.tiles.Tree(block.Header.First)
	if err != nil {
		return nil, errors.Join(cause, err)
	}
	v := chain.NewVerifier(chain.Head{Height: at.Block, Hash: block.Header.Prev, Tree: tree})
	if _, err := v.Take(&block); err != nil {
		return nil, errors.Join(cause, err)
	}
	n.log.Error("hashes of the tree are damaged, the block is not; the next check writes them again",
		"block", at.Block, "offset", at.Offset, "error", cause)
	return block.Encoded(at.Offset), nil
}

// header reads the header of a block that is here.
func (r *reader) header(n *Node, block uint64) (h chain.Header, err error) {
	err = n.steady(func() error {
		h, err = r.headerOnce(n, block)
		return err
	})
	return h, err
}

func (r *reader) headerOnce(n *Node, block uint64) (chain.Header, error) {
	p, seg, ok := n.index.Get(block)
	if !ok {
		return chain.Header{}, fmt.Errorf("%w: block %d", ErrBehind, block)
	}
	if p.Lost() {
		return chain.Header{}, fmt.Errorf("%w: block %d is lost", ErrDamaged, block)
	}
	err := n.files.with(seg, func(f segment.File) error {
		_, err := f.ReadAt(r.small[:chain.HeaderSize], p.Offset+segment.FrameHeader)
		return err
	})
	if err != nil {
		return chain.Header{}, fmt.Errorf("header of block %d: %w", block, err)
	}
	h, err := chain.ParseHeader(r.small[:])
	if err == nil && (h.Block != block || h.First != p.First || h.Count != p.Count) {
		err = errors.New("it is of another block")
	}
	if err != nil {
		return chain.Header{}, fmt.Errorf("%w: header of block %d in %s: %w", ErrDamaged, block, segment.Name(seg), err)
	}
	return h, nil
}

// Headers reads up to limit headers from a block on, each with the inclusion path of its seal in the tree of the first size
// leaves. It ends before the first block whose seal is not in that tree, and before one that cannot be read: there may be
// none. Error: ErrBehind where the node's tree is smaller than size.
func (n *Node) Headers(from uint64, limit int, size uint64) ([]wire.ProvenHeader, error) {
	n.life.RLock()
	defer n.life.RUnlock()
	status := n.Status()
	if size > status.Size {
		return nil, fmt.Errorf("%w: a tree of %d leaves, of %d that are here", ErrBehind, size, status.Size)
	}
	r := n.reader()
	defer r.release(n)
	var headers []wire.ProvenHeader
	for block := from; block < status.Height && len(headers) < min(limit, wire.MaxHeaders); block++ {
		p, _, _ := n.index.Get(block)
		if !p.Lost() && p.Next() > size {
			break
		}
		r.left = min(limit, wire.MaxHeaders) - len(headers)
		h, err := n.provenHeader(r, block, size)
		if err != nil {
			n.log.Error("a header cannot be read", "block", block, "error", err)
			break
		}
		headers = append(headers, h)
	}
	return headers, nil
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
		// One of the two is damaged; the checksum of the whole block tells which.
		if _, err := n.block(block); err != nil {
			return wire.ProvenHeader{}, err
		}
	}
	return wire.ProvenHeader{Header: h, Path: path}, nil
}

// Locate is the block that a leaf belongs to, a record's or a seal. Errors: ErrBehind, ErrDamaged.
func (n *Node) Locate(index uint64) (block uint64, err error) {
	n.life.RLock()
	defer n.life.RUnlock()
	if size := n.Status().Size; index >= size {
		return 0, fmt.Errorf("%w: leaf %d, of %d that are here", ErrBehind, index, size)
	}
	block, p, ok := n.index.Find(index)
	if !ok || p.Lost() {
		return 0, fmt.Errorf("%w: leaf %d is of a lost block", ErrDamaged, index)
	}
	return block, nil
}

// Block reads a whole encoded block, its checksum and number checked. Errors: ErrBehind, ErrDamaged.
func (n *Node) Block(number uint64) ([]byte, error) {
	n.life.RLock()
	defer n.life.RUnlock()
	return n.block(number)
}

func (n *Node) block(number uint64) ([]byte, error) {
	b := blockReader{n: n}
	return b.block(number)
}
