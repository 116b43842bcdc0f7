package main

import (
	"runtime"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/internal/roles"
	"github.com/chainstore/chainstore/storagenode"
)

// newStorageCommand runs one storage node.
func newStorageCommand() *cobra.Command {
	cmd, cfg := newWorkerCommand("storage", "127.0.0.1:8082", func(cfg roles.WorkerConfig) (runnable, error) {
		return roles.OpenStorage(cfg)
	})
	cmd.Short = "Run a storage node"
	cmd.Long = `Run a storage node: it keeps the whole chain in its data folder and proves what it serves.

It registers through any of the masters, also one that does not lead, and again whenever the leader changes.`
	cmd.Flags().Int64Var(&cfg.SegmentBytes, "segment-bytes", storagenode.DefaultSegmentBytes, "size at which a new file of blocks is begun")
	cmd.AddCommand(newStorageRemoveCommand())
	return cmd
}

// newMinerCommand runs one miner.
func newMinerCommand() *cobra.Command {
	cmd, cfg := newWorkerCommand("miner", "127.0.0.1:8079", func(cfg roles.WorkerConfig) (runnable, error) {
		return roles.OpenMiner(cfg)
	})
	cmd.Short = "Run a miner"
	cmd.Long = `Run a miner: it looks for the proof of work of one block at a time. Several miners share the nonces between them.`
	cmd.Flags().IntVar(&cfg.Threads, "threads", runtime.NumCPU(), "cores to use")
	return cmd
}

// newWorkerCommand is what the two kinds of worker have in common.
func newWorkerCommand(kind, addr string, open func(roles.WorkerConfig) (runnable, error)) (*cobra.Command, *roles.WorkerConfig) {
	var common roleFlags
	cfg := &roles.WorkerConfig{}
	cmd := &cobra.Command{
		Use: kind,
		Example: "  chainstore " + kind + " --data /var/lib/chainstore --http " + addr + ` \
    --masters http://127.0.0.1:8000,http://127.0.0.1:8001,http://127.0.0.1:8002 --cluster-token-file cluster.token`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var log hclog.Logger
			log, err := common.logger(kind)
			if err != nil {
				return err
			}
			cfg.Data, cfg.HTTP, cfg.Advertise, cfg.Insecure, cfg.Logger = common.data, common.http, common.advertise, common.insecure, log
			if cfg.ClusterToken, err = readSecret(common.clusterTokenFile, "CHAINSTORE_CLUSTER_TOKEN"); err != nil {
				return err
			}
			role, err := open(*cfg)
			if err != nil {
				return err
			}
			return runRole(cmd, log, role)
		},
	}
	common.add(cmd.Flags(), addr)
	cmd.Flags().StringSliceVar(&cfg.Masters, "masters", nil, "`URLs` of the masters; any of them will do to register")
	return cmd, cfg
}
