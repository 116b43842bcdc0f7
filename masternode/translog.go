package masternode

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/wire"
)

// logOf returns the log's name and keys, its group, and the size of the published tree.
func (n *Node) logOf() (keys masterfsm.Log, group string, published uint64) {
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		keys, group, published = s.Log(), s.Group().ID,
			s.Published().Boundary.Size
	})
	return keys, group, published
}

// Log returns the log's identity, confirmed with the leader, and its witnesses if the leader answers. Error:
// wire.ErrNoLeader.
func (n *Node) Log(ctx context.Context) (wire.Log, error) {
	if err := n.confirm(ctx); err != nil {
		return wire.Log{}, err
	}
	keys, group, published := n.logOf()
	l := wire.Log{Origin: keys.Origin, Keys: []wire.LogKey{}, Size: &published, Witnesses: n.cosigners(ctx)}
	n.cfg.Ledger.Read(func(s *masterfsm.State) { l.Quorum = int(s.Settings().WitnessQuorum) })
	for i := range keys.Keys {
		l.Keys = append(l.Keys, wireLogKey(keys, &keys.Keys[i]))
	}
	l.Closed = n.closedLogs(keys, group)
	return l, nil
}

// cosigners returns the witnesses as the leader knows them, nil if it does not answer. No token is needed, so
// concurrent callers share one request to the leader.
func (n *Node) cosigners(ctx context.Context) []wire.Witness {
	if leading := n.leader.Status(); leading.Leads {
		return leading.Witnesses
	}
	// Without an answer the log's keys are shown without witnesses.
	list, _ := n.cosigned.Do(ctx, struct{}{}, statusTimeout, func(ctx context.Context) ([]wire.Witness, error) {
		c, err := askStatus(ctx, n, n.cfg.Masters.Cluster)
		return c.Witnesses, err
	})
	return list
}

func wireLogKey(of masterfsm.Log, k *masterfsm.LogKey) wire.LogKey {
	return wire.LogKey{ID: k.ID, VerifierKey: of.VerifierKey(k), Since: k.Since, Retired: k.Retired}
}

// AddLogKey adds a signing key and returns its public part. This master must lead. Errors: wire.ErrNotLeader,
// signing.ErrNoLogKey if the log has no first key yet, wire.ErrTooMany.
func (n *Node) AddLogKey(ctx context.Context) (wire.LogKey, error) {
	if !n.leader.Leads() {
		return wire.LogKey{}, wire.ErrNotLeader
	}
	// The leader founds the first key. If a key does not open here, it was sealed under another cluster token, and
	// other masters could not open the new one.
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

// RetireLogKey retires a key: it no longer signs, and its private part leaves the table. It may be repeated. It is
// refused if no other signing key opens on this master. This master must lead. Errors: wire.ErrNotLeader,
// wire.ErrNoLeader, masterfsm.ErrUnknownLogKey, wire.ErrLastKey.
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

// signsWithout returns an error if no other signing key than one opens here. What the table refuses is left to it.
func (n *Node) signsWithout(id string) error {
	keys, group, _ := n.logOf()
	signing := keys.Signing()
	others := slices.DeleteFunc(slices.Clone(signing), func(k masterfsm.LogKey) bool { return k.ID == id })
	if len(others) == len(signing) || len(others) == 0 {
		return nil
	}
	for i := range others {
		if _, err := n.cfg.Log.Sealer(group).Open(keys.Origin, &others[i]); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: %s; the others do not open under this cluster token: give the leader one of them with "+
		"--checkpoint-key first", wire.ErrLastKey, id)
}

// Checkpoint is a signed tree.
type Checkpoint struct {
	Boundary masterfsm.Boundary
	Note     []byte // the signed note (C2SP tlog-checkpoint), with the cosignatures that the table has for it
}

// Checkpoint returns the newest published checkpoint, confirmed with the leader: it is never older than one that
// another master has shown before. Errors: signing.ErrNoCheckpoint, signing.ErrNoLogKey, wire.ErrNoLeader.
func (n *Node) Checkpoint(ctx context.Context) (Checkpoint, error) {
	if err := n.confirm(ctx); err != nil {
		return Checkpoint{}, err
	}
	return n.checkpointHere()
}

// checkpointHere returns the newest published checkpoint that this master knows. Errors: signing.ErrNoLogKey, and after
// a recovery signing.ErrNoCheckpoint, until no newer one can have been shown before.
//
// Only committed boundaries are signed. The table has one root for one size and never goes back, and Ed25519 is
// deterministic, so all masters sign the same bytes.
func (n *Node) checkpointHere() (Checkpoint, error) { return n.signed((*masterfsm.State).Published) }

// witnessedHere returns the newest checkpoint with cosignatures that this master knows and may show. It may be older
// than the published one, and is that if there is none. Errors: as checkpointHere.
func (n *Node) witnessedHere() (Checkpoint, error) { return n.signed((*masterfsm.State).Witnessed) }

// signed returns a checkpoint of the table with its signatures.
func (n *Node) signed(which func(*masterfsm.State) masterfsm.Cosigned) (Checkpoint, error) {
	var c masterfsm.Cosigned
	var keys masterfsm.Log
	var group string
	var floor, published uint64
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		c, keys, group = which(s), s.Log(), s.Group().ID
		floor, published = s.Floor(), s.Published().Boundary.Height
	})
	signed, err := n.signer.Sign(n.cfg.Log.Sealer(group), keys, c)
	if n.signer.IsNews(err) {
		n.log.Error("no checkpoint can be signed", "error", err)
	}
	if err == nil && published < floor {
		return Checkpoint{}, &checkpointWaitsError{floor: floor, published: published}
	}
	return Checkpoint{Boundary: c.Boundary, Note: signed}, err
}

