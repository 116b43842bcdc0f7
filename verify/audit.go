package verify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/exchange"
)

// Options configure [Log].
type Options struct {
	URL   string // of a master, without a path
	Trust Trust
	// Token gives access to a private log and to payloads. The payloads that it may read are checked too. "" for none.
	Token string
	// Since is the state of an earlier run; nil for none.
	Since *State
	// Save is called from time to time with the state of the run, and must keep it or fail. It may be nil.
	Save func(*State) error
	// Progress is called with the number of verified leaves, and of all leaves. It may be nil.
	Progress func(done, total uint64)
	TLS      *tls.Config  // of connections to an https:// URL, unless HTTP is given; nil for the default
	HTTP     *http.Client // nil for one of its own
	Parallel int          // bundles that are fetched at once, 8 where it is 0

	pause time.Duration // tests: before a request is tried again
}

// defaultParallel is the default number of bundles that are fetched at once.
const defaultParallel = 8

// LogReport is the result of an audit, or of the check of an export.
type LogReport struct {
	Findings []Finding `json:"findings"`
	Remarks  []string  `json:"remarks"`
	// Checkpoints are those that were checked, the newest last.
	Checkpoints []Checkpoint `json:"checkpoints"`
	// Height is the number of blocks, from 0 on, that this run and earlier ones have processed. The same holds for the
	// fields below. All are verified except those in Unchecked.
	Height  uint64     `json:"height"`
	Records uint64     `json:"records"`
	Size    uint64     `json:"size"` // of the tree
	Hash    chain.Hash `json:"hash"` // of the last block
	// SignaturesChecked is false if no signature was checked: no key was named, or there was no checkpoint.
	SignaturesChecked bool `json:"signatures_checked"`
	// SignedHeight and SignedSize are how many of these blocks and leaves, from 0 on, were found in the tree of a
	// checkpoint that the caller trusts.
	SignedHeight uint64 `json:"signed_height"`
	SignedSize   uint64 `json:"signed_size"`
	// New is the number of leaves that this run has verified. The others were verified by earlier runs, or could not
	// be.
	New uint64 `json:"new"`
	// UncheckedLeaves is the number of leaves that this run could not verify, or only by their hashes: those of blocks
	// that no node has completely, and of blocks in the same bundles, their seals included. At the end of a log the
	// number of such blocks may be unknown, and Unchecked has only the first one.
	UncheckedLeaves uint64 `json:"unchecked_leaves"`
	// Difficulty is the lowest difficulty of the blocks of this run.
	Difficulty uint8 `json:"difficulty"`
	// Unchecked are blocks that could not be checked: no node has them any more, and only their hashes are in the tree.
	// With a token also blocks whose records no node has, or that have more records than fit in memory at once, and
	// blocks that were checked only by their headers and the hashes of their leaves; a remark names these.
	Unchecked []chain.Range `json:"unchecked"`
	Payloads  uint64        `json:"payloads"` // records whose payloads were checked
	Hidden    uint64        `json:"hidden"`   // records whose payloads the token may not read
}

// Good reports whether there are no findings.
func (r *LogReport) Good() bool { return len(r.Findings) == 0 }

// errStop ends an audit at its first finding, since everything after it depends on it.
var errStop = errors.New("a finding")

// saveEvery is the number of leaves between two saved states.
const saveEvery = 1 << 20

// Log audits a running log from outside, from its checkpoint and its leaves. With the state of an earlier run it
// continues from there, after it has made sure that the earlier tree is a prefix of the current one. It stops at the
// first finding.
//
// The error says why the audit could not be completed. The report says how far it came, and may have a finding in that
// case too.
func Log(ctx context.Context, o Options) (LogReport, error) {
	if err := o.Trust.oneLog(); err != nil {
		return LogReport{}, err
	}
	f, err := newFetcher(&o)
	if err != nil {
		return LogReport{}, err
	}
	defer f.close(&o)
	if o.Parallel <= 0 {
		o.Parallel = defaultParallel
	}
	if o.Progress == nil {
		o.Progress = func(uint64, uint64) {}
	}
	a := &audit{o: &o, f: f}
	if o.Since != nil {
		a.since = *o.Since
	}
	a.begin(a.since.Head, a.since.Unchecked)
	a.report.Difficulty = math.MaxUint8
	err = a.run(ctx)
	if errors.Is(err, errStop) {
		err = nil
	}
	return a.finish(), errors.Join(err, a.save())
}

