package masternode

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/wire"
)

func (n *Node) logSecret(group string) signing.Sealer {
	return signing.Sealer{Token: n.cfg.Log.Secret, Group: group}
}

// logOf reads the log's name and keys, the group that it is of, and the size of what is published.
func (n *Node) logOf() (keys masterfsm.Log, group string, published uint64) {
	n.cfg.Ledger.Read(func(s *masterfsm.State) { keys, group, published = s.Log(), s.Group().ID, s.Published().Boundary.Size })
	return keys, group, published
}

// Log tells the log's identity, as the leader knows it, and its witnesses, where the leader can be asked. Error: wire.ErrNoLeader.
func (n *Node) Log(ctx context.Context) (wire.Log, error) {
	if err := n.confirmShared(ctx); err != nil {
		return wire.Log{}, err
	}
	keys, _, published := n.logOf()
	l := wire.Log{Origin: keys.Origin, Keys: []wire.LogKey{}, Size: &published, Witnesses: n.cosigners(ctx)}
	n.cfg.Ledger.Read(func(s *masterfsm.State) { l.Quorum = int(s.Settings().WitnessQuorum) })
	for i := range keys.Keys {
		l.Keys = append(l.Keys, wireLogKey(keys, &keys.Keys[i]))
	}
	return l, nil
}

// cosigners are the witnesses as the leader sees them; none where it cannot be asked. Outsiders ask for them without a token: those who ask
// another master at the same time share one question to the leader.
func (n *Node) cosigners(ctx context.Context) []wire.Witness {
	if leading := n.leader.Status(); leading.Leads {
		return leading.Witnesses
	}
	id, url := n.knownLeader()
	if id == "" || url == "" || id == n.cfg.Member.ID {
		return nil
	}
	// Without an answer the log's keys are shown without witnesses.
	list, _ := n.cosigned.Do(ctx, struct{}{}, statusTimeout, func(ctx context.Context) ([]wire.Witness, error) {
		c, err := n.cfg.Masters.Cluster(ctx, url)
		return c.Witnesses, err
	})
	return list
}

func wireLogKey(of masterfsm.Log, k *masterfsm.LogKey) wire.LogKey {
	return wire.LogKey{ID: k.ID, VerifierKey: of.VerifierKey(k), Since: k.Since, Retired: k.Retired}
}

// AddLogKey makes a key that signs beside the others, and tells its public part. This master must lead: the error wraps [wire.ErrNotLeader]
// otherwise. Other errors: ErrNoLogKey where the log has no first key yet, wire.ErrTooMany.
func (n *Node) AddLogKey(ctx context.Context) (wire.LogKey, error) {
	if !n.leader.Leads() {
		return wire.LogKey{}, wire.ErrNotLeader
	}
	// The first key is the leader's to found. What cannot be opened here is under another cluster token, and the others would not open this one.
	if _, err := n.checkpointHere(); errors.Is(err, signing.ErrNoLogKey) {
		return wire.LogKey{}, err
	}
	keys, group, _ := n.logOf()
	key, err := signing.NewKey(keys.Origin)
	if err != nil {
		return wire.LogKey{}, err
	}
	added, err := n.leader.AddLogKey(ctx, key, group, false)
	if err != nil {
		return wire.LogKey{}, err
	}
	return wireLogKey(keys, added), nil
}

// RetireLogKey ends a key: it signs no more, and its private part leaves the table. To retire it again does nothing. It is refused where no
// other opens here, although others sign. This master must lead. Errors: wire.ErrNotLeader, wire.ErrNoLeader, masterfsm.ErrUnknownLogKey,
// wire.ErrLastKey.
func (n *Node) RetireLogKey(ctx context.Context, id string) error {
	if !n.leader.Leads() {
		return wire.ErrNotLeader
	}
	n.retiring.Lock()
	defer n.retiring.Unlock()
	if err := n.signsWithout(id); err != nil {
		return err
	}
	if _, err := n.leader.Propose(ctx, &masterfsm.RetireLogKey{ID: id, Time: n.leader.Now()}); err != nil {
		return err
	}
	n.log.Warn("a key of the log is retired", "id", id)
	return nil
}

// signsWithout reports why the log would not be signed without one of the keys that sign; what the table refuses by itself is left to it.
func (n *Node) signsWithout(id string) error {
	keys, group, _ := n.logOf()
	signing := keys.Signing()
	others := slices.DeleteFunc(slices.Clone(signing), func(k masterfsm.LogKey) bool { return k.ID == id })
	if len(others) == len(signing) || len(others) == 0 {
		return nil
	}
	for i := range others {
		if _, err := n.logSecret(group).Open(keys.Origin, &others[i]); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: %s; the others do not open under this cluster token: give the leader one of them with --checkpoint-key first", wire.ErrLastKey, id)
}
