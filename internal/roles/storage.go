package roles

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi/workerapi"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/wire"
)

// Storage is a storage node that is open and not yet running.
type Storage struct {
	*base
	node  *storagenode.Node
	quiet time.Duration // see workerapi.StorageConfig
}

// OpenStorage takes the port and the folder of a storage node.
func OpenStorage(cfg WorkerConfig) (*Storage, error) {
	s := &Storage{}
	var err error
	s.base, err = openBase(cfg, kind{
		role: "storage",
		open: func() (err error) {
			s.node, err = storagenode.Open(storagenode.Config{
				Dir: cfg.Data, SegmentBytes: cfg.SegmentBytes, Transfer: s.transfer, Logger: cfg.Logger,
			})
			return err
		},
		chain: func() (uint64, chain.Hash, bool) {
			status := s.node.Status()
			return status.Height, status.Hash, s.node.Unclean()
		},
		abort: func() error { return s.node.Abort() },
	})
	if err != nil && s.node != nil {
		err = errors.Join(err, s.node.Close())
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// transfer streams blocks to another storage node.
func (s *Storage) transfer(ctx context.Context, to, ticket string, write func(io.Writer) error) error {
	err := noderpc.NewWorkers(s.transport).Transfer(ctx, to, ticket, write)
	if errors.Is(err, wire.ErrBadBlock) {
		return fmt.Errorf("%w: %w", storagenode.ErrRefused, err)
	}
	return err
}

// Run serves until ctx ends or the disk fails, and closes the node.
func (s *Storage) Run(ctx context.Context) error {
	h := workerapi.NewStorage(workerapi.StorageConfig{
		Node: s.node, Fence: s.fence, ID: s.registrar.ID, Ready: s.registrar.Ready,
		Group: s.registrar.Group, MasterToken: s.identity.MasterToken, ClusterToken: s.cluster, Quiet: s.quiet,
		Answered: s.lastAnswer, Fail: s.fail, Logger: s.log,
	})
	return errors.Join(s.run(ctx, h, s.node.Failed()), s.node.Close())
}

// Close releases the port and the folder of a storage node that was not run.
func (s *Storage) Close() error { return errors.Join(s.listener.Close(), s.node.Close()) }
