package storagenode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/storagenode/tiles"
	"github.com/chainstore/chainstore/wire"
)

// checkJob is a check that runs, or the one that ran last.
type checkJob struct {
	job
	order  wire.CheckOrder
	began  time.Time
	blocks atomic.Uint64
	bytes  atomic.Uint64
	total  uint64
	end    atomic.Pointer[checkEnd] // nil while it runs
}

// checkEnd is how a check ended. It is not changed.
type checkEnd struct {
	at     time.Time
	report *wire.Report // nil where it ended early and found no damage until then
	err    string       // why it ended early, "" where it did not
}

func (c *checkJob) status() wire.CheckStatus {
	s := wire.CheckStatus{Check: c.order.Check, Blocks: c.blocks.Load(), Bytes: c.bytes.Load(), Total: c.total}
	at := time.Now()
	if end := c.end.Load(); end != nil {
		s.Report, s.Error, at = end.report, end.err, end.at
	}
	s.Millis = uint64(at.Sub(c.began).Milliseconds())
	return s
}

// checkAgain is how long a check that ended early is reported as such, before the next question starts it again. A
// current leader gives the check up at once and orders one of another name later. An older leader does not: see endOf.
const checkAgain = 10 * time.Second

// again reports whether a check is to be begun anew when somebody asks for it.
func (c *checkJob) again(pause time.Duration) bool {
	end := c.end.Load()
	return end != nil && end.report == nil && time.Since(end.at) > pause
}

// Check starts a check, or tells how it goes: an order with the name of the check that runs, or that ran last, starts nothing,
// any other ends the one that runs. A check that ended early is started again after a pause. The chain is read from
// the files as they are at their paths; puts and reads go on meanwhile. What
// can be computed from the blocks, tiles and index, is written again where it is wrong.
//
// The error wraps ErrFailed, or tells that a check cannot be begun.
func (n *Node) Check(o wire.CheckOrder) (wire.CheckStatus, error) {
	n.life.RLock()
	defer n.life.RUnlock()
	n.jobs.mu.Lock()
	defer n.jobs.mu.Unlock()
	if c := n.jobs.check; c != nil && c.order.Check == o.Check && !c.again(n.cfg.checkAgain) {
		return c.status(), nil
	}
	n.mu.Lock()
	stopped := n.stopped
	n.mu.Unlock()
	if n.jobs.closed || errors.Is(stopped, ErrFailed) {
		return wire.CheckStatus{}, fmt.Errorf("no check is begun: %w", errors.Join(ErrFailed, stopped))
	}
	if n.jobs.check != nil {
		n.jobs.check.stop()
	}
	o.Lost = slices.Clone(o.Lost)
	c := &checkJob{order: o, began: time.Now(), total: n.bytesBelow(o.Height)}
	n.jobs.check = c
	c.job = startJob(func(ctx context.Context) { n.runCheck(ctx, c) })
	return c.status(), nil
}

// bytesBelow is how many bytes of segments the blocks below a height have.
func (n *Node) bytesBelow(height uint64) (bytes uint64) {
	n.index.mu.RLock()
	defer n.index.mu.RUnlock()
	for block := range min(height, n.index.height) {
		bytes += segment.FrameHeader + uint64(n.index.at(block).Length)
	}
	return bytes
}

func (n *Node) runCheck(ctx context.Context, c *checkJob) {
	n.log.Info("check begins", "check", c.order.Check, "height", c.order.Height)
	report, err := n.check(ctx, c)
	if ctx.Err() != nil {
		return // nobody waits for it any more
	}
	for _, f := range report.Findings {
		n.log.Error("the check found damage", "block", f.Block, "what", f.What, "detail", f.Detail)
	}
	if err != nil {
		n.log.Error("the check ended early", "check", c.order.Check, "blocks", c.blocks.Load(), "of", c.order.Height,
			"error", err)
	} else {
		n.log.Info("check ended", "check", c.order.Check, "blocks", c.blocks.Load(), "bytes", c.bytes.Load(), "bad", chain.CountBlocks(report.Bad),
			"unchecked", c.order.Height-report.Unchecked, "other_chain", report.Other, "hashes_rewritten", report.Tiles)
	}
	c.end.Store(n.endOf(report, err))
}

