package records

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/wire"
)

// NewReceipt gets the receipt of a record.
func NewReceipt() *cobra.Command {
	var out string
	var tlogProof bool
	var numbers []uint64
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "receipt {BLOCK OFFSET | INDEX}",
		Short: "Get a record's receipt",
		Long: `Get the receipt of the record at a position or leaf index. It proves offline, to anyone with a
verifier key of the log, that the record is in the log. The receipt does not include the payload: keep the two
together. 'chainstore verify receipt' checks them.

With --tlog-proof the output is a C2SP tlog-proof, which other tools can read: the path from the record's leaf to the
checkpoint, without the record's salt, key, type and block.`,
		Example: `  chainstore receipt 12 3 --out contract.receipt
  chainstore receipt 40967 --tlog-proof --out contract.tlog-proof`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 2 {
				return errors.New("name one record: receipt BLOCK OFFSET, or receipt INDEX")
			}
			return nil
		},
		PreRunE: func(_ *cobra.Command, args []string) (err error) {
			numbers = make([]uint64, len(args))
			for i, name := range [][]string{{"INDEX"}, {"BLOCK", "OFFSET"}}[len(args)-1] {
				if numbers[i], err = parseNumber(name, args[i], 64>>i); err != nil {
					return err
				}
			}
			return nil
		},
	}, cli.Use{}, func(c *cli.Call) error {
		data, err := fetchReceipt(c, numbers, tlogProof)
		switch {
		case errors.Is(err, wire.ErrSealIndex):
			return fmt.Errorf("%w: a block's records are before its seal", err)
		case err != nil:
			return err
		case out != "":
			return durable.WriteFile(out, data, receiptMode)
		}
		_, err = c.Out.Write(data)
		return err
	})
	cmd.Flags().StringVar(&out, "out", "", "write to this `file` instead of the standard output")
	cmd.Flags().BoolVar(&tlogProof, "tlog-proof", false, "get a C2SP tlog-proof")
	return cmd
}

// receiptMode is the mode of a receipt file. A receipt does not include the payload, but its salt would let a reader
// guess a short payload.
const receiptMode = 0o600

// fetchReceipt gets the receipt of a record, which is named by an index or by a block and an offset.
func fetchReceipt(c *cli.Call, record []uint64, tlogProof bool) ([]byte, error) {
	switch {
	case tlogProof && len(record) == 1:
		return c.TlogProof(c.Ctx, record[0])
	case tlogProof:
		return c.TlogProofAt(c.Ctx, record[0], uint32(record[1]))
	}
	var r wire.Receipt
	var err error
	if len(record) == 1 {
		r, err = c.Receipt(c.Ctx, record[0])
	} else {
		r, err = c.ReceiptAt(c.Ctx, record[0], uint32(record[1]))
	}
	if err != nil {
		return nil, err
	}
	return render.JSONLine(r)
}
