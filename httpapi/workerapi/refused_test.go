package workerapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi/workerapi"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/minernode"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/wire"
)

// readiness is the state of a worker's registration.
type readiness struct{ err atomic.Pointer[error] }

func (r *readiness) set(err error) { r.err.Store(&err) }
func (r *readiness) get() error    { return *r.err.Load() }

// refusedWorkers returns a storage node and a miner whose readiness the test sets.
func refusedWorkers(t *testing.T, ready func() error) (
	storage, miner http.Handler, node *storagenode.Node, mining *minernode.Node,
) {
	t.Helper()
	dir := t.TempDir()
	node, err := storagenode.Open(storagenode.Config{Dir: dir, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	mining = minernode.New(minernode.Config{Threads: 1})
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
		_ = mining.Close()
	})
	fence, err := worker.OpenFence(dir)
	if err != nil {
		t.Fatal(err)
	}
	id, fail := func() string { return "w-1" }, func(err error) { t.Error(err) }
	storage = workerapi.NewStorage(workerapi.StorageConfig{
		Node: node, Fence: fence, ID: id, Group: func() string { return "g" }, Ready: ready,
		MasterToken: "master", Bearers: always, Secrets: nodeauth.Shared("cluster"),
		Fail: fail, Logger: hclog.NewNullLogger(),
	})
	miner = workerapi.NewMiner(workerapi.MinerConfig{
		Node: mining, Fence: fence, ID: id, Group: func() string { return "g" }, Ready: ready, MasterToken: "master",
		Bearers: always,
		Fail:    fail, Logger: hclog.NewNullLogger(),
	})
	return storage, miner, node, mining
}

// someOrder is an order of a leader.
var someOrder = wire.Order{Epoch: 1, Term: 1}

// wantRefused checks that a response is the problem that explains how to rejoin.
func wantRefused(t *testing.T, what string, w *httptest.ResponseRecorder) {
	t.Helper()
	var p wire.Problem
	err := json.Unmarshal(w.Body.Bytes(), &p)
	if w.Code != http.StatusServiceUnavailable || err != nil || w.Header().Get("Content-Type") != wire.TypeProblem ||
		p.Type != wire.ProblemBase+wire.ErrStaleFolder.Name || !strings.Contains(p.Detail, "identity.json and starts") {
		t.Errorf("%s: %d %q %s", what, w.Code, w.Header().Get("Content-Type"), w.Body)
	}
}

// TestRefusedWorkerServesNothing checks that a worker that the masters have refused only serves its health routes,
// whatever the token, and that /readyz explains how to rejoin.
func TestRefusedWorkerServesNothing(t *testing.T) {
	var ready readiness
	ready.set(worker.ErrNotRegistered)
	storage, miner, _, _ := refusedWorkers(t, ready.get)
	for name, h := range map[string]http.Handler{"storage": storage, "miner": miner} {
		ready.set(worker.ErrNotRegistered)
		if w := ask(h, http.MethodGet, "/readyz", "", "", someOrder); w.Code != http.StatusServiceUnavailable ||
			!strings.Contains(w.Body.String(), "not registered yet") || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s, not registered: %d %s", name, w.Code, w.Body)
		}
		ready.set(nil)
		w := ask(h, http.MethodGet, "/readyz", "", "", someOrder)
		if w.Code != http.StatusOK || w.Body.String() != "ok\n" {
			t.Errorf("%s, registered: %d %s", name, w.Code, w.Body)
		}
		ready.set(worker.ErrRefused)
		for _, r := range h.(interface{ Routes() gin.RoutesInfo }).Routes() {
			path := strings.NewReplacer(`\:`, ":", ":block", "0", ":index", "0", ":hash", "0").Replace(r.Path)
			token, health := "master", path == "/livez" || path == "/readyz"
			if strings.HasPrefix(path, wire.PathChain) {
				token = "cluster"
			}
			if path == wire.PathSession { // so that the refusals can be signed
				continue
			}
			w := ask(h, r.Method, path, token, "", someOrder)
			if path == "/livez" || path == "/metrics" {
				if w.Code != http.StatusOK {
					t.Errorf("%s, %s: %d %s", name, path, w.Code, w.Body)
				}
				continue
			}
			wantRefused(t, name+", "+path, w)
			// This route requires the ticket of a repair, which the node checks first.
			if health || path == wire.PathTransfer {
				continue
			}
			if w := ask(h, r.Method, path, "wrong", "", someOrder); w.Code != http.StatusUnauthorized {
				t.Errorf("%s, %s with a wrong token: %d %s", name, path, w.Code, w.Body)
			}
		}
	}
}

