package conformance

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// leadership is a call of the function that was passed to RunAsLeader. It ends with ctx, or when an error is sent to
// end.
type leadership struct {
	ctx  context.Context
	term uint64
	end  chan error
}

// run calls RunAsLeader with a function that only reports that it was called.
func run(t *testing.T, l masternode.Ledger) (leads <-chan leadership, stop func() error) {
	calls := make(chan leadership, 1)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- l.RunAsLeader(ctx, func(ctx context.Context, term uint64) error {
			lead := leadership{ctx: ctx, term: term, end: make(chan error)}
			calls <- lead
			select {
			case err := <-lead.end:
				return err
			case <-ctx.Done():
				return nil
			}
		})
	}()
	return calls, func() error {
		cancel()
		return receive(t, "RunAsLeader to return", ended)
	}
}

func beginTerm(member string, term uint64) []byte {
	return masterfsm.Encode(&masterfsm.BeginTerm{
		Term: term, Member: member, URL: "http://" + member, Time: 1000 + term, Group: "group-1",
		Settings: masterfsm.DefaultSettings(),
	})
}

func createProject(name string) []byte {
	return masterfsm.Encode(&masterfsm.CreateProject{
		Name: name, TokenHash: chain.Hash(sha256.Sum256([]byte(name))), Time: 1,
	})
}

func hasProject(l masternode.Ledger, name string) (found bool) {
	l.Read(func(s *masterfsm.State) { _, found = s.ProjectByName(name) })
	return found
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Ledger tests the ledger of a group of one master. The log must not contain entries of the suite yet. The suite calls
// RunAsLeader.
func Ledger(t *testing.T, open func(t *testing.T) masternode.Ledger) {
	l := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	leads, stop := run(t, l)
	lead := receive(t, "the leadership", leads)

	if _, err := l.ReadIndex(ctx); !errors.Is(err, wire.ErrNotLeader) {
		t.Errorf("ReadIndex before the term has begun: %v", err)
	}
	await(t, "the leader's id", func() bool { return l.Leader() != "" })
	stateChanged, leaderChanged := l.StateChanged(), l.LeaderChanged()
	if _, err := l.Propose(ctx, beginTerm(l.Leader(), lead.term)); err != nil {
		t.Fatalf("BeginTerm: %v", err)
	}
	receive(t, "StateChanged after a command", stateChanged)
	receive(t, "LeaderChanged after a term has begun", leaderChanged)
	l.Read(func(s *masterfsm.State) {
		if s.Term().Leader != l.Leader() || s.Term().Term != lead.term {
			t.Errorf("the state has the term %+v, and %s leads in term %d", s.Term(), l.Leader(), lead.term)
		}
	})
	await(t, "contact with the leader", func() bool { return l.LastContact() < 5*time.Second })

	t.Run("Propose", func(t *testing.T) { proposes(ctx, t, l) })
	t.Run("ReadIndex", func(t *testing.T) {
		read, err := l.ReadIndex(ctx)
		if err != nil || read.Term != lead.term {
			t.Fatalf("%+v, %v", read, err)
		}
		if err := l.WaitApplied(ctx, read.Index); err != nil {
			t.Error(err)
		}
		if l.Applied() < read.Index || !hasProject(l, "second") {
			t.Errorf("applied %d after the wait for %d", l.Applied(), read.Index)
		}
		if applied := l.Applied(); l.Committed() < applied {
			t.Errorf("committed %d, and applied %d before", l.Committed(), applied)
		}
	})
	t.Run("WaitApplied", func(t *testing.T) { waits(ctx, t, l) })
	t.Run("ended contexts", func(t *testing.T) { ends(t, l) })
	t.Run("RunAsLeader", func(t *testing.T) {
		lead.end <- nil
		again := receive(t, "the next call after the duties ended", leads)
		if again.term < lead.term {
			t.Errorf("term %d after term %d", again.term, lead.term)
		}
		if err := stop(); err != nil {
			t.Errorf("after the end of its context: %v", err)
		}
		if again.ctx.Err() == nil {
			t.Error("it has returned, and the context of the duties goes on")
		}
	})
}

// proposes tests that commands take effect in order, that refusals are those of the state machine, and which waiters
// are woken.
func proposes(ctx context.Context, t *testing.T, l masternode.Ledger) {
	before, leaderChanged := l.Applied(), l.LeaderChanged()
	var last uint32
	for _, name := range []string{"first", "second"} {
		stateChanged := l.StateChanged()
		result, err := l.Propose(ctx, createProject(name))
		created, ok := result.(*masterfsm.Project)
		if err != nil || !ok || created.Name != name || created.ID <= last {
			t.Fatalf("%s: %+v, %v", name, result, err)
		}
		if last = created.ID; !hasProject(l, name) {
			t.Errorf("%s is committed and not in the state", name)
		}
		receive(t, "StateChanged", stateChanged)
	}
	if l.Applied() < before+2 {
		t.Errorf("applied %d, and %d two commands before", l.Applied(), before)
	}
	_, err := l.Propose(ctx, createProject("first"))
	if !errors.Is(err, wire.ErrNameTaken) || errors.Is(err, wire.ErrNotLeader) ||
		errors.Is(err, wire.ErrUnknownOutcome) {
		t.Errorf("a refused command: %v", err)
	}
	if isClosed(leaderChanged) {
		t.Error("commands closed LeaderChanged")
	}
}

// waits tests that WaitApplied waits for a later command.
func waits(ctx context.Context, t *testing.T, l masternode.Ledger) {
	waited := make(chan error, 1)
	next := l.Applied() + 1
	go func() { waited <- l.WaitApplied(ctx, next) }()
	select {
	case err := <-waited:
		t.Fatalf("WaitApplied(%d) ended before there was that entry: %v", next, err)
	case <-time.After(10 * time.Millisecond):
	}
	if _, err := l.Propose(ctx, createProject("awaited")); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, "WaitApplied", waited); err != nil {
		t.Error(err)
	}
}

