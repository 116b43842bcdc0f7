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
