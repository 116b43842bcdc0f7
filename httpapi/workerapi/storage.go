package workerapi

import (
	"cmp"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi"
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
	*httpapi.Engine
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
		Engine: httpapi.New(cfg.Logger), node: cfg.Node, id: cfg.ID, group: cfg.Group, ready: cfg.Ready,
		gate: gate{fence: cfg.Fence, fail: cfg.Fail}, silence: cmp.Or(cfg.Quiet, wire.RecoveryQuiet),
	}
	s.quiet.answered = cfg.Answered
	s.quiet.started()
	s.gate.came = s.quiet.heard
	s.Health(cfg.Ready)
	routes := s.Group("/", s.Requires(httpapi.NewSecret(cfg.MasterToken)), notRefused(s.Engine, cfg.Ready))
	routes.GET(wire.PathWorkerStatus, s.Do(s.status))
	routes.PUT(wire.PathBlocks+":block", s.Do(s.put))
	routes.PUT(wire.PathInbox+":block", s.Do(s.putInbox))
	routes.POST("/worker/v1/records\\:read", s.Do(s.read))
	routes.GET(wire.PathHeaders, s.Do(s.headers))
	routes.GET(wire.PathLocate+":index", s.Do(s.locate))
	routes.POST("/worker/v1/tiles\\:read", s.Do(s.tiles))
	routes.GET(wire.PathEntries, s.Do(s.entries))
	routes.POST("/worker/v1/records\\:find", s.Do(s.findRecords))
	routes.GET(wire.PathFindHash+":hash", s.Do(s.findHash))
	routes.POST(wire.PathCheck, s.Do(s.check))
	routes.POST(wire.PathReceive, s.Do(s.receive))
	routes.POST(wire.PathSend, s.Do(s.send))
	s.POST(wire.PathTransfer, notRefused(s.Engine, cfg.Ready), s.Do(s.transfer)) // the repair's ticket is the token
	recovery := s.Group("/", s.Requires(httpapi.NewSecret(cfg.ClusterToken)), notRefused(s.Engine, cfg.Ready))
	recovery.GET(wire.PathChain, s.Do(s.chainStatus))
	recovery.POST(wire.PathChainEpoch, s.Do(s.newEpoch))
	recovery.GET(wire.PathChainBlocks, s.Do(s.chainBlocks))
	return s
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
