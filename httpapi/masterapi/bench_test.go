package masterapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/tessera/api/layout"

	"github.com/chainstore/chainstore/wire"
)

// BenchmarkHistoryPage reads pages of a key's history over HTTP from a cluster with a million records over a thousand
// keys. Each page is of a different key and from a different master.
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
		_, answer := c.do(at/batch, request{name: "batch", method: "POST", path: "/v1/records:batch" + wait,
			token: token, body: body.String(), status: 201})
		var positions wire.Positions
		if err := json.Unmarshal(answer, &positions); err != nil {
			b.Fatal(err)
		}
		if at == records/2 {
			middle = positions.Records[0].Index
		}
	}
	c.list(token, "/v1/records?key=key-1&limit=1000") // waits until the indexes are complete
	for _, limit := range []int{wire.DefaultPage, 500} {
		b.Run(fmt.Sprint("page of ", limit), func(b *testing.B) {
			c.t = b
			slowest, key := time.Duration(0), 0
			for i := 0; b.Loop(); i++ {
				key = (key + 7) % keys
				began := time.Now()
				_, answer := c.do(i, request{
					name: "page", method: "GET", path: fmt.Sprintf("/v1/records?key=key-%d&from=%d&limit=%d", key,
						middle, limit), token: token, status: 200,
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

// BenchmarkTiles reads all full tiles of level 0 and all full bundles of a tree of 200,000 records from a master: cold,
// when the master has to read each from a storage node and verify it, and cached. With large payloads a bundle is also
// work for the storage node's disk.
func BenchmarkTiles(b *testing.B) {
	const batch = 10_000
	for _, payload := range []int{16, 16 << 10} {
		records := 200_000
		if payload > 1<<10 {
			records = 4000
		}
		c := startCluster(b)
		text := strings.Repeat("x", payload)
		var last uint64
		for at := 0; at < records; {
			n := min(batch, 2<<20/payload, records-at)
			line := fmt.Sprintf(`{"text":%q}`+"\n", text)
			wait := ""
			if at+n == records {
				wait = "?wait=stored&timeout=60s"
			}
			_, answer := c.do(0, request{
				name: "batch", method: "POST", path: "/v1/records:batch" + wait, token: c.file.Tokens.Project,
				body: strings.Repeat(line, n), status: 201,
			})
			var positions wire.Positions
			if err := json.Unmarshal(answer, &positions); err != nil {
				b.Fatal(err)
			}
			at += n
			last = positions.Records[n-1].Index
		}
		plain := http.Client{Transport: &http.Transport{}}
		for master, kind := range []string{"0", "entries"} { // a different master for each, with an empty cache
			for _, pass := range []string{"cold", "kept"} {
				b.Run(fmt.Sprintf("%s/payload=%d/%s", kind, payload, pass), func(b *testing.B) {
					tiles, slowest := 0, time.Duration(0)
					began := time.Now()
					for index := uint64(0); (index+1)*wire.TileWidth <= last; index++ {
						one := time.Now()
						resp, err := plain.Get(c.file.Masters[master] + "/tile/" + kind + "/" + layout.NWithSuffix(0,
							index, 0))
						if err != nil {
							b.Fatal(err)
						}
						_, err = io.Copy(io.Discard, resp.Body)
						if err := errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusOK {
							b.Fatalf("tile %d: %s, %v", index, resp.Status, err)
						}
						tiles, slowest = tiles+1, max(slowest, time.Since(one))
					}
					took := time.Since(began)
					b.ReportMetric(0, "ns/op") // there is only one pass
					b.ReportMetric(float64(took.Microseconds())/float64(tiles), "us/tile")
					b.ReportMetric(float64(slowest.Microseconds()), "slowest-us")
					b.ReportMetric(float64(tiles*wire.TileWidth)/took.Seconds(), "leaves/s")
				})
			}
		}
	}
}
