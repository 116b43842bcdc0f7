// Package raftceiling measures bare raft: three members in one process with the settings of package raftstore, their
// log in raft-boltdb, in raft-wal or in package logstore, raft's own TCP transport on loopback, and a state machine
// that only counts. No store built on this raft and that log can be faster.
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
	wal "github.com/hashicorp/raft-wal"
	"go.etcd.io/bbolt"

	"github.com/chainstore/chainstore/raftstore/logstore"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
)

const (
	members = 3
	warmUp  = time.Second
	// timeout is long enough for a loaded machine: a change of leader would end the run.
	timeout = time.Second
)

// LogStore is where the members keep their logs. Term and vote are in raft-boltdb.
type LogStore int

// The log is in raft-boltdb, in raft-wal alone, or in raft-wal with the checks of package logstore.
const (
	Database LogStore = iota
	WAL
	Segments
)

// Config describes a run.
type Config struct {
	Dir        string // the members keep their data in a folder below it, which is removed at the end
	Log        LogStore
	EntryBytes int           // of one record
	Batch      int           // records of an entry
	Clients    int           // goroutines that apply entries, one after the other
	Duration   time.Duration // of the run, which follows a warm-up of a second

	// Begin and End are called at the beginning and at the end of the run, without the warm-up. They may be nil.
	Begin, End func() error
}

func (c *Config) validate() error {
	if c.EntryBytes < 1 || c.Batch < 1 || c.Clients < 1 || c.Duration <= 0 {
		return fmt.Errorf("%d clients with batches of %d records of %d bytes for %v: nothing to measure",
			c.Clients, c.Batch, c.EntryBytes, c.Duration)
	}
	if c.Begin == nil {
		c.Begin = func() error { return nil }
	}
	if c.End == nil {
		c.End = func() error { return nil }
	}
	return nil
}

// Run applies entries on the leader, and returns how many records were applied within the run's time.
func Run(ctx context.Context, c Config) (applied uint64, err error) {
	if err := c.validate(); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp(c.Dir, "bare-raft-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	g := &group{log: c.Log}
	defer func() { err = errors.Join(err, g.close()) }()
	if err := g.open(dir); err != nil {
		return 0, err
	}
	leader, err := g.leader(ctx)
	if err != nil {
		return 0, err
	}
	if err := load(ctx, leader, c.EntryBytes*c.Batch, c.Clients, warmUp, nil); err != nil {
		return 0, err
	}
	if err := c.Begin(); err != nil {
		return 0, err
	}
	var entries atomic.Uint64
	if err := load(ctx, leader, c.EntryBytes*c.Batch, c.Clients, c.Duration, &entries); err != nil {
		return 0, err
	}
	return entries.Load() * uint64(c.Batch), c.End()
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
	log        LogStore
	rafts      []*raft.Raft
	stores     []func() error // close them
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
		stable, log, err := g.openStores(own)
		if err != nil {
			return err
		}
		cache, err := raft.NewLogCache(512, log)
		if err != nil {
			return err
		}
		snapshots, err := raft.NewFileSnapshotStoreWithLogger(own, 1, raftconfig.WarningsOnly(nil))
		if err != nil {
			return err
		}
		config := raftconfig.New(string(configuration.Servers[i].ID), timeout, nil)
		if err := raft.BootstrapCluster(config, cache, stable, snapshots, transport, configuration); err != nil {
			return err
		}
		r, err := raft.NewRaft(config, &counter{}, cache, stable, snapshots, transport)
		if err != nil {
			return err
		}
		g.rafts = append(g.rafts, r)
	}
	return nil
}

// openStores opens the stores of a member in its folder. They are closed by close.
func (g *group) openStores(own string) (raft.StableStore, raft.LogStore, error) {
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path:        filepath.Join(own, "raft.db"),
		BoltOptions: &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, NoStatistics: true},
	})
	if err != nil {
		return nil, nil, err
	}
	g.stores = append(g.stores, bolt.Close)
	path := filepath.Join(own, "log")
	switch g.log {
	case WAL:
		if err := os.Mkdir(path, 0o700); err != nil {
			return nil, nil, err
		}
		log, err := wal.Open(path, wal.WithLogger(raftconfig.WarningsOnly(nil)))
		if err != nil {
			return nil, nil, err
		}
		g.stores = append(g.stores, log.Close)
		return bolt, log, nil
	case Segments:
		if err := logstore.Create(path); err != nil {
			return nil, nil, err
		}
		log, err := logstore.Open(path, logstore.Options{Aside: filepath.Join(own, "damaged")})
		if err != nil {
			return nil, nil, err
		}
		g.stores = append(g.stores, func() error { return log.Close(true) })
		return bolt, log, nil
	}
	return bolt, bolt, nil
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
	for _, closeStore := range g.stores {
		err = errors.Join(err, closeStore())
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
