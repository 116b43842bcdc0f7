package offline

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/verify"
)

// receiptOptions are the flags of verify receipt.
type receiptOptions struct {
	payload, leaf string
	asJSON        bool
}

// receiptResult is the JSON output of verify receipt.
type receiptResult struct {
	Good bool `json:"good"`
	verify.ReceiptReport
}

func newVerifyReceiptCommand() *cobra.Command {
	var o receiptOptions
	cmd := &cobra.Command{
		Use:   "receipt FILE --key KEY",
		Short: "Check a receipt, or a tlog-proof, offline",
		Long: `Check a receipt against the key of the log that issued it: the record's leaf is at its place in its
block, the block and its proof of work are in the log's tree, and the key has signed the tree. With --payload, also
check that the file is the recorded payload, byte for byte. No network and no node are needed.

FILE is a receipt, the response to an append with ?wait=stored, or a C2SP tlog-proof. A tlog-proof does not name its
subject: give the record's leaf with --leaf. The payload alone is not enough, since the leaf also includes the
record's salt, key, type, project and time.

The command lists every mismatch with a stable code. The status is 0 if everything matches, 1 if something does not,
and 2 if the check could not be completed.`,
		Example: `  chainstore verify receipt order-17.receipt --payload order-17.json --key chainstore/abc+12345678+AQ…
  chainstore verify receipt order-17.receipt --key log.vkey --witness witnesses.vkey --witness-quorum 2`,
		Args: cli.ExactArgs("one file with a receipt"),
	}
	trust := addTrust(cmd)
	cmd.Flags().StringVar(&o.payload, "payload", "", "`file` with the record's payload")
	cmd.Flags().StringVar(&o.leaf, "leaf", "", "for a tlog-proof: the record's leaf, or the hash of it, in `hex`")
	cli.NoFiles(cmd, "leaf")
	cli.AddJSON(cmd, &o.asJSON, "print the result as one JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		trust, err := trust.trust(cmd, true)
		if err != nil {
			return err
		}
		return o.run(cmd, args[0], trust)
	}
	cli.ClassifyErrors(cmd)
	return cmd
}

func (o *receiptOptions) run(cmd *cobra.Command, path string, trust verify.Trust) error {
	data, err := readBounded(path, verify.MaxReceipt)
	if err != nil {
		return err
	}
	report, isProof := verify.ReceiptReport{}, verify.IsTlogProof(data)
	switch {
	case isProof && o.payload != "":
		return fmt.Errorf("%s is a tlog-proof, which cannot be checked with a payload; name the record's leaf with "+
			"--leaf", path)
	case isProof && o.leaf == "":
		return fmt.Errorf("%s is a tlog-proof, which does not name its subject: name the record's leaf with --leaf",
			path)
	case !isProof && o.leaf != "":
		return fmt.Errorf("%s is not a tlog-proof: --leaf is only for tlog-proofs", path)
	case isProof:
		leaf, err := parseLeaf(o.leaf)
		if err != nil {
			return err
		}
		report = verify.TlogProof(data, trust, leaf)
	default:
		payload, err := o.readPayload()
		if err != nil {
			return err
		}
		report = verify.Receipt(data, trust, payload)
	}
	out := cmd.OutOrStdout()
	err = receiptError(&report)
	report.Findings, report.Remarks = orEmpty(report.Findings), orEmpty(report.Remarks)
	return errors.Join(err, render.Print(out, o.asJSON, receiptResult{Good: report.Good(), ReceiptReport: report},
		receiptText(&report, isProof, render.Width(out))))
}

// readPayload reads the named payload. It returns nil only if none is named.
func (o *receiptOptions) readPayload() ([]byte, error) {
	if o.payload == "" {
		return nil, nil
	}
	data, err := readBounded(o.payload, chain.MaxPayload)
	if data == nil {
		data = []byte{}
	}
	return data, err
}

// parseLeaf parses a leaf or the hash of one, and returns the hash.
func parseLeaf(text string) (chain.Hash, error) {
	data, err := hex.DecodeString(text)
	switch {
	case err != nil:
		return chain.Hash{}, fmt.Errorf("--leaf: %w", err)
	case len(data) == chain.HashSize:
		return chain.Hash(data), nil
	}
	leaf, err := chain.ParseLeaf(data)
	if err != nil {
		return chain.Hash{}, fmt.Errorf("--leaf is neither a leaf of %d bytes nor a hash of %d: %w", chain.LeafSize,
			chain.HashSize, err)
	}
	return leaf.Hash(), nil
}

// receiptError summarizes the findings in one line.
func receiptError(r *verify.ReceiptReport) error {
	switch {
	case r.Good():
		return nil
	case len(r.Findings) == 1 && r.Findings[0].Code == verify.CodePayload:
		return cli.Finding{Err: errors.New("the receipt itself is valid, but the payload does not match it")}
	}
	return cli.Finding{Err: fmt.Errorf("the receipt is not valid: %s", codesText(r.Findings))}
}

// codesText lists the codes of findings.
func codesText(found []verify.Finding) string {
	var codes []string
	for _, f := range found {
		codes = append(codes, f.Code)
	}
	return strings.Join(codes, ", ")
}

func receiptText(r *verify.ReceiptReport, isProof bool, width int) string {
	var b strings.Builder
	writeFindings(&b, r.Findings, width)
	if r.Good() {
		if isProof {
			fmt.Fprintf(&b, "leaf       %d\n", r.Index)
		} else {
			render.WriteWrapped(&b, "record     ", fmt.Sprintf("block %d, offset %d, leaf %d: %s of type %q, "+
				"project %d, %s", r.Block, r.Offset, r.Index, render.Bytes(uint64(r.Leaf.Size)),
				r.Type, r.Leaf.Project, time.UnixMilli(int64(r.Leaf.Time)).UTC().Format("2006-01-02 15:04:05.000 UTC")),
				width)
		}
		writeCheckpoint(&b, &r.Checkpoint, width)
	}
	for _, remark := range r.Remarks {
		render.WriteWrapped(&b, "remark     ", remark, width)
	}
	switch {
	case r.Good() && isProof:
		b.WriteString("proof good\n")
	case r.Good() && r.Payload:
		b.WriteString("receipt good, payload good\n")
	case r.Good():
		b.WriteString("receipt good\n")
	}
	return b.String()
}

// writeFindings lists findings and the signed checkpoints that are their evidence.
func writeFindings(b *strings.Builder, found []verify.Finding, width int) {
	for _, f := range found {
		render.WriteWrapped(b, f.Code+": ", f.Text, width)
		for _, signed := range f.Evidence {
			b.WriteString("evidence:\n")
			for line := range strings.Lines(signed) {
				b.WriteString("  " + render.Plain(strings.TrimSuffix(line, "\n")) + "\n")
			}
		}
	}
}

func writeCheckpoint(b *strings.Builder, c *verify.Checkpoint, width int) {
	render.WriteWrapped(b, "log        ", c.Origin, width)
	fmt.Fprintf(b, "checkpoint %d leaves, root %v\n", c.Size, c.Root)
	if len(c.SignedBy) == 0 {
		b.WriteString("signed by  not checked\n")
	} else {
		render.WriteWrapped(b, "signed by  ", strings.Join(append(c.SignedBy, c.CosignedBy...), ", "), width)
	}
}
