package workerapi

import (
	"cmp"
	"context"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/minernode"
	"github.com/chainstore/chainstore/wire"
)

// MinerConfig configures a miner's API.
type MinerConfig struct {
	Node        *minernode.Node
	Fence       *worker.Fence
	ID          func() string // the miner's id, "" before it is registered
	URL         string        // of the miner: a browser reads its metrics under this name
	Group       func() string // the miner's cluster, "" before it is registered
	Ready       func() error  // why it takes no part: worker.ErrNotRegistered, worker.ErrRefused, or nil
	Threads     int
	MasterToken string
	Secrets     nodeauth.Secrets        // of the nodes; that of miners is enough
	Reported    func() []wire.SecretUse // as of a storage node
	Process     nodeauth.Process        // of the miner's own calls
	Bearers     func() bool             // older masters may send a token in place of a proof; nil for never
	Fail        func(error)             // called when the disk failed under the fence: the role must stop
	Logger      hclog.Logger
	// Certificates are those of the node, nil without TLS.
	Certificates *certs.Store
	TLS          certs.Port // with the step of the move to TLS; without a mode for none
	ProbeTLS     TLSProber
}

// NewMiner makes the handler of a miner. All its routes except those of its health take the proof of a master that has
// the miner's master token, and refuse requests once the masters have refused the miner.
func NewMiner(cfg MinerConfig) http.Handler {
	e := httpapi.New(cfg.Logger)
	if cfg.TLS.Mode != nil {
		e.TakePlain(cfg.TLS.Opening)
	}
	g := gate{fence: cfg.Fence, fail: cfg.Fail, group: cfg.Group}
	e.NoRetry(minernode.ErrClosed)
	nodes := &httpapi.Nodes{
		Accept: map[string]nodeauth.Accepted{
			nodeauth.Orders: {Secret: cfg.Secrets.Miner, Bound: cfg.MasterToken},
		},
		Secured: cfg.Certificates != nil, Process: cfg.Process, Bearers: cfg.Bearers,
	}
	e.Authenticate(nodes)
	e.Use(httpapi.NewNodeIntake(httpapi.MaxSmallBody).TrackAll)
	e.Health(cfg.Ready)
	e.Metrics(httpapi.NewScrapeLimit(cfg.Logger), guardOf(cfg.URL), metricsOf(cfg.Certificates),
		httpapi.SecretMetrics{Report: cfg.Reported})
	routes := e.Group("/", e.Only(cfg.Certificates != nil, certs.Master), e.Requires(nodes, nodeauth.Orders),
		notRefused(e, cfg.Ready))
	routes.GET(wire.PathWorkerStatus, e.Do(func(c *gin.Context) error {
		if err := g.pass(c); err != nil {
			return err
		}
		c.JSON(http.StatusOK, wire.MinerStatus{
			ID: cfg.ID(), Threads: cfg.Threads, Mining: cfg.Node.Mining(),
			Certificate: certificateOf(cfg.Certificates), Secrets: orNone(cfg.Reported)(),
			TLS: useOf(cfg.TLS.Mode, c),
		})
		return nil
	}))
	routes.POST(wire.PathWorkerProfile, e.OwnProfile())
	routes.POST(wire.PathWorkerTLS, e.Do(probeTLS(&g, cfg.ProbeTLS)))
	// The answer comes when the nonce is found. A leader that no longer needs it closes the connection, which ends the
	// search, as does an order of a newer leader.
	routes.POST(wire.PathMine, e.Do(func(c *gin.Context) error {
		if err := g.pass(c); err != nil {
			return err
		}
		var order wire.MineOrder
		if err := httpapi.ReadJSON(c, &order); err != nil {
			return err
		}
		var found wire.Found
		err := g.do(c, func(ctx context.Context) (err error) { // the body may have taken long to arrive
			found.Nonce, err = cfg.Node.Mine(ctx, order)
			return err
		})
		// The masters may have refused the miner meanwhile.
		return answer(c)(found, cmp.Or(refusal(cfg.Ready), err))
	}))
	return e
}
