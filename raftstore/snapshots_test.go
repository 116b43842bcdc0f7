package raftstore

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
)

// Two snapshots of one entry that begin in the same millisecond get two folders: that of the leader, and this master's.
func TestSnapshotsOfOneMillisecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := newFailure()
		snaps, err := openSnapshots(t.TempDir(), nil, fail, newWatchdog(time.Second, fail), noLimit,
			raftconfig.WarningsOnly(hclog.NewNullLogger()))
		if err != nil {
			t.Fatal(err)
		}
		defer snaps.watchdog.close()
		_, trans := raft.NewInmemTransport("")
		var sinks []raft.SnapshotSink
		for range 2 {
			sink, err := snaps.Create(1, 7, 3, raft.Configuration{}, 1, trans)
			if err != nil {
				t.Fatal(err)
			}
			if err := (stateSnapshot{masterfsm.New().Snapshot()}).Persist(sink); err != nil {
				t.Fatal(err)
			}
			sinks = append(sinks, sink)
		}
		if err := errors.Join(sinks[1].Close(), sinks[0].Close(), fail.get()); err != nil {
			t.Error(err)
		}
		if list, err := snaps.List(); err != nil || len(list) != 2 {
			t.Errorf("%d snapshots, %v", len(list), err)
		}
	})
}
