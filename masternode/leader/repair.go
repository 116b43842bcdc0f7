package leader

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// repair is what the leader remembers of a repair in progress. A new leader starts from the table while the two nodes
// continue.
type repair struct {
	ticket   string
	pieces   []wire.Piece // of what is missing, with proven hashes; nil before they are known
	attempt  uint64       // of the transfer
	began    time.Time    // when this leader first saw it
	moved    time.Time    // when the repair last made progress
	received bool         // nothing is missing any more
	blocks   uint64       // the most that the receiver said to have received
	checked  uint64       // the most that its check said to have read, in bytes
	heard    time.Time    // when the sender last answered, or was not needed
	answered bool         // status is set
	status   wire.ReceiveStatus
	check    wire.CheckStatus // of what the last check could not look at
	early    *wire.Aborted    // how that check ended, if it did not look at everything
	tried    tries            // the checks before that one
	unread   unreadHistory    // with that check
	others   bool             // other nodes count as copies
	level    uint64           // of the group
	failures int              // transfers in a row that ended early
}

// maxTransferFailures is how many transfers in a row may end early before another sender is chosen.
const maxTransferFailures = 5

// beginRepair finds out what an Invalid node lacks, chooses a sender, and commits that.
func (l *leadership) beginRepair(a action, view masterfsm.View, m *memory, now time.Time) job {
	n := view.Storage(a.node)
	candidates := map[string]candidate{}
	for i := range view.Storages {
		id := view.Storages[i].ID
		if m.live(id, now, l.pace) {
			failed := m.nodes[id].sendFailed
			candidates[id] = candidate{failed: !failed.IsZero() && now.Sub(failed) < l.pace.sendAgain}
		}
	}
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		ctx, cancel := context.WithTimeout(ctx, searchTimeout)
		defer cancel()
		status, err := l.statusOf(ctx, n)
		if err != nil {
			return nil, err
		}
		if status.Height > view.Head.Height {
			return nil, fmt.Errorf("%s has %d blocks, the masters know of %d: nothing is repaired downwards; "+
				"find out which of them is right",
				n.URL, status.Height, view.Head.Height)
		}
		keep, err := l.groupHeight(ctx, n, status)
		if err != nil {
			return nil, fmt.Errorf("find out which of its blocks are the group's: %w", err)
		}
		missing := chain.CommonRanges(chain.CutRanges(n.Bad, view.Confirmed), []chain.Range{{To: keep}})
		behind := chain.Range{From: keep, To: view.Head.Height}
		if i := status.Inbox; i.From <= i.To && i.To >= view.HeldFrom && i.To <= view.Head.Height {
			// Its inbox has the rest, as far as the masters do not hold it.
			behind.To = max(keep, status.Inbox.From)
		}
		if keep < view.HeldFrom {
			missing = chain.AddRange(missing, behind)
		}
		begin := &masterfsm.BeginRepair{ID: n.ID, Version: n.Version, Ticket: rand.Text(), Keep: keep}
		if keep == status.Height {
			begin.Keep = math.MaxUint64 // cut nothing, not even what came since
		}
		if len(missing) > 0 {
			sender, has := chooseSender(view, candidates, n.ID, missing)
			begin.Sender, begin.SenderVersion = sender.ID, sender.Version
			begin.Missing = chain.BoundRanges(has, chain.MaxFindings)
			if len(has) == 0 && (n.OnGroupChain || keep < view.HeldFrom && behind.Len() > 0) {
				return nil, fmt.Errorf("no storage node that answers has a good copy of the blocks %s",
					wire.RangesText(missing))
			}
		}
		begin.Time = l.Now()
		if _, err := l.Propose(ctx, begin); err != nil {
			return nil, err
		}
		l.log.Info("repair begins", "node", n.ID, "url", n.URL, "because", n.Cause.Text(), "keeps", keep,
			"missing", wire.RangesText(begin.Missing), "sender", begin.Sender)
		return func(m *memory, now time.Time) {
			m.node(n.ID).answered = now
			delete(m.repairs, n.ID)
		}, nil
	}
}

// groupHeight returns how many of a node's first blocks are the group's.
func (l *leadership) groupHeight(ctx context.Context, n masterfsm.Storage, status wire.StorageStatus) (uint64, error) {
	if status.Height == 0 {
		return 0, nil
	}
	var boundary masterfsm.Boundary
	var known bool
	l.cfg.Ledger.Read(func(s *masterfsm.State) { boundary, known = s.BoundaryAt(status.Height) })
	if known && boundary.Hash == status.Hash {
		return status.Height, nil
	}
	if !known {
		h, err := l.cfg.Prover.Header(ctx, status.Height-1)
		if err != nil {
			return 0, err
		}
		if h.Hash() == status.Hash {
			return status.Height, nil
		}
	}
	return l.commonHeight(ctx, n, status, status.Height)
}

