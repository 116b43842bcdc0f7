package worker_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/wire"
)

// table is the masters' state of one worker. They accept the start in the table, and a start that names it as its
// predecessor.
type table struct {
	masters
	boot  string
	order string // of the leader
}

func newTable() *table {
	t := &table{order: "1.5"}
	t.answer = func(_ string, r wire.Registration) (wire.Registered, error) {
		if !r.Lists {
			return wire.Registered{}, errors.New("it keeps no list")
		}
		if t.boot != "" && r.Boot != t.boot && r.Previous != t.boot {
			other := &wire.OtherStartError{Start: t.boot, Err: errors.New("another start")}
			return wire.Registered{}, fmt.Errorf("answered: %w", other)
		}
		t.boot = r.Boot
		return wire.Registered{ID: "w1", AccessToken: "secret-access", Group: "g", Order: t.order}, nil
	}
	return t
}

// lead makes another leader reply from now on.
func (t *table) lead(order string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.order = order
}

// has replaces the start in the table, and returns the previous one.
func (t *table) has(boot string) (before string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, t.boot = t.boot, boot
	return before
}

// firsts returns the first registration of each start.
func (t *table) firsts() []wire.Registration {
	_, got := t.seen()
	return slices.CompactFunc(got, func(a, b wire.Registration) bool { return a.Boot == b.Boot })
}

// process is one start of a worker on a data folder.
type process struct {
	*worker.Registrar
	fence   *worker.Fence
	log     bytes.Buffer
	refused int
	stop    func() error
}

func begin(t *testing.T, dir string, masters *table) *process {
	t.Helper()
	starts := openStarts(t, dir)
	id, damaged, err := worker.LoadIdentity(dir)
	if err != nil || damaged != nil {
		t.Fatal(damaged, err)
	}
	p := &process{fence: openFence(t, dir)}
	p.Registrar = worker.NewRegistrar(worker.RegistrarConfig{
		Dir: dir, Identity: id, Starts: starts, Role: "miner", URL: "http://w1",
		Masters: []string{"http://m1", "http://m2"}, Fence: p.fence,
		Register: masters.register, Refused: func() error { p.refused++; return nil },
		Logger: hclog.New(&hclog.LoggerOptions{Output: &p.log, Level: hclog.Info}),
	})
	p.stop = running(p.Registrar)
	synctest.Wait()
	return p
}

// want checks whether a process takes part, and ends it.
func (p *process) want(t *testing.T, want error) {
	t.Helper()
	if err := p.Ready(); !errors.Is(err, want) || (err == nil) != (want == nil) {
		t.Errorf("ready: %v, want %v", err, want)
	}
	errorLines := strings.Count(p.log.String(), "[ERROR]")
	if due := errors.Is(want, worker.ErrRefused); due != (p.refused == 1) || due != (errorLines == 1) {
		t.Errorf("asked to end %d times, %d lines in the log: %s", p.refused, errorLines, &p.log)
	}
}

func (p *process) end(t *testing.T) {
	t.Helper()
	if err := p.stop(); err != nil {
		t.Error(err)
	}
}

// copyFolder copies a data folder's files.
func copyFolder(t *testing.T, from string) (to string) {
	t.Helper()
	to = filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestRegistrarsStartsFollowEachOther checks that a worker registers after each restart, whether the masters have
// confirmed the previous start or not.
func TestRegistrarsStartsFollowEachOther(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := newTable()
		for range 3 {
			p := begin(t, dir, m)
			p.want(t, nil)
			p.end(t)
		}
		got := m.firsts()
		if len(got) != 3 || got[0].Previous != "" || got[1].Previous != got[0].Boot || got[2].Previous != got[1].Boot {
			t.Errorf("%+v", got)
		}
		// The masters accepted the next start, and their response was lost.
		accept := m.answer
		m.change(func(master string, r wire.Registration) (wire.Registered, error) {
			_, _ = accept(master, r)
			return wire.Registered{}, errors.New("the connection broke")
		})
		p := begin(t, dir, m)
		p.want(t, worker.ErrNotRegistered)
		p.end(t)
		m.change(accept)
		p = begin(t, dir, m)
		p.want(t, nil)
		p.end(t)
		calls, next := m.seen()
		if len(calls) < 2 || calls[0] != calls[1] || next[0].Previous != got[2].Boot ||
			next[1].Previous == got[2].Boot ||
			next[1].Previous == "" {
			t.Errorf("%v: %+v", calls, next)
		}
	})
}

