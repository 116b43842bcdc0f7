package masternode

import (
	"context"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/wire"
)

// Checkpoint is a tree that the group has signed.
type Checkpoint struct {
	Boundary masterfsm.Boundary
	Note     []byte // the signed note (C2SP tlog-checkpoint), with the cosignatures that the table has for it
}

// Checkpoint is the newest published checkpoint as the leader knows it: whichever master is asked, it is never older than one that another
// has shown before. Errors: ErrNoCheckpoint, ErrNoLogKey, wire.ErrNoLeader.
func (n *Node) Checkpoint(ctx context.Context) (Checkpoint, error) {
	if err := n.confirmShared(ctx); err != nil {
		return Checkpoint{}, err
	}
	return n.checkpointHere()
}

// checkpointHere is the newest published checkpoint that this master knows of. Errors: ErrNoLogKey, and ErrNoCheckpoint after a recovery, until
// what was shown before cannot be newer.
//
// Nothing is signed that is not committed: the boundary is the replicated table's, where one size has one root and nothing goes back, and Ed25519
// gives every master the same bytes for it.
func (n *Node) checkpointHere() (Checkpoint, error) { return n.signed((*masterfsm.State).Published) }

// witnessedHere is the newest checkpoint with cosignatures that this master knows of and that may be shown, which may be older than the published one,
// and is that where there is none. Errors: as checkpointHere.
func (n *Node) witnessedHere() (Checkpoint, error) { return n.signed((*masterfsm.State).Witnessed) }

// signed signs a checkpoint of the table.
func (n *Node) signed(which func(*masterfsm.State) masterfsm.Cosigned) (Checkpoint, error) {
	var c masterfsm.Cosigned
	var keys masterfsm.Log
	var group string
	var floor, published uint64
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		c, keys, group = which(s), s.Log(), s.Group().ID
		floor, published = s.Floor(), s.Published().Boundary.Height
	})
	signed, err := n.signer.Sign(n.logSecret(group), keys, c)
	if n.signer.IsNews(err) {
		n.log.Error("no checkpoint can be signed", "error", err)
	}
	if err == nil && published < floor {
		return Checkpoint{}, &checkpointWaitsError{floor: floor, published: published}
	}
	return Checkpoint{Boundary: c.Boundary, Note: signed}, err
}

// checkpointWaitsError is an [signing.ErrNoCheckpoint] after a recovery.
type checkpointWaitsError struct {
	floor     uint64 // the group may have shown a checkpoint of so many blocks before
	published uint64 // blocks of the newest that may be shown
}

func (e *checkpointWaitsError) message() wire.Message {
	return wire.Message{Code: wire.CodeCheckpointWaits, Args: wire.Args{"needed": e.floor, "blocks": e.published}}
}

// Error names the heights.
func (e *checkpointWaitsError) Error() string { return e.message().Text() }

// Unwrap gives [signing.ErrNoCheckpoint].
func (e *checkpointWaitsError) Unwrap() error { return signing.ErrNoCheckpoint }
