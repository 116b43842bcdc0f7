package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// newMasterTransferCommand has another master lead.
func newMasterTransferCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "transfer [ID|URL]",
		Short: "Have another master lead",
		Long: `Have another master lead: the one of that id or URL, or the one that has most of the log. Appends go
on; those under way at that moment
are brought to the new leader. It takes the admin token.`,
		Example:           "  chainstore master transfer http://127.0.0.1:8001",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	connect := addConnection(cmd, asAdmin)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect.open(0)
		if err != nil {
			return err
		}
		defer c.CloseIdle()
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
	}
	return cmd
}
