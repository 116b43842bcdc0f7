package masternode

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
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