// candidate is a node that answers and might send.
type candidate struct {
	failed bool // it recently failed as a sender
}

// chooseSender returns the node that should send, and what it has of the missing blocks. It prefers one that has not
// failed recently, then a Valid node that is not suspect, then the one that has most of them.
func chooseSender(
	view masterfsm.View, candidates map[string]candidate, receiver string, missing []chain.Range,
) (masterfsm.Storage, []chain.Range) {
	var best masterfsm.Storage
	var bestHas []chain.Range
	for _, n := range view.Storages {
		c, live := candidates[n.ID]
		if n.ID == receiver || !live || n.State != masterfsm.Valid && n.State != masterfsm.Invalid {
			continue
		}
		if n.State == masterfsm.Invalid && !n.OnGroupChain {
			continue // it may not be on the group's chain
		}
		has := chain.CutRanges(missing, n.Lacks(view.Head.Height))
		better := chain.CountBlocks(has) > chain.CountBlocks(bestHas)
		if len(has) > 0 && len(bestHas) > 0 {
			switch {
			case c.failed != candidates[best.ID].failed:
				better = !c.failed
			case trusted(&n) != trusted(&best):
				better = trusted(&n)
			}
		}
		if better {
			best, bestHas = n, has
		}
	}
	if len(bestHas) == 0 {
		return masterfsm.Storage{}, nil
	}
	return best, bestHas
}

func trusted(n *masterfsm.Storage) bool { return n.State == masterfsm.Valid && n.Due.IsZero() }

// repair has a Receiving node repaired, or polls that, and commits the result when it has ended.
func (l *leadership) repair(a action, view masterfsm.View, m *memory) job {
	n := view.Storage(a.node)
	r := m.repairs[n.ID]
	if r == nil || r.ticket != n.Ticket {
		r = &repair{ticket: n.Ticket, began: l.cfg.Clock(), moved: l.cfg.Clock(), heard: l.cfg.Clock()}
		m.repairs[n.ID] = r
	}
	r.tried, r.others, r.level = m.tried(&n), otherCopies(view, n.ID), view.Level
	turn := l.turn(&n, view, m)
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		ctx, cancel := context.WithTimeout(ctx, putTimeout)
		defer cancel()
		end, err := l.step(ctx, n, view.Storage(n.Peer), r, view.Confirmed)
		switch now := l.cfg.Clock(); {
		case end != nil:
		case now.Sub(r.heard) > l.pace.dead:
			end = l.failedRepair(n, r, wire.CodeSenderSilent, detailOf(err))
		case now.Sub(r.moved) > l.stallOf(r):
			end = l.failedRepair(n, r, wire.CodeStalled, wire.Args{"seconds": uint64(l.stallOf(r).Seconds())})
		case now.Sub(r.began) > turn:
			end = l.failedRepair(n, r, wire.CodeOthersWait, wire.Args{"seconds": uint64(turn.Seconds())})
		}
		if end == nil {
			return func(m *memory, now time.Time) {
				if err == nil {
					m.node(n.ID).answered = now
				}
				m.tasks[n.ID] = wire.Task{
					Kind: wire.TaskReceive, Peer: n.Peer, Blocks: r.status.Blocks, Height: n.Target.Height,
					Bytes: r.status.Bytes, Total: r.check.Total,
					Millis: l.Now() - min(l.Now(), n.Since),
				}
				if n.Peer != "" {
					m.tasks[n.Peer] = wire.Task{
						Kind: wire.TaskSend, Peer: n.ID, Blocks: r.status.Blocks, Height: n.Target.Height,
						Bytes: r.status.Bytes,
					}
				}
			}, err
		}
		end.ID, end.Version, end.Time = n.ID, n.Version, l.Now()
		_, err = l.Propose(ctx, end)
		if errors.Is(err, masterfsm.ErrBadCommand) {
			// What the node answered must not keep its repair from ending: it would be refused again and again.
			end = &masterfsm.EndRepair{
				ID: n.ID, Version: n.Version, Failed: masterfsm.Cause{
					Code: wire.CodeTransferFailed, Args: detailText("its answer was refused: " + err.Error()),
				}, Bad: n.Bad, Unchecked: n.Unchecked, Time: l.Now(),
			}
			_, err = l.Propose(ctx, end)
		}
		if err != nil {
			return nil, err
		}
		if !end.Failed.IsZero() {
			l.log.Error("repair ended early", "node", n.ID, "url", n.URL, "sender", n.Peer,
				"because", end.Failed.Text(), "blocks", end.Blocks)
		} else {
			l.log.Info("repair ended", "node", n.ID, "url", n.URL, "sender", n.Peer, "blocks", end.Blocks,
				"bytes", end.Bytes, "height", end.Height, "changed", end.Changed.Text())
		}
		return func(m *memory, now time.Time) {
			s := m.node(n.ID)
			s.answered, s.repairEnded = now, now
			if !end.Failed.IsZero() || end.Unchecked > 0 && len(end.Bad) == 0 {
				s.repairAgain = now.Add(l.pace.again)
			}
			switch {
			case end.Failed.Code == wire.CodeOthersWait:
				s.repairsCut++
			case end.Failed.IsZero():
				s.repairsCut = 0
			case n.Peer != "":
				m.node(n.Peer).sendFailed = now
			}
			switch {
			case r.early != nil:
				m.checkEnded(n.ID, r.tried, r.early, l.pace, now)
				m.node(n.ID).unread = r.unread
				m.node(n.ID).repairAgain = m.node(n.ID).checkAgain
			case end.Failed.IsZero() && n.Unchecked > 0: // its check has ended
				m.checkEnded(n.ID, r.tried, nil, l.pace, now)
				m.node(n.ID).unread = r.unread
			}
			delete(m.repairs, n.ID)
			delete(m.tasks, n.ID)
			delete(m.tasks, n.Peer)
		}, nil
	}
}

