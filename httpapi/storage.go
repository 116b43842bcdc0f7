package httpapi

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/wire"
)

// StorageConfig is what a storage node's API is made of.
type StorageConfig struct {
	Node        *storagenode.Node
	Fence       *worker.Fence
	ID          func() string // the node's id, "" before it is registered
	Group       func() string // the cluster that it is of, "" before it is registered
	Ready       func() error  // why it takes no part, and no block: worker.ErrNotRegistered, worker.ErrRefused, or nil
	MasterToken string
	// ClusterToken opens the chain to a recovery of the masters, which know no master token.
	ClusterToken string
	// Answered is when a leader last answered a registration of this node, which is a sign of life like an order; zero
	// where none has since the start. nil for never.
	Answered func() time.Time
	// Quiet is how long no leader must have given an order before the masters may be recovered; 0 for
	// wire.RecoveryQuiet.
	Quiet  time.Duration
	Fail   func(error) // called when the disk failed under the fence: the role must stop
	Logger hclog.Logger
}

type storage struct {
	*engine
	node    *storagenode.Node
	id      func() string
	group   func() string
	ready   func() error
	gate    gate
	quiet   quiet
	silence time.Duration // see StorageConfig.Quiet
	taking  sync.RWMutex  // held for reading while an order is carried out that has passed the fence
}

// NewStorage makes the handler of a storage node. All its routes take the master token, but the one by which another storage node sends
// blocks for a repair, and those by which masters are recovered from its chain. None but those for its health answers
// once the masters have refused it.
func NewStorage(cfg StorageConfig) http.Handler {
	s := &storage{
		engine: newEngine(cfg.Logger), node: cfg.Node, id: cfg.ID, group: cfg.Group, ready: cfg.Ready,
		gate: gate{fence: cfg.Fence, fail: cfg.Fail}, silence: cmp.Or(cfg.Quiet, wire.RecoveryQuiet),
	}
	s.quiet.answered = cfg.Answered
	s.quiet.started()
	s.gate.came = s.quiet.heard
	s.health(cfg.Ready)
	routes := s.Group("/", s.requires(newSecret(cfg.MasterToken)), s.notRefused(cfg.Ready))
	routes.GET(wire.PathWorkerStatus, s.do(s.status))
	routes.PUT(wire.PathBlocks+":block", s.do(s.put))
	routes.PUT(wire.PathInbox+":block", s.do(s.putInbox))
	routes.POST("/worker/v1/records\\:read", s.do(s.read))
	routes.GET(wire.PathHeaders, s.do(s.headers))
	routes.GET(wire.PathLocate+":index", s.do(s.locate))
	routes.POST("/worker/v1/tiles\\:read", s.do(s.tiles))
	routes.GET(wire.PathEntries, s.do(s.entries))
	routes.POST("/worker/v1/records\\:find", s.do(s.findRecords))
	routes.GET(wire.PathFindHash+":hash", s.do(s.findHash))
	routes.POST(wire.PathCheck, s.do(s.check))
	routes.POST(wire.PathReceive, s.do(s.receive))
	routes.POST(wire.PathSend, s.do(s.send))
	s.POST(wire.PathTransfer, s.notRefused(cfg.Ready), s.do(s.transfer)) // the repair's ticket is the token
	recovery := s.Group("/", s.requires(newSecret(cfg.ClusterToken)), s.notRefused(cfg.Ready))
	recovery.GET(wire.PathChain, s.do(s.chainStatus))
	recovery.POST(wire.PathChainEpoch, s.do(s.newEpoch))
	recovery.GET(wire.PathChainBlocks, s.do(s.chainBlocks))
	return s
}

// gate lets the orders of the newest leader in.
type gate struct {
	fence *worker.Fence
	fail  func(error)
	came  func() // called when an order has come, before the fence is asked; nil for nothing
}

// pass reads the order's fence and refuses one of a deposed leader.
func (g *gate) pass(c *gin.Context) error {
	order, err := wire.ParseOrder(c.GetHeader(wire.HeaderFence))
	if err != nil {
		return fmt.Errorf("header %s: %w", wire.HeaderFence, err)
	}
	if g.came != nil {
		g.came()
	}
	err = g.fence.Pass(order)
	if err != nil && !errors.Is(err, wire.ErrFenced) {
		g.fail(err)
	}
	return err
}

