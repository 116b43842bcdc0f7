package masternode

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/wire"
)

// addNotices adds notices, as text and as codes.
func addNotices(texts *[]string, coded *[]wire.Message, list ...wire.Message) {
	*texts, *coded = append(*texts, wire.Texts(list)...), append(*coded, list...)
}

// logNotices are the notices about the log.
func (n *Node) logNotices(leading leader.Status) []wire.Message {
	notices := n.flagNotices()
	if keys, _, _ := n.logOf(); keys.Origin == "" {
		if len(leading.NoLogKeys) > 0 {
			args := wire.Args{"nodes": leading.NoLogKeys}
			notices = append(notices, wire.Message{Code: wire.CodeLogKeyWaits, Args: args})
		}
		return notices // else the leader is about to make it
	}
	var waits *checkpointWaitsError
	switch _, err := n.checkpointHere(); {
	case errors.As(err, &waits):
		notices = append(notices, waits.message())
	case err != nil:
		notices = append(notices, wire.Message{Code: wire.CodeNoCheckpoint, Args: wire.Args{"detail": err.Error()}})
	}
	return notices
}

// flagNotices are about flags of this master that have no effect on the log.
func (n *Node) flagNotices() []wire.Message {
	notices := []wire.Message{}
	keys, _, _ := n.logOf()
	if keys.Origin == "" {
		return notices
	}
	c := &n.cfg.Log
	if asked := cmp.Or(c.Origin, keys.Origin); asked != keys.Origin {
		args := wire.Args{"asked": asked, "origin": keys.Origin}
		notices = append(notices, wire.Message{Code: wire.CodeOriginIgnored, Args: args})
	}
	if c.Key == nil {
		return notices
	}
	known, ok := keys.Known(c.Key.Public())
	switch {
	case c.Key.Origin() != keys.Origin:
		notices = append(notices, wire.Message{
			Code: wire.CodeCheckpointKeyForeign, Args: wire.Args{"asked": c.Key.Origin(), "origin": keys.Origin},
		})
	case ok && !known.Signs():
		notices = append(notices, wire.Message{Code: wire.CodeCheckpointKeyRetired, Args: wire.Args{"key": known.ID}})
	case !ok && !n.leader.Leads():
		notices = append(notices, wire.Message{Code: wire.CodeCheckpointKeyWaits})
	}
	return notices
}

// levelNotices are the notices about the group's protocol level.
func levelNotices(leading leader.Status, level uint64) []wire.Message {
	if len(leading.Older) == 0 {
		return nil
	}
	return []wire.Message{{
		Code: wire.CodeLevelWaits,
		Args: wire.Args{"level": level, "next": uint64(masterfsm.ProtocolLevel), "nodes": leading.Older},
	}}
}

// fenceNotices name the workers that obey a later epoch.
func fenceNotices(leading leader.Status) []wire.Message {
	code := wire.CodeLaterEpoch
	if leading.Suspended {
		code = wire.CodeLaterEpochSuspended
	}
	var notices []wire.Message
	for _, id := range slices.Sorted(maps.Keys(leading.Later)) {
		args := wire.Args{"node": id, "epoch": leading.Later[id], "ours": leading.Epoch}
		notices = append(notices, wire.Message{Code: code, Args: args})
	}
	return notices
}

// witnessNotices are the notices about the witnesses.
func witnessNotices(list []wire.Witness, quorum int) []wire.Message {
	var notices []wire.Message
	well := len(list)
	for i := range list {
		if w := &list[i]; w.Error != "" {
			args := wire.Args{"name": w.Name, "url": w.URL, "state": string(w.State), "detail": w.Error}
			notices = append(notices, wire.Message{Code: wire.CodeWitnessDown, Args: args})
			well--
		}
	}
	if len(list) > 0 && well < quorum {
		args := wire.Args{"count": uint64(well), "needed": uint64(quorum)}
		notices = append(notices, wire.Message{Code: wire.CodeTooFewWitnesses, Args: args})
	}
	return notices
}

// abortedMany is how many checks of a node in a row must end early before there is a notice.
const abortedMany = 3

// abortedNotices reports that a node cannot be checked. It uses the leader's memory, so a new leader needs three checks
// of its own, which take seconds.
func abortedNotices(n *masterfsm.Storage, aborted map[string]wire.Aborted) []wire.Message {
	a, ok := aborted[n.ID]
	if !ok || a.Count < abortedMany {
		return nil
	}
	return []wire.Message{{Code: wire.CodeChecksEndEarly, Args: wire.Args{
		"node": n.ID, "count": uint64(a.Count), "blocks": a.Blocks, "height": a.Height, "detail": a.Error,
	}}}
}

func lostNotice(lost []chain.Range) wire.Message {
	shown := lost[:min(len(lost), wire.MaxMessageRanges)]
	args := wire.Args{"blocks": chain.CountBlocks(lost), "ranges": shown}
	return wire.Message{Code: wire.CodeLossUnconfirmed, Args: args}
}
