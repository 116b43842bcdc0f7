package masterapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi/masterapi"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/wire"
)

// TestOpenRate checks which requests without a token are limited per address. There is no node, so those that pass the
// limit end in a 500.
func TestOpenRate(t *testing.T) {
	for route, limited := range map[string]bool{
		"GET /checkpoint": true, "GET /tile/0/000": true, "GET /tile/entries/000": true,
		"GET /v1/consistency?from=0&to=1": true, "GET /v1/log": true, "GET /v1/blocks/0": true,
		"GET /admin/project": true, "POST /saveInfo": true, "GET /findBlockInfo?blockIndex=0&blockOffset=0": true,
		"GET /metrics": false, "GET /livez": false, "GET /console/": false, "GET /openapi.yaml": false,
		"GET /v1/records": false, "GET /v1/blocks": false, "POST /data": false,
	} {
		method, path, _ := strings.Cut(route, " ")
		h := masterapi.New(masterapi.Config{
			Options: masterapi.Options{OriginalAPI: true, OpenRate: 1}, Refused: func() error { return nil },
			Logger: hclog.NewNullLogger(),
		})
		var refused *httptest.ResponseRecorder
		for range 20 {
			r, w := httptest.NewRequest(method, path, strings.NewReader(`{"info":"x"}`)), httptest.NewRecorder()
			if h.ServeHTTP(w, r); w.Code == http.StatusTooManyRequests {
				refused = w
			}
		}
		if (refused != nil) != limited {
			t.Errorf("%s is limited: %v, want %v", route, refused != nil, limited)
		}
		if refused != nil && refused.Header().Get("Retry-After") == "" {
			t.Errorf("%s is refused without Retry-After", route)
		}
	}
}

// TestOpenRateOfForwardedRequests checks that requests that another master forwards do not share the limit of that
// master's address, and that a client without the cluster token cannot claim to be a master.
func TestOpenRateOfForwardedRequests(t *testing.T) {
	for secret, limited := range map[string]bool{"cluster": false, "": true} {
		h := masterapi.New(masterapi.Config{
			Options: masterapi.Options{OpenRegistration: true, OpenRate: 1},
			Secrets: nodeauth.Shared("cluster"),
			Refused: func() error { return nil }, Logger: hclog.NewNullLogger(),
		})
		server := httptest.NewServer(h)
		defer server.Close()
		transport := noderpc.NewTransport()
		defer transport.CloseIdle()
		send := exchange.Send(transport.RoundTrip)
		if secret != "" {
			send = transport.As(nodeauth.Shared(secret).For(nodeauth.Masters))
		}
		refused := false
		for range 20 { // there is no node, so those that pass the limit end in an error
			answer, err := exchange.Do(t.Context(), send, &exchange.Request{
				Method: http.MethodPost, Base: server.URL, Path: "/v1/projects", Limit: exchange.MaxSmall,
				Header: http.Header{wire.HeaderHops: {"1"}},
			})
			refused = refused || err == nil && answer.Status == http.StatusTooManyRequests
		}
		if refused != limited {
			t.Errorf("with the secret %q they are limited: %v, want %v", secret, refused, limited)
		}
	}
}
