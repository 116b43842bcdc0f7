package masternode

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// swaying is the ledger of a master that follows the leader that a test chooses.
type swaying struct {
	*masterstest.Ledger
	mu     sync.Mutex // guards leader
	leader string
}

func (l *swaying) Leader() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leader
}

func (l *swaying) elect(leader string) {
	l.mu.Lock()
	l.leader = leader
	l.mu.Unlock()
	l.Ledger.Mu.Lock()
	defer l.Ledger.Mu.Unlock()
	l.Elect()
}

// begin begins the term of a leader, which puts its URL into the state.
func (l *swaying) begin(t *testing.T, leader string, term uint64) {
	t.Helper()
	l.commit(t, &masterfsm.BeginTerm{
		Term: term, Member: leader, URL: "http://" + leader, Time: term, Group: "g",
		Settings: masterfsm.DefaultSettings(),
	})
}

func (l *swaying) commit(t *testing.T, c masterfsm.Command) {
	t.Helper()
	l.Ledger.Mu.Lock()
	defer l.Ledger.Mu.Unlock()
	if _, err := l.Apply(masterfsm.Encode(c)); err != nil {
		t.Fatal(err)
	}
}

// newSwaying returns master m1, which has only the ledger.
func newSwaying(t *testing.T) (*Node, *swaying) {
	ledger := &swaying{Ledger: masterstest.NewLedger(t)}
	return &Node{cfg: Config{Ledger: ledger, Member: wire.Member{ID: "m1", URL: "http://m1"}}}, ledger
}

// calls counts the attempts of a call, and determines their results.
type calls struct {
	mu     sync.Mutex // guards the fields below
	local  int
	remote []string // URLs
	err    error    // of each attempt, nil for success
	hang   bool     // a remote call ends with its context
}

func (c *calls) call() leaderCall[string] {
	return leaderCall[string]{
		local: func(context.Context) (string, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.local++
			return "here", c.err
		},
		remote: func(ctx context.Context, url string) (string, error) {
			c.mu.Lock()
			c.remote = append(c.remote, url)
			hang, err := c.hang, c.err
			c.mu.Unlock()
			if hang {
				<-ctx.Done()
				return "", fmt.Errorf("%w: %w", wire.ErrNoAnswer, context.Cause(ctx))
			}
			return "there", err
		},
		again: anotherTry,
	}
}

// TestLeaderCallFindsTheLeader checks that a call goes to the leader: this master itself, or another one at the URL of
// its term.
func TestLeaderCallFindsTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, ledger := newSwaying(t)
		var c calls
		ledger.begin(t, "m2", 1)
		ledger.elect("m2")
		if got, err := c.call().do(t.Context(), n); got != "there" || err != nil || c.remote[0] != "http://m2" {
			t.Errorf("another master leads: %q, %v, calls %v", got, err, c.remote)
		}
		ledger.elect("m1")
		if got, err := c.call().do(t.Context(), n); got != "here" || err != nil || len(c.remote) != 1 {
			t.Errorf("this master leads: %q, %v, calls %v", got, err, c.remote)
		}
	})
}

// TestLeaderCallWaitsForALeader checks that a call waits for an election and for the beginning of the leader's term,
// and then continues at once.
func TestLeaderCallWaitsForALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, ledger := newSwaying(t)
		var c calls
		began := time.Now()
		time.AfterFunc(1010*time.Millisecond, func() { ledger.elect("m2") })
		time.AfterFunc(2010*time.Millisecond, func() { ledger.begin(t, "m2", 1) })
		got, err := c.call().do(t.Context(), n)
		if took := time.Since(began); got != "there" || err != nil || took != 2010*time.Millisecond {
			t.Errorf("%q, %v after %v", got, err, took)
		}
	})
}

// TestLeaderCallLeavesADeadLeader checks that a call to a hung leader goes to the next leader once there is one.
func TestLeaderCallLeavesADeadLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, ledger := newSwaying(t)
		c := calls{hang: true}
		ledger.begin(t, "m2", 1)
		ledger.elect("m2")
		began := time.Now()
		time.AfterFunc(1010*time.Millisecond, func() { ledger.elect("m1") })
		got, err := c.call().do(t.Context(), n)
		if took := time.Since(began); got != "here" || err != nil || took > 1010*time.Millisecond+retryPause {
			t.Errorf("%q, %v after %v", got, err, took)
		}
	})
}

