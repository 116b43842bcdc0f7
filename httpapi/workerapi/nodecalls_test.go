package workerapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/wire"
)

// nodeCall is what a route between the nodes checks of its caller. docs/api.md has the table of all these routes.
type nodeCall int

const (
	checksNothing nodeCall = iota // it changes nothing, and the caller proves what it reads
	checksOrder                   // group, epoch and term of an order
	checksTicket                  // the ticket of a repair, which an order names
	checksBody                    // the group and epoch in the body
)

var nodeCalls = map[string]nodeCall{
	"GET /livez": checksNothing, "HEAD /livez": checksNothing,
	"GET /readyz": checksNothing, "HEAD /readyz": checksNothing,
	"GET /metrics": checksNothing, "HEAD /metrics": checksNothing,
	"GET " + wire.PathWorkerStatus:       checksOrder,
	"PUT " + wire.PathBlocks + ":block":  checksOrder,
	"PUT " + wire.PathInbox + ":block":   checksOrder,
	"POST " + wire.PathCheck:             checksOrder,
	"POST " + wire.PathReceive:           checksOrder,
	"POST " + wire.PathSend:              checksOrder,
	"POST " + wire.PathMine:              checksOrder,
	"POST " + wire.PathWorkerTLS:         checksOrder,
	"POST " + wire.PathWorkerProfile:     checksNothing,
	"POST " + wire.PathReadRecords:       checksNothing,
	"GET " + wire.PathHeaders:            checksNothing,
	"GET " + wire.PathLocate + ":index":  checksNothing,
	"POST " + wire.PathReadTiles:         checksNothing,
	"GET " + wire.PathEntries:            checksNothing,
	"POST " + wire.PathFindRecords:       checksNothing,
	"GET " + wire.PathFindHash + ":hash": checksNothing,
	"POST " + wire.PathSession:           checksNothing,
	"POST " + wire.PathTransfer:          checksTicket,
	"GET " + wire.PathChain:              checksNothing,
	"GET " + wire.PathChainBlocks:        checksNothing,
	"POST " + wire.PathChainEpoch:        checksBody,
}

// TestNodeCallsAreChecked checks that every route of the workers is in the table, and that orders of a leader of
// another group, of an older epoch and of an older term are refused without an effect.
func TestNodeCallsAreChecked(t *testing.T) {
	storage, miner, node, mining := refusedWorkers(t, func() error { return nil })
	highest := wire.Order{Epoch: 2, Term: 5}
	send := func(h http.Handler, method, path, token, body string, caller wire.Caller) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set(wire.HeaderFence, caller.Order.String())
		if caller.Group != "" {
			r.Header.Set(wire.HeaderCaller, caller.String())
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	seen := map[string]bool{}
	for name, h := range map[string]http.Handler{"storage": storage, "miner": miner} {
		for _, group := range []string{"g", ""} { // leaders of older versions do not name it
			w := send(h, "GET", wire.PathWorkerStatus, "master", "", wire.Caller{Group: group, Order: highest})
			if w.Code != http.StatusOK {
				t.Fatalf("%s, the newest leader: %d %s", name, w.Code, w.Body)
			}
		}
		for _, r := range h.(interface{ Routes() gin.RoutesInfo }).Routes() {
			route := r.Method + " " + strings.ReplaceAll(r.Path, `\:`, ":")
			seen[route] = true
			checks, ok := nodeCalls[route]
			path := strings.Replace(r.Path, ":block", "0", 1)
			switch {
			case !ok:
				t.Errorf("%s is not in the table: say what it checks of its caller", route)
			case checks == checksOrder:
				body := "{}"
				if r.Method == http.MethodPut {
					body = string(firstBlock(t))
				}
				for _, c := range []struct {
					caller  wire.Caller
					problem string
				}{
					{wire.Caller{Group: "other", Order: highest}, wire.ErrOtherGroup.Name},
					{wire.Caller{Group: "other", Order: wire.Order{Epoch: 3, Term: 1}}, wire.ErrOtherGroup.Name},
					{wire.Caller{Group: "g", Order: wire.Order{Epoch: 1, Term: 9}}, wire.ErrFenced.Name},
					{wire.Caller{Group: "g", Order: wire.Order{Epoch: 2, Term: 4}}, wire.ErrFenced.Name},
					{wire.Caller{Order: wire.Order{Epoch: 2, Term: 4}}, wire.ErrFenced.Name},
				} {
					w := send(h, r.Method, path, "master", body, c.caller)
					if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), wire.ProblemBase+c.problem) {
						t.Errorf("%s, %v: %d %s", route, c.caller, w.Code, w.Body)
					}
				}
			}
		}
		// No order of another group has moved the fence.
		w := send(h, "GET", wire.PathWorkerStatus, "master", "", wire.Caller{Group: "g", Order: highest})
		if w.Code != http.StatusOK {
			t.Errorf("%s, the newest leader again: %d %s", name, w.Code, w.Body)
		}
	}
	if w := send(storage, "POST", wire.PathTransfer, "t", "", wire.Caller{}); w.Code != http.StatusUnauthorized {
		t.Errorf("a transfer under no ticket: %d %s", w.Code, w.Body)
	}
	if len(seen) != len(nodeCalls) {
		t.Errorf("%d routes, and %d rows of the table", len(seen), len(nodeCalls))
	}
	if height := node.Status().Height; height != 0 || mining.Mining() {
		t.Errorf("an order had an effect: height %d, mining %v", height, mining.Mining())
	}
}
