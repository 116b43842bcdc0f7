package admin

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/wire"
)

// NewMasterRemove removes a master from the group.
func NewMasterRemove() *cobra.Command {
	return newRemoveCommand(&cobra.Command{
		Short: "Remove a master from the group permanently",
		Long: `Remove a master from the group permanently; name it by its id or URL. It stops, and does not start
again with its data folder. With an empty folder the machine can join as a new master. A leader that is removed hands
over the leadership first. The command needs the admin token.

It is refused while the remaining masters could not elect a leader. --force removes the master anyway: the group then
accepts no append until enough of the others are back.`,
		Example: "  chainstore master remove http://127.0.0.1:8002",
	}, removal{
		kind: "master", from: "group", force: "remove it even if the others cannot elect a leader now",
		refused: wire.ErrTooFewMasters, remedy: "bring the others back first, or give --force",
		remove: func(c *cli.Call, force bool) error { return c.RemoveMaster(c.Ctx, c.Args[0], force) },
	})
}

// NewStorageRemove removes a storage node from the cluster.
func NewStorageRemove() *cobra.Command {
	return newRemoveCommand(&cobra.Command{
		Short: "Remove a storage node from the cluster permanently",
		Long: `Remove a storage node from the cluster permanently; name it by its id or URL. The masters send it
nothing more and do not let it register again. Its data folder stays as it is. With an empty folder the machine can
join as a new node. The command needs the admin token.

It is refused while too few good copies of the chain would remain. --force removes the node anyway, which may lose
blocks of which it has the only good copy.`,
		Example: "  chainstore storage remove http://127.0.0.1:8084",
	}, removal{
		kind: "storage node", from: "cluster", force: "remove it even if too few good copies remain",
		refused: wire.ErrTooFewCopies, remedy: "add a storage node or wait for a repair first, or give --force",
		remove: func(c *cli.Call, force bool) error { return c.RemoveStorage(c.Ctx, c.Args[0], force) },
	})
}

// NewMinerRemove removes a miner from the cluster.
func NewMinerRemove() *cobra.Command {
	return newRemoveCommand(&cobra.Command{
		Short: "Remove a miner from the cluster permanently",
		Long: `Remove a miner from the cluster permanently; name it by its id or URL. The masters send it nothing more
and do not let it register again. With an empty data folder it can join as a new miner. The command needs the admin
token.

A miner that does not answer for a day is removed without this command, and may register again.`,
		Example: "  chainstore miner remove http://127.0.0.1:8079",
	}, removal{
		kind: "miner", from: "cluster",
		remove: func(c *cli.Call, _ bool) error { return c.RemoveMiner(c.Ctx, c.Args[0]) },
	})
}

// removal describes how a kind of node is removed.
type removal struct {
	kind, from string // what is removed, and from what
	force      string // usage of --force, "" if there is no such flag
	refused    error  // the error that --force overrides
	remedy     string // what to do about it
	remove     func(c *cli.Call, force bool) error
}

func newRemoveCommand(cmd *cobra.Command, r removal) *cobra.Command {
	var force bool
	cmd.Use = "remove ID|URL"
	cmd.Args = cli.ExactArgs("one "+r.kind, "; 'chainstore status' lists them")
	cli.UseCluster(cmd, cli.Use{Role: cli.AsAdmin}, func(c *cli.Call) error {
		err := r.remove(c, force)
		switch {
		case r.refused != nil && errors.Is(err, r.refused):
			return fmt.Errorf("%w: %s", err, r.remedy)
		case errors.Is(err, wire.ErrNotFound):
			return fmt.Errorf("%w: 'chainstore status' lists the %ss", err, r.kind)
		case err != nil:
			return err
		}
		_, err = fmt.Fprintf(c.Out, "%s is no longer part of the %s\n", c.Args[0], r.from)
		return err
	})
	if r.force != "" {
		cmd.Flags().BoolVar(&force, "force", false, r.force)
	}
	return cmd
}
