package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/wire"
)

// masters is a fake of the masters that a registrar calls.
type masters struct {
	mu     sync.Mutex // guards the fields below
	answer func(master string, r wire.Registration) (wire.Registered, error)
	calls  []string // the masters that were called, in order
	got    []wire.Registration
}

func (m *masters) register(_ context.Context, master string, r wire.Registration) (wire.Registered, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, master)
	m.got = append(m.got, r)
	return m.answer(master, r)
}

// seen returns the registrations so far.
func (m *masters) seen() (calls []string, got []wire.Registration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.calls), slices.Clone(m.got)
}

// change sets another response and forgets the calls so far.
func (m *masters) change(answer func(string, wire.Registration) (wire.Registered, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answer, m.calls, m.got = answer, nil, nil
}

func accept(string, wire.Registration) (wire.Registered, error) {
	return wire.Registered{ID: "w1", AccessToken: "secret-access", Group: "g", Level: wire.LevelProofs}, nil
}

// registrar returns a registrar on a data folder that writes its log to log.
func registrar(t *testing.T, dir string, m *masters, log *bytes.Buffer) (*worker.Registrar, *worker.Fence) {
	t.Helper()
	starts := openStarts(t, dir)
	id, _, err := worker.LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	fence := openFence(t, dir)
	return worker.NewRegistrar(worker.RegistrarConfig{
		Dir: dir, Identity: id, Starts: starts, Role: "storage", URL: "http://w1",
		Masters: []string{"http://m1", "http://m2"}, Fence: fence,
		Chain:    func() (uint64, chain.Hash, bool) { return 7, chain.Hash{7}, true },
		Register: m.register,
		Logger:   hclog.New(&hclog.LoggerOptions{Output: log, Level: hclog.Trace}),
	}), fence
}

// running runs the registrar until the test calls stop, which returns its error.
func running(r *worker.Registrar) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

func TestRegistrarRegisters(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		m := &masters{answer: accept}
		r, fence := registrar(t, dir, m, &log)
		if r.ID() != "" {
			t.Errorf("id %q before it registered", r.ID())
		}
		if r.Ready() == nil {
			t.Error("registered before any master was asked")
		}
		stop := running(r)
		synctest.Wait()
		_, got := m.seen()
		first := got[0]
		if len(got) != 1 || first.ID != "" || first.AccessToken != "" || first.Role != "storage" ||
			first.URL != "http://w1" ||
			first.MasterToken == "" || first.Boot == "" || first.Height != 7 || first.Hash != (chain.Hash{7}) {
			t.Errorf("%+v", got)
		}
		if r.ID() != "w1" || r.Ready() != nil {
			t.Errorf("id %q, ready: %v", r.ID(), r.Ready())
		}
		if id, _, err := worker.LoadIdentity(dir); err != nil || id.ID != "w1" || id.AccessToken != "secret-access" ||
			id.Group != "g" {
			t.Errorf("on disk %+v, %v", id, err)
		}
		// Again at the first order of a new leader, with the id and the token from the first registration.
		if err := fence.Pass(wire.Order{Epoch: 1, Term: 3}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, got = m.seen(); len(got) != 2 || got[1].ID != "w1" || got[1].AccessToken != "secret-access" ||
			got[1].Boot != first.Boot {
			t.Errorf("%+v", got)
		}
		// And every ten seconds.
		time.Sleep(25 * time.Second)
		synctest.Wait()
		if _, got = m.seen(); len(got) != 4 {
			t.Errorf("%d registrations", len(got))
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if s := log.String(); strings.Contains(s, "secret") || strings.Contains(s, first.MasterToken) {
			t.Errorf("a token in the log: %s", s)
		}
	})
}

func TestRegistrarTriesTheNextMaster(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := &masters{answer: func(string, wire.Registration) (wire.Registered, error) {
			return wire.Registered{}, errors.New("connection refused")
		}}
		r, _ := registrar(t, dir, m, &bytes.Buffer{})
		stop := running(r)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if calls, _ := m.seen(); len(calls) < 6 || len(calls) > 20 ||
			!slices.Equal(calls[:3], []string{"http://m1", "http://m2", "http://m1"}) {
			t.Errorf("all are down: asked %v", calls)
		}
		m.change(func(master string, r wire.Registration) (wire.Registered, error) {
			if master == "http://m1" {
				return wire.Registered{}, errors.New("connection refused")
			}
			return accept(master, r)
		})
		time.Sleep(3 * time.Second) // longer than the longest pause
		synctest.Wait()
		if calls, _ := m.seen(); len(calls) != 2 || r.ID() != "w1" {
			t.Errorf("one is up: asked %v, id %q", calls, r.ID())
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestRegistrarsBoot checks that a worker registers with a new start after a restart.
func TestRegistrarsBoot(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := &masters{answer: accept}
		for range 2 {
			r, _ := registrar(t, dir, m, &bytes.Buffer{})
			stop := running(r)
			synctest.Wait()
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
		_, got := m.seen()
		if len(got) != 2 || got[0].Boot == got[1].Boot || got[1].ID != "w1" ||
			got[0].MasterToken != got[1].MasterToken {
			t.Errorf("%+v", got)
		}
	})
}

// TestRegistrarOfAnotherCluster checks that a worker of another cluster stops, whether the masters refuse it or, as
// older ones do, register it.
func TestRegistrarOfAnotherCluster(t *testing.T) {
	for name, answer := range map[string]func(string, wire.Registration) (wire.Registered, error){
		"older masters": accept,
		"masters": func(_ string, r wire.Registration) (wire.Registered, error) {
			if r.Group != "another" || r.Seen != "0.0" {
				return wire.Registered{}, fmt.Errorf("group %q, seen %q", r.Group, r.Seen)
			}
			return wire.Registered{}, fmt.Errorf("%w: this is group g", wire.ErrOtherGroup)
		},
	} {
		t.Run(name, func(t *testing.T) { registerElsewhere(t, answer) })
	}
}

func registerElsewhere(t *testing.T, answer func(string, wire.Registration) (wire.Registered, error)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		id, _, err := worker.LoadIdentity(dir)
		if err != nil {
			t.Fatal(err)
		}
		id.ID, id.AccessToken, id.Group = "w0", "a0", "another"
		if err := id.Save(dir); err != nil {
			t.Fatal(err)
		}
		r, _ := registrar(t, dir, &masters{answer: answer}, &bytes.Buffer{})
		err = r.Run(t.Context())
		if !errors.Is(err, worker.ErrOtherCluster) || !strings.Contains(err.Error(), dir) {
			t.Errorf("got %v", err)
		}
		if now, _, err := worker.LoadIdentity(dir); err != nil || now != id || r.ID() != "w0" {
			t.Errorf("the identity changed: %+v, %v", now, err)
		}
	})
}

