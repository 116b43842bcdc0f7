package tiles

import "github.com/chainstore/chainstore/chain"

const (
	tileHeight = chain.SubtreeLevel // tree levels from one stored level to the next
	tileWidth  = 1 << tileHeight    // hashes in a tile
	maxLevels  = 64 / tileHeight    // stored levels of the largest tree
)

// Builder computes the stored hashes of a growing tree. It keeps the unfinished tile of each stored level. The zero
// value is that of the empty tree. It belongs to one goroutine.
type Builder struct {
	size uint64
	open [maxLevels][tileWidth]chain.Hash // the first (size >> 4·i) % 16 of open[i] count
	rows [maxLevels][]chain.Hash          // scratch of Append
}

// Size returns the number of leaves.
func (b *Builder) Size() uint64 { return b.size }

// Append adds leaf hashes to the tree and passes each run of hashes that this adds to a stored level to emit. level
// is 0 for the leaves, 1 for the roots of 16 leaves and so on; first is the position of the run's first hash in its
// level. The run is valid until emit returns. subtrees are the roots of the tiles of leaves that are full now, as
// [chain.Verifier.Subtrees] returns them; if nil, they are computed. After an error of emit the builder must not be
// used again.
func (b *Builder) Append(
	leaves, subtrees []chain.Hash, emit func(level int, first uint64, run []chain.Hash) error,
) error {
	row := leaves
	first := b.size
	for level := 0; len(row) > 0 && level < maxLevels; level++ {
		if err := emit(level, first, row); err != nil {
			return err
		}
		held := int(first % tileWidth)
		if level == 0 && subtrees != nil {
			b.keep(held, leaves)
			row = subtrees
		} else {
			row = b.fold(level, held, row)
		}
		first /= tileWidth
	}
	b.size += uint64(len(leaves))
	return nil
}

// keep adds leaves to the open tile as fold does, without the roots.
func (b *Builder) keep(held int, leaves []chain.Hash) {
	rest := (held + len(leaves)) % tileWidth
	n := min(rest, len(leaves))
	copy(b.open[0][rest-n:], leaves[len(leaves)-n:])
}

// fold adds a row to its level's open tile, returns the roots of the tiles that are full now, and keeps the rest.
func (b *Builder) fold(level, held int, row []chain.Hash) []chain.Hash {
	roots := b.rows[level][:0]
	open := &b.open[level]
	for len(row) > 0 {
		n := copy(open[held:], row)
		row = row[n:]
		held += n
		if held < tileWidth {
			break
		}
		roots = append(roots, rootOf(open))
		held = 0
	}
	b.rows[level] = roots
	return roots
}

// rootOf returns the root of a full tile.
func rootOf(t *[tileWidth]chain.Hash) chain.Hash {
	var half [tileWidth / 2]chain.Hash
	for i := range half {
		half[i] = chain.NodeHash(t[2*i], t[2*i+1])
	}
	for n := len(half) / 2; n > 0; n /= 2 {
		for i := range n {
			half[i] = chain.NodeHash(half[2*i], half[2*i+1])
		}
	}
	return half[0]
}
