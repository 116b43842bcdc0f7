package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/wire"
)

// newMasterRemoveCommand takes a master out of the group.
func newMasterRemoveCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "remove ID|URL",
		Short: "Take a master out of the group for good",
		Long: `Take a master out of the group for good; name it by its id or URL. It stops, and does not start again
with its data folder: with an
empty one the machine can join as a new master. It takes the admin token. A leader that is removed hands the
leadership over first.

It is refused while the masters that remain could not elect a leader without it. --force removes it all the same: the
group then takes
no append until enough of the others are back.`,
		Example: "  chainstore master remove http://127.0.0.1:8002",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one master: master remove ID|URL; 'chainstore status' lists them")
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	connect := addConnection(cmd, asAdmin)
	cmd.Flags().BoolVar(&force, "force", false, "remove it even if the others cannot elect a leader now")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect.open(0)
		if err != nil {
			return err
		}
		defer c.CloseIdle()
		err = c.RemoveMaster(cmd.Context(), args[0], force)
		if errors.Is(err, wire.ErrTooFewMasters) {
			return fmt.Errorf("%w: bring the others back first, or give --force", err)
		}
		if errors.Is(err, wire.ErrNotFound) {
			return fmt.Errorf("%w: 'chainstore status' lists the masters", err)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is no longer part of the group\n", args[0])
		return err
	}
	return cmd
}
