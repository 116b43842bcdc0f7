package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/wire"
)

// newStorageRemoveCommand takes a storage node out of the cluster.
func newStorageRemoveCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "remove ID|URL",
		Short: "Take a storage node out of the cluster for good",
		Long: `Take a storage node out of the cluster for good; name it by its id or URL. The masters send it nothing
any more and do not let it
register again. Its data folder stays as it is: with an empty folder the machine can join as a new node. It takes the
admin token.

It is refused while too few good copies of the chain would remain without the node. --force removes it all the same,
which may
lose blocks of which it has the only good copy.`,
		Example: "  chainstore storage remove http://127.0.0.1:8084",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one storage node: storage remove ID|URL; 'chainstore status' lists them")
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	connect := addConnection(cmd, asAdmin)
	cmd.Flags().BoolVar(&force, "force", false, "remove it even if too few good copies remain")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect.open(0)
		if err != nil {
			return err
		}
		defer c.CloseIdle()
		err = c.RemoveStorage(cmd.Context(), args[0], force)
		if errors.Is(err, wire.ErrTooFewCopies) {
			return fmt.Errorf("%w: add a storage node or wait for a repair first, or give --force", err)
		}
		if errors.Is(err, wire.ErrNotFound) {
			return fmt.Errorf("%w: 'chainstore status' lists the storage nodes", err)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is no longer part of the cluster\n", args[0])
		return err
	}
	return cmd
}
