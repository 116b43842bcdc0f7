package workerapi

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/wire"
)

// StorageConfig configures a storage node's API.
type StorageConfig struct {
	Node        *storagenode.Node
	Disk        func() wire.Disk // the space of its data folder; nil for unknown
	Fence       *worker.Fence
	ID          func() string // the node's id, "" before it is registered
	URL         string        // of the node: a browser reads its metrics under this name
	Group       func() string // the node's cluster, "" before it is registered
	Ready       func() error  // why it takes no part, and no block: worker.ErrNotRegistered, worker.ErrRefused, or nil
	MasterToken string
	Secrets     nodeauth.Secrets        // of the nodes; that of masters is not needed
	Reported    func() []wire.SecretUse // what the node says of its secrets; nil for nothing
	Process     nodeauth.Process        // of the node's own calls
	Bearers     func() bool             // older nodes may send a token in place of a proof; nil for never
	// Certificates are those of the node, nil without TLS.
	Certificates *certs.Store
	TLS          certs.Port // with the step of the move to TLS; without a mode for none
	ProbeTLS     TLSProber
	// Answered is when a leader last answered a registration of this node, which shows that a leader lives, like an
	// order; zero where none has since the start. nil for never.
	Answered func() time.Time
	// Quiet is how long no leader must have given an order before the masters may be recovered; 0 for
	// wire.RecoveryQuiet.
	Quiet  time.Duration
	Fail   func(error) // called when the disk failed under the fence: the role must stop
	Logger hclog.Logger
}

// storage has the handlers of a storage node.
type storage struct {
	*httpapi.Engine
	node    *storagenode.Node
	id      func() string
	group   func() string
	ready   func() error
	disk    func() wire.Disk
	certs   *certs.Store
	mode    *certs.Mode
	secrets func() []wire.SecretUse
	gate    gate
	leader  leaderSilence
	silence time.Duration // see StorageConfig.Quiet
}

