package roles

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/certs/certstest"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore"
	"github.com/chainstore/chainstore/wire"
)

// TestRequireEndsLongAnswers begins an answer without an end in plain text. It ends when the step requires TLS.
func TestRequireEndsLongAnswers(t *testing.T) {
	store := certstest.Open(t, certstest.NewAuthority(t), certs.Master, "m")
	mode, err := certs.OpenMode(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	advance := func(change uint64, step wire.TLSStep) {
		t.Helper()
		if err := mode.Advance(1, wire.TLSState{Step: step, Change: change}); err != nil {
			t.Fatal(err)
		}
	}
	advance(1, wire.TLSAccept)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := w.Write([]byte("x")); err == nil {
			_ = http.NewResponseController(w).Flush() // the client reports a failure
		}
		<-r.Context().Done()
	})
	go func() {
		served <- userServer.run(ctx, l, store, certs.Port{Mode: mode, Plain: true}, handler, hclog.NewNullLogger())
	}()
	answer, err := http.Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var first [1]byte
	if _, err := io.ReadFull(answer.Body, first[:]); err != nil {
		t.Fatal(err)
	}
	advance(2, wire.TLSPrefer)
	advance(3, wire.TLSRequire)
	if n, err := answer.Body.Read(first[:]); err == nil {
		t.Errorf("the answer goes on: %d bytes", n)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestPortsInPlainText checks that the address of each port of a master decides whether it takes plain text, unless
// --insecure allows it for all.
func TestPortsInPlainText(t *testing.T) {
	cfg := DefaultMaster()
	cfg.Data, cfg.HTTP, cfg.Raft, cfg.TLS.Cert = t.TempDir(), "127.0.0.1:8000", "192.0.2.1:8001", "a.crt"
	if err := cfg.openMode(); err != nil {
		t.Fatal(err)
	}
	if err := cfg.mode.Advance(1, wire.TLSState{Step: wire.TLSAccept, Change: 1}); err != nil {
		t.Fatal(err)
	}
	if !cfg.port(cfg.HTTP).TakesPlain() || cfg.port(cfg.Raft).TakesPlain() {
		t.Error("the address of one port decides about the other")
	}
	cfg.Insecure = true
	if !cfg.port(cfg.HTTP).TakesPlain() || !cfg.port(cfg.Raft).TakesPlain() {
		t.Error("--insecure has no effect")
	}
}

// TestRecoveryKeepsStep recovers a master whose file of the step is newer than its table.
func TestRecoveryKeepsStep(t *testing.T) {
	ports := freePorts(t, 2)
	s := newSeat(t, ports[0], ports[1], nil)
	m, stop := s.start(t)
	signs(t, m)
	atLevel := func() (ok bool) {
		m.store.Read(func(s *masterfsm.State) { ok = s.Level() >= masterfsm.LevelTLSSteps })
		return ok
	}
	for deadline := time.After(time.Minute); !atLevel(); {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			t.Fatal("the group is not at its level")
		}
	}
	stop()
	mode, err := certs.OpenMode(s.cfg.Data, false)
	if err == nil {
		err = mode.Advance(1, wire.TLSState{Step: wire.TLSPrefer, Change: 2})
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := RecoverMaster(t.Context(), RecoverConfig{
		Data: s.cfg.Data, Raft: s.cfg.Raft, Secret: []string{s.cfg.ClusterToken}, StorageLost: true,
		Confirm: func(Recovery) error { return nil }, Logger: hclog.NewNullLogger(),
	}); err != nil {
		t.Fatal(err)
	}
	s.inStore(t, func(store *raftstore.Store) {
		store.Read(func(state *masterfsm.State) {
			if got := state.TLS().Step; got != wire.TLSPrefer {
				t.Errorf("the recovered table has the step %s", got.Name())
			}
		})
	})
}

// TestRecoveryTakesStepOfStorage checks that a recovery takes the strictest step of the survivor's folder and of the
// storage nodes that are of the group. A master that is founded from storage nodes alone notes the step that requires
// TLS, so that it does not start without certificates.
func TestRecoveryTakesStepOfStorage(t *testing.T) {
	node := func(step wire.TLSStep, foreign bool) *storageChain {
		return &storageChain{status: wire.ChainStatus{TLS: step}, foreign: foreign}
	}
	for _, row := range []struct {
		own    wire.TLSStep
		chains []*storageChain
		want   wire.TLSStep
	}{
		{wire.TLSByFlags, nil, wire.TLSByFlags},
		{wire.TLSAccept, []*storageChain{node(wire.TLSByFlags, false), node(wire.TLSPrefer, false)}, wire.TLSPrefer},
		{wire.TLSPrefer, []*storageChain{node(wire.TLSRequire, false), node(wire.TLSAccept, false)}, wire.TLSRequire},
		{wire.TLSRequire, []*storageChain{node(wire.TLSAccept, false)}, wire.TLSRequire},
		{wire.TLSAccept, []*storageChain{node(wire.TLSRequire, true)}, wire.TLSAccept},
		{wire.TLSAccept, []*storageChain{node("newer", false)}, wire.TLSAccept},
	} {
		r := &recovery{step: row.own, chains: row.chains}
		if r.chooseStep(); r.step != row.want {
			t.Errorf("%s and %d nodes: %s, want %s", row.own.Name(), len(row.chains), r.step.Name(), row.want.Name())
		}
	}

	for _, step := range []wire.TLSStep{wire.TLSByFlags, wire.TLSAccept, wire.TLSPrefer, wire.TLSRequire} {
		for _, secured := range []bool{true, false} {
			dir := t.TempDir()
			mode, err := certs.OpenMode(dir, secured)
			if err != nil {
				t.Fatal(err)
			}
			r := &recovery{step: step, mode: mode, fresh: true, plan: Recovery{Epoch: 2}}
			err = r.keepStep(t.Context())
			if refused := errors.Is(err, certs.ErrNoCertificates); refused != (step == wire.TLSRequire && !secured) {
				t.Errorf("%s, with certificates %v: %v", step.Name(), secured, err)
			}
			_, err = certs.OpenMode(dir, false)
			if refused := errors.Is(err, certs.ErrNoCertificates); refused != (step == wire.TLSRequire) {
				t.Errorf("a start without certificates after %s: %v", step.Name(), err)
			}
			if step != wire.TLSRequire {
				continue
			}
			// The table of the recovered group begins without a step.
			if err := mode.Advance(2, wire.TLSState{}); err != nil || mode.Step() != wire.TLSRequire {
				t.Errorf("after the table was read: %v, and the step is %s", err, mode.Step().Name())
			}
		}
	}
}

// TestStartWithoutInsecure checks that a master with certificates starts in the steps that take plain text without
// --insecure too, and takes none on an address other than loopback.
func TestStartWithoutInsecure(t *testing.T) {
	cfg := DefaultMaster()
	cfg.Data, cfg.TLS.Cert, cfg.Logger = t.TempDir(), "a.crt", hclog.NewNullLogger()
	if err := cfg.openMode(); err != nil {
		t.Fatal(err)
	}
	for i, step := range []wire.TLSStep{wire.TLSAccept, wire.TLSPrefer, wire.TLSRequire} {
		if err := cfg.mode.Advance(1, wire.TLSState{Step: step, Change: uint64(i + 1)}); err != nil {
			t.Fatal(err)
		}
		cfg.mode.Confirm()
		if err := cfg.checkLoopback("--http", "192.0.2.1:8000"); err != nil || cfg.port("192.0.2.1:8000").TakesPlain() {
			t.Errorf("%s: %v, and it takes plain text: %v", step, err, cfg.port("192.0.2.1:8000").TakesPlain())
		}
	}
}
