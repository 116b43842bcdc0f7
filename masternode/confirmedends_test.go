package masternode

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// found is the result of a read: the records or blocks that it shows, how many of them are hidden, and whether more may
// follow.
type found struct {
	shown, hidden int
	more          bool
}

// negative is a read whose answer depends on what this master's state lacks.
type negative struct {
	read   func(ctx context.Context, r *rig) (found, error)
	change func(r *rig) error // that this master does not have yet
	after  found              // what the read must show with it
	// short is what it may show without a confirmation, refused the error that it may give after one.
	short   found
	refused error
}

func blockRecords(from uint32, limit int) func(context.Context, *rig) (found, error) {
	return func(ctx context.Context, r *rig) (f found, err error) {
		list, more, err := r.BlockRecords(ctx, r.access, 0, from, limit)
		for i := range list {
			if list[i].Hidden {
				f.hidden++
			} else {
				f.shown++
			}
		}
		f.more = more
		return f, err
	}
}

func blocks(before uint64, limit int) func(context.Context, *rig) (found, error) {
	return func(ctx context.Context, r *rig) (found, error) {
		list, err := r.Blocks(ctx, before, limit)
		return found{shown: len(list)}, err
	}
}

func one(err error) (found, error) {
	if err != nil {
		return found{}, err
	}
	return found{shown: 1}, nil
}

// appendMore appends records that fill the open block and begin another one.
func appendMore(r *rig) error {
	_, err := r.Append(context.Background(), r.project, slices.Repeat([]Entry{{Payload: []byte("x")}}, 20), "")
	return err
}

// mineMore appends records and waits until two blocks are mined.
func mineMore(r *rig) error {
	err := errors.Join(appendMore(r), appendMore(r))
	time.Sleep(3 * time.Second)
	return err
}

func setPublic(name string, public bool) func(*rig) error {
	return func(r *rig) error {
		_, err := r.ChangeProject(context.Background(), name, wire.ProjectChange{Public: &public})
		return err
	}
}

// negatives are the ends and refusals of a master that has three records of its own project in the open block, a record
// of a private project behind them, and the legacy project, which is private.
var negatives = map[string]negative{
	"the end of an open block": {
		read: blockRecords(0, 100), change: appendMore,
		short: found{shown: 3, more: true}, after: found{shown: 15, hidden: 1},
	},
	"an empty page of an open block": {
		read: blockRecords(4, 100), change: appendMore, after: found{shown: 12},
	},
	"a page beyond an open block": {
		read: blockRecords(10, 100), change: appendMore, after: found{shown: 6},
	},
	"a full page of a block that was open": {
		read: blockRecords(4, 5), change: appendMore, after: found{shown: 5, more: true},
	},
	"hidden records": {
		read: blockRecords(0, 100), change: setPublic("private", true),
		short: found{shown: 3, more: true}, after: found{shown: 4},
	},
	"the list of the blocks": {
		read: blocks(math.MaxUint64, 50), change: mineMore, after: found{shown: 2},
	},
	"a page of blocks": {
		read: blocks(1, 1), change: mineMore, after: found{shown: 1},
	},
	"a private record": {
		read: func(ctx context.Context, r *rig) (found, error) {
			_, err := r.Record(ctx, r.access, 0, 3)
			return one(err)
		},
		change: setPublic("private", true), after: found{shown: 1}, refused: wire.ErrForbidden,
	},
	"a private record by its index": {
		read: func(ctx context.Context, r *rig) (found, error) {
			_, err := r.RecordByIndex(ctx, r.access, 3)
			return one(err)
		},
		change: setPublic("private", true), after: found{shown: 1}, refused: wire.ErrForbidden,
	},
	"the list of a private project": {
		read: func(ctx context.Context, r *rig) (found, error) {
			page, err := r.List(ctx, r.access, Query{Project: "private"}, 5)
			return found{shown: len(page.Records), more: page.More}, err
		},
		change: setPublic("private", true), after: found{shown: 1}, refused: wire.ErrForbidden,
	},
	"the stream of a private project": {
		read: func(ctx context.Context, r *rig) (found, error) {
			access := func(context.Context) (masterfsm.Access, error) { return r.access, nil }
			err := r.Stream(ctx, StreamQuery{Query: Query{Project: "private"}}, access, firstRecord{})
			if errors.Is(err, errSinkFull) {
				err = nil
			}
			return one(err)
		},
		change: setPublic("private", true), after: found{shown: 1}, refused: wire.ErrForbidden,
	},
	"the private legacy project": {
		read: func(ctx context.Context, r *rig) (found, error) {
			_, err := r.Legacy(ctx)
			return one(err)
		},
		change: setPublic(LegacyProject, true), after: found{shown: 1}, refused: wire.ErrForbidden,
	},
}

var errSinkFull = errors.New("the sink takes one record")

