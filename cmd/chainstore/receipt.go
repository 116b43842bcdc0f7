package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/wire"
)

// newReceiptCommand gets the receipt of a record.
func newReceiptCommand() *cobra.Command {
	var out string
	var tlogProof bool
	cmd := &cobra.Command{
		Use:   "receipt {BLOCK OFFSET | INDEX}",
		Short: "Get a record's receipt",
		Long: `Get the receipt of the record at a position, or of a leaf index: what shows offline, to anybody who has
a key of the log, that the record is in it.
The payload is not in the receipt; keep the two together. 'chainstore verify receipt' checks them.

With --tlog-proof it is a C2SP tlog-proof, which tools of others read: the way from the record's leaf to the
checkpoint, without the record's salt, key and
type, and without its block.`,
		Example: `  chainstore receipt 12 3 --out contract.receipt
  chainstore receipt 40967 --tlog-proof --out contract.tlog-proof`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 2 {
				return errors.New("name one record: receipt BLOCK OFFSET, or receipt INDEX")
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	connect := addConnection(cmd, asProject)
	cmd.Flags().StringVar(&out, "out", "", "write to this `file` and not to the standard output")
	cmd.Flags().BoolVar(&tlogProof, "tlog-proof", false, "get a C2SP tlog-proof")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		numbers := make([]uint64, len(args))
		for i, name := range [][]string{{"INDEX"}, {"BLOCK", "OFFSET"}}[len(args)-1] {
			bits := 64
			if name == "OFFSET" {
				bits = 32
			}
			var err error
			if numbers[i], err = parseNumber(name, args[i], bits); err != nil {
				return err
			}
		}
		c, err := connect.open(0)
		if err != nil {
			return err
		}
		defer c.CloseIdle()
		data, err := fetchReceipt(cmd.Context(), c, numbers, tlogProof)
		switch {
		case errors.Is(err, wire.ErrSealIndex):
			return fmt.Errorf("%w: a block's records are before its seal", err)
		case err != nil:
			return err
		case out != "":
			return durable.WriteFile(out, data, receiptMode)
		}
		_, err = cmd.OutOrStdout().Write(data)
		return err
	}
	return cmd
}

// receiptMode is that of the file of a receipt: it holds nothing of the payload, but the salt by which a short one
// could be guessed.
const receiptMode = 0o600

// fetchReceipt gets the receipt of the record that an index, or a block and an offset, names.
func fetchReceipt(ctx context.Context, c *client.Client, record []uint64, tlogProof bool) ([]byte, error) {
	switch {
	case tlogProof && len(record) == 1:
		return c.TlogProof(ctx, record[0])
	case tlogProof:
		return c.TlogProofAt(ctx, record[0], uint32(record[1]))
	}
	var r wire.Receipt
	var err error
	if len(record) == 1 {
		r, err = c.Receipt(ctx, record[0])
	} else {
		r, err = c.ReceiptAt(ctx, record[0], uint32(record[1]))
	}
	if err != nil {
		return nil, err
	}
	return encodeReceipt(&r)
}

// encodeReceipt gives a receipt the form of its file: one line of JSON.
func encodeReceipt(r *wire.Receipt) ([]byte, error) {
	var b bytes.Buffer
	err := render.JSON(&b, r)
	return b.Bytes(), err
}

// saveReceipt writes a receipt to a file.
func saveReceipt(path string, r *wire.Receipt) error {
	data, err := encodeReceipt(r)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, data, receiptMode)
}
