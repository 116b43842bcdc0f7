package noderpc

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
)

// TestLevelOfARegistrationIsProven checks that the group's level is taken only from an answer that the master proves.
func TestLevelOfARegistrationIsProven(t *testing.T) {
	registered := wire.Registered{ID: "w-1", Level: wire.LevelProofs}
	older, _ := node(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(wire.HeaderAuth, "forged")
		reply(w, http.StatusOK, registered)
	})
	e := httpapi.New(hclog.NewNullLogger())
	e.Authenticate(&httpapi.Nodes{Accept: map[string]nodeauth.Accepted{
		nodeauth.Masters: {Secret: testSecrets.Masters},
	}})
	e.POST(wire.PathWorkers, func(c *gin.Context) { c.JSON(http.StatusOK, registered) })
	proves := httptest.NewServer(e)
	defer proves.Close()
	for url, level := range map[string]uint64{older.URL: 0, proves.URL: wire.LevelProofs} {
		got, err := newMasters(t).Register(t.Context(), url, wire.Registration{}, false)
		if err != nil || got.ID != registered.ID || got.Level != level {
			t.Errorf("%+v, %v, want level %d", got, err, level)
		}
	}
}

// TestOlderWorkersGetNoTokenOnceAllProve checks that a worker that is older by the table gets its master token only
// while the caller permits that.
func TestOlderWorkersGetNoTokenOnceAllProve(t *testing.T) {
	var tokens record[string]
	server, _ := node(t, func(w http.ResponseWriter, r *http.Request) {
		tokens.add(r.Header.Get("Authorization"))
		reply(w, http.StatusOK, wire.MinerStatus{})
	})
	transport := NewTransport()
	transport.Identify(nodeauth.NewProcess(), func() string { return "test" }, nil)
	defer transport.CloseIdle()
	workers, may := NewWorkers(transport, testSecrets), true
	order := wire.Order{Epoch: 1, Term: 1}
	if _, err := workers.MinerStatus(t.Context(), olderWorker(server.URL), order); err == nil {
		t.Error("a caller that never sends tokens got an answer")
	}
	workers.ToOlder(func() bool { return may })
	if _, err := workers.MinerStatus(t.Context(), olderWorker(server.URL), order); err != nil {
		t.Error(err)
	}
	may = false
	if _, err := workers.MinerStatus(t.Context(), olderWorker(server.URL), order); err == nil {
		t.Error("an older worker answers a group of proofs")
	}
	if got := tokens.all(); len(got) != 1 || got[0] != "Bearer "+masterToken {
		t.Errorf("the worker got %q", got)
	}
}