// TestLeaderCallGivesUp checks that a call gives up after leaderWait with the last error, and at once if a retry cannot
// help.
func TestLeaderCallGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, ledger := newSwaying(t)
		ledger.begin(t, "m2", 1)
		ledger.elect("m2")
		c := calls{err: wire.ErrNoAnswer}
		began := time.Now()
		_, err := c.call().do(t.Context(), n)
		if took := time.Since(began); !errors.Is(err, wire.ErrNoLeader) || !errors.Is(err, wire.ErrNoAnswer) ||
			took != leaderWait {
			t.Errorf("no answer: %v after %v", err, took)
		}
		if want := int(leaderWait / retryPause); len(c.remote) < want-1 || len(c.remote) > want+1 {
			t.Errorf("%d tries, want about %d", len(c.remote), want)
		}
		c = calls{err: wire.ErrUnknownOutcome}
		if _, err := c.call().do(t.Context(), n); !errors.Is(err, wire.ErrUnknownOutcome) ||
			errors.Is(err, wire.ErrNoLeader) {
			t.Errorf("an outcome that is not known: %v", err)
		}
		c = calls{hang: true}
		if _, err := c.call().do(t.Context(), n); !errors.Is(err, wire.ErrNoLeader) || len(c.remote) != 1 {
			t.Errorf("a leader that hangs: %v, %d tries", err, len(c.remote))
		}
		for _, refusal := range []error{
			wire.ErrBadRequest, fmt.Errorf("%w: a third node: %w", wire.ErrBadRequest, wire.ErrNoAnswer),
		} {
			c = calls{err: refusal}
			began = time.Now()
			if _, err := c.call().do(t.Context(), n); !errors.Is(err, wire.ErrBadRequest) ||
				errors.Is(err, wire.ErrNoLeader) || time.Since(began) > 0 || len(c.remote) != 1 {
				t.Errorf("refused with %v: %v, %d tries", refusal, err, len(c.remote))
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c = calls{err: wire.ErrNotLeader}
		began = time.Now()
		if _, err := c.call().do(ctx, n); !errors.Is(err, wire.ErrNoLeader) || time.Since(began) != time.Second {
			t.Errorf("a caller who waits for a second: %v after %v", err, time.Since(began))
		}
	})
}

// TestCommitsDoNotWakeLeaderCalls checks that commits do not wake a call that is in progress on the leader.
func TestCommitsDoNotWakeLeaderCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, ledger := newSwaying(t)
		ledger.begin(t, "m2", 1)
		ledger.elect("m2")
		c := calls{hang: true}
		ctx, cancel := context.WithCancel(t.Context())
		var calling sync.WaitGroup
		calling.Go(func() { _, _ = c.call().do(ctx, n) })
		synctest.Wait()
		waits := ledger.LeaderWaits()
		for i := range 100 {
			ledger.commit(t, &masterfsm.CreateProject{Name: fmt.Sprint("p", i), Time: uint64(i)})
			synctest.Wait()
		}
		if woken := ledger.LeaderWaits() - waits; woken != 0 {
			t.Errorf("100 commits woke the call %d times", woken)
		}
		ledger.elect("m2")
		synctest.Wait()
		if woken := ledger.LeaderWaits() - waits; woken != 1 {
			t.Errorf("one change of the leader woke the call %d times", woken)
		}
		cancel()
		calling.Wait()
	})
}

// TestUnderLeader checks that a call to a hung leader ends when this master follows another leader, and not earlier.
func TestUnderLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, ledger := newSwaying(t)
		ledger.elect("m2")
		ctx, release := n.underLeader(t.Context(), "m2")
		ledger.elect("m2") // a change, but not of the leader
		synctest.Wait()
		if err := ctx.Err(); err != nil {
			t.Fatalf("ended while the leader was believed in: %v", err)
		}
		time.Sleep(time.Hour)
		ledger.elect("")
		synctest.Wait()
		if err := context.Cause(ctx); !errors.Is(err, errOtherLeader) {
			t.Fatalf("the leader is gone: %v", err)
		}
		release()

		// A leader that is replaced from the start, and a release before any change.
		ctx, release = n.underLeader(t.Context(), "m2")
		<-ctx.Done()
		release()
		ledger.elect("m3")
		ctx, release = n.underLeader(t.Context(), "m3")
		release()
		if err := context.Cause(ctx); fmt.Sprint(err) != context.Canceled.Error() {
			t.Errorf("released: %v", err)
		}
	})
}
