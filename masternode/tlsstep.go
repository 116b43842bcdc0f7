package masternode

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// TLSMode is the step of the move to TLS that the connections of a master follow.
type TLSMode interface {
	Step() wire.TLSStep
	// Advance follows the step of the table in an epoch of the group. An older one is ignored. After an error the
	// master must stop.
	Advance(epoch uint64, s wire.TLSState) error
}

// unmoved is the mode of a master whose group is never moved.
type unmoved struct{}

func (unmoved) Step() wire.TLSStep                  { return wire.TLSByFlags }
func (unmoved) Advance(uint64, wire.TLSState) error { return nil }

// followEvery is the time between two looks at the step of TLS in the table.
const followEvery = 50 * time.Millisecond

// TLSStep is the step of the move to TLS that this master follows.
func (n *Node) TLSStep() wire.TLSStep { return n.cfg.TLS.Step() }

// ownURL is this master's URL, as the table has it at the step that this master follows.
func (n *Node) ownURL() string { return n.TLSStep().URL(n.cfg.Member.URL) }

// followTLS takes the step of TLS from the table. After an error this master must stop: it has no certificates
// and the group requires TLS, for example.
func (n *Node) followTLS(ctx context.Context) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		var epoch uint64
		var state wire.TLSState
		n.cfg.Ledger.Read(func(s *masterfsm.State) { epoch, state = s.Group().Epoch, s.TLS() })
		if err := n.cfg.TLS.Advance(epoch, state); err != nil {
			return fmt.Errorf("follow the step of TLS: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// SetTLS changes the step of the move to TLS. This master must lead. A step that the table has is no error. Errors:
// wire.ErrNotLeader, wire.ErrUnavailable, wire.ErrBadRequest, masterfsm.ErrBadCommand, wire.ErrNotOnTLS.
func (n *Node) SetTLS(ctx context.Context, change wire.TLSChange) (wire.TLSChange, error) {
	if !n.leader.Leads() {
		return wire.TLSChange{}, wire.ErrNotLeader
	}
	n.changing.Lock() // no master joins meanwhile
	defer n.changing.Unlock()
	_, v := n.group()
	to := change.Step
	secured := n.cfg.Certificate() != nil
	switch {
	case to == wire.TLSByFlags || !to.Known():
		return wire.TLSChange{}, fmt.Errorf("%w: there is no step %q: give accept, prefer or require",
			wire.ErrBadRequest, to)
	case to == v.TLS.Step:
		return change, nil
	case v.Level < masterfsm.LevelTLSSteps:
		return wire.TLSChange{}, fmt.Errorf("%w: the step of TLS is changed from protocol level %d on, and the group "+
			"is at level %d: start all masters with the newest version", wire.ErrUnavailable, masterfsm.LevelTLSSteps,
			v.Level)
	case v.TLS.Step == wire.TLSByFlags && to == wire.TLSAccept && secured:
		return wire.TLSChange{}, fmt.Errorf("%w: the nodes of this group speak TLS already: go on with require",
			wire.ErrBadRequest)
	case to == wire.TLSRequire:
		if waiting := n.notOnTLS(v); len(waiting) > 0 {
			return wire.TLSChange{}, fmt.Errorf("%w: %s", wire.ErrNotOnTLS, strings.Join(waiting, "; "))
		}
	}
	c := &masterfsm.SetTLS{From: v.TLS.Step, To: to, Time: n.leader.Now()}
	if _, err := n.leader.Propose(ctx, c); err != nil {
		return wire.TLSChange{}, err
	}
	n.log.Warn("a person changed the step of TLS", "from", v.TLS.Step.Name(), "to", to.Name())
	return change, nil
}

// notOnTLS lists the nodes that are not ready for the step that requires TLS, each with the reason.
func (n *Node) notOnTLS(v masterfsm.View) (waiting []string) {
	uses := n.leader.Status().TLS
	check := func(kind, id, url string) {
		switch use := uses[id]; {
		case id == n.cfg.Member.ID:
			if n.cfg.Certificate() == nil {
				waiting = append(waiting, fmt.Sprintf("%s %s at %s, the leader, has no certificates", kind, id, url))
			}
		case use == nil:
			waiting = append(waiting, fmt.Sprintf("%s %s at %s has not answered this leader for a while; start it, "+
				"or remove it", kind, id, url))
		case !use.Secured:
			waiting = append(waiting, fmt.Sprintf("%s %s at %s answered in plain text", kind, id, url))
		case use.Step != v.TLS.Step:
			waiting = append(waiting, fmt.Sprintf("%s %s at %s does not know the step %s yet", kind, id, url,
				v.TLS.Step.Name()))
		}
	}
	for _, m := range n.cfg.Membership.Members() {
		check("master", m.ID, v.Master(m.ID).URL)
	}
	for i := range v.Storages {
		check("storage node", v.Storages[i].ID, v.Storages[i].URL)
	}
	for i := range v.Miners {
		check("miner", v.Miners[i].ID, v.Miners[i].URL)
	}
	return waiting
}
