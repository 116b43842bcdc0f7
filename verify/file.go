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

// Export checks a whole chain that stands in one file: every payload is hashed again, every block held against the one before it, the tree and its proof of work,
// and the signed checkpoints in the file against the tree. Without a key in trust nobody's signature is checked, and a remark says so: the chain is then
// consistent, and nothing shows whose it is. The error is that of r, or of ctx.
func Export(ctx context.Context, r io.Reader, trust Trust) (LogReport, error) {
	c := fileCheck{trust: trust, verifier: chain.NewVerifier(chain.Head{})}
	c.report.Difficulty = math.MaxUint8
	err := c.run(ctx, r)
	if errors.Is(err, errStop) {
		err = nil
	}
	head := c.verifier.Head()
	c.report.Findings = c.found
	c.report.Height, c.report.Size, c.report.Hash = head.Height, head.Tree.Size(), head.Hash
	c.report.Records = head.Tree.Size() - head.Height
	c.report.New, c.report.Payloads = c.report.Size, c.report.Records
	if head.Height == 0 {
		c.report.Difficulty = 0
	} else {
		c.report.Remarks = append(c.report.Remarks, difficultyRemark(c.report.Difficulty))
	}
	return c.report, err
}

// fileCheck is one run of Export.
type fileCheck struct {
	trust    Trust
	verifier *chain.Verifier
	due      []Checkpoint // whose sizes the chain has not reached yet
	found    findings
	report   LogReport
}

func (c *fileCheck) run(ctx context.Context, from io.Reader) error {
	r, err := export.NewReader(from)
	if err != nil {
		return c.malformed(err)
	}
	c.checkpoints(r.Checkpoints)
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
		c.found.add(CodeBoundary, "the checkpoint of %d leaves is of no end of a block of this chain, which has %d leaves", cp.Size, c.verifier.Head().Tree.Size())
	}
	if end, head := r.End(), export.EndOf(c.verifier.Head()); end != head {
		c.found.add(CodeEnd, "the file says that its chain ends at block %d with hash %v and root %v, and it ends at block %d with %v and %v",
			end.Height, end.Hash, end.Root, head.Height, head.Hash, head.Root)
	}
	return nil
}

// malformed makes a finding of what is wrong with the file's form; other errors are the disk's.
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

// checkpoints looks at who has signed.
func (c *fileCheck) checkpoints(notes []string) {
	switch {
	case len(notes) == 0:
		c.report.Remarks = append(c.report.Remarks, "the file holds no signed checkpoint: nothing shows whose chain it is")
	case len(c.trust.keys) == 0:
		c.report.Remarks = append(c.report.Remarks, "no key was named: the signatures of the file's checkpoints were not checked, and nothing shows whose chain it is")
	}
	for _, signed := range notes {
		var cp Checkpoint
		if len(c.trust.keys) == 0 {
			var err error
			if cp, err = ReadCheckpoint(signed); err != nil {
				c.found.add(CodeCheckpoint, "a checkpoint in the file is none: %v", err)
				continue
			}
		} else {
			opened, found := c.trust.open([]byte(signed))
			if c.found = append(c.found, found...); opened.Origin == "" {
				continue
			}
			cp = opened
		}
		c.report.Checkpoints = append(c.report.Checkpoints, cp)
		if cp.Size > 0 {
			c.due = append(c.due, cp)
		}
	}
}

// boundary holds the tree against the checkpoints that end here.
func (c *fileCheck) boundary() {
	tree := c.verifier.Head().Tree
	rest := c.due[:0]
	for _, cp := range c.due {
		switch {
		case cp.Size != tree.Size():
			rest = append(rest, cp)
		case cp.Root != tree.Root():
			c.found.add(CodeRoot, "the first %d leaves of the file's chain have the root %v, and the log has signed %v: %s", cp.Size, tree.Root(), cp.Root,
				fmt.Sprintf("the chain is not that of log %q", cp.Origin))
		}
	}
	c.due = rest
}
