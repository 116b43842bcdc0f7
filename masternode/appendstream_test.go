package masternode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masterfsm/streams"
	"github.com/chainstore/chainstore/wire"
)

// sentStream is an append stream whose records are all there, and that takes all answers.
type sentStream struct {
	left      []Entry
	positions []wire.Position
}

func (s *sentStream) Next(most int) ([]Entry, error) {
	n := min(most, len(s.left))
	entries := s.left[:n]
	if s.left = s.left[n:]; n == 0 {
		return nil, io.EOF
	}
	return entries, nil
}

func (*sentStream) Drain()       {}
func (*sentStream) Stop()        {}
func (*sentStream) Free(int)     {}
func (*sentStream) Begin() error { return nil }
func (*sentStream) Flush() error { return nil }

func (s *sentStream) Answer(_ uint64, positions []wire.Position) error {
	s.positions = append(s.positions, positions...)
	return nil
}

// stream appends entries to a stream of the rig's project, from a number on, with the rights of access.
func (r *rig) stream(
	ctx context.Context, access masterfsm.Access, id string, first uint64, entries ...Entry,
) ([]wire.Position, error) {
	s := &sentStream{left: entries}
	_, err := r.AppendStream(ctx, r.project, AppendStream{
		ID: id, First: first, Body: s, Sink: s,
		Access: func(context.Context) (masterfsm.Access, error) { return access, nil },
	})
	return s.positions, err
}

// TestReplaysNeedNoRoom checks that parts that were appended before are answered at once while new ones are refused,
// because of a quota or of the backlog, or wait.
func TestReplaysNeedNoRoom(t *testing.T) {
	entries := make([]Entry, 5)
	for i := range entries {
		entries[i].Payload = bytes.Repeat([]byte{byte(i + 1)}, 500)
	}
	one := uint64(1)
	quota := func(t *testing.T, r *rig, q wire.QuotaChange) {
		if _, err := r.ChangeProject(t.Context(), "p", wire.ProjectChange{Quota: &q}); err != nil {
			t.Fatal(err)
		}
	}
	for what, fill := range map[string]struct {
		fill func(t *testing.T, r *rig)
		want error
	}{
		"backlog": {func(t *testing.T, r *rig) {
			for {
				if _, err := r.Append(t.Context(), r.project, entries, ""); errors.Is(err, wire.ErrBacklog) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(10 * time.Second) // virtual time, until only appends can change the table
		}, wire.ErrBacklog},
		"size": {func(t *testing.T, r *rig) {
			quota(t, r, wire.QuotaChange{RecordBytes: &one})
		}, masterfsm.ErrOversize},
		"bytes": {func(t *testing.T, r *rig) {
			quota(t, r, wire.QuotaChange{BytesPerSecond: &one})
		}, masterfsm.ErrOversize},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 1, func(c *Config, _ *rig) { c.Settings.MaxPendingBytes = 10_000 })
				defer r.stop()
				at, err := r.stream(t.Context(), r.access, "s", 1, entries...)
				if err != nil {
					t.Fatal(err)
				}
				fill.fill(t, r)
				began := time.Now()
				again, err := r.stream(t.Context(), r.access, "s", 1, entries...)
				if err != nil || len(again) != len(at) || again[4].Leaf != at[4].Leaf || time.Since(began) > 0 {
					t.Errorf("sent again: %v, after %v: %v", again, time.Since(began), err)
				}
				again, err = r.stream(t.Context(), r.access, "s", 4, append(entries[3:5:5], entries[0])...)
				if !errors.Is(err, fill.want) || len(again) != 2 || again[1].Leaf != at[4].Leaf {
					t.Errorf("two that were sent again and a new one: %v, %v", again, err)
				}
			})
		})
	}
	t.Run("rate", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 1, nil)
			defer r.stop()
			rate := uint64(len(entries))
			quota(t, r, wire.QuotaChange{RecordsPerSecond: &rate})
			at, err := r.stream(t.Context(), r.access, "s", 1, entries...)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			for range 10 {
				again, err := r.stream(t.Context(), r.access, "s", 1, entries...)
				if err != nil || len(again) != len(at) || again[4].Leaf != at[4].Leaf || time.Since(began) > 0 {
					t.Fatalf("sent again: %v, after %v: %v", again, time.Since(began), err)
				}
			}
			if _, err := r.stream(t.Context(), r.access, "s", 6, entries[0]); err != nil || time.Since(began) == 0 {
				t.Errorf("a new record waits for its quota: %v after %v", err, time.Since(began))
			}
		})
	})
}

// waitingBody is the body of an append stream that brings nothing until it is stopped.
type waitingBody struct {
	sentStream
	stop chan struct{}
}

func (b *waitingBody) Next(int) ([]Entry, error) {
	<-b.stop
	return nil, io.EOF
}

