package tiles

import (
	"fmt"
	"slices"

	"github.com/chainstore/chainstore/chain"
)

// Reader reads nodes of the tree and keeps the tiles that it read last, so that neighbours cost little. It belongs to
// one goroutine. [Store.Reader] returns one, and [Reader.Release] returns it to the pool.
type Reader struct {
	store  *Store
	limit  uint64 // leaves that the files are known to hold
	gen    uint64 // of the store, when the tiles below were read
	cached bool   // use the store's cache
	raw    [tileBytes]byte
	seen   [maxLevels][2]*tile // by stored level: the last tile beside a path, and the last at the tree's right edge
	own    [maxLevels][2]*tile // memory to read tiles into that is not shared
}

// tile holds the nodes of a tile and of the three levels between it and the next stored level: 16 ‖ 8 ‖ 4 ‖ 2 hashes.
type tile struct {
	level int
	index uint64
	gen   uint64 // of the store before it was read
	count int    // hashes of the lowest row; nodes above a missing hash are not set. 0 for an empty tile.
	nodes [rowEnd]chain.Hash
}

// rowStart are the positions of the rows in tile.nodes.
var rowStart = [tileHeight]int{0, 16, 24, 28}

const rowEnd = 30

// Reader returns a reader of the tree as it is now.
func (s *Store) Reader() *Reader {
	r := s.pool.Get().(*Reader)
	r.limit, r.cached = s.size.Load(), true
	if gen := s.gen.Load(); gen != r.gen {
		clear(r.seen[:])
		r.gen = gen
	}
	for i := range r.seen {
		for j := range r.seen[i] {
			// A full tile never changes. One that was not full may have grown.
			if t := r.seen[i][j]; t != nil && t.count < tileWidth {
				r.seen[i][j] = nil
			}
		}
	}
	return r
}

// Release returns the reader to the pool.
func (r *Reader) Release() { r.store.pool.Put(r) }

// Path appends the inclusion path of a leaf in the tree of the first size leaves to dst (RFC 6962 section 2.1.1), and
// returns the leaf's hash as it is in the files. index must be below size, and size at most that of the store.
func (r *Reader) Path(dst []chain.Hash, index, size uint64) (path []chain.Hash, leaf chain.Hash, err error) {
	if index >= size || size > r.limit {
		return dst, leaf, fmt.Errorf("%w: leaf %d in a tree of %d, the files have %d", ErrMissing, index, size, r.limit)
	}
	t, err := r.tile(0, index/tileWidth, false)
	if err != nil {
		return dst, leaf, err
	}
	leaf = t.nodes[index%tileWidth]
	for l := 0; (size-1)>>l > 0; l++ {
		if l%tileHeight == 0 {
			if t, err = r.tile(l/tileHeight, index>>l/tileWidth, false); err != nil {
				return dst, leaf, err
			}
		}
		sibling := index>>l ^ 1
		switch {
		case (sibling+1)<<l <= size:
			row := l % tileHeight
			dst = append(dst, t.nodes[rowStart[row]+int(sibling&(tileWidth>>row-1))])
		case sibling<<l < size:
			h, err := r.edge(sibling<<l, size)
			if err != nil {
				return dst, leaf, err
			}
			dst = append(dst, h)
		}
	}
	return dst, leaf, nil
}

// edge returns the hash over the leaves from start to the end of the tree of that size, fewer than start is aligned to:
// a right child that is not complete.
func (r *Reader) edge(start, size uint64) (chain.Hash, error) {
	var h chain.Hash
	for l, end := 0, size; end > start; l++ {
		if (size-start)>>l&1 == 0 {
			continue
		}
		node, err := r.node(l, end>>l-1)
		if err != nil {
			return h, err
		}
		if end == size {
			h = node
		} else {
			h = chain.NodeHash(node, h)
		}
		end -= 1 << l
	}
	return h, nil
}

// node returns the root of the complete subtree number index of a level.
func (r *Reader) node(l int, index uint64) (chain.Hash, error) {
	row := l % tileHeight
	t, err := r.tile(l/tileHeight, index>>(tileHeight-row), true)
	if err != nil {
		return chain.Hash{}, err
	}
	return t.nodes[rowStart[row]+int(index&(tileWidth>>row-1))], nil
}

// tile loads a tile. edge means that it is at the right edge of the tree in question, which the next record of the same
// block needs again.
func (r *Reader) tile(stored int, index uint64, edge bool) (*tile, error) {
	for _, t := range r.seen[stored] {
		if t != nil && t.index == index {
			return t, nil
		}
	}
	slot := 0
	if edge {
		slot = 1
	}
	if r.cached {
		if t := r.store.cache.get(stored, index, r.gen); t != nil {
			r.seen[stored][slot] = t
			return t, nil
		}
	}
	t := r.own[stored][slot]
	if t == nil {
		t = new(tile)
		r.own[stored][slot] = t
	}
	r.seen[stored][slot] = nil // until it is filled
	t.level, t.index, t.gen = stored, index, r.gen
	t.count = int(min(r.limit>>(tileHeight*stored)-index*tileWidth, tileWidth))
	if t.count > 0 {
		raw := r.raw[:t.count*chain.HashSize]
		if err := r.store.read(raw, stored, index*tileWidth); err != nil {
			return nil, err
		}
		decode(t.nodes[:t.count], raw)
	}
	t.fill()
	r.seen[stored][slot] = t
	if r.cached && t.count == tileWidth && (stored > 0 || edge) && r.store.cache.put(t) {
		r.own[stored][slot] = nil // it is shared now
	}
	return t, nil
}

// fill computes the rows above the lowest.
func (t *tile) fill() {
	for row := 1; row < tileHeight; row++ {
		from, to := rowStart[row-1], rowStart[row]
		for i := range t.count >> row {
			t.nodes[to+i] = chain.NodeHash(t.nodes[from+2*i], t.nodes[from+2*i+1])
		}
	}
}

// Tree reads the compact range of the first size leaves from the files, whatever the store's size. The error wraps
// [ErrMissing] if the files are too short. The caller must prove from a block's root that the hashes are right.
func (s *Store) Tree(size uint64) (chain.Tree, error) {
	r := &Reader{store: s, limit: size, gen: s.gen.Load()}
	var nodes []chain.Hash
	for l, end := 0, size; end > 0; l++ {
		if size>>l&1 == 0 {
			continue
		}
		h, err := r.node(l, end>>l-1)
		if err != nil {
			return chain.Tree{}, err
		}
		nodes = append(nodes, h)
		end -= 1 << l
	}
	slices.Reverse(nodes)
	return chain.NewTree(size, nodes)
}
