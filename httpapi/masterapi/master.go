package masterapi

import (
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/httpapi/console"
	"github.com/chainstore/chainstore/httpapi/legacy"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// Config is what a master's API is made of.
type Config struct {
	Node         *masternode.Node
	Adopt        func(wire.Adoption) error // makes a new master, which the founder comes for, part of a group
	Refused      func() error              // why this master must not serve, nil where it may
	ClusterToken string
	AdminToken   string
	Transport    http.RoundTripper // to the leader; it must use no proxy and follow no redirect
	Options
	Logger hclog.Logger
}

// Options are the parts of a master's API that an operator chooses. All masters of a group need the same.
type Options struct {
	OpenRegistration bool // anyone may create a project
	OriginalAPI      bool // the routes of the original system are served too
	PrivateLog       bool // the routes of the log need a token
}

// master holds the handlers of a master.
type master struct {
	*httpapi.Engine
	node    *masternode.Node
	adopt   func(wire.Adoption) error
	stale   func() error
	cluster httpapi.Secret
	admin   httpapi.Secret
	leader  *leaderProxy
	Options
}

// New makes the handler of a master: its API for users, and the routes between the nodes.
func New(cfg Config) http.Handler {
	m := &master{
		Engine: httpapi.New(cfg.Logger), node: cfg.Node, adopt: cfg.Adopt, stale: cfg.Refused,
		cluster: httpapi.NewSecret(cfg.ClusterToken), admin: httpapi.NewSecret(cfg.AdminToken),
		leader:  newLeaderProxy(cfg.Node, cfg.Transport),
		Options: cfg.Options,
	}
	m.Use(m.crossOrigin, m.refused)
	// In gin a bare colon starts a parameter: the one of records:batch is escaped.
	m.POST("/v1/records", m.withAppender(m.appendRecord))
	m.POST(`/v1/records\:batch`, m.withAppender(m.appendBatch))
	m.GET("/v1/records", m.withReader(m.list))
	m.GET("/v1/records/stream", m.withReader(m.stream))
	m.GET("/v1/records/:index/proof", m.withReader(m.ofRecord(m.proof)))
	m.HEAD("/v1/records/:index/proof", m.withReader(m.ofRecord(m.proof)))
	m.GET("/v1/records/:index/receipt", m.withReader(m.ofRecord(m.receipt)))
	m.HEAD("/v1/records/:index/receipt", m.withReader(m.ofRecord(m.receipt)))
	m.GET("/v1/blocks/:block/records", m.withReader(m.blockRecords))
	m.GET("/v1/blocks/:block/records/:offset/proof", m.withReader(m.ofRecord(m.proof)))
	m.HEAD("/v1/blocks/:block/records/:offset/proof", m.withReader(m.ofRecord(m.proof)))
	m.GET("/v1/blocks/:block/records/:offset/receipt", m.withReader(m.ofRecord(m.receipt)))
	m.HEAD("/v1/blocks/:block/records/:offset/receipt", m.withReader(m.ofRecord(m.receipt)))
	m.GET("/v1/hashes/:hash", m.withAnyToken(m.findHash))
	m.GET("/v1/records/:index", m.withReader(m.recordByIndex))
	m.HEAD("/v1/records/:index", m.withReader(m.recordByIndex))
	m.GET("/v1/blocks/:block/records/:offset", m.withReader(m.record))
	m.HEAD("/v1/blocks/:block/records/:offset", m.withReader(m.record))
	m.GET("/v1/blocks", m.withAnyToken(m.blocks))
	m.GET("/v1/blocks/:block", m.withAnyToken(m.block))
	m.GET("/v1/cluster", m.withAnyToken(m.clusterStatus))
	m.GET("/v1/cluster/integrity", m.withAnyToken(m.integrity))
	m.POST("/v1/cluster/integrity/confirm-lost", m.withAdmin(m.confirmLost))
	m.POST("/v1/storages/:id/check", m.withAdmin(m.checkStorage))
	m.DELETE("/v1/storages/:id", m.withAdmin(m.removeStorage))
	m.DELETE("/v1/masters/:id", m.withAdmin(m.removeMaster))
	m.POST("/v1/leader/transfer", m.withAdmin(m.transferLeadership))
	m.projectRoutes()
	if cfg.OriginalAPI {
		legacy.AddRoutes(legacy.Config{Engine: m.Engine, Node: m.node, MayCreate: m.mayCreate, AtLeader: m.leader.do})
	}
	m.logRoutes()

	m.Health(m.node.Ready)
	m.GET("/metrics", gin.WrapH(newMetrics(cfg.Node)))
	page := gin.WrapH(console.New(m.node.MasterURLs))
	for _, path := range []string{"/", "/console/*file"} {
		m.GET(path, page)
		m.HEAD(path, page)
	}
	m.GET("/openapi.yaml", description)
	m.HEAD("/openapi.yaml", description)

	nodes := m.Group("/", m.Requires(m.cluster))
	nodes.GET(wire.PathMember, func(c *gin.Context) { c.JSON(http.StatusOK, m.node.Member()) })
	nodes.POST(wire.PathAdopt, m.Do(m.adoptGroup))
	nodes.POST(wire.PathMasters, m.Do(m.announce))
	nodes.GET(wire.PathState, m.Do(m.stateHash))
	nodes.POST(wire.PathSubmissions, m.Do(m.submission))
	nodes.GET(wire.PathReadIndex, m.Do(m.readIndex))
	nodes.GET(wire.PathLeaderStatus, m.Do(m.leaderStatus))
	nodes.GET(wire.PathLeaderIntegrity, m.Do(m.leaderIntegrity))
	nodes.POST(wire.PathSuspects, m.Do(m.suspect))
	nodes.POST(wire.PathWorkers, m.Do(m.register))
	return m
}

// crossOrigin is console.CrossOrigin in front of every route.
func (m *master) crossOrigin(c *gin.Context) {
	if console.AllowOrigin(m.node.MasterURLs, c.Writer.Header(), c.Request) {
		c.AbortWithStatus(http.StatusNoContent)
	}
}

// alwaysServed are the routes of a master that tell of itself, or give what is the same on every master.
var alwaysServed = map[string]bool{
	"/livez": true, "/readyz": true, "/metrics": true, "/openapi.yaml": true, "/": true, "/console/*file": true,
}

// refused keeps a master from serving whose data folder is an older copy of itself: what it knows may not be what the group has acknowledged.
func (m *master) refused(c *gin.Context) {
	if alwaysServed[c.FullPath()] {
		return
	}
	if err := m.stale(); err != nil {
		m.Fail(c, err)
	}
}

// maxSubmission bounds what one master forwards to another.
const maxSubmission = 64 << 20

func (m *master) adoptGroup(c *gin.Context) error {
	var a wire.Adoption
	if err := httpapi.ReadJSON(c, &a); err != nil {
		return err
	}
	if err := m.adopt(a); err != nil {
		return fmt.Errorf("%w: %w", wire.ErrBadRequest, err)
	}
	c.JSON(http.StatusOK, m.node.Member())
	return nil
}

func (m *master) submission(c *gin.Context) error {
	body, err := httpapi.ReadBody(c.Request, maxSubmission)
	if err != nil {
		return err
	}
	answer, err := m.node.Submit(c.Request.Context(), body)
	if err != nil {
		return err
	}
	c.Data(http.StatusOK, wire.TypeOctets, answer)
	return nil
}

func (m *master) readIndex(c *gin.Context) error {
	index, err := m.node.ReadIndex(c.Request.Context())
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, index)
	return nil
}

func (m *master) leaderStatus(c *gin.Context) error {
	status, err := m.node.LeaderCluster(c.Request.Context())
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, status)
	return nil
}

func (m *master) register(c *gin.Context) error {
	var r wire.Registration
	if err := httpapi.ReadJSON(c, &r); err != nil {
		return err
	}
	registered, err := m.node.Register(c.Request.Context(), r, c.GetHeader(wire.HeaderHops) != "")
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, registered)
	return nil
}

func (m *master) clusterStatus(c *gin.Context) error {
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, m.node.Cluster(c.Request.Context()))
	return nil
}
