package masternode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/chainstore/chainstore/internal/joining"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// Times of announcements.
const (
	announceEvery = 250 * time.Millisecond // between two looks at whether it is necessary
	announcePause = 2 * time.Second        // after one that failed
)

// announce keeps this master known to its group under its present addresses, and notices when the group continues
// without it. It has nothing to do while the table and raft both have this master as it is, and there is a leader. It
// returns nil when ctx ends. The error wraps [wire.ErrRemoved] or [wire.ErrOtherGroup] if this master must stop.
func (n *Node) announce(ctx context.Context) error {
	tick := time.NewTicker(announceEvery)
	defer tick.Stop()
	var again time.Time
	logged := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var removed bool
		n.cfg.Ledger.Read(func(s *masterfsm.State) { removed = s.MasterRemoved(n.cfg.Member.ID) })
		if removed {
			return n.retire(fmt.Errorf("%w: the table says so", wire.ErrRemoved))
		}
		if err := n.checkFailedSync(ctx); err != nil {
			return err
		}
		if n.cfg.Clock().Before(again) || n.isKnown() {
			continue
		}
		err := n.announceOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, wire.ErrRemoved):
			return n.retire(err)
		case errors.Is(err, wire.ErrOtherGroup):
			return err
		case err == nil || errors.Is(err, errNothingToAsk):
			continue
		}
		again = n.cfg.Clock().Add(announcePause)
		if text := err.Error(); text != logged {
			n.log.Warn("this master is not known to its group as it is now", "error", err)
			logged = text
		}
	}
}

// retire records that this master was removed from its group, so that it stays out.
func (n *Node) retire(why error) error {
	if errors.Is(why, wire.ErrRemoved) {
		return errors.Join(fmt.Errorf("this master was taken out of its group for good: %w", why),
			n.cfg.Membership.Retire())
	}
	return why
}

// isKnown reports whether the group has this master as it is, and has a leader.
func (n *Node) isKnown() bool {
	own := n.Member()
	if own.Group == "" || n.cfg.Ledger.LastContact() > maxSilence {
		return false
	}
	var v masterfsm.View
	n.cfg.Ledger.Read(func(s *masterfsm.State) { v = s.View() })
	if v.Level >= masterfsm.LevelJoining {
		own.Proof = &wire.JoinProof{Key: n.cfg.Key.Public(), Start: n.cfg.Boot}
	}
	return memberOf(n.cfg.Membership.Members(), v, own)
}

// proven returns the announcement of this master to a group, with its proof if the group's level has them, and with its
// ticket unless its table has this master. A new master that the founder has adopted has a group and no place in the
// table.
func (n *Node) proven(own wire.Member, group string, level uint64) wire.Member {
	own.Proof = nil
	if level >= masterfsm.LevelJoining {
		var ticket joining.Key
		var known bool
		n.cfg.Ledger.Read(func(s *masterfsm.State) {
			v := s.View()
			known = v.Master(own.ID).ID != ""
		})
		if !known {
			ticket = n.cfg.Ticket
		}
		own.Proof = joining.Prove(group, own, n.cfg.Boot, n.cfg.Key, ticket)
	}
	return own
}

// announceOnce asks one master after the other, until one has brought the announcement to the leader.
func (n *Node) announceOnce(ctx context.Context) error {
	own := n.Member()
	if own.Group == "" && len(n.cfg.Join) == 0 {
		return errNothingToAsk // the founder of the group adopts this master
	}
	if n.leader.Leads() {
		var level uint64
		n.cfg.Ledger.Read(func(s *masterfsm.State) { level = s.Level() })
		_, err := n.admit(ctx, n.proven(own, own.Group, level))
		return err
	}
	err := errNothingToAsk
	for _, url := range n.OtherURLs() {
		var answer wire.Announced
		if answer, err = n.announceTo(ctx, url, own); err == nil {
			if own.Group == "" {
				err = n.cfg.Membership.Adopt(wire.Adoption{
					Group: answer.Group, Epoch: answer.Epoch, Level: answer.Level, Member: own.ID,
				})
			}
			return err
		}
		if errors.Is(err, wire.ErrRemoved) || errors.Is(err, wire.ErrOtherGroup) || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// announceTo asks one master. It learns that master's own address first, since the one in raft's configuration may be
// old.
func (n *Node) announceTo(ctx context.Context, url string, own wire.Member) (wire.Announced, error) {
	asking, cancel := context.WithTimeout(ctx, answerTime)
	there, err := n.cfg.Masters.Member(asking, url)
	cancel()
	if err != nil {
		return wire.Announced{}, err
	}
	if own.Group != "" && there.Group == own.Group && there.ID != own.ID {
		n.checkEpoch(there)
		if n.isProven(there) {
			n.cfg.Membership.UpdateAddress(there)
		}
	}
	if there.Group == "" {
		return wire.Announced{}, fmt.Errorf("%s is new itself", url)
	}
	asking, cancel = context.WithTimeout(ctx, leaderWait+answerTime)
	defer cancel()
	// A leader of an older version would refuse them.
	own.Signs, own.Level, own.Time, own.Disk, own.Flags = false, 0, 0, wire.Disk{}, wire.AccessFlags{}
	own.Certificate, own.Secrets, own.TLS, own.AtRest, own.Key = nil, nil, nil, nil, ""
	answer, err := n.cfg.Masters.Announce(asking, url, n.proven(own, there.Group, there.Level), false)
	if errors.Is(err, wire.ErrRemoved) {
		err = n.checkRemoval(own, url, err)
	}
	return answer, err
}

// checkRemoval returns the error that this master was removed if a master whose key the table has signed it. Otherwise
// the returned error does not wrap [wire.ErrRemoved], and this master goes on: whoever has the cluster token could stop
// it permanently. Below protocol level 7, and for a new master, there are no keys to compare with.
func (n *Node) checkRemoval(own wire.Member, url string, err error) error {
	removed, signed := errors.AsType[*wire.RemovedError](err)
	var level uint64
	var key string
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		v := s.View()
		if level = v.Level; signed {
			key = v.Master(removed.Master).Key
		}
	})
	if own.Group == "" || level < masterfsm.LevelJoining || signed && removed.Master != own.ID &&
		removed.Epoch >= own.Epoch && joining.Signed(key,
		joining.Removal(own.Group, removed.Epoch, removed.Master, own.ID, own.Epoch), removed.Signature) {
		return err
	}
	return fmt.Errorf("%w: %s answers that this master was removed, and does not prove to be a member that this "+
		"master knows: %v", wire.ErrUnavailable, url, err)
}

// OtherURLs are the known URLs of other masters, present or past.
func (n *Node) OtherURLs() []string {
	urls := slices.Concat(n.cfg.Join, n.cfg.Peers)
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		for _, m := range s.View().Masters {
			urls = append(urls, m.URL)
		}
	})
	own := n.ownURL()
	var others []string
	for _, url := range urls {
		if url != "" && url != own && !slices.Contains(others, url) {
			others = append(others, url)
		}
	}
	return others
}
