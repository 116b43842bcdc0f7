package admin

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
)

// NewMasterTransfer transfers the leadership to another master.
func NewMasterTransfer() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "transfer [ID|URL]",
		Short: "Transfer the leadership to another master",
		Long: `Transfer the leadership to the master with that id or URL, or to the one with the most complete log.
Appends continue; those in flight at that moment are forwarded to the new leader. The command needs the admin token.`,
		Example: "  chainstore master transfer http://127.0.0.1:8001",
		Args:    cobra.MaximumNArgs(1),
	}, cli.Use{Role: cli.AsAdmin}, func(c *cli.Call) error {
		to := ""
		if len(c.Args) == 1 {
			to = c.Args[0]
		}
		leader, err := c.TransferLeadership(c.Ctx, to)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.Out, "%s leads\n", leader)
		return err
	})
}
