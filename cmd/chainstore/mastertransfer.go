package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/client"
)

// newMasterTransferCommand has another master lead.
func newMasterTransferCommand() *cobra.Command {
	return useCluster(&cobra.Command{
		Use:   "transfer [ID|URL]",
		Short: "Have another master lead",
		Long: `Have another master lead: the one of that id or URL, or the one that has most of the log. Appends go on; those under way at that moment
are brought to the new leader. It takes the admin token.`,
		Example: "  chainstore master transfer http://127.0.0.1:8001",
		Args:    cobra.MaximumNArgs(1),
	}, asAdmin, 0, func(cmd *cobra.Command, c *client.Client, args []string) error {
		to := ""
		if len(args) == 1 {
			to = args[0]
		}
		leader, err := c.TransferLeadership(cmd.Context(), to)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s leads\n", leader)
		return err
	})
}
