package console

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi/console"
	"github.com/chainstore/chainstore/wire"
)

// fakeCluster answers the routes that the console uses, in the words of docs/api.md, out of memory: it is at once in every state that a
// test wants to look at. Three servers stand for the masters.
type fakeCluster struct {
	masters []*httptest.Server
	admin   string

	mu        sync.Mutex // guards all below
	chain     *fakeChain
	projects  []*fakeProject
	leader    int
	term      uint64
	storages  []wire.NodeIntegrity
	stories   []wire.Event
	lost      []chain.Range
	lag       int  // of the newest blocks, how many no storage node has yet
	old       bool // the masters have no lists and no proofs
	uncovered bool // proofs come without a checkpoint
	liar      bool // payloads come back altered, with an envelope that fits the alteration nowhere
}

// fakeProject is a project with its tokens.
type fakeProject struct {
	ID      string      `json:"id"`
	Name    string      `json:"name"`
	Public  bool        `json:"public"`
	Created int64       `json:"created"`
	Records int         `json:"records"`
	Quota   fakeQuota   `json:"quota"`
	tokens  []fakeToken // the plain texts are kept here: it is a fake
	number  uint32
}

type fakeQuota struct {
	RecordsPerSecond int `json:"records_per_second"`
	BytesPerSecond   int `json:"bytes_per_second"`
	RecordBytes      int `json:"record_bytes"`
}

type fakeToken struct {
	ID      string   `json:"id"`
	Label   string   `json:"label"`
	Rights  []string `json:"rights"`
	Created int64    `json:"created"`
	Token   string   `json:"token,omitempty"`
}

// startFake starts a fake cluster with one project, whose name is "default" and which has one token.
func startFake(t *testing.T) *fakeCluster {
	t.Helper()
	chained, err := newFakeChain()
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeCluster{admin: "admin-of-the-fake", term: 3, chain: chained}
	for i, port := range []int{8082, 8083, 8084} {
		f.storages = append(f.storages, wire.NodeIntegrity{
			ID: fmt.Sprintf("s-%d", i), URL: fakeURL(port), State: "valid", Live: true, Bad: []chain.Range{}, Checked: uint64(time.Now().UnixMilli()) - 8000,
		})
	}
	f.addProject("default", false)
	var urls []string
	known := func() []string { return urls }
	mux := http.NewServeMux()
	page := console.New(known)
	mux.Handle("GET /{$}", page)
	mux.Handle("GET /console/", page)
	f.routes(mux)
	for range 3 {
		server := httptest.NewServer(console.CrossOrigin(known, mux))
		t.Cleanup(server.Close)
		f.masters = append(f.masters, server)
		urls = append(urls, server.URL)
	}
	return f
}

func (f *fakeCluster) urls() []string {
	var urls []string
	for _, m := range f.masters {
		urls = append(urls, m.URL)
	}
	return urls
}

// kill ends a master; the next one leads.
func (f *fakeCluster) kill(i int) {
	f.mu.Lock()
	f.leader, f.term = (i+1)%len(f.masters), f.term+1
	f.mu.Unlock()
	f.masters[i].CloseClientConnections()
	f.masters[i].Close()
}

// change changes the state under its lock.
func (f *fakeCluster) change(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeCluster) addProject(name string, public bool) *fakeProject {
	n := len(f.projects) + 1
	p := &fakeProject{ID: strconv.Itoa(n), Name: name, Public: public, Created: time.Now().UnixMilli(), number: uint32(n)}
	f.projects = append(f.projects, p)
	p.addToken("", []string{"read", "append"})
	return p
}

func (p *fakeProject) addToken(label string, rights []string) fakeToken {
	id := fmt.Sprintf("t-%s-%d", p.ID, len(p.tokens)+1)
	token := fakeToken{ID: id, Label: label, Rights: rights, Created: time.Now().UnixMilli(), Token: fmt.Sprintf("%s-%s", p.Name, id)}
	p.tokens = append(p.tokens, token)
	return token
}

// append appends a record to a project, and cuts a block after every fourth.
func (f *fakeCluster) append(p *fakeProject, key, typ string, payload []byte) *fakeRecord {
	r := f.chain.append(p.number, key, typ, payload)
	p.Records++
	if r.offset == 3 {
		f.cut()
	}
	return r
}

