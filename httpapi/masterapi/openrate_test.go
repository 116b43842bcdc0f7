package masterapi_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi/masterapi"
	"github.com/chainstore/chainstore/wire"
)

// TestOpenRate checks which requests without a token are limited per address. There is no node, so those that pass the
// limit end in a 500.
func TestOpenRate(t *testing.T) {
	for path, limited := range map[string]bool{
		"/checkpoint": true, "/tile/0/000": true, "/tile/entries/000": true, "/v1/consistency?from=0&to=1": true,
		"/v1/log": true, "/v1/blocks/0": true, "/admin/project": true, "/metrics": false, "/livez": false,
		"/console/": false, "/openapi.yaml": false, "/v1/records": false, "/v1/blocks": false,
	} {
		h := masterapi.New(masterapi.Config{
			Options: masterapi.Options{OriginalAPI: true, OpenRate: 1}, Refused: func() error { return nil },
			Logger: hclog.NewNullLogger(),
		})
		var refused *httptest.ResponseRecorder
		for range 20 {
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil)); w.Code == http.StatusTooManyRequests {
				refused = w
			}
		}
		if (refused != nil) != limited {
			t.Errorf("%s is limited: %v, want %v", path, refused != nil, limited)
		}
		if refused != nil && refused.Header().Get("Retry-After") == "" {
			t.Errorf("%s is refused without Retry-After", path)
		}
	}
}

// TestOpenRateOfForwardedRequests checks that requests that another master forwards do not share the limit of that
// master's address, and that a client without the cluster token cannot claim to be a master.
func TestOpenRateOfForwardedRequests(t *testing.T) {
	for peer, limited := range map[string]bool{"cluster": false, "guessed": true, "": true} {
		h := masterapi.New(masterapi.Config{
			Options: masterapi.Options{OpenRegistration: true, OpenRate: 1}, ClusterToken: "cluster",
			Refused: func() error { return nil }, Logger: hclog.NewNullLogger(),
		})
		refused := false
		for range 20 { // there is no node, so those that pass the limit end in an error
			r, w := httptest.NewRequest(http.MethodPost, "/v1/projects", nil), httptest.NewRecorder()
			r.Header.Set(wire.HeaderHops, "1")
			r.Header.Set(wire.HeaderPeer, peer)
			h.ServeHTTP(w, r)
			refused = refused || w.Code == http.StatusTooManyRequests
		}
		if refused != limited {
			t.Errorf("with %q they are limited: %v, want %v", peer, refused, limited)
		}
	}
}
