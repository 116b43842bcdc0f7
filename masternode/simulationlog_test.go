package masternode

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// seenCheckpoint is a checkpoint that a client received.
type seenCheckpoint struct {
	Checkpoint
	began, ended int64 // beginning of the request and end of the response, as simulation.instants counts them
}

// rotateKeys adds and retires keys, through changing leaders, until ctx ends.
func (s *simulation) rotateKeys(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, s.dice.within("keys", time.Second))
		keys := logKeys(s.rig).Signing()
		var err error
		if len(keys) > 3 {
			err = s.RetireLogKey(ctx, keys[s.dice.draw("keys", len(keys))].ID)
		} else {
			_, err = s.AddLogKey(ctx)
		}
		if err != nil && !errors.Is(err, wire.ErrNotLeader) && !errors.Is(err, wire.ErrUnknownOutcome) &&
			ctx.Err() == nil {
			s.t.Errorf("the log's keys: %v", err)
		}
	}
}

// audit requests checkpoints from both masters until ctx ends.
func (s *simulation) audit(ctx context.Context, who string) {
	for ctx.Err() == nil {
		c := seenCheckpoint{began: s.instants.Add(1)}
		var err error
		if c.Checkpoint, err = s.anyMaster(who).Checkpoint(ctx); err == nil {
			c.ended = s.instants.Add(1)
			s.mu.Lock()
			s.seen = append(s.seen, c)
			s.mu.Unlock()
		} else if !errors.Is(err, wire.ErrNoLeader) && ctx.Err() == nil {
			s.t.Errorf("checkpoint: %v", err)
		}
		pause(ctx, s.dice.within(who, 300*time.Millisecond))
	}
}

// checkLog compares all received checkpoints with the final chain and with each other. They must form one history
// across the masters. Each must be signed by a present or former key of the log, and must not be older than one
// received before its request.
func (s *simulation) checkLog() {
	t, keys := s.t, logKeys(s.rig)
	var known []note.Verifier
	for i := range keys.Keys {
		v, err := note.NewVerifier(keys.VerifierKey(&keys.Keys[i]))
		if err != nil {
			t.Fatal(err)
		}
		known = append(known, v)
	}
	held := map[string]bool{} // notes that were already checked
	for i := range s.seen {
		c := &s.seen[i]
		for j := range s.seen {
			if later := &s.seen[j]; later.began > c.ended && later.Boundary.Size < c.Boundary.Size {
				t.Errorf("%d leaves were shown after %d", later.Boundary.Size, c.Boundary.Size)
			}
		}
		if held[string(c.Note)] {
			continue
		}
		held[string(c.Note)] = true
		n, err := note.Open(c.Note, note.VerifierList(known...))
		if err != nil || len(n.UnverifiedSigs) > 0 {
			t.Fatalf("%v\n%s", err, c.Note)
		}
		var signed log.Checkpoint
		if rest, err := signed.Unmarshal([]byte(n.Text)); err != nil || len(rest) > 0 || signed.Origin != keys.Origin ||
			signed.Size != c.Boundary.Size {
			t.Fatalf("%+v, %q, %v", signed, rest, err)
		}
		at := table(s.rig, func(table *masterfsm.State) masterfsm.Boundary {
			at, _ := table.BoundaryAt(c.Boundary.Height)
			return at
		})
		if c.Boundary.Height > 0 && at != c.Boundary || !bytes.Equal(signed.Hash, c.Boundary.Root[:]) {
			t.Errorf("signed %+v, the chain has %+v there", c.Boundary, at)
		}
	}
	if len(s.seen) == 0 {
		t.Error("nobody was shown a checkpoint")
	}
}