// endOf makes what is answered about a check that has ended.
//
// A check that ended early and found no bad block has an error and no report. Older leaders do not know the error, and
// no report is safe with them: they read an Unchecked of 0, and one of the target's height, as "everything was looked
// at". They read any other number as damage, make the node Invalid and repair it again and again. Without a report they
// take the check as still running and keep asking. The node starts the check again from time to time until it can
// finish. The cost is that no other node is checked while an older leader leads and this node cannot finish.
//
// If bad blocks were found before the end, they are reported together with the first block that was not looked at,
// which is never 0 then. Every leader has the node repaired, and checked again before it may be Valid.
func (n *Node) endOf(report wire.Report, err error) *checkEnd {
	end := &checkEnd{at: time.Now(), report: &report}
	if err != nil {
		end.err = err.Error()
		if len(report.Bad) == 0 {
			end.report = nil
			return end // what was moved aside is named by the next check that finishes
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	report.Findings = append(n.moved, report.Findings...)
	report.Findings = report.Findings[:min(len(report.Findings), chain.MaxFindings)]
	n.moved = nil
	return end
}

// check runs one check. The error says why it ended early. The report then has what was found until that point.
func (n *Node) check(ctx context.Context, c *checkJob) (wire.Report, error) {
	o := c.order
	report := wire.Report{Unchecked: o.Height}
	misplaced, err := n.findMisplaced()
	if err != nil {
		return report, err
	}
	n.mu.Lock()
	if len(misplaced) > 0 {
		err = n.clear()
	}
	if err == nil {
		err = n.keepLost(o.Lost)
	}
	n.mu.Unlock()
	if err != nil {
		return report, err
	}
	// An index or tile that cannot be read makes the check one that ended early. The blocks are looked at nevertheless.
	var errs []error
	for _, look := range []func() error{
		func() error { return n.healIndex(ctx) },
		func() error { report.Tiles, err = n.returnTiles(); return err },
		func() error { return n.checkRecords(ctx) },
		func() error { return n.checkBlocks(ctx, c, &report) },
	} {
		if err := look(); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil || len(errs) > 0 && errors.Is(errs[len(errs)-1], ErrFailed) {
			break
		}
	}
	return report, errors.Join(errs...)
}

// checkBlocks is the part of a check that reads the blocks.
func (n *Node) checkBlocks(ctx context.Context, c *checkJob, report *wire.Report) error {
	o := c.order
	levels, err := tiles.Files(n.tilesDir())
	if err != nil {
		return err
	}
	defer closeAll(levels)
	for _, f := range levels {
		if f != nil {
			segment.Forget(f)
		}
	}
	a := n.newAudit(min(o.Height, n.index.Len()), levels)
	a.Lost = o.Lost
	a.entered = n.heed
	a.headerBad = func(seg uint64, err error) error {
		path := a.path(seg)
		n.log.Error("the damaged header of a segment is written again", "file", path, "error", err)
		if err := segment.RestoreHeader(n.cfg.open, path, seg); err != nil {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.fail(err)
		}
		return nil
	}
	pace := pacer{rate: o.Rate, began: time.Now()}
	a.read = func(ctx context.Context, bytes int64) error {
		c.blocks.Add(1)
		c.bytes.Add(uint64(bytes))
		return pace.wait(ctx, bytes)
	}
	runErr := a.run(ctx)
	report.Findings, report.Bad, report.Unchecked = a.findings, a.bad, a.unchecked
	if runErr != nil {
		report.Unchecked = c.blocks.Load()
		return runErr
	}
	if o.Height > a.Height && a.unchecked == a.Height {
		report.Unchecked = o.Height
		short := chain.Range{From: a.Height, To: o.Height}
		left := chain.CutRanges([]chain.Range{short}, o.Lost)
		if len(left) > 0 {
			a.find(chain.Finding{Block: left[0].From, What: chain.WrongShort, Detail: fmt.Sprintf(
				"the chain ends with %d blocks, %d are due", a.Height, o.Height)})
			report.Findings = a.findings
			for _, r := range left {
				report.Bad = chain.AddRange(report.Bad, r)
			}
		}
	}
	report.Bad = chain.BoundRanges(report.Bad, chain.MaxFindings)
	if a.Height != o.Height || !a.complete() {
		return n.healSynced()
	}
	if a.verifier.Head().Hash != o.Hash {
		// Where the last block is bad, its hash says nothing.
		report.Other = !slices.ContainsFunc(a.bad, func(r chain.Range) bool { return r.Holds(o.Height - 1) })
	} else {
		fixed, err := n.healTiles(ctx, a)
		report.Tiles += fixed
		if err != nil {
			return err
		}
	}
	return n.healSynced()
}

// newAudit makes an audit of the node's files.
func (n *Node) newAudit(height uint64, levels []*os.File) *Audit {
	return &Audit{
		Dir: n.segmentsDir(), Open: n.cfg.open, Index: &n.index, Height: height, Threads: n.cfg.CheckThreads,
		Levels: levels, TilesTo: ^uint64(0),
	}
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close() // only read
		}
	}
}

// heed makes the node go on with the segment that stands at its path, when that is not the one that it has open: somebody removed,
// replaced or emptied it. Blocks to come go to a new segment then.
func (n *Node) heed(seg uint64, there segment.File) error {
	var info os.FileInfo
	if there != nil {
		var err error
		if info, err = there.Stat(); err != nil {
			return err
		}
	}
	if n.files.stray(seg, info) {
		n.log.Error("a segment was removed or replaced while it was open", "file", segment.Name(seg))
		if err := n.files.forget(seg); err != nil {
			return err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.writer == nil || n.writer.First() != seg || errors.Is(n.stopped, ErrFailed) {
		return nil
	}
	mine, err := n.writer.Stat()
	if err != nil {
		return err
	}
	if info != nil && os.SameFile(mine, info) && mine.Size() >= n.writer.Size() {
		return nil
	}
	n.log.Error("the segment that blocks are written to was removed, replaced or cut; the next block begins a new one", "file", segment.Name(seg))
	if err := n.flushed(); err != nil {
		return err
	}
	full := n.writer
	n.writer = nil
	return full.Close()
}

// pacer keeps to a rate of bytes a second.
type pacer struct {
	rate  int64
	began time.Time
	bytes int64
}

// paceStep is the shortest wait that is worth a timer.
const paceStep = 5 * time.Millisecond

func (p *pacer) wait(ctx context.Context, bytes int64) error {
	if p.rate <= 0 {
		return nil
	}
	p.bytes += bytes
	due := time.Duration(float64(p.bytes) / float64(p.rate) * float64(time.Second))
	left := due - time.Since(p.began)
	if left < paceStep {
		return nil
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