func (f *fakeCluster) cut() {
	f.chain.cut()
	for i := range f.storages {
		if f.storages[i].State == "valid" {
			f.storages[i].Height = uint64(len(f.chain.headers))
		}
	}
}

func (f *fakeCluster) project(nameOrID string) *fakeProject {
	i := slices.IndexFunc(f.projects, func(p *fakeProject) bool { return p.ID == nameOrID || p.Name == nameOrID })
	if i < 0 {
		return nil
	}
	return f.projects[i]
}

// fakeCaller is who sent a request; project is nil for the administrator.
type fakeCaller struct {
	project *fakeProject
	rights  []string
}

// caller finds who a token belongs to.
func (f *fakeCluster) caller(r *http.Request) (fakeCaller, bool) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if token == f.admin {
		return fakeCaller{}, true
	}
	for _, p := range f.projects {
		for _, t := range p.tokens {
			if t.Token == token {
				return fakeCaller{p, t.Rights}, true
			}
		}
	}
	return fakeCaller{}, false
}

// Who a route of the fake lets in.
const (
	anybody = "anybody"
	known   = "known"
	ofData  = "project"
	byAdmin = "admin"
)

// answer is what a route of the fake does: a status and what goes out as JSON. A problem's name goes out in the place of a value.
type answer func(r *http.Request, by fakeCaller) (int, any)

type problemName string

// route adds a route.
func (f *fakeCluster) route(mux *http.ServeMux, pattern, who string, do answer) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		by, ok := f.caller(r)
		status, value := http.StatusUnauthorized, any(problemName(wire.ErrUnauthorized.Name))
		switch {
		case f.old && (r.Method+r.URL.Path == "GET/v1/records" || strings.HasSuffix(r.URL.Path, "/proof")):
			status, value = http.StatusNotFound, problemName(wire.ErrNoSuchRoute.Name)
		case !ok && who != anybody:
		case who == byAdmin && by.project != nil, who == ofData && by.project == nil:
			status, value = http.StatusForbidden, problemName(wire.ErrForbidden.Name)
		default:
			status, value = do(r, by)
		}
		typ := "application/json"
		if name, bad := value.(problemName); bad {
			typ = wire.TypeProblem
			value = wire.Problem{Type: wire.ProblemBase + string(name), Title: "Problem", Status: status, Detail: "the fake says " + string(name)}
		}
		w.Header().Set("Content-Type", typ)
		w.WriteHeader(status)
		if status != http.StatusNoContent {
			_ = json.NewEncoder(w).Encode(value) // who is gone does not hear it
		}
	})
}

func (f *fakeCluster) routes(mux *http.ServeMux) {
	f.route(mux, "GET /v1/cluster", known, func(*http.Request, fakeCaller) (int, any) { return 200, f.cluster() })
	f.route(mux, "GET /v1/cluster/integrity", known, func(*http.Request, fakeCaller) (int, any) { return 200, f.integrity() })
	f.route(mux, "POST /v1/storages/{id}/check", byAdmin, f.check)
	f.route(mux, "POST /v1/cluster/integrity/confirm-lost", byAdmin, func(*http.Request, fakeCaller) (int, any) {
		f.lost = nil
		return 200, f.integrity()
	})
	f.route(mux, "GET /v1/me", known, func(_ *http.Request, by fakeCaller) (int, any) {
		if by.project == nil {
			return 200, map[string]any{"role": "admin", "open_registration": true}
		}
		return 200, map[string]any{"role": "project", "project": by.project, "rights": by.rights, "open_registration": true}
	})
	f.routesOfBlocks(mux)
	f.routesOfRecords(mux)
	f.routesOfProjects(mux)
}

