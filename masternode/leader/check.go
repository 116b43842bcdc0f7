package leader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

const (
	// unreadMany is how many checks of a node in a row must fail to read a block before it counts as bad: the node's
	// copy of it is then received again.
	unreadMany = 3
	// abortedMany is how many checks of a node in a row must end early before the node does not count as a copy.
	abortedMany = 3
	// orderTimeout is how long a node may take to answer an order that starts work or polls it.
	orderTimeout = 5 * time.Second
	// searchTimeout is how long the search for the first block may take in which a node's chain differs.
	searchTimeout = 2 * time.Minute
)

// check has a Validating node check its chain, or polls that, and commits the result when it is done.
func (l *leadership) check(a action, view masterfsm.View, m *memory) job {
	n := view.Storage(a.node)
	tried := m.tried(&n)
	others := otherCopies(view, n.ID)
	order := wire.CheckOrder{
		Check: strconv.FormatUint(n.Version, 10), Height: n.Target.Height, Hash: n.Target.Hash,
		Rate: l.cfg.CheckRate, Lost: view.Confirmed, Unread: true, UnreadAll: view.Level >= masterfsm.LevelResults,
	}
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		status, err := l.askCheck(ctx, n, order)
		if err != nil {
			return nil, err
		}
		if status.Report == nil && status.Error == "" {
			return checking(n, status), nil
		}
		early, unread := tried.judge(&n, &status, n.Target.Height, others)
		end := &masterfsm.EndCheck{ID: n.ID, Version: n.Version}
		if early != nil && nothingBad(status) {
			end.Aborted = causeOf(early)
			end.Result = tried.result()
		} else if err := l.conclude(ctx, n, status, end); err != nil {
			return checking(n, status), err
		} else {
			end.Result = end.ResultOf()
		}
		if early != nil {
			end.Early = tried.early()
		}
		end.Time, end.Age = l.Now(), l.age()
		_, err = l.Propose(ctx, end)
		if errors.Is(err, masterfsm.ErrBadCommand) {
			// The report must not keep the check from ending: it would be refused again and again.
			early = &wire.Aborted{Error: clip("its report was refused: " + err.Error()), Height: n.Target.Height}
			end = &masterfsm.EndCheck{
				ID: n.ID, Version: n.Version, Aborted: causeOf(early), Result: tried.result(), Time: l.Now(),
				Age: l.age(), Early: tried.early(),
			}
			_, err = l.Propose(ctx, end)
		}
		if err != nil {
			return checking(n, status), err
		}
		l.logFindings(n, end)
		if early != nil && end.Aborted.IsZero() {
			// EndCheck clears the cause, and a repair looks only at what was found. So the check is made due again.
			again := &masterfsm.Suspect{ID: n.ID, Cause: causeOf(early), Time: l.Now()}
			if _, err := l.Propose(ctx, again); err != nil {
				l.log.Warn("a check that ended early could not be made due again", "node", n.ID, "error", err)
			}
		}
		return func(m *memory, now time.Time) {
			m.node(n.ID).answered = now
			delete(m.tasks, n.ID)
			m.checkEnded(n.ID, tried, early, l.pace, now)
			m.node(n.ID).unread = unread
		}, nil
	}
}

// tries is what is known of the checks of a storage node before the one at hand.
type tries struct {
	aborted int // how many in a row ended early
	unread  unreadHistory
}

// early is how many checks in a row ended early if another one did.
func (t tries) early() uint64 { return uint64(t.aborted) + 1 }

// result is the result of a check that ended early.
func (t tries) result() masterfsm.CheckResult {
	if t.early() >= abortedMany {
		return masterfsm.CheckNone
	}
	return masterfsm.CheckAborted
}

// judge returns why a check that has ended did not look at everything, nil if it did, and the history with this check.
// It adds to the report, as bad, the blocks that this check and those before it could not read. If the node can read
// no block, it does so only if there are other copies or its device can read: else the device may be back tomorrow, and
// no block is damaged.
func (t tries) judge(
	n *masterfsm.Storage, status *wire.CheckStatus, height uint64, others bool,
) (*wire.Aborted, unreadHistory) {
	early := endedEarly(n, *status, height)
	if early == nil {
		return nil, unreadHistory{}
	}
	if status.Unread == nil {
		return early, t.unread // nothing is known of the blocks
	}
	history, bad := t.unread.with(badBelow(status.Unread.Bad, height))
	if len(bad) > 0 && (others || status.DeviceReads || chain.CountBlocks(bad) < height) {
		unread := *status.Unread
		unread.Bad = bad
		unread.Findings = slices.DeleteFunc(slices.Clone(unread.Findings), func(f wire.Finding) bool {
			return !chain.HoldsBlock(bad, f.Block)
		})
		status.Report = withUnread(status.Report, &unread, height)
	}
	return early, history
}

