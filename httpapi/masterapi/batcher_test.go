package masterapi_test

import (
	"bytes"
	"testing"

	"github.com/chainstore/chainstore/client"
)

// BenchmarkBatcher appends records of 256 bytes through a Batcher, added without a wait: through an append stream, as
// by default, and in batches, two at a time. docs/performance.md has the figures.
func BenchmarkBatcher(b *testing.B) {
	c := startCluster(b)
	cl, err := client.New(client.Config{Masters: c.file.Masters, Token: c.file.Tokens.Project})
	if err != nil {
		b.Fatal(err)
	}
	defer cl.CloseIdle()
	payload := bytes.Repeat([]byte("x"), 256)
	for _, row := range []struct {
		name     string
		inFlight int
	}{{"stream", 1}, {"batches", 2}} {
		b.Run(row.name, func(b *testing.B) {
			batcher := cl.NewBatcher(b.Context(), client.BatcherConfig{InFlight: row.inFlight})
			for b.Loop() {
				if _, err := batcher.Add(b.Context(), client.Entry{Payload: payload}); err != nil {
					b.Fatal(err)
				}
			}
			if err := batcher.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