// audit is one run of Log. One goroutine owns everything except the fetching.
type audit struct {
	o     *Options
	f     *fetcher
	since State
	// grown is true once the current tree is shown to extend the one of the earlier run. Until then nothing is saved:
	// the earlier checkpoint is evidence.
	grown    bool
	signed   bool       // the leaves taken have the signed root
	met      bool       // the leaves taken had the earlier root at the earlier size
	now      Checkpoint // what the log shows; zero before it is known to be good and newer than what it has shown
	verifier *chain.Verifier
	// hole is the state of the tree within a hole; nil outside of one.
	hole      *hole
	unchecked []chain.Range
	hashed    bool          // of the open block, leaves were taken by their hashes only
	partly    []chain.Range // the unchecked blocks of which that is so
	lost      uint64        // leaves of unchecked blocks after which this run continued
	start     uint64        // leaves that were taken by the runs before
	at        uint64        // leaves that were taken
	saved     uint64        // leaves at the last save
	done      chain.Head    // up to where all is checked, payloads too

	payloads payloads
	found    findings
	report   LogReport
}

// begin starts at a verified head.
func (a *audit) begin(head chain.Head, unchecked []chain.Range) {
	a.verifier, a.unchecked, a.done = chain.NewVerifier(head), unchecked, head
	a.start = head.Tree.Size()
	a.at, a.saved = a.start, a.start
}

// fail adds a finding and ends the audit.
func (a *audit) fail(code, format string, args ...any) error {
	a.found.add(code, format, args...)
	return errStop
}

func (a *audit) run(ctx context.Context) error {
	if err := a.checkpoint(ctx); err != nil {
		return err
	}
	a.o.Progress(a.at, a.now.Size)
	err := a.f.bundles(ctx, a.at, a.now.Size, a.o.Parallel, func(b bundle) error {
		if b.gone {
			if err := a.skip(ctx, &b); err != nil {
				return err
			}
		} else if err := a.take(&b); err != nil {
			return err
		}
		if a.payloads.due() {
			if err := a.checkPayloads(ctx); err != nil {
				return err
			}
		}
		a.o.Progress(a.at, a.now.Size)
		if a.at-a.saved < saveEvery {
			return nil
		}
		return a.save()
	})
	if err != nil {
		return err
	}
	if err := a.checkPayloads(ctx); err != nil {
		return err
	}
	return a.end()
}

// take takes the leaves of a bundle, except those of the earlier run.
func (a *audit) take(b *bundle) error {
	if b.err != nil {
		switch {
		case errors.Is(b.err, chain.ErrVersion):
			return a.fail(CodeVersion, "%v", b.err)
		case errors.Is(b.err, errEntry), errors.Is(b.err, chain.ErrFrame), errors.Is(b.err, exchange.ErrAnswer):
			return a.fail(CodeEntry, "%v", b.err)
		}
		return b.err
	}
	entries := b.entries[a.at-b.number*tileWidth:]
	if a.hole != nil {
		return a.bridge(entries)
	}
	return a.entries(entries)
}

// entries passes leaves and seals to the verifier.
func (a *audit) entries(entries []entry) error {
	leaves := make([]chain.Leaf, 0, len(entries))
	for i := range entries {
		e := &entries[i]
		a.at++
		if !e.seal {
			if leaves = append(leaves, e.leaf); a.at == a.since.Checkpoint.Size {
				a.give(leaves)
				leaves = leaves[:0]
				if err := a.meet(a.verifier.Open()); err != nil {
					return err
				}
			}
			continue
		}
		a.give(leaves)
		leaves = leaves[:0]
		if err := a.seal(&e.header); err != nil {
			return err
		}
	}
	a.give(leaves)
	return nil
}

// seal ends the open block.
func (a *audit) seal(h *chain.Header) error {
	if err := a.verifier.TakeSeal(*h); errors.Is(err, chain.ErrRoot) {
		return a.fail(CodeRoot, "%v that its header names: a leaf of it was altered, or the header was", err)
	} else if err != nil {
		return a.fail(codeOf(err), "%v", err)
	}
	block := chain.Range{From: h.Block, To: h.Block + 1}
	if !a.payloads.sealed(h) {
		a.unchecked = chain.AddRange(a.unchecked, block)
	}
	if a.hashed {
		a.unchecked, a.partly = chain.AddRange(a.unchecked, block), chain.AddRange(a.partly, block)
		a.lost += h.Size() - h.First
		a.hashed = false
	}
	a.report.Difficulty = min(a.report.Difficulty, h.Difficulty)
	if err := a.boundary(); err != nil {
		return err
	}
	if a.o.Token == "" {
		a.done = a.verifier.Head()
	}
	return nil
}

