package suite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// checkedPoll is how often the leader is asked whether a check has ended. The leader asks the node as often.
const checkedPoll = 100 * time.Millisecond

// underChecks runs do while one storage node after the other is checked at the default rate.
func (b *bench) underChecks(ctx context.Context, sys *system, s scenario, do func() error) (err error) {
	admin, err := client.New(client.Config{Masters: sys.cluster.File().Masters, Token: sys.cluster.File().Tokens.Admin})
	if err != nil {
		return err
	}
	defer admin.CloseIdle()
	before, err := admin.Integrity(ctx)
	if err != nil {
		return err
	}
	inner, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	begin := time.Now()
	go func() { ended <- keepChecking(inner, admin) }()
	err = do()
	elapsed := time.Since(begin)
	cancel()
	if err = errors.Join(err, <-ended); err != nil {
		return err
	}
	after, err := quiet(ctx, admin)
	if err != nil {
		return err
	}
	checks := after.Totals.Checks - before.Totals.Checks
	mib := float64(after.Totals.CheckedBytes-before.Totals.CheckedBytes) / (1 << 20)
	b.note("%s: %d checks ended meanwhile, of %.0f MiB in %.1f s (the rate's limit: %d MiB/s for each check).",
		s.name, checks, mib, elapsed.Seconds(), masternode.DefaultCheckRate>>20)
	switch {
	case after.Totals.BadBlocks > before.Totals.BadBlocks:
		err = fmt.Errorf("%s: the checks found bad blocks: %+v", s.name, after.Events)
	case checks == 0:
		err = fmt.Errorf("%s: no check ended within %v: let it run longer with --duration", s.name, elapsed)
	}
	return err
}

// keepChecking orders checks of one node after the other until ctx ends. Each begins when the last one has ended.
func keepChecking(ctx context.Context, admin *client.Client) error {
	for next := 0; ; next++ {
		state, err := quiet(ctx, admin)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if len(state.Nodes) == 0 {
			return errors.New("there are no storage nodes to check")
		}
		if _, err := admin.CheckStorage(ctx, state.Nodes[next%len(state.Nodes)].ID); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// quiet waits until no check is due or in progress.
func quiet(ctx context.Context, admin *client.Client) (state wire.Integrity, err error) {
	for {
		if state, err = admin.Integrity(ctx); err != nil || !anyCheck(state.Nodes) {
			return state, err
		}
		if rest(ctx, checkedPoll); ctx.Err() != nil {
			return state, ctx.Err()
		}
	}
}

func anyCheck(nodes []wire.NodeIntegrity) bool {
	for _, n := range nodes {
		if n.Due != "" || n.State == string(masterfsm.Validating) {
			return true
		}
	}
	return false
}