func (s *storage) wireStatus(at storagenode.Status) wire.StorageStatus {
	return wire.StorageStatus{ID: s.id(), Height: at.Height, Hash: at.Hash, Size: at.Size, Inbox: at.Inbox}
}

func (s *storage) status(c *gin.Context) error {
	if err := s.gate.pass(c); err != nil {
		return err
	}
	c.JSON(http.StatusOK, s.wireStatus(s.node.Status()))
	return nil
}

// maxBlock bounds a block's bytes: the largest buffer that can be set, and one record behind it.
const maxBlock = 256 << 20

func (s *storage) put(c *gin.Context) error { return s.takeBlock(c, s.node.Put) }

func (s *storage) putInbox(c *gin.Context) error { return s.takeBlock(c, s.node.PutInbox) }

// order lets an order of the newest leader in that the node is to act on. A node that is not registered since its start
// takes none: the masters do not know yet what it has, and its fence may have gone back with a restored folder. The
// registration comes first here, since it raises the fence before it counts.
func (s *storage) order(c *gin.Context) error {
	if err := s.ready(); err != nil {
		return err
	}
	return s.gate.pass(c)
}

func (s *storage) takeBlock(c *gin.Context, take func(uint64, []byte) (storagenode.Status, error)) error {
	n, err := number(c, "block", math.MaxUint64)
	if err != nil {
		return err
	}
	if err := s.order(c); err != nil {
		return err
	}
	block, err := readBody(c.Request, maxBlock)
	if err != nil {
		return err
	}
	// The body may have been long on its way: a refusal and a fence that was raised meanwhile hold for it too.
	s.taking.RLock()
	defer s.taking.RUnlock()
	if err := s.order(c); err != nil {
		return err
	}
	at, err := take(n, block)
	if err := s.ready(); err != nil {
		return err // refused meanwhile: what it has is not acknowledged
	}
	if errors.Is(err, wire.ErrNotNext) {
		return &wire.NotNextError{Status: s.wireStatus(at), Err: err}
	}
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, s.wireStatus(at))
	return nil
}

// readChunk is how many records are read before the answer's size is looked at.
const readChunk = 16

func (s *storage) read(c *gin.Context) error {
	body, err := readBody(c.Request, maxSmallBody)
	if err != nil {
		return err
	}
	places, err := wire.ParsePlaces(body)
	if err != nil {
		return err
	}
	var out []byte
	answers := make([]wire.ProvenRecord, 0, readChunk)
	for len(places) > 0 && len(out) < wire.MaxReadBytes {
		n := min(readChunk, len(places))
		answers = s.node.Read(places[:n], answers[:0])
		places = places[n:]
		size := len(out)
		for i := range answers {
			size += 6 + len(answers[i].Record) + chain.HashSize*len(answers[i].Path)
		}
		out = slices.Grow(out, size-len(out))
		for i := range answers {
			out = answers[i].AppendTo(out)
		}
	}
	c.Data(http.StatusOK, wire.TypeOctets, out)
	return nil
}

func (s *storage) headers(c *gin.Context) error {
	from, err1 := strconv.ParseUint(c.Query("from"), 10, 64)
	size, err2 := strconv.ParseUint(c.Query("size"), 10, 64)
	limit, err3 := strconv.Atoi(c.Query("limit"))
	if err := errors.Join(err1, err2, err3); err != nil || limit < 1 || limit > wire.MaxHeaders {
		return fmt.Errorf("%w: from, size and limit (1 to %d) are needed", wire.ErrBadRequest, wire.MaxHeaders)
	}
	headers, err := s.node.Headers(from, limit, size)
	if err != nil {
		return err
	}
	var out []byte
	for i := range headers {
		out = headers[i].AppendTo(out)
	}
	c.Data(http.StatusOK, wire.TypeOctets, out)
	return nil
}

func (s *storage) locate(c *gin.Context) error {
	index, err := number(c, "index", math.MaxUint64)
	if err != nil {
		return err
	}
	block, err := s.node.Locate(index)
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, wire.Located{Block: block})
	return nil
}
