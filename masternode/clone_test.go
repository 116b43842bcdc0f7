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

// TestClonedMasterAcknowledgesNothingOfTheOthers runs two masters with the same identity and boot number, whose
// submissions therefore have the same names. It checks that appends of the second are rejected at once: they are
// neither appended nor answered with the positions of the first one's records.
func TestClonedMasterAcknowledgesNothingOfTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, nil)
		defer r.stop()
		synctest.Wait()
		if level := r.table().Level; level != masterstest.Level {
			t.Fatalf("the group is at protocol level %d", level)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		clone := func() *Node {
			cfg := r.cfg
			cfg.Member = wire.Member{ID: "m2", URL: "http://m2"}
			cfg.Ledger, cfg.Masters = otherLedger{r.ledger}, masterAt("http://m1", r.Node)
			n, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			running.Go(func() { n.serve(ctx) })
			return n
		}
		first, second := clone(), clone()
		records := func() uint64 { return r.Cluster(t.Context()).Records }
		places := map[string]bool{}
		for i := range 2 * masterfsm.SubmissionWindow {
			before := records()
			done, err := first.Append(t.Context(), r.project, []Entry{{Payload: fmt.Append(nil, "first ", i)}}, "")
			if err != nil || len(done.Positions) != 1 || places[done.Positions[0].Leaf.String()] {
				t.Fatalf("append %d: %+v, %v", i, done, err)
			}
			places[done.Positions[0].Leaf.String()] = true

			started := time.Now()
			done, err = second.Append(t.Context(), r.project,
				[]Entry{{Payload: fmt.Append(nil, "second ", i)}, {Payload: []byte("more")}}, "")
			if !errors.Is(err, wire.ErrUnknownOutcome) || len(done.Positions) > 0 {
				t.Fatalf("append %d of the clone: %+v, %v", i, done, err)
			}
			if waited := time.Since(started); waited > 0 {
				t.Errorf("it waited %v although another try is of no use", waited)
			}
			if now := records(); now != before+1 {
				t.Fatalf("append %d: %d records were added, 1 was acknowledged", i, now-before)
			}
		}
	})
}

// TestRefusedMasterIsNotReady checks that a master whose folder is an older copy is not ready, and reports why.
func TestRefusedMasterIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0, nil)
		defer r.stop()
		if err := r.Ready(); err != nil {
			t.Fatal(err)
		}
		why := errors.New("an older copy: move it away")
		r.members.Mu.Lock()
		r.members.RefusedErr = why
		r.members.Mu.Unlock()
		if err := r.Ready(); !errors.Is(err, wire.ErrStaleFolder) || !errors.Is(err, why) {
			t.Errorf("ready: %v", err)
		}
	})
}
