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
	"github.com/chainstore/chainstore/wire/trail"
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

// exampleAct returns a record of the audit trail.
func exampleAct() trail.Record {
	return trail.Record{
		Act: trail.ProjectChange, Actor: trail.Actor{Kind: trail.ByNamed, ID: 3, Role: trail.RoleAdmin, Name: "anna"},
		Source: trail.Source{Address: "192.0.2.7", Member: "m1"}, Target: trail.Target{Kind: trail.OfProject, ID: "7"},
		Before: []trail.Value{{Name: "name", Value: "orders"}, {Name: "public", Value: "false"}},
		After:  []trail.Value{{Name: "name", Value: "orders"}, {Name: "public", Value: "true"}},
	}
}

// act appends a record to the audit trail, and makes its project first.
func (f *fakeCluster) act(r trail.Record) {
	f.Change(func() {
		p := f.Project(trail.Project)
		if p == nil {
			p = f.AddProject(trail.Project, false, "")
		}
		f.Append(p, r.Target.Key(), trail.Type, r.AppendTo(nil))
		f.Cut()
	})
}
