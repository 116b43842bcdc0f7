package roles

import (
	"context"
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/httpapi/workerapi"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/minernode"
)

// Miner is a miner that is open and not yet running.
type Miner struct {
	*base
	node    *minernode.Node
	lock    *durable.Lock
	threads int
}

// OpenMiner takes the port and the folder of a miner.
func OpenMiner(cfg WorkerConfig) (*Miner, error) {
	if cfg.Threads < 1 {
		return nil, fmt.Errorf("--threads %d: a miner needs at least one", cfg.Threads)
	}
	m := &Miner{threads: cfg.Threads}
	var err error
	m.base, err = openBase(cfg, kind{
		role: "miner",
		open: func() (err error) {
			if err := durable.MkdirAll(cfg.Data); err != nil {
				return err
			}
			m.lock, err = durable.LockDir(cfg.Data)
			return err
		},
		abort: func() error { return m.node.Close() },
	})
	if err != nil && m.lock != nil {
		err = errors.Join(err, m.lock.Close())
	}
	if err != nil {
		return nil, err
	}
	m.node = minernode.New(minernode.Config{Threads: cfg.Threads, Logger: cfg.Logger})
	return m, nil
}

// Run serves until ctx ends, and closes the node.
func (m *Miner) Run(ctx context.Context) error {
	h := workerapi.NewMiner(workerapi.MinerConfig{
		Node: m.node, Fence: m.fence, ID: m.registrar.ID, Ready: m.registrar.Ready, Threads: m.threads,
		MasterToken: m.identity.MasterToken, Fail: m.fail, Logger: m.log,
	})
	err := m.run(ctx, h, nil)
	return errors.Join(err, m.node.Close(), m.lock.Close())
}

// Close releases the port and the folder of a miner that was not run.
func (m *Miner) Close() error {
	return errors.Join(m.listener.Close(), m.node.Close(), m.lock.Close())
}