func (a *audit) give(leaves []chain.Leaf) {
	a.verifier.TakeLeaves(leaves...)
	if a.o.Token != "" {
		a.payloads.add(leaves)
	}
}

// end makes the remaining checks after the last leaf.
func (a *audit) end() error {
	if a.hole != nil {
		if err := a.endInHole(); err != nil {
			return err
		}
		return a.grew()
	}
	if size := a.verifier.Head().Tree.Size(); size != a.now.Size {
		return a.fail(CodeBoundary, "the checkpoint's size %d is not the end of a block: the last seal is leaf %d, "+
			"and %d leaves follow it", a.now.Size, size-1, a.now.Size-size)
	}
	if err := a.boundary(); err != nil {
		return err
	}
	return a.grew()
}

// codeOf returns the code of the reason why a block does not extend the chain.
func codeOf(err error) string {
	for _, c := range []struct {
		err  error
		code string
	}{
		{chain.ErrVersion, CodeVersion}, {chain.ErrNumber, CodeNumber}, {chain.ErrLink, CodeLink},
		{chain.ErrFirst, CodeFirst}, {chain.ErrCount, CodeCount}, {chain.ErrTime, CodeTime},
		{chain.ErrRoot, CodeRoot}, {chain.ErrWork, CodeWork},
	} {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return CodeEntry
}

// state is the state for the next run. A checkpoint with a finding does not replace the earlier one.
func (a *audit) state() *State {
	s := &State{Checkpoint: a.now, Head: a.done,
		Unchecked: chain.CommonRanges(a.unchecked, []chain.Range{{To: a.done.Height}})}
	if s.Checkpoint.Note == "" {
		s.Checkpoint = a.since.Checkpoint
	}
	return s
}

func (a *audit) save() error {
	if a.o.Save == nil || a.now.Note == "" || !a.grown || a.forked() {
		return nil
	}
	a.saved = a.at
	return a.o.Save(a.state())
}

// forked reports whether the log has signed two trees. The earlier state is evidence then and is kept.
func (a *audit) forked() bool {
	return slices.ContainsFunc(a.found, func(f Finding) bool { return f.Code == CodeFork || f.Code == CodeRollback })
}

func (a *audit) finish() LogReport {
	r, head := a.report, a.done
	r.Findings = a.found
	for _, u := range a.unchecked {
		r.Unchecked = chain.AddRange(r.Unchecked, u)
	}
	if a.now.Note != "" {
		r.Checkpoints = []Checkpoint{a.now}
	}
	r.Height, r.Size, r.Hash = head.Height, head.Tree.Size(), head.Hash
	if a.signed {
		r.SignedHeight, r.SignedSize = r.Height, r.Size
	}
	r.Records = r.Size - min(r.Size, r.Height)
	r.New = r.Size - min(a.start+a.lost, r.Size)
	r.UncheckedLeaves = a.lost
	if a.hole != nil {
		r.UncheckedLeaves += a.hole.tree.Size() - a.verifier.Head().Tree.Size()
	}
	r.remarkPartly(a.partly, a.o.Token != "")
	r.Payloads, r.Hidden = a.payloads.checked, a.payloads.hidden
	if a.o.Token != "" && a.start > 0 {
		r.Remarks = append(r.Remarks, fmt.Sprintf("this run checked payloads from leaf %d on; those before it were "+
			"checked only by earlier runs that had a token", a.start))
	}
	r.remarkWork(r.Size > a.start, a.signed)
	return r
}

// remarkWork adds what the proof of work is worth, and which checked evidence is stronger. blocks is false for a run
// that has verified no block.
func (r *LogReport) remarkWork(blocks, signed bool) {
	if !blocks {
		r.Difficulty = 0
		return
	}
	text := fmt.Sprintf("difficulty %d bits at the lowest: such a block took about %s tries. The proof of work "+
		"shows no more than that", r.Difficulty, tries(r.Difficulty))
	if signed {
		text += "; the signature, and witnesses, show the rest"
	}
	r.Remarks = append(r.Remarks, text)
}
