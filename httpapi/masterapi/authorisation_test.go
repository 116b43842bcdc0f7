package masterapi_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi/masterapi"
	"github.com/chainstore/chainstore/httpapi/workerapi"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/wire"
)

// bearers holds a token of every kind by the name of the kind. Tokens of the own project are named by their rights, or
// "own" for all rights.
type bearers map[string]string

// gate is the access to a route: for each kind of token the status of its refusal, or 0 if it is accepted. Other kinds
// are refused with the status others.
type gate struct {
	others int
	kinds  map[string]int
	nodes  bool // the route is for nodes
	legacy bool // the route is of the original API, which takes no tokens of the OIDC issuer
}

func (g gate) status(kind string) int {
	if status, ok := g.kinds[kind]; ok {
		return status
	}
	if kind == wrongCertificate {
		return 403
	}
	if held, ok := strings.CutPrefix(kind, byIssuer); ok {
		return g.ofIssuer(held)
	}
	if strings.HasPrefix(kind, proves) && !g.nodes {
		return g.status("none") // a proof alone is no token
	}
	return g.others
}

// proves begins the kinds of nodes, which prove their secret for a purpose.
const proves = "proves "

// nodes returns the gate of a route for nodes that prove one of some purposes. The receiver of the call knows others
// too.
func nodes(allowed, others []string) gate {
	g := gate{others: 401, kinds: map[string]int{}, nodes: true}
	for _, purpose := range others {
		g.kinds[proves+purpose] = 403
	}
	for _, purpose := range allowed {
		g.kinds[proves+purpose] = 0
	}
	return g
}

// users returns the gate with the given statuses for tokens of six kinds, 0 for an accepted token, and the first status
// for all others. Named admin tokens get the status of the admin token, whatever their role.
func users(others, own, readOnly, appendOnly, other, admin, cluster int) gate {
	return gate{others: others, kinds: map[string]int{
		"own": own, "read-only": readOnly, "append-only": appendOnly, "other": other, "admin": admin,
		"named-admin": admin, "operator": admin, "auditor": admin, "cluster": cluster,
	}}
}

// admins returns the gate of a route that admin tokens of some roles may use.
func admins(roles ...string) gate {
	g := users(401, 403, 403, 403, 403, 403, 403)
	g.kinds["admin"], g.kinds["named-admin"] = 0, 0
	for _, role := range roles {
		g.kinds[role] = 0
	}
	return g
}

// The gates of a master. The project "other" is private and is not "own".
var (
	gateOpen   = gate{}
	gateAny    = users(401, 0, 0, 0, 0, 0, 0)
	gateRead   = users(401, 0, 0, 403, 403, 403, 403)
	gateAppend = users(401, 0, 403, 0, 0, 403, 403)
	// For records of their own project. Records that the project may not read are hidden in the response.
	// An admin token lists the audit trail.
	gateOwn     = users(401, 0, 0, 403, 0, 0, 403)
	gateProject = users(401, 0, 0, 0, 0, 0, 403)
	// Of administration, for those who may do everything, who run the cluster, and who only read.
	gateAdmin    = admins()
	gateOperator = admins("operator")
	gateAuditor  = admins("operator", "auditor")
	// No node sends the cluster token.
	toMaster    = []string{nodeauth.Masters, nodeauth.Storage, nodeauth.Miner, nodeauth.Recovery}
	gateNodes   = nodes(toMaster, nil)
	gateMasters = nodes([]string{nodeauth.Masters}, toMaster)
	gateStorage = nodes([]string{nodeauth.Masters, nodeauth.Storage}, toMaster) // a storage node speaks of itself
	// No token is needed, but an unknown one is refused.
	gateOptional = gate{others: 401, kinds: map[string]int{
		"none": 0, "own": 0, "read-only": 0, "append-only": 0, "other": 0, "admin": 0, "cluster": 0,
		"named-admin": 0, "operator": 0, "auditor": 0,
	}}
	// The same for new projects. Registration is open here, but a named admin token does no more than its role may.
	gateRegister = gate{others: 401, kinds: map[string]int{
		"none": 0, "own": 0, "read-only": 0, "append-only": 0, "other": 0, "admin": 0, "cluster": 0,
		"named-admin": 0, "operator": 403, "auditor": 403,
	}}
	// The routes of the original API: only tokens of projects, with a different status for invalid ones.
	gateAddData = gate{legacy: true, others: 403, kinds: map[string]int{"own": 0, "append-only": 0, "other": 0}}
	gateGetData = gate{legacy: true, others: 401,
		kinds: map[string]int{"own": 0, "read-only": 0, "append-only": 403, "other": 403}}

	// Of workers. The master token alone opens nothing.
	toStorage    = []string{nodeauth.Orders, nodeauth.Storage, nodeauth.Recovery}
	gateMaster   = nodes([]string{nodeauth.Orders}, toStorage)
	gateRecovery = nodes([]string{nodeauth.Recovery}, toStorage)
	gateTransfer = nodes(nil, []string{nodeauth.Orders, nodeauth.Recovery}) // it requires the ticket of a repair too
	gateMiner    = nodes([]string{nodeauth.Orders}, nil)
)

