package masterapi

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/httpapi/console"
	"github.com/chainstore/chainstore/httpapi/legacy"
	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/oidc"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// Config configures a master's API.
type Config struct {
	Node    *masternode.Node
	Adopt   func(wire.Adoption) error // makes a new master part of a group, when the founder asks for it
	Refused func() error              // why this master must not serve, nil where it may
	Secrets nodeauth.Secrets          // of the nodes
	Process nodeauth.Process          // of this master's own calls
	// Reported is what this master says of its secrets; nil for nothing.
	Reported func() []wire.SecretUse
	// Certificate says which certificates this master uses. nil without TLS; with it other nodes must have
	// certificates.
	Certificate func() certs.Report
	// TLS has the step of the move to TLS, and says whether this master takes plain text too; without a mode for never.
	TLS        certs.Port
	AdminToken string       // "" where all administrators have named tokens
	Issuer     *oidc.Issuer // nil without --oidc-issuer
	// Forward sends requests of administration to the leader, with the proof of this master. It must follow no redirect
	// and use no proxy: the requests have an admin token, which goes to the leader only.
	Forward exchange.Send
	// Profile takes a profile of another node: a worker, or a master, which has no token.
	Profile     func(ctx context.Context, node wire.Worker, q wire.ProfileRequest) ([]byte, error)
	Connections func() httpapi.Connections // to HTTP; nil where they are not limited
	RaftCut     func() uint64              // raft connections that were closed for newer ones; nil with Connections
	Options
	Logger hclog.Logger
}

// Options are the parts of a master's API that an operator chooses. All masters of a group need the same.
type Options struct {
	OpenRegistration bool // anyone may create a project
	OriginalAPI      bool // the routes of the original system are served too
	PrivateLog       bool // the routes of the log, and published headers of blocks, need a token
	OpenRate         int  // requests per second and address to routes without a token; 0 for no limit

	// BrowserHosts are further names under which browsers reach the masters, such as that of a proxy.
	BrowserHosts []string
}

// Access returns the options in the form in which masters compare them.
func (o Options) Access() wire.AccessFlags {
	return wire.AccessFlags{
		Known: true, PrivateLog: o.PrivateLog, OpenRegistration: o.OpenRegistration, OriginalAPI: o.OriginalAPI,
	}
}

// openBurst is how many seconds' worth of requests without a token may come at once.
const openBurst = 10

// master has the handlers of a master.
type master struct {
	*httpapi.Engine
	node     *masternode.Node
	adopt    func(wire.Adoption) error
	stale    func() error
	cluster  *nodeauth.Secret
	nodes    *httpapi.Nodes
	secured  bool // nodes have certificates
	admin    httpapi.Secret
	issuer   *oidc.Issuer
	leader   forwarder
	profile  func(ctx context.Context, node wire.Worker, q wire.ProfileRequest) ([]byte, error)
	unowned  *httpapi.Intake // bodies of senders that are not known yet, by address
	users    *httpapi.Intake // bodies of users, by project
	streams  *httpapi.Intake // records of append streams, by project
	masters  *httpapi.Intake // bodies of other nodes, submissions among them, and of the administrator, by address
	open     *httpapi.RateLimit
	unknown  *httpapi.RateLimit // of tokens
	scrapes  *httpapi.RateLimit // of metrics
	guard    httpapi.Guard
	refusals refusals
	Options
}

// The bytes of bodies of users that a master takes at a time: in total, of an address whose user is not known yet, and
// of a project. Append streams count apart: a stream holds records for as long as its client likes. So do the bodies of
// nodes and of the administrator: see [httpapi.NewNodeIntake].
const (
	unownedBytes = 64 << 20
	unownedShare = unownedBytes / 2
	userBytes    = 192 << 20
	userShare    = 64 << 20
	streamBytes  = 64 << 20
	streamShare  = streamBytes / 4
)

// New makes the handler of a master: its API for users, and the routes between the nodes.
func New(cfg Config) http.Handler {
	m := &master{
		Engine: httpapi.New(cfg.Logger), node: cfg.Node, adopt: cfg.Adopt, stale: cfg.Refused,
		cluster: cfg.Secrets.Masters, admin: httpapi.NewSecret(cfg.AdminToken),
		issuer:  cfg.Issuer,
		secured: cfg.Certificate != nil,
		leader:  forwarder{leader: cfg.Node.LeaderURL, caller: cfg.Node.Caller, send: cfg.Forward, sign: cfg.Node.Sign},
		Options: cfg.Options, profile: cfg.Profile,
		unowned: httpapi.NewIntake(unownedBytes, unownedShare),
		users:   httpapi.NewIntake(userBytes, userShare),
		streams: httpapi.NewIntake(streamBytes, streamShare),
		masters: httpapi.NewNodeIntake(maxSubmission),
		open:    httpapi.NewRateLimit("requests without a token", cfg.OpenRate, openBurst*cfg.OpenRate, cfg.Logger),
		unknown: httpapi.NewRateLimit("requests with unknown tokens", unknownTokens, unknownTokensBurst, cfg.Logger),
		scrapes: httpapi.NewScrapeLimit(cfg.Logger),
	}
	m.refusals.log = cfg.Logger.Named("http")
	m.leader.judge, m.leader.source = m.judge, m.sourceOf
	if cfg.TLS.Mode != nil {
		m.TakePlain(cfg.TLS.Opening)
	}
	m.nodes = &httpapi.Nodes{
		Accept: map[string]nodeauth.Accepted{
			nodeauth.Masters: {Secret: cfg.Secrets.Masters}, nodeauth.Storage: {Secret: cfg.Secrets.Storage},
			nodeauth.Miner: {Secret: cfg.Secrets.Miner}, nodeauth.Recovery: {Secret: cfg.Secrets.Recovery},
		},
		Secured: m.secured, Process: cfg.Process,
		Bearers: func() bool { return !m.node.RequiresProofs() },
	}
	m.guard = httpapi.Guard{Masters: cfg.Node.MasterURLs, Hosts: cfg.BrowserHosts}
	m.Use(m.crossOrigin, m.countRefused)
	m.Authenticate(m.nodes)
	m.Use(m.otherSites, m.refused, m.fromOtherGroup, m.unowned.TrackAll)
	m.recordRoutes()
	m.clusterRoutes()
	m.projectRoutes()
	m.adminRoutes()
	m.ticketRoutes()
	m.logRoutes()
	m.nodeRoutes()
	if cfg.OriginalAPI {
		legacy.AddRoutes(legacy.Config{Engine: m.Engine, Node: m.node, MayCreate: m.mayCreate, AtLeader: m.leader.do,
			Access: m.access, Open: m.openRoute})
	}
	m.Health(m.node.Ready)
	m.addMetrics(&cfg)
	page := gin.WrapH(console.New(m.node.MasterURLs, cfg.Issuer.Origin()))
	for _, path := range []string{"/", "/console/*file"} {
		m.GetAndHead(path, page)
	}
	m.GetAndHead("/openapi.yaml", description)
	return m
}

