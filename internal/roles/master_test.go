package roles

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/wire"
)

// What the leader refuses of an announcement or a registration this master refuses for the same reason; what it sends on says so.
func TestLeaderRefuses(t *testing.T) {
	problem, hops := "", ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hops = r.Header.Get(wire.HeaderHops)
		w.Header().Set("Content-Type", wire.TypeProblem)
		w.WriteHeader(http.StatusConflict)
		answer := wire.OtherStart{Problem: wire.Problem{Type: wire.ProblemBase + problem, Title: "no"}, Start: "b2"}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	kept := noderpc.NewMasters(noderpc.NewTransport(), "token")
	defer kept.CloseIdle()
	m := masters{Masters: kept, fresh: kept.Fresh(), forwarding: kept.Forwarding()}
	for name, want := range map[string]error{
		wire.ErrRemoved.Name: wire.ErrRemoved, wire.ErrOtherGroup.Name: wire.ErrOtherGroup,
		wire.ErrTooFewMasters.Name: wire.ErrTooFewMasters, wire.ErrBadRequest.Name: wire.ErrBadRequest,
		wire.ErrNoLeader.Name: wire.ErrNotLeader,
	} {
		problem = name
		if _, err := m.Announce(t.Context(), server.URL, wire.Member{}, true); !errors.Is(err, want) || hops != "1" {
			t.Errorf("%s: %v with %q hops, want %v", name, err, hops, want)
		}
		if _, err := m.Announce(t.Context(), server.URL, wire.Member{}, false); !errors.Is(err, want) || hops != "" {
			t.Errorf("%s, for itself: %v with %q hops, want %v", name, err, hops, want)
		}
	}
	if _, err := m.Register(t.Context(), server.URL, wire.Registration{}); err == nil || hops != "1" {
		t.Errorf("a registration: %v with %q hops", err, hops)
	}
	for name, want := range map[string]error{
		wire.ErrRemoved.Name: wire.ErrRemoved, wire.ErrBadRequest.Name: wire.ErrBadRequest,
		wire.ErrOtherStart.Name: wire.ErrOtherStart,
	} {
		problem = name
		_, err := m.Register(t.Context(), server.URL, wire.Registration{ID: "w1"})
		var other *wire.OtherStartError
		if !errors.Is(err, want) || errors.As(err, &other) && other.Start != "b2" || hops != "1" {
			t.Errorf("a registration, %s: %v with %q hops, want %v", name, err, hops, want)
		}
	}
}

// A master with witnesses that it cannot ask does not start, and leaves no folder.
func TestMasterRefusesWitnesses(t *testing.T) {
	for _, c := range []struct {
		witnesses []string
		quorum    uint8
		words     string
	}{
		{[]string{"witness.example/w1 https://witness.example"}, 0, "NAME+ID+KEY"},
		{nil, 1, "no checkpoint would ever be shown"},
	} {
		cfg := DefaultMaster()
		cfg.Data, cfg.HTTP, cfg.Raft = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", "127.0.0.1:0"
		cfg.ClusterToken, cfg.AdminToken = "cluster", "admin"
		cfg.Witnesses, cfg.Logger = c.witnesses, hclog.NewNullLogger()
		cfg.Settings.WitnessQuorum = c.quorum
		if _, err := OpenMaster(cfg); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%v, %d: %v, want the words %q", c.witnesses, c.quorum, err, c.words)
		}
		if _, err := os.Stat(cfg.Data); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the folder is there: %v", err)
		}
	}
}