// row is a route with a harmless request and the statuses of the response to an accepted token.
type row struct {
	route string // in gin's notation
	gate  gate
	// TOKEN is replaced by the token if it is not sent as a bearer token, NUMBER by a different number each time.
	path, body string
	want       []int
}

var masterRows = []row{
	{"GET /livez", gateOpen, "", "", []int{200}},
	{"HEAD /livez", gateOpen, "", "", []int{200}},
	{"GET /readyz", gateOpen, "", "", []int{200}},
	{"HEAD /readyz", gateOpen, "", "", []int{200}},
	{"GET /metrics", gateOpen, "", "", []int{200}},
	{"HEAD /metrics", gateOpen, "", "", []int{200}},
	{"GET /", gateOpen, "", "", []int{200}},
	{"HEAD /", gateOpen, "", "", []int{200}},
	{"GET /console/*file", gateOpen, "/console/js/main.js", "", []int{200}},
	{"HEAD /console/*file", gateOpen, "/console/js/main.js", "", []int{200}},
	{"GET /openapi.yaml", gateOpen, "", "", []int{200}},
	{"HEAD /openapi.yaml", gateOpen, "", "", []int{200}},
	{"GET /checkpoint", gateOpen, "", "", []int{200}},
	{"HEAD /checkpoint", gateOpen, "", "", []int{200}},
	{"GET /tile/:level/*index", gateOpen, "/tile/63/000", "", []int{404}},
	{"HEAD /tile/:level/*index", gateOpen, "/tile/entries/x999/999", "", []int{404}},
	{"GET /v1/consistency", gateOpen, "/v1/consistency?from=0", "", []int{200}},
	{"HEAD /v1/consistency", gateOpen, "/v1/consistency?from=0", "", []int{200}},

	{"POST /v1/records", gateAppend, "", "x", []int{201}},
	{"POST /v1/records:batch", gateAppend, "", `{"text":"x"}`, []int{201}},
	{"POST /v1/records:stream", gateAppend, "", `{"text":"x"}`, []int{200, 501}},
	{"POST /v1/streams", gateAppend, "/v1/streams", "", []int{201, 501}},
	{"GET /v1/streams", gateAppend, "/v1/streams", "", []int{200, 501}},
	{"GET /v1/streams/:id", gateAppend, "/v1/streams/unknown", "", []int{404, 501}},
	{"DELETE /v1/streams/:id", gateAppend, "/v1/streams/unknown", "", []int{404, 501}},
	{"GET /v1/records/:index", gateRead, "/v1/records/0", "", []int{200}},
	{"HEAD /v1/records/:index", gateRead, "/v1/records/0", "", []int{200}},
	{"GET /v1/blocks/:block/records/:offset", gateRead, "/v1/blocks/0/records/0", "", []int{200}},
	{"HEAD /v1/blocks/:block/records/:offset", gateRead, "/v1/blocks/0/records/0", "", []int{200}},
	{"GET /v1/blocks/:block/records/:offset/proof", gateRead, "/v1/blocks/0/records/0/proof", "", []int{200, 409}},
	{"HEAD /v1/blocks/:block/records/:offset/proof", gateRead, "/v1/blocks/0/records/0/proof", "", []int{200, 409}},
	{"GET /v1/records/:index/proof", gateRead, "/v1/records/0/proof", "", []int{200, 409}},
	{"HEAD /v1/records/:index/proof", gateRead, "/v1/records/0/proof", "", []int{200, 409}},
	{"GET /v1/blocks/:block/records/:offset/receipt", gateRead, "/v1/blocks/0/records/0/receipt", "", []int{200, 409}},
	{"HEAD /v1/blocks/:block/records/:offset/receipt", gateRead, "/v1/blocks/0/records/0/receipt", "", []int{200, 409}},
	{"GET /v1/records/:index/receipt", gateRead, "/v1/records/0/receipt", "", []int{200, 409}},
	{"HEAD /v1/records/:index/receipt", gateRead, "/v1/records/0/receipt", "", []int{200, 409}},
	{"GET /v1/records", gateOwn, "/v1/records", "", []int{200}},
	{"GET /v1/records/stream", gateProject, "/v1/records/stream?from=x", "", []int{400}},
	{"GET /v1/blocks/:block/records", gateProject, "/v1/blocks/0/records", "", []int{200}},
	{"GET /v1/hashes/:hash", gateAny, "/v1/hashes/nothing", "", []int{400}},
	{"GET /v1/blocks", gateAny, "", "", []int{200}},
	{"GET /v1/blocks/:block", gateOptional, "/v1/blocks/0", "", []int{200}},
	{"HEAD /v1/blocks/:block", gateOptional, "/v1/blocks/0", "", []int{200}},
	{"GET /v1/cluster", gateAny, "", "", []int{200}},
	{"GET /v1/cluster/integrity", gateAny, "", "", []int{200}},

	{"GET /v1/log", gateOpen, "", "", []int{200}},
	{"POST /v1/log/keys", gateOperator, "", "", []int{201, 409}},
	{"DELETE /v1/log/keys/:id", gateOperator, "/v1/log/keys/00000000", "", []int{404}},
	{"POST /v1/log/closings", gateAdmin, "", `{"origin":"a b","reason":"r"}`, []int{400, 503}},

	{"POST /v1/cluster/integrity/confirm-lost", gateAdmin, "", `{"block":0}`, []int{409}},
	{"POST /v1/storages/:id/check", gateOperator, "/v1/storages/nobody/check", "", []int{404}},
	{"DELETE /v1/storages/:id", gateOperator, "/v1/storages/nobody", "", []int{404}},
	{"DELETE /v1/miners/:id", gateOperator, "/v1/miners/nobody", "", []int{404}},
	{"POST /v1/waiting-workers/:id/approve", gateAdmin, "/v1/waiting-workers/nobody/approve", "", []int{404}},
	{"DELETE /v1/waiting-workers/:id", gateAdmin, "/v1/waiting-workers/nobody", "", []int{404}},
	{"DELETE /v1/masters/:id", gateOperator, "/v1/masters/nobody", "", []int{404}},
	{"POST /v1/leader/transfer", gateOperator, "", `{"to":"nobody"}`, []int{404}},
	{"POST /v1/time", gateAdmin, "", `{"time":1}`, []int{400, 503}},
	{"POST /v1/tls", gateAdmin, "", `{"step":"none"}`, []int{400, 503}},
	{"PATCH /v1/settings", gateOperator, "", `{"replicas":0}`, []int{400, 503}},
	{"POST /v1/profiles", gateOperator, "", `{"node":"nobody","kind":"heap"}`, []int{404}},

	{"GET /v1/sign-in", gateOpen, "", "", []int{200}},
	{"GET /v1/me", gateAny, "", "", []int{200}},
	{"POST /v1/projects", gateRegister, "", `{"name":"table NUMBER"}`, []int{201}},
	{"GET /v1/projects", gateAny, "", "", []int{200}},
	{"GET /v1/projects/:project", gateAny, "/v1/projects/1", "", []int{200}},
	{"PATCH /v1/projects/:project", gateAdmin, "/v1/projects/1", `{"public":false}`, []int{200}},
	{"GET /v1/projects/:project/tokens", gateAuditor, "/v1/projects/1/tokens", "", []int{200}},
	{"POST /v1/projects/:project/tokens", gateAdmin, "/v1/projects/1/tokens", `{"label":"table"}`, []int{201}},
	{"DELETE /v1/projects/:project/tokens/:id", gateAdmin, "/v1/projects/1/tokens/999", "", []int{404}},

	{"GET /v1/admins", gateAuditor, "", "", []int{200}},
	{"POST /v1/admins", gateAdmin, "", `{"name":"table NUMBER","role":"auditor"}`, []int{201}},
	{"DELETE /v1/admins/:id", gateAdmin, "/v1/admins/999999", "", []int{404}},
	{"GET /v1/join-tickets", gateAuditor, "", "", []int{200}},
	{"POST /v1/join-tickets", gateAdmin, "", `{"name":"m"}`, []int{201}},
	{"DELETE /v1/join-tickets/:id", gateAdmin, "/v1/join-tickets/999999", "", []int{404}},

	{"POST /data", gateAddData, "", `{"token":"TOKEN","info":"x"}`, []int{200}},
	{"GET /data", gateGetData, "/data?blockIndex=0&offset=0&token=TOKEN", "", []int{200}},
	{"POST /admin/project", gateRegister, "", `{"projectName":"original NUMBER","isPrivate":true}`, []int{201}},
	{"GET /admin/project", gateOpen, "", "", []int{200}},
	{"POST /saveInfo", gateOpen, "", `{"info":"x"}`, []int{200}},
	{"GET /findBlockInfo", gateOpen, "/findBlockInfo?blockIndex=999999&blockOffset=0", "", []int{404}},

	{"POST " + wire.PathSession, gateOpen, "", "", []int{400}},
	{"GET " + wire.PathMember, gateNodes, "", "", []int{200}},
	{"POST " + wire.PathAdopt, gateMasters, "", `{"group":"x","member":"y"}`, []int{400}},
	{"POST " + wire.PathMasters, gateMasters, "", `{}`, []int{400, 503}},
	{"GET " + wire.PathState, gateMasters, "", "", []int{200}},
	{"POST " + wire.PathWorkers, gateStorage, "", `{"role":"storage"}`, []int{400}},
	{"POST " + wire.PathProfile, gateMasters, "", `{}`, []int{400}},
	// These do not name their caller.
	{"POST " + wire.PathSubmissions, gateMasters, "", "junk", []int{400}},
	{"GET " + wire.PathReadIndex, gateMasters, "", "", []int{400}},
	{"GET " + wire.PathLeaderStatus, gateMasters, "", "", []int{400}},
	{"GET " + wire.PathLeaderIntegrity, gateMasters, "", "", []int{400}},
	{"POST " + wire.PathFailedSyncs, gateStorage, "", `{"id":"s-1"}`, []int{400, 404}},
	{"POST " + wire.PathSuspects, gateMasters, "", `{}`, []int{400}},
	{"GET " + wire.PathTLS, gateMasters, "", "", []int{200}},
	{"POST " + wire.PathTLS, gateMasters, "", `{}`, []int{400}},
}