// TestRegistrarOfACopiedFolder checks that of two processes on copies of one folder the newest start stays registered,
// and that the other is refused at its next registration.
func TestRegistrarOfACopiedFolder(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := newTable()
		original := begin(t, dir, m)
		original.want(t, nil)
		other := begin(t, copyFolder(t, dir), m)
		other.want(t, nil)
		time.Sleep(11 * time.Second) // one renewal
		synctest.Wait()
		original.want(t, worker.ErrRefused)
		other.want(t, nil)
		s := original.log.String()
		if !strings.Contains(s, dir) || !strings.Contains(s, "identity.json") || strings.Contains(s, "secret") {
			t.Errorf("the log must name the folder, the way back and no token: %s", s)
		}
		m.change(m.answer)
		time.Sleep(time.Minute)
		synctest.Wait()
		original.want(t, worker.ErrRefused)
		other.want(t, nil)
		if got := m.firsts(); len(got) != 1 || got[0].Boot != m.has(got[0].Boot) {
			t.Errorf("the refused one asks on: %+v", got)
		}
		original.end(t)
		// A restart does not change that, and the copy continues.
		original = begin(t, dir, m)
		original.want(t, worker.ErrRefused)
		other.want(t, nil)
		original.end(t)
		other.end(t)

		// Without its identity and list of starts it is a new worker.
		for _, name := range []string{"identity.json", "starts"} {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		m.has("")
		original = begin(t, dir, m)
		original.want(t, nil)
		if _, got := m.seen(); got[len(got)-1].ID != "" {
			t.Errorf("%+v", got[len(got)-1])
		}
		original.end(t)
	})
}

// TestRegistrarOfACopiedFolderAtANewLeader checks that a new leader detects the displaced process at once: its first
// order makes the process register.
func TestRegistrarOfACopiedFolderAtANewLeader(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := newTable()
		original := begin(t, dir, m)
		time.Sleep(time.Second) // before the next renewal
		other := begin(t, copyFolder(t, dir), m)
		original.want(t, nil)
		if err := original.fence.Pass(wire.Order{Epoch: 1, Term: 6}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		original.want(t, worker.ErrRefused)
		original.end(t)
		other.end(t)
	})
}

// TestRegistrarOfAnOlderCopy checks that an older copy of the folder is refused, however many starts it lacks.
func TestRegistrarOfAnOlderCopy(t *testing.T) {
	for _, starts := range []int{1, 10} {
		t.Run(fmt.Sprint(starts), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				m := newTable()
				begin(t, dir, m).end(t)
				older := copyFolder(t, dir)
				for range starts {
					begin(t, dir, m).end(t)
				}
				p := begin(t, older, m)
				p.want(t, worker.ErrRefused)
				p.end(t)
				p = begin(t, dir, m)
				p.want(t, nil)
				p.end(t)
			})
		})
	}
}

// TestRegistrarRaisesTheFence checks a copy that was made after the last start, which cannot be recognised as older,
// and whose fence may be too low. The leader that registers the worker raises the fence before the worker counts as
// registered, so an order of an earlier leader is refused.
func TestRegistrarRaisesTheFence(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := newTable()
		p := begin(t, dir, m)
		older := copyFolder(t, dir)
		m.lead("1.9")
		if err := p.fence.Pass(wire.Order{Epoch: 1, Term: 9}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		p.end(t)
		for _, deposed := range []bool{false, true} {
			if deposed {
				m.lead("1.7") // its response is too late
			}
			p = begin(t, older, m)
			if deposed {
				p.want(t, worker.ErrNotRegistered)
				m.lead("1.10")
				time.Sleep(5 * time.Second)
				synctest.Wait()
			}
			p.want(t, nil)
			if err := p.fence.Pass(wire.Order{Epoch: 1, Term: 8}); !errors.Is(err, wire.ErrFenced) {
				t.Errorf("an order of the leader before: %v", err)
			}
			p.end(t)
		}
	})
}

// TestRegistrarsOrderThatCannotBeRead checks that a response without an order, as from masters of an older version, is
// accepted, and that an order that cannot be parsed is an error.
func TestRegistrarsOrderThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := newTable()
		m.lead("five")
		p := begin(t, dir, m)
		p.want(t, worker.ErrNotRegistered)
		p.end(t)
		m.lead("")
		p = begin(t, dir, m)
		p.want(t, nil)
		if highest, _ := p.fence.Highest(); highest != (wire.Order{}) {
			t.Errorf("the fence is at %v", highest)
		}
		p.end(t)
	})
}

// TestRegistrarWhoseEndFails checks that the role stops if ending the worker's jobs fails.
func TestRegistrarWhoseEndFails(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := newTable()
		m.has("another")
		r := worker.NewRegistrar(worker.RegistrarConfig{
			Dir: dir, Identity: worker.Identity{ID: "w1"}, Starts: openStarts(t, dir), Role: "miner", URL: "http://w1",
			Masters: []string{"http://m1"}, Fence: openFence(t, dir), Register: m.register,
			Refused: func() error { return os.ErrInvalid }, Logger: hclog.NewNullLogger(),
		})
		if err := r.Run(t.Context()); !errors.Is(err, os.ErrInvalid) || !errors.Is(r.Ready(), worker.ErrRefused) {
			t.Errorf("%v, ready: %v", err, r.Ready())
		}
	})
}
