package storagenode

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/records"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/storagenode/tiles"
)

// Open takes hold of a data folder and makes the node that it holds. What a crash left behind the last whole block is
// moved to quarantine/. A damaged block further in is reported in the log and reads as damaged; a node whose tree
// cannot be known beyond it stands at the height before it, and Put says why.
//
// The error wraps [durable.ErrLocked] when another process has the folder, ErrNewerFormat when a newer ChainStore wrote it.
func Open(cfg Config) (*Node, error) {
	cfg.setDefaults()
	if err := durable.MkdirAll(cfg.Dir); err != nil {
		return nil, err
	}
	lock, err := durable.LockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	n := newNode(cfg, lock)
	marked, err := n.marked()
	if err == nil {
		n.unclean.Store(marked)
		err = n.load()
	}
	if err == nil {
		err = n.openFollower()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the storage node in %s: %w", cfg.Dir, err), n.release())
	}
	return n, nil
}

// newNode is a node before it is loaded.
func newNode(cfg Config, lock *durable.Lock) *Node {
	n := &Node{cfg: cfg, log: cfg.Logger, lock: lock, failed: make(chan error, 1)}
	n.files = files{dir: n.segmentsDir(), opener: cfg.open, most: maxOpenFiles, open: map[uint64]segment.File{}}
	n.tiles = tiles.Empty(cfg.open, n.tilesDir())
	n.readers.New = func() any { return new(reader) }
	n.bundles = make(chan struct{}, bundleWorkers)
	n.status.Store(&Status{})
	return n
}

// load is Open with the lock held. Up to settle it only reads.
func (n *Node) load() error {
	synced, err := readSynced(n.syncedPath())
	if err != nil {
		return err
	}
	if err := tiles.CheckVersion(n.tilesDir()); err != nil {
		return err
	}
	if err := records.CheckVersion(n.recordsDir()); err != nil {
		return err
	}
	if n.lost, err = readLost(n.cfg.Dir); err != nil {
		return err
	}
	segments, err := n.survey()
	if err != nil {
		return err
	}
	entries, err := n.readIndex(segments)
	if err != nil {
		return err
	}
	n.trim(segments)
	indexed := n.index.Len()
	if err := n.scan(segments); err != nil {
		return err
	}
	if indexed < entries || entries < min(synced.Height, n.index.Len()) || n.index.Len() < synced.Height ||
		slices.ContainsFunc(segments, func(s found) bool { return !s.good && s.size > 0 }) {
		n.unclean.Store(true)
	}
	moved := len(n.moved)
	if err := n.clear(); err != nil {
		return err
	}
	if len(n.moved) > moved {
		n.unclean.Store(true)
	}
	if err := n.mark(); err != nil {
		return err
	}
	for _, dir := range []string{n.segmentsDir(), n.tilesDir(), n.quarantineDir(), filepath.Join(n.cfg.Dir, "inbox")} {
		if err := durable.MkdirAll(dir); err != nil {
			return err
		}
	}
	if err := n.removeNew(); err != nil {
		return err
	}
	if err := n.settle(segments); err != nil {
		return err
	}
	if err := n.openIndex(min(indexed, n.index.Len())); err != nil {
		return err
	}
	store, err := tiles.Open(n.cfg.open, n.tilesDir())
	if err != nil {
		return err
	}
	n.tiles = store
	if err := n.loadInbox(); err != nil {
		return err
	}
	if err := n.replay(synced); err != nil {
		return err
	}
	n.publish()
	return n.drain()
}

// found is a segment as it was found in the folder.
type found struct {
	first uint64
	size  int64
	good  bool // its header is
}

// survey looks at the header of every segment. What stands in the place of one and is no file counts as none.
func (n *Node) survey() ([]found, error) {
	list, err := segment.List(n.segmentsDir())
	if err != nil && !durable.Absent(err) {
		return nil, err
	}
	var segments []found
	for _, first := range list {
		path := filepath.Join(n.segmentsDir(), segment.Name(first))
		size, err := checkSegment(path, first)
		if durable.Absent(err) {
			n.log.Error("something else stands in the place of a segment", "file", path, "error", err)
			continue
		}
		if errors.Is(err, ErrDamaged) {
			n.log.Error("a segment has no good header", "file", path, "error", err)
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		segments = append(segments, found{first: first, size: size, good: err == nil})
	}
	return segments, nil
}

func checkSegment(path string, first uint64) (size int64, err error) {
	f, err := durable.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	header := make([]byte, segment.HeaderSize)
	got, err := io.ReadFull(f, header)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, err
	}
	return info.Size(), segment.CheckHeader(header[:got], first)
}

// readIndex takes the places from the index file as far as they hold together and agree with the segments, and returns how many
// they are.
func (n *Node) readIndex(segments []found) (height uint64, err error) {
	listed := make(map[uint64]bool, len(segments))
	for _, s := range segments {
		listed[s.first] = true
		n.index.AddSegment(s.first)
	}
	var before Place
	err = readIndexFile(n.indexPath(), func(p Place) bool {
		block := n.index.Len()
		begins := p.Offset == segment.HeaderSize
		if !p.Lost() {
			if listed[block] && !begins || block == 0 && !begins {
				return false
			}
			if block > 0 && !before.Lost() {
				follows := p.Offset == before.Offset+segment.FrameHeader+int64(before.Length)
				if p.First != before.Next() || !begins && !follows {
					return false
				}
			}
			if begins {
				n.index.AddSegment(block) // its file may be gone; the others must not be taken for it
			}
		}
		if p.First < before.First {
			return false
		}
		n.index.Add(p)
		before = p
		return true
	})
	return n.index.Len(), err
}