// checkpointWaitsError is [signing.ErrNoCheckpoint] after a recovery.
type checkpointWaitsError struct {
	floor     uint64 // the group may have shown a checkpoint of so many blocks before
	published uint64 // blocks of the newest that may be shown
}

func (e *checkpointWaitsError) message() wire.Message {
	return wire.Message{Code: wire.CodeCheckpointWaits, Args: wire.Args{"needed": e.floor, "blocks": e.published}}
}

// Error has the heights.
func (e *checkpointWaitsError) Error() string { return e.message().Text() }

// Unwrap gives [signing.ErrNoCheckpoint].
func (e *checkpointWaitsError) Unwrap() error { return signing.ErrNoCheckpoint }

// Tile returns the first width hashes, 1 to 256, of a tile of C2SP tlog-tiles, if the tree of the newest checkpoint has
// as many. It is final. Errors: wire.ErrNotFound, signing.ErrNoLogKey, wire.ErrNoLeader, wire.ErrUnavailable.
func (n *Node) Tile(ctx context.Context, level, index uint64, width int) ([]byte, error) {
	if err := n.published(ctx, level, index, width); err != nil {
		return nil, err
	}
	return n.prover.Tile(ctx, level, index, width)
}

// Entries returns the first width entries, 1 to 256, of the bundle below a tile of level 0: the data of leaves. It is
// final. Errors: those of Tile, prover.ErrBusy, and wire.ErrLost if the block of one of them is lost: the hash of its
// leaf remains, its data does not.
func (n *Node) Entries(ctx context.Context, index uint64, width int) ([]byte, error) {
	if err := n.published(ctx, 0, index, width); err != nil {
		return nil, err
	}
	return n.prover.Entries(ctx, index, width)
}

// published checks that the tree of the newest checkpoint has a tile. A negative answer is confirmed.
func (n *Node) published(ctx context.Context, level, index uint64, width int) error {
	err := n.newestHas(ctx, func(newest masterfsm.Boundary) error {
		if wire.WidthOfTile(level, index, newest.Size) < width {
			return errNotHere
		}
		return nil
	})
	if errors.Is(err, wire.ErrNotFound) {
		return fmt.Errorf("%w, and its tree no such tile, or not so many hashes in it", err)
	}
	return err
}

// PublishedBlock reads the header of a block that the newest checkpoint covers. It is final. The error for another
// block does not show whether it exists. Errors: those of Tile, and those of Block.
func (n *Node) PublishedBlock(ctx context.Context, number uint64) (chain.Header, error) {
	err := n.newestHas(ctx, func(newest masterfsm.Boundary) error {
		if number >= newest.Height {
			return errNotHere
		}
		return nil
	})
	if err != nil {
		return chain.Header{}, err
	}
	return n.Block(ctx, number)
}

// newestHas runs look with the boundary of the newest checkpoint. That look does not find what it needs is confirmed.
func (n *Node) newestHas(ctx context.Context, look func(newest masterfsm.Boundary) error) error {
	var newest masterfsm.Boundary
	err := n.confirmed(ctx, func() error {
		checkpoint, err := n.checkpointHere()
		if err != nil {
			return err
		}
		newest = checkpoint.Boundary
		return look(newest)
	})
	if errors.Is(err, wire.ErrNotFound) {
		return fmt.Errorf("%w: the newest checkpoint has %d leaves in %d blocks", err, newest.Size, newest.Height)
	}
	return err
}

// Consistency proves that the tree of one size is a prefix of that of a larger one. Both are within the newest
// checkpoint, whose size nil stands for. Errors: wire.ErrBadRequest, wire.ErrNotFound, signing.ErrNoLogKey,
// wire.ErrNoLeader, wire.ErrUnavailable.
func (n *Node) Consistency(ctx context.Context, from uint64, to *uint64) (wire.Consistency, error) {
	answer := wire.Consistency{From: from}
	err := n.newestHas(ctx, func(newest masterfsm.Boundary) error {
		if answer.To = newest.Size; to != nil {
			answer.To = *to
		}
		switch {
		case to != nil && from > *to:
			return fmt.Errorf("%w: from %d is beyond to %d", wire.ErrBadRequest, from, *to)
		case max(from, answer.To) > newest.Size:
			return errNotHere
		}
		return nil
	})
	if err == nil {
		answer.Proof, err = n.prover.Consistency(ctx, from, answer.To)
	}
	return answer, err
}

