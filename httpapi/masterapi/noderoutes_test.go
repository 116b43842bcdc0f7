package masterapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/joining"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// TestAnnounceThroughAFollower checks that a follower forwards an announcement and returns the leader's response,
// whether it is a refusal or not.
func TestAnnounceThroughAFollower(t *testing.T) {
	topology := devcluster.NewTopology(t.TempDir(), freePort(t))
	topology.LogLevel, topology.Timeout, topology.Settings.Difficulty = "error", time.Second, 4
	group, err := devcluster.Start(t.Context(), topology, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := group.Stop(); err != nil {
			t.Error(err)
		}
	})
	c := &cluster{t: t, file: group.File()}
	var status wire.Cluster
	everyURL := func() bool { // a master's URL is in the table once the leader has committed it
		status, err = group.Status(t.Context())
		return err == nil && !slices.ContainsFunc(status.Masters, func(m wire.Master) bool { return m.URL == "" })
	}
	for deadline := time.Now().Add(10 * time.Second); !everyURL(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the URLs of all masters are not known: %+v, %v", status.Masters, err)
		}
	}
	var followers []wire.Master
	for _, m := range status.Masters {
		if m.ID != status.Leader {
			followers = append(followers, m)
		}
	}
	asked, other := followers[0], followers[1]
	c.file.Masters = []string{asked.URL}

	fresh := wire.Member{ID: "m4", Raft: other.Raft}
	answered := wire.Member{ID: "m4", Raft: other.Raft, Level: masterfsm.ProtocolLevel}
	engine := httpapi.New(hclog.NewNullLogger())
	engine.Authenticate(&httpapi.Nodes{Accept: map[string]nodeauth.Accepted{
		nodeauth.Masters: {Secret: nodeauth.NewSecret(c.file.Tokens.Cluster)},
	}})
	engine.GET(wire.PathMember, func(c *gin.Context) { c.JSON(http.StatusOK, answered) })
	server := httptest.NewServer(engine)
	defer server.Close()
	fresh.URL, answered.URL = server.URL, server.URL
	key := joining.NewKey()
	answered.Key = key.Public()
	created := answer[wire.CreatedJoinTicket](c, 0, request{method: "POST", path: "/v1/join-tickets",
		token: c.file.Tokens.Admin, body: "{}", status: 201})
	ticket, err := joining.ParseTicket(created.Ticket)
	if err != nil {
		t.Fatal(err)
	}
	self := answer[wire.Member](c, 0, request{method: "GET", path: wire.PathMember, token: c.file.Tokens.Cluster,
		status: 200})
	announce := func(name string, m wire.Member, status int, problem string) {
		t.Helper()
		m.Proof = joining.Prove(self.Group, m, 1, key, ticket)
		body, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		c.do(0, request{
			name: name, method: "POST", path: wire.PathMasters, token: c.file.Tokens.Cluster, body: string(body),
			status: status, problem: problem,
		})
	}
	announce("not there", wire.Member{ID: "m4", URL: "http://127.0.0.1:1", Raft: "127.0.0.1:1"}, 400,
		wire.ErrBadRequest.Name)
	made := ticket
	ticket = joining.Key{}
	announce("without a ticket", wire.Member{ID: "m4", URL: server.URL, Raft: "127.0.0.1:1"}, 403,
		wire.ErrTicketNeeded.Name)
	ticket = joining.NewKey()
	announce("with a forged ticket", wire.Member{ID: "m4", URL: server.URL, Raft: "127.0.0.1:1"}, 403,
		wire.ErrTicketRefused.Name)
	ticket = made
	announce("at the raft address of another", fresh, 409, wire.ErrOtherKey.Name)
	for _, role := range topology.Roles() {
		if role.Kind == devcluster.KindMaster && role.URL() == other.URL {
			if err := group.StopRole(role.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.do(0, request{name: "remove", method: "DELETE", path: "/v1/masters/" + other.ID, token: c.file.Tokens.Admin,
		status: 204})
	announce("in the place of one that was removed", fresh, 200, "")
	announce("removed", wire.Member{ID: other.ID, URL: other.URL, Raft: other.Raft}, 410, wire.ErrRemoved.Name)
}

// TestCallersAreChecked checks that the leader answers only masters of its own group that know of no later leader, and
// that a request that such a master has forwarded is refused too.
func TestCallersAreChecked(t *testing.T) {
	c := startCluster(t)
	c.file.Masters = []string{c.leader()}
	member := answer[wire.Member](c, 0, request{method: "GET", path: wire.PathMember, token: c.file.Tokens.Cluster,
		status: 200})
	status := answer[wire.Cluster](c, 0, request{method: "GET", path: "/v1/cluster", token: c.file.Tokens.Admin,
		status: 200})
	own := wire.Caller{Group: member.Group, Order: wire.Order{Epoch: member.Epoch, Term: status.Term}}
	other, recovered, older, later := own, own, own, own
	other.Group = "another"
	recovered.Epoch++
	older.Term = 0
	later.Term += 10
	for name, caller := range map[string]struct {
		header  string
		calls   int // status of a call of the leader
		forward int // of a forwarded request of administration
	}{
		"its own":               {own.String(), 200, 200},
		"of an earlier leader":  {older.String(), 200, 200},
		"of a later leader":     {later.String(), 503, 200},
		"of another group":      {other.String(), 503, 503},
		"of an earlier epoch":   {recovered.String(), 503, 503},
		"no caller":             {"", 400, 200},
		"not in the right form": {"1.1", 400, 400},
	} {
		headers := map[string]string{}
		if caller.header != "" {
			headers[wire.HeaderCaller] = caller.header
		}
		problem := map[int]string{200: "", 400: wire.ErrBadRequest.Name, 503: wire.ErrNoLeader.Name}
		for _, path := range []string{wire.PathReadIndex, wire.PathLeaderStatus, wire.PathLeaderIntegrity} {
			c.do(0, request{
				name: name + ": " + path, method: "GET", path: path, token: c.file.Tokens.Cluster, headers: headers,
				status: caller.calls, problem: problem[caller.calls],
			})
		}
		c.do(0, request{
			name: name + ": forwarded", method: "GET", path: "/v1/projects", token: c.file.Tokens.Admin,
			headers: headers, status: caller.forward, problem: problem[caller.forward],
		})
	}
}
