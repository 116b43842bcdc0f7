package console

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi/console"
	"github.com/chainstore/chainstore/internal/fakecluster"
	"github.com/chainstore/chainstore/wire"
)

// fakeCluster is an in-memory cluster with three masters that serve the console, and three storage nodes.
type fakeCluster struct{ *fakecluster.Cluster }

func startFake(t *testing.T) *fakeCluster {
	t.Helper()
	f := &fakeCluster{fakecluster.New()}
	f.Integrity = wire.Integrity{
		Lost: []chain.Range{}, Confirmed: []chain.Range{}, Events: []wire.Event{},
		Totals: wire.Totals{
			Checks: 61, CheckedBytes: 319_815_680, BadBlocks: 1, Repairs: 1, RepairedBlocks: 1, RepairedBytes: 4211,
		},
		Authoritative: true, Notices: []string{}, NoticesCoded: []wire.Message{},
	}
	for i := range 3 {
		f.Integrity.Nodes = append(f.Integrity.Nodes, wire.NodeIntegrity{
			ID: fmt.Sprintf("s-%d", i), URL: fmt.Sprintf("http://127.0.0.1:%d", 8082+i), State: "valid", Live: true,
			Bad: []chain.Range{}, Checked: uint64(time.Now().UnixMilli()) - 8000,
		})
	}
	var urls []string
	known := func() []string { return urls }
	page := console.New(known, "")
	for range 3 {
		urls = append(urls, f.Serve(func(api http.Handler) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("GET /{$}", page)
			mux.Handle("GET /console/", page)
			mux.Handle("/v1/", api)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if console.AllowOrigin(known, w.Header(), r) {
					w.WriteHeader(http.StatusNoContent)
					return
				}
				mux.ServeHTTP(w, r)
			})
		}))
	}
	t.Cleanup(func() {
		for _, failure := range f.Close() {
			t.Error(failure)
		}
	})
	return f
}

// damaged returns the cause of a repair of damaged blocks.
func damaged(bad ...chain.Range) wire.Message {
	return wire.Message{Code: wire.CodeDamaged, Args: wire.Args{"blocks": chain.CountBlocks(bad), "ranges": bad}}
}

// tokensOf returns the tokens of a project by label.
func (f *fakeCluster) tokensOf(name string) map[string]string {
	tokens := map[string]string{}
	f.Change(func() {
		for _, t := range f.Project(name).Tokens {
			tokens[t.Label] = t.Token
		}
	})
	return tokens
}