var storageRows = []row{
	{"GET /livez", gateOpen, "", "", []int{200}},
	{"HEAD /livez", gateOpen, "", "", []int{200}},
	{"GET /metrics", gateOpen, "", "", []int{200}},
	{"HEAD /metrics", gateOpen, "", "", []int{200}},
	{"GET /readyz", gateOpen, "", "", []int{200}},
	{"HEAD /readyz", gateOpen, "", "", []int{200}},
	{"POST " + wire.PathSession, gateOpen, "", "", []int{400}},
	// An order without a fence is refused if the token is valid.
	{"GET " + wire.PathWorkerStatus, gateMaster, "", "", []int{400}},
	{"POST " + wire.PathWorkerProfile, gateMaster, "", `{}`, []int{400}},
	{"POST " + wire.PathWorkerTLS, gateMaster, "", `{}`, []int{400}},
	{"PUT " + wire.PathBlocks + ":block", gateMaster, wire.PathBlocks + "0", "", []int{400}},
	{"PUT " + wire.PathInbox + ":block", gateMaster, wire.PathInbox + "0", "", []int{400}},
	{"POST " + wire.PathReadRecords, gateMaster, "", "", []int{200, 400}},
	{"POST " + wire.PathFindRecords, gateMaster, "", "", []int{200, 400}},
	{"GET " + wire.PathFindHash + ":hash", gateMaster, wire.PathFindHash + "nothing", "", []int{400}},
	{"GET " + wire.PathHeaders, gateMaster, "", "", []int{400}},
	{"POST " + wire.PathReadTiles, gateMaster, "", "x", []int{400}},
	{"GET " + wire.PathEntries, gateMaster, wire.PathEntries + "?first=x", "", []int{400}},
	{"GET " + wire.PathLocate + ":index", gateMaster, wire.PathLocate + "x", "", []int{400}},
	{"POST " + wire.PathCheck, gateMaster, "", "", []int{400}},
	{"POST " + wire.PathReceive, gateMaster, "", "", []int{400}},
	{"POST " + wire.PathSend, gateMaster, "", "", []int{400}},
	{"POST " + wire.PathTransfer, gateTransfer, "", "", nil},
	{"GET " + wire.PathChain, gateRecovery, "", "", []int{200}},
	{"POST " + wire.PathChainEpoch, gateRecovery, "", "", []int{400}},
	{"GET " + wire.PathChainBlocks, gateRecovery, "", "", []int{400}},
}

