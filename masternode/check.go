package masternode

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi/wire"
	"github.com/chainstore/chainstore/masterfsm"
)

// orderTimeout is how long the answer to an order may take that starts work, or asks how it goes.
const orderTimeout = 5 * time.Second

// check has a Validating node check its chain, or asks how that goes, and commits what it found when it is done.
func (l *leadership) check(a action, view masterfsm.View) job {
	n := storageOf(view, a.node)
	order := wire.CheckOrder{
		Check: strconv.FormatUint(n.Version, 10), Height: n.Target.Height, Hash: n.Target.Hash,
		Rate: l.node.cfg.CheckRate, Lost: view.Confirmed,
	}
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		status, err := l.askCheck(ctx, n, order)
		if err != nil {
			return nil, err
		}
		if status.Report == nil {
			return checking(n, status), nil
		}
		end := &masterfsm.EndCheck{
			ID: n.ID, Version: n.Version, Tiles: status.Report.Tiles,
			Findings: status.Report.Findings[:min(len(status.Report.Findings), chain.MaxFindings)], Bad: below(status.Report.Bad, n.Target.Height), Bytes: status.Bytes, Millis: status.Millis,
		}
		if status.Report.Unchecked < n.Target.Height {
			end.Unchecked = status.Report.Unchecked
		}
		for _, f := range end.Findings {
			end.Strange = end.Strange || f.What == chain.WrongShort
		}
		if status.Report.Other {
			if err := l.findFork(ctx, n, end); err != nil {
				return checking(n, status), err
			}
		}
		end.Time = l.node.now()
		if _, err := l.node.propose(ctx, end); err != nil {
			return checking(n, status), err
		}
		l.logFindings(n, end)
		return func(m *memory, now time.Time) {
			m.of(n.ID).last = now
			delete(m.tasks, n.ID)
		}, nil
	}
}

// below is what a node reports as bad, as far as it can be believed: blocks below a height, in order, and not too many runs of them.
func below(bad []chain.Range, height uint64) (list []chain.Range) {
	for _, r := range bad {
		list = chain.AddRange(list, chain.Range{From: r.From, To: min(r.To, height)})
	}
	return chain.BoundRanges(list, chain.MaxFindings)
}

func (l *leadership) askCheck(ctx context.Context, n masterfsm.Storage, order wire.CheckOrder) (wire.CheckStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	return l.node.cfg.Workers.Check(ctx, worker(n), l.order, order)
}

// checking takes how a check goes into the memory.
func checking(n masterfsm.Storage, status wire.CheckStatus) func(*memory, time.Time) {
	return func(m *memory, now time.Time) {
		m.of(n.ID).last = now
		m.tasks[n.ID] = wire.Task{
			Kind: "check", Blocks: status.Blocks, Height: n.Target.Height, Bytes: status.Bytes, Total: status.Total, Millis: status.Millis,
		}
	}
}

// findFork adds to the findings where a node's chain leaves the group's.
func (l *leadership) findFork(ctx context.Context, n masterfsm.Storage, end *masterfsm.EndCheck) error {
	status, err := l.node.cfg.Workers.StorageStatus(ctx, worker(n), l.order)
	if err != nil {
		return err
	}
	keep, err := l.common(ctx, n, status, min(status.Height, n.Target.Height))
	if err != nil {
		return fmt.Errorf("find the first block that differs: %w", err)
	}
	end.Strange = true
	if keep < n.Target.Height {
		end.Bad = chain.AddRange(end.Bad, chain.Range{From: keep, To: n.Target.Height})
		end.Findings = append(end.Findings, chain.Finding{
			Block: keep, What: chain.WrongChain,
			Detail: fmt.Sprintf("its chain is consistent and another one: block %d is the first that differs", keep),
		})
		end.Findings = end.Findings[max(0, len(end.Findings)-chain.MaxFindings):]
	}
	return nil
}

// common is how many of a node's first height blocks are the group's: it looks, by halves, for the first header that differs from a proven
// one. Links make all headers differ behind the first that does.
func (l *leadership) common(ctx context.Context, n masterfsm.Storage, status wire.StorageStatus, height uint64) (uint64, error) {
	low, high := uint64(0), height // blocks below low are the group's; high is not, or is the height
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

// sameHeader reports whether a node's header is the group's. One that it cannot read is taken for another: what is sent again because of
// that does no harm. The error tells that the node does not answer, or is no longer at that status.
func (l *leadership) sameHeader(ctx context.Context, n masterfsm.Storage, status wire.StorageStatus, block uint64) (bool, error) {
	proven, err := l.node.prover.header(ctx, block)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	headers, err := l.node.cfg.Workers.Headers(ctx, worker(n), block, 1, status.Size)
	if err == nil {
		return len(headers) == 1 && headers[0].Header == proven, nil
	}
	now, statusErr := l.node.cfg.Workers.StorageStatus(ctx, worker(n), l.order)
	if statusErr != nil || now.Height != status.Height || now.Hash != status.Hash {
		return false, err
	}
	return false, nil
}

func (l *leadership) logFindings(n masterfsm.Storage, end *masterfsm.EndCheck) {
	log := l.node.log.With("node", n.ID, "url", n.URL)
	for _, f := range end.Findings {
		log.Error("check: damage found", "block", f.Block, "what", f.What, "detail", f.Detail)
	}
	if end.Tiles > 0 {
		log.Warn("check: hashes of the tree were wrong on disk and were computed again from the blocks", "hashes", end.Tiles)
	}
	if len(end.Bad) > 0 || end.Strange || end.Unchecked > 0 {
		log.Error("check: storage node is damaged", "bad", masterfsm.RangesText(end.Bad), "blocks", n.Target.Height, "bytes", end.Bytes, "ms", end.Millis)
		return
	}
	log.Debug("check: all good", "blocks", n.Target.Height, "bytes", end.Bytes, "ms", end.Millis)
}

func storageOf(view masterfsm.View, id string) masterfsm.Storage {
	for i := range view.Storages {
		if view.Storages[i].ID == id {
			return view.Storages[i]
		}
	}
	return masterfsm.Storage{}
}
