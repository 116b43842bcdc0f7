package noderpc

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

func BenchmarkSubmit(b *testing.B) {
	for name, size := range map[string]int{"1KiB": 1 << 10, "100KiB": 100 << 10, "512KiB": 512 << 10} {
		b.Run(name, func(b *testing.B) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				w.Write(make([]byte, 256))
			}))
			defer server.Close()
			m := NewMasters(NewTransport(), clusterToken)
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

func BenchmarkReadRecords(b *testing.B) {
	const places = 64
	p := wire.ProvenRecord{Record: make([]byte, 290), Path: make([]chain.Hash, 14)}
	var body []byte
	for range places {
		body = p.AppendTo(body)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write(body)
	}))
	defer server.Close()
	c, w := NewWorkers(NewTransport()), wire.Worker{URL: server.URL, Token: masterToken}
	defer c.CloseIdle()
	ask := make([]wire.Place, places)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.ReadRecords(b.Context(), w, ask, 0); err != nil {
			b.Fatal(err)
		}
	}
}
