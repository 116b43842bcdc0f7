package masterapi_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi/masterapi"
	"github.com/chainstore/chainstore/wire"
)

// nodeCall is what a route between the nodes checks of its caller. docs/api.md has the table of all these routes.
type nodeCall int

const (
	checksNothing nodeCall = iota // it changes nothing, and new nodes and tools use it
	checksBody                    // the group and epoch in the body
	checksCaller                  // group, epoch and term in the header Chainstore-Caller
	checksForward                 // as checksCaller where a master forwards the request, else what the body has
)

var nodeCalls = map[string]nodeCall{
	"POST " + wire.PathSession:        checksNothing,
	"GET " + wire.PathMember:          checksNothing,
	"GET " + wire.PathState:           checksNothing,
	"POST " + wire.PathProfile:        checksNothing,
	"POST " + wire.PathAdopt:          checksBody,
	"POST " + wire.PathSubmissions:    checksCaller,
	"GET " + wire.PathReadIndex:       checksCaller,
	"GET " + wire.PathLeaderStatus:    checksCaller,
	"GET " + wire.PathLeaderIntegrity: checksCaller,
	"POST " + wire.PathSuspects:       checksCaller,
	"POST " + wire.PathTLS:            checksCaller,
	"GET " + wire.PathTLS:             checksForward,
	"POST " + wire.PathMasters:        checksForward,
	"POST " + wire.PathWorkers:        checksForward,
	"POST " + wire.PathFailedSyncs:    checksForward,
}

// TestNodeCallsAreInTheTable checks that every route between the nodes is in the table.
func TestNodeCallsAreInTheTable(t *testing.T) {
	handler := masterapi.New(masterapi.Config{Logger: hclog.NewNullLogger()})
	routes := 0
	for _, r := range handler.(interface{ Routes() gin.RoutesInfo }).Routes() {
		if !strings.HasPrefix(r.Path, "/internal/") {
			continue
		}
		routes++
		if _, ok := nodeCalls[r.Method+" "+r.Path]; !ok {
			t.Errorf("%s %s is not in the table: say what it checks of its caller", r.Method, r.Path)
		}
	}
	if routes != len(nodeCalls) {
		t.Errorf("%d routes, and %d rows of the table", routes, len(nodeCalls))
	}
}

// TestNodeCallsAreChecked sends to each route of the table the group, epoch and term of another caller, and checks that
// it is refused without an effect.
func TestNodeCallsAreChecked(t *testing.T) {
	c := startCluster(t)
	c.file.Masters = []string{c.leader()}
	status := func() wire.Cluster {
		return answer[wire.Cluster](c, 0, request{method: "GET", path: "/v1/cluster", token: c.file.Tokens.Admin,
			status: 200})
	}
	member := answer[wire.Member](c, 0, request{method: "GET", path: wire.PathMember, token: c.file.Tokens.Cluster,
		status: 200})
	before := status()
	for end := time.Now().Add(time.Minute); before.Level < wire.ProtocolLevel; before = status() {
		if time.Now().After(end) { // masters of a group at a low level need not name themselves
			t.Fatalf("the group is at level %d: %q", before.Level, before.Notices)
		}
		time.Sleep(10 * time.Millisecond)
	}
	own := wire.Caller{Group: member.Group, Order: wire.Order{Epoch: member.Epoch, Term: before.Term}}
	other, earlier, later, newer := own, own, own, own
	other.Group = "another"
	earlier.Epoch--
	later.Epoch++
	newer.Term += 10
	registration := wire.Registration{Role: "storage", URL: "http://127.0.0.1:1", MasterToken: "m"}
	bodies := map[string]any{
		wire.PathWorkers: registration,
		wire.PathMasters: wire.Member{ID: "m9", URL: "http://127.0.0.1:1", Raft: "127.0.0.1:1"},
		wire.PathFailedSyncs: wire.FailedSync{ID: before.Storages[0].ID, Kernel: "k",
			Detail: "a test", Group: member.Group},
		wire.PathSuspects: wire.Suspicion{ID: before.Storages[0].ID},
	}
	send := func(name, route string, body any, headers map[string]string, status int, problem string) {
		t.Helper()
		method, path, _ := strings.Cut(route, " ")
		text := ""
		if body != nil {
			encoded, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			text = string(encoded)
		}
		c.do(0, request{name: name + ": " + route, method: method, path: path, token: c.file.Tokens.Cluster,
			body: text, headers: headers, status: status, problem: problem})
	}
	for route, checks := range nodeCalls {
		if checks != checksCaller && checks != checksForward {
			continue
		}
		headers := map[string]string{}
		if checks == checksForward {
			headers[wire.HeaderHops] = "1"
		}
		_, path, _ := strings.Cut(route, " ")
		send("no caller", route, bodies[path], headers, 400, wire.ErrBadRequest.Name)
		for name, caller := range map[string]wire.Caller{
			"of another group": other, "of an earlier epoch": earlier, "of a later epoch": later,
			"of a later term": newer,
		} {
			headers[wire.HeaderCaller] = caller.String()
			send(name, route, bodies[path], headers, 503, wire.ErrNoLeader.Name)
		}
	}

	// What a node says of itself in the body.
	stranger, ahead := registration, registration
	stranger.Group = "another"
	send("another group", "POST "+wire.PathWorkers, stranger, nil, 409, wire.ErrOtherGroup.Name)
	for _, seen := range []wire.Order{later.Order, newer.Order} {
		ahead.Group, ahead.Seen = own.Group, seen.String()
		send("a later leader", "POST "+wire.PathWorkers, ahead, nil, 409, wire.ErrFenced.Name)
	}
	ahead.Seen = "x"
	send("no order", "POST "+wire.PathWorkers, ahead, nil, 400, wire.ErrBadRequest.Name)
	failed := bodies[wire.PathFailedSyncs].(wire.FailedSync)
	failed.Group = "another"
	send("another group", "POST "+wire.PathFailedSyncs, failed, nil, 409, wire.ErrOtherGroup.Name)
	announced := member
	announced.Group, announced.Level, announced.Time, announced.Disk = "another", 0, 0, wire.Disk{}
	send("another group", "POST "+wire.PathMasters, announced, nil, 409, wire.ErrOtherGroup.Name)
	announced.Group, announced.Epoch = own.Group, earlier.Epoch
	send("an earlier epoch", "POST "+wire.PathMasters, announced, nil, 410, wire.ErrRemoved.Name)
	adoption := wire.Adoption{Group: "another", Epoch: 1, Member: member.ID}
	send("another group", "POST "+wire.PathAdopt, adoption, nil, 400, wire.ErrBadRequest.Name)

	after := status()
	workers := func(s wire.Cluster) (ids []string) {
		for _, n := range s.Storages {
			// A check may begin meanwhile.
			state := strings.Replace(n.State, "validating", "valid", 1)
			ids = append(ids, n.ID+" "+n.URL+" "+state)
		}
		for _, n := range s.Masters {
			ids = append(ids, n.ID+" "+n.URL)
		}
		return ids
	}
	if !slices.Equal(workers(before), workers(after)) {
		t.Errorf("the nodes changed: %v, before %v", workers(after), workers(before))
	}
	registration.Group, registration.Seen = own.Group, wire.Order{Epoch: own.Epoch}.String()
	send("its own group, an older order", "POST "+wire.PathWorkers, registration, nil, 200, "")
	if got := status(); len(got.Storages) != len(before.Storages)+1 {
		t.Errorf("%d storage nodes, %d before the one that registered", len(got.Storages), len(before.Storages))
	}
}