// closedLogs returns the logs that this one continues, with statements that its keys sign. There are none of these
// where no key opens here, as there are no checkpoints.
func (n *Node) closedLogs(of masterfsm.Log, group string) []wire.ClosedLog {
	var list []wire.ClosedLog
	for i := range of.Closed {
		c := &of.Closed[i]
		closed := wire.ClosedLog{
			Origin: c.Origin, Size: c.Size, Root: c.Root, Reason: c.Reason, Closed: c.Closed,
		}
		for k := range c.Keys {
			closed.VerifierKeys = append(closed.VerifierKeys, masterfsm.Log{Origin: c.Origin}.VerifierKey(&c.Keys[k]))
		}
		if c.Size > 0 {
			statement := wire.Closing{Origin: c.Origin, Size: c.Size, Root: c.Root, Reason: c.Reason}
			if signed, err := n.signer.SignText(n.cfg.Log.Sealer(group), of, statement.Text()); err == nil {
				closed.Statement = string(signed)
			}
		}
		list = append(list, closed)
	}
	return list
}

// CloseLog closes the log under its name and keys, and continues it under another name with a new key, which it
// returns. The last trusted checkpoint must be one of this log's tree. This master must lead. Errors:
// wire.ErrNotLeader, wire.ErrNoLeader, wire.ErrBadRequest, masterfsm.ErrBadCommand, masterfsm.ErrStale,
// wire.ErrNameTaken, wire.ErrNotFound, wire.ErrTooMany, signing.ErrNoCheckpoint.
func (n *Node) CloseLog(ctx context.Context, c wire.CloseLog) (wire.LogKey, error) {
	if !n.leader.Leads() {
		return wire.LogKey{}, wire.ErrNotLeader
	}
	if err := wire.CheckClosingReason(c.Reason); err != nil {
		return wire.LogKey{}, fmt.Errorf("%w: %w", wire.ErrBadRequest, err)
	}
	published, err := n.Checkpoint(ctx)
	if err != nil {
		return wire.LogKey{}, err
	}
	keys, group, _ := n.logOf()
	trusted := signing.Tree{Size: published.Boundary.Size, Root: published.Boundary.Root}
	if c.Trusted != "" {
		if trusted, err = signing.OpenCheckpoint(c.Trusted, keys); err != nil {
			return wire.LogKey{}, fmt.Errorf("%w: the trusted checkpoint: %w", wire.ErrBadRequest, err)
		}
		if err := n.inTree(ctx, trusted, published.Boundary); err != nil {
			return wire.LogKey{}, err
		}
	}
	key, err := signing.NewKey(c.Origin)
	if err != nil {
		return wire.LogKey{}, err
	}
	sealed, err := n.cfg.Log.Sealer(group).Seal(key)
	if err != nil {
		return wire.LogKey{}, err
	}
	added, err := leader.ProposeFor[*masterfsm.LogKey](ctx, n.leader, &masterfsm.CloseLog{
		From: keys.Origin, Size: trusted.Size, Root: trusted.Root, Reason: c.Reason, Origin: c.Origin,
		Public: key.Public(), Sealed: sealed, Time: n.leader.Now(),
	})
	if err != nil {
		return wire.LogKey{}, err
	}
	n.log.Warn("the log is closed under its former name, and continues under another", "closed", keys.Origin,
		"leaves", trusted.Size, "reason", c.Reason, "continues", c.Origin, "key", key.VerifierKey())
	return wireLogKey(masterfsm.Log{Origin: c.Origin}, added), nil
}

// inTree checks that a tree is a prefix of the published one. The error wraps wire.ErrBadRequest if it is not.
func (n *Node) inTree(ctx context.Context, tree signing.Tree, published masterfsm.Boundary) error {
	if tree.Size == 0 || tree.Size > published.Size {
		return fmt.Errorf("%w: the trusted checkpoint has %d leaves, and 1 to %d are published: if it is not forged, "+
			"this group has lost a part of the log, or has an older copy of it", wire.ErrBadRequest, tree.Size,
			published.Size)
	}
	path, err := n.prover.Consistency(ctx, tree.Size, published.Size)
	if err != nil {
		return err
	}
	hashes := make([][]byte, len(path))
	for i := range path {
		hashes[i] = path[i][:]
	}
	err = proof.VerifyConsistency(rfc6962.DefaultHasher, tree.Size, published.Size, hashes, tree.Root[:],
		published.Root[:])
	if mismatch := new(proof.RootMismatchError); errors.As(err, mismatch) {
		return fmt.Errorf("%w: the trusted checkpoint is not of this log's tree: its %d leaves have the root %v. It "+
			"is evidence of another tree under the log's key: keep it, and give one that is of this tree",
			wire.ErrBadRequest, tree.Size, chain.Hash(tree.Root))
	}
	return err
}
