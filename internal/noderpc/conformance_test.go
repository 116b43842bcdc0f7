package noderpc_test

import (
	"net/http/httptest"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi/masterapi"
	"github.com/chainstore/chainstore/httpapi/workerapi"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/masternode/conformance"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/wire"
)

// TestWorkers runs the conformance suite on calls to a real storage node through its HTTP API.
func TestWorkers(t *testing.T) {
	conformance.Workers(t, func(t *testing.T) (masternode.Workers, wire.Worker, wire.Worker) {
		dir := t.TempDir()
		node, err := storagenode.Open(storagenode.Config{Dir: dir, Logger: hclog.NewNullLogger()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := node.Close(); err != nil {
				t.Error(err)
			}
		})
		fence, err := worker.OpenFence(dir)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(workerapi.NewStorage(workerapi.StorageConfig{
			Node: node, Fence: fence, ID: func() string { return "s-1" }, Group: func() string { return "g" },
			Ready: func() error { return nil }, MasterToken: "master", Secrets: nodeauth.Shared("cluster"),
			Fail: func(err error) { t.Error(err) }, Logger: hclog.NewNullLogger(),
		}))
		t.Cleanup(server.Close)
		calls := noderpc.NewWorkers(noderpc.NewTransport(), nodeauth.Shared("cluster"))
		calls.From(func() string { return "g" })
		t.Cleanup(calls.CloseIdle)
		return calls, wire.Worker{URL: server.URL, Token: "master"}, wire.Worker{URL: closedURL(), Token: "master"}
	})
}

// TestMasters runs the conformance suite on calls to real masters through their HTTP API.
func TestMasters(t *testing.T) {
	conformance.Masters(t, func(t *testing.T, leader, follower *masternode.Node) conformance.ServedMasters {
		serve := func(n *masternode.Node) string {
			server := httptest.NewServer(masterapi.New(masterapi.Config{
				Node: n, Refused: n.Refused, Secrets: nodeauth.Shared("cluster"), AdminToken: "admin",
				Logger: hclog.NewNullLogger(),
			}))
			t.Cleanup(server.Close)
			return server.URL
		}
		calls := noderpc.NewMasters(noderpc.NewTransport(),
			nodeauth.Shared("cluster").For(nodeauth.Masters))
		t.Cleanup(calls.CloseIdle)
		calls.From(follower.Caller)
		return conformance.ServedMasters{
			Masters: calls, Leader: serve(leader), Follower: serve(follower), Gone: closedURL(),
		}
	})
}

// closedURL returns a URL at which no process answers.
func closedURL() string {
	closed := httptest.NewServer(nil)
	closed.Close()
	return closed.URL
}
