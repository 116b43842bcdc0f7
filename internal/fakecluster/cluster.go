// Package fakecluster is a cluster in memory for the tests of its users: the command line, the client and the console.
// It serves the routes of docs/api.md that they use, checks tokens and bodies as a master does, and has a real chain.
//
// Every test cluster starts empty and healthy. A test may replace parts of it by canned answers, make it fail at chosen
// points, and have several masters.
package fakecluster

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/signedlog"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

const (
	// ProjectToken gives access to the project "default", AdminToken to everything.
	ProjectToken = "project-token-of-the-tests"
	AdminToken   = "admin-token-of-the-tests"
	// BlockRecords is the number of records of a full block.
	BlockRecords = 4
	// firstCreated is the id of the first project that a test creates.
	firstCreated = 7
)

// Cluster is a cluster in memory. Its methods lock it, except those that say otherwise. A test that accesses the fields
// while a server runs does it in Change.
type Cluster struct {
	mu sync.Mutex // guards the fields below

	Log      *signedlog.Log // of the full blocks
	Records  []Record       // in order; those from open on are not in a block yet
	open     int
	appended map[string][]wire.Position // by idempotency key, or part of an append stream
	Streams  map[string][]int           // of append streams: the indexes of their records in Records
	Projects []*Project
	Admins   []wire.CreatedAdmin // named admin tokens in plain text; all of them permit everything here
	servers  []*httptest.Server
	// lastAdmin is the id of the newest of Admins.
	lastAdmin uint32
	// JoinTickets are the join tickets in plain text, and lastTicket is the id of the newest.
	JoinTickets []wire.CreatedJoinTicket
	lastTicket  uint32
	// Waiting are the workers that wait for approval.
	Waiting []wire.WaitingWorker
	Leader  int // index of a server
	Term    uint64
	Lag     int // number of the newest blocks that no storage node has

	Integrity wire.Integrity
	// Steps change Integrity after a check of the storage node with that id was ordered, one with each request for it.
	// Without steps a check ends at once without findings.
	Steps   map[string][]func()
	pending []func()
	Checked []string // ids of the storage nodes whose check was ordered
	Removed []string // storage nodes that were removed, with the query

	// Fixed responses, if a test needs others than those of the in-memory chain.
	Status *wire.Cluster
	Blocks []wire.Block
	TLog   *wire.Log
	Note   string        // the checkpoint
	Now    func() uint64 // Unix milliseconds; nil for the clock

	PageSize           int  // projects and blocks per page; 0 for no limit
	RecordBytes        int  // maximum size of a record
	ClosedRegistration bool // only the administrator may create a project
	Unstored           bool // blocks are not stored while an append waits
	Profiling          int  // number of requests for a profile that are refused, because the process takes another one
	Uncovered          int  // number of requests for a receipt or proof before a checkpoint covers the records
	Liar               bool // payloads are altered
	// Streamless is the answer to append streams of a cluster that has none; nil for one that has them.
	Streamless *wire.ProblemType

	// Hooks, called with the cluster locked. Before and After are called around an append, and return true if they have
	// responded to it. Streaming is called at the start of a stream. NoRoute responds to requests for lists and proofs,
	// like a master without these routes.
	Before    func(w http.ResponseWriter, records int) bool
	After     func(w http.ResponseWriter) bool
	Streaming func()
	NoRoute   func(w http.ResponseWriter)
	failures  []string
}

// New returns a cluster with the project "default" and no server.
func New() *Cluster {
	c := &Cluster{
		Log: signedlog.New("chainstore/fake", 7), appended: map[string][]wire.Position{}, Steps: map[string][]func(){},
		Streams: map[string][]int{},
		Term:    3, RecordBytes: 1 << 20,
	}
	c.AddProject("default", false, ProjectToken)
	return c
}

// Serve starts another master, whose requests pass through wrap, and returns its URL.
func (c *Cluster) Serve(wrap func(http.Handler) http.Handler) string {
	server := httptest.NewServer(wrap(c.handler()))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.servers = append(c.servers, server)
	return server.URL
}

// URLs returns the URLs of the masters.
func (c *Cluster) URLs() (urls []string) {
	for _, s := range c.servers {
		urls = append(urls, s.URL)
	}
	return urls
}