func (f *fakeCluster) cluster() wire.Cluster {
	open := f.chain.records[f.chain.open:]
	c := wire.Cluster{
		Group: "g", Epoch: 1, Leader: fmt.Sprintf("m-%d", f.leader), Term: f.term, Head: f.chain.head(), Records: uint64(len(f.chain.records)),
		Stored: uint64(len(f.chain.headers) - f.lag), Replicas: 2, Pending: wire.Pending{Blocks: f.lag}, Cut: wire.Amount{Records: 4, Bytes: 1 << 20}, Buffer: wire.Amount{Records: len(open)},
		Miners: []wire.Miner{{ID: "n-0", URL: fakeURL(8079), Live: true}}, Authoritative: true,
		Notices: []string{}, NoticesCoded: []wire.Message{}, Storages: []wire.Storage{},
	}
	c.Checkpoint = wire.Checkpoints{Size: c.Head.Size, Height: c.Head.Height, PublishedSize: c.Head.Size}
	for _, r := range open {
		c.Buffer.Bytes += r.EncodedSize()
	}
	c.Pending.Bytes = uint64(c.Buffer.Bytes)
	for i, m := range f.masters {
		state := map[bool]string{true: "leader", false: "follower"}[i == f.leader]
		c.Masters = append(c.Masters, wire.Master{ID: fmt.Sprintf("m-%d", i), URL: m.URL, Raft: fmt.Sprintf("127.0.0.1:%d", 8010+i), State: state, Voter: true})
	}
	for _, s := range f.storages {
		c.Storages = append(c.Storages, wire.Storage{ID: s.ID, URL: s.URL, State: s.State, Height: s.Height, Live: s.Live, Cause: s.Cause, CauseCoded: s.CauseCoded})
		if s.State == "invalid" {
			notice := wire.Message{Code: wire.CodeStorageInvalid, Args: wire.Args{"node": s.ID, "cause": s.CauseCoded}}
			c.Notices, c.NoticesCoded = append(c.Notices, notice.Text()), append(c.NoticesCoded, notice)
		}
	}
	return c
}

func (f *fakeCluster) integrity() wire.Integrity {
	all := wire.Integrity{
		Nodes: slices.Clone(f.storages), Lost: append([]chain.Range{}, f.lost...), Confirmed: []chain.Range{}, Events: append([]wire.Event{}, f.stories...),
		Totals:        wire.Totals{Checks: 61, CheckedBytes: 319_815_680, BadBlocks: 1, Repairs: 1, RepairedBlocks: 1, RepairedBytes: 4211},
		Authoritative: true, Notices: []string{}, NoticesCoded: []wire.Message{},
	}
	return all
}

// damaged is the cause of damaged blocks.
func damaged(bad ...chain.Range) wire.Message {
	return wire.Message{Code: wire.CodeDamaged, Args: wire.Args{"blocks": chain.CountBlocks(bad), "ranges": bad}}
}

// check finds nothing, at once.
func (f *fakeCluster) check(r *http.Request, _ fakeCaller) (int, any) {
	i := slices.IndexFunc(f.storages, func(s wire.NodeIntegrity) bool { return s.ID == r.PathValue("id") })
	if i < 0 {
		return 404, problemName(wire.ErrNotFound.Name)
	}
	s := &f.storages[i]
	s.State, s.Cause, s.CauseCoded, s.Bad, s.Checked = "valid", "", wire.Message{}, []chain.Range{}, uint64(time.Now().UnixMilli())
	s.Height = uint64(len(f.chain.headers))
	return 202, *s
}