var minerRows = []row{
	{"GET /livez", gateOpen, "", "", []int{200}},
	{"HEAD /livez", gateOpen, "", "", []int{200}},
	{"GET /metrics", gateOpen, "", "", []int{200}},
	{"HEAD /metrics", gateOpen, "", "", []int{200}},
	{"GET /readyz", gateOpen, "", "", []int{200}},
	{"HEAD /readyz", gateOpen, "", "", []int{200}},
	{"POST " + wire.PathSession, gateOpen, "", "", []int{400}},
	{"GET " + wire.PathWorkerStatus, gateMiner, "", "", []int{400}},
	{"POST " + wire.PathWorkerProfile, gateMiner, "", `{}`, []int{400}},
	{"POST " + wire.PathWorkerTLS, gateMiner, "", `{}`, []int{400}},
	{"POST " + wire.PathMine, gateMiner, "", "", []int{400}},
}

// placeOf returns what puts the place of a record into the paths of rows, which have that of the first record.
func placeOf(p wire.Position) *strings.Replacer {
	return strings.NewReplacer("/v1/records/0", fmt.Sprint("/v1/records/", p.Index), "/v1/blocks/0/records/0",
		fmt.Sprintf("/v1/blocks/%d/records/%d", p.Block, p.Offset), "blockIndex=0&offset=0",
		fmt.Sprintf("blockIndex=%d&offset=%d", p.Block, p.Offset))
}

