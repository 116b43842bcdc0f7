package records

import (
	"sync"

	"github.com/chainstore/chainstore/chain"
)

// Range bounds a look-up: leaves from From up to, not including, To, and at most Limit hits.
type Range struct {
	From, To uint64
	Limit    int
}

// cursors are reused: one holds a chunk.
var cursors = sync.Pool{New: func() any { return new(cursor) }}

// each calls look for every run that has leaves in a range, in order, until it returns false. All hits before end were
// found: it is the end of the range or of the index.
func (x *Index) each(g Range, section int, look func(c *cursor) (more bool, err error)) (end uint64, err error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	c := cursors.Get().(*cursor)
	defer cursors.Put(c)
	for _, r := range x.runs {
		if r.end <= g.From {
			continue
		}
		if r.first >= g.To {
			break
		}
		c.open(r, section)
		more, err := look(c)
		if err != nil {
			x.damaged(r)
			return 0, err
		}
		if !more {
			break
		}
	}
	if n := len(x.runs); n > 0 {
		end = x.runs[n-1].end
	}
	return min(end, g.To), nil
}

// bounds returns the ends of a range as places of a run.
func (c *cursor) bounds(g Range) (from, to uint64) {
	first := c.run.first
	return max(g.From, first) - first, min(g.To, c.run.end) - first
}

// ByKey finds the records of a project with a key, in order of their leaf indices. All hits before the second result
// were found; if the limit was reached, it follows the last hit. The error wraps ErrDamaged.
func (x *Index) ByKey(project uint32, key string, g Range) (hits []uint64, end uint64, err error) {
	hits, end, err = x.byTag(byKey, keyTag(project, key), g)
	return closed(hits, end, err, g)
}

// byTag finds the leaves of a section's entries with a tag.
func (x *Index) byTag(section int, tag uint64, g Range) (hits []uint64, end uint64, err error) {
	end, err = x.each(g, section, func(c *cursor) (bool, error) {
		from, to := c.bounds(g)
		i, err := c.search(entry{tag, uint32(from)})
		for ; err == nil && i < c.count && len(hits) < g.Limit; i++ {
			var e entry
			if e, err = c.entry(i); err != nil || e.tag != tag || uint64(e.value) >= to {
				break
			}
			hits = append(hits, c.run.first+uint64(e.value))
		}
		return len(hits) < g.Limit, err
	})
	return hits, end, err
}

// ByProject is ByKey for all records of a project.
func (x *Index) ByProject(project uint32, g Range) (hits []uint64, end uint64, err error) {
	end, err = x.each(g, byProject, func(c *cursor) (bool, error) {
		from, to := c.bounds(g)
		i, err := c.search(entry{projectTag(project, uint32(from)), 0})
		if err != nil {
			return false, err
		}
		if i > 0 {
			i-- // consecutive records that began before may reach into the range
		}
		for ; i < c.count && len(hits) < g.Limit; i++ {
			e, err := c.entry(i)
			if err != nil {
				return false, err
			}
			if uint32(e.tag>>32) > project {
				break
			}
			if uint32(e.tag>>32) < project {
				continue
			}
			start := uint64(uint32(e.tag))
			for place := max(start, from); place < min(start+uint64(e.value), to) && len(hits) < g.Limit; place++ {
				hits = append(hits, c.run.first+place)
			}
		}
		return len(hits) < g.Limit, nil
	})
	return closed(hits, end, err, g)
}

func closed(hits []uint64, end uint64, err error, g Range) ([]uint64, uint64, error) {
	if err != nil {
		return nil, 0, err
	}
	if n := len(hits); n > 0 && n == g.Limit {
		end = hits[n-1] + 1
	}
	return hits, end, nil
}

// maxSame bounds the leaves with the same first bytes of their hashes that a look-up returns.
const maxSame = 16

// ByHash finds the leaves that may have a hash. For the hash of a block it finds the block's seal. The index ends
// before the leaf end. The error wraps ErrDamaged.
func (x *Index) ByHash(h chain.Hash) (hits []uint64, end uint64, err error) {
	return x.byTag(byHash, hashTag(h), Range{To: ^uint64(0), Limit: maxSame})
}