func (f *fakeCluster) routesOfBlocks(mux *http.ServeMux) {
	f.route(mux, "GET /v1/blocks", known, func(r *http.Request, _ fakeCaller) (int, any) {
		limit, _ := strconv.Atoi(r.FormValue("limit"))
		before, err := strconv.Atoi(r.FormValue("cursor"))
		if err != nil {
			before = len(f.chain.headers)
		}
		page := wire.Blocks{Blocks: []wire.Block{}}
		for n := before - 1; n >= 0 && len(page.Blocks) < limit; n-- {
			page.Blocks = append(page.Blocks, wire.NewBlock(f.chain.headers[n]))
		}
		if n := len(page.Blocks); n > 0 && page.Blocks[n-1].Block > 0 {
			page.Next = strconv.FormatUint(page.Blocks[n-1].Block, 10)
		}
		return 200, page
	})
	f.route(mux, "GET /v1/blocks/{block}", known, func(r *http.Request, _ fakeCaller) (int, any) {
		n, err := strconv.Atoi(r.PathValue("block"))
		if err != nil || n >= len(f.chain.headers) {
			return 404, problemName(wire.ErrNotFound.Name)
		}
		return 200, wire.NewBlock(f.chain.headers[n])
	})
	f.route(mux, "GET /v1/blocks/{block}/records", known, func(r *http.Request, by fakeCaller) (int, any) {
		n, _ := strconv.ParseUint(r.PathValue("block"), 10, 64)
		records := []any{}
		for i := range f.chain.records {
			one := &f.chain.records[i]
			switch {
			case one.block != n:
			case f.mayRead(by, one):
				records = append(records, f.envelope(one))
			default:
				records = append(records, map[string]any{"block": one.block, "offset": one.offset, "index": one.index, "hidden": true})
			}
		}
		return 200, map[string]any{"records": records}
	})
	f.route(mux, "GET /v1/hashes/{hash}", known, func(r *http.Request, _ fakeCaller) (int, any) {
		if found := f.chain.find(r.PathValue("hash")); found != nil {
			return 200, found
		}
		return 404, problemName(wire.ErrNotFound.Name)
	})
}

func (f *fakeCluster) mayRead(by fakeCaller, r *fakeRecord) bool {
	owner := f.projects[r.Project-1]
	return owner.Public || by.project == owner && slices.Contains(by.rights, "read")
}

func (f *fakeCluster) envelope(r *fakeRecord) wire.Record {
	e := f.chain.envelope(r, f.projects[r.Project-1].Name)
	if f.liar {
		e.Payload = append([]byte("not "), e.Payload...)
		e.Size = uint32(len(e.Payload))
	}
	return e
}

func (f *fakeCluster) routesOfRecords(mux *http.ServeMux) {
	one := func(pattern string, show func(r *fakeRecord) (int, any)) {
		f.route(mux, pattern, ofData, func(r *http.Request, by fakeCaller) (int, any) {
			at, offset := r.PathValue("block"), int64(-1)
			if at == "" {
				at = r.PathValue("index")
			} else if n, err := strconv.ParseUint(r.PathValue("offset"), 10, 32); err == nil {
				offset = int64(n)
			}
			n, _ := strconv.ParseUint(at, 10, 64)
			record := f.chain.at(n, offset)
			switch {
			case record == nil:
				return 404, problemName(wire.ErrNotFound.Name)
			case !f.mayRead(by, record):
				return 403, problemName(wire.ErrForbidden.Name)
			}
			return show(record)
		})
	}
	envelope := func(r *fakeRecord) (int, any) { return 200, f.envelope(r) }
	proof := func(r *fakeRecord) (int, any) {
		if r.block >= uint64(len(f.chain.headers)) {
			return 409, problemName(wire.ErrNotSealed.Name)
		}
		p := f.chain.proof(r)
		if f.uncovered {
			delete(p, "checkpoint")
		}
		return 200, p
	}
	one("GET /v1/records/{index}", envelope)
	one("GET /v1/blocks/{block}/records/{offset}", envelope)
	one("GET /v1/records/{index}/proof", proof)
	one("GET /v1/blocks/{block}/records/{offset}/proof", proof)
	f.route(mux, "GET /v1/log", anybody, func(*http.Request, fakeCaller) (int, any) {
		return 200, map[string]any{"origin": fakeOrigin, "keys": []any{map[string]any{"vkey": f.chain.vkey}}}
	})
	one("GET /v1/blocks/{block}/records/{offset}/receipt", func(r *fakeRecord) (int, any) {
		status, p := proof(r)
		if receipt, ok := p.(map[string]any); ok {
			receipt["format"] = "chainstore-receipt/v1"
		}
		return status, p
	})
	f.route(mux, "GET /v1/records", ofData, f.list)
	f.route(mux, "POST /v1/records", ofData, func(r *http.Request, by fakeCaller) (int, any) {
		payload, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil || len(payload) == 0 {
			return 400, problemName(wire.ErrEmptyBody.Name)
		}
		record := f.append(by.project, r.Header.Get(wire.HeaderKey), r.Header.Get("Content-Type"), payload)
		if r.FormValue("wait") == wire.StateStored {
			f.cut()
		}
		return 201, f.chain.position(record)
	})
}