// firstRecord ends a stream with its first record.
type firstRecord struct{}

func (firstRecord) Records([]Record) error { return errSinkFull }
func (firstRecord) Alive(uint64) error     { return nil }

// newNegativesRig returns the master of negatives.
func newNegativesRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, 2, func(c *Config, _ *rig) { c.MaxAge = time.Hour })
	created, err := r.CreateProject(t.Context(), wire.NewProject{Name: "private"})
	if err != nil {
		t.Fatal(err)
	}
	other, err := r.Access(t.Context(), created.Token, mayAsk)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []masterfsm.Project{r.project, r.project, r.project, other.Project} {
		if _, err := r.Append(t.Context(), p, []Entry{{Payload: []byte("x")}}, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(r.CreateLegacy(t.Context()), setPublic(LegacyProject, false)(r)); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestEndsAndRefusalsAreConfirmed checks that a master whose state lacks the newest commands shows neither the end of a
// page or list nor a refusal without asking the leader, and that the answer has what was committed before the question.
func TestEndsAndRefusalsAreConfirmed(t *testing.T) {
	for name, c := range negatives {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newNegativesRig(t)
				defer r.stop()
				r.ledger.SetConfirm(func() error { return wire.ErrNotLeader })
				got, err := c.read(t.Context(), r)
				if got != c.short || c.short == (found{}) && !errors.Is(err, wire.ErrNoLeader) ||
					c.short != (found{}) && err != nil {
					t.Errorf("not confirmed: %+v, %v", got, err)
				}
				r.ledger.SetConfirm(func() error {
					r.ledger.SetConfirm(func() error { return nil })
					return c.change(r)
				})
				if got, err := c.read(t.Context(), r); err != nil || got != c.after {
					t.Errorf("behind: %+v, %v, want %+v", got, err, c.after)
				}
			})
		})
	}
}

// TestConfirmedEndsAndRefusals checks the answers of a master that has all that was committed.
func TestConfirmedEndsAndRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newNegativesRig(t)
		defer r.stop()
		for name, c := range negatives {
			if _, err := c.read(t.Context(), r); !errors.Is(err, c.refused) {
				t.Errorf("%s: %v, want %v", name, err, c.refused)
			}
		}
	})
}

// TestPositivePagesStayLocal checks that pages and lists that end in nothing that a newer state could change need no
// leader.
func TestPositivePagesStayLocal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newNegativesRig(t)
		defer r.stop()
		if err := mineMore(r); err != nil {
			t.Fatal(err)
		}
		var height uint64
		r.ledger.Read(func(s *masterfsm.State) { height = s.Head().Height })
		if height < 2 {
			t.Fatalf("%d blocks are mined", height)
		}
		r.ledger.SetConfirm(func() error { return wire.ErrNotLeader })
		for name, c := range map[string]struct {
			read func(context.Context, *rig) (found, error)
			want found
		}{
			"a full page of records":           {blockRecords(0, 2), found{shown: 2, more: true}},
			"the last page of a block":         {blockRecords(4, 100), found{shown: 12}},
			"a full last page of a block":      {blockRecords(4, 12), found{shown: 12}},
			"a page beyond a block":            {blockRecords(16, 1), found{}},
			"a full page of blocks":            {blocks(math.MaxUint64, int(height)), found{shown: int(height)}},
			"the first block":                  {blocks(1, 50), found{shown: 1}},
			"no block is before the first one": {blocks(0, 50), found{}},
		} {
			if got, err := c.read(t.Context(), r); err != nil || got != c.want {
				t.Errorf("%s: %+v, %v, want %+v", name, got, err, c.want)
			}
		}
	})
}

// TestNegativesShareQuestions checks that a storm of requests whose answers must be confirmed makes one question to the
// leader at a time.
func TestNegativesShareQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newNegativesRig(t)
		defer r.stop()
		leader := &countingLeader{ledger: r.ledger}
		n := &rig{Node: r.newFollower(t, masterAt("http://m1", leader)), ledger: r.ledger, access: r.access}
		began := time.Now()
		var callers sync.WaitGroup
		for range 20 {
			for _, c := range negatives {
				callers.Go(func() {
					if _, err := c.read(t.Context(), n); !errors.Is(err, c.refused) {
						t.Errorf("%v, want %v", err, c.refused)
					}
				})
				time.Sleep(time.Millisecond)
			}
		}
		callers.Wait()
		// Each question takes the leader a second, so this bounds how many were under way at a time.
		asked, took := leader.asked.Load(), time.Since(began)
		if asked == 0 || time.Duration(asked)*time.Second > took {
			t.Errorf("the leader got %d questions in %v", asked, took)
		} else if asked > 4 {
			t.Errorf("%d requests cost the leader %d questions", 20*len(negatives), asked)
		}
	})
}
