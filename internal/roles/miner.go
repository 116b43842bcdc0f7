package roles

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/chainstore/chainstore/httpapi/workerapi"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/minernode"
)

// OpenMiner opens the port and the folder of a miner.
func OpenMiner(cfg WorkerConfig) (*Worker, error) {
	if cfg.Threads < 1 {
		return nil, fmt.Errorf("--threads %d: a miner needs at least one", cfg.Threads)
	}
	return openWorker(cfg, "miner", func(w *Worker) (workerNode, error) {
		if err := durable.MkdirAll(cfg.Data); err != nil {
			return workerNode{}, err
		}
		lock, err := durable.LockDir(cfg.Data)
		if err != nil {
			return workerNode{}, err
		}
		node := minernode.New(minernode.Config{Threads: cfg.Threads, Logger: cfg.Logger})
		return workerNode{
			abort: node.Close, close: func() error { return errors.Join(node.Close(), lock.Close()) },
			handler: func() http.Handler {
				return workerapi.NewMiner(workerapi.MinerConfig{
					Node: node, URL: w.url, Fence: w.fence, ID: w.registrar.ID, Ready: w.registrar.Ready,
					Group:   w.registrar.Group,
					Threads: cfg.Threads, Certificates: w.certs, TLS: w.cfg.port(cfg.HTTP), ProbeTLS: w.probeTLS,
					Secrets: w.secrets, Process: w.process,
					Reported:    w.store.Report,
					Bearers:     w.takesBearers,
					MasterToken: w.identity.MasterToken, Fail: w.fail, Logger: cfg.Logger,
				})
			},
		}, nil
	})
}
