package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/verify/export"
)

// ExportOptions configure [Export]. The zero value is the strictest: it names no key, so it accepts no export.
type ExportOptions struct {
	Trust Trust
	// AllowUnsignedTail accepts blocks after the newest checkpoint that Trust accepts, and reports them as a remark
	// instead of a finding. A checkpoint must still cover at least the first block.
	AllowUnsignedTail bool
	// AllowNoKey accepts a Trust that names neither a key nor a witness. No signature is checked then, and nothing
	// shows whose chain it is. It has no effect if Trust names one.
	AllowNoKey bool
}

// Export checks a whole chain in one file: it hashes every payload again, and checks every block against the one before
// it, the tree, the proof of work and the signed checkpoints in the file. Unless the options allow less, a checkpoint
// that the caller trusts must cover every block: it ends with that block or a later one, and its root is that of the
// file's chain at that size. The error is that of r, or of ctx.
func Export(ctx context.Context, r io.Reader, o ExportOptions) (LogReport, error) {
	c := fileCheck{o: o, verifier: chain.NewVerifier(chain.Head{})}
	c.unsigned = o.AllowNoKey && len(o.Trust.keys) == 0 && len(o.Trust.witnesses) == 0
	c.report.Difficulty = math.MaxUint8
	err := c.run(ctx, r)
	if errors.Is(err, errStop) {
		err = nil
	}
	head := c.verifier.Head()
	c.report.Findings = c.found
	c.report.Height, c.report.Size, c.report.Hash = head.Height, head.Tree.Size(), head.Hash
	c.report.SignedHeight, c.report.SignedSize = c.covered.Height, c.covered.Tree.Size()
	c.report.Records = head.Tree.Size() - head.Height
	c.report.New, c.report.Payloads = c.report.Size, c.report.Records
	c.report.remarkWork(head.Height > 0, c.covered.Height > 0)
	return c.report, err
}

// fileCheck is one run of Export.
type fileCheck struct {
	o        ExportOptions
	unsigned bool // no signature is checked
	verifier *chain.Verifier
	notes    int             // checkpoints in the file
	due      []dueCheckpoint // whose sizes the chain has not reached yet
	signed   bool            // covered is known: the root of a trusted checkpoint was met
	covered  chain.Head      // where the newest trusted checkpoint ends whose root was met
	found    findings
	report   LogReport
}

// dueCheckpoint is a checkpoint whose root is still to be compared. Only one that is trusted covers blocks.
type dueCheckpoint struct {
	Checkpoint
	trusted bool
}

func (c *fileCheck) run(ctx context.Context, from io.Reader) error {
	r, err := export.NewReader(from)
	if err != nil {
		return c.malformed(err)
	}
	c.checkpoints(r.Checkpoints)
	c.boundary()
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b, err := r.Block()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return c.malformed(err)
		}
		if _, err := c.verifier.Take(&b); err != nil {
			c.found.add(codeOf(err), "%v", err)
			return errStop
		}
		c.report.Difficulty = min(c.report.Difficulty, b.Header.Difficulty)
		c.boundary()
	}
	for _, cp := range c.due {
		c.found.add(CodeBoundary, "the checkpoint of %d leaves is of no end of a block of this chain, which has %d "+
			"leaves", cp.Size, c.verifier.Head().Tree.Size())
	}
	if end, head := r.End(), export.EndOf(c.verifier.Head()); end != head {
		c.found.add(CodeEnd, "the file says that its chain ends at block %d with hash %v and root %v, and it ends "+
			"at block %d with %v and %v", end.Height, end.Hash, end.Root, head.Height, head.Hash, head.Root)
	}
	c.coverage()
	return nil
}

// malformed turns an error in the file's form into a finding. Other errors are those of the reader.
func (c *fileCheck) malformed(err error) error {
	switch {
	case errors.Is(err, export.ErrNewerFormat), errors.Is(err, chain.ErrVersion):
		c.found.add(CodeVersion, "%v", err)
	case errors.Is(err, export.ErrFormat):
		c.found.add(CodeFormat, "%v", err)
	default:
		return err
	}
	return errStop
}

// checkpoints checks the signatures of the checkpoints.
func (c *fileCheck) checkpoints(notes []string) {
	c.notes = len(notes)
	c.report.SignaturesChecked = c.notes > 0 && len(c.o.Trust.keys) > 0
	switch {
	case !c.unsigned:
	case c.notes == 0:
		c.report.Remarks = append(c.report.Remarks,
			"the file holds no signed checkpoint: nothing shows whose chain it is")
	default:
		c.report.Remarks = append(c.report.Remarks,
			"no key was named: the signatures of the file's checkpoints were not checked, and nothing shows"+
				" whose chain it is")
	}
	for _, signed := range notes {
		d := dueCheckpoint{}
		if c.unsigned {
			var err error
			if d.Checkpoint, err = ReadCheckpoint(signed); err != nil {
				c.found.add(CodeCheckpoint, "a checkpoint in the file is none: %v", err)
				continue
			}
		} else {
			opened, found := c.o.Trust.open([]byte(signed))
			if c.found = append(c.found, found...); opened.Origin == "" {
				continue
			}
			d = dueCheckpoint{Checkpoint: opened, trusted: len(found) == 0}
		}
		c.report.Checkpoints = append(c.report.Checkpoints, d.Checkpoint)
		c.due = append(c.due, d)
	}
}

// boundary compares the tree with the checkpoints that end here.
func (c *fileCheck) boundary() {
	head := c.verifier.Head()
	tree := head.Tree
	rest := c.due[:0]
	for _, cp := range c.due {
		switch {
		case cp.Size != tree.Size():
			rest = append(rest, cp)
		case cp.Root != tree.Root():
			c.found.add(CodeRoot, "the first %d leaves of the file's chain have the root %v, and the log has signed "+
				"%v: the chain is not that of log %q", cp.Size, tree.Root(), cp.Root, cp.Origin)
		case cp.trusted:
			c.signed, c.covered = true, head
		}
	}
	c.due = rest
}

// coverage reports the blocks that no trusted checkpoint covers. Without it anyone could add blocks to a genuine
// export.
func (c *fileCheck) coverage() {
	head := c.verifier.Head()
	switch {
	case c.unsigned, c.signed && c.covered.Height == head.Height:
	case c.notes == 0:
		c.found.add(CodeUnsigned, "the file holds no signed checkpoint: nothing shows whose chain it is")
	case c.covered.Height == 0:
		c.found.add(CodeUnsigned, "no checkpoint with the signatures that are asked for covers %s",
			blocksText(c.covered, head))
	default:
		text := fmt.Sprintf("no checkpoint with the signatures that are asked for covers %s: the newest covers %d "+
			"leaves, and anybody could have added what follows them",
			blocksText(c.covered, head), c.covered.Tree.Size())
		if c.o.AllowUnsignedTail {
			c.report.Remarks = append(c.report.Remarks, text)
			return
		}
		c.found.add(CodeUnsigned, "%s", text)
	}
}

// blocksText names the blocks between two heads, and their leaves.
func blocksText(from, to chain.Head) string {
	switch to.Height - from.Height {
	case 0:
		return "the file, which holds no block"
	case 1:
		return fmt.Sprintf("block %d (leaves %d to %d)", from.Height, from.Tree.Size(), to.Tree.Size()-1)
	}
	return fmt.Sprintf("blocks %d to %d (leaves %d to %d)", from.Height, to.Height-1, from.Tree.Size(),
		to.Tree.Size()-1)
}
