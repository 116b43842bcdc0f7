package workerapi_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// TestNewerOrderEndsASearch checks that a miner ends the search of a deposed leader before an order of a newer one
// passes. The search is part of the order: none can begin between the check of the fence and its first try.
func TestNewerOrderEndsASearch(t *testing.T) {
	_, miner, _, mining := refusedWorkers(t, func() error { return nil })
	order, err := json.Marshal(wire.MineOrder{Block: 1, Difficulty: chain.MaxDifficulty})
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan *httptest.ResponseRecorder, 1)
	go func() { answers <- ask(miner, http.MethodPost, wire.PathMine, "master", string(order), someOrder) }()
	for !mining.Mining() {
		runtime.Gosched()
	}
	newer := wire.Order{Epoch: 1, Term: 2}
	if w := ask(miner, http.MethodGet, wire.PathWorkerStatus, "master", "", newer); w.Code != http.StatusOK {
		t.Fatalf("the newer leader: %d %s", w.Code, w.Body)
	}
	if mining.Mining() {
		t.Error("the older leader's search goes on")
		_ = mining.Close()
	}
	if w := <-answers; w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), wire.ErrFenced.Name) {
		t.Errorf("the older leader: %d %s", w.Code, w.Body)
	}
}

// leaving is a request body. The caller goes away when it has been read.
type leaving struct {
	*strings.Reader
	leave func()
}

func (l leaving) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if l.Len() == 0 {
		l.leave()
	}
	return n, err
}

// TestOrderOfACallerThatLeft checks that an order has no effect if its caller is gone when it would begin.
func TestOrderOfACallerThatLeft(t *testing.T) {
	storage, miner, node, mining := refusedWorkers(t, func() error { return nil })
	block := string(firstBlock(t))
	send := func(h http.Handler, method, path, body string, leaves bool) *httptest.ResponseRecorder {
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		if !leaves {
			leave = func() {}
		}
		r := httptest.NewRequestWithContext(ctx, method, path, leaving{strings.NewReader(body), leave})
		r.Header.Set("Authorization", "Bearer master")
		r.Header.Set(wire.HeaderFence, someOrder.String())
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	for _, c := range []struct {
		handler            http.Handler
		method, path, body string
	}{
		{storage, http.MethodPut, wire.PathInbox + "0", block},
		{storage, http.MethodPut, wire.PathBlocks + "0", block},
		{storage, http.MethodPost, wire.PathCheck, `{"check":"1","height":0}`},
		{storage, http.MethodPost, wire.PathSend, `{"ticket":"t","attempt":1,"to":"http://x","pieces":[]}`},
		{storage, http.MethodPost, wire.PathReceive, `{"ticket":"t","keep":0,"pieces":[]}`},
		{miner, http.MethodPost, wire.PathMine, `{"block":1,"difficulty":1}`},
	} {
		if w := send(c.handler, c.method, c.path, c.body, true); w.Code != http.StatusServiceUnavailable ||
			!strings.Contains(w.Body.String(), context.Canceled.Error()) {
			t.Errorf("%s: %d %s", c.path, w.Code, w.Body)
		}
	}
	if at := node.Status(); at.Height != 0 || at.Inbox != (chain.Range{}) || mining.Mining() {
		t.Errorf("the node has %+v, mining %v", at, mining.Mining())
	}
	for _, path := range []string{wire.PathInbox, wire.PathBlocks} {
		if w := send(storage, http.MethodPut, path+"0", block, false); w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}