// unreadHistory are the blocks that a storage node could not read in its last check, and in its last two.
type unreadHistory [unreadMany - 1][]chain.Range

// with returns the history with another check, and the blocks that it could not read for the third time.
func (h unreadHistory) with(unread []chain.Range) (unreadHistory, []chain.Range) {
	again := chain.CommonRanges(unread, h[unreadMany-2])
	for i := unreadMany - 2; i > 0; i-- {
		h[i] = chain.CommonRanges(unread, h[i-1])
	}
	h[0] = unread
	return h, again
}

// otherCopies reports whether a storage node other than one counts as a copy.
func otherCopies(view masterfsm.View, id string) bool {
	return slices.ContainsFunc(view.Storages, func(n masterfsm.Storage) bool { return n.ID != id && n.CountsAsCopy })
}

// conclude puts the findings of a check into a command.
func (l *leadership) conclude(
	ctx context.Context, n masterfsm.Storage, status wire.CheckStatus, end *masterfsm.EndCheck,
) error {
	report := status.Report
	end.Findings = findingsOf(report)
	end.Bad, end.Unchecked = badBelow(report.Bad, n.Target.Height), firstUnchecked(report, n.Target.Height)
	end.Tiles, end.Bytes, end.Millis = plausible(report.Tiles), plausible(status.Bytes), plausible(status.Millis)
	for _, f := range end.Findings {
		end.Strange = end.Strange || f.What == chain.WrongShort
	}
	if report.Other {
		return l.findFork(ctx, n, end)
	}
	return nil
}

// withUnread returns a report in which the blocks below a height that a node cannot read count as bad. report may be
// nil.
func withUnread(report, unread *wire.Report, height uint64) *wire.Report {
	all := *unread
	if report != nil {
		all = *report
		all.Findings = append(slices.Clone(report.Findings), unread.Findings...)
		all.Bad = badBelow(report.Bad, height)
		for _, r := range badBelow(unread.Bad, height) {
			all.Bad = chain.AddRange(all.Bad, r)
		}
		all.Bad = chain.BoundRanges(all.Bad, chain.MaxFindings)
	}
	return &all
}

// endedEarly returns why a check that has ended did not look at everything, nil if it did.
func endedEarly(n *masterfsm.Storage, status wire.CheckStatus, height uint64) *wire.Aborted {
	early := &wire.Aborted{Error: clip(status.Error), Blocks: status.Blocks, Height: height}
	switch {
	case status.Error != "":
		return early
	case status.Report.Unchecked == 0 && height > 0:
		// An older storage node does not give a reason. A check that finished has looked at the first block at least.
		early.Error, early.Blocks = "its report says that it could not look at the first block; its log says why", 0
		return early
	case saysComplete(n) && !status.Report.Complete:
		early.Error = "its report does not say that it is complete"
		return early
	}
	return nil
}

// saysComplete reports whether a storage node is of a version whose reports say that they are complete.
func saysComplete(n *masterfsm.Storage) bool { return n.Level >= masterfsm.LevelReports }

func causeOf(a *wire.Aborted) masterfsm.Cause {
	return masterfsm.Cause{
		Code: wire.CodeCheckAborted, Args: wire.Args{"blocks": a.Blocks, "height": a.Height, "detail": a.Error},
	}
}

// nothingBad reports whether a check that ended early has found no bad block, so that nothing needs a repair.
func nothingBad(status wire.CheckStatus) bool {
	return status.Report == nil || len(status.Report.Bad) == 0
}

// firstUnchecked returns the first block that a check could not look at, as commands have it: 0 means that all blocks
// were looked at. In reports the target's height means that, and 0 means block 0. So block 0 becomes 1 here: any number
// but 0 has the node checked again from block 0 on.
func firstUnchecked(report *wire.Report, height uint64) uint64 {
	if report.Unchecked >= height {
		return 0
	}
	return max(1, report.Unchecked)
}

// findingsOf returns the findings of a report, cut to what the table accepts. A command that the table refuses would be
// repeated without end.
func findingsOf(report *wire.Report) []masterfsm.Finding {
	var list []masterfsm.Finding
	for _, f := range report.Findings[:min(len(report.Findings), chain.MaxFindings)] {
		list = append(list, masterfsm.Finding{
			Block: f.Block, What: clipTo(f.What, maxCause), Detail: detailOfFinding(&f),
		})
	}
	return list
}

