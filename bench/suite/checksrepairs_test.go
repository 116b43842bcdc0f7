package suite

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/wire"
)

// small returns a chain of two blocks.
func small(t *testing.T) built {
	t.Helper()
	var told uint64
	c, err := build(t.Context(), filepath.Join(t.TempDir(), "storage"), 5<<20, func(done uint64) { told = done })
	if err != nil {
		t.Fatal(err)
	}
	if c.height != 2 || c.payloads() != 8<<20 || told != c.payloads() {
		t.Fatalf("%d blocks with %d bytes, told of %d", c.height, c.payloads(), told)
	}
	return c
}

func TestBuiltChainsAreValid(t *testing.T) {
	c := small(t)
	s, err := audit.Verify(t.Context(), c.dir, nil)
	if err != nil || s.Height != c.height || s.Hash != c.hash || s.Records != c.records() {
		t.Errorf("%+v, %v; made were %+v", s, err, c)
	}
	for threads := 1; threads <= 2; threads++ {
		if took, used, err := checkLap(t.Context(), c, threads, 1); err != nil || took <= 0 || len(used) != 2 {
			t.Errorf("%d threads: %v, %v, %v", threads, took, used, err)
		}
	}
	wrong := c
	wrong.height++
	if _, _, err := checkLap(t.Context(), wrong, 1, 1); err == nil || !strings.Contains(err.Error(), chain.WrongShort) {
		t.Errorf("a chain that lacks a block: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := build(cancelled, filepath.Join(t.TempDir(), "storage"), 1, func(uint64) {}); err == nil {
		t.Error("a chain is made after the context's end")
	}
}

func TestCopyKeepsEveryByte(t *testing.T) {
	c := built{dir: t.TempDir()}
	segments := filepath.Join(c.dir, "segments")
	if err := os.Mkdir(segments, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"a": "first", "b": "second"} {
		if err := os.WriteFile(filepath.Join(segments, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := &pair{bench: &bench{}, dir: t.TempDir()}
	if _, _, err := p.copyLap(t.Context(), c); err != nil {
		t.Error(err)
	}
	path := filepath.Join(t.TempDir(), "kept")
	if err := keep(path, strings.NewReader("body"), 4); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "body" {
		t.Errorf("%q, %v", got, err)
	}
	if err := keep(path, strings.NewReader("body"), 5); err == nil {
		t.Error("a body that is too short was taken")
	}
}

func TestRegistryRegisters(t *testing.T) {
	r, err := newRegistry(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(r.token)
	if err != nil {
		t.Fatal(err)
	}
	const url = "http://127.0.0.1:1"
	if _, registered := r.worker(url); registered {
		t.Error("it knows a node that never came")
	}
	masters := noderpc.NewMasters(noderpc.NewTransport(), nodeauth.Shared(string(token)).For(nodeauth.Storage))
	first, err := masters.Register(t.Context(), r.url,
		wire.Registration{Role: "storage", URL: url, MasterToken: "secret"}, false)
	if err != nil || first.ID == "" || first.Group == "" {
		t.Errorf("%+v, %v", first, err)
	}
	again, err := masters.Register(t.Context(), r.url, wire.Registration{
		Role: "storage", URL: url, MasterToken: "secret", ID: first.ID, AccessToken: first.AccessToken,
	}, false)
	if err != nil || again != first {
		t.Errorf("it was %+v, and is %+v, %v", first, again, err)
	}
	if w, registered := r.worker(url); !registered || w.URL != url || w.Token != "secret" {
		t.Errorf("%v, %v", w, registered)
	}
	// It takes no registration without a proof.
	answer, err := http.Post(r.url+wire.PathWorkers, "application/json", bytes.NewReader([]byte("{")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusUnauthorized {
		t.Error(answer.Status, err)
	}
	if err := answer.Body.Close(); err != nil {
		t.Error(err)
	}
	if err := r.close(); err != nil {
		t.Error(err)
	}
}

func TestLapsLeaveTheWarmUpOut(t *testing.T) {
	b := &bench{cfg: Config{Runs: 3}, report: newReport(Config{})}
	c := built{height: 2}
	err := b.laps(t.Context(), scenario{name: "check-1"}, c,
		func(_ context.Context, run int) (time.Duration, map[string]float64, error) {
			if run == 0 {
				return time.Hour, map[string]float64{"load": 100}, nil
			}
			return time.Duration(run) * time.Second, map[string]float64{"load": 1.5}, nil
		})
	if err != nil {
		t.Fatal(err)
	}
	r := b.report.Results[0]
	if r.Rate.Median != 4096 || r.Rate.Max != 8192 || r.Throughput.Median != 4 || r.Cores["load"] != 1.5 ||
		r.Completed != 3 {
		t.Errorf("%+v, %+v", r, r.Throughput)
	}
}

func TestMemoryAboveIdle(t *testing.T) {
	if m := (Memory{IdleRSS: 10, PeakRSS: 15}); m.above() != 5 {
		t.Error(m.above())
	}
	if m := (Memory{IdleRSS: 10, PeakRSS: 5}); m.above() != 0 {
		t.Error(m.above())
	}
}

func TestAnyCheck(t *testing.T) {
	for _, c := range []struct {
		node wire.NodeIntegrity
		want bool
	}{
		{wire.NodeIntegrity{State: "valid"}, false},
		{wire.NodeIntegrity{State: "valid", Due: "a person asked"}, true},
		{wire.NodeIntegrity{State: "validating"}, true},
	} {
		if got := anyCheck([]wire.NodeIntegrity{{State: "valid"}, c.node}); got != c.want {
			t.Errorf("%+v: %v", c.node, got)
		}
	}
}