func TestRegistrarThatCannotWriteItsIdentityStops(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := &masters{answer: accept}
		id, _, err := worker.LoadIdentity(dir)
		if err != nil {
			t.Fatal(err)
		}
		r := worker.NewRegistrar(worker.RegistrarConfig{
			Dir: filepath.Join(dir, "gone"), Identity: id, Starts: openStarts(t, dir), Role: "miner", URL: "http://w1",
			Masters: []string{"http://m1"},
			Fence:   openFence(t, dir), Register: m.register, Logger: hclog.NewNullLogger(),
		})
		if err := r.Run(t.Context()); err == nil {
			t.Error("it does not stop")
		}
		if _, got := m.seen(); r.ID() != "" || len(got) != 1 || got[0].Height != 0 {
			t.Errorf("id %q after %+v", r.ID(), got)
		}
	})
}

// TestRegistrarWithAFenceAheadOfTheMasters checks that a worker whose fence is ahead of the masters' orders gets one
// id, which it keeps over a restart, and is not registered. The log must report this once.
func TestRegistrarWithAFenceAheadOfTheMasters(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		given := 0
		order := wire.Order{Epoch: 1, Term: 9}
		m := &masters{answer: func(_ string, r wire.Registration) (wire.Registered, error) {
			a := wire.Registered{ID: r.ID, AccessToken: r.AccessToken, Group: "g", Order: order.String()}
			if r.ID == "" {
				given++
				a.ID, a.AccessToken = fmt.Sprint("w", given), "secret-access"
			}
			return a, nil
		}}
		if err := openFence(t, dir).Pass(wire.Order{Epoch: 2, Term: 3}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			var log bytes.Buffer
			r, _ := registrar(t, dir, m, &log)
			stop := running(r)
			time.Sleep(20 * time.Second)
			synctest.Wait()
			if given != 1 || r.Ready() == nil {
				t.Errorf("%d ids were given, ready: %v", given, r.Ready())
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
			if s := log.String(); strings.Count(s, "[WARN]") != 1 || !strings.Contains(s, "Remove the file fence") ||
				!strings.Contains(s, "fence epoch=2") || strings.Contains(s, "secret-access") {
				t.Errorf("logged %s", s)
			}
		}
		m.change(m.answer)
		order = wire.Order{Epoch: 2, Term: 4} // the masters are recovered beyond it
		r, _ := registrar(t, dir, m, &bytes.Buffer{})
		stop := running(r)
		synctest.Wait()
		if r.Ready() != nil || r.ID() != "w1" {
			t.Errorf("id %q, ready: %v", r.ID(), r.Ready())
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestRegistrarReportsRefusals checks that a refusal is a warning at once, and a missing answer after a while, each
// only when the reason changes.
func TestRegistrarReportsRefusals(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		port := 40_000
		noAnswer := func(string, wire.Registration) (wire.Registered, error) {
			port++
			return wire.Registered{}, fmt.Errorf("%w: %w", wire.ErrNoAnswer, &net.OpError{
				Op: "read", Net: "tcp", Err: errors.New("connection reset"),
				Source: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: port},
				Addr:   &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 8000},
			})
		}
		refuse := func(string, wire.Registration) (wire.Registered, error) {
			return wire.Registered{}, fmt.Errorf("%w: the cluster token is another one", wire.ErrUnauthorized)
		}
		full := func(string, wire.Registration) (wire.Registered, error) {
			return wire.Registered{}, fmt.Errorf("%w: 256 miners are registered already", wire.ErrBadRequest)
		}
		m := &masters{answer: noAnswer}
		var log bytes.Buffer
		r, _ := registrar(t, dir, m, &log)
		stop := running(r)
		warnings := func() int { return strings.Count(log.String(), "[WARN]  not registered:") }
		for i, c := range []struct {
			answer func(string, wire.Registration) (wire.Registered, error)
			wait   time.Duration
			want   int // two masters
			text   string
		}{
			{noAnswer, time.Second, 0, ""},
			{noAnswer, time.Minute, 2, "connection reset"},
			{refuse, 3 * time.Second, 4, "the cluster token is another one"},
			{refuse, time.Hour, 4, ""},
			{full, 3 * time.Second, 6, "256 miners"},
			{accept, time.Minute, 6, "registered"},
			{refuse, time.Minute, 8, ""},
		} {
			m.change(c.answer)
			time.Sleep(c.wait)
			synctest.Wait()
			if got := warnings(); got != c.want || !strings.Contains(log.String(), c.text) {
				t.Errorf("step %d: %d warnings, want %d: %s", i, got, c.want, log.String())
			}
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestRegistrarAwaitsTheLevel checks that a worker registers more often until its cluster has the level from which no
// node sends a secret, and that it remembers that level.
func TestRegistrarAwaitsTheLevel(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := &masters{answer: func(master string, r wire.Registration) (wire.Registered, error) {
			a, err := accept(master, r)
			a.Level = 0
			return a, err
		}}
		r, _ := registrar(t, dir, m, &bytes.Buffer{})
		stop := running(r)
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if calls, _ := m.seen(); len(calls) < 4 || r.Proofs() {
			t.Errorf("below the level: %d registrations, proofs %v", len(calls), r.Proofs())
		}
		m.change(accept)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if id, _, err := worker.LoadIdentity(dir); err != nil || !id.Proofs || !r.Proofs() {
			t.Errorf("on disk %+v, %v", id, err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestRegistrarWaitsForApproval checks that a worker that waits for approval keeps its id, takes part in nothing, says
// why once, and asks again until it is approved.
func TestRegistrarWaitsForApproval(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		waits := func(master string, r wire.Registration) (wire.Registered, error) {
			answer, err := accept(master, r)
			answer.Waiting = true
			return answer, err
		}
		m := &masters{answer: waits}
		r, fence := registrar(t, dir, m, &log)
		stop := running(r)
		time.Sleep(45 * time.Second)
		_, got := m.seen()
		if last := got[len(got)-1]; len(got) != 5 || last.ID != "w1" || last.AccessToken != "secret-access" ||
			last.Group != "g" {
			t.Errorf("%d registrations, the last %+v", len(got), got[len(got)-1])
		}
		if err := r.Ready(); !errors.Is(err, worker.ErrWaiting) {
			t.Errorf("ready: %v", err)
		}
		if highest, _ := fence.Highest(); highest != (wire.Order{}) {
			t.Errorf("it has accepted the order %v", highest)
		}
		m.change(accept)
		time.Sleep(10 * time.Second)
		if r.ID() != "w1" || r.Ready() != nil {
			t.Errorf("id %q, ready: %v", r.ID(), r.Ready())
		}
		m.change(waits) // the masters have dropped it, as a miner that was dead for a day
		time.Sleep(10 * time.Second)
		if err := r.Ready(); !errors.Is(err, worker.ErrWaiting) {
			t.Errorf("ready: %v", err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		text := log.String()
		if strings.Count(text, "chainstore storage approve w1") != 2 || strings.Count(text, " registered: id=w1") != 1 {
			t.Errorf("the log is\n%s", text)
		}
	})
}