// step advances a repair. It returns the command that ends it, nil if it continues.
func (l *leadership) step(
	ctx context.Context, n, sender masterfsm.Storage, r *repair, confirmed []chain.Range,
) (*masterfsm.EndRepair, error) {
	if r.pieces == nil {
		pieces, err := l.pieces(ctx, n)
		if err != nil {
			return nil, err
		}
		r.pieces = pieces
	}
	order := wire.ReceiveOrder{Ticket: n.Ticket, Keep: n.Keep, Pieces: r.pieces}
	status, err := l.cfg.Workers.Receive(ctx, worker(n), l.order, order)
	if err != nil {
		return nil, fmt.Errorf("the receiver: %w", err)
	}
	status.Missing = missingOf(r.pieces, status.Missing)
	status.Blocks, status.Bytes = min(status.Blocks, countPieces(r.pieces)), plausible(status.Bytes)
	if status.Blocks > r.blocks {
		r.blocks, r.moved, r.failures = status.Blocks, l.cfg.Clock(), 0
	}
	r.answered, r.status = true, status
	if len(status.Missing) == 0 && saysComplete(&n) && !status.Complete {
		return nil, errors.New("the receiver does not say what is missing")
	}
	if len(status.Missing) > 0 {
		return l.send(ctx, n, sender, r)
	}
	r.heard = l.cfg.Clock()
	if !r.received {
		r.received, r.moved = true, r.heard
	}
	end := &masterfsm.EndRepair{
		Height: status.Height, Hash: status.Hash, Bad: r.stillBad(n),
		Blocks: status.Blocks, Bytes: status.Bytes, Changed: replaced(status.Changed),
	}
	if n.Unchecked == 0 {
		return end, nil
	}
	// The last check could not look at everything because of a hole that is closed now. The node must check the rest
	// before it is Valid.
	check, err := l.askCheck(ctx, n, wire.CheckOrder{
		Check: n.Ticket, Height: status.Height, Hash: status.Hash, Rate: l.cfg.CheckRate, Lost: confirmed,
		Unread: true, UnreadAll: r.level >= masterfsm.LevelResults,
	})
	if progress := plausible(check.Bytes) + min(check.Blocks, status.Height); err == nil && progress > r.checked {
		r.checked, r.moved = progress, l.cfg.Clock()
	}
	r.check = check
	if err != nil || check.Report == nil && check.Error == "" {
		return nil, err
	}
	if r.early, r.unread = r.tried.judge(&n, &check, status.Height, r.others); r.early != nil && nothingBad(check) {
		return l.failedRepair(n, r, wire.CodeCheckAborted, causeOf(r.early).Args), nil
	}
	end.Bad, end.Unchecked = badBelow(check.Report.Bad, status.Height), firstUnchecked(check.Report, status.Height)
	if r.early != nil {
		end.Unchecked = max(1, end.Unchecked) // it did not look at everything
	}
	end.Findings = findingsOf(check.Report)
	changed := status.Changed
	for _, f := range end.Findings {
		if f.What == chain.WrongFile { // the check after the repair reports other findings
			changed = append(changed, f.Detail.Text())
		}
	}
	end.Changed = replaced(changed)
	return end, nil
}