// recordRoutes adds the routes of records and blocks.
func (m *master) recordRoutes() {
	// In gin a bare colon starts a parameter, so the colon of records:batch is escaped.
	m.POST("/v1/records", m.withAppender(m.appendRecord))
	m.POST(`/v1/records\:batch`, m.withAppender(m.appendBatch))
	m.POST(`/v1/records\:stream`, m.withAppender(m.appendStream))
	m.POST("/v1/streams", m.withAppender(m.openAppendStream))
	m.GET("/v1/streams", m.withAppender(m.appendStreams))
	m.GET("/v1/streams/:id", m.withAppender(m.appendStreamState))
	m.DELETE("/v1/streams/:id", m.withAppender(m.removeAppendStream))
	m.GET("/v1/records", m.withReader(m.list))
	m.GET("/v1/records/stream", m.withReader(m.stream))
	m.GetAndHead("/v1/records/:index", m.withRecord(m.record))
	m.GetAndHead("/v1/records/:index/proof", m.withRecord(m.proof))
	m.GetAndHead("/v1/records/:index/receipt", m.withRecord(m.receipt))
	m.GET("/v1/blocks", m.withAnyToken(m.blocks))
	m.GetAndHead("/v1/blocks/:block", m.blockRoute())
	m.GET("/v1/blocks/:block/records", m.withReader(m.blockRecords))
	m.GetAndHead("/v1/blocks/:block/records/:offset", m.withRecord(m.record))
	m.GetAndHead("/v1/blocks/:block/records/:offset/proof", m.withRecord(m.proof))
	m.GetAndHead("/v1/blocks/:block/records/:offset/receipt", m.withRecord(m.receipt))
	m.GET("/v1/hashes/:hash", m.withAnyToken(m.findHash))
}

// crossOrigin answers preflight requests and sets the headers of CORS: for any page on the routes that prove the log to
// anyone, and for pages of the cluster's masters on the routes under /v1/.
func (m *master) crossOrigin(c *gin.Context) {
	h, r := c.Writer.Header(), c.Request
	var preflight bool
	if !m.PrivateLog && provesLog(r.URL.Path) {
		preflight = console.AllowAnyOrigin(h, r)
	} else {
		preflight = console.AllowOrigin(m.node.MasterURLs, h, r)
	}
	if preflight {
		c.AbortWithStatus(http.StatusNoContent)
	}
}

// provesLog reports whether a path is of a route with which anyone follows and checks the log.
func provesLog(path string) bool {
	return path == "/checkpoint" || path == "/v1/log" || path == "/v1/consistency" || strings.HasPrefix(path, "/tile/")
}

// openReads are the routes that show records or projects to requests without a token. That of the metrics has a guard
// of its own.
var openReads = map[string]bool{"/admin/project": true, "/findBlockInfo": true}

const routeMetrics = "/metrics"

// otherSites refuses requests of pages of other sites that change something, or read from openReads.
func (m *master) otherSites(c *gin.Context) {
	reads := slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, c.Request.Method)
	if c.FullPath() == "" || reads && !openReads[c.FullPath()] {
		return
	}
	if strings.HasPrefix(c.FullPath(), "/v1/") || strings.HasPrefix(c.FullPath(), "/internal/") {
		if err := m.guard.Check(c.Request); err != nil {
			m.Fail(c, err)
		}
	} else if err := m.guard.CheckOpen(c.Request); err != nil {
		legacy.Fail(m.Engine, c, err)
	}
}

// alwaysServed are the routes that a master serves in every state: they show its own health, or are the same on every
// master.
var alwaysServed = map[string]bool{
	"/livez": true, "/readyz": true, routeMetrics: true, "/openapi.yaml": true, "/": true, "/console/*file": true,
}

// refused keeps a master from serving when its data folder is an older copy of itself: the group may have acknowledged
// more than this master has.
func (m *master) refused(c *gin.Context) {
	if alwaysServed[c.FullPath()] {
		return
	}
	if err := m.stale(); err != nil {
		m.Fail(c, err)
	}
}

// noContent answers without a body unless there is an error.
func noContent(c *gin.Context, err error) error {
	if err == nil {
		c.Status(http.StatusNoContent)
	}
	return err
}
