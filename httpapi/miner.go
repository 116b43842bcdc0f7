package httpapi

import (
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi/wire"
	"github.com/chainstore/chainstore/minernode"
	"github.com/chainstore/chainstore/worker"
)

// MinerConfig is what a miner's API is made of.
type MinerConfig struct {
	Node        *minernode.Node
	Fence       *worker.Fence
	ID          func() string // the miner's id, "" before it is registered
	Threads     int
	MasterToken string
	Fail        func(error) // called when the disk failed under the fence: the role must stop
	Logger      hclog.Logger
}

// NewMiner makes the handler of a miner. All its routes take the master token.
func NewMiner(cfg MinerConfig) http.Handler {
	e := newEngine(cfg.Logger)
	g := gate{fence: cfg.Fence, fail: cfg.Fail}
	e.GET("/livez", func(c *gin.Context) { c.String(http.StatusOK, "ok\n") })
	routes := e.Group("/", e.requires(newSecret(cfg.MasterToken)))
	routes.GET(wire.PathWorkerStatus, e.do(func(c *gin.Context) error {
		if err := g.pass(c); err != nil {
			return err
		}
		c.JSON(http.StatusOK, wire.MinerStatus{ID: cfg.ID(), Threads: cfg.Threads, Mining: cfg.Node.Mining()})
		return nil
	}))
	// The answer comes when the nonce is found. A leader that wants it no longer closes the connection, which ends the search.
	routes.POST(wire.PathMine, e.do(func(c *gin.Context) error {
		if err := g.pass(c); err != nil {
			return err
		}
		var order wire.MineOrder
		if err := readJSON(c, &order); err != nil {
			return err
		}
		nonce, err := cfg.Node.Mine(c.Request.Context(), order)
		if err != nil {
			return err
		}
		c.JSON(http.StatusOK, wire.Found{Nonce: nonce})
		return nil
	}))
	return e
}