// turn returns how long a repair may take. It is not limited if no other node waits for a repair, or for a check that
// is not possible during the repair, since the last Valid node is not checked. What was received is not received again
// by the next repair of the node, but its check begins again, so each turn is longer than the last.
func (l *leadership) turn(n *masterfsm.Storage, view masterfsm.View, m *memory) time.Duration {
	now := l.cfg.Clock()
	w := planner{view: view, memory: m, pace: l.pace, now: now}
	for i := range view.Storages {
		other := &view.Storages[i]
		blocked := other.State == masterfsm.Sending || other.State == masterfsm.Valid && w.lastValid()
		if other.ID != n.ID && (w.needsRepair(other) || blocked && w.due(other)) {
			return longer(l.pace.repairTurn, m.node(n.ID).repairsCut)
		}
	}
	return math.MaxInt64
}

// stallOf returns how long a repair may make no progress.
func (l *leadership) stallOf(r *repair) time.Duration {
	if r.received {
		return l.pace.checkStall
	}
	return l.pace.stall
}

// longer returns a time limit after a number of tries that it ended: four times as long after each.
func longer(limit time.Duration, tries int) time.Duration {
	return limit << (2 * min(tries, 5))
}

// maxMissing bounds the ranges that a node may report as missing.
const maxMissing = 1024

// missingOf returns what a node reports as missing, as far as it is of the pieces. It joins what is beyond the number
// of ranges that are plausible.
func missingOf(pieces []wire.Piece, reported []chain.Range) []chain.Range {
	var list []chain.Range
	next := uint64(0)
	for _, r := range reported {
		if r.From < next || r.From >= r.To {
			continue // out of order
		}
		if next = r.To; len(list) == maxMissing {
			list[maxMissing-1].To = r.To
			continue
		}
		list = append(list, r)
	}
	var open []chain.Range
	for _, p := range pieces {
		open = append(open, p.Range)
	}
	return chain.CommonRanges(open, list)
}

func countPieces(pieces []wire.Piece) (blocks uint64) {
	for _, p := range pieces {
		blocks += p.Len()
	}
	return blocks
}

// send has the sender send what is still missing, or polls that.
func (l *leadership) send(ctx context.Context, n, sender masterfsm.Storage, r *repair) (*masterfsm.EndRepair, error) {
	if sender.ID == "" {
		return l.failedRepair(n, r, wire.CodeSenderGone, nil), nil
	}
	status, err := l.cfg.Workers.Send(ctx, worker(sender), l.order, wire.SendOrder{
		Ticket: n.Ticket, Attempt: r.attempt, To: n.URL, Pieces: unfinished(r.pieces, r.status.Missing),
	})
	if err == nil {
		r.heard = l.cfg.Clock()
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("the sender: %w", err)
	case status.Running:
		return nil, nil
	case status.Faulty:
		if _, err := l.Propose(ctx, &masterfsm.Suspect{
			ID: sender.ID, Time: l.Now(),
			Cause: masterfsm.Cause{Code: wire.CodeFaultySender, Args: detailText(status.Error)},
		}); err != nil {
			return nil, err
		}
		return l.failedRepair(n, r, wire.CodeSenderFailed, detailText(status.Error)), nil
	}
	r.attempt++
	if status.Error != "" {
		r.failures++
		err = fmt.Errorf("the transfer: %s", status.Error)
	}
	if r.failures >= maxTransferFailures {
		return l.failedRepair(n, r, wire.CodeTransferFailed, detailText(status.Error)), nil
	}
	return nil, err
}

// failedRepair returns the command that ends a repair early.
func (l *leadership) failedRepair(n masterfsm.Storage, r *repair, code string, args wire.Args) *masterfsm.EndRepair {
	return &masterfsm.EndRepair{
		Failed: masterfsm.Cause{Code: code, Args: args}, Bad: r.stillBad(n), Unchecked: n.Unchecked,
		Blocks: r.status.Blocks, Bytes: r.status.Bytes,
		Changed: replaced(r.status.Changed),
	}
}