// ends tests that calls end with their context, and return its error.
func ends(t *testing.T, l masternode.Ledger) {
	cause := errors.New("the caller has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	waited := make(chan error, 1)
	go func() { waited <- l.WaitApplied(ctx, l.Applied()+1_000_000) }()
	cancel(cause)
	if err := receive(t, "WaitApplied", waited); !errors.Is(err, cause) {
		t.Errorf("WaitApplied: %v", err)
	}
	_, err := l.Propose(ctx, createProject("too late"))
	if err != nil && !(errors.Is(err, wire.ErrUnknownOutcome) && errors.Is(err, cause)) {
		t.Errorf("Propose: %v", err) // nil: the command was faster
	}
	if _, err := l.ReadIndex(ctx); err != nil && !errors.Is(err, cause) {
		t.Errorf("ReadIndex: %v", err)
	}
}

// Deposed tests a ledger of a master that leads, has begun its term, and loses the leadership when depose is called. It
// must not lead again before the test ends.
func Deposed(t *testing.T, leading masternode.Ledger, depose func()) {
	leaderChanged := leading.LeaderChanged()
	refused := make(chan error, 1)
	var name string
	go func() {
		for i := 0; ; i++ {
			name = fmt.Sprint("project ", i)
			if _, err := leading.Propose(t.Context(), createProject(name)); err != nil {
				refused <- err
				return
			}
		}
	}()
	depose()
	switch err := receive(t, "the first command that fails", refused); {
	case errors.Is(err, wire.ErrUnknownOutcome) && !errors.Is(err, wire.ErrNotLeader):
	case !errors.Is(err, wire.ErrNotLeader):
		t.Errorf("Propose while the leadership ends: %v", err)
	case hasProject(leading, name):
		t.Errorf("%q is in the state, although its command was certainly not committed", name)
	}
	receive(t, "LeaderChanged", leaderChanged)
	await(t, "Propose to be refused", func() bool {
		_, err := leading.Propose(t.Context(), createProject("afterwards"))
		return errors.Is(err, wire.ErrNotLeader)
	})
	if _, err := leading.ReadIndex(t.Context()); !errors.Is(err, wire.ErrNotLeader) {
		t.Errorf("ReadIndex after the leadership: %v", err)
	}
	if hasProject(leading, "afterwards") {
		t.Error("a command of a master that does not lead is in the state")
	}
}
