package nodes

import (
	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/internal/roles"
)

// NewStorage runs one storage node.
func NewStorage() *cobra.Command {
	cfg := roles.DefaultStorage()
	cmd := newWorkerCommand("storage", &cfg, func() (runnable, error) { return roles.OpenStorage(cfg) })
	cmd.Short = "Run a storage node"
	cmd.Long = `Run a storage node: it keeps the whole chain in its data folder and proves what it serves.

It registers through any of the masters, not only the leader, and again whenever the leader changes.`
	bindFlags(cmd.Flags(), cfg.StorageFlags())
	return cmd
}

// NewMiner runs one miner.
func NewMiner() *cobra.Command {
	cfg := roles.DefaultMiner()
	cmd := newWorkerCommand("miner", &cfg, func() (runnable, error) { return roles.OpenMiner(cfg) })
	cmd.Short = "Run a miner"
	cmd.Long = "Run a miner: it searches for the proof of work of one block at a time. " +
		"Several miners divide the nonces between them."
	bindFlags(cmd.Flags(), cfg.MinerFlags())
	return cmd
}

// newWorkerCommand returns the common part of the commands of both kinds of worker. open opens cfg.
func newWorkerCommand(kind string, cfg *roles.WorkerConfig, open func() (runnable, error)) *cobra.Command {
	var process processFlags
	cmd := &cobra.Command{
		Use: kind,
		Example: "  chainstore " + kind + " --data /var/lib/chainstore --http " + cfg.HTTP + ` \
    --masters http://127.0.0.1:8000,http://127.0.0.1:8001,http://127.0.0.1:8002 --cluster-token-file cluster.token`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := process.prepare(kind, &cfg.NodeConfig); err != nil {
				return err
			}
			role, err := open()
			if err != nil {
				return err
			}
			return runRole(cmd, cfg.Logger, role)
		},
	}
	process.add(cmd.Flags())
	return cmd
}