// Kill stops a master. The next one becomes the leader.
func (c *Cluster) Kill(i int) {
	c.Change(func() { c.Leader, c.Term = (i+1)%len(c.servers), c.Term+1 })
	c.servers[i].CloseClientConnections()
	c.servers[i].Close()
}

// Close stops all masters. It returns the requests of clients that violated the API.
func (c *Cluster) Close() []string {
	for _, s := range c.servers {
		s.Close()
	}
	return c.failures
}

// Change calls change while no request is served.
func (c *Cluster) Change(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// Appended returns the number of appends under different idempotency keys, and of parts of append streams. The caller
// holds the lock, if any server runs.
func (c *Cluster) Appended() int { return len(c.appended) }

func (c *Cluster) fail(format string, args ...any) {
	c.failures = append(c.failures, fmt.Sprintf(format, args...))
}

func (c *Cluster) now() uint64 {
	if c.Now != nil {
		return c.Now()
	}
	return uint64(time.Now().UnixMilli())
}

// access says which callers a route admits.
type access int

const (
	public   access = iota // without a token
	optional               // with any token, or without one; an unknown one is refused
	anyone                 // with any token
	project                // with a project's token
	admin                  // with the admin token
)

// route is the handler of a route, called with the cluster locked.
type route func(w http.ResponseWriter, r *http.Request, by caller)

func (c *Cluster) handler() http.Handler {
	mux := http.NewServeMux()
	for _, part := range []routes{c.recordRoutes(), c.blockRoutes(), c.projectRoutes(), c.clusterRoutes()} {
		for pattern, r := range part {
			mux.HandleFunc(pattern, c.admit(r.access, r.route))
		}
	}
	return mux
}

// routes is a part of the API: access and handler by pattern.
type routes = map[string]struct {
	access
	route
}

// admit checks the token of a request. An administrator reads the audit trail, if the cluster has that project.
func (c *Cluster) admit(a access, do route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		by, known := c.caller(r)
		if audit := c.Project(trail.Project); known && by.project == nil && audit != nil &&
			a == project && r.Method == http.MethodGet {
			by = caller{project: audit, rights: []string{wire.RightRead}}
		}
		switch {
		case c.NoRoute != nil && (r.Method+r.URL.Path == "GET/v1/records" || strings.HasSuffix(r.URL.Path, "/proof")):
			c.NoRoute(w)
		case !known && a != public && (a != optional || r.Header.Get("Authorization") != ""):
			Problem(w, wire.ErrUnauthorized)
		case a == admin && by.project != nil, a == project && by.project == nil:
			Problem(w, wire.ErrForbidden)
		default:
			do(w, r, by)
		}
	}
}

// Problem responds with a problem.
func Problem(w http.ResponseWriter, p *wire.ProblemType) {
	w.Header().Set("Content-Type", wire.TypeProblem)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p.Problem(p))
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// decode reads a body like the API, which refuses unknown fields.
func (c *Cluster) decode(w http.ResponseWriter, r *http.Request, v any) bool {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		c.fail("%s %s: %v", r.Method, r.URL.Path, err)
		Problem(w, wire.ErrBadRequest)
		return false
	}
	return true
}

func (c *Cluster) clusterRoutes() routes {
	return routes{
		"GET /v1/cluster":                         {anyone, c.showStatus},
		"GET /v1/cluster/integrity":               {anyone, c.integrity},
		"POST /v1/cluster/integrity/confirm-lost": {admin, c.confirmLost},
		"POST /v1/storages/{id}/check":            {admin, c.check},
		"DELETE /v1/storages/{id}":                {admin, c.removeStorage},
		"DELETE /v1/miners/{id}":                  {admin, c.removeMiner},
		"DELETE /v1/masters/{id}":                 {admin, c.removeMaster},
		"POST /v1/leader/transfer":                {admin, c.transferLeadership},
		"POST /v1/time":                           {admin, c.setTime},
		"PATCH /v1/settings":                      {admin, c.changeSettings},
		"POST /v1/tls":                            {admin, c.setTLS},
		"POST /v1/profiles":                       {admin, c.profile},
		"GET /v1/log":                             {public, c.showLog},
		"GET /checkpoint":                         {public, c.checkpoint},
		"POST /v1/log/keys":                       {admin, c.addLogKey},
		"DELETE /v1/log/keys/{id}":                {admin, c.retireLogKey},
		"POST /v1/log/closings":                   {admin, c.closeLog},
	}
}

