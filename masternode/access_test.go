package masternode

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// countingLeader answers requests for the commit index after a second, and counts them.
type countingLeader struct {
	masterstest.Follower
	ledger *masterstest.Ledger
	asked  atomic.Int64
}

func (m *countingLeader) ReadIndex(ctx context.Context) (wire.ReadIndex, error) {
	m.asked.Add(1)
	time.Sleep(time.Second)
	return m.ledger.ReadIndex(ctx)
}

// TestUnknownTokensShareQuestions checks that requests with unknown tokens share their questions to the leader, and
// that a token of a form that none has needs no question.
func TestUnknownTokensShareQuestions(t *testing.T) {
	for name, c := range map[string]struct {
		token string
		most  int64
	}{
		"as they are made": {"", 2},
		"too short":        {strings.Repeat("A", 25), 0},
		"lower case":       {strings.Repeat("a", 26), 0},
		"no base32":        {"ABCDEFGHIJKLM1ABCDEFGHIJKL", 0},
		"empty":            {" ", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 0, nil)
				defer r.stop()
				leader := &countingLeader{ledger: r.ledger}
				n := r.newFollower(t, masterAt("http://m1", leader))
				var callers sync.WaitGroup
				for range 100 {
					token := c.token
					if token == "" {
						token = rand.Text()
					}
					callers.Go(func() {
						if _, err := n.Access(t.Context(), token, mayAsk); !errors.Is(err, wire.ErrUnauthorized) {
							t.Errorf("%q: %v", token, err)
						}
					})
					time.Sleep(time.Millisecond)
				}
				callers.Wait()
				if asked := leader.asked.Load(); asked > c.most {
					t.Errorf("100 requests cost the leader %d questions, want at most %d", asked, c.most)
				}
			})
		})
	}
}

// mayAsk lets a question to the leader pass.
func mayAsk() error { return nil }

// TestRefusedQuestions checks that the leader is not asked about an unknown token if the caller of Access refuses that,
// and that a known token needs no question.
func TestRefusedQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0, nil)
		defer r.stop()
		leader := &countingLeader{ledger: r.ledger}
		n := r.newFollower(t, masterAt("http://m1", leader))
		mayNot := func() error { return wire.ErrTooManyRequests }
		if _, err := n.Access(t.Context(), rand.Text(), mayNot); !errors.Is(err, wire.ErrTooManyRequests) {
			t.Error(err)
		}
		created, err := r.CreateProject(t.Context(), wire.NewProject{Name: "q"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Access(t.Context(), created.Token, mayNot); err != nil {
			t.Error(err)
		}
		if asked := leader.asked.Load(); asked != 0 {
			t.Errorf("the leader was asked %d times", asked)
		}
	})
}

// TestNewTokensAreAccepted checks that a token that was created during a confirmation is not refused by it, and that a
// new token has the form that a token can have.
func TestNewTokensAreAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0, nil)
		defer r.stop()
		if token := newToken(); !couldBeToken(token) {
			t.Errorf("a new token is %q", token)
		}
		var callers sync.WaitGroup
		begun := make(chan struct{})
		r.ledger.SetConfirm(func() error {
			r.ledger.SetConfirm(func() error { return nil })
			close(begun)
			time.Sleep(time.Second)
			return nil
		})
		callers.Go(func() {
			if _, err := r.Access(t.Context(), rand.Text(), mayAsk); !errors.Is(err, wire.ErrUnauthorized) {
				t.Errorf("an unknown token: %v", err)
			}
		})
		<-begun
		created, err := r.CreateProject(t.Context(), wire.NewProject{Name: "q"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Access(t.Context(), created.Token, mayAsk); err != nil {
			t.Errorf("a new token: %v", err)
		}
		callers.Wait()
	})
}

// TestProjectsInPieces checks that a list that is copied in several pieces has each project once.
func TestProjectsInPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0, nil)
		defer r.stop()
		for i := range 2*projectsAtOnce + 2 {
			if _, err := r.CreateProject(t.Context(), wire.NewProject{Name: fmt.Sprint("p", i)}); err != nil {
				t.Fatal(err)
			}
		}
		for _, limit := range []int{1, projectsAtOnce, projectsAtOnce + 1, 100_000} {
			list, err := r.Projects(t.Context(), 0, limit)
			if err != nil || len(list) != min(limit, 2*projectsAtOnce+3) {
				t.Errorf("limit %d: %d projects, %v", limit, len(list), err)
			}
			for i := range list {
				if i > 0 && list[i].ID <= list[i-1].ID {
					t.Fatalf("project %d follows %d", list[i].ID, list[i-1].ID)
				}
			}
		}
	})
}
