package workerapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi/workerapi"
	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/certs/certstest"
	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/minernode"
)

// TestMetricsOfAWorker reads the metrics of a miner, with and without certificates.
func TestMetricsOfAWorker(t *testing.T) {
	fence, err := worker.OpenFence(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	node := minernode.New(minernode.Config{Threads: 1, Logger: hclog.NewNullLogger()})
	defer node.Close()
	secured := certstest.Open(t, certstest.NewAuthority(t), certs.Miner, "m1")
	for _, store := range []*certs.Store{nil, secured} {
		h := workerapi.NewMiner(workerapi.MinerConfig{
			Node: node, Fence: fence, ID: func() string { return "" }, Ready: func() error { return nil },
			MasterToken: "master", Certificates: store, Fail: func(err error) { t.Error(err) },
			Logger: hclog.NewNullLogger(),
		})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		text := w.Body.String()
		if w.Code != http.StatusOK || !strings.Contains(text, "\ngo_goroutines ") {
			t.Errorf("%d %s", w.Code, text)
		}
		for _, name := range []string{"expires_timestamp_seconds 1", "files_wrong 0", "graces 0"} {
			if strings.Contains(text, "\nchainstore_certificate_"+name) != (store != nil) {
				t.Errorf("with certificates %v: %s", store != nil, text)
			}
		}
	}
}

// TestMetricsAndOtherSites checks that a page gets the metrics of a worker under its URL, its addresses and loopback
// names only: not by DNS rebinding, and not with a token that it makes up. Programs get them under any name.
func TestMetricsAndOtherSites(t *testing.T) {
	fence, err := worker.OpenFence(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	node := minernode.New(minernode.Config{Threads: 1, Logger: hclog.NewNullLogger()})
	defer node.Close()
	noID, ready := func() string { return "" }, func() error { return nil }
	const url = "http://worker.example:8001"
	for name, h := range map[string]http.Handler{
		"miner": workerapi.NewMiner(workerapi.MinerConfig{
			Node: node, Fence: fence, ID: noID, Ready: ready, URL: url, MasterToken: "master",
			Fail: func(err error) { t.Error(err) }, Logger: hclog.NewNullLogger(),
		}),
		"storage node": workerapi.NewStorage(workerapi.StorageConfig{
			Fence: fence, ID: noID, Ready: ready, URL: url, MasterToken: "master",
			Fail: func(err error) { t.Error(err) }, Logger: hclog.NewNullLogger(),
		}),
	} {
		for _, row := range []struct {
			host   string
			header map[string]string
			want   int
		}{
			{"evil.example:8001", map[string]string{"User-Agent": "Prometheus/3.5.0"}, 200},
			{"evil.example:8001", map[string]string{"User-Agent": "Mozilla/5.0 (X11; Linux x86_64)"}, 403},
			{"evil.example:8001", map[string]string{"Sec-Fetch-Site": "same-origin"}, 403},
			{"evil.example:8001", map[string]string{"Origin": "http://evil.example:8001"}, 403},
			{"evil.example:8001", map[string]string{"Sec-Fetch-Site": "same-origin", "Authorization": "Bearer x"}, 403},
			{"worker.example:8001", map[string]string{"Sec-Fetch-Site": "none"}, 200},
			{"192.0.2.1:8001", map[string]string{"Sec-Fetch-Site": "none"}, 200},
			{"localhost:8001", map[string]string{"Sec-Fetch-Site": "none"}, 200},
		} {
			r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
			r.Host = row.host
			for key, value := range row.header {
				r.Header.Set(key, value)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != row.want || row.want == 403 && !strings.Contains(w.Body.String(), "evil.example") {
				t.Errorf("%s: %s with %v: %d %s", name, row.host, row.header, w.Code, w.Body)
			}
		}
	}
}