// profile answers with a text in place of a profile. Miners do not answer.
func (c *Cluster) profile(w http.ResponseWriter, r *http.Request, _ caller) {
	var q wire.ProfileRequest
	err := json.NewDecoder(r.Body).Decode(&q)
	status := c.status()
	known := func(id string) bool { return id == q.Node }
	switch {
	case err != nil || q.Check() != nil:
		c.fail("a request for a profile: %+v, %v", q, err)
		Problem(w, wire.ErrBadRequest)
	case slices.ContainsFunc(status.Miners, func(m wire.Miner) bool { return known(m.ID) }):
		Problem(w, wire.ErrUnavailable)
	case !slices.ContainsFunc(status.Masters, func(m wire.Master) bool { return known(m.ID) }) &&
		!slices.ContainsFunc(status.Storages, func(s wire.Storage) bool { return known(s.ID) }):
		Problem(w, wire.ErrNotFound)
	default:
		if c.Profiling > 0 {
			c.Profiling--
			Problem(w, wire.ErrProfiling)
			return
		}
		w.Header().Set("Content-Type", wire.TypeOctets)
		w.WriteHeader(http.StatusOK)
		z := gzip.NewWriter(w)
		_, _ = fmt.Fprint(z, "profile of ", q.Node, " ", q.Kind, " ", q.Seconds, "\n")
		_ = z.Close()
	}
}

func (c *Cluster) showStatus(w http.ResponseWriter, _ *http.Request, _ caller) {
	reply(w, http.StatusOK, c.status())
}

func (c *Cluster) showLog(w http.ResponseWriter, _ *http.Request, _ caller) {
	reply(w, http.StatusOK, c.translog())
}

// status returns the status of the in-memory chain.
func (c *Cluster) status() wire.Cluster {
	if c.Status != nil {
		s := *c.Status
		s.Waiting = slices.Clone(c.Waiting)
		if s.Storages == nil {
			s.Storages = []wire.Storage{}
		}
		if s.Miners == nil {
			s.Miners = []wire.Miner{}
		}
		return s
	}
	open := c.Records[c.open:]
	s := wire.Cluster{
		Group: "g", Epoch: 1, Leader: masterID(c.Leader), Term: c.Term, Head: c.head(), Records: uint64(len(c.Records)),
		Stored: uint64(len(c.Log.Blocks) - c.Lag), Replicas: 2, Pending: wire.Pending{Blocks: c.Lag},
		Cut: wire.Amount{Records: BlockRecords, Bytes: 1 << 20}, Buffer: wire.Amount{Records: len(open)},
		Miners: []wire.Miner{{ID: "n-0", URL: "http://127.0.0.1:8079", Live: true}}, Authoritative: true,
		Notices: []string{}, NoticesCoded: []wire.Message{}, Storages: []wire.Storage{},
	}
	s.Waiting = slices.Clone(c.Waiting)
	s.Checkpoint = wire.Checkpoints{Size: s.Head.Size, Height: s.Head.Height, PublishedSize: s.Head.Size}
	for i := range open {
		s.Buffer.Bytes += open[i].EncodedSize()
	}
	s.Pending.Bytes = uint64(s.Buffer.Bytes)
	for i, m := range c.servers {
		state := map[bool]string{true: "leader", false: "follower"}[i == c.Leader]
		s.Masters = append(s.Masters, wire.Master{
			ID: masterID(i), URL: m.URL, Raft: fmt.Sprintf("127.0.0.1:%d", 8010+i), State: state, Voter: true,
		})
	}
	for i := range c.Integrity.Nodes {
		n := &c.Integrity.Nodes[i]
		s.Storages = append(s.Storages, wire.Storage{
			ID: n.ID, URL: n.URL, State: n.State, Height: n.Height, Live: n.Live,
			Cause: n.Cause, CauseCoded: n.CauseCoded,
		})
		if n.State == "invalid" {
			notice := wire.Message{Code: wire.CodeStorageInvalid, Args: wire.Args{"node": n.ID, "cause": n.CauseCoded}}
			s.Notices, s.NoticesCoded = append(s.Notices, notice.Text()), append(s.NoticesCoded, notice)
		}
	}
	return s
}

