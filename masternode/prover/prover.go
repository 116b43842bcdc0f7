package prover

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/batch"
	"github.com/chainstore/chainstore/wire"
)

// Storages calls storage nodes. Their answers are not trusted. The methods may be called by many goroutines.
type Storages interface {
	// ReadRecords answers for each place, in order. The caller knows the leaf hashes of the first known places, which
	// may be answered without a path.
	ReadRecords(ctx context.Context, w wire.Worker, places []wire.Place, known int) ([]wire.ProvenRecord, error)
	// Headers answers with up to limit headers from a block on, with inclusion proofs of their seals in the tree of a
	// size.
	Headers(ctx context.Context, w wire.Worker, from uint64, limit int, size uint64) ([]wire.ProvenHeader, error)
	// Locate returns the block of a leaf index.
	Locate(ctx context.Context, w wire.Worker, index uint64) (uint64, error)
	// ReadTiles answers with tiles of the tree's hashes, all or none.
	ReadTiles(ctx context.Context, w wire.Worker, tiles []tlog.Tile) (wire.TileData, error)
	// Entries answers with the data of count leaves from the first one on, all or none.
	Entries(ctx context.Context, w wire.Worker, first uint64, count int) (wire.Entries, error)
	// FindRecords returns places of records, in order, as the node's index has them, and the leaf up to which it
	// searched.
	FindRecords(ctx context.Context, w wire.Worker, q wire.RecordQuery) (wire.RecordHits, error)
	// FindHash returns the leaves that may have a hash, and the leaf up to which the node's index reaches.
	FindHash(ctx context.Context, w wire.Worker, h chain.Hash) (wire.RecordHits, error)
}

// Ledger gives access to the replicated state. Read calls f with the state, which does not change meanwhile. f must be
// quick and must not keep the state.
type Ledger interface {
	Read(f func(*masterfsm.State))
}

// Config describes a [Prover]. All fields except RecordBytes and TileBytes are required.
type Config struct {
	// Self is the member id of this master. It decides which node is asked first, so that the masters spread over the
	// nodes.
	Self     string
	Ledger   Ledger
	Storages Storages
	Logger   hclog.Logger
	Clock    func() time.Time
	// RecordBytes bounds the cache of proven records, in bytes. It keeps nothing if RecordBytes is 0.
	RecordBytes uint64
	// TileBytes bounds the cache of proven tiles of the tree's hashes, in bytes; 0 for [DefaultTileBytes].
	TileBytes uint64
}

// Prover reads from storage nodes. Its methods may be called by many goroutines.
type Prover struct {
	cfg Config
	log hclog.Logger

	tiles     *runCache[tileID]
	leafTiles *leafTiles
	bundles   *bundles

	reads    *batch.Batcher[recordPlace, HashedRecord]
	records  *recordCache
	headers  *lru.Cache[uint64, chain.Header]
	fetches  batch.SingleFlight[uint64, chain.Header] // of pages of headers, by first block
	suspects chan wire.Suspicion                      // nodes that answered wrong

	mu     sync.Mutex           // guards all below
	unwell map[string]time.Time // by node id: ask last until then
}

const (
	keptHeaders = 16384
	headerPage  = 64 // headers fetched at a time
	readTimeout = 2 * time.Second
	unwellFor   = time.Second      // after a call that failed at once
	hungFor     = 10 * time.Second // after a call that timed out
	distrustFor = 60 * time.Second // after a wrong answer
	readLanes   = 4
	maxSuspects = 64 // that wait to be reported; more are dropped
)

// New makes a prover. Reads of records wait until Run is called.
func New(cfg Config) *Prover {
	kept := keptTiles(cfg.TileBytes)
	p := &Prover{
		cfg: cfg, log: cfg.Logger.Named("prover"), tiles: newRunCache[tileID](kept), leafTiles: newLeafTiles(kept),
		headers: newLRU[uint64, chain.Header](keptHeaders), unwell: map[string]time.Time{},
		records:  newRecordCache(cfg.RecordBytes),
		suspects: make(chan wire.Suspicion, maxSuspects),
	}
	p.fetches.Detached = true // the page is kept, and a node that hangs is noticed
	p.reads = batch.New(batch.Config[recordPlace, HashedRecord]{
		Lanes: readLanes, Eager: 1, MaxCount: 128, Handle: p.readBatch, Closed: errStopping,
	})
	p.bundles = newBundles(p)
	return p
}

// Run reads records until ctx ends, and waits for all reads that are in flight.
func (p *Prover) Run(ctx context.Context) {
	var tiles sync.WaitGroup
	tiles.Go(func() { p.readDueTiles(ctx) })
	p.reads.Run(ctx)
	tiles.Wait()
	stopping := fmt.Errorf("%w: %w", errStopping, context.Cause(ctx))
	p.fetches.Close(stopping)
	p.bundles.kept.reads.Close(stopping)
	p.tiles.reads.Close(stopping)
}

var errStopping = fmt.Errorf("%w: this master is stopping", wire.ErrUnavailable)

// Suspects gives the nodes that answered wrong, to be reported to the leader.
func (p *Prover) Suspects() <-chan wire.Suspicion { return p.suspects }
