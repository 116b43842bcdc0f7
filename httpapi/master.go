package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// MasterConfig is what a master's API is made of.
type MasterConfig struct {
	Node         *masternode.Node
	Adopt        func(wire.Adoption) error // makes a new master, which the founder comes for, part of a group
	Refused      func() error              // why this master must not serve, nil where it may
	ClusterToken string
	AdminToken   string
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
	*engine
	node    *masternode.Node
	adopt   func(wire.Adoption) error
	stale   func() error
	cluster secret
	admin   secret
	leader  *leaderProxy
	Options
}

// NewMaster makes the handler of a master: its API for users, and the routes between the nodes.
func NewMaster(cfg MasterConfig) http.Handler {
	m := &master{
		engine: newEngine(cfg.Logger), node: cfg.Node, adopt: cfg.Adopt, stale: cfg.Refused,
		cluster: newSecret(cfg.ClusterToken), admin: newSecret(cfg.AdminToken), leader: newLeaderProxy(cfg.Node),
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
		m.originalRoutes()
	}
	m.logRoutes()

	m.GET("/livez", func(c *gin.Context) { c.String(http.StatusOK, "ok\n") })
	m.GET("/readyz", m.do(func(c *gin.Context) error {
		if err := m.node.Ready(); err != nil {
			return err
		}
		c.String(http.StatusOK, "ok\n")
		return nil
	}))
	m.GET("/metrics", gin.WrapH(newMetrics(cfg.Node)))
	console := gin.WrapH(NewConsole(m.node.MasterURLs))
	for _, path := range []string{"/", "/console/*file"} {
		m.GET(path, console)
		m.HEAD(path, console)
	}
	m.GET("/openapi.yaml", description)
	m.HEAD("/openapi.yaml", description)

	nodes := m.Group("/", m.requires(m.cluster))
	nodes.GET(wire.PathMember, func(c *gin.Context) { c.JSON(http.StatusOK, m.node.Member()) })
	nodes.POST(wire.PathAdopt, m.do(m.adoptGroup))
	nodes.POST(wire.PathMasters, m.do(m.announce))
	nodes.GET(wire.PathState, m.do(m.stateHash))
	nodes.POST(wire.PathSubmissions, m.do(m.submission))
	nodes.GET(wire.PathReadIndex, m.do(m.readIndex))
	nodes.GET(wire.PathLeaderStatus, m.do(m.leaderStatus))
	nodes.GET(wire.PathLeaderIntegrity, m.do(m.leaderIntegrity))
	nodes.POST(wire.PathSuspects, m.do(m.suspect))
	nodes.POST(wire.PathWorkers, m.do(m.register))
	return m
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
		m.fail(c, err)
	}
}

// maxSmallBody bounds the JSON bodies of administration, maxSubmission what one master forwards.
const (
	maxSmallBody  = 64 << 10
	maxSubmission = 64 << 20
)

// readJSON reads a small JSON body into v.
func readJSON(c *gin.Context, v any) error {
	body, err := readBody(c.Request, maxSmallBody)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: the body is not the JSON that this route takes: %w", errBadRequest, err)
	}
	return nil
}

// readExact reads a small JSON body into v and returns its bytes. A field that v does not have is refused: whoever sends one means something
// by it.
func readExact(c *gin.Context, v any) ([]byte, error) {
	body, err := readBody(c.Request, maxSmallBody)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err = d.Decode(v)
	if err == nil && d.More() {
		err = errors.New("there is more behind it")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the body is not the JSON that this route takes: %w", errBadRequest, err)
	}
	return body, nil
}

func (m *master) adoptGroup(c *gin.Context) error {
	var a wire.Adoption
	if err := readJSON(c, &a); err != nil {
		return err
	}
	if err := m.adopt(a); err != nil {
		return fmt.Errorf("%w: %w", errBadRequest, err)
	}
	c.JSON(http.StatusOK, m.node.Member())
	return nil
}

func (m *master) submission(c *gin.Context) error {
	body, err := readBody(c.Request, maxSubmission)
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
	status, err := m.node.LeaderCluster()
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, status)
	return nil
}

func (m *master) register(c *gin.Context) error {
	var r wire.Registration
	if err := readJSON(c, &r); err != nil {
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