// list answers GET /v1/records, in pages of two so that there is a next one.
func (f *fakeCluster) list(r *http.Request, by fakeCaller) (int, any) {
	const page = 2
	p := by.project
	if name := r.FormValue("project"); name != "" {
		p = f.project(name)
	}
	if p == nil {
		return 404, problemName(wire.ErrNotFound.Name)
	}
	since, _ := strconv.ParseUint(r.FormValue("since"), 10, 64)
	until, err := strconv.ParseUint(r.FormValue("until"), 10, 64)
	if err != nil {
		until = 1 << 62
	}
	from, _ := strconv.Atoi(r.FormValue("cursor"))
	records, next := []wire.Record{}, ""
	for i := from; i < len(f.chain.records); i++ {
		one := &f.chain.records[i]
		if one.Project != p.number || r.FormValue("key") != "" && one.Key != r.FormValue("key") || one.Time < since || one.Time >= until || !f.mayRead(by, one) {
			continue
		}
		if len(records) == page {
			next = strconv.Itoa(i)
			break
		}
		records = append(records, f.envelope(one))
	}
	return 200, map[string]any{"records": records, "next": next}
}

func (f *fakeCluster) routesOfProjects(mux *http.ServeMux) {
	f.route(mux, "GET /v1/projects", known, func(*http.Request, fakeCaller) (int, any) {
		return 200, map[string]any{"projects": f.projects}
	})
	f.route(mux, "POST /v1/projects", anybody, func(r *http.Request, _ fakeCaller) (int, any) {
		var p fakeProject
		if json.NewDecoder(r.Body).Decode(&p) != nil || p.Name == "" {
			return 400, problemName(wire.ErrBadRequest.Name)
		}
		if f.project(p.Name) != nil {
			return 409, problemName(wire.ErrNameTaken.Name)
		}
		made := f.addProject(p.Name, p.Public)
		made.Quota = p.Quota
		return 201, map[string]any{"id": made.ID, "name": made.Name, "public": made.Public, "token": made.tokens[0].Token, "token_id": made.tokens[0].ID}
	})
	one := func(pattern, who string, do func(r *http.Request, p *fakeProject) (int, any)) {
		f.route(mux, pattern, who, func(r *http.Request, _ fakeCaller) (int, any) {
			if p := f.project(r.PathValue("project")); p != nil {
				return do(r, p)
			}
			return 404, problemName(wire.ErrNotFound.Name)
		})
	}
	one("GET /v1/projects/{project}", known, func(_ *http.Request, p *fakeProject) (int, any) { return 200, p })
	one("PATCH /v1/projects/{project}", byAdmin, func(r *http.Request, p *fakeProject) (int, any) {
		if json.NewDecoder(r.Body).Decode(p) != nil {
			return 400, problemName(wire.ErrBadRequest.Name)
		}
		return 200, p
	})
	one("GET /v1/projects/{project}/tokens", byAdmin, func(_ *http.Request, p *fakeProject) (int, any) {
		shown := slices.Clone(p.tokens)
		for i := range shown {
			shown[i].Token = ""
		}
		return 200, map[string]any{"tokens": shown}
	})
	one("POST /v1/projects/{project}/tokens", byAdmin, func(r *http.Request, p *fakeProject) (int, any) {
		var wanted fakeToken
		if json.NewDecoder(r.Body).Decode(&wanted) != nil {
			return 400, problemName(wire.ErrBadRequest.Name)
		}
		return 201, p.addToken(wanted.Label, wanted.Rights)
	})
	one("DELETE /v1/projects/{project}/tokens/{id}", byAdmin, func(r *http.Request, p *fakeProject) (int, any) {
		p.tokens = slices.DeleteFunc(p.tokens, func(t fakeToken) bool { return t.ID == r.PathValue("id") })
		return 204, nil
	})
}

// tokensOf are the tokens of a project by label.
func (f *fakeCluster) tokensOf(name string) map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	tokens := map[string]string{}
	for _, t := range f.project(name).tokens {
		tokens[t.Label] = t.Token
	}
	return tokens
}