func masterID(i int) string { return fmt.Sprintf("m-%d", i) }

func (c *Cluster) head() wire.Head {
	if len(c.Log.Blocks) == 0 {
		return wire.Head{}
	}
	h := &c.Log.Blocks[len(c.Log.Blocks)-1].Header
	return wire.Head{Height: h.Block + 1, Hash: h.Hash(), Size: h.Size(), Root: c.Log.Root(h.Size())}
}

// master returns the index of a master in the fixed status, -1 for none.
func (c *Cluster) master(idOrURL string) int {
	return slices.IndexFunc(c.Status.Masters, func(m wire.Master) bool { return m.ID == idOrURL || m.URL == idOrURL })
}

// removeMaster refuses, unless it is forced, to leave fewer than two reachable masters.
func (c *Cluster) removeMaster(w http.ResponseWriter, r *http.Request, _ caller) {
	i := c.master(r.PathValue("id"))
	if i < 0 {
		Problem(w, wire.ErrNotFound)
		return
	}
	left := 0
	for j, m := range c.Status.Masters {
		if j != i && m.State != "unreachable" {
			left++
		}
	}
	if left < 2 && r.URL.Query().Get("force") != "true" {
		Problem(w, wire.ErrTooFewMasters)
		return
	}
	c.Status.Masters = slices.Delete(c.Status.Masters, i, i+1)
	w.WriteHeader(http.StatusNoContent)
}

// transferLeadership makes a follower the leader: the first one if none is named.
func (c *Cluster) transferLeadership(w http.ResponseWriter, r *http.Request, _ caller) {
	var to wire.Transfer
	if r.ContentLength != 0 && !c.decode(w, r, &to) {
		return
	}
	i := c.master(to.To)
	if to.To == "" {
		i = slices.IndexFunc(c.Status.Masters, func(m wire.Master) bool { return m.State == "follower" })
	}
	switch {
	case i < 0:
		Problem(w, wire.ErrNotFound)
	case c.Status.Masters[i].State == "unreachable":
		Problem(w, wire.ErrNotVoter)
	default:
		for j := range c.Status.Masters {
			if c.Status.Masters[j].State == "leader" {
				c.Status.Masters[j].State = "follower"
			}
		}
		c.Status.Masters[i].State, c.Status.Leader = "leader", c.Status.Masters[i].ID
		reply(w, http.StatusOK, wire.Transferred{Leader: c.Status.Leader})
	}
}

// node returns a storage node by id or URL, nil for none.
func (c *Cluster) node(idOrURL string) *wire.NodeIntegrity {
	for i := range c.Integrity.Nodes {
		if n := &c.Integrity.Nodes[i]; n.ID == idOrURL || n.URL == idOrURL {
			return n
		}
	}
	return nil
}

func (c *Cluster) integrity(w http.ResponseWriter, _ *http.Request, _ caller) {
	if len(c.pending) > 0 {
		c.pending[0]()
		c.pending = c.pending[1:]
	}
	reply(w, http.StatusOK, c.complete())
}

// complete returns the integrity report with its lists, as a master sends it.
func (c *Cluster) complete() wire.Integrity {
	i := c.Integrity
	if i.Nodes == nil {
		i.Nodes = []wire.NodeIntegrity{}
	}
	if i.Events == nil {
		i.Events = []wire.Event{}
	}
	return i
}

func (c *Cluster) check(w http.ResponseWriter, r *http.Request, _ caller) {
	n := c.node(r.PathValue("id"))
	if n == nil {
		Problem(w, wire.ErrNotFound)
		return
	}
	c.Checked = append(c.Checked, n.ID)
	if steps := c.Steps[n.ID]; steps != nil {
		n.Due = "asked for"
		c.pending = append(c.pending, steps...)
	} else {
		n.State, n.Cause, n.CauseCoded, n.Bad = "valid", "", wire.Message{}, []chain.Range{}
		n.Checked, n.Height = c.now(), uint64(len(c.Log.Blocks))
	}
	reply(w, http.StatusAccepted, n)
}

