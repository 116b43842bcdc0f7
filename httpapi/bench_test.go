package httpapi_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/httpapi/wire"
)

// BenchmarkHistoryPage reads pages of a key's history over HTTP, from a cluster with a million records over a thousand keys, each page of
// another key and from another master.
func BenchmarkHistoryPage(b *testing.B) {
	const records, keys, batch = 1_000_000, 1000, 10_000
	c := startCluster(b)
	token := c.file.Tokens.Project
	var body strings.Builder
	var middle uint64
	for at := 0; at < records; at += batch {
		body.Reset()
		for i := range batch {
			fmt.Fprintf(&body, `{"text":"record %d","key":"key-%d"}`+"\n", at+i, (at+i)%keys)
		}
		wait := ""
		if at+batch == records {
			wait = "?wait=stored&timeout=60s"
		}
		_, answer := c.do(at/batch, request{name: "batch", method: "POST", path: "/v1/records:batch" + wait, token: token, body: body.String(), status: 201})
		var positions wire.Positions
		if err := json.Unmarshal(answer, &positions); err != nil {
			b.Fatal(err)
		}
		if at == records/2 {
			middle = positions.Records[0].Index
		}
	}
	c.list(token, "/v1/records?key=key-1&limit=1000") // waits until the indexes are there
	for _, limit := range []int{wire.DefaultPage, 500} {
		b.Run(fmt.Sprint("page of ", limit), func(b *testing.B) {
			c.t = b
			slowest, key := time.Duration(0), 0
			for i := 0; b.Loop(); i++ {
				key = (key + 7) % keys
				began := time.Now()
				_, answer := c.do(i, request{
					name: "page", method: "GET", path: fmt.Sprintf("/v1/records?key=key-%d&from=%d&limit=%d", key, middle, limit), token: token, status: 200,
				})
				slowest = max(slowest, time.Since(began))
				var page wire.Records
				if err := json.Unmarshal(answer, &page); err != nil || len(page.Records) != limit {
					b.Fatalf("%d records, %v", len(page.Records), err)
				}
			}
			b.ReportMetric(float64(slowest.Microseconds())/1000, "slowest-ms")
		})
	}
}
