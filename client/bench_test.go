package client

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

func BenchmarkAppend(b *testing.B) {
	answer := []byte(`{"block":1,"offset":2,"index":3,"time":4,"leaf":"` + chain.Hash{}.String() +
		`","state":"committed"}`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write(answer)
	}))
	defer server.Close()
	c, err := New(Config{Masters: []string{server.URL}, Token: testToken})
	if err != nil {
		b.Fatal(err)
	}
	defer c.CloseIdle()
	payload := make([]byte, 256)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Append(b.Context(), Entry{Payload: payload}); err != nil {
			b.Fatal(err)
		}
	}
}
