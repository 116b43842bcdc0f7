package nodes

import (
	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/internal/roles"
)

// NewStorage runs one storage node.
func NewStorage() *cobra.Command {
	cfg := roles.DefaultStorage()
	return newRoleCommand(&cobra.Command{
		Use:   "storage",
		Short: "Run a storage node",
		Long: `Run a storage node: it keeps the whole chain in its data folder and proves what it serves.

It registers through any of the masters, not only the leader, and again whenever the leader changes.`,
		Example: workerExample("storage", cfg.HTTP),
	}, &cfg.NodeConfig, cfg.StorageFlags(), func() (runnable, error) { return roles.OpenStorage(cfg) })
}

// NewMiner runs one miner.
func NewMiner() *cobra.Command {
	cfg := roles.DefaultMiner()
	return newRoleCommand(&cobra.Command{
		Use:   "miner",
		Short: "Run a miner",
		Long: `Run a miner: it searches for the proof of work of one block at a time. Several miners divide the nonces
between them.`,
		Example: workerExample("miner", cfg.HTTP),
	}, &cfg.NodeConfig, cfg.MinerFlags(), func() (runnable, error) { return roles.OpenMiner(cfg) })
}

func workerExample(kind, addr string) string {
	return "  chainstore " + kind + " --data /var/lib/chainstore --http " + addr + ` \
    --masters http://127.0.0.1:8000,http://127.0.0.1:8001,http://127.0.0.1:8002 --cluster-token-file cluster.token`
}
