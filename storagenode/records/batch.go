package records

import (
	"encoding/binary"
	"iter"
	"slices"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/atrest"
)

// Batch collects consecutive blocks that become a run.
type Batch struct {
	head
	entries [sections][]entry
}

// NewBatch returns a batch whose first block has that number. That block may be a lost one, which is passed over.
func NewBatch(from uint64) *Batch { return &Batch{head: head{from: from, to: from}} }

// Empty reports whether no block was added.
func (b *Batch) Empty() bool { return b.to == b.from }

// Leaves returns the number of leaves that were added.
func (b *Batch) Leaves() uint64 { return b.end - b.first }

// Add adds the next block; lost blocks before it are passed over. leaves are the leaf hashes of its records.
func (b *Batch) Add(block *chain.Block, leaves []chain.Hash) {
	h := &block.Header
	if b.end == 0 {
		b.first = h.First
	}
	b.to, b.end, b.last = h.Block+1, h.Size(), h.Hash()
	start := uint32(h.First - b.first)
	projects := b.entries[byProject]
	b.entries[byHash] = slices.Grow(b.entries[byHash], int(h.Count)+2)
	for i := range h.Count {
		encoded := block.Encoded(i)
		place := start + i
		project := binary.BigEndian.Uint32(encoded)
		if n := len(projects); i > 0 && projects[n-1].tag>>32 == uint64(project) {
			projects[n-1].value++
		} else {
			projects = append(projects, entry{projectTag(project, place), 1})
		}
		if key := chain.EncodedKey(encoded); len(key) > 0 {
			b.add(byKey, entry{keyTag(project, key), place})
		}
		b.add(byHash, entry{hashTag(leaves[i]), place})
	}
	b.entries[byProject] = projects
	seal := start + h.Count
	b.add(byHash, entry{hashTag(b.last), seal})
	b.add(byHash, entry{hashTag(h.SealHash()), seal})
}

func (b *Batch) add(section int, e entry) { b.entries[section] = append(b.entries[section], e) }

// write writes the batch as a run.
func (b *Batch) write(dir string, keys *atrest.Ring) (*run, error) {
	var sources [sections]iter.Seq2[entry, error]
	for section, list := range b.entries {
		list = sorted(list)
		b.counts[section] = uint32(len(list))
		sources[section] = func(yield func(entry, error) bool) {
			for _, e := range list {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
	return writeRun(dir, keys, b.head, sources)
}
