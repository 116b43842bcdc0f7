package admin

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// NewConfirmLost records that an operator confirms a lost block.
func NewConfirmLost() *cobra.Command {
	var yes bool
	var block uint64
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "confirm-lost N",
		Short: "Confirm that block N is lost: no storage node has a good copy",
		Long: `Confirm that block N is lost. A block is reported as lost if no storage node of the cluster has a good
copy of it and the masters no longer have it. If a node that is offline or was removed may have a copy, bring that
node back instead.

The confirmation does not change the chain. Storage nodes that lack no other block count as valid from then on, and
the cluster stops looking for the block. Its records cannot be read. All other records can be read, with their proofs.
Every verifier still reports the block as lost. The integrity log keeps the confirmation and its time. If a good copy
is found later, the block is restored.

The command needs the admin token. On a terminal it asks first; elsewhere it needs --yes.`,
		Args: cli.ExactArgs("one block"),
		PreRunE: func(cmd *cobra.Command, args []string) (err error) {
			if block, err = strconv.ParseUint(args[0], 10, 64); err != nil {
				return fmt.Errorf("%q is not a block number: give one that 'chainstore integrity' reports as lost",
					args[0])
			}
			if !yes && !render.IsTerminal(cmd.InOrStdin()) {
				return fmt.Errorf("there is no terminal to ask on: to confirm that block %d is lost give --yes", block)
			}
			return nil
		},
	}, cli.Use{
		Role: cli.AsAdmin, JSON: "print the integrity report after the change as one JSON object",
	}, func(c *cli.Call) error {
		if !yes {
			in, err := c.Integrity(c.Ctx)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(in.Lost, func(r chain.Range) bool { return r.Holds(block) }) {
				return fmt.Errorf("block %d is not reported as lost: nothing to confirm", block)
			}
			sure, err := cli.Confirm(c.Cmd.InOrStdin(), c.Cmd.ErrOrStderr(), confirmText(block, &in))
			if err != nil {
				return err
			}
			if !sure {
				return errors.New("nothing was changed")
			}
		}
		in, err := c.ConfirmLost(c.Ctx, block)
		if err != nil {
			return err
		}
		text := fmt.Sprintf("block %d is confirmed as lost\n", block)
		if left := render.Unconfirmed(&in); len(left) > 0 {
			text += fmt.Sprintf("lost and not confirmed: %s\n", render.Ranges(left))
		}
		return c.Print(in, text)
	})
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// confirmText explains what the confirmation of a lost block means.
func confirmText(block uint64, in *wire.Integrity) string {
	text := fmt.Sprintf("No storage node has a good copy of block %d. If a node that is offline or was removed may "+
		"have one, bring that node back instead.\n", block)
	for i := range in.Nodes {
		if n := &in.Nodes[i]; !n.Live {
			text += fmt.Sprintf("%s is not live.\n", render.Node(n))
		}
	}
	return text + "Once confirmed, the block's records count as permanently lost; no other record changes.\n" +
		fmt.Sprintf("Confirm that block %d is lost? [y/N] ", block)
}