// detailOfFinding returns the detail of a node's finding: its code, if the table accepts that as a sentence too, and
// this program knows it. Otherwise it is the sentence of the node.
func detailOfFinding(f *wire.Finding) masterfsm.Cause {
	coded := masterfsm.Cause(f.DetailCoded)
	if f.DetailCoded.Known() && !coded.TooLong() && len(coded.Text()) <= maxDetail {
		return coded
	}
	return masterfsm.TextCause(clipTo(f.Detail, maxDetail))
}

// plausible bounds a number that a node reports and the table adds up, so that no sum overflows.
func plausible(reported uint64) uint64 { return min(reported, 1<<50) }

// badBelow returns the blocks that a node reports as bad, as far as they can be believed: below a height, in order, and
// in a bounded number of ranges. It ignores ranges beyond the number that a report may have.
func badBelow(bad []chain.Range, height uint64) (list []chain.Range) {
	for _, r := range bad[:min(len(bad), chain.MaxFindings)] {
		list = chain.AddRange(list, chain.Range{From: r.From, To: min(r.To, height)})
	}
	return chain.BoundRanges(list, chain.MaxFindings)
}

func (l *leadership) askCheck(
	ctx context.Context, n masterfsm.Storage, order wire.CheckOrder,
) (wire.CheckStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	return l.cfg.Workers.Check(ctx, worker(n), l.order, order)
}

// checking records the progress of a check in the memory.
func checking(n masterfsm.Storage, status wire.CheckStatus) func(*memory, time.Time) {
	return func(m *memory, now time.Time) {
		m.node(n.ID).answered = now
		m.checking.progress(&n, status, now)
		m.tasks[n.ID] = wire.Task{
			Kind: wire.TaskCheck, Blocks: status.Blocks, Height: n.Target.Height,
			Bytes: status.Bytes, Total: status.Total, Millis: status.Millis,
		}
	}
}

// statusOf asks a storage node for its status.
func (l *leadership) statusOf(ctx context.Context, n masterfsm.Storage) (wire.StorageStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	return l.cfg.Workers.StorageStatus(ctx, worker(n), l.order)
}

// abortCheck ends a check that the node did not finish: it does not answer, or takes too long.
func (l *leadership) abortCheck(a action, view masterfsm.View, m *memory) job {
	n, now, taken := view.Storage(a.node), l.cfg.Clock(), m.checking
	tried := m.tried(&n)
	end := &masterfsm.EndCheck{
		ID: a.node, Version: a.version, Aborted: masterfsm.Cause{Code: wire.CodeCheckUnfinished},
		Result: masterfsm.CheckAborted, Time: l.Now(), Age: l.age(), Early: uint64(tried.aborted),
	}
	if !m.live(a.node, now, l.pace) || taken.node != a.node || taken.version != a.version {
		return l.propose(end)
	}
	took := now.Sub(taken.began)
	end.Result, end.Early = tried.result(), tried.early()
	end.Aborted = masterfsm.Cause{Code: wire.CodeCheckOverdue, Args: wire.Args{
		"blocks": taken.blocks, "height": n.Target.Height, "seconds": uint64(took.Seconds()),
	}}
	early := &wire.Aborted{
		Error:  fmt.Sprintf("it has not ended after %v", took.Round(time.Second)),
		Blocks: taken.blocks, Height: n.Target.Height,
	}
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		if _, err := l.Propose(ctx, end); err != nil {
			return nil, err
		}
		l.log.Error("check takes too long and stays due", "node", n.ID, "url", n.URL, "because", end.Aborted.Text())
		return func(m *memory, now time.Time) {
			delete(m.tasks, n.ID)
			m.checkEnded(n.ID, tried, early, l.pace, now)
			// The others have as much time as this check took before its turn comes again.
			if again := now.Add(took); again.After(m.node(n.ID).checkAgain) {
				m.node(n.ID).checkAgain = again
			}
		}, nil
	}
}

