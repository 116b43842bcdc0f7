package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/httpapi/wire"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/worker"
)

// A storage node that a leader knows from before its start takes no block until it is registered: its height must not move between
// what it says in the registration and the judgement on that.
func TestNoBlockBeforeRegistration(t *testing.T) {
	dir := t.TempDir()
	node, err := storagenode.Open(storagenode.Config{Dir: dir, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	}()
	fence, err := worker.OpenFence(dir)
	if err != nil {
		t.Fatal(err)
	}
	registered := false
	h := httpapi.NewStorage(httpapi.StorageConfig{
		Node: node, Fence: fence, ID: func() string { return "s-1" }, Registered: func() bool { return registered },
		MasterToken: "master", Fail: func(err error) { t.Error(err) }, Logger: hclog.NewNullLogger(),
	})
	put := func() (int, string) {
		r := httptest.NewRequest(http.MethodPut, wire.PathBlocks+"0", strings.NewReader("no block"))
		r.Header.Set("Authorization", "Bearer master")
		r.Header.Set(wire.HeaderFence, wire.Order{Epoch: 1, Term: 1}.String())
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	if status, body := put(); status != http.StatusServiceUnavailable || !strings.Contains(body, "not registered yet") {
		t.Errorf("%d %s", status, body)
	}
	registered = true
	if status, body := put(); status != http.StatusUnprocessableEntity {
		t.Errorf("registered: %d %s", status, body)
	}
}
