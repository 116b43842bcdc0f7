package roles

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/wire"
)

var errSync = &os.PathError{Op: "sync", Path: "file", Err: syscall.EIO}

// noteIn writes the mark of a failed sync into a folder.
func noteIn(t *testing.T, dir string) {
	t.Helper()
	mark, err := durable.OpenSyncMark(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mark.Note(errSync); err != nil {
		t.Fatal(err)
	}
	if err := mark.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestStartAfterAFailedSync checks that no role starts on a folder of which a sync failed, unless that is overridden.
func TestStartAfterAFailedSync(t *testing.T) {
	for name, open := range map[string]func(NodeConfig) (interface{ Close() error }, error){
		"master": func(cfg NodeConfig) (interface{ Close() error }, error) {
			c := DefaultMaster()
			c.NodeConfig, c.Raft, c.AdminToken = cfg, "127.0.0.1:0", "admin"
			return OpenMaster(c)
		},
		"storage": func(cfg NodeConfig) (interface{ Close() error }, error) {
			c := DefaultStorage()
			c.NodeConfig, c.Masters = cfg, []string{"http://127.0.0.1:1"}
			return OpenStorage(c)
		},
		"miner": func(cfg NodeConfig) (interface{ Close() error }, error) {
			c := DefaultMiner()
			c.NodeConfig, c.Masters = cfg, []string{"http://127.0.0.1:1"}
			return OpenMiner(c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := NodeConfig{Data: t.TempDir(), HTTP: "127.0.0.1:0", ClusterToken: "token",
				Logger: hclog.NewNullLogger()}
			noteIn(t, cfg.Data)
			for range 2 {
				if _, err := open(cfg); !errors.Is(err, durable.ErrSyncFailed) {
					t.Fatal(err)
				}
			}
			for _, cfg.AfterFailedSync = range []bool{true, false} { // once is enough
				role, err := open(cfg)
				if err != nil {
					t.Fatal(err)
				}
				if err := role.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestReportOfAFailedSync checks that a failed sync is reported until a master accepts it.
func TestReportOfAFailedSync(t *testing.T) {
	var asked atomic.Int64
	status := func(first, then int) string {
		asked.Store(0)
		server := httptest.NewServer(olderFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := then
			if asked.Add(1) == 1 {
				answer = first
			}
			if r.URL.Path != wire.PathFailedSyncs {
				answer = http.StatusNotFound
			}
			if answer != http.StatusNoContent {
				w.Header().Set("Content-Type", wire.TypeProblem)
			}
			w.WriteHeader(answer)
			if answer == http.StatusBadRequest {
				_, _ = w.Write([]byte(`{"type":"` + wire.ProblemBase + wire.ErrBadRequest.Name + `","status":400}`))
			}
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	transport := toOlder()
	defer transport.CloseIdle()
	mark, err := durable.OpenSyncMark(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	masters := noderpc.NewMasters(transport, nodeauth.Shared("token").For(nodeauth.Masters))
	f := failedSyncs{mark: mark, masters: masters, log: hclog.NewNullLogger()}
	token := ""
	report := func(id, url string) error {
		return f.report(func() (wire.FailedSync, []string) {
			return wire.FailedSync{ID: id, Group: "g", AccessToken: token}, []string{url}
		})
	}
	url := status(http.StatusNoContent, http.StatusNoContent)
	if err := report("s1", url); err != nil || asked.Load() != 0 {
		t.Errorf("no sync failed: %v, %d calls", err, asked.Load())
	}
	if err := f.note(errSync); !errors.Is(err, errSync) {
		t.Fatal(err)
	}
	if err := report("", url); err != nil || asked.Load() != 0 {
		t.Errorf("no master knows the node: %v, %d calls", err, asked.Load())
	}
	if err := report("s1", url); err != nil || asked.Load() != 1 {
		t.Errorf("%v, %d calls", err, asked.Load())
	}
	if err := report("s1", status(http.StatusServiceUnavailable, http.StatusNoContent)); err != nil ||
		asked.Load() != 2 {
		t.Errorf("a master that is busy: %v, %d calls", err, asked.Load())
	}
	url = status(http.StatusBadRequest, http.StatusNoContent)
	if err := report("s1", url); !errors.Is(err, wire.ErrBadRequest) || asked.Load() != 1 {
		t.Errorf("a group that does not know such reports: %v, %d calls", err, asked.Load())
	}
	token = "access token"
	if err := report("s1", status(http.StatusBadRequest, http.StatusNoContent)); err != nil || asked.Load() != 2 {
		t.Errorf("a master that does not know the access token: %v, %d calls", err, asked.Load())
	}
	if err := mark.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRecoverAfterAFailedSync checks that a recovery does not use a folder of which a sync failed, unless that is
// overridden.
func TestRecoverAfterAFailedSync(t *testing.T) {
	d := newChainNode(t, "d1")
	dir, _ := newSurvivor(t, d).folder()
	noteIn(t, dir)
	cfg := RecoverConfig{Data: dir, Raft: "127.0.0.1:9", Secret: []string{"token"}, OlderNodes: true,
		Confirm: func(Recovery) error { return nil }}
	if _, err := RecoverMaster(t.Context(), cfg); !errors.Is(err, durable.ErrSyncFailed) || len(d.raised) > 0 {
		t.Errorf("%v, raised %v", err, d.raised)
	}
	cfg.AfterFailedSync = true
	if _, err := RecoverMaster(t.Context(), cfg); err != nil {
		t.Error(err)
	}
}

// TestNoteFailedSync checks that a folder whose opening has failed because of a sync is not opened again.
func TestNoteFailedSync(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{fmt.Errorf("open: %w", &os.PathError{Op: "sync", Path: "log", Err: syscall.EIO}), true},
		{fmt.Errorf("open: %w", &os.PathError{Op: "read", Path: "log", Err: syscall.EIO}), false},
	} {
		dir := t.TempDir()
		if err := noteFailedSync(dir, c.err); !errors.Is(err, c.err) {
			t.Errorf("%v: %v", c.err, err)
		}
		mark, err := durable.OpenSyncMark(dir, false)
		if errors.Is(err, durable.ErrSyncFailed) != c.want {
			t.Errorf("%v: %v", c.err, err)
		}
		if err := mark.Close(); err != nil {
			t.Error(err)
		}
	}
}