// authorisation sends a request of every row with a token of every kind. The rows must match the routes of the routers.
func (c *cluster) authorisation(t *testing.T) {
	tokens := c.bearers()
	maps.Copy(tokens, c.issuerTokens())
	send := map[string]exchange.Send{} // from an address for each kind: no limit for unknown tokens counts them all
	from := func(kind string) exchange.Send {
		if send[kind] == nil {
			send[kind] = fromOtherAddress(t, byte(10+len(send)))
		}
		return send[kind]
	}
	log := hclog.NewNullLogger()
	own := answer[wire.Records](c, 0, request{method: "GET", path: "/v1/records?limit=1", token: tokens["own"],
		status: 200}).Records[0]
	at := placeOf(own.Position)
	storage, miner := c.role(devcluster.KindStorage), c.role(devcluster.KindMiner)
	for _, table := range []struct {
		name, url string
		handler   http.Handler
		rows      []row
		workers   devcluster.Role // the worker whose tokens are tried
		accepts   []string        // purposes of sessions
	}{
		{
			"master", c.file.Masters[0],
			masterapi.New(masterapi.Config{
				Options: masterapi.Options{OpenRegistration: true, OriginalAPI: true}, Logger: log,
			}),
			masterRows, storage, toMaster,
		},
		{"storage node", storage.URL(), workerapi.NewStorage(workerapi.StorageConfig{Logger: log}), storageRows,
			storage, toStorage},
		{"miner", miner.URL(), workerapi.NewMiner(workerapi.MinerConfig{Logger: log}), minerRows, miner,
			[]string{nodeauth.Orders}},
	} {
		t.Run(table.name, func(t *testing.T) {
			holdRoutes(t, table.handler, table.rows)
			kinds := bearers{}
			for kind, token := range tokens {
				kinds[kind] = token
			}
			kinds["access"], kinds["master"] = workerTokens(t, table.workers)
			transport := noderpc.NewTransport()
			defer transport.CloseIdle()
			secrets := nodeauth.Shared(c.file.Tokens.Cluster)
			credentials := []nodeauth.Credential{secrets.ForWorker(table.name == "miner", kinds["master"])}
			for _, purpose := range toMaster {
				credentials = append(credentials, secrets.For(purpose))
			}
			for i, r := range table.rows {
				r.path = at.Replace(r.path)
				for kind, token := range kinds {
					r.try(t, from(kind), table.url, kind, token, i)
				}
				for _, cred := range credentials {
					// Without a session there is no request, and what opens one has no proof.
					if !r.gate.nodes && !slices.Contains(table.accepts, cred.Purpose) ||
						strings.HasSuffix(r.route, wire.PathSession) {
						continue
					}
					r.try(t, transport.As(cred), table.url, proves+cred.Purpose, "", i)
				}
			}
		})
	}
}

