package masternode

import (
	"context"
	"time"

	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/wire"
)

// clockNotices are the notices about the clocks of the masters and the time that records get.
func clockNotices(c leader.Clocks) []wire.Message {
	var notices []wire.Message
	seconds := func(d time.Duration) uint64 { return uint64(d.Abs() / time.Second) }
	for _, w := range c.Wrong {
		code := wire.CodeClockAhead
		if w.By < 0 {
			code = wire.CodeClockBehind
		}
		args := wire.Args{"node": w.Master, "seconds": seconds(w.By)}
		notices = append(notices, wire.Message{Code: code, Args: args})
	}
	if c.Disagree() {
		args := wire.Args{"count": uint64(c.Compared)}
		notices = append(notices, wire.Message{Code: wire.CodeClocksDisagree, Args: args})
	}
	if c.Majority && !c.Agrees {
		return notices // the time is right, and the leader's clock is among the wrong ones
	}
	switch args := (wire.Args{"seconds": seconds(c.Table)}); {
	case c.Table > 0:
		notices = append(notices, wire.Message{Code: wire.CodeTimeAhead, Args: args})
	case c.Table < 0:
		notices = append(notices, wire.Message{Code: wire.CodeTimeBehind, Args: args})
	}
	return notices
}

// SetTime moves the time of the group forward, unix milliseconds. This master must lead. Errors: wire.ErrNotLeader,
// wire.ErrBadRequest, wire.ErrUnavailable.
func (n *Node) SetTime(ctx context.Context, to uint64) (wire.TimeSet, error) {
	was, err := n.leader.SetTime(ctx, to)
	if err != nil {
		return wire.TimeSet{}, err
	}
	n.log.Warn("a person set the time of the group", "from", was, "to", to)
	return wire.TimeSet{Time: to, Was: was}, nil
}