// stillBad returns what is still bad of a node's blocks by its last answer, and all of it before the first answer. It
// includes the blocks that the repair lost.
func (r *repair) stillBad(n masterfsm.Storage) []chain.Range {
	var got []chain.Range
	if r.answered && (r.status.Blocks > 0 || len(r.status.Missing) == 0) {
		for _, p := range r.pieces {
			got = chain.AddRange(got, p.Range)
		}
		got = chain.CutRanges(got, r.status.Missing)
	}
	bad := chain.CutRanges(n.Bad, got)
	lost := badBelow(r.status.Lost, min(n.Height, r.status.Height))
	if len(lost) == 0 {
		return bad
	}
	for _, span := range lost {
		bad = chain.AddRange(bad, span)
	}
	return chain.BoundRanges(bad, chain.MaxFindings)
}

// abortRepair ends a repair whose receiver does not answer.
func (l *leadership) abortRepair(a action, view masterfsm.View) job {
	n := view.Storage(a.node)
	return l.propose(&masterfsm.EndRepair{
		ID: a.node, Version: a.version, Failed: masterfsm.Cause{Code: wire.CodeReceiverSilent},
		Bad: n.Bad, Unchecked: n.Unchecked, Time: l.Now(),
	})
}

// pieces divides the missing blocks into pieces and proves the hash of the last block of each. It leaves out what
// cannot be proven now.
func (l *leadership) pieces(ctx context.Context, n masterfsm.Storage) ([]wire.Piece, error) {
	pieces := []wire.Piece{}
	var last error
	for _, r := range n.Missing {
		for from := r.From; from < r.To; from += wire.MaxPiece {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			p := wire.Piece{Range: chain.Range{From: from, To: min(from+wire.MaxPiece, r.To)}}
			var err error
			if p.Hash, err = l.provenHash(ctx, n, p.To); err != nil {
				last = err
				continue
			}
			pieces = append(pieces, p)
		}
	}
	if len(pieces) == 0 && len(n.Missing) > 0 {
		return nil, last
	}
	return pieces, nil
}

// provenHash returns the hash of the last block of a chain of a height, by what the group has committed.
func (l *leadership) provenHash(ctx context.Context, n masterfsm.Storage, height uint64) (chain.Hash, error) {
	var boundary masterfsm.Boundary
	var known bool
	l.cfg.Ledger.Read(func(s *masterfsm.State) { boundary, known = s.BoundaryAt(height) })
	switch {
	case height == n.Target.Height:
		return n.Target.Hash, nil
	case known:
		return boundary.Hash, nil
	}
	h, err := l.cfg.Prover.Header(ctx, height-1)
	if err == nil {
		return h.Hash(), nil
	}
	// The next block has its hash.
	if next, nextErr := l.cfg.Prover.Header(ctx, height); nextErr == nil {
		return next.Prev, nil
	}
	return chain.Hash{}, err
}

// unfinished returns the pieces that are still missing, each from its first missing block on.
func unfinished(pieces []wire.Piece, missing []chain.Range) []wire.Piece {
	var left []wire.Piece
	for _, p := range pieces {
		if here := chain.CommonRanges(missing, []chain.Range{p.Range}); len(here) > 0 {
			p.From = here[0].From
			left = append(left, p)
		}
	}
	return left
}

// maxCause bounds the texts that the table keeps.
const maxCause = 500

// maxDetail bounds the detail of a finding, for which the table accepts 1024 bytes.
const maxDetail = 1000

func clip(s string) string { return clipTo(s, maxCause) }

func clipTo(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// detailOf returns an error as the argument of a cause.
func detailOf(err error) wire.Args {
	if err == nil {
		return detailText("no answer")
	}
	return detailText(err.Error())
}

// detailText returns a text as the argument of a cause, cut to what the table accepts.
func detailText(text string) wire.Args { return wire.Args{"detail": clip(text)} }

// replaced returns the cause of a repair that replaced bytes, as the node reports them.
func replaced(changed []string) masterfsm.Cause {
	const most = 4
	if len(changed) == 0 {
		return masterfsm.Cause{}
	}
	shown := slices.Clone(changed[:min(len(changed), most)])
	if len(changed) > most {
		shown = append(shown, fmt.Sprintf("and %d more", len(changed)-most))
	}
	return masterfsm.Cause{Code: wire.CodeBytesReplaced, Args: detailText(strings.Join(shown, "; "))}
}
