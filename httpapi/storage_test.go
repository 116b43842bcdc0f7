package httpapi_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/httpapi/wire"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/worker"
)

// While a leader gives a storage node orders, the cluster token, which every miner has, opens no block; how far the chain goes it does.
func TestChainIsClosedWhileALeaderIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		node, err := storagenode.Open(storagenode.Config{Dir: dir, Logger: hclog.NewNullLogger()})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := node.Close(); err != nil {
				t.Error(err)
			}
		}()
		if _, err := node.Put(0, firstBlock(t)); err != nil {
			t.Fatal(err)
		}
		fence, err := worker.OpenFence(dir)
		if err != nil {
			t.Fatal(err)
		}
		h := httpapi.NewStorage(httpapi.StorageConfig{
			Node: node, Fence: fence, ID: func() string { return "s-1" }, Group: func() string { return "g" },
			Ready:       func() error { return nil },
			MasterToken: "master", ClusterToken: "cluster", Fail: func(err error) { t.Error(err) }, Logger: hclog.NewNullLogger(),
		})
		get := func(path, token string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Header.Set("Authorization", "Bearer "+token)
			r.Header.Set(wire.HeaderFence, wire.Order{Epoch: 1, Term: 1}.String())
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		const blocks = wire.PathChainBlocks + "?from=0&to=1"
		leading, end := context.WithTimeout(t.Context(), time.Minute)
		defer end()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for leading.Err() == nil {
				get(wire.PathWorkerStatus, "master")
				time.Sleep(time.Second)
			}
		}()
		for until, _ := leading.Deadline(); time.Now().Before(until.Add(-10 * time.Second)); {
			if w := get(blocks, "cluster"); w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), "a payload") {
				t.Fatalf("with a leader: %d %s", w.Code, w.Body)
			}
			if w := get(wire.PathChain, "cluster"); w.Code != http.StatusOK {
				t.Fatalf("how far it goes: %d %s", w.Code, w.Body)
			}
		}
		<-ended
		// One that is not let in is no leader.
		time.AfterFunc(time.Second, func() { get(wire.PathWorkerStatus, "wrong") })
		if w := get(blocks, "cluster"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "a payload") {
			t.Errorf("without a leader: %d %s", w.Code, w.Body)
		}
	})
}

// firstBlock is a block of one record.
func firstBlock(t *testing.T) []byte {
	t.Helper()
	r := chain.Record{Project: 1, Time: 7, Payload: []byte("a payload")}
	encoded := r.AppendTo(nil)
	tree := chain.Tree{}.Append(r.Leaf().Hash())
	b, err := chain.NewBlock(chain.Header{Version: chain.Version, Count: 1, Root: tree.Root(), Time: 7}, []uint32{uint32(len(encoded))}, encoded)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A storage node that a leader knows from before its start takes no block until it is registered: its height must not move between
// what it says in the registration and the judgement on that.
func TestNoBlockBeforeRegistration(t *testing.T) {
	dir := t.TempDir()
	node, err := storagenode.Open(storagenode.Config{Dir: dir, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	}()
	fence, err := worker.OpenFence(dir)
	if err != nil {
		t.Fatal(err)
	}
	ready := worker.ErrNotRegistered
	h := httpapi.NewStorage(httpapi.StorageConfig{
		Node: node, Fence: fence, ID: func() string { return "s-1" }, Ready: func() error { return ready },
		MasterToken: "master", Fail: func(err error) { t.Error(err) }, Logger: hclog.NewNullLogger(),
	})
	put := func() (int, string) {
		r := httptest.NewRequest(http.MethodPut, wire.PathBlocks+"0", strings.NewReader("no block"))
		r.Header.Set("Authorization", "Bearer master")
		r.Header.Set(wire.HeaderFence, wire.Order{Epoch: 1, Term: 1}.String())
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	if status, body := put(); status != http.StatusServiceUnavailable || !strings.Contains(body, "not registered yet") {
		t.Errorf("%d %s", status, body)
	}
	if highest, _ := fence.Highest(); highest != (wire.Order{}) {
		t.Errorf("an order before the registration moved the fence to %v", highest)
	}
	ready = nil
	if status, body := put(); status != http.StatusUnprocessableEntity {
		t.Errorf("registered: %d %s", status, body)
	}
}
