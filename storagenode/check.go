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
	"github.com/chainstore/chainstore/httpapi/wire"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/storagenode/tiles"
)

// checkJob is a check that runs, or the one that ran last.
type checkJob struct {
	job
	order  wire.CheckOrder
	began  time.Time
	blocks atomic.Uint64
	bytes  atomic.Uint64
	total  uint64
	millis atomic.Uint64 // that it took, once it has ended
	report atomic.Pointer[wire.Report]
}

func (c *checkJob) status() wire.CheckStatus {
	s := wire.CheckStatus{
		Check: c.order.Check, Blocks: c.blocks.Load(), Bytes: c.bytes.Load(), Total: c.total, Report: c.report.Load(),
	}
	if s.Millis = c.millis.Load(); s.Report == nil {
		s.Millis = uint64(time.Since(c.began).Milliseconds())
	}
	return s
}

// Check starts a check, or tells how it goes: an order with the name of the check that runs, or that ran last, starts nothing,
// any other ends the one that runs. The chain is read from the files as they are at their paths; puts and reads go on meanwhile. What
// can be computed from the blocks, tiles and index, is written again where it is wrong.
//
// The error wraps ErrFailed, or tells that a check cannot be begun.
func (n *Node) Check(o wire.CheckOrder) (wire.CheckStatus, error) {
	n.life.RLock()
	defer n.life.RUnlock()
	n.jobs.mu.Lock()
	defer n.jobs.mu.Unlock()
	if c := n.jobs.check; c != nil && c.order.Check == o.Check {
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
		bytes += segment.FrameHeader + uint64(n.index.at(block).length)
	}
	return bytes
}

func (n *Node) runCheck(ctx context.Context, c *checkJob) {
	n.log.Info("check begins", "check", c.order.Check, "height", c.order.Height)
	report, err := n.check(ctx, c)
	if ctx.Err() != nil {
		return // nobody waits for it any more
	}
	if err != nil {
		n.log.Error("the check ended early", "check", c.order.Check, "blocks", c.blocks.Load(), "error", err)
		report.Unchecked = min(report.Unchecked, c.blocks.Load())
	}
	for _, f := range report.Findings {
		n.log.Error("the check found damage", "block", f.Block, "what", f.What, "detail", f.Detail)
	}
	c.millis.Store(uint64(time.Since(c.began).Milliseconds()))
	n.log.Info("check ended", "check", c.order.Check, "blocks", c.blocks.Load(), "bytes", c.bytes.Load(), "bad", chain.CountBlocks(report.Bad),
		"unchecked", c.order.Height-report.Unchecked, "other_chain", report.Other, "hashes_rewritten", report.Tiles)
	c.report.Store(&report)
}

// check is one check. Its error is the disk's.
func (n *Node) check(ctx context.Context, c *checkJob) (wire.Report, error) {
	o := c.order
	report := wire.Report{Unchecked: o.Height}
	n.mu.Lock()
	err := n.keepLost(o.Lost)
	n.mu.Unlock()
	if err != nil {
		return report, err
	}
	if err := n.healIndex(ctx); err != nil {
		return report, err
	}
	if report.Tiles, err = n.returnTiles(); err != nil {
		return report, err
	}
	if err := n.checkRecords(ctx); err != nil {
		return report, err
	}
	levels, err := tiles.Files(n.tilesDir())
	if err != nil {
		return report, err
	}
	defer closeAll(levels)
	for _, f := range levels {
		if f != nil {
			segment.Forget(f)
		}
	}
	a := n.newAudit(min(o.Height, n.index.len()), levels)
	a.lost = o.Lost
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
		return report, runErr
	}
	if o.Height > a.height && a.unchecked == a.height {
		report.Unchecked = o.Height
		short := chain.Range{From: a.height, To: o.Height}
		left := chain.CutRanges([]chain.Range{short}, o.Lost)
		if len(left) > 0 {
			a.find(chain.Finding{Block: left[0].From, What: chain.WrongShort, Detail: fmt.Sprintf(
				"the chain ends with %d blocks, %d are due", a.height, o.Height)})
			report.Findings = a.findings
			for _, r := range left {
				report.Bad = chain.AddRange(report.Bad, r)
			}
		}
	}
	report.Bad = chain.BoundRanges(report.Bad, chain.MaxFindings)
	if a.height != o.Height || !a.complete() {
		return report, n.healSynced()
	}
	if a.verifier.Head().Hash != o.Hash {
		// Where the last block is bad, its hash says nothing.
		report.Other = !slices.ContainsFunc(a.bad, func(r chain.Range) bool { return r.Holds(o.Height - 1) })
	} else {
		fixed, err := n.healTiles(ctx, a)
		report.Tiles += fixed
		if err != nil {
			return report, err
		}
	}
	return report, n.healSynced()
}

// newAudit makes an audit of the node's files.
func (n *Node) newAudit(height uint64, levels []*os.File) *audit {
	return &audit{
		dir: n.segmentsDir(), open: n.cfg.open, index: &n.index, height: height, threads: n.cfg.CheckThreads,
		levels: levels, tilesTo: ^uint64(0),
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