// findFork adds to the findings where a node's chain leaves the group's. If that cannot be found out now, it names the
// last block, because the check must end so that other nodes can be checked. The repair looks for the fork again.
func (l *leadership) findFork(ctx context.Context, n masterfsm.Storage, end *masterfsm.EndCheck) error {
	status, err := l.statusOf(ctx, n)
	if err != nil {
		return err
	}
	end.Strange = true
	searching, cancel := context.WithTimeout(ctx, searchTimeout)
	defer cancel()
	keep, err := l.commonHeight(searching, n, status, min(status.Height, n.Target.Height))
	detail := masterfsm.Cause{Code: wire.CodeOtherChain, Args: wire.Args{"block": keep}}
	switch {
	case err != nil && (ctx.Err() != nil || n.Target.Height == 0):
		return fmt.Errorf("find the first block that differs: %w", err)
	case err != nil:
		keep, detail = n.Target.Height-1, masterfsm.Cause{Code: wire.CodeForkUnknown, Args: detailOf(err)}
	case keep >= n.Target.Height:
		return nil
	}
	end.Bad = chain.AddRange(end.Bad, chain.Range{From: keep, To: n.Target.Height})
	end.Findings = append(end.Findings, masterfsm.Finding{Block: keep, What: chain.WrongChain, Detail: detail})
	end.Findings = end.Findings[max(0, len(end.Findings)-chain.MaxFindings):]
	return nil
}

// commonHeight returns how many of a node's first height blocks are the group's. It searches by halves for the first
// header that differs from a proven one. All headers after that differ too, because they are linked.
func (l *leadership) commonHeight(
	ctx context.Context, n masterfsm.Storage, status wire.StorageStatus, height uint64,
) (uint64, error) {
	low, high := uint64(0), height // blocks below low are the group's; block high is not, unless it is the height
	for low < high {
		middle := low + (high-low)/2
		same, err := l.sameHeader(ctx, n, status, middle)
		if err != nil {
			return 0, err
		}
		if same {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, nil
}

// maxUnreadable bounds how many headers that a node cannot read are passed over.
const maxUnreadable = 16

// sameHeader reports whether a node's header is the group's. Where the group's header is lost, or the node cannot read
// its own now, the next one decides: headers are linked, so the blocks before equal ones are equal too. The error means
// that it is not known.
func (l *leadership) sameHeader(
	ctx context.Context, n masterfsm.Storage, status wire.StorageStatus, block uint64,
) (bool, error) {
	var unreadable error
	next := l.afterLost(block)
	for range maxUnreadable {
		if next >= status.Height {
			return false, unreadable // if it is nil: it is known that the last header differs
		}
		proven, err := l.cfg.Prover.Header(ctx, next)
		if err != nil {
			return false, err
		}
		same, err := l.hasHeader(ctx, n, status, next, proven.Hash())
		if errors.Is(err, wire.ErrUnavailable) {
			unreadable = err
			next = l.afterLost(next + 1)
			continue
		}
		if err != nil || same || next == block {
			return same, err
		}
		same, err = l.hasHeader(ctx, n, status, next-1, proven.Prev)
		if errors.Is(err, wire.ErrUnavailable) {
			return false, nil // its block is sent again, which does no harm
		}
		return same, err
	}
	return false, unreadable
}

// afterLost returns the first block from a block on that is not lost.
func (l *leadership) afterLost(block uint64) uint64 {
	var lost []chain.Range
	l.cfg.Ledger.Read(func(s *masterfsm.State) { lost = s.View().Lost })
	for _, r := range lost {
		if r.Holds(block) {
			block = r.To
		}
	}
	return block
}

// hasHeader reports whether a node has the header with a hash. A damaged header is another one. A node that answers
// with an error says nothing about its header.
func (l *leadership) hasHeader(
	ctx context.Context, n masterfsm.Storage, status wire.StorageStatus, block uint64, hash chain.Hash,
) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	headers, err := l.cfg.Workers.Headers(ctx, worker(n), block, 1, status.Size)
	if err != nil {
		return false, fmt.Errorf("read the header of block %d of the storage node %s: %w", block, n.URL, err)
	}
	return len(headers) == 1 && headers[0].Header.Block == block && headers[0].Header.Hash() == hash, nil
}

func (l *leadership) logFindings(n masterfsm.Storage, end *masterfsm.EndCheck) {
	log := l.log.With("node", n.ID, "url", n.URL)
	if !end.Aborted.IsZero() {
		log.Error("check ended early and stays due", "because", end.Aborted.Text())
		return
	}
	for _, f := range end.Findings {
		log.Error("check found damage", "block", f.Block, "what", f.What, "detail", f.Detail.Text())
	}
	if end.Tiles > 0 {
		log.Warn("check replaced wrong hashes of the tree on disk", "hashes", end.Tiles)
	}
	if len(end.Bad) > 0 || end.Strange || end.Unchecked > 0 {
		log.Error("check ended: the storage node is damaged", "bad", wire.RangesText(end.Bad),
			"blocks", n.Target.Height, "bytes", end.Bytes, "ms", end.Millis)
		return
	}
	log.Debug("check ended without findings", "blocks", n.Target.Height, "bytes", end.Bytes, "ms", end.Millis)
}