// refusing is a request body. The worker is refused after the body has been read.
type refusing struct {
	*strings.Reader
	refuse func()
}

func (r refusing) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if r.Len() == 0 {
		r.refuse()
	}
	return n, err
}

// TestRefusedInTheMidst checks that a block that is in transit when the masters refuse the node is neither stored nor
// acknowledged, and that no nonce is returned.
func TestRefusedInTheMidst(t *testing.T) {
	var ready readiness
	ready.set(nil)
	storage, miner, node, mining := refusedWorkers(t, ready.get)
	for _, path := range []string{wire.PathBlocks, wire.PathInbox} {
		ready.set(nil)
		body := refusing{strings.NewReader(string(firstBlock(t))), func() { ready.set(worker.ErrRefused) }}
		r := httptest.NewRequest(http.MethodPut, path+"0", body)
		r.Header.Set("Authorization", "Bearer master")
		r.Header.Set(wire.HeaderFence, wire.Order{Epoch: 1, Term: 1}.String())
		w := httptest.NewRecorder()
		storage.ServeHTTP(w, r)
		wantRefused(t, path, w)
	}
	if at := node.Status(); at.Height != 0 || at.Inbox != (chain.Range{}) {
		t.Errorf("the node has %+v", at)
	}

	ready.set(nil)
	answers := make(chan *httptest.ResponseRecorder, 1)
	order, err := json.Marshal(wire.MineOrder{Block: 1, Difficulty: chain.MaxDifficulty})
	if err != nil {
		t.Fatal(err)
	}
	go func() { answers <- ask(miner, http.MethodPost, wire.PathMine, "master", string(order), someOrder) }()
	for !mining.Mining() {
		runtime.Gosched()
	}
	ready.set(worker.ErrRefused)
	if err := mining.Close(); err != nil {
		t.Error(err)
	}
	wantRefused(t, "a nonce", <-answers)
}

// TestStoppedMinerAsksForNoRetry checks that the response of a stopped miner has no retry time, because it does not
// recover by itself.
func TestStoppedMinerAsksForNoRetry(t *testing.T) {
	_, miner, _, mining := refusedWorkers(t, func() error { return nil })
	if err := mining.Close(); err != nil {
		t.Fatal(err)
	}
	order, err := json.Marshal(wire.MineOrder{Difficulty: 1})
	if err != nil {
		t.Fatal(err)
	}
	w := ask(miner, http.MethodPost, wire.PathMine, "master", string(order), someOrder)
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "miner stopped") ||
		w.Header().Get("Retry-After") != "" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

// TestStoppedStorageNodeAsksForNoRetry checks that the response of a stopped storage node has no retry time, because it
// serves again only after a restart.
func TestStoppedStorageNodeAsksForNoRetry(t *testing.T) {
	storage, _, node, _ := refusedWorkers(t, func() error { return nil })
	if err := node.Abort(); err != nil {
		t.Fatal(err)
	}
	w := ask(storage, http.MethodPost, wire.PathCheck, "master", `{"check":"1"}`, someOrder)
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "no check is started") ||
		w.Header().Get("Retry-After") != "" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

// TestDamagedBlockAsksForNoRetry checks that the response for a damaged block has no retry time, because the block is
// readable again only after a repair. The response is a problem, although the handler has announced blocks.
func TestDamagedBlockAsksForNoRetry(t *testing.T) {
	synctest.Test(t, damagedBlockAsksForNoRetry)
}

func damagedBlockAsksForNoRetry(t *testing.T) {
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
	if _, err := node.Put(t.Context(), 0, firstBlock(t)); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(dir, "segments", "*.seg"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("%d segments, %v", len(segments), err)
	}
	data, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	clear(data)
	file, err := os.OpenFile(segments[0], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	fence, err := worker.OpenFence(dir)
	if err != nil {
		t.Fatal(err)
	}
	storage := workerapi.NewStorage(workerapi.StorageConfig{
		Node: node, Fence: fence, ID: func() string { return "w-1" }, Group: func() string { return "g" },
		Ready: func() error { return nil }, MasterToken: "master", Bearers: always, Secrets: nodeauth.Shared("cluster"),
		Quiet: time.Nanosecond, Fail: func(err error) { t.Error(err) }, Logger: hclog.NewNullLogger(),
	})
	w := ask(storage, http.MethodGet, wire.PathChainBlocks+"?from=0&to=1", "cluster", "", wire.Order{})
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "damaged") ||
		w.Header().Get("Content-Type") != wire.TypeProblem || w.Header().Get("Retry-After") != "" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}