// TestOneProjectCannotTakeAllStreams checks that the streams of one project leave room for those of others.
func TestOneProjectCannotTakeAllStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, nil)
		defer r.stop()
		other, err := r.CreateProject(t.Context(), wire.NewProject{Name: "other"})
		if err != nil {
			t.Fatal(err)
		}
		access, err := r.Access(t.Context(), other.Token, mayAsk)
		if err != nil {
			t.Fatal(err)
		}
		ended, stop := make(chan error, maxStreams), make(chan struct{})
		open := func(project masterfsm.Project) {
			b := &waitingBody{stop: stop}
			_, err := r.AppendStream(t.Context(), project, AppendStream{ID: "s", First: 1, Body: b, Sink: b})
			ended <- err
		}
		for range maxStreams {
			go open(r.project)
		}
		synctest.Wait()
		for range maxStreams - maxStreams/4 {
			select {
			case err := <-ended:
				if !errors.Is(err, wire.ErrTooManyStreams) {
					t.Fatal(err)
				}
			default:
				t.Fatal("one project has more than a quarter of all streams")
			}
		}
		for range maxStreams / 4 {
			go open(access.Project)
		}
		synctest.Wait()
		select {
		case err := <-ended:
			t.Errorf("a stream of another project ended: %v", err)
		default:
		}
		close(stop)
		for range maxStreams / 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if len(r.appending.byProject) > 0 || r.appending.taken != 0 {
			t.Errorf("%d streams are counted in the end", r.appending.taken)
		}
	})
}

// TestNamedStreamsAreNotForgotten checks that a stream whose id a client has chosen does not begin again because of
// other streams, and that there is room for one more when it was removed.
func TestNamedStreamsAreNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, nil)
		defer r.stop()
		record := Entry{Payload: []byte("once")}
		at, err := r.stream(t.Context(), r.access, "mine", 1, record)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 * streams.Named {
			_, err := r.stream(t.Context(), r.access, fmt.Sprint("other", i), 1, record)
			if full := i >= streams.Named-1; full != errors.Is(err, wire.ErrTooMany) || !full && err != nil {
				t.Fatalf("stream %d: %v", i, err)
			}
		}
		if again, err := r.stream(t.Context(), r.access, "mine", 1, record); err != nil || again[0].Leaf != at[0].Leaf {
			t.Errorf("sent again: %v, %v; at first %v", again, err, at)
		}
		if err := r.RemoveStream(t.Context(), r.project.ID, "other3"); err != nil {
			t.Fatal(err)
		}
		if err := r.RemoveStream(t.Context(), r.project.ID, "other3"); !errors.Is(err, wire.ErrUnknownStream) {
			t.Errorf("removed twice: %v", err)
		}
		if _, err := r.stream(t.Context(), r.access, "one more", 1, record); !errors.Is(err, nil) {
			t.Errorf("after one was removed: %v", err)
		}
		if _, err := r.stream(t.Context(), r.access, "two more", 1, record); !errors.Is(err, wire.ErrTooMany) {
			t.Errorf("a second one after one was removed: %v", err)
		}
	})
}

// TestOthersRecordsCannotBeGuessed checks that a token that may not read gets the same answer for a right and a wrong
// guess of a record that another token has appended to a stream, and the positions of records of its own.
func TestOthersRecordsCannotBeGuessed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, nil)
		defer r.stop()
		token := func(rights ...string) masterfsm.Access {
			created, err := r.CreateToken(t.Context(), "p", wire.NewToken{Label: "l", Rights: rights})
			if err != nil {
				t.Fatal(err)
			}
			a, err := r.Access(t.Context(), created.Token, mayAsk)
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		append1, append2, all := token("append"), token("append"), token("append", "read")
		records := []Entry{{Payload: []byte("secret 1")}, {Payload: []byte("secret 2")}, {Payload: []byte("own")}}
		wrong := Entry{Payload: []byte("a guess")}
		at, err := r.stream(t.Context(), append1, "s", 1, records[:2]...)
		if err != nil {
			t.Fatal(err)
		}
		own, err := r.stream(t.Context(), append2, "s", 3, records[2])
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, own...)
		for i, of := range records[:2] {
			_, right := r.stream(t.Context(), append2, "s", uint64(i+1), of)
			_, guessed := r.stream(t.Context(), append2, "s", uint64(i+1), wrong)
			if !errors.Is(right, wire.ErrForbidden) || guessed == nil || right.Error() != guessed.Error() {
				t.Errorf("number %d: %v for the record, %v for another one", i+1, right, guessed)
			}
		}
		if _, err := r.stream(t.Context(), append1, "s", 3, records[2]); !errors.Is(err, wire.ErrForbidden) {
			t.Errorf("the first token sends the record of the second one: %v", err)
		}
		if again, err := r.stream(t.Context(), append2, "s", 3, records[2]); err != nil || again[0].Leaf != at[2].Leaf {
			t.Errorf("its own record: %v, %v", again, err)
		}
		if again, err := r.stream(t.Context(), all, "s", 1, records...); err != nil || again[1].Leaf != at[1].Leaf {
			t.Errorf("a token that may read: %v, %v", again, err)
		}
		if _, err := r.stream(t.Context(), all, "s", 1, wrong); !errors.Is(err, wire.ErrStreamContent) {
			t.Errorf("another record by a token that may read: %v", err)
		}
	})
}
