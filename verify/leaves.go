package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// Tiles of C2SP tlog-tiles have 2^8 hashes, and bundles as many entries.
const (
	tileHeight = wire.TileHeight
	tileWidth  = wire.TileWidth
)

// bundle is a range of leaves as the log serves them.
type bundle struct {
	number  uint64
	width   uint64
	entries []entry
	gone    bool // no node has the bytes any more
	err     error
}

// entry is one leaf: a record's or a seal.
type entry struct {
	leaf   chain.Leaf
	header chain.Header
	seal   bool
}

// hash is the entry's hash in the tree.
func (e *entry) hash() chain.Hash {
	if e.seal {
		return e.header.SealHash()
	}
	return e.leaf.Hash()
}

// errEntry: a bundle is malformed.
var errEntry = errors.New("not a bundle of leaves")

// parseBundle reads the first width entries of a bundle, which may have more.
func parseBundle(data []byte, first, width, most uint64) ([]entry, error) {
	entries := make([]entry, 0, width)
	for n := range most {
		var leaf []byte
		var err error
		if leaf, data, err = wire.NextEntry(data); err != nil {
			return nil, fmt.Errorf("%w: leaf %d: %w", errEntry, first+n, err)
		}
		e, err := parseEntry(leaf)
		if err != nil {
			return nil, fmt.Errorf("leaf %d: %w", first+n, err)
		}
		if n < width {
			entries = append(entries, e)
		}
	}
	if len(data) > 0 {
		return nil, fmt.Errorf("%w: %d bytes behind its last leaf", errEntry, len(data))
	}
	return entries, nil
}

func parseEntry(data []byte) (e entry, err error) {
	switch len(data) {
	case chain.LeafSize:
		e.leaf, err = chain.ParseLeaf(data)
	case chain.HeaderSize:
		e.seal = true
		e.header, err = chain.ParseHeader(data)
	default:
		err = fmt.Errorf("%w: %d bytes are neither a record's leaf nor a seal", errEntry, len(data))
	}
	return e, err
}

// tilePath is the path of a tile, with its width if it is partial. Level -1 means the entries.
func tilePath(level int, number, width uint64) string {
	t := tlog.Tile{H: tileHeight, L: level, N: int64(number), W: int(width)}
	path := strings.TrimPrefix(t.Path(), fmt.Sprintf("tile/%d/", tileHeight))
	return "tile/" + strings.Replace(path, "data/", "entries/", 1)
}

// tile fetches a tile or a bundle. If a partial one is gone, it fetches the full one and returns full.
func (f *fetcher) tile(ctx context.Context, level int, number, width uint64,
	limit int) (data []byte, full bool, err error) {
	data, err = f.get(ctx, tilePath(level, number, width), limit)
	if width < tileWidth && hasStatus(err, http.StatusNotFound) {
		if whole, e := f.get(ctx, tilePath(level, number, tileWidth), limit); e == nil {
			return whole, true, nil
		}
	}
	return data, width == tileWidth, err
}

// bundle fetches and reads a bundle.
func (f *fetcher) bundle(ctx context.Context, number, width uint64) bundle {
	b := bundle{number: number, width: width}
	data, full, err := f.tile(ctx, -1, number, width, wire.MaxBundle)
	if isProblem(err, wire.ErrLost) {
		b.gone = true
		return b
	}
	if err != nil {
		b.err = err
		return b
	}
	most := width
	if full {
		most = tileWidth
	}
	b.entries, b.err = parseBundle(data, number*tileWidth, width, most)
	return b
}

// bundles fetches the bundles of a range of leaves, several at once, and calls take for them in order. It ends after
// the last one, or with the first error of take.
func (f *fetcher) bundles(ctx context.Context, from, to uint64, parallel int, take func(bundle) error) error {
	parent := ctx
	ctx, cancel := context.WithCancel(ctx)
	var fetching sync.WaitGroup
	defer fetching.Wait()
	defer cancel()
	queue := make(chan chan bundle, parallel-1) // and one more is waited for
	fetching.Go(func() {
		defer close(queue)
		for number := from / tileWidth; number*tileWidth < to; number++ {
			result := make(chan bundle, 1)
			select {
			case queue <- result:
			case <-ctx.Done():
				return
			}
			width := min(tileWidth, to-number*tileWidth)
			fetching.Go(func() { result <- f.bundle(ctx, number, width) })
		}
	})
	for result := range queue {
		if err := take(<-result); err != nil {
			return err
		}
	}
	return context.Cause(parent)
}