// NewStorage makes the handler of a storage node. Its routes take the proof of a master that has the node's master
// token, except that another storage node sends the blocks of a repair with the repair's ticket, and a recovery of the
// masters reads the chain with a secret of its own. Once the masters have refused the node, only the routes of its
// health answer.
func NewStorage(cfg StorageConfig) http.Handler {
	s := &storage{
		Engine: httpapi.New(cfg.Logger), node: cfg.Node, id: cfg.ID, group: cfg.Group, ready: cfg.Ready, disk: cfg.Disk,
		certs: cfg.Certificates, mode: cfg.TLS.Mode, secrets: orNone(cfg.Reported),
		leader: leaderSilence{last: time.Now(), answered: cfg.Answered,
			waits:      func() bool { return errors.Is(cfg.Ready(), worker.ErrWaiting) },
			registered: cmp.Or(cfg.Quiet, wire.RecoveryQuiet)},
		silence: cmp.Or(cfg.Quiet, wire.RecoveryQuiet),
	}
	if cfg.TLS.Mode != nil {
		s.TakePlain(cfg.TLS.Opening)
	}
	s.AnswerAs(storagenode.ErrDamaged, wire.ErrUnavailable)
	s.NoRetry(storagenode.ErrDamaged, storagenode.ErrFailed) // they take a repair and a restart
	s.gate = gate{fence: cfg.Fence, fail: cfg.Fail, group: cfg.Group, came: s.leader.heard}
	nodes := &httpapi.Nodes{
		Accept: map[string]nodeauth.Accepted{
			nodeauth.Orders:   {Secret: cfg.Secrets.Storage, Bound: cfg.MasterToken},
			nodeauth.Storage:  {Secret: cfg.Secrets.Storage},
			nodeauth.Recovery: {Secret: cfg.Secrets.Recovery},
		},
		Secured: cfg.Certificates != nil, Process: cfg.Process, Bearers: cfg.Bearers, Streamed: wire.PathTransfer,
	}
	s.Authenticate(nodes)
	s.Use(httpapi.NewNodeIntake(maxBlock).TrackAll)
	s.Health(cfg.Ready)
	s.Metrics(httpapi.NewScrapeLimit(cfg.Logger), guardOf(cfg.URL), metricsOf(cfg.Certificates),
		httpapi.SecretMetrics{Report: cfg.Reported})
	secured := cfg.Certificates != nil
	masters := s.Only(secured, certs.Master)
	routes := s.Group("/", masters, s.Requires(nodes, nodeauth.Orders), notRefused(s.Engine, cfg.Ready))
	routes.GET(wire.PathWorkerStatus, s.Do(s.status))
	routes.POST(wire.PathWorkerProfile, s.OwnProfile())
	routes.POST(wire.PathWorkerTLS, s.Do(probeTLS(&s.gate, cfg.ProbeTLS)))
	routes.PUT(wire.PathBlocks+":block", s.Do(s.put))
	routes.PUT(wire.PathInbox+":block", s.Do(s.putInbox))
	routes.POST("/worker/v1/records\\:read", s.Do(s.read))
	routes.GET(wire.PathHeaders, s.Do(s.headers))
	routes.GET(wire.PathLocate+":index", s.Do(s.locate))
	routes.POST("/worker/v1/tiles\\:read", s.Do(s.tiles))
	routes.GET(wire.PathEntries, s.Do(s.entries))
	routes.POST("/worker/v1/records\\:find", s.Do(httpapi.WithJSON(s.findRecords)))
	routes.GET(wire.PathFindHash+":hash", s.Do(s.findHash))
	routes.POST(wire.PathCheck, s.Do(obey(s, s.node.Check)))
	routes.POST(wire.PathReceive, s.Do(obey(s, s.receive)))
	routes.POST(wire.PathSend, s.Do(obey(s, s.node.Send)))
	s.POST(wire.PathTransfer, s.Only(secured, certs.Storage), s.RequiresProof(nodes, nodeauth.Storage),
		notRefused(s.Engine, cfg.Ready), s.Do(s.transfer))
	recovery := s.Group("/", masters, s.Requires(nodes, nodeauth.Recovery), notRefused(s.Engine, cfg.Ready))
	recovery.GET(wire.PathChain, s.Do(s.chainStatus))
	recovery.POST(wire.PathChainEpoch, s.Do(httpapi.WithJSON(s.newEpoch)))
	recovery.GET(wire.PathChainBlocks, s.Do(s.chainBlocks))
	return s
}

// wireStatus adds to a node's status what the node does not know.
func (s *storage) wireStatus(c *gin.Context, at storagenode.Status) wire.StorageStatus {
	at.ID = s.id()
	if s.disk != nil {
		at.Disk = s.disk()
	}
	at.Certificate, at.TLS = certificateOf(s.certs), useOf(s.mode, c)
	if list := s.secrets(); len(list) > 0 {
		at.Secrets = &list
	}
	return at
}

// status is what the node has.
func (s *storage) status(c *gin.Context) error {
	if err := s.gate.pass(c); err != nil {
		return err
	}
	//mutant:storage-status
	c.JSON(http.StatusOK, s.wireStatus(c, s.node.Status()))
	return nil
}

// order admits an order of the newest leader that the node is to carry out. A node that is not registered since its
// start takes none: the masters do not know yet what it has, and its fence may be an older one, of a restored folder.
// The registration is checked first, since it raises the fence before it counts.
func (s *storage) order(c *gin.Context) error {
	if err := s.ready(); err != nil {
		return err
	}
	return s.gate.pass(c)
}

// carryOut reads the body of an order, of at most limit bytes, and runs act with it. See [gate.do].
func (s *storage) carryOut(c *gin.Context, limit int64, act func(ctx context.Context, body []byte) error) error {
	if err := s.order(c); err != nil {
		return err
	}
	body, err := httpapi.ReadBody(c.Request, limit)
	if err != nil {
		return err
	}
	// The body may have taken long to arrive. A refusal, or a newer order that passed meanwhile, applies to it too.
	if err := s.ready(); err != nil {
		return err
	}
	return s.gate.do(c, func(ctx context.Context) error { return act(ctx, body) })
}
