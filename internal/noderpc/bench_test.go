package noderpc

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
)

func BenchmarkSubmit(b *testing.B) {
	for name, size := range map[string]int{"1KiB": 1 << 10, "100KiB": 100 << 10, "512KiB": 512 << 10} {
		b.Run(name, func(b *testing.B) {
			server := signing(b, wire.PathSubmissions, make([]byte, 256))
			m := NewMasters(NewTransport(), testSecrets.For(nodeauth.Masters))
			defer m.CloseIdle()
			body := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Submit(b.Context(), server.URL, body, false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// signing starts a node that answers one route.
func signing(b *testing.B, path string, answer []byte) *httptest.Server {
	e := httpapi.New(hclog.NewNullLogger())
	e.Authenticate(&httpapi.Nodes{Accept: map[string]nodeauth.Accepted{
		nodeauth.Masters: {Secret: testSecrets.Masters},
		nodeauth.Orders:  {Secret: testSecrets.Storage, Bound: masterToken},
	}})
	e.POST(path, func(c *gin.Context) {
		if _, err := httpapi.ReadBody(c.Request, 1<<20); err != nil {
			b.Error(err)
		}
		c.Data(http.StatusOK, wire.TypeOctets, answer)
	})
	server := httptest.NewServer(e)
	b.Cleanup(server.Close)
	return server
}

func BenchmarkReadRecords(b *testing.B) {
	const places = 64
	p := wire.ProvenRecord{Record: make([]byte, 290), Path: make([]chain.Hash, 14)}
	var body []byte
	for range places {
		body = p.AppendTo(body)
	}
	server := signing(b, "/worker/v1/records\\:read", body)
	c, w := NewWorkers(NewTransport(), testSecrets), wire.Worker{URL: server.URL, Token: masterToken}
	defer c.CloseIdle()
	ask := make([]wire.Place, places)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.ReadRecords(b.Context(), w, ask, 0); err != nil {
			b.Fatal(err)
		}
	}
}
