// Package raftconfig has the measured settings of raft and its log store. The store uses them, and so does the bare
// raft of the benchmark, so that the two can be compared.
package raftconfig

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/chainstore/chainstore/internal/durable"
)

// Transport returns the settings of raft's transport.
func Transport(logger hclog.Logger) *raft.NetworkTransportConfig {
	return &raft.NetworkTransportConfig{
		MaxPool:         3,               // idle connections kept to each member
		MaxRPCsInFlight: 1,               // no pipelining: see hashicorp/raft#612
		Timeout:         5 * time.Second, // of one call; that of a snapshot is scaled by its size
		Logger:          WarningsOnly(logger),
	}
}

// New returns the configuration of a member. Heartbeat, election and lease have the same timeout.
func New(id string, timeout time.Duration, logger hclog.Logger) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(id)
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = timeout, timeout, timeout
	// A follower learns of a commit that no entry follows after once to twice this time.
	c.CommitTimeout = 100 * time.Millisecond
	c.MaxAppendEntries = 16
	c.ShutdownOnRemove = false
	c.NoLegacyTelemetry = true
	c.Logger = WarningsOnly(logger)
	// Raft takes no snapshot by itself.
	c.SnapshotInterval, c.SnapshotThreshold = 24*time.Hour, math.MaxUint64
	return c
}

// OpenLog opens the log store at a path, or creates it if the file is missing or empty. Every commit is synced; the
// list of free pages is not written but rebuilt on opening. The error of a damaged file wraps [durable.ErrDamaged].
func OpenLog(path string) (*raftboltdb.BoltStore, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && info.Size() == 0:
		err = createLog(path)
	case err == nil:
		err = CheckLog(path)
	}
	if err != nil {
		return nil, err
	}
	return raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: options(), NoSync: false})
}

// createLog creates a log store without content. It appears at its path when it is complete.
func createLog(path string) error {
	temp := path + ".new"
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	db, err := bbolt.Open(temp, 0o600, options())
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

func options() *bbolt.Options {
	return &bbolt.Options{
		Timeout:        time.Second,
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
		NoStatistics:   true,
		// Address space, not memory: remapping a growing file waits for all readers.
		InitialMmapSize: 256 << 20,
	}
}
