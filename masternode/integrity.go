package masternode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/wire"
)

// Integrity is how the storage nodes are, and the log of their damage and repairs, as the leader knows it. A master
// that cannot reach the leader answers from its own table, with a notice.
func (n *Node) Integrity(ctx context.Context) wire.Integrity {
	if i, err := n.LeaderIntegrity(ctx); err == nil {
		return i
	}
	i, err := askStatus(ctx, n, n.cfg.Masters.Integrity)
	if err != nil {
		i = n.integrity(leader.Status{})
		addNotices(&i.Notices, &i.NoticesCoded, wire.Message{Code: wire.CodeLocalView})
	}
	i.NoticesCoded = orNone(i.NoticesCoded) // of a leader before protocol level 2
	return i
}

// LeaderIntegrity is the integrity by this leader, confirmed if possible. The error wraps [wire.ErrNotLeader] if this
// master does not lead.
func (n *Node) LeaderIntegrity(ctx context.Context) (wire.Integrity, error) {
	if !n.leader.Leads() {
		return wire.Integrity{}, wire.ErrNotLeader
	}
	confirmed := n.confirmStatus(ctx)
	i := n.integrity(n.leader.Status())
	if i.Authoritative = confirmed; !confirmed {
		addNotices(&i.Notices, &i.NoticesCoded, wire.Message{Code: wire.CodeUnconfirmed})
	}
	return i, nil
}

func (n *Node) integrity(leading leader.Status) wire.Integrity {
	var nodes []masterfsm.Storage
	var log masterfsm.IntegrityLog
	n.cfg.Ledger.Read(func(s *masterfsm.State) { nodes, log = s.Storages(), s.IntegrityLog() })
	i := wire.Integrity{
		Nodes: []wire.NodeIntegrity{}, Lost: orNone(log.Lost), Confirmed: orNone(log.Confirmed),
		Totals: wire.Totals(log.Totals), Events: []wire.Event{},
	}
	for k := range nodes {
		i.Nodes = append(i.Nodes, nodeIntegrity(&nodes[k], leading))
	}
	for _, e := range slices.Backward(log.Events) {
		i.Events = append(i.Events, wire.Event{
			Number: e.Number, Time: e.Time, Kind: string(e.Kind), Node: e.Node, URL: e.URL, Source: e.Source,
			Cause:      e.Cause.Text(),
			CauseCoded: wire.Message(e.Cause),
			Findings:   findings(e.Findings), Ranges: e.Ranges, Blocks: e.Blocks, Bytes: e.Bytes, Millis: e.Millis,
		})
	}
	notices := noticeList{}
	notices.addLost(chain.CutRanges(log.Lost, log.Confirmed))
	for k := range nodes {
		notices.addAborted(&nodes[k], leading.Aborted)
	}
	i.Notices, i.NoticesCoded = wire.Texts(notices), notices
	return i
}

// findings returns findings in the form of the API, nil for none.
func findings(list []masterfsm.Finding) (found []wire.Finding) {
	for _, f := range list {
		found = append(found, wire.NewFinding(f.Block, f.What, wire.Message(f.Detail)))
	}
	return found
}

