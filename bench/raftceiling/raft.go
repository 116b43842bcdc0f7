// Package raftceiling measures bare raft: three members in one process with the settings of package raftstore,
// raft-boltdb, raft's own TCP transport on loopback, and a state machine that only counts. No store built on this raft
// can be faster.
package raftceiling

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/chainstore/chainstore/raftstore/raftconfig"
)

const (
	members = 3
	warmUp  = time.Second
	// timeout is long enough for a loaded machine: a change of leader would end the run.
	timeout = time.Second
)

// Run applies entries on the leader from that many clients for the time d, after a second to warm up, and returns how
// many records were applied in that time. An entry has batch records of entryBytes bytes each. The members keep their
// data in a folder below dir, which is removed at the end.
func Run(ctx context.Context, dir string, entryBytes, batch, clients int, d time.Duration) (applied uint64, err error) {
	if entryBytes < 1 || batch < 1 || clients < 1 || d <= 0 {
		return 0, fmt.Errorf("%d clients with batches of %d records of %d bytes for %v: nothing to measure",
			clients, batch, entryBytes, d)
	}
	dir, err = os.MkdirTemp(dir, "bare-raft-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	g := &group{}
	defer func() { err = errors.Join(err, g.close()) }()
	if err := g.open(dir); err != nil {
		return 0, err
	}
	leader, err := g.leader(ctx)
	if err != nil {
		return 0, err
	}
	if err := load(ctx, leader, entryBytes*batch, clients, warmUp, nil); err != nil {
		return 0, err
	}
	var entries atomic.Uint64
	if err := load(ctx, leader, entryBytes*batch, clients, d, &entries); err != nil {
		return 0, err
	}
	return entries.Load() * uint64(batch), nil
}

// load applies entries from clients goroutines for the time d, and counts those done in time.
func load(ctx context.Context, r *raft.Raft, size, clients int, d time.Duration, done *atomic.Uint64) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	failed := make(chan error, clients)
	var tasks sync.WaitGroup
	for range clients {
		tasks.Go(func() {
			for ctx.Err() == nil {
				entry := make([]byte, size) // raft keeps it
				rand.Read(entry[:min(32, size)])
				if err := r.Apply(entry, 0).Error(); err != nil {
					failed <- fmt.Errorf("apply: %w", err)
					return
				}
				if done != nil && ctx.Err() == nil {
					done.Add(1)
				}
			}
		})
	}
	tasks.Wait()
	select {
	case err := <-failed:
		return err
	default:
	}
	if err := context.Cause(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// group is the members of a bare raft group.
type group struct {
	rafts      []*raft.Raft
	stores     []*raftboltdb.BoltStore
	transports []*raft.NetworkTransport
}

func (g *group) open(dir string) error {
	var configuration raft.Configuration
	for i := range members {
		transport, err := raft.NewTCPTransportWithConfig("127.0.0.1:0", nil, raftconfig.Transport(nil))
		if err != nil {
			return err
		}
		g.transports = append(g.transports, transport)
		configuration.Servers = append(configuration.Servers, raft.Server{
			ID: raft.ServerID(fmt.Sprint("member", i)), Address: transport.LocalAddr(),
		})
	}
	for i, transport := range g.transports {
		own := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(own, 0o700); err != nil {
			return err
		}
		bolt, err := raftconfig.OpenLog(filepath.Join(own, "raft.db"))
		if err != nil {
			return err
		}
		g.stores = append(g.stores, bolt)
		cache, err := raft.NewLogCache(512, bolt)
		if err != nil {
			return err
		}
		snapshots, err := raft.NewFileSnapshotStoreWithLogger(own, 1, raftconfig.WarningsOnly(nil))
		if err != nil {
			return err
		}
		config := raftconfig.New(string(configuration.Servers[i].ID), timeout, nil)
		if err := raft.BootstrapCluster(config, cache, bolt, snapshots, transport, configuration); err != nil {
			return err
		}
		r, err := raft.NewRaft(config, &counter{}, cache, bolt, snapshots, transport)
		if err != nil {
			return err
		}
		g.rafts = append(g.rafts, r)
	}
	return nil
}

// leader waits for a leader.
func (g *group) leader(ctx context.Context) (*raft.Raft, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, r := range g.rafts {
			if r.State() == raft.Leader {
				return r, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("no leader: %w", context.Cause(ctx))
		}
	}
}

func (g *group) close() error {
	var err error
	var down []raft.Future
	for _, r := range g.rafts {
		down = append(down, r.Shutdown())
	}
	for _, transport := range g.transports {
		transport.CloseStreams()
		err = errors.Join(err, transport.Close())
	}
	for _, f := range down {
		err = errors.Join(err, f.Error())
	}
	for _, bolt := range g.stores {
		err = errors.Join(err, bolt.Close())
	}
	return err
}

// counter is a state machine that only counts.
type counter struct{ entries uint64 }

func (c *counter) ApplyBatch(logs []*raft.Log) []any {
	c.entries += uint64(len(logs))
	return make([]any, len(logs))
}

func (c *counter) Apply(*raft.Log) any {
	c.entries++
	return nil
}

func (c *counter) Snapshot() (raft.FSMSnapshot, error) {
	return nil, errors.New("no snapshots are taken of a counter")
}

func (c *counter) Restore(source io.ReadCloser) error { return source.Close() }
