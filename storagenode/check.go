package storagenode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/storagenode/folder"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/storagenode/tiles"
	"github.com/chainstore/chainstore/wire"
)

// checkJob is a check that runs, or the one that ran last.
type checkJob struct {
	job    *job
	order  wire.CheckOrder
	began  time.Time
	blocks atomic.Uint64
	bytes  atomic.Uint64
	total  uint64
	unread *wire.Report             // of the check's goroutine: blocks that the system could not read, nil for none
	reads  bool                     // of the same: unread blocks are on bad sectors, and the device reads others
	end    atomic.Pointer[checkEnd] // nil while it runs
}

// checkEnd is how a check ended. It is not changed.
type checkEnd struct {
	at     time.Time
	report *wire.Report // nil if it ended early and had found no damage
	unread *wire.Report // the blocks that the system could not read, nil for none
	reads  bool         // see wire.CheckStatus.DeviceReads
	err    string       // why it ended early, "" if it did not
}

func (c *checkJob) status() wire.CheckStatus {
	s := wire.CheckStatus{Check: c.order.Check, Blocks: c.blocks.Load(), Bytes: c.bytes.Load(), Total: c.total}
	at := time.Now()
	if end := c.end.Load(); end != nil {
		s.Report, s.Unread, s.Error, at = end.report, end.unread, end.err, end.at
		s.DeviceReads = end.reads
	}
	s.Millis = uint64(at.Sub(c.began).Milliseconds())
	return s
}

// checkAgain is how long a check that ended early is reported as such, before the next question starts it again. A
// current leader gives the check up at once and orders one of another name later. An older leader does not: see endOf.
const checkAgain = 10 * time.Second

// answers reports whether an order asks for this check. If it ended early, it is started again after the pause.
func (c *checkJob) answers(o wire.CheckOrder, pause time.Duration) bool {
	end := c.end.Load()
	return c.order.Check == o.Check && (end == nil || end.report != nil || time.Since(end.at) <= pause)
}

// Check starts a check, or returns the state of one. An order with the name of the check that runs, or that ran last,
// starts nothing; any other ends the one that runs. A check that ended early is started again after a pause. The
// chain is read from the files as they are at their paths. Puts and reads go on meanwhile. What can be computed from
// the blocks, tiles and index, is written again where it is wrong.
//
// The end of the context does not end a check. None is started after it.
//
// The error wraps ErrFailed, or is the cause of the context's end: a check cannot be started.
func (n *Node) Check(ctx context.Context, o wire.CheckOrder) (wire.CheckStatus, error) {
	answers := func(c *checkJob) bool { return c.answers(o, n.cfg.checkAgain) }
	start := func() (*checkJob, error) {
		o.Lost = slices.Clone(o.Lost)
		n.files.ends.Drop() // what was read wrong stays no longer than until the check that it leads to
		c := &checkJob{order: o, began: time.Now(), total: n.index.BytesBelow(o.Height)}
		if n.check != nil {
			c.job = n.check.job
		}
		c.job = startJob(c.job, func(ctx context.Context) { n.runCheck(ctx, c) })
		return c, nil
	}
	c, err := findOrStart(ctx, n, &n.check, answers, start)
	if err != nil {
		return wire.CheckStatus{}, fmt.Errorf("no check is started: %w", err)
	}
	return c.status(), nil
}

func (n *Node) runCheck(ctx context.Context, c *checkJob) {
	n.log.Info("check begins", "check", c.order.Check, "height", c.order.Height)
	report, err := n.checkAll(ctx, c)
	if ctx.Err() != nil {
		return // another order or the end of the node replaced it
	}
	for _, f := range report.Findings {
		n.log.Error("the check found damage", "block", f.Block, "what", f.What, "detail", f.Detail)
	}
	if err != nil {
		n.log.Error("the check ended early", "check", c.order.Check, "blocks", c.blocks.Load(), "of", c.order.Height,
			"error", err)
	} else {
		n.log.Info("check ended", "check", c.order.Check, "blocks", c.blocks.Load(), "bytes", c.bytes.Load(),
			"bad", chain.CountBlocks(report.Bad), "unchecked", c.order.Height-report.Unchecked,
			"other_chain", report.Other, "hashes_rewritten", report.Tiles)
	}
	end := n.endOf(report, err)
	end.unread, end.reads = c.unread, c.reads
	c.end.Store(end)
}