func orNone[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func nodeIntegrity(s *masterfsm.Storage, leading leader.Status) wire.NodeIntegrity {
	i := wire.NodeIntegrity{
		ID: s.ID, URL: s.URL, State: string(s.State), Live: leading.Live[s.ID], Height: s.Height,
		Bad: orNone(s.Bad), Checked: s.Checked,
		Cause: s.Cause.Text(), CauseCoded: wire.Message(s.Cause), Due: s.Due.Text(), DueCoded: wire.Message(s.Due),
	}
	if task, ok := leading.Tasks[s.ID]; ok {
		i.Task = &task
	}
	if a, ok := leading.Aborted[s.ID]; ok {
		i.Aborted = &a
	}
	return i
}

// findStorage returns the storage node of an id or an address. A negative answer is confirmed. Errors:
// wire.ErrNotFound, wire.ErrNoLeader.
func (n *Node) findStorage(ctx context.Context, idOrURL string) (found masterfsm.Storage, err error) {
	found, err = find(ctx, n, func(s *masterfsm.State) (masterfsm.Storage, bool) {
		nodes := s.Storages()
		at := slices.IndexFunc(nodes, func(s masterfsm.Storage) bool { return isNamed(s.ID, s.URL, idOrURL) })
		if at < 0 {
			return masterfsm.Storage{}, false
		}
		return nodes[at], true
	})
	if errors.Is(err, wire.ErrNotFound) {
		return masterfsm.Storage{}, fmt.Errorf("%w: no storage node has the id or address %q",
			wire.ErrNotFound, idOrURL)
	}
	return found, err
}

// isNamed reports whether a user means the node of an id and a URL, which may be "".
func isNamed(id, url, idOrURL string) bool {
	address := strings.TrimRight(idOrURL, "/")
	return id == idOrURL || url != "" && (url == address || url == "http://"+address || url == "https://"+address)
}

// CheckStorage makes a check of a storage node due at once. This master must lead. Errors: wire.ErrNotLeader,
// wire.ErrNotFound, wire.ErrNoLeader.
func (n *Node) CheckStorage(ctx context.Context, idOrURL string) (wire.NodeIntegrity, error) {
	if !n.leader.Leads() {
		return wire.NodeIntegrity{}, wire.ErrNotLeader
	}
	s, err := n.findStorage(ctx, idOrURL)
	if err != nil {
		return wire.NodeIntegrity{}, err
	}
	due, err := n.leader.SuspectStorage(ctx, s.ID, wire.CodeRequested, "")
	if err != nil {
		return wire.NodeIntegrity{}, err
	}
	return nodeIntegrity(due, n.leader.Status()), nil
}

// ConfirmLost records that a person has confirmed the loss of a block. This master must lead. Errors:
// wire.ErrNotLeader, wire.ErrNotLost.
func (n *Node) ConfirmLost(ctx context.Context, block uint64) (wire.Integrity, error) {
	var before bool
	n.cfg.Ledger.Read(func(s *masterfsm.State) { _, before = s.Lost(block) })
	if _, err := n.leader.Propose(ctx, &masterfsm.ConfirmLost{Block: block, Time: n.leader.Now()}); err != nil {
		return wire.Integrity{}, err
	}
	if !before {
		n.log.Warn("a person confirmed that a block is lost", "block", block)
	}
	i := n.integrity(n.leader.Status())
	i.Authoritative = true // the commit confirmed the leader
	return i, nil
}

// RemoveStorage removes a storage node permanently. This master must lead. Errors: wire.ErrNotLeader, wire.ErrNotFound,
// wire.ErrNoLeader, wire.ErrTooFewCopies.
func (n *Node) RemoveStorage(ctx context.Context, idOrURL string, force bool) error {
	s, err := n.findStorage(ctx, idOrURL)
	if err != nil {
		return err
	}
	removed := &masterfsm.RemoveStorage{ID: s.ID, Force: force, Time: n.leader.Now()}
	if _, err := n.leader.Propose(ctx, removed); err != nil {
		return err
	}
	n.log.Warn("storage node removed for good", "node", s.ID, "url", s.URL, "forced", force)
	return nil
}

// RemoveMiner removes a miner permanently. force has no effect. This master must lead. Errors: as of RemoveStorage.
func (n *Node) RemoveMiner(ctx context.Context, idOrURL string, _ bool) error {
	m, err := find(ctx, n, func(s *masterfsm.State) (masterfsm.Miner, bool) {
		miners := s.Miners()
		at := slices.IndexFunc(miners, func(m masterfsm.Miner) bool { return isNamed(m.ID, m.URL, idOrURL) })
		if at < 0 {
			return masterfsm.Miner{}, false
		}
		return miners[at], true
	})
	if errors.Is(err, wire.ErrNotFound) {
		return fmt.Errorf("%w: no miner has the id or address %q", wire.ErrNotFound, idOrURL)
	}
	if err != nil {
		return err
	}
	if _, err := n.leader.Propose(ctx, &masterfsm.RemoveMiner{ID: m.ID, Time: n.leader.Now()}); err != nil {
		return err
	}
	n.log.Warn("miner removed permanently", "node", m.ID, "url", m.URL)
	return nil
}

// Suspect handles the report of another master that a storage node answered wrong. This master must lead.
func (n *Node) Suspect(ctx context.Context, s wire.Suspicion) error {
	if s.ID == "" || s.Cause == "" {
		return fmt.Errorf("%w: id and cause are needed", wire.ErrBadRequest)
	}
	if !n.leader.Leads() {
		return wire.ErrNotLeader
	}
	if _, err := n.findStorage(ctx, s.ID); err != nil {
		return err
	}
	_, err := n.leader.SuspectStorage(ctx, s.ID, wire.CodeWrongAnswer, s.Cause)
	return err
}

// reportSuspects reports the nodes that answered wrong to the leader, until ctx ends. A report that cannot be delivered
// is dropped: a node that continues to answer wrong is reported again.
func (n *Node) reportSuspects(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-n.prover.Suspects():
			if err := n.report(ctx, s); err != nil && !errors.Is(err, wire.ErrNotFound) {
				n.log.Warn("a storage node that answered wrong could not be reported", "node", s.ID, "error", err)
			}
		}
	}
}

func (n *Node) report(ctx context.Context, s wire.Suspicion) error {
	_, err := leaderCall[struct{}]{
		local: func(ctx context.Context) (struct{}, error) { return struct{}{}, n.Suspect(ctx, s) },
		remote: func(ctx context.Context, url string) (struct{}, error) {
			return struct{}{}, n.cfg.Masters.Suspect(ctx, url, s)
		},
		again: anotherTry,
	}.do(ctx, n)
	return err
}