// trim forgets what the index says of the last segment beyond what is there: the scan looks at it again.
func (n *Node) trim(segments []found) {
	var end found
	if len(segments) > 0 {
		end = segments[len(segments)-1]
	}
	for {
		p, seg, ok := n.index.Last()
		if !ok {
			return
		}
		height := n.index.Len()
		switch {
		case p.Lost():
		case seg > end.first || len(segments) == 0:
		case seg < end.first:
			return
		case p.Offset+segment.FrameHeader+int64(p.Length) > end.size:
		default:
			if _, err := n.block(height - 1); err == nil {
				return
			}
		}
		if seg == height-1 && (seg > end.first || len(segments) == 0) {
			n.index.DropSegment(seg)
		}
		n.index.Cut(height - 1)
	}
}

// openIndex makes the index file hold the places of all blocks; its first good entries do already.
func (n *Node) openIndex(good uint64) error {
	f, err := OpenFile(n.cfg.open, n.cfg.Dir, n.indexPath(), good)
	if err != nil {
		return err
	}
	n.indexFile = f
	for block := good; block < n.index.Len(); block++ {
		p, _, _ := n.index.Get(block)
		if err := f.Put(block, &p); err != nil {
			return err
		}
	}
	return nil
}

// replay finds the head: it starts at the synced one, if tiles and segments agree with it, and takes the blocks behind
// it as Put does. Where nothing is synced, or does not fit, that is the whole chain.
func (n *Node) replay(synced chain.Head) error {
	base, err := n.base(synced)
	if err == nil {
		err = n.tiles.Reset(base.Tree.Size())
	}
	n.synced = synced.Height
	if err != nil {
		n.log.Warn("the tree's hashes are computed again from the blocks", "blocks", n.index.Len(), "because", err)
		if n.index.Len() > 0 {
			n.unclean.Store(true)
		}
		base, n.synced = chain.Head{}, 0
		if err := n.tiles.Reset(0); err != nil {
			return err
		}
	}
	n.verifier = chain.NewVerifier(base)
	for block := base.Height; block < n.index.Len(); block = n.verifier.Head().Height {
		leaves, bad := n.take(block)
		if bad == nil {
			if err := n.tiles.Append(leaves, n.verifier.Subtrees()); err != nil {
				return err
			}
			continue
		}
		n.log.Error("a block is damaged", "block", block, "error", bad)
		n.unclean.Store(true)
		head, ok := n.bridge(block)
		if ok {
			ok = n.tiles.Reset(head.Tree.Size()) == nil
		}
		if !ok {
			n.barred = true
			n.stopped = fmt.Errorf("%w: the tree behind block %d cannot be known before it is repaired: %w", ErrDamaged, block, bad)
			n.log.Error("the node stands before a damaged block", "height", block, "error", n.stopped)
			break
		}
		n.verifier = chain.NewVerifier(head)
	}
	n.stored = n.verifier.Head()
	return n.sync() // so that the next start need not do this again
}

// base proves that tiles and blocks fit the synced head, or the last head before it where blocks are gone since.
func (n *Node) base(synced chain.Head) (chain.Head, error) {
	height := min(synced.Height, n.index.Len())
	if height == 0 {
		if n.index.Len() > 0 {
			return chain.Head{}, errors.New("no head was synced")
		}
		return chain.Head{}, nil
	}
	head := synced
	r := n.readers.Get().(*reader)
	defer n.readers.Put(r)
	h, err := r.header(n, height-1)
	if err == nil {
		before, err := n.tiles.Tree(h.Seal())
		if err != nil {
			return chain.Head{}, err
		}
		if before.Root() != h.Root {
			return chain.Head{}, fmt.Errorf("%w: at block %d", ErrTiles, height-1)
		}
		head = chain.Head{Height: height, Hash: h.Hash(), Time: h.Time, Tree: before.Append(h.SealHash())}
	}
	if height == synced.Height {
		// With the last block damaged the synced head is known all the same.
		if head.Hash != synced.Hash || head.Tree.Root() != synced.Tree.Root() {
			return chain.Head{}, fmt.Errorf("the synced head of height %d is of another chain", height)
		}
	} else if err != nil {
		return chain.Head{}, err
	}
	tree, err := n.tiles.Tree(head.Tree.Size())
	if err != nil {
		return chain.Head{}, err
	}
	if tree.Root() != head.Tree.Root() {
		return chain.Head{}, fmt.Errorf("%w: at block %d", ErrTiles, height-1)
	}
	return head, nil
}

// take has the verifier take a block from disk.
func (n *Node) take(number uint64) ([]chain.Hash, error) {
	data, err := n.block(number)
	if err != nil {
		return nil, err
	}
	block, err := chain.ParseBlock(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return n.verifier.Take(&block)
}

// bridge looks for a block behind a damaged one from which the chain goes on: one whose root shows that the hashes on disk
// are those of the tree before it.
func (n *Node) bridge(damaged uint64) (chain.Head, bool) {
	for number := damaged + 1; number < n.index.Len(); number++ {
		data, err := n.block(number)
		if err != nil {
			continue
		}
		block, err := chain.ParseBlock(data)
		if err != nil {
			continue
		}
		tree, err := n.tiles.Tree(block.Header.First)
		if err != nil {
			continue
		}
		head := chain.Head{Height: number, Hash: block.Header.Prev, Tree: tree}
		if _, err := chain.NewVerifier(head).Take(&block); err != nil {
			continue
		}
		return head, true
	}
	return chain.Head{}, false
}
