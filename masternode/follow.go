package masternode

import (
	"context"
	"errors"
)

// errOtherLeader ends a call on a leader that this master no longer believes in.
var errOtherLeader = errors.New("this master no longer believes in that leader")

// underLeader is ctx for a call on the leader: it also ends when this master no longer believes in that one. A leader that hangs
// would hold the call until its time is over, long after another has been elected. All calls on a leader may be repeated.
// release must be called when the call has ended.
func (n *Node) underLeader(ctx context.Context, leader string) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			changed := n.cfg.Ledger.Changed()
			if n.cfg.Ledger.Leader() != leader {
				cancel(errOtherLeader)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-watched
	}
}