func (c *Cluster) confirmLost(w http.ResponseWriter, r *http.Request, _ caller) {
	var body struct {
		Block *uint64 `json:"block"`
	}
	if !c.decode(w, r, &body) {
		return
	}
	in := &c.Integrity
	holds := func(lost chain.Range) bool { return lost.From <= *body.Block && *body.Block < lost.To }
	if body.Block == nil || !slices.ContainsFunc(in.Lost, holds) {
		Problem(w, wire.ErrNotLost)
		return
	}
	in.Confirmed = chain.AddRange(in.Confirmed, chain.Range{From: *body.Block, To: *body.Block + 1})
	reply(w, http.StatusOK, c.complete())
}

func (c *Cluster) removeStorage(w http.ResponseWriter, r *http.Request, _ caller) {
	n := c.node(r.PathValue("id"))
	switch {
	case n == nil:
		Problem(w, wire.ErrNotFound)
	case r.URL.Query().Get("force") != "true" && len(c.Integrity.Nodes) <= 2:
		Problem(w, wire.ErrTooFewCopies)
	default:
		c.Removed = append(c.Removed, n.ID+"?"+r.URL.RawQuery)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (c *Cluster) removeMiner(w http.ResponseWriter, r *http.Request, _ caller) {
	id := r.PathValue("id")
	if !slices.ContainsFunc(c.status().Miners, func(m wire.Miner) bool { return m.ID == id || m.URL == id }) {
		Problem(w, wire.ErrNotFound)
		return
	}
	c.Removed = append(c.Removed, id+"?"+r.URL.RawQuery)
	w.WriteHeader(http.StatusNoContent)
}

// translog describes the transparency log.
func (c *Cluster) translog() *wire.Log {
	if c.TLog == nil {
		c.TLog = &wire.Log{Origin: c.Log.Origin, Keys: []wire.LogKey{{VerifierKey: c.Log.VKey}}}
	}
	return c.TLog
}

func (c *Cluster) checkpoint(w http.ResponseWriter, _ *http.Request, _ caller) {
	note := c.Note
	if note == "" {
		note = c.Log.Checkpoint(c.Log.Size())
	}
	w.Header().Set("Content-Type", wire.TypeNote)
	_, _ = w.Write([]byte(note))
}

func (c *Cluster) addLogKey(w http.ResponseWriter, _ *http.Request, _ caller) {
	k := wire.LogKey{ID: "0badcafe", VerifierKey: c.translog().Origin + "+0badcafe+AQAB", Since: c.now()}
	c.TLog.Keys = append(c.TLog.Keys, k)
	reply(w, http.StatusCreated, k)
}

func (c *Cluster) closeLog(w http.ResponseWriter, r *http.Request, _ caller) {
	var closing wire.CloseLog
	if !c.decode(w, r, &closing) {
		return
	}
	of := c.translog()
	if closing.Origin == of.Origin {
		Problem(w, wire.ErrNameTaken)
		return
	}
	closed := wire.ClosedLog{Origin: of.Origin, Reason: closing.Reason, Closed: c.now(), Size: c.Log.Size()}
	for _, k := range of.Keys {
		closed.VerifierKeys = append(closed.VerifierKeys, k.VerifierKey)
	}
	k := wire.LogKey{ID: "0badcafe", VerifierKey: closing.Origin + "+0badcafe+AQAB", Since: c.now()}
	c.TLog = &wire.Log{Origin: closing.Origin, Keys: []wire.LogKey{k}, Closed: append(of.Closed, closed)}
	reply(w, http.StatusCreated, k)
}

func (c *Cluster) retireLogKey(w http.ResponseWriter, r *http.Request, _ caller) {
	keys := c.translog().Keys
	signing := 0
	for i := range keys {
		if keys[i].Retired == 0 {
			signing++
		}
	}
	i := slices.IndexFunc(keys, func(k wire.LogKey) bool { return k.ID == r.PathValue("id") })
	switch {
	case i < 0:
		Problem(w, wire.ErrNotFound)
	case signing == 1:
		Problem(w, wire.ErrLastKey)
	default:
		keys[i].Retired = c.now() + 60_000
		w.WriteHeader(http.StatusNoContent)
	}
}