// endOf makes the answer about a check that has ended.
//
// A check that ended early and found no bad block has an error and no report. Older leaders do not know the error, and
// misread any report: an Unchecked of 0 or of the target's height as "everything was checked", any other number as
// damage, for which they repair the node again and again. Without a report they keep asking, and check no other node,
// until this node has started the check again and finished it.
//
// If bad blocks were found before the end, they are reported together with the first block that was not checked,
// which is never 0 then. Every leader has the node repaired, and checked again before it may be Valid.
func (n *Node) endOf(report wire.Report, err error) *checkEnd {
	report.Complete = err == nil
	end := &checkEnd{at: time.Now(), report: &report}
	if err != nil {
		end.err = err.Error()
		if len(report.Bad) == 0 {
			end.report = nil
			return end // the next check that finishes names what was moved aside
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	report.Findings = append(n.moved, report.Findings...)
	report.Findings = report.Findings[:min(len(report.Findings), chain.MaxFindings)]
	n.moved = nil
	return end
}

// checkAll runs one check. The error says why it ended early. The report then has what was found until that point.
func (n *Node) checkAll(ctx context.Context, c *checkJob) (wire.Report, error) {
	o := c.order
	report := wire.Report{Unchecked: o.Height}
	misplaced, err := n.dir.Misplaced()
	if err != nil {
		return report, err
	}
	if err := n.locked(func() error {
		if len(misplaced) > 0 {
			if err := n.moveMisplaced(); err != nil {
				return err
			}
		}
		return n.keepLost(o.Lost)
	}); err != nil {
		return report, err
	}
	// If the index or a tile cannot be read, the check counts as ended early. The blocks are checked nevertheless.
	var errs []error
	for _, part := range []func() error{
		func() error { return n.checkIndexFile(ctx) },
		func() error {
			return n.locked(func() (err error) { report.Tiles, err = n.checkTileFiles(); return err })
		},
		func() error { return n.checkRecords(ctx) },
		func() error { return n.checkBlocks(ctx, c, &report) },
	} {
		err := part()
		errs = append(errs, err)
		if ctx.Err() != nil || errors.Is(err, ErrFailed) {
			break
		}
	}
	return report, errors.Join(errs...)
}

// keepLost writes the blocks that are confirmed as lost to their file, if they changed. mu is held.
func (n *Node) keepLost(list []chain.Range) error {
	if written, err := n.dir.ReadLost(); err != nil || !slices.Equal(written, list) {
		if err := n.fail(n.cfg.writeFile(n.dir.Lost(), folder.EncodeLost(list), 0o600)); err != nil {
			return err
		}
	}
	n.lost = list
	return nil
}

// checkBlocks is the part of a check that reads the blocks.
func (n *Node) checkBlocks(ctx context.Context, c *checkJob, report *wire.Report) error {
	o := c.order
	levels, unopened := tiles.Files(n.cfg.open, n.dir.Tiles())
	defer tiles.CloseFiles(levels)
	for _, f := range levels {
		if f != nil {
			segment.Forget(f)
		}
	}
	a := n.newAudit(c, levels, unopened)
	runErr := a.Run(ctx)
	report.Findings, report.Bad, report.Unchecked = a.Findings, a.Bad, a.Unchecked
	if runErr != nil {
		report.Unchecked = c.blocks.Load()
		return runErr
	}
	if o.Height > a.Height && a.Unchecked == a.Height {
		report.Unchecked = o.Height
		short := chain.Range{From: a.Height, To: o.Height}
		left := chain.CutRanges([]chain.Range{short}, o.Lost)
		if len(left) > 0 {
			a.Report(wire.NewFinding(left[0].From, chain.WrongShort, wire.Message{
				Code: wire.CodeShortChain, Args: wire.Args{"blocks": a.Height, "height": o.Height},
			}))
			report.Findings = a.Findings
			for _, r := range left {
				report.Bad = chain.AddRange(report.Bad, r)
			}
		}
	}
	report.Bad = chain.BoundRanges(report.Bad, chain.MaxFindings)
	head, proven := a.Head()
	switch {
	case a.Height != o.Height || !proven:
	case head.Hash != o.Hash:
		// If the last block is bad, its hash means nothing.
		report.Other = !chain.HoldsBlock(a.Bad, o.Height-1)
	default:
		fixed, err := n.rewriteHashes(ctx, a)
		report.Tiles += fixed
		if err != nil {
			return err
		}
	}
	errs := []error{n.noteUnread(ctx, c, a, report), n.locked(n.checkSynced)}
	return errors.Join(append(errs, unopened...)...)
}

// noteUnread notes the blocks that the system cannot read. The error says that there are some: the check counts as
// one that ended early, although the other blocks were judged.
func (n *Node) noteUnread(ctx context.Context, c *checkJob, a *audit.Audit, report *wire.Report) error {
	u := &a.Unread
	if u.Err == nil {
		return nil
	}
	still, sectors, err := a.StillUnread(ctx)
	if err != nil {
		return err
	}
	if len(still) > 0 && (c.order.UnreadAll || chain.CountBlocks(u.Blocks) < a.Height) {
		bad := chain.BoundRanges(still, chain.MaxFindings)
		c.unread = &wire.Report{Findings: u.Findings, Bad: bad, Unchecked: report.Unchecked}
		c.reads = sectors && n.deviceReads()
	}
	blocks := chain.BoundRanges(u.Blocks, chain.MaxFindings)
	// A report of bad blocks must not say that all others are good; see endOf.
	report.Unchecked = min(report.Unchecked, max(1, blocks[0].From))
	return fmt.Errorf("%d blocks cannot be read, the first: %w", chain.CountBlocks(blocks), u.Err)
}

// deviceReads reports whether the device of the segments reads the file "running" now. If that is on another device
// than the segments, it is not known.
func (n *Node) deviceReads() bool {
	f, err := n.cfg.open(n.dir.Running(), os.O_RDONLY)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // only read
	segment.Forget(f)                // the file was synced when it was written
	var first [1]byte
	_, err = f.ReadAt(first[:], 0)
	return err == nil && sameDevice(n.dir.Running(), n.dir.Segments())
}

// sameDevice reports whether two paths are on one device.
func sameDevice(a, b string) bool {
	var one, other unix.Stat_t
	return unix.Stat(a, &one) == nil && unix.Stat(b, &other) == nil && one.Dev == other.Dev
}

// newAudit returns the audit of a check.
func (n *Node) newAudit(c *checkJob, levels []segment.File, unopened []error) *audit.Audit {
	began := time.Now()
	return audit.New(audit.Config{
		Segments: n.dir.Segments(), Open: n.cfg.open, Index: n.index, Height: min(c.order.Height, n.index.Len()),
		Threads: n.cfg.CheckThreads, Lost: c.order.Lost, Levels: levels, Unopened: unopened,
		TilesTo:     ^uint64(0),
		UnreadApart: c.order.Unread,
		Entered:     n.reconcileOpenFile,
		HeaderBad: func(first uint64, err error) error {
			n.log.Error("the damaged header of a segment is written again", "file", n.segmentPath(first), "error", err)
			return n.failUnlocked(segment.RestoreHeader(n.cfg.open, n.segmentPath(first), first))
		},
		Read: func(ctx context.Context, bytes int64) error {
			c.blocks.Add(1)
			return keepRate(ctx, c.order.Rate, began, c.bytes.Add(uint64(bytes)))
		},
	})
}

// reconcileOpenFile makes the node go on with the segment that is at its path, if something removed, replaced or
// emptied the one that it has open. there is nil if no segment is there. Later blocks go to a new segment then.
func (n *Node) reconcileOpenFile(seg uint64, there segment.File) error {
	var info os.FileInfo
	if there != nil {
		var err error
		if info, err = there.Stat(); err != nil {
			return err
		}
	}
	if n.files.replacedOnDisk(seg, info) {
		n.log.Error("a segment was removed or replaced while it was open", "file", segment.Name(seg))
		if err := n.files.forget(seg); err != nil {
			return err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.writer == nil || n.writer.First() != seg || n.failure != nil {
		return nil
	}
	mine, err := n.writer.Stat()
	if err != nil {
		return err
	}
	if info != nil && os.SameFile(mine, info) && mine.Size() >= n.writer.Size() {
		return nil
	}
	n.log.Error("the segment that is written was removed, replaced or cut; the next block begins a new one",
		"file", segment.Name(seg))
	if err := n.flushed(); err != nil {
		return err
	}
	return n.closeWriter()
}

// shortestWait is the shortest wait that is worth a timer.
const shortestWait = 5 * time.Millisecond

// keepRate waits until so many bytes since a time are no more than a rate in bytes a second allows; 0 for no limit.
func keepRate(ctx context.Context, rate int64, since time.Time, bytes uint64) error {
	if rate <= 0 {
		return nil
	}
	due := time.Duration(float64(bytes) / float64(rate) * float64(time.Second))
	left := due - time.Since(since)
	if left < shortestWait {
		return nil
	}
	select {
	case <-time.After(left):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
