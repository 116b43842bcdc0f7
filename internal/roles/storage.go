package roles

import (
	"net/http"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi/workerapi"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/storagenode"
)

// OpenStorage opens the port and the folder of a storage node.
func OpenStorage(cfg WorkerConfig) (*Worker, error) {
	return openWorker(cfg, "storage", func(w *Worker) (workerNode, error) {
		keys, err := loadAtRest(cfg.AtRestKeys)
		if err != nil {
			return workerNode{}, err
		}
		node, err := storagenode.Open(storagenode.Config{
			Dir: cfg.Data, AtRest: keys,
			SegmentBytes: cfg.SegmentBytes, Logger: cfg.Logger, Mark: w.syncs.mark, Room: w.space.Room,
			Transfer: noderpc.NewWorkers(w.toOthers, w.secrets).Transfer,
		})
		if err != nil {
			return workerNode{}, err
		}
		return workerNode{
			chain: func() (uint64, chain.Hash, bool) {
				status := node.Status()
				return status.Height, status.Hash, node.Unclean()
			},
			abort: node.Abort, failed: node.Failed(), close: node.Close,
			handler: func() http.Handler {
				return workerapi.NewStorage(workerapi.StorageConfig{
					Node: node, URL: w.url, Disk: w.space.Disk, Fence: w.fence, ID: w.registrar.ID,
					Ready: w.registrar.Ready, Group: w.registrar.Group, MasterToken: w.identity.MasterToken,
					Secrets: w.secrets, Reported: w.store.Report,
					Process: w.process, Bearers: w.takesBearers, Certificates: w.certs,
					TLS: w.cfg.port(cfg.HTTP), ProbeTLS: w.probeTLS,
					Quiet: w.quiet, Answered: w.lastAnswer, Fail: w.fail, Logger: cfg.Logger,
				})
			},
		}, nil
	})
}