// bearers creates a token of every kind except those of the nodes.
func (c *cluster) bearers() bearers {
	b := bearers{
		"none": "", "unknown": "nobody-knows-it", "own": c.file.Tokens.Project, "admin": c.file.Tokens.Admin,
		"cluster": c.file.Tokens.Cluster,
	}
	b["other"] = c.newProject("unrelated", false).Token
	b["read-only"] = c.newToken("default", wire.RightRead).Token
	b["append-only"] = c.newToken("default", wire.RightAppend).Token
	revoked := c.newToken("default", wire.RightRead, wire.RightAppend)
	c.revoke("default", revoked.ID)
	b["revoked"] = revoked.Token
	for kind, role := range map[string]string{
		"named-admin": wire.RoleAdmin, "operator": wire.RoleOperator, "auditor": wire.RoleAuditor,
	} {
		b[kind] = c.newAdmin(kind, role).Token
	}
	b["revoked-admin"] = c.revokedAdmin()
	b["expired-admin"] = c.expiredAdmin()
	return b
}

func (c *cluster) role(kind devcluster.Kind) devcluster.Role {
	i := slices.IndexFunc(c.roles, func(r devcluster.Role) bool { return r.Kind == kind })
	return c.roles[i]
}

// workerTokens returns the token of a worker for the masters, and that of the masters for the worker.
func workerTokens(t *testing.T, r devcluster.Role) (access, master string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(r.Data, "identity.json"))
	if err != nil {
		t.Fatal(err)
	}
	var identity struct {
		Access string `json:"access_token"`
		Master string `json:"master_token"`
	}
	if err := json.Unmarshal(data, &identity); err != nil || identity.Access == "" || identity.Master == "" {
		t.Fatalf("%s has no tokens: %v", r.Name, err)
	}
	return identity.Access, identity.Master
}

// holdRoutes fails the test for a route without a row, and for a row without a route.
func holdRoutes(t *testing.T, h http.Handler, rows []row) {
	t.Helper()
	missing := map[string]bool{}
	for _, r := range h.(interface{ Routes() gin.RoutesInfo }).Routes() {
		missing[r.Method+" "+strings.ReplaceAll(r.Path, `\:`, ":")] = true
	}
	for _, r := range rows {
		if !missing[r.route] {
			t.Errorf("the row of %s has no route", r.route)
		}
		delete(missing, r.route)
	}
	for route := range missing {
		t.Errorf("%s has no row: add one with its gate", route)
	}
}

// request is the row's request with a token. unique makes the names in its body differ from those of other requests.
func (r row) request(t *testing.T, url, token, unique string) *http.Request {
	t.Helper()
	method, path, _ := strings.Cut(r.route, " ")
	if r.path != "" {
		path = r.path
	}
	fill := strings.NewReplacer("TOKEN", token, "NUMBER", unique)
	req, err := http.NewRequestWithContext(t.Context(), method, url+fill.Replace(path),
		strings.NewReader(fill.Replace(r.body)))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" && !strings.Contains(r.path+r.body, "TOKEN") {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req
}

// try sends the row's request with a token and compares the status with the gate.
func (r row) try(
	t *testing.T, send exchange.Send, url, kind, token string, number int,
) {
	t.Helper()
	resp, err := send(r.request(t, url, token, fmt.Sprintf("%d of %s", number, kind)))
	if err != nil {
		t.Fatalf("%s by one who %s: %v", r.route, kind, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s with the token %q: %v", r.route, kind, err)
	}
	safeAnswer(t, r.route, resp.Header)
	want := r.want
	if status := r.gate.status(kind); status != 0 {
		want = []int{status}
	}
	if !slices.Contains(want, resp.StatusCode) {
		t.Errorf("%s with the token %q: %d, want %v: %.300s", r.route, kind, resp.StatusCode, want, body)
	}
	if resp.StatusCode == http.StatusUnauthorized && resp.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("%s with the token %q: no WWW-Authenticate", r.route, kind)
	}
	if token != "" && strings.Contains(string(body), token) {
		t.Errorf("%s answers with the token %q: %s", r.route, kind, body)
	}
}
